//! Jobs whose queue is in Redis while their records and claims are in a database: enqueued into the outbox, in the
//! caller's transaction, and sent by relays.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use apalis::prelude::*;
use apalis_redis::{Config, RedisStorage};
use idem_runtime::engine::apalis::{self as engine, Payload};
use idem_runtime::engine::{Engine, Enqueue, Enqueued, Queue};
use idem_runtime::prelude::*;
use idem_runtime::{StoreError, Task};
use idem_testkit::Lab;
use idem_testkit::lab::LabDatabase as _;
use idem_testkit::servers::Server;
use sqlx::{Sqlite, SqlitePool};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// How long anything may take that has to happen.
const LIMIT: Duration = Duration::from_secs(20);

/// What the bodies of jobs share with a test.
#[derive(Clone, Default, Provides)]
struct World {
    gate: Gate,
}

/// Holds bodies up until a test lets them go on, and counts them.
#[derive(Clone)]
struct Gate {
    begun: Arc<AtomicU64>,
    open: Arc<Semaphore>,
}

impl Default for Gate {
    fn default() -> Self {
        Gate { begun: Arc::default(), open: Arc::new(Semaphore::new(0)) }
    }
}

#[idempotent(key = user, unique = until_executed, retain = none, in_doubt = rerun)]
async fn sync_user(user: i64, #[state] gate: &Gate) -> Result<i64, Infallible> {
    gate.begun.fetch_add(1, Ordering::SeqCst);
    gate.open.acquire().await.expect("the gate is never closed").forget();
    Ok(user)
}

/// A job whose runs of one user exclude each other, while their keys differ.
#[idempotent(key = (user, version), unique = while_executing, unique_by = user, in_doubt = rerun)]
async fn export_user(user: i64, version: i64, #[state] gate: &Gate) -> Result<i64, Infallible> {
    gate.begun.fetch_add(1, Ordering::SeqCst);
    gate.open.acquire().await.expect("the gate is never closed").forget();
    let _ = user;
    Ok(version)
}

/// A job of which the newest revision of a page is the one that counts.
#[idempotent(key = (page, revision), unique = keep_latest, unique_by = page, in_doubt = rerun)]
async fn publish(page: i64, revision: i64, #[state] gate: &Gate) -> Result<i64, Infallible> {
    gate.begun.fetch_add(1, Ordering::SeqCst);
    gate.open.acquire().await.expect("the gate is never closed").forget();
    let _ = page;
    Ok(revision)
}

/// A job that cannot succeed.
#[idempotent(key = user, unique = until_executed, in_doubt = rerun)]
async fn fails(user: i64, panics: bool, #[state] gate: &Gate) -> Result<i64, std::fmt::Error> {
    gate.begun.fetch_add(1, Ordering::SeqCst);
    gate.open.acquire().await.expect("the gate is never closed").forget();
    assert!(!panics, "the body of {user} panics, as it was told");
    Err(std::fmt::Error)
}

struct Fixture {
    lab: Lab<Sqlite>,
    pool: SqlitePool,
    idem: Idem<Sqlite, World>,
    queue: Queue<Sqlite, World>,
    redis: RedisStorage<()>,
    /// Keeps the queues of a test apart from those of the others.
    prefix: String,
}

impl Fixture {
    /// `None` if there is no Redis and nobody asked for one.
    async fn new() -> Option<Fixture> {
        let Some(url) = Server::Redis.url() else {
            println!("skipped on {}: no server", Server::Redis);
            return None;
        };
        let lab = Sqlite::lab().await.expect("SQLite is always there");
        let pool = lab.pool(5);
        let idem = Idem::builder(pool.clone()).state(World::default()).build().unwrap();
        idem.migrate().await.unwrap();
        idem.enrol::<SyncUser>().await.unwrap();
        let queue = idem.queue(Engine::Outbox);
        let redis = RedisStorage::new(apalis_redis::connect(url).await.unwrap());
        let prefix = idem_runtime::engine::TaskId::new().unwrap().to_string();
        Some(Fixture { lab, pool, idem, queue, redis, prefix })
    }

    fn storage<J: Job>(&self) -> RedisStorage<Payload<J>> {
        let config = Config::default().queue(format!("{}:{}", self.prefix, J::SPEC.name));
        RedisStorage::new(self.redis.clone().get_connection().clone()).with_config(config)
    }

