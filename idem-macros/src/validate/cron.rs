//! Cron texts: minute, hour, day of the month, month, day of the week.

use crate::codes::Code;
use crate::suggest;

const FORM: &str = "write minute, hour, day of the month, month and day of the week, such as `\"0 3 * * *\"`";

/// Other cron programs have these for whole texts.
const ALIASES: &[(&str, &str)] = &[
    ("@hourly", "0 * * * *"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@weekly", "0 0 * * 0"),
    ("@monthly", "0 0 1 * *"),
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
];

/// One of the five, and what it accepts.
struct Field {
    name: &'static str,
    accepts: &'static str,
    first: u8,
    /// The last value of `*`.
    last: u8,
    /// The largest number, which is more than `last` where 0 has a second one.
    max: u8,
    /// Words for the values from `first` on.
    words: &'static [&'static str],
}

const MINUTE: Field = Field { name: "minute", accepts: "0 to 59", first: 0, last: 59, max: 59, words: &[] };
const HOUR: Field = Field { name: "hour", accepts: "0 to 23", first: 0, last: 23, max: 23, words: &[] };
const DAY: Field =
    Field { name: "day of the month", accepts: "1 to 31", first: 1, last: 31, max: 31, words: &[] };
const MONTH: Field = Field {
    name: "month",
    accepts: "1 to 12, or JAN to DEC",
    first: 1,
    last: 12,
    max: 12,
    words: &["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"],
};
const WEEKDAY: Field = Field {
    name: "day of the week",
    accepts: "0 to 7, where 0 and 7 are Sunday, or SUN to SAT",
    first: 0,
    last: 6,
    max: 7,
    words: &["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"],
};

/// How many days the months can have.
const DAYS: [u8; 12] = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

/// What is wrong with a cron text.
type Fault = (Code, String);

/// Tells what is wrong with a cron text.
pub(crate) fn fault(text: &str) -> Option<Fault> {
    check(text).err()
}

fn check(text: &str) -> Result<(), Fault> {
    let fields: Vec<&str> = text.split_ascii_whitespace().collect();
    let &[minute, hour, day, month, weekday] = fields.as_slice() else {
        return Err(match fields.as_slice() {
            [] => (Code::CronFields, format!("must not be empty; {FORM}")),
            [alias, ..] if alias.starts_with('@') => {
                let known = ALIASES.iter().find(|(name, _)| alias.eq_ignore_ascii_case(name));
                let instead =
                    known.map_or_else(|| String::from(FORM), |(_, cron)| format!("write `\"{cron}\"`"));
                (Code::CronAlias, format!("cannot be `{alias}`; {instead}"))
            }
            [_, _, _, _, _, _] => {
                (Code::CronFields, format!("cannot have six fields: seconds are not supported; {FORM}"))
            }
            fields => (Code::CronFields, format!("must have five fields, not {}; {FORM}", fields.len())),
        });
    };
    MINUTE.values(minute)?;
    HOUR.values(hour)?;
    let (days, months) = (DAY.values(day)?, MONTH.values(month)?);
    WEEKDAY.values(weekday)?;
    let comes = |month: &u8| days.iter().any(|day| *day <= DAYS[usize::from(month - 1)]);
    // A day of the week that is given as well is one more way in which a day can match.
    if weekday == "*" && !months.iter().any(comes) {
        let message = format!(
            "cannot have the day of the month `{day}` in the month `{month}`: that date never comes; write a day that \
             the month has"
        );
        return Err((Code::CronNeverComes, message));
    }
    Ok(())
}

impl Field {
    /// Returns the values that a field names: `*`, or a list of values, ranges and steps.
    fn values(&self, field: &str) -> Result<Vec<u8>, Fault> {
        let mut values = Vec::new();
        for item in field.split(',') {
            if item.is_empty() {
                return Err(self.cannot_have(field));
            }
            values.extend(self.item(item)?);
        }
        Ok(values)
    }

    fn item(&self, item: &str) -> Result<Vec<u8>, Fault> {
        let Field { name, first, last, .. } = self;
        let (range, step) = match item.split_once('/') {
            Some((range, step)) => (range, Some(step)),
            None => (item, None),
        };
        let (from, to) = if range == "*" {
            (*first, *last)
        } else if let Some((from_text, to_text)) = range.split_once('-') {
            let (from, to) = (self.value(from_text, item)?, self.end(to_text, item)?);
            if from > to {
                let (last, first) = self.ends_like(from_text);
                let message = format!(
                    "cannot have the {name} `{range}`, which runs backwards; \
                     write `{from_text}-{last},{first}-{to_text}`"
                );
                return Err((Code::CronRange, message));
            }
            (from, to)
        } else {
            let value = self.value(range, item)?;
            if let Some(step) = step {
                let instead = if value == *first { String::from("*") } else { format!("{range}-{last}") };
                let message = format!(
                    "cannot have the {name} `{item}`: a step needs a range; write `{instead}/{step}`"
                );
                return Err((Code::CronStep, message));
            }
            (value, value)
        };
        let step = match step {
            Some(step) => self.step(step, item, (to - from).max(1))?,
            None => 1,
        };
        Ok((from..=to).step_by(step).collect())
    }

