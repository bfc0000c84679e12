//! The final table.

use std::fmt;
use std::time::Duration;

use idem_examples::cli::{number, plural};
use idem_examples::fleet::Counted;
use serde_json::{Value, json};

use crate::fleet::Killed;

/// What was done, what came of it, and whether that is right.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) database: &'static str,
    pub(crate) keys: u64,
    pub(crate) workers: u32,
    /// Changes that the clients were told are accepted.
    pub(crate) accepted: u64,
    /// Those of them that are not in the database.
    pub(crate) missing: u64,
    pub(crate) runs: u64,
    pub(crate) killed: Killed,
    /// The database before the first push, and after the last run.
    pub(crate) before: Counted,
    pub(crate) after: Counted,
    pub(crate) took: Duration,
}

impl Report {
    /// Tells whether nothing is lost or doubled and every task had its effect.
    pub(crate) fn is_right(&self) -> bool {
        self.wrong().is_empty()
    }

    /// Accepted changes that are gone, or that no effect has seen.
    fn lost(&self) -> u64 {
        self.missing + self.after.lost
    }

    fn changes(&self) -> u64 {
        self.after.changes - self.before.changes
    }

    fn coalesced(&self) -> u64 {
        self.after.coalesced - self.before.coalesced
    }

    fn effects(&self) -> u64 {
        self.after.effects - self.before.effects
    }

    /// Changes with a task of their own.
    fn tasks(&self) -> u64 {
        self.changes() - self.coalesced()
    }

    /// Says what is not as it must be.
    fn wrong(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut must = |holds: bool, otherwise: String| {
            if !holds {
                wrong.push(otherwise);
            }
        };
        must(self.lost() == 0, format!("{} lost", plural(self.lost(), "change")));
        must(self.after.doubled == 0, format!("{} doubled", plural(self.after.doubled, "effect")));
        must(
            self.effects() == self.tasks(),
            format!("{} of {}", plural(self.effects(), "effect"), plural(self.tasks(), "task")),
        );
        // A change whose answer was lost is there, and was not accepted.
        must(
            self.changes() >= self.accepted,
            format!("{} of {} accepted", plural(self.changes(), "change"), number(self.accepted)),
        );
        must(self.after.given_up == 0, format!("{} given up", plural(self.after.given_up, "task")));
        wrong
    }

    /// Returns the table as JSON.
    pub(crate) fn json(&self) -> Value {
        json!({
            "database": self.database,
            "workers": self.workers,
            "keys": self.keys,
            "pushed": self.accepted,
            "coalesced": self.coalesced(),
            "tasks": self.tasks(),
            "runs": self.runs,
            "effects": self.effects(),
            "kills": self.killed.all(),
            "killed_in_the_job": self.killed.in_the_job,
            "killed_before_the_answer": self.killed.before_the_answer,
            "killed_elsewhere": self.killed.elsewhere,
            "lost": self.lost(),
            "doubled": self.after.doubled,
            "seconds": self.took.as_secs_f64(),
            "wrong": self.wrong(),
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Killed { in_the_job, before_the_answer, elsewhere } = self.killed;
        let mut places =
            format!("{in_the_job} inside the job, {before_the_answer} between commit and answer");
        if elsewhere > 0 {
            places += &format!(", {elsewhere} elsewhere");
        }
        let pushed = format!(
            "changes of {} on {}, in {:.1} s",
            plural(self.keys, "user"),
            self.database,
            self.took.as_secs_f64()
        );
        let runs = format!("of the job's body, by {}", plural(self.workers.into(), "worker"));
        let rows = [
            ("pushed", self.accepted, pushed.as_str()),
            ("coalesced", self.coalesced(), "of them given to a task that waited"),
            ("runs", self.runs, &runs),
            ("effects", self.effects(), "rows, counted on a connection of its own"),
            ("kills", self.killed.all(), &places),
            ("lost", self.lost(), "changes that no effect has seen"),
            ("doubled", self.after.doubled, "effects beyond the first of one task"),
        ];
        for (name, value, note) in rows {
            writeln!(f, "  {name:<12}{:>9}   {note}", number(value))?;
        }
        writeln!(f)?;
        match self.wrong().as_slice() {
            [] => write!(f, "  right: every change was seen, and every task had exactly one effect"),
            wrong => write!(f, "  WRONG: {}", wrong.join("; ")),
        }
    }
}
