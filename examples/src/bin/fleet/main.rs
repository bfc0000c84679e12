//! A fleet of workers on a queue of apalis, enqueued in the transaction of a web endpoint, killed throughout.
//!
//! Clients change users over HTTP; the endpoint writes each change and enqueues a sync of the user in one transaction.
//! Workers, which are processes of their own and ordinary workers of apalis, do the syncs and are killed with SIGKILL all
//! the while. At the end the database is counted: nothing lost, nothing doubled.
//!
//! Read `examples/src/jobs/sync_profile.rs` first: it has the job, and why it is declared as it is.
//! `examples/src/demos/fleet.rs` has the endpoint and the worker, [`clients`] who pushes, [`fleet`] who kills, [`report`]
//! what must hold afterwards.

mod clients;
mod fleet;
mod report;

use std::net::Ipv4Addr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::Parser;
use idem_examples::cli::{causes, interrupted, plural};
use idem_examples::database_url::{DatabaseUrl, Kind};
use idem_examples::fleet::{Desk, Hello, Said, Site, Stage};
use idem_examples::process::{self, hello, lines};
use idem_examples::progress::Progress;
use idem_examples::{postgres, sqlite};
use tempfile::TempDir;
use tokio::net::TcpListener;

use self::clients::Pushes;
use self::fleet::Fleet;
use self::report::Report;

/// How long the queue may stand still before the run is given up.
const STANDSTILL_MAX: Duration = Duration::from_secs(60);

/// How often the queue is looked at, by who waits for its end.
const LOOK: Duration = Duration::from_millis(200);

/// Pushes jobs over HTTP into a queue of apalis, kills its workers, and counts what was lost or doubled.
///
/// `--pushes` changes of `--keys` users, a few of one user in a row, are posted to an endpoint, which writes each and enqueues a sync of the user in one
/// transaction. `--workers` processes do the syncs. `--kills` times, spread over the pushes, a worker is killed with SIGKILL:
/// by turns inside the job, with the effect written and not committed, and after the commit, before apalis hears of it.
/// It is started again at once; apalis gives its tasks to others when its heartbeat has stayed away for three seconds.
///
/// Progress and problems go to stderr, the final table to stdout.
#[derive(Debug, Parser)]
#[command(name = "fleet", after_help = AFTER_HELP)]
struct Args {
    /// Where everything is: sqlite://FILE (kept) or postgres://…
    ///
    /// [default: a new SQLite file, removed at the end]
    #[arg(long, value_name = "URL", value_parser = database_url)]
    database_url: Option<DatabaseUrl>,

    /// How many changes are posted
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pushes: u64,

    /// How many users they are changes of
    #[arg(long, value_name = "N", default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    keys: u64,

    /// How many processes work
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    workers: u32,

    /// How many times a worker is killed
    #[arg(long, value_name = "N", default_value_t = 12, value_parser = clap::value_parser!(u64).range(0..=1_000))]
    kills: u64,

    /// Run the effect without idem, to see what it is there to prevent
    ///
    /// A task that is delivered again has its effect again, and the claim of a user lasts until the task is done: a change
    /// that comes in between is taken for a duplicate.
    #[arg(long, conflicts_with = "database_url")]
    without_idem: bool,

    /// Print the table as JSON
    #[arg(long)]
    json: bool,

    /// Be a worker.
    #[arg(long, hide = true)]
    worker: bool,
}

const AFTER_HELP: &str = "\
The final table:
  pushed     changes that the endpoint has accepted
  coalesced  those that were given no task of their own: one that waited does their work
  runs       times that the job's body began, those that were killed included
  effects    rows that the job has committed, counted on a connection of its own
  kills      workers killed with SIGKILL
  lost       accepted changes that are not there, or that no effect has seen
  doubled    effects beyond the first of one task

The exit code is 0 if nothing is lost or doubled and every task had its effect, 1 if not or if the run failed,
130 after Ctrl-C.";

fn main() -> ExitCode {
    let args = Args::parse();
    // Out here it outlasts the runtime, and with that the workers, which make files in it as long as they are there.
    let mut temporary = None;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = runtime.context("starting tokio").and_then(|runtime| {
        runtime.block_on(async {
            match args.worker {
                true => work().await.map(|()| ExitCode::SUCCESS),
                false => tokio::select! {
                    done = run(args, &mut temporary) => done,
                    code = interrupted("fleet") => code,
                },
            }
        })
    });
    done.unwrap_or_else(|error| {
        eprintln!("fleet: {}", causes(&error));
        ExitCode::FAILURE
    })
}

