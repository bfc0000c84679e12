//! A database with the tables of apalis and of idem, the queue in it, and workers.

use std::time::Duration;

use apalis::prelude::*;
use idem_runtime::Idem;
use idem_runtime::RunOn;
use idem_runtime::engine::apalis::{Every, POLL, Payload};
use idem_runtime::engine::{Engine, Enqueued, IntoEnqueue, Queue, TaskId};
use sqlx::AssertSqlSafe;
use tokio::task::JoinHandle;

use super::{Config, Db, MAY_BEGIN, NOW, Place, Storage, TASKS, WORKERS, read};
use crate::desk::{Desk, LIMIT};

pub(crate) struct World {
    pub(crate) desk: Desk,
    pub(crate) queue: Queue<Db, Desk>,
    pub(crate) idem: Idem<Db, Desk>,
    pub(crate) pool: sqlx::Pool<Db>,
    pub(crate) place: Place,
}

pub(crate) type RawRow = (String, String, i64, i64, Option<String>, Vec<u8>, Option<String>, i64);

/// A task, as apalis has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) id: TaskId,
    pub(crate) status: String,
    pub(crate) attempts: i64,
    pub(crate) max_attempts: i64,
    pub(crate) lock_by: Option<String>,
    pub(crate) job: Vec<u8>,
    pub(crate) last_result: String,
    /// Seconds until its time comes.
    pub(crate) due_in: i64,
}

impl From<RawRow> for Row {
    fn from(row: RawRow) -> Self {
        let (id, status, attempts, max_attempts, lock_by, job, last_result, due_in) = row;
        let (id, last_result) = (id.parse().unwrap(), last_result.unwrap_or_default());
        Row { id, status, attempts, max_attempts, lock_by, job, last_result, due_in }
    }
}

/// A worker of apalis that runs. Dropping it ends it where it stands, as if its process had died.
pub(crate) struct Running(pub(crate) JoinHandle<Result<(), WorkerError>>);

impl Running {
    /// Ends it where it stands.
    pub(crate) async fn kill(mut self) {
        self.0.abort();
        let ended = (&mut self.0).await;
        assert!(ended.is_err(), "the worker had ended before: {ended:?}");
    }

