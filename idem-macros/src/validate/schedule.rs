//! `schedule`: when the clock starts the job, and what such a job must be like.

use proc_macro2::Ident;
use syn::{Expr, Type};

use super::options::{GivenParts, Options, Parts};
use super::params::Params;
use super::{cron, scan, value};
use crate::codes::Code;
use crate::errors::Errors;
use crate::model::{BrokenParam, Missed, Schedule};
use crate::suggest;

const FORM: &str = "write `schedule = \"0 3 * * *\"`";
const ZONE_FORM: &str = "write `time_zone = \"Europe/Berlin\"`";
const PARTS: &[&str] = &["time_zone", "missed"];

/// Returns when the clock starts the job, if that was said without a mistake.
pub(crate) fn schedule(
    options: &Options,
    function: &Ident,
    params: &Params,
    errors: &mut Errors,
) -> Option<Schedule> {
    let given = options.schedule.as_ref()?;
    check_argument(function, params, errors);
    check_key(options, params, errors);
    check_retain(options, errors);
    read(given, errors)
}

/// Checks that the one argument is the tick, as far as can be seen; its type the trait `FromTick` checks.
fn check_argument(function: &Ident, params: &Params, errors: &mut Errors) {
    if params.args.is_empty() {
        let message = format!(
            "`{function}` must take the moment that the clock starts it for; write `tick: Tick` and `key = tick`"
        );
        errors.push(function, Code::ScheduleWithoutTick, message);
    }
    let tick = params.args.iter().position(is_tick).unwrap_or(0);
    for (at, BrokenParam { ident, .. }) in params.args.iter().enumerate() {
        if at != tick {
            let message = format!(
                "the clock has nothing for `{ident}`: a scheduled job takes its tick and no other argument; \
                 load `{ident}` in the body, or take it as `#[state]`"
            );
            errors.push(ident, Code::ScheduleWithArgument, message);
        }
    }
}

fn is_tick(arg: &BrokenParam) -> bool {
    match arg.ty.as_ref().map(scan::peel) {
        Some(Type::Path(path)) => path.path.segments.last().is_some_and(|last| last.ident == "Tick"),
        _ => false,
    }
}

fn check_key(options: &Options, params: &Params, errors: &mut Errors) {
    let (Some(key), Some(arg)) = (&options.key, params.args.first()) else { return };
    if value::word(&key.expr).is_some_and(|word| word == "global") {
        let message = format!(
            "`global` cannot be the key of a scheduled job: only its first tick would ever run; write `key = {}`",
            arg.ident
        );
        errors.push(&key.expr, Code::ScheduleOfOneKey, message);
    }
}

fn check_retain(options: &Options, errors: &mut Errors) {
    if let Some(retain) = &options.retain
        && options.keeps_no_record()
    {
        let message = "`retain = none` cannot stand with `schedule`: a tick that is forgotten could be started \
                       again; remove it, or write a duration";
        errors.push(&retain.name, Code::ScheduleWithoutRecord, message);
    }
}

fn read(given: &GivenParts, errors: &mut Errors) -> Option<Schedule> {
    let (first, parts) = match &given.value {
        Parts::Whole(expr) => (expr, [].as_slice()),
        Parts::Each(parts) => parts.split_first()?,
    };
    let cron = cron_text(first, errors);
    let (mut time_zone, mut missed) = (None, None);
    for part in parts {
        let Some((word, expr)) = value::part(part) else {
            let message = "behind the cron text stand `time_zone` and `missed`; \
                           write `schedule(\"0 3 * * *\", time_zone = \"Europe/Berlin\", missed = all)`";
            errors.push(part, Code::UnnamedPart, message);
            continue;
        };
        let twice = match word.to_string().as_str() {
            "time_zone" => time_zone.replace(read_time_zone(expr, errors)).is_some(),
            "missed" => missed.replace(read_missed(expr, errors)).is_some(),
            other => {
                let instead = suggest::instead_of(other, PARTS);
                errors.push(
                    word,
                    Code::UnknownPart,
                    format_args!("`schedule` has no part `{word}`{instead}"),
                );
                continue;
            }
        };
        if twice {
            errors.push(word, Code::GivenTwice, format_args!("`{word}` is given twice; remove one of them"));
        }
    }
    Some(Schedule {
        cron: cron?,
        time_zone: time_zone.unwrap_or_else(|| Some(String::from("UTC")))?,
        missed: missed.unwrap_or(Some(Missed::Latest))?,
    })
}

fn cron_text(expr: &Expr, errors: &mut Errors) -> Option<String> {
    let Some(text) = value::string(expr) else {
        errors.push(expr, Code::NotAString, format_args!("`schedule` must be a cron text in quotes; {FORM}"));
        return None;
    };
    if let Some((code, fault)) = cron::fault(&text.value()) {
        errors.push(text, code, format_args!("`schedule` {fault}"));
        return None;
    }
    Some(text.value())
}

fn read_time_zone(expr: &Expr, errors: &mut Errors) -> Option<String> {
    let Some(text) = value::string(expr) else {
        errors.push(
            expr,
            Code::NotAString,
            format_args!("`time_zone` must be a name in quotes; {ZONE_FORM}"),
        );
        return None;
    };
    let name = text.value();
    if !may_be_time_zone(&name) {
        errors.push(
            text,
            Code::TimeZone,
            format_args!("`time_zone` must be a name of the IANA database, not {name:?}; {ZONE_FORM}"),
        );
        return None;
    }
    Some(name)
}

/// Tells whether a name has the form of those in the IANA database; whether it is there shows when the job is scheduled.
fn may_be_time_zone(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_+-".contains(c);
    name.split('/').all(|part| part.starts_with(|c: char| c.is_ascii_alphabetic()) && part.chars().all(plain))
}

fn read_missed(expr: &Expr, errors: &mut Errors) -> Option<Missed> {
    let Some(word) = value::word(expr) else {
        errors.push(expr, Code::UnknownValue, "`missed` must be `latest` or `all`");
        return None;
    };
    match word.to_string().as_str() {
        "latest" => Some(Missed::Latest),
        "all" => Some(Missed::All),
        other => {
            let instead = suggest::instead_of(other, &["latest", "all"]);
            errors.push(word, Code::UnknownValue, format_args!("`missed` cannot be `{word}`{instead}"));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_zone_has_the_form_of_a_name() {
        for name in
            ["UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires", "Etc/GMT+5", "Etc/GMT-14", "EST5EDT"]
        {
            assert!(may_be_time_zone(name), "{name:?} was refused");
        }
        for name in [
            "",
            " ",
            "+02:00",
            "Europe/",
            "/Berlin",
            "Europe//Berlin",
            "Europe/Berlin ",
            "Berlin, DE",
            "Zürich",
            "5",
        ] {
            assert!(!may_be_time_zone(name), "{name:?} passed");
        }
    }
}