/// Is a worker, until the process that has started it is gone.
async fn work() -> anyhow::Result<()> {
    let mut lines = lines();
    let hello: Hello = hello(&mut lines).await?;
    let url = hello.database_url.parse().map_err(anyhow::Error::msg)?;
    let desk = Desk::new(|said: Said| process::say(&said));
    let orders = async {
        while let Some(line) = lines.recv().await {
            desk.hold(serde_json::from_str::<Stage>(&line).context("reading an order")?);
        }
        // Without the first process this one ends anyway: see `lines`.
        std::future::pending::<anyhow::Result<()>>().await
    };
    let work = async {
        site(&url)?.work(&hello.name, desk.clone(), hello.without_idem).await?;
        bail!("apalis has ended the worker `{}`", hello.name)
    };
    tokio::select! {
        ended = work => ended,
        ended = orders => ended,
    }
}

async fn run(args: Args, temporary: &mut Option<TempDir>) -> anyhow::Result<ExitCode> {
    let url = DatabaseUrl::or_temporary(args.database_url, "fleet", temporary)?;
    let site: Arc<dyn Site> = Arc::from(site(&url)?);
    site.prepare().await.with_context(|| format!("preparing {}", url.name()))?;
    let before = site.count().await.context("counting what is there")?;

    let progress = Arc::new(Progress::new("pushed", "times the job ran"));
    progress.expect(args.pushes);
    let started = Instant::now();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("listening")?;
    let address = listener.local_addr()?;
    let endpoint = axum::serve(listener, site.endpoint().await?).into_future();

    let pushes = Pushes::new(address, args.pushes, args.keys, args.kills, &progress);
    let (mut fleet, killer) = Fleet::start(&url, &site, args.workers, args.without_idem, &progress).await?;
    let work = async {
        let (accepted, killed) =
            tokio::try_join!(Arc::clone(&pushes).push(), killer.kill(&pushes, args.kills))?;
        progress.finish();
        drained(&*site, &progress).await?;
        anyhow::Ok((accepted, killed))
    };
    let (accepted, killed) = tokio::select! {
        done = work => done?,
        ended = fleet.keep() => return Err(ended),
        ended = endpoint => bail!("the endpoint has ended: {ended:?}"),
    };
    let runs = fleet.dismiss(killer).await?;
    let took = started.elapsed();

    let after = site.count().await.context("counting the effects")?;
    let missing = clients::missing(&accepted, site.changes().await.context("reading the changes")?);
    let report = Report {
        database: url.name(),
        keys: args.keys,
        workers: args.workers,
        accepted: accepted.len() as u64,
        missing,
        runs,
        killed,
        before,
        after,
        took,
    };
    progress.finish();
    match args.json {
        true => println!("{}", report.json()),
        false => println!("{report}"),
    }
    Ok(match report.is_right() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// Waits until every task is done.
async fn drained(site: &dyn Site, progress: &Progress) -> anyhow::Result<()> {
    let (mut left, mut over) = site.tasks().await?;
    if left > 0 {
        progress.say(&format!("everything is pushed; {} to be done", plural(left, "task")));
    }
    let mut moved = Instant::now();
    while left > 0 {
        if moved.elapsed() > STANDSTILL_MAX {
            bail!("{} left, and nothing has moved for {STANDSTILL_MAX:?}", plural(left, "task"));
        }
        tokio::time::sleep(LOOK).await;
        let (still, done) = site.tasks().await?;
        if (still, done) != (left, over) {
            moved = Instant::now();
        }
        (left, over) = (still, done);
    }
    Ok(())
}

fn site(url: &DatabaseUrl) -> anyhow::Result<Box<dyn Site>> {
    match url.kind() {
        Kind::Sqlite => Ok(sqlite::demos::fleet::site(url)),
        Kind::Postgres => Ok(postgres::demos::fleet::site(url)),
        Kind::MySql => {
            bail!("apalis 1.0 has no queue on {}; write sqlite://FILE or postgres://…", url.name())
        }
    }
}

fn database_url(text: &str) -> Result<DatabaseUrl, String> {
    let url: DatabaseUrl = text.parse()?;
    match site(&url) {
        Ok(_) => Ok(url),
        Err(error) => Err(error.to_string()),
    }
}
