//! The report: ratios inside a round, medians over the rounds.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use crate::Options;
use crate::cell::Cell;
use crate::systems::{System, Workload};

#[derive(Debug, Serialize)]
pub(crate) struct Report {
    rounds: usize,
    millis: u64,
    network_ms: u64,
    records_before: u64,
    rows: Vec<Row>,
}

/// One system under one load.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    database: String,
    workload: Workload,
    workers: usize,
    system: String,
    /// Runs, or for the herd batches of 16 runs, in a second.
    per_second: f64,
    p50_us: u128,
    p99_us: u128,
    /// The rate as a share of the first system's in the same round.
    ratio: f64,
}

impl Report {
    pub(crate) fn new(options: &Options) -> Self {
        Report {
            rounds: options.rounds,
            millis: options.millis,
            network_ms: options.network_ms,
            records_before: options.records,
            rows: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, rows: Vec<Row>) {
        self.rows.extend(rows);
    }

    pub(crate) fn json(&self) -> serde_json::Result<String> {
        serde_json::to_string_pretty(self)
    }
}

/// Makes the rows of systems that ran side by side; the first is what the others are compared with.
pub(crate) fn rows(
    database: &str,
    workload: Workload,
    workers: usize,
    systems: &[Arc<dyn System>],
    cells: &[Vec<Cell>],
) -> Vec<Row> {
    let row = |(system, runs): (&Arc<dyn System>, &Vec<Cell>)| Row {
        database: database.to_owned(),
        workload,
        workers,
        system: system.name().to_owned(),
        per_second: median(runs.iter().map(|cell| cell.per_second)),
        p50_us: median_of(runs.iter().map(|cell| cell.p50.as_micros())),
        p99_us: median_of(runs.iter().map(|cell| cell.p99.as_micros())),
        ratio: median(runs.iter().zip(&cells[0]).map(|(run, floor)| run.per_second / floor.per_second)),
    };
    systems.iter().zip(cells).map(row).collect()
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn median_of(values: impl Iterator<Item = u128>) -> u128 {
    let mut values: Vec<u128> = values.collect();
    values.sort_unstable();
    values[values.len() / 2]
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Medians of {} rounds of {} ms", self.rounds, self.millis)?;
        if self.network_ms > 0 {
            write!(f, ", {} ms of network added", self.network_ms)?;
        }
        if self.records_before > 0 {
            write!(f, ", {} records beforehand", self.records_before)?;
        }
        writeln!(f, ". The ratio is to the first system of each block, in the same round.")?;
        let mut block = None;
        for row in &self.rows {
            let this = (&row.database, row.workload, row.workers);
            if block != Some(this) {
                block = Some(this);
                let unit = match row.workload {
                    Workload::Herd => "batches of 16 runs of one key",
                    Workload::First => "first runs",
                    Workload::Replay => "replays",
                };
                writeln!(f, "\n{}, {unit}, {} workers", row.database, row.workers)?;
                writeln!(
                    f,
                    "  {:<34} {:>10} {:>9} {:>9} {:>7}",
                    "", "a second", "p50 us", "p99 us", "ratio"
                )?;
            }
            writeln!(
                f,
                "  {:<34} {:>10.0} {:>9} {:>9} {:>7.2}",
                row.system, row.per_second, row.p50_us, row.p99_us, row.ratio
            )?;
        }
        Ok(())
    }
}