    pub(crate) fn is_over(&self) -> bool {
        self.0.is_finished()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What a job must be for a worker.
pub(crate) trait Runs:
    RunOn<Db, Desk, Output = i64, Error: std::error::Error + Send + Sync> + 'static
{
}
impl<J: RunOn<Db, Desk, Output = i64, Error: std::error::Error + Send + Sync> + 'static> Runs for J {}

impl World {
    /// Makes a world where everything is prepared.
    pub(crate) async fn new() -> Option<World> {
        let place = Place::empty().await?;
        place.set_up_apalis().await;
        let world = World::on(place).await;
        world.idem.migrate().await.unwrap();
        world.queue.set_up().await.unwrap();
        Some(world)
    }

    /// Makes a world where nothing is prepared.
    pub(crate) async fn on(place: Place) -> World {
        let pool = place.pool(8);
        let desk = Desk::default();
        let idem = Idem::builder(pool.clone()).state(desk.clone()).build().unwrap();
        let queue = idem.queue(Engine::Apalis).backoff(|_| Duration::ZERO);
        World { desk, queue, idem, pool, place }
    }

    /// Returns how apalis stores tasks of a job.
    pub(crate) fn storage<J: Runs>(&self, config: Config) -> Storage<Payload<J>> {
        Storage::new(&self.pool).with_config(config)
    }

    /// Starts a worker that does one task at a time.
    pub(crate) fn work<J: Runs>(&self, name: &str) -> Running {
        self.work_on::<J>(name, 1, config::<J>())
    }

    /// Starts a worker that does several tasks at a time.
    pub(crate) fn work_many<J: Runs>(&self, name: &str) -> Running {
        self.work_on::<J>(name, 100, config::<J>())
    }

    pub(crate) fn work_on<J: Runs>(&self, name: &str, at_once: usize, config: Config) -> Running {
        let storage = self.storage::<J>(config).poll_with_strategy(Every::new(POLL));
        let worker =
            WorkerBuilder::new(name).backend(storage).concurrency(at_once).build(self.queue.handler::<J>());
        Running(tokio::spawn(worker.run()))
    }

    /// Enqueues a job that nothing stands in the way of.
    pub(crate) async fn push(&self, job: impl IntoEnqueue<Job: Runs>) -> TaskId {
        match self.queue.push(job).await.unwrap() {
            Enqueued::New(id) => id,
            other => panic!("it is not enqueued: {other:?}"),
        }
    }

    /// Enqueues a job that is a duplicate; returns of which task.
    pub(crate) async fn push_duplicate(&self, job: impl IntoEnqueue<Job: Runs>) -> TaskId {
        match self.queue.push(job).await.unwrap() {
            Enqueued::Duplicate { of, since } => {
                assert!(since < LIMIT, "{since:?}");
                of
            }
            other => panic!("it is no duplicate: {other:?}"),
        }
    }

    /// Reads all tasks, on a connection of its own.
    pub(crate) async fn tasks(&self) -> Vec<Row> {
        read(&mut self.place.connect().await, "TRUE").await
    }

    /// Reads a task, on a connection of its own.
    pub(crate) async fn task(&self, id: TaskId) -> Row {
        let mut rows = read(&mut self.place.connect().await, &format!("id = '{id}'")).await;
        rows.pop().unwrap_or_else(|| panic!("there is no task {id}"))
    }

    /// Waits until a task is so.
    pub(crate) async fn until(&self, id: TaskId, is_so: impl Fn(&Row) -> bool) -> Row {
        self.until_any(|row| row.id == id && is_so(row)).await
    }

    /// Waits until any task is so.
    pub(crate) async fn until_any(&self, is_so: impl Fn(&Row) -> bool) -> Row {
        let mut connection = self.place.connect().await;
        let started = tokio::time::Instant::now();
        loop {
            let rows = read(&mut connection, "TRUE").await;
            if let Some(row) = rows.iter().find(|row| is_so(row)) {
                return row.clone();
            }
            assert!(started.elapsed() < LIMIT, "{rows:?}, {:?}", self.desk.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until a task has this status.
    pub(crate) async fn until_status(&self, id: TaskId, status: &str) -> Row {
        self.until(id, |row| row.status == status).await
    }

    /// Reads which tasks have claims.
    pub(crate) async fn claims(&self) -> Vec<TaskId> {
        let sql = "SELECT task FROM idem_claims WHERE readable NOT LIKE '%(began)' \
                   AND readable NOT LIKE '%(superseded)' ORDER BY task";
        let rows: Vec<(String,)> =
            sqlx::query_as(sql).fetch_all(&mut self.place.connect().await).await.unwrap();
        rows.into_iter().map(|(task,)| task.parse().unwrap()).collect()
    }

    /// Counts all that is kept of claims, and beside them.
    pub(crate) async fn claim_rows(&self) -> i64 {
        let count = sqlx::query_scalar("SELECT count(*) FROM idem_claims");
        count.fetch_one(&mut self.place.connect().await).await.unwrap()
    }

    /// Waits until exactly these tasks have claims.
    pub(crate) async fn until_claims(&self, expected: &[TaskId]) {
        let started = tokio::time::Instant::now();
        loop {
            let claims = self.claims().await;
            if claims == expected {
                return;
            }
            assert!(started.elapsed() < LIMIT, "{claims:?} instead of {expected:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Runs SQL on a connection of its own; returns how many rows it changed.
    pub(crate) async fn sql(&self, sql: impl Into<String>) -> u64 {
        let done = sqlx::raw_sql(AssertSqlSafe(sql.into())).execute(&mut self.place.connect().await).await;
        done.unwrap().rows_affected()
    }

    /// Takes a task into the hands of a worker that does not run, as apalis does it.
    pub(crate) async fn take(&self, task: TaskId, worker: &str) {
        let worker_is_there = format!(
            "INSERT INTO {WORKERS} (id, worker_type, storage_name, layers, last_seen) \
             VALUES ('{worker}', 'any', 'Storage', '', {NOW}) ON CONFLICT DO NOTHING"
        );
        self.sql(worker_is_there).await;
        let sql = format!(
            "UPDATE {TASKS} SET status = 'Queued', lock_by = '{worker}', lock_at = {NOW} WHERE id = '{task}' \
             AND (status = 'Pending' OR status = 'Failed' AND attempts < max_attempts)"
        );
        assert_eq!(self.sql(sql).await, 1, "task {task} can be taken");
    }

    /// Says that a task which a worker has in its hands has begun, as apalis does it, some time after it began.
    pub(crate) async fn say_begun(&self, task: TaskId, worker: &str) -> u64 {
        self.sql(format!(
            "UPDATE {TASKS} SET status = 'Running', lock_at = {NOW}, lock_by = '{worker}' WHERE id = '{task}' \
             AND {MAY_BEGIN} \
             AND (status IN ('Queued', 'Pending') OR status = 'Failed' AND attempts < max_attempts)"
        ))
        .await
    }

    /// Says how a task ended, as apalis does it; returns whether it was still the worker's.
    pub(crate) async fn say_ended(&self, task: TaskId, worker: &str, status: &str) -> bool {
        let sql = format!(
            "UPDATE {TASKS} SET status = '{status}', attempts = attempts + 1, done_at = {NOW} WHERE id = '{task}' \
             AND lock_by = '{worker}'"
        );
        self.sql(sql).await == 1
    }

    /// Puts the tasks of a worker back that has not been heard of, as apalis does it.
    pub(crate) async fn rescue(&self, worker: &str) -> u64 {
        self.rescue_where(&format!("lock_by = '{worker}'")).await
    }

    /// Puts one task back, in the same way.
    pub(crate) async fn rescue_one(&self, task: TaskId) -> u64 {
        self.rescue_where(&format!("id = '{task}'")).await
    }

    async fn rescue_where(&self, so: &str) -> u64 {
        self.sql(format!(
            "UPDATE {TASKS} SET status = 'Pending', done_at = NULL, lock_by = NULL, lock_at = NULL, \
             attempts = attempts + 1 WHERE {so} AND status IN ('Queued', 'Running')"
        ))
        .await
    }
}

/// Returns the settings of a worker of this job.
pub(crate) fn config<J: Runs>() -> Config {
    Config::default().queue(J::SPEC.name)
}
