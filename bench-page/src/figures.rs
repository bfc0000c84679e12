//! What was measured.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Contender, Form, Store};

/// All that one run of `scripts/bench page` found out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Whether it was too short for its figures to mean much.
    pub is_quick: bool,
    /// The day on which it began, as in `2030-12-31`.
    pub date: String,
    /// Where it ran.
    pub machine: Machine,
    /// What it was built with.
    pub versions: Vec<Version>,
    /// What each bench printed.
    pub figures: Vec<Figures>,
}

/// A machine, and what else it did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// The model of its processors.
    pub processor: String,
    /// How many of them there are.
    pub cores: usize,
    /// Its memory.
    pub memory_gib: f64,
    /// The operating system and its kernel.
    pub system: String,
    /// The load average of a minute as the run began and as it ended, the run itself included.
    pub load_average: [f64; 2],
    /// The share of its processors' time, from 0 to 1, that was used before the run began and after it had ended,
    /// while the servers were idle.
    pub busy_beside: [f64; 2],
    /// The share of its processors' time, from 0 to 1, that the host of a virtual machine kept for others.
    pub stolen: f64,
}

/// The version of something.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Version {
    /// What has this version.
    pub name: String,
    /// The version.
    pub version: String,
}

/// What a bench prints with `--json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// How many rounds there were after the first, which only warms up.
    pub rounds: usize,
    /// How long each contender ran in a round.
    pub millis: u64,
    /// Milliseconds of network that a proxy added to every message.
    pub network_ms: u64,
    /// Records that were in idem's table beforehand.
    pub records_before: u64,
    /// How many calls were counted to know what one costs.
    pub calls_counted: usize,
    /// What the databases say of themselves.
    pub servers: Vec<Server>,
    /// What was timed.
    pub rows: Vec<Row>,
    /// What was counted.
    pub counted: Vec<Counted>,
}

/// What a database says of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Server {
    /// Which one.
    pub store: Store,
    /// Its version.
    pub version: String,
    /// The settings that decide whether a commit waits for the disk.
    pub durability: String,
}

/// One contender under one load.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The database.
    pub store: Store,
    /// What was done.
    pub form: Form,
    /// How hard.
    pub load: Load,
    /// Who did it.
    pub contender: Contender,
    /// How it went, round by round.
    pub rounds: Vec<Round>,
}

/// How hard a contender has to work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    /// How many call at once.
    pub callers: usize,
    /// How many tasks are queued beforehand, where tasks are enqueued.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queued: Option<u64>,
}

/// One contender in one round.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Round {
    /// Runs in a second; batches of the herd; tasks that are enqueued.
    pub per_second: f64,
    /// The time that half of the calls stay below.
    pub p50_us: u64,
    /// The time that all calls but one of a hundred stay below.
    pub p99_us: u64,
}

/// What one call costs, whatever the machine, of many calls one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Counted {
    /// The database.
    pub store: Store,
    /// What was done.
    pub form: Form,
    /// Who did it.
    pub contender: Contender,
    /// Messages that wait for an answer, the average.
    pub round_trips: f64,
    /// Transactions that write, the median, where they are counted.
    pub writes: Option<i64>,
    /// Bytes of the write-ahead log, the median, where they are counted.
    pub wal_bytes: Option<i64>,
}

impl Row {
    /// Returns the median of its rates.
    pub fn per_second(&self) -> f64 {
        median(self.rounds.iter().map(|round| round.per_second))
    }

    /// Returns the median over the rounds of half of the calls' time, in microseconds.
    pub fn p50_us(&self) -> f64 {
        median(self.rounds.iter().map(|round| round.p50_us as f64))
    }

    /// Returns the median over the rounds of nearly all calls' time, in microseconds.
    pub fn p99_us(&self) -> f64 {
        median(self.rounds.iter().map(|round| round.p99_us as f64))
    }

    /// Returns its rate as a share of another's in the same round, for each round.
    pub(crate) fn ratios<'r>(&'r self, other: &'r Row) -> impl Iterator<Item = f64> + 'r {
        self.rounds.iter().zip(&other.rounds).map(|(own, other)| own.per_second / other.per_second)
    }

    /// Returns its rate as a share of another's in the same round, the median over the rounds.
    pub fn ratio(&self, other: &Row) -> f64 {
        median(self.ratios(other))
    }

    /// Tells whether it did the same on the same database.
    fn is_beside(&self, other: &Row) -> bool {
        (self.store, self.form, self.load) == (other.store, other.form, other.load)
    }
}

impl Figures {
    /// Returns the first contender that did the same under the same load, with which the others are compared.
    pub(crate) fn base<'f>(&'f self, row: &'f Row) -> &'f Row {
        self.rows.iter().find(|base| base.is_beside(row)).unwrap_or(row)
    }
}

/// Returns the value in the middle.
fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.callers {
            1 => f.write_str("1 caller")?,
            callers => write!(f, "{callers} callers")?,
        }
        match self.queued {
            Some(queued) => write!(f, ", {} queued", thousands(queued as f64)),
            None => Ok(()),
        }
    }
}

/// Writes a number without what is behind the point, and with commas between its thousands.
pub(crate) fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// What a bench prints for people.
impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Medians of {} rounds of {} ms", self.rounds, self.millis)?;
        if self.network_ms > 0 {
            write!(f, ", {} ms of network added", self.network_ms)?;
        }
        if self.records_before > 0 {
            write!(f, ", {} records beforehand", self.records_before)?;
        }
        writeln!(f, ". The ratio is to the first of each block, in the same round.")?;
        for row in &self.rows {
            let base = self.base(row);
            if std::ptr::eq(base, row) {
                writeln!(f, "\n{}, {}, {}", row.store.name(), row.form.name(), row.load)?;
                writeln!(
                    f,
                    "  {:<34} {:>10} {:>9} {:>9} {:>7}",
                    "", "a second", "p50 us", "p99 us", "ratio"
                )?;
            }
            writeln!(
                f,
                "  {:<34} {:>10.0} {:>9} {:>9} {:>7.2}",
                row.contender.name(),
                row.per_second(),
                row.p50_us(),
                row.p99_us(),
                row.ratio(base),
            )?;
        }
        if self.counted.is_empty() {
            return Ok(());
        }
        writeln!(f, "\nCounted, a call")?;
        writeln!(f, "  {:<77} {:>5} {:>6} {:>7}", "", "trips", "writes", "WAL B")?;
        for counted in &self.counted {
            let what =
                format!("{}, {}: {}", counted.store.name(), counted.form.name(), counted.contender.name());
            let writes = counted.writes.map_or_else(String::new, |writes| writes.to_string());
            let wal = counted.wal_bytes.map_or_else(String::new, |bytes| bytes.to_string());
            writeln!(f, "  {what:<77} {:>5} {writes:>6} {wal:>7}", counted.round_trips)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_is_the_median_whatever_the_order() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), 2.0);
        assert!(median([].into_iter()).is_nan());
    }

    #[test]
    fn thousands_are_told_apart() {
        assert_eq!(["0", "999", "1,000", "1,234,568"], [0.0, 999.0, 1000.0, 1_234_567.8].map(thousands));
    }
}
