//! What a check found out, and how it is shown: as text, as JSON and as a page.

mod files;
mod html;
mod json;
mod text;
mod words;

#[cfg(test)]
mod tests;

use std::time::Duration;

use serde::Serialize;

use crate::plan::Plan;

/// What a check found out about one job on one database.
///
/// Its `Display` is for a terminal: about 110 columns, long values cut in the middle. [`Report::html`] shows the
/// same with more room, [`Report::json`] has everything, and [`Report::write`] puts both into a directory.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// The job's name.
    pub job: String,
    /// The job's key, readable.
    pub key: String,
    /// The test that made the check, as the test harness names it, if it is known.
    pub test: Option<String>,
    /// Which of the checks of this job and key that the test has made, from 1.
    pub check: usize,
    /// The database: `sqlite`, `postgres` or `mysql`.
    pub database: String,
    /// The plans, in the order in which they ran.
    pub plans: Vec<PlanReport>,
    /// What two clean runs left different, so that nothing else is compared with it.
    pub masked: Vec<Mask>,
    /// How often each observer saw an effect in a clean run.
    #[serde(serialize_with = "json::effects")]
    pub effects: Vec<(String, u64)>,
    /// The final error that a clean run ends with, if it does: what its body wrote in its transaction is undone then.
    pub refusal: Option<String>,
    /// How long everything took.
    #[serde(rename = "took_us", serialize_with = "json::micros")]
    pub took: Duration,
    /// The first thing that was wrong; nothing ran after it.
    pub failure: Option<Failure>,
}

/// How one plan went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PlanReport {
    /// The plan.
    pub plan: Plan,
    /// How many windows, or schedules, exist.
    pub windows: usize,
    /// How many of them were hit.
    pub hit: usize,
    /// How long the plan took.
    #[serde(rename = "took_us", serialize_with = "json::micros")]
    pub took: Duration,
    /// How far the plan goes, if it does not go through everything that could be tried.
    pub bound: Option<String>,
    /// Why the plan, or a part of it, does not apply to this job or database.
    pub skipped: Option<String>,
}

/// A column that is not compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Mask {
    /// The table.
    pub table: String,
    /// The column.
    pub column: String,
    /// A value of the first clean run and one of the second, or why the column is left out.
    pub because: String,
}

/// A schedule under which the job did not have its single effect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Failure {
    /// The plan that found it.
    pub plan: Plan,
    /// The shortest schedule that shows it, as [`Failure::replay`] takes it.
    pub schedule: String,
    /// What happened, in one sentence.
    pub what: String,
    /// What was left, against what a clean run leaves.
    pub differences: Vec<Difference>,
    /// What the workers did, in order.
    pub timeline: Vec<Moment>,
    /// The line that runs exactly this again.
    pub replay: String,
    /// The likely mistake, and what mends it.
    pub hint: Option<String>,
    /// Where the database was kept, to look at.
    pub kept: Option<String>,
}

/// One thing that a clean run leaves otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
#[non_exhaustive]
pub enum Difference {
    /// A row that a clean run leaves is missing.
    Missing {
        /// The table.
        table: String,
        /// The row, as `column = value` in the table's order; masked columns are left out.
        row: String,
    },
    /// A row is there that a clean run does not leave.
    Extra {
        /// The table.
        table: String,
        /// The row.
        row: String,
    },
    /// An effect elsewhere was seen another number of times.
    Effects {
        /// The observer.
        observer: String,
        /// How often in a clean run.
        expected: u64,
        /// How often here.
        found: u64,
    },
    /// Two runs of the key answered differently, or one did not answer.
    Answer {
        /// What the first answer was.
        expected: String,
        /// What came.
        found: String,
    },
    /// One of idem's own laws is broken.
    Law {
        /// The law, as a sentence.
        law: String,
        /// What was found.
        found: String,
    },
}

/// One moment of a timeline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Moment {
    /// The time since the schedule began.
    #[serde(rename = "at_us", serialize_with = "json::micros")]
    pub at: Duration,
    /// The worker: `A` for the first, then `B` and so on; `-` for the testkit itself.
    pub worker: char,
    /// What it did, such as `begin: locks the key and reads its record`.
    pub what: String,
}