    /// Reads a number or a word; `item` is where it stands.
    fn value(&self, text: &str, item: &str) -> Result<u8, Fault> {
        let Field { name, accepts, first, max, words, .. } = self;
        if !text.is_empty() && text.chars().all(|c| c.is_ascii_digit()) {
            return text
                .parse()
                .ok()
                .filter(|value| (*first..=*max).contains(value))
                .ok_or_else(|| self.cannot_have(text));
        }
        let upper = text.to_ascii_uppercase();
        if let Some(value) = (*first..).zip(*words).find(|(_, word)| **word == upper).map(|(value, _)| value)
        {
            return Ok(value);
        }
        let meant = words.iter().find(|word| upper.starts_with(**word)).copied();
        match meant.or_else(|| suggest::closest(&upper, words)) {
            Some(word) => Err((Code::CronValue, format!("cannot have the {name} `{text}`; write `{word}`"))),
            None if text == "?" => {
                Err((Code::CronValue, format!("cannot have the {name} `?`; write `*`, or {accepts}")))
            }
            None => Err(self.cannot_have(if text.is_empty() { item } else { text })),
        }
    }

    /// Reads the end of a range, where a word for 0 is the number that 0 has at the end.
    fn end(&self, text: &str, item: &str) -> Result<u8, Fault> {
        let value = self.value(text, item)?;
        let is_word = !text.starts_with(|c: char| c.is_ascii_digit());
        Ok(if is_word && value == 0 { self.max } else { value })
    }

    /// Returns the last and the first value, as words if `like` is one.
    fn ends_like(&self, like: &str) -> (String, String) {
        match self.words {
            [first, .., last] if !like.starts_with(|c: char| c.is_ascii_digit()) => {
                (String::from(*last), String::from(*first))
            }
            _ => (self.last.to_string(), self.first.to_string()),
        }
    }

    fn step(&self, step: &str, item: &str, max: u8) -> Result<usize, Fault> {
        let digits = !step.is_empty() && step.chars().all(|c| c.is_ascii_digit());
        let value: Option<u8> = step.parse().ok().filter(|step| digits && (1..=max).contains(step));
        value.map(usize::from).ok_or_else(|| {
            let message = format!("cannot have the {} `{item}`; write a step of 1 to {max} there", self.name);
            (Code::CronStep, message)
        })
    }

