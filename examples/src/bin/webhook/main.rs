//! Webhooks, deduplicated by (source, delivery id); every duplicate points at its original.
//!
//! A sender delivers real GitHub events several times, out of order, to several worker processes at
//! once, kills some of them half-way with SIGKILL, starts them again and delivers everything of theirs
//! once more. At the end the database is counted: as many effects as events.
//!
//! Read [`inbox`] first: it has the job. [`worker`] is the process that receives, [`sender`] the one
//! that delivers and kills, [`plan`] who gets what and when, [`audit`] what must hold afterwards.

mod audit;
mod desk;
mod events;
mod inbox;
mod plan;
mod protocol;
mod report;
mod sender;
mod worker;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use clap::Parser;
use idem_examples::cli::{causes, interrupted};
use idem_examples::database_url::DatabaseUrl;
use idem_examples::progress::Progress;
use tempfile::TempDir;

use self::events::Input;
use self::plan::Plan;
use self::protocol::Hello;
use self::report::Report;

/// Delivers webhooks again and again, kills workers half-way, and counts the effects.
///
/// Every event of the input is delivered `--copies` times, in random order, to `--workers` processes
/// at once. `--kills` times a worker that has answered half of its share is killed with SIGKILL: by
/// turns inside the job, with the effect written and not committed, and after the commit, with nothing
/// acknowledged. It is started again and its whole share delivered once more, as a queue would do.
///
/// Progress and problems go to stderr, the final table to stdout.
#[derive(Debug, Parser)]
#[command(name = "webhook", after_help = AFTER_HELP)]
struct Args {
    /// Events, one JSON object a line: {"delivery": "…", "event": "…", "payload": …}
    ///
    /// A line that is not such an object is reported with its number, and the rest is delivered.
    /// [default: examples/data/github-webhooks.jsonl]
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,

    /// Where to receive: sqlite://FILE (kept), postgres://… or mysql://…
    ///
    /// [default: a new SQLite file, removed at the end]
    #[arg(long, value_name = "URL")]
    database_url: Option<DatabaseUrl>,

    /// How often every event is delivered, redeliveries after a kill not counted
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    copies: u32,

    /// How many processes receive at once
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    workers: u32,

    /// How many times a worker is killed
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(0..=100))]
    kills: u32,

    /// Makes order and shares the same as in an earlier run
    #[arg(long, value_name = "N")]
    seed: Option<u64>,

    /// Let every delivery have its effect, to see what idem is there to prevent
    #[arg(long, conflicts_with = "database_url")]
    without_idem: bool,

    /// Print the table as JSON
    #[arg(long)]
    json: bool,

    /// Be a worker: receive on stdin, answer on stdout.
    #[arg(long, hide = true)]
    worker: bool,
}

const AFTER_HELP: &str = "\
The final table:
  deliveries         sent to a worker: lines × copies, and those sent again after a kill
  runs               times that the job's body ran; the others were answered from a record
  replays            deliveries answered from the record of an earlier run
  refused            deliveries with the id of another event and a body of their own
  effects            rows of these events, counted on a connection of its own
  duplicates         replayed deliveries in the delivery log; each points at the row of its original
  kills              workers killed with SIGKILL
  time per delivery  from sending to the answer

The exit code is 0 if every event had exactly one effect and every duplicate points at its original,
1 if not or if the run failed, 130 after Ctrl-C.";

fn main() -> ExitCode {
    let args = Args::parse();
    // Out here it outlasts the runtime, and with that the workers, which make files in it as long as they are there.
    let mut temporary = None;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = runtime.context("starting tokio").and_then(|runtime| {
        runtime.block_on(async {
            match args.worker {
                true => worker::work().await.map(|()| ExitCode::SUCCESS),
                false => tokio::select! {
                    done = deliver(args, &mut temporary) => done,
                    code = interrupted("webhook") => code,
                },
            }
        })
    });
    done.unwrap_or_else(|error| {
        eprintln!("webhook: {}", causes(&error));
        ExitCode::FAILURE
    })
}

async fn deliver(args: Args, temporary: &mut Option<TempDir>) -> anyhow::Result<ExitCode> {
    let progress = Arc::new(Progress::new("delivered", "times the job ran"));
    let input = read(args.input.as_deref(), &progress)?;
    let url = DatabaseUrl::or_temporary(args.database_url, "webhook", temporary)?;
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(..=u64::from(u32::MAX)));
    let plan = Plan::new(&input.events, args.copies, args.workers, args.kills, seed);

    let inbox = inbox::open(&url, desk::Desk::default())?;
    inbox.create().await.with_context(|| format!("preparing {}", url.name()))?;
    let before = inbox.count(&input.events, "").await.context("counting what is there")?;

    let hello = Hello {
        database_url: url.as_str().to_owned(),
        batch: format!("{:016x}", fastrand::u64(..)),
        worker: 0,
        without_idem: args.without_idem,
    };
    let started = Instant::now();
    let tally = sender::deliver(&plan, &input.events, &hello, &progress).await?;
    let took = started.elapsed();

    let after = inbox.count(&input.events, &hello.batch).await.context("counting the effects")?;
    inbox.close().await;
    let report = Report {
        database: url.name(),
        copies: args.copies,
        plan: &plan,
        input: &input,
        tally: &tally,
        before: &before,
        after: &after,
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

fn read(path: Option<&Path>, progress: &Progress) -> anyhow::Result<Input> {
    let path = path.unwrap_or(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/data/github-webhooks.jsonl")));
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let input = Input::parse(&bytes);
    for bad in &input.bad {
        progress.problem(bad.line, &format!("left out: {}", bad.why));
    }
    if input.events.is_empty() {
        progress.say(&format!("there is no event in {}", path.display()));
    }
    Ok(input)
}
