//! What it costs to enqueue a task of which there is only one: idem on apalis, beside apalis alone and beside
//! graphile_worker's `job_key`, on PostgreSQL, in one process.
//!
//! Every round runs every system for a moment, one after the other; a ratio is taken inside a round, and the median over
//! the rounds is printed. The queues are filled first, since the cost must not grow with them. Counts are taken last.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use apalis_core::backend::TaskSink as _;
use apalis_postgres::{Config, PostgresStorage};
use clap::Parser;
use futures_util::future::BoxFuture;
use graphile_worker::{
    IntoTaskHandlerResult, JobSpecBuilder, TaskHandler, WorkerContext, WorkerOptions, WorkerUtils,
};
use idem_bench::count::{self, Counter};
use idem_bench::{cell, servers};
use idem_bench_page::{Contender, Counted, Figures, Form, Load, Row, Store};
use idem_runtime::engine::{Engine, Enqueued, Queue};
use idem_runtime::prelude::*;
use serde::{Deserialize, Serialize};
use sqlx::ConnectOptions as _;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};

/// Measures what enqueueing a unique task costs.
#[derive(Debug, Parser)]
#[command(version)]
struct Options {
    /// How many tasks are queued before
    #[arg(long, value_delimiter = ',', default_value = "1000,1000000")]
    queued: Vec<u64>,
    /// The numbers of callers at once
    #[arg(long, value_delimiter = ',', default_value = "1,8")]
    concurrency: Vec<usize>,
    /// How many rounds to run; medians are taken over them
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How long one system runs in a round, in milliseconds
    #[arg(long, default_value_t = 700)]
    millis: u64,
    /// Print the figures of every round as JSON
    #[arg(long)]
    json: bool,
}

#[idempotent(key = user, unique = until_executed, retain = none)]
async fn sync_user(tx: &mut Tx<'_, Postgres>, user: i64) -> Result<(), sqlx::Error> {
    let _ = (tx, user);
    Ok(())
}

#[derive(Clone, Serialize, Deserialize)]
struct PlainSync {
    user: i64,
}

impl TaskHandler for PlainSync {
    const IDENTIFIER: &'static str = "sync";

    async fn run(self, _: WorkerContext) -> impl IntoTaskHandlerResult {
        Ok::<(), String>(())
    }
}

/// One way to enqueue.
#[derive(Clone)]
struct System {
    /// What it is shown as. apalis knows no duplicates, so what it does to new tasks stands for both.
    forms: &'static [Form],
    contender: Contender,
    /// How many tasks one call is about.
    tasks: usize,
    call: Arc<dyn Fn() -> BoxFuture<'static, anyhow::Result<()>> + Send + Sync>,
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
        network_ms: 0,
        records_before: 0,
        calls_counted: count::CALLS,
        servers: vec![servers::ask(Store::Postgres).await?],
        rows: Vec::new(),
        counted: Vec::new(),
    };
    for queued in &options.queued {
        let server = servers::postgres()?;
        let systems = set_up(&database(server, &format!("idem_bench_{queued}")).await?, *queued).await?;
        for callers in &options.concurrency {
            figures.rows.extend(measure(&options, &systems, *queued, *callers).await?);
        }
    }
    figures.counted = count_all().await?;
    match options.json {
        true => println!("{}", serde_json::to_string(&figures)?),
        false => println!("{figures}"),
    }
    Ok(())
}

async fn measure(
    options: &Options,
    systems: &[System],
    queued: u64,
    callers: usize,
) -> anyhow::Result<Vec<Row>> {
    let mut rounds = vec![Vec::new(); systems.len()];
    for round in 0..=options.rounds {
        eprint!("\r{queued} queued x{callers}: round {round}/{}", options.rounds);
        for (system, rounds) in systems.iter().zip(&mut rounds) {
            let call = Arc::clone(&system.call);
            let call = move |_| call();
            let this = cell::run(callers, Duration::from_millis(options.millis), system.tasks, call).await;
            let this = this.with_context(|| format!("{}: {:?}", system.contender.name(), system.forms))?;
            // The first round warms everything up.
            if round > 0 {
                rounds.push(this);
            }
        }
    }
    eprintln!("\r{:<80}", format!("{queued} queued x{callers}: done"));
    let rows = FORMS.iter().flat_map(|form| {
        let own = systems.iter().zip(&rounds).filter(|(system, _)| system.forms.contains(form));
        own.map(|(system, rounds)| Row {
            store: Store::Postgres,
            form: *form,
            load: Load { callers, queued: Some(queued) },
            contender: system.contender,
            rounds: rounds.clone(),
        })
    });
    Ok(rows.collect())
}

/// Counts what a call of each system costs.
async fn count_all() -> anyhow::Result<Vec<Counted>> {
    let server = servers::postgres()?;
    let (proxy, through) = servers::postgres_through_proxy(server.clone(), Duration::ZERO).await?;
    let systems = set_up(&database(through, "idem_bench_count").await?, 1_000).await?;
    let observer = Some(server.connect().await?);
    let mut counter = Counter { store: Store::Postgres, proxy, observer };
    let mut counted = Vec::new();
    for system in systems {
        for form in system.forms {
            counted.push(counter.count(*form, system.contender, || (system.call)()).await?);
        }
    }
    counted.sort_by_key(|counted| counted.form);
    Ok(counted)
}

/// Makes a database of its own: the schema of apalis has a name that cannot be changed.
async fn database(server: PgConnectOptions, name: &str) -> anyhow::Result<PgPool> {
    let mut connection = server.clone().connect().await?;
    for sql in [format!("DROP DATABASE IF EXISTS {name}"), format!("CREATE DATABASE {name}")] {
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await?;
    }
    Ok(PgPoolOptions::new().max_connections(16).connect_with(server.database(name)).await?)
}

