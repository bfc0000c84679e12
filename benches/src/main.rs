//! idem beside the bare effect and beside hand-written idempotency, in one process.
//!
//! Every round runs every system for a moment, one after the other; a ratio is taken inside a round,
//! and the median over the rounds is printed. Timings of one machine say little about another's,
//! ratios say more, and counts, which are taken last, say most.

mod systems;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Parser, ValueEnum};
use idem_bench::{cell, count, servers};
use idem_bench_page::{Contender, Counted, Figures, Form, Load, Round, Row, Store};

use crate::systems::{Network, Workload};

/// Measures idem beside the bare effect and beside hand-written idempotency.
#[derive(Debug, Parser)]
#[command(version)]
struct Options {
    /// The databases to measure on; PostgreSQL and MySQL take their address from IDEM_TEST_POSTGRES
    /// and IDEM_TEST_MYSQL, which `scripts/bench` sets
    #[arg(long, value_enum, value_delimiter = ',', default_value = "sqlite,postgres,mysql")]
    databases: Vec<DatabaseName>,
    /// The numbers of callers to measure with
    #[arg(long, value_delimiter = ',', default_value = "1,8,32")]
    concurrency: Vec<usize>,
    /// The workloads to measure
    #[arg(long, value_enum, value_delimiter = ',', default_value = "first,replay,herd,steps")]
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
    /// Print the figures of every round as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum DatabaseName {
    Sqlite,
    Postgres,
    Mysql,
}

impl DatabaseName {
    fn store(self) -> Store {
        match self {
            DatabaseName::Sqlite => Store::Sqlite,
            DatabaseName::Postgres => Store::Postgres,
            DatabaseName::Mysql => Store::Mysql,
        }
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    if options.rounds == 0 || options.millis == 0 || options.concurrency.contains(&0) {
        bail!("--rounds, --millis and --concurrency must be at least 1");
    }
    let mut figures = Figures {
        rounds: options.rounds,
        millis: options.millis,
        network_ms: options.network_ms,
        records_before: options.records,
        calls_counted: count::CALLS,
        servers: Vec::new(),
        rows: Vec::new(),
        counted: Vec::new(),
    };
    for store in options.databases.iter().map(|database| database.store()) {
        figures.servers.push(servers::ask(store).await?);
        for workload in &options.workloads {
            for callers in &options.concurrency {
                let rows = measure(&options, store, *workload, *callers).await;
                figures.rows.extend(rows.with_context(|| {
                    format!("measuring {workload:?} on {store:?} with {callers} callers")
                })?);
            }
            let counted = count_all(&options, store, *workload).await;
            figures.counted.extend(counted.with_context(|| format!("counting {workload:?} on {store:?}"))?);
        }
    }
    match options.json {
        true => println!("{}", serde_json::to_string(&figures)?),
        false => println!("{figures}"),
    }
    Ok(())
}

async fn measure(
    options: &Options,
    store: Store,
    workload: Workload,
    callers: usize,
) -> anyhow::Result<Vec<Row>> {
    let network = match options.network_ms {
        0 => Network::Direct,
        delay_ms => Network::Proxy(Duration::from_millis(delay_ms)),
    };
    let mut bench = systems::on(store, workload, callers, options.records, network).await?;
    bench.systems.retain(|system| system.contender().name().contains(&options.system));
    let mut rounds: Vec<Vec<Round>> = vec![Vec::new(); bench.systems.len()];
    for round in 0..=options.rounds {
        for (system, rounds) in bench.systems.iter().zip(&mut rounds) {
            let name = system.contender().name();
            eprint!("\r{store:?} {workload:?} x{callers}: round {round}/{} {name:<32}", options.rounds);
            let system = Arc::clone(system);
            let call = move |caller| {
                let system = Arc::clone(&system);
                async move { system.run(caller).await }
            };
            let this = cell::run(callers, Duration::from_millis(options.millis), 1, call).await;
            let this = this.context(name)?;
            // The first round warms everything up.
            if round > 0 {
                rounds.push(this);
            }
        }
    }
    eprintln!("\r{:<80}", format!("{store:?} {workload:?} x{callers}: done"));
    bench.check().await?;
    let row = |(contender, rounds): (Contender, Vec<Round>)| Row {
        store,
        form: workload.form(),
        load: Load { callers, queued: None },
        contender,
        rounds,
    };
    Ok(bench.systems.iter().map(|system| system.contender()).zip(rounds).map(row).collect())
}

/// Counts what a call of each system costs on a server. SQLite is in the process, and has no messages.
async fn count_all(options: &Options, store: Store, workload: Workload) -> anyhow::Result<Vec<Counted>> {
    if store == Store::Sqlite {
        return Ok(Vec::new());
    }
    let mut bench = systems::on(store, workload, 1, 0, Network::Proxy(Duration::ZERO)).await?;
    let mut counter = bench.counter(store).await?;
    let form: Form = workload.form();
    let mut counted = Vec::new();
    for system in bench.systems.iter().filter(|system| system.contender().name().contains(&options.system)) {
        eprint!("\r{store:?} {workload:?}: counting {:<32}", system.contender().name());
        counted.push(counter.count(form, system.contender(), || system.run(0)).await?);
    }
    eprintln!("\r{:<80}", format!("{store:?} {workload:?}: counted"));
    bench.check().await?;
    Ok(counted)
}
