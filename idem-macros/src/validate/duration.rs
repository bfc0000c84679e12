//! Durations: numbers with units, such as `"10s"` and `"1h30m"`.

use std::time::Duration;

use proc_macro2::Ident;
use syn::punctuated::Punctuated;
use syn::{Expr, Token};

use super::value;
use crate::codes::Code;
use crate::errors::Errors;
use crate::suggest;

/// The units, from large to small, in milliseconds.
const UNITS: &[(&str, u64)] = &[
    ("w", 7 * 24 * 60 * 60 * 1_000),
    ("d", 24 * 60 * 60 * 1_000),
    ("h", 60 * 60 * 1_000),
    ("m", 60 * 1_000),
    ("s", 1_000),
    ("ms", 1),
];

/// Other ways to write a unit.
const LONG_UNITS: &[(&str, &str)] = &[
    ("week", "w"),
    ("weeks", "w"),
    ("day", "d"),
    ("days", "d"),
    ("hour", "h"),
    ("hours", "h"),
    ("hr", "h"),
    ("hrs", "h"),
    ("min", "m"),
    ("mins", "m"),
    ("minute", "m"),
    ("minutes", "m"),
    ("sec", "s"),
    ("secs", "s"),
    ("second", "s"),
    ("seconds", "s"),
    ("milli", "ms"),
    ("millis", "ms"),
    ("msec", "ms"),
];

/// Databases add a duration to a date, and their dates end.
const YEARS_MAX: u64 = 100;

/// Reads the one duration of `word("10s")`, or reports what stands there instead.
pub(crate) fn only_duration(
    expr: &Expr,
    word: &Ident,
    args: Option<&Punctuated<Expr, Token![,]>>,
    example: &str,
    errors: &mut Errors,
) -> Option<Duration> {
    match args.map(|args| (args.first(), args.len())) {
        Some((Some(limit), 1)) => return duration(&format!("`{word}`"), example, limit, errors),
        Some(_) => errors.push(
            expr,
            Code::TakesOneDuration,
            format_args!("`{word}` takes one duration; write `{example}`"),
        ),
        None => errors.push(
            word,
            Code::TakesOneDuration,
            format_args!("`{word}` must say how long; write `{example}`"),
        ),
    }
    None
}

/// Reads the duration that `subject` takes, or reports why it is none.
pub(crate) fn duration(subject: &str, example: &str, expr: &Expr, errors: &mut Errors) -> Option<Duration> {
    let Some(text) = value::string(expr) else {
        errors.push(
            expr,
            Code::InvalidDuration,
            format_args!("{subject} must be a duration in quotes; write `{example}`"),
        );
        return None;
    };
    match parse(&text.value()) {
        Ok(duration) => Some(duration),
        Err((code, fault)) => {
            errors.push(text, code, format_args!("{subject} {fault}"));
            None
        }
    }
}

/// Returns the duration, or what is wrong with the text.
fn parse(text: &str) -> Result<Duration, (Code, String)> {
    const FORM: &str = "write a number and a unit, such as `\"30s\"` or `\"1h30m\"`";
    if text.trim().is_empty() {
        return Err((Code::InvalidDuration, format!("must not be empty; {FORM}")));
    }
    let mut total: u64 = 0;
    let mut last_unit = u64::MAX;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (number, behind) = rest.split_at(digits);
        let letters = behind.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(letters);
        if number.is_empty() || (unit.is_empty() && !behind.is_empty()) {
            return Err((Code::InvalidDuration, format!("cannot be {text:?}; {FORM}")));
        }
        if unit.is_empty() {
            let message =
                format!("must have a unit; write `\"{text}s\"` for seconds, or `ms`, `m`, `h`, `d`, `w`");
            return Err((Code::DurationUnit, message));
        }
        let millis = millis_of(unit)?;
        if millis >= last_unit {
            let message = format!("must go from large units to small ones, each once; {FORM}");
            return Err((Code::InvalidDuration, message));
        }
        last_unit = millis;
        total = number
            .parse::<u64>()
            .ok()
            .and_then(|number| number.checked_mul(millis))
            .and_then(|millis| total.checked_add(millis))
            .filter(|total| *total <= YEARS_MAX * 365 * 24 * 60 * 60 * 1_000)
            .ok_or_else(|| {
                let message = format!(
                    "must not be longer than {YEARS_MAX} years; write a shorter one, such as `\"30d\"`"
                );
                (Code::DurationTooLong, message)
            })?;
        rest = behind;
    }
    if total == 0 {
        return Err((Code::ZeroDuration, format!("must be longer than zero; {FORM}")));
    }
    Ok(Duration::from_millis(total))
}

fn millis_of(unit: &str) -> Result<u64, (Code, String)> {
    let find = |unit: &str| UNITS.iter().find(|(name, _)| *name == unit).map(|(_, millis)| *millis);
    if let Some(millis) = find(unit) {
        return Ok(millis);
    }
    let lower = unit.to_lowercase();
    let meant = LONG_UNITS.iter().find(|(long, _)| *long == lower).map(|(_, short)| *short);
    let meant = meant.or_else(|| find(&lower).map(|_| lower.as_str()));
    let names: Vec<&str> = UNITS.iter().rev().map(|(name, _)| *name).collect();
    let message = match meant {
        Some(meant) => format!("cannot have the unit `{unit}`; write `{meant}`"),
        None => format!("cannot have the unit `{unit}`{}", suggest::instead_of("", &names)),
    };
    Err((Code::DurationUnit, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_units_add_up() {
        assert_eq!(parse("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse("1h30m"), Ok(Duration::from_secs(5_400)));
        assert_eq!(parse("1w2d3h4m5s6ms"), Ok(Duration::from_millis(788_645_006)));
        assert_eq!(parse("36500d"), Ok(Duration::from_secs(36_500 * 86_400)));
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "", " ", "0s", "0h0m", "10", "s", "-5s", "1.5h", "1h 30m", "1m1h", "1s1s", "10S", "5 s",
            "36501d", "10x",
        ] {
            assert!(parse(text).is_err(), "{text:?} passed");
        }
        assert!(parse("99999999999999999999s").is_err());
        assert!(parse("18446744073709551615w").is_err());
    }

    #[test]
    fn a_long_unit_names_the_short_one() {
        assert_eq!(
            parse("10sec"),
            Err((Code::DurationUnit, String::from("cannot have the unit `sec`; write `s`")))
        );
        assert_eq!(
            parse("7D"),
            Err((Code::DurationUnit, String::from("cannot have the unit `D`; write `d`")))
        );
    }
}