    /// Sends all tasks of the outbox; `dies` after it has sent one, before that is known here.
    async fn relay<J: Job>(&self, dies: bool) -> Result<u64, StoreError> {
        let storage = self.storage::<J>();
        self.idem
            .relay(async |task: &Task| {
                storage.clone().push_task(engine::task::<J>(task)?).await.expect("Redis takes tasks");
                match dies {
                    true => Err(StoreError::new(idem_runtime::StoreErrorKind::Unavailable, "the relay died")),
                    false => Ok(()),
                }
            })
            .await
    }

    fn worker<J>(&self, name: &str) -> JoinHandle<()>
    where
        J: idem_runtime::RunOn<Sqlite, World>,
        J::Error: std::error::Error + Send + Sync,
        J::Output: serde::Serialize + serde::de::DeserializeOwned + Sync + Clone,
    {
        let storage = self.storage::<J>().poll_with_strategy(engine::Every::new(engine::POLL));
        let name = format!("{}-{name}", self.prefix);
        let worker = WorkerBuilder::new(name).backend(storage).build(self.queue.handler::<J>());
        tokio::spawn(async move {
            worker.run().await.expect("the worker runs until it is dropped");
        })
    }

    fn gate(&self) -> &Gate {
        &self.idem.state().gate
    }

    async fn begun(&self, count: u64) {
        wait(async || self.gate().begun.load(Ordering::SeqCst) >= count).await;
    }
}

