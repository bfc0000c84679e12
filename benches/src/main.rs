//! idem beside the bare effect and beside hand-written idempotency, in one process.
//!
//! Every round runs every system for a moment, one after the other; a ratio is taken inside a round,
//! and the median over the rounds is printed. Timings of one machine say little about another's,
//! ratios say more.

mod cell;
mod report;
mod systems;

use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Parser, ValueEnum};

use crate::cell::{Cell, Load};
use crate::report::{Report, Row};
use crate::systems::Workload;

/// Measures idem beside the bare effect and beside hand-written idempotency.
#[derive(Debug, Parser)]
#[command(version)]
struct Options {
    /// The databases to measure on; PostgreSQL and MySQL take their address from IDEM_TEST_POSTGRES
    /// and IDEM_TEST_MYSQL, which `scripts/bench` sets
    #[arg(long, value_enum, value_delimiter = ',', default_value = "sqlite,postgres,mysql")]
    databases: Vec<DatabaseName>,
    /// The numbers of workers to measure with
    #[arg(long, value_delimiter = ',', default_value = "1,8,32")]
    concurrency: Vec<usize>,
    /// The workloads to measure
    #[arg(long, value_enum, value_delimiter = ',', default_value = "first,replay,herd")]
    workloads: Vec<Workload>,
    /// How many rounds to run; medians are taken over them
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How long one system runs in a round, in milliseconds
    #[arg(long, default_value_t = 700)]
    millis: u64,
    /// Milliseconds of network to add in front of PostgreSQL and MySQL, by a proxy on loopback
    #[arg(long, default_value_t = 0)]
    network_ms: u64,
    /// Measure only the systems whose names contain this
    #[arg(long, default_value = "")]
    system: String,
    /// Records to put into idem's table beforehand
    #[arg(long, default_value_t = 0)]
    records: u64,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum DatabaseName {
    Sqlite,
    Postgres,
    Mysql,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    if options.rounds == 0 || options.millis == 0 || options.concurrency.contains(&0) {
        bail!("--rounds, --millis and --concurrency must be at least 1");
    }
    let mut report = Report::new(&options);
    for database in &options.databases {
        for workload in &options.workloads {
            for workers in &options.concurrency {
                let rows = measure(&options, *database, *workload, *workers).await.with_context(|| {
                    format!("measuring {workload:?} on {database:?} with {workers} workers")
                })?;
                report.add(rows);
            }
        }
    }
    match options.json {
        true => println!("{}", report.json()?),
        false => println!("{report}"),
    }
    Ok(())
}

async fn measure(
    options: &Options,
    database: DatabaseName,
    workload: Workload,
    workers: usize,
) -> anyhow::Result<Vec<Row>> {
    let network = Duration::from_millis(options.network_ms);
    let mut bench = match database {
        DatabaseName::Sqlite => systems::sqlite(workload, workers, options.records).await?,
        DatabaseName::Postgres => systems::postgres(workload, workers, options.records, network).await?,
        DatabaseName::Mysql => systems::mysql(workload, workers, options.records, network).await?,
    };
    bench.systems.retain(|system| system.name().contains(&options.system));
    let load = Load { workers, duration: Duration::from_millis(options.millis) };
    let mut cells: Vec<Vec<Cell>> = vec![Vec::new(); bench.systems.len()];
    for round in 0..=options.rounds {
        for (system, cells) in bench.systems.iter().zip(&mut cells) {
            eprint!(
                "\r{database:?} {workload:?} x{workers}: round {round}/{} {:<32}",
                options.rounds,
                system.name()
            );
            let cell = cell::run(system, &load).await.with_context(|| system.name().to_owned())?;
            // The first round warms everything up.
            if round > 0 {
                cells.push(cell);
            }
        }
    }
    eprintln!("\r{:<80}", format!("{database:?} {workload:?} x{workers}: done"));
    bench.check().await?;
    Ok(report::rows(&format!("{database:?}").to_lowercase(), workload, workers, &bench.systems, &cells))
}
