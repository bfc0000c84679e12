//! What it costs to enqueue a task of which there is only one: idem on apalis, beside apalis alone and beside
//! graphile_worker's `job_key`, on PostgreSQL, in one process.
//!
//! Every round runs every system for a moment, one after the other; a ratio is taken inside a round, and the median over
//! the rounds is printed. The queues are filled first, since the cost must not grow with them.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use apalis_core::backend::TaskSink as _;
use apalis_postgres::{Config, PostgresStorage};
use clap::Parser;
use futures_util::future::BoxFuture;
use graphile_worker::{
    IntoTaskHandlerResult, JobSpecBuilder, TaskHandler, WorkerContext, WorkerOptions, WorkerUtils,
};
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
    queued: Vec<i64>,
    /// The numbers of callers at once
    #[arg(long, value_delimiter = ',', default_value = "1,8")]
    concurrency: Vec<usize>,
    /// How many rounds to run; medians are taken over them
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How long one system runs in a round, in milliseconds
    #[arg(long, default_value_t = 700)]
    millis: u64,
    /// Print the report as JSON
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
struct System {
    name: &'static str,
    /// How many tasks one call is about.
    tasks: usize,
    call: Box<dyn Fn() -> BoxFuture<'static, anyhow::Result<()>> + Send + Sync>,
}

/// One line of the report.
#[derive(Debug, Serialize)]
struct Row {
    system: &'static str,
    queued: i64,
    callers: usize,
    tasks_per_second: f64,
    /// Beside apalis without uniqueness, of the same number of tasks a call.
    ratio: f64,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    ensure!(options.rounds > 0 && options.millis > 0, "--rounds and --millis must be above 0");
    let mut rows = Vec::new();
    for queued in &options.queued {
        let pool = database(&format!("idem_bench_{queued}")).await?;
        let systems = Arc::new(set_up(&pool, *queued).await?);
        for callers in &options.concurrency {
            let mut rates = vec![Vec::new(); systems.len()];
            for _ in 0..options.rounds {
                for (system, rates) in systems.iter().zip(&mut rates) {
                    rates.push(measure(system, *callers, Duration::from_millis(options.millis)).await?);
                }
            }
            for (system, own) in systems.iter().zip(&rates) {
                let base =
                    systems.iter().position(|base| base.tasks == system.tasks).expect("apalis is the first");
                let ratio = median(own.iter().zip(&rates[base]).map(|(own, base)| own / base));
                let tasks_per_second = median(own.iter().copied());
                rows.push(Row {
                    system: system.name,
                    queued: *queued,
                    callers: *callers,
                    tasks_per_second,
                    ratio,
                });
            }
        }
    }
    if options.json {
        println!("{}", serde_json::to_string_pretty(&rows)?);
        return Ok(());
    }
    println!("{:>9} {:>8} {:>12} {:>7}  system", "queued", "callers", "tasks/s", "ratio");
    for Row { system, queued, callers, tasks_per_second, ratio } in rows {
        println!("{queued:>9} {callers:>8} {tasks_per_second:>12.0} {ratio:>7.2}  {system}");
    }
    Ok(())
}

/// Makes a database of its own: the schema of apalis has a name that cannot be changed.
async fn database(name: &str) -> anyhow::Result<PgPool> {
    let url = std::env::var("IDEM_TEST_POSTGRES")
        .context("IDEM_TEST_POSTGRES is not set: run scripts/bench queue")?;
    let server: PgConnectOptions = url.parse()?;
    let mut connection = server.clone().connect().await?;
    for sql in [format!("DROP DATABASE IF EXISTS {name}"), format!("CREATE DATABASE {name}")] {
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await?;
    }
    Ok(PgPoolOptions::new().max_connections(16).connect_with(server.database(name)).await?)
}

async fn set_up(pool: &PgPool, queued: i64) -> anyhow::Result<Vec<System>> {
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
    fill(pool, &queue, &utils, queued).await?;

    let storage = PostgresStorage::<PlainSync>::new(pool).with_config(Config::default().queue("plain"));
    let users = Arc::new(AtomicI64::new(1 << 40));
    Ok(vec![
        system("apalis alone, new", 1, {
            let (storage, users) = (storage.clone(), users.clone());
            move || {
                let (mut storage, user) = (storage.clone(), next(&users, 1));
                Box::pin(async move { Ok(storage.push(PlainSync { user }).await?) })
            }
        }),
        system("graphile_worker with job_key, new", 1, {
            let (utils, users) = (utils.clone(), users.clone());
            move || add(&utils, next(&users, 1))
        }),
        system("idem on apalis, unique, new", 1, {
            let (queue, users) = (queue.clone(), users.clone());
            move || push(&queue, next(&users, 1), true)
        }),
        system("graphile_worker with job_key, duplicate", 1, move || add(&utils, 1)),
        system("idem on apalis, unique, duplicate", 1, {
            let queue = queue.clone();
            move || push(&queue, 1, false)
        }),
        system("apalis alone, 100 new at once", 100, {
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
        system("idem on apalis, unique, 100 new at once", 100, move || {
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
    name: &'static str,
    tasks: usize,
    call: impl Fn() -> BoxFuture<'static, anyhow::Result<()>> + Send + Sync + 'static,
) -> System {
    System { name, tasks, call: Box::new(call) }
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

/// Calls a system with all callers at once for a while, and returns how many tasks it takes in a second.
async fn measure(system: &System, callers: usize, duration: Duration) -> anyhow::Result<f64> {
    let started = Instant::now();
    let until = started + duration;
    let calls = (0..callers).map(|_| async move {
        let mut calls = 0_usize;
        while Instant::now() < until {
            (system.call)().await?;
            calls += 1;
        }
        anyhow::Ok(calls)
    });
    let calls: usize = futures_util::future::try_join_all(calls).await?.into_iter().sum();
    Ok((calls * system.tasks) as f64 / started.elapsed().as_secs_f64())
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