const FORMS: [Form; 3] = [Form::Enqueue, Form::EnqueueDuplicate, Form::EnqueueHundred];

async fn set_up(pool: &PgPool, queued: u64) -> anyhow::Result<Vec<System>> {
    PostgresStorage::setup(pool).await?;
    let idem = Idem::builder(pool.clone()).build()?;
    idem.migrate().await?;
    idem.enrol::<SyncUser>().await?;
    let queue = idem.queue(Engine::Apalis);
    queue.set_up().await?;
    let worker = WorkerOptions::default()
        .define_job::<PlainSync>()
        .pg_pool(pool.clone())
        .init()
        .await
        .map_err(|error| anyhow::anyhow!("graphile_worker: {error:?}"))?;
    let utils = worker.create_utils();
    fill(pool, &queue, &utils, i64::try_from(queued)?).await?;

    let storage = PostgresStorage::<PlainSync>::new(pool).with_config(Config::default().queue("plain"));
    let users = Arc::new(AtomicI64::new(1 << 40));
    Ok(vec![
        system(&[Form::Enqueue, Form::EnqueueDuplicate], Contender::Apalis, 1, {
            let (storage, users) = (storage.clone(), users.clone());
            move || {
                let (mut storage, user) = (storage.clone(), next(&users, 1));
                Box::pin(async move { Ok(storage.push(PlainSync { user }).await?) })
            }
        }),
        system(&[Form::Enqueue], Contender::Graphile, 1, {
            let (utils, users) = (utils.clone(), users.clone());
            move || add(&utils, next(&users, 1))
        }),
        system(&[Form::Enqueue], Contender::Idem, 1, {
            let (queue, users) = (queue.clone(), users.clone());
            move || push(&queue, next(&users, 1), true)
        }),
        system(&[Form::EnqueueDuplicate], Contender::Graphile, 1, move || add(&utils, 1)),
        system(&[Form::EnqueueDuplicate], Contender::Idem, 1, {
            let queue = queue.clone();
            move || push(&queue, 1, false)
        }),
        system(&[Form::EnqueueHundred], Contender::Apalis, 100, {
            let users = users.clone();
            move || {
                let (mut storage, first) = (storage.clone(), next(&users, 100));
                Box::pin(async move {
                    let tasks = (first..first + 100).map(|user| PlainSync { user }).collect::<Vec<_>>();
                    let mut tasks = futures_util::stream::iter(tasks);
                    Ok(storage.push_stream(&mut tasks).await?)
                })
            }
        }),
        system(&[Form::EnqueueHundred], Contender::Idem, 100, move || {
            let (queue, first) = (queue.clone(), next(&users, 100));
            Box::pin(async move {
                let answers = queue.push_all((first..first + 100).map(|user| SyncUser { user })).await?;
                ensure!(
                    answers.iter().all(|answer| matches!(answer, Ok(Enqueued::New(_)))),
                    "not all are new"
                );
                Ok(())
            })
        }),
    ])
}

fn system(
    forms: &'static [Form],
    contender: Contender,
    tasks: usize,
    call: impl Fn() -> BoxFuture<'static, anyhow::Result<()>> + Send + Sync + 'static,
) -> System {
    System { forms, contender, tasks, call: Arc::new(call) }
}

fn next(users: &AtomicI64, count: i64) -> i64 {
    users.fetch_add(count, Ordering::Relaxed)
}

fn add(utils: &WorkerUtils, user: i64) -> BoxFuture<'static, anyhow::Result<()>> {
    let utils = utils.clone();
    Box::pin(async move {
        let spec = JobSpecBuilder::new().job_key(format!("sync {user}")).build();
        let added = utils.add_job(PlainSync { user }, spec).await;
        added.map(|_| ()).map_err(|error| anyhow::anyhow!("graphile_worker: {error:?}"))
    })
}

fn push(queue: &Queue<Postgres>, user: i64, is_new: bool) -> BoxFuture<'static, anyhow::Result<()>> {
    let queue = queue.clone();
    Box::pin(async move {
        let pushed = queue.push(SyncUser { user }).await?;
        ensure!(matches!(pushed, Enqueued::New(_)) == is_new, "user {user} is {pushed:?}");
        Ok(())
    })
}

/// Fills the queues: the first task by each system's own means, the others as copies of that.
async fn fill(
    pool: &PgPool,
    queue: &Queue<Postgres>,
    utils: &WorkerUtils,
    queued: i64,
) -> anyhow::Result<()> {
    push(queue, 1, true).await?;
    add(utils, 1).await?;
    let copies = [
        "INSERT INTO apalis.jobs (id, job_type, job, status, attempts, max_attempts, run_at, priority, metadata) \
         SELECT apalis.generate_ulid(), job_type, job, status, attempts, max_attempts, run_at, priority, metadata \
         FROM apalis.jobs, generate_series(2, $1)",
        "INSERT INTO idem_claims (key, job, task, since, readable) \
         SELECT md5(id)::uuid, c.job, id, now(), '' FROM apalis.jobs, idem_claims c \
         WHERE id <> c.task AND $1 > 0",
        "INSERT INTO graphile_worker._private_jobs (task_id, payload, key, priority, max_attempts) \
         SELECT task_id, payload, 'copy ' || n, priority, max_attempts \
         FROM graphile_worker._private_jobs, generate_series(2, $1) n",
    ];
    for sql in copies {
        sqlx::query(sql).bind(queued).execute(pool).await?;
    }
    for table in ["apalis.jobs", "idem_claims", "graphile_worker._private_jobs"] {
        sqlx::raw_sql(sqlx::AssertSqlSafe(format!("VACUUM ANALYZE {table}"))).execute(pool).await?;
    }
    Ok(())
}