    fn cannot_have(&self, text: &str) -> Fault {
        (Code::CronValue, format!("cannot have the {} `{text}`; write {}", self.name, self.accepts))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_fields_of_values_ranges_and_steps_are_accepted() {
        for text in [
            "* * * * *",
            "0 3 * * *",
            "59 23 31 12 7",
            "00 03 01 01 00",
            "0,30 8-18 * * 1-5",
            "*/15 * * * *",
            "*/59 */23 */30 */11 */6",
            "5-59/20,0 0-23/2 1-31/30 1-12/11 0-7/7",
            "10-10/1 * * * *",
            "0 0 * JAN,jul Sun",
            "0 0 * jan-Dec mon-FRI",
            "0 0 * NOV-12 5-SUN",
            "0 0 * * SAT-SUN",
            "0 0 * * SUN-SAT",
            "0 0 * * SUN-SUN",
            "0 0 * * 0,7",
            "  0\t3  *\n* * ",
            "0 0 29 2 *",
            "0 0 31 4,5 *",
            "0 0 30 * *",
            "0 0 1,31 2 *",
            // Each Monday of February as well.
            "0 0 30 2 MON",
        ] {
            assert_eq!(fault(text), None, "{text:?}");
        }
    }

    #[test]
    fn anything_else_is_refused_and_the_field_is_named() {
        for (text, told) in [
            ("", "must not be empty"),
            (" \t", "must not be empty"),
            ("@daily", "cannot be `@daily`; write `\"0 0 * * *\"`"),
            ("@Weekly", "cannot be `@Weekly`; write `\"0 0 * * 0\"`"),
            ("@reboot", "cannot be `@reboot`; write minute, hour"),
            ("@every 5m", "cannot be `@every`; write minute, hour"),
            ("* * * *", "must have five fields, not 4"),
            ("0 3", "must have five fields, not 2"),
            ("0 0 3 * * *", "cannot have six fields: seconds are not supported"),
            ("0 0 3 * * * 2030", "must have five fields, not 7"),
            ("60 * * * *", "cannot have the minute `60`; write 0 to 59"),
            ("* 24 * * *", "cannot have the hour `24`; write 0 to 23"),
            ("* * 0 * *", "cannot have the day of the month `0`; write 1 to 31"),
            ("* * 32 * *", "cannot have the day of the month `32`; write 1 to 31"),
            ("* * * 0 *", "cannot have the month `0`; write 1 to 12, or JAN to DEC"),
            ("* * * 13 *", "cannot have the month `13`; write 1 to 12, or JAN to DEC"),
            ("* * * * 8", "cannot have the day of the week `8`; write 0 to 7"),
            ("999999 * * * *", "cannot have the minute `999999`"),
            ("+5 * * * *", "cannot have the minute `+5`"),
            ("-5 * * * *", "cannot have the minute `-5`"),
            ("5- * * * *", "cannot have the minute `5-`"),
            ("1-2-3 * * * *", "cannot have the minute `2-3`"),
            ("1,,2 * * * *", "cannot have the minute `1,,2`"),
            (", * * * *", "cannot have the minute `,`"),
            ("1. * * * *", "cannot have the minute `1.`"),
            ("** * * * *", "cannot have the minute `**`"),
            ("*-5 * * * *", "cannot have the minute `*`"),
            ("٣ * * * *", "cannot have the minute `٣`"),
            ("MON * * * *", "cannot have the minute `MON`"),
            ("* * MON * *", "cannot have the day of the month `MON`"),
            ("* * L * *", "cannot have the day of the month `L`; write 1 to 31"),
            ("* * 15W * *", "cannot have the day of the month `15W`"),
            ("* * ? * *", "cannot have the day of the month `?`; write `*`"),
            ("* * * * 5#2", "cannot have the day of the week `5#2`"),
            ("* * * * 5L", "cannot have the day of the week `5L`"),
            ("* * * MON *", "cannot have the month `MON`"),
            ("* * * SEPT *", "cannot have the month `SEPT`; write `SEP`"),
            ("* * * january *", "cannot have the month `january`; write `JAN`"),
            ("* * * * Mo", "cannot have the day of the week `Mo`; write `MON`"),
            ("* * * * MONDAY", "cannot have the day of the week `MONDAY`; write `MON`"),
            ("* 22-6 * * *", "cannot have the hour `22-6`, which runs backwards; write `22-23,0-6`"),
            ("* * 20-10 * *", "runs backwards; write `20-31,1-10`"),
            ("* * * NOV-FEB *", "runs backwards; write `NOV-DEC,JAN-FEB`"),
            ("* * * * FRI-MON", "runs backwards; write `FRI-SAT,SUN-MON`"),
            ("* * * * 5-0", "runs backwards; write `5-6,0-0`"),
            ("*/0 * * * *", "cannot have the minute `*/0`; write a step of 1 to 59 there"),
            ("*/60 * * * *", "cannot have the minute `*/60`; write a step of 1 to 59 there"),
            ("* */24 * * *", "cannot have the hour `*/24`; write a step of 1 to 23 there"),
            ("* 8-18/11 * * *", "cannot have the hour `8-18/11`; write a step of 1 to 10 there"),
            ("*/ * * * *", "cannot have the minute `*/`"),
            ("*/+5 * * * *", "cannot have the minute `*/+5`"),
            ("*/5/5 * * * *", "cannot have the minute `*/5/5`"),
            ("*/999 * * * *", "cannot have the minute `*/999`"),
            ("/5 * * * *", "cannot have the minute `/5`"),
            ("5/15 * * * *", "cannot have the minute `5/15`: a step needs a range; write `5-59/15`"),
            ("0/15 * * * *", "a step needs a range; write `*/15`"),
            ("0 0 30 2 *", "cannot have the day of the month `30` in the month `2`: that date never comes"),
            ("0 0 31 4 *", "that date never comes"),
            ("0 0 30-31 FEB *", "that date never comes"),
            ("0 0 31 4,6,SEP,11 *", "that date never comes"),
        ] {
            let (_, fault) = fault(text).unwrap_or_else(|| panic!("{text:?} passed"));
            assert!(fault.contains(told), "{text:?} {fault}");
        }
    }

    /// What a message says to write must be right itself.
    #[test]
    fn what_a_message_suggests_is_accepted() {
        for (_, cron) in ALIASES {
            assert_eq!(fault(cron), None, "{cron}");
        }
        for suggested in [
            "* 22-23,0-6 * * *",
            "* * 20-31,1-10 * *",
            "* * * NOV-DEC,JAN-FEB *",
            "* * * * FRI-SAT,SUN-MON",
            "* * * * 5-6,0-0",
            "5-59/15 * * * *",
        ] {
            assert_eq!(fault(suggested), None, "{suggested}");
        }
    }
}