async fn wait(is_so: impl AsyncFn() -> bool) {
    let waited = tokio::time::timeout(LIMIT, async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    waited.await.expect("it is so in time");
}

#[tokio::test]
async fn a_task_of_redis_is_enqueued_with_the_callers_writes() {
    let Some(fixture) = Fixture::new().await else { return };
    let mut tx = fixture.pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
    let Enqueued::New(_) = fixture.queue.push_in(&mut tx, SyncUser { user: 1 }).await.unwrap() else {
        panic!()
    };
    tx.rollback().await.unwrap();
    assert_eq!(fixture.relay::<SyncUser>(false).await.unwrap(), 0, "a task that was rolled back is sent");

    let first = fixture.queue.push(SyncUser { user: 1 }).await.unwrap();
    let second = fixture.queue.push(SyncUser { user: 1 }).await.unwrap();
    assert!(matches!(second, Enqueued::Duplicate { of, .. } if Some(of) == first.task()), "{second:?}");
    assert_eq!(fixture.relay::<SyncUser>(false).await.unwrap(), 1);

    let worker = fixture.worker::<SyncUser>("one");
    fixture.begun(1).await;
    let during = fixture.queue.push(SyncUser { user: 1 }).await.unwrap();
    assert!(matches!(during, Enqueued::Duplicate { .. }), "{during:?}");
    fixture.gate().open.add_permits(1);
    // The handler ends the claim: no trigger reaches into Redis.
    wait(async || fixture.queue.holder(&SyncUser { user: 1 }).await.unwrap().is_none()).await;
    assert!(matches!(fixture.queue.push(SyncUser { user: 1 }).await.unwrap(), Enqueued::New(_)));
    assert_eq!(fixture.gate().begun.load(Ordering::SeqCst), 1);
    worker.abort();
    drop(fixture.lab);
}

#[tokio::test]
async fn a_relay_that_dies_sends_no_task_twice() {
    let Some(fixture) = Fixture::new().await else { return };
    fixture.queue.push(SyncUser { user: 1 }).await.unwrap().task().unwrap();
    for _ in 0..3 {
        fixture.relay::<SyncUser>(true).await.unwrap_err();
    }
    assert_eq!(fixture.relay::<SyncUser>(false).await.unwrap(), 1);
    fixture.gate().open.add_permits(10);
    let worker = fixture.worker::<SyncUser>("one");
    fixture.begun(1).await;
    // Whatever else was sent stands in the queue before this one.
    let last = fixture.queue.push(SyncUser { user: 2 }).await.unwrap();
    assert!(matches!(last, Enqueued::New(_)), "{last:?}");
    fixture.relay::<SyncUser>(false).await.unwrap();
    fixture.begun(2).await;
    wait(async || fixture.queue.holder(&SyncUser { user: 2 }).await.unwrap().is_none()).await;
    assert_eq!(fixture.gate().begun.load(Ordering::SeqCst), 2);
    worker.abort();
}

#[tokio::test]
async fn a_task_that_has_to_wait_is_enqueued_again() {
    let Some(fixture) = Fixture::new().await else { return };
    fixture.idem.enrol::<ExportUser>().await.unwrap();
    for version in [1, 2] {
        let task = Enqueue::new(ExportUser { user: 1, version }).attempts(3);
        let pushed = fixture.queue.push(task).await.unwrap();
        assert!(matches!(pushed, Enqueued::New(_)), "{pushed:?}");
    }
    assert_eq!(fixture.relay::<ExportUser>(false).await.unwrap(), 2);
    let worker = fixture.worker::<ExportUser>("one");
    fixture.begun(1).await;
    // The other one is back in the outbox, for later.
    let waiting = async || {
        let waiting: i64 = sqlx::query_scalar("SELECT count(*) FROM idem_outbox WHERE due IS NOT NULL")
            .fetch_one(&fixture.pool)
            .await
            .unwrap();
        waiting == 1
    };
    wait(waiting).await;
    assert_eq!(fixture.gate().begun.load(Ordering::SeqCst), 1);
    let attempts: i64 =
        sqlx::query_scalar("SELECT attempts FROM idem_outbox").fetch_one(&fixture.pool).await.unwrap();
    assert_eq!(attempts, 3, "it may be tried as often as before");
    fixture.gate().open.add_permits(2);
    wait(async || {
        fixture.relay::<ExportUser>(false).await.unwrap();
        fixture.gate().begun.load(Ordering::SeqCst) == 2
    })
    .await;
    worker.abort();
}

#[tokio::test]
async fn a_task_of_redis_that_a_newer_one_has_overtaken_does_not_begin() {
    let Some(fixture) = Fixture::new().await else { return };
    fixture.idem.enrol::<Publish>().await.unwrap();
    fixture.gate().open.add_permits(3);
    for revision in [1, 2] {
        let pushed = fixture.queue.push(Publish { page: 1, revision }).await.unwrap();
        assert!(matches!(pushed, Enqueued::New(_)), "{pushed:?}");
        // It is in Redis now, where its arguments can be replaced no more.
        assert_eq!(fixture.relay::<Publish>(false).await.unwrap(), 1);
    }
    let worker = fixture.worker::<Publish>("one");
    let count =
        async |sql: &'static str| -> i64 { sqlx::query_scalar(sql).fetch_one(&fixture.pool).await.unwrap() };
    // If it meets the older one, the newer one waits in the outbox for a moment.
    wait(async || {
        fixture.relay::<Publish>(false).await.unwrap();
        count("SELECT count(*) FROM idem_claims").await == 0
    })
    .await;
    // Runs exclude each other by the page, with a row that may be there for a moment more.
    let done = "SELECT readable FROM idem_records WHERE readable NOT LIKE '%(while executing)'";
    let done: Vec<String> = sqlx::query_scalar(done).fetch_all(&fixture.pool).await.unwrap();
    assert_eq!(done, ["1, 2"]);
    assert_eq!(count("SELECT count(*) FROM idem_outbox").await, 0, "nothing is enqueued again");
    assert_eq!(fixture.gate().begun.load(Ordering::SeqCst), 1);
    worker.abort();
}

/// A task of Redis is given up after as many attempts as it may have, and its claim ends then.
async fn check_limit(panics: bool) {
    let Some(fixture) = Fixture::new().await else { return };
    fixture.idem.enrol::<Fails>().await.unwrap();
    let job = || Fails { user: 1, panics };
    let pushed = fixture.queue.push(Enqueue::new(job()).attempts(2)).await.unwrap();
    let Enqueued::New(task) = pushed else { panic!("{pushed:?}") };
    assert_eq!(fixture.relay::<Fails>(false).await.unwrap(), 1);
    let worker = fixture.worker::<Fails>("one");
    fixture.begun(1).await;
    fixture.gate().open.add_permits(1);
    // The first attempt has failed, and the second is held up.
    fixture.begun(2).await;
    let holder = fixture.queue.holder(&job()).await.unwrap().map(|holder| holder.task);
    assert_eq!(holder, Some(task), "it is tried again");
    fixture.gate().open.add_permits(1);
    wait(async || fixture.queue.holder(&job()).await.unwrap().is_none()).await;
    // One that is to be tried again has failed.
    wait(async || {
        let found =
            fixture.storage::<Fails>().fetch_by_id(&task.into()).await.expect("Redis knows its tasks");
        found.is_some_and(|task| task.status() == Status::Killed)
    })
    .await;
    assert_eq!(fixture.gate().begun.load(Ordering::SeqCst), 2);
    worker.abort();
}

#[tokio::test]
async fn a_task_of_redis_is_tried_as_often_as_it_may_be() {
    check_limit(false).await;
}

#[tokio::test]
async fn a_task_of_redis_that_panics_is_tried_as_often_as_it_may_be() {
    check_limit(true).await;
}
