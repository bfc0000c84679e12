//! The final table.

use std::fmt;
use std::time::Duration;

use idem_examples::cli::{number, plural};
use serde_json::{Value, json};

use crate::audit::Counted;
use crate::events::Input;
use crate::plan::Plan;
use crate::sender::Tally;

/// What was done, what came of it, and whether that is right.
#[derive(Debug)]
pub(crate) struct Report<'a> {
    pub(crate) database: &'static str,
    pub(crate) copies: u32,
    pub(crate) plan: &'a Plan,
    pub(crate) input: &'a Input,
    pub(crate) tally: &'a Tally,
    /// The database before the first delivery, and after the last.
    pub(crate) before: &'a Counted,
    pub(crate) after: &'a Counted,
    pub(crate) took: Duration,
}

impl Report<'_> {
    /// Tells whether every event had one effect and every duplicate points at its original.
    pub(crate) fn is_right(&self) -> bool {
        self.wrong().is_empty()
    }

    /// Says what is not as it must be.
    fn wrong(&self) -> Vec<String> {
        let Report { tally, after, .. } = self;
        let (events, effects) = (self.events(), after.effects);
        let mut wrong = Vec::new();
        let mut must = |holds: bool, otherwise: String| {
            if !holds {
                wrong.push(otherwise);
            }
        };
        must(effects == events, format!("{} effects of {} events", number(effects), number(events)));
        must(after.repeated == 0, format!("{} events had more than one effect", number(after.repeated)));
        let answers = tally.runs + tally.replays + tally.refused;
        must(
            answers == tally.deliveries || tally.failed > 0,
            format!(
                "{} runs, replays and refusals of {} deliveries",
                number(answers),
                number(tally.deliveries)
            ),
        );
        must(after.totals_agree, String::from("the totals do not add up to the events received"));
        let logged = after.logged;
        must(
            logged == tally.acknowledged,
            format!("{logged} deliveries in the log, {} acknowledged", tally.acknowledged),
        );
        must(
            after.without_original == 0,
            format!("{} deliveries without an original", after.without_original),
        );
        wrong
    }

    /// Returns the table as JSON.
    pub(crate) fn json(&self) -> Value {
        let Report { tally, after, .. } = self;
        json!({
            "database": self.database,
            "seed": self.plan.seed,
            "workers": self.plan.shares.len(),
            "copies": self.copies,
            "lines": self.input.events.len(),
            "bad_lines": self.input.bad.len(),
            "events": self.events(),
            "deliveries": tally.deliveries,
            "redeliveries": self.redeliveries(),
            "runs": tally.runs,
            "replays": tally.replays,
            "refused": tally.refused,
            "failed": tally.failed,
            "effects": after.effects,
            "effects_before": self.before.effects,
            "duplicates": after.duplicates,
            "without_original": after.without_original,
            "kills": tally.kills(),
            "killed_in_the_job": tally.killed_in_the_job,
            "killed_before_the_answer": tally.killed_before_the_answer,
            "ms_per_delivery": { "median": millis(self.time(50)), "p99": millis(self.time(99)) },
            "seconds": self.took.as_secs_f64(),
            "wrong": self.wrong(),
        })
    }

    fn events(&self) -> u64 {
        self.input.distinct() as u64
    }

    /// Deliveries that are there only because of a kill or a conflict.
    fn redeliveries(&self) -> u64 {
        self.tally.deliveries - self.plan.deliveries()
    }

    /// Returns the time that so many per cent of the deliveries took at most.
    fn time(&self, percent: usize) -> Duration {
        let mut times = self.tally.times.clone();
        times.sort_unstable();
        let at = (times.len() * percent).div_ceil(100).saturating_sub(1);
        times.get(at).copied().unwrap_or_default()
    }
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value, note) in self.rows() {
            writeln!(f, "{}", format!("  {name:<18}{value:>9}   {note}").trim_end())?;
        }
        writeln!(f)?;
        match self.wrong().as_slice() {
            [] if self.events() == 0 => write!(f, "  there was nothing to deliver"),
            [] => write!(f, "  right: every event had exactly one effect"),
            wrong => write!(f, "  WRONG: {}", wrong.join("; ")),
        }
    }
}

impl Report<'_> {
    /// Returns name, value and a note of every row.
    fn rows(&self) -> Vec<(&'static str, String, String)> {
        let Report { tally, after, .. } = self;
        let mut rows = vec![
            ("events", number(self.events()), self.origin()),
            ("deliveries", number(tally.deliveries), self.sent()),
            ("runs", number(tally.runs), self.runs()),
            ("replays", number(tally.replays), String::from("answered from the record")),
        ];
        if tally.refused > 0 {
            let note = "the id of another event, with another body";
            rows.push(("refused", number(tally.refused), String::from(note)));
        }
        if tally.failed > 0 {
            rows.push(("failed", number(tally.failed), String::from("without an effect")));
        }
        rows.extend([
            ("effects", number(after.effects), self.effects()),
            ("duplicates", number(after.duplicates), self.duplicates()),
            ("kills", number(tally.kills()), self.kills()),
            ("time per delivery", format!("{:.1} ms", millis(self.time(50))), self.slowest()),
        ]);
        rows
    }

    fn origin(&self) -> String {
        let bad = match self.input.bad.len() {
            0 => String::new(),
            bad => format!(", {} left out", plural(bad as u64, "bad line")),
        };
        format!("on {}, seed {}, {:.1} s{bad}", self.database, self.plan.seed, self.took.as_secs_f64())
    }

    fn sent(&self) -> String {
        let (lines, workers) = (self.input.events.len() as u64, self.plan.shares.len() as u64);
        let planned = format!("{} × {} to {}", number(lines), self.copies, plural(workers, "worker"));
        match self.redeliveries() {
            0 => planned,
            again => format!("{planned}, {} sent again", number(again)),
        }
    }

    fn runs(&self) -> String {
        match self.tally.killed_in_the_job {
            0 => String::from("of the job's body"),
            killed => format!("of the job's body, {} killed before the commit", number(killed)),
        }
    }

    fn effects(&self) -> String {
        let counted = "rows, counted on a connection of its own";
        match self.before.effects {
            0 => String::from(counted),
            before => format!("{counted}; {} were there before", number(before)),
        }
    }

    fn duplicates(&self) -> String {
        match self.after.without_original {
            0 if self.after.duplicates == 0 => String::from("in the delivery log"),
            0 => String::from("in the delivery log, each pointing at its original"),
            lost => format!("in the delivery log; {} point at no original", number(lost)),
        }
    }

    fn kills(&self) -> String {
        let Tally { killed_in_the_job, killed_before_the_answer, .. } = self.tally;
        match self.tally.kills() {
            0 => String::new(),
            _ => format!(
                "with SIGKILL: {killed_in_the_job} inside the job, {killed_before_the_answer} between commit and answer"
            ),
        }
    }

    fn slowest(&self) -> String {
        format!("the median; 99 % took {:.1} ms or less", millis(self.time(99)))
    }
}

fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e5).round() / 100.0
}
