//! The report for programs.

use std::time::Duration;

use serde::{Serialize, Serializer};

use super::Report;

impl Report {
    /// Returns the whole report as JSON; nothing is cut and nothing left out.
    ///
    /// An object with these fields; times are whole microseconds and end in `_us`:
    ///
    /// - `format`: `1`; another number once a field is renamed, removed or means something else. Fields may be added.
    /// - `verdict`: `passed`, `failed`, or `nothing_tested` if no window was hit.
    /// - `job`, `key`, `database`: strings; `test`: a string or null; `check`: which one of the same four it is, from 1.
    /// - `plans`: `plan` (its name), `windows`, `hit`, `took_us`, `bound` and `skipped` (a string or null) of each.
    /// - `masked`: `table`, `column`, `because` of each column that is not compared.
    /// - `effects`: `observer` and `times` of each observer, in a clean run.
    /// - `refusal`: null, or the final error that a clean run ends with.
    /// - `took_us`: how long everything took.
    /// - `failure`: null, or `plan`, `schedule`, `what`, `differences`, `timeline`, `replay`, and `hint` and `kept`
    ///   (strings or null).
    ///   - In `differences`, `kind` is `missing` or `extra` (with `table`, `row`), `effects` (`observer`, `expected`,
    ///     `found`), `answer` (`expected`, `found`) or `law` (`law`, `found`).
    ///   - In `timeline`, each moment has `at_us`, `worker` (one letter, or `-` for the testkit) and `what`.
    pub fn json(&self) -> String {
        let document = Document { format: 1, verdict: self.verdict().name(), report: self };
        serde_json::to_string_pretty(&document).expect("strings, numbers and lists always have a JSON form")
    }
}

/// A report with what only its JSON says.
#[derive(Serialize)]
struct Document<'a> {
    format: u32,
    verdict: &'static str,
    #[serde(flatten)]
    report: &'a Report,
}

pub(super) fn micros<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_u64(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX))
}

pub(super) fn effects<S: Serializer>(effects: &[(String, u64)], to: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Effect<'a> {
        observer: &'a str,
        times: u64,
    }
    to.collect_seq(effects.iter().map(|(observer, times)| Effect { observer, times: *times }))
}
