//! apalis on PostgreSQL, whose tables have a schema of a fixed name: each test has a database of its own.

use std::time::Duration;

use apalis_postgres::{Config as Settings, PostgresStorage};
use idem_runtime::engine::{Engine, Enqueued, Queue, TaskId};
use idem_runtime::key::{Key, KeyParts};
use idem_runtime::record::{self, Moment};
use idem_runtime::store::{Attempt, UniqueClaim};
use idem_runtime::{Idem, StoreError};
use idem_testkit::lab::LabDatabase as _;
use idem_testkit::proxy::{Loss, Proxy};
use idem_testkit::servers::Server;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _};

use crate::desk::{Desk, What};
use crate::jobs::{Latest, OneEach, UntilEnd, UntilEndOrLater, UntilEndOrReplace, UntilStart};

pub(crate) type Db = sqlx::Postgres;
pub(crate) type Storage<T> = PostgresStorage<T>;
pub(crate) type Config = Settings;

/// The table of tasks.
pub(crate) const TASKS: &str = "apalis.jobs";
/// The table of workers.
pub(crate) const WORKERS: &str = "apalis.workers";
/// Now, as apalis writes it.
pub(crate) const NOW: &str = "now()";
/// An hour ago, as apalis writes it.
pub(crate) const AN_HOUR_AGO: &str = "now() - interval '1 hour'";
/// In an hour, as apalis writes it.
pub(crate) const IN_AN_HOUR: &str = "now() + interval '1 hour'";
/// How apalis is told to prepare its tables.
pub(crate) const SETUP: &str = "PostgresStorage::setup";

/// A database, and what removes it.
pub(crate) struct Place {
    server: PgConnectOptions,
    name: String,
}

impl Place {
    /// Makes an empty database, if there is a server.
    pub(crate) async fn empty() -> Option<Self> {
        // Says so where there is none, and fails where one was asked for.
        drop(Db::lab().await?);
        let url = Server::Postgres.url().expect("a lab was there");
        let server: PgConnectOptions = url.parse().unwrap();
        let mut admin = server.connect().await.unwrap();
        let name = format!("idem_apalis_{}", TaskId::new().unwrap()).to_lowercase();
        let make = format!("CREATE DATABASE {name}");
        sqlx::raw_sql(AssertSqlSafe(make)).execute(&mut admin).await.unwrap();
        admin.close().await.unwrap();
        Some(Place { server, name })
    }

    pub(crate) fn pool(&self, connections: u32) -> sqlx::Pool<Db> {
        let options = self.server.clone().database(&self.name);
        sqlx::pool::PoolOptions::new().max_connections(connections).connect_lazy_with(options)
    }

    pub(crate) async fn connect(&self) -> sqlx::PgConnection {
        self.server.clone().database(&self.name).connect().await.unwrap()
    }

    pub(crate) async fn set_up_apalis(&self) {
        PostgresStorage::setup(&self.pool(1)).await.unwrap();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let (server, name) = (self.server.clone(), self.name.clone());
        let removed = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let mut admin = server.connect().await?;
                let remove = format!("DROP DATABASE {name} WITH (FORCE)");
                sqlx::raw_sql(AssertSqlSafe(remove)).execute(&mut admin).await?;
                admin.close().await
            })
        });
        if let Ok(Err(error)) = removed.join() {
            eprintln!("left behind: the database {}: {error}", self.name);
        }
    }
}

/// Reads rows of apalis's table of tasks.
pub(crate) async fn read(c: &mut sqlx::PgConnection, condition: &str) -> Vec<Row> {
    let sql = format!(
        "SELECT id, status, attempts::bigint, max_attempts::bigint, lock_by, job, last_result::text, \
         extract(epoch FROM run_at - clock_timestamp())::bigint FROM apalis.jobs WHERE {condition} ORDER BY id"
    );
    let rows: Vec<RawRow> = sqlx::query_as(AssertSqlSafe(sql)).fetch_all(c).await.unwrap();
    rows.into_iter().map(Row::from).collect()
}

#[path = "claims.rs"]
mod claims;
#[path = "hands.rs"]
mod hands;
#[path = "modes.rs"]
mod modes;
#[path = "relay.rs"]
mod relay;
#[path = "setup.rs"]
mod setup;
#[path = "workers.rs"]
mod workers;
#[path = "world.rs"]
mod world;

pub(crate) use world::{RawRow, Row};
use world::{Runs, World};

/// Lets the time of all claims for a time be over.
pub(crate) const EXPIRE_CLAIMS: &str =
    "UPDATE idem_claims SET expires_at = expires_at - interval '1 hour' WHERE expires_at IS NOT NULL";

/// Makes the worker that puts a task back take it again at once, whenever it is due.
pub(crate) const TAKES_AGAIN: &str = "CREATE FUNCTION takes_again() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
     NEW.status := 'Queued'; NEW.lock_by := OLD.lock_by; NEW.lock_at := OLD.lock_at; \
     NEW.run_at := now() + interval '1 hour'; RETURN NEW; END $$; \
     CREATE TRIGGER takes_again BEFORE UPDATE OF status ON apalis.jobs FOR EACH ROW \
     WHEN (NEW.status = 'Pending' AND OLD.lock_by IS NOT NULL) EXECUTE FUNCTION takes_again()";

/// Ends that.
pub(crate) const TAKES_NO_MORE: &str = "DROP TRIGGER takes_again ON apalis.jobs";

/// Waits until a push waits for another transaction.
pub(crate) async fn wait_for_a_push(place: &Place) {
    let mut connection = place.connect().await;
    let started = tokio::time::Instant::now();
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    while sqlx::query_scalar::<_, i64>(sql).fetch_one(&mut connection).await.unwrap() == 0 {
        assert!(started.elapsed() < crate::desk::LIMIT, "nobody waits");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Checks that the task which has the claim of `job` starts only after the transaction of a caller who was told of it.
async fn check_is_held_back<J: Runs>(first: J, second: J, id: i64) {
    let Some(world) = World::new().await else { return };
    let task = world.push(first).await;
    let mut connection = world.place.connect().await;
    let mut tx = connection.begin().await.unwrap();
    let answer = world.queue.push_in(&mut tx, second).await.unwrap();
    assert!(matches!(answer, Enqueued::Duplicate { of, .. } if of == task), "{answer:?}");
    let worker = world.work::<J>("w1");
    wait_for_a_push(&world.place).await;
    assert_eq!(world.desk.count(What::Began, id), 0);
    tx.commit().await.unwrap();
    world.until_status(task, "Done").await;
    drop(worker);
}

#[tokio::test]
async fn a_task_that_is_unique_until_it_starts_waits_for_the_callers_that_were_told_of_it() {
    check_is_held_back(UntilStart { id: 1, note: 1 }, UntilStart { id: 1, note: 2 }, 1).await;
    check_is_held_back(OneEach { id: 2, note: 1 }, OneEach { id: 2, note: 2 }, 2).await;
}

/// Gives new arguments to tasks that wait.
fn replacing(ids: [i64; 2], note: i64) -> [UntilEndOrReplace; 2] {
    ids.map(|id| UntilEndOrReplace { id, note })
}

#[tokio::test]
async fn callers_that_replace_the_same_tasks_in_any_order_do_not_wait_for_each_other() {
    let Some(world) = World::new().await else { return };
    for job in replacing([1, 2], 0) {
        world.push(job).await;
    }
    let mut n = 0;
    for _ in 0..500 {
        let mut connection = world.place.connect().await;
        let mut tx = connection.begin().await.unwrap();
        let mut push = Box::pin(world.queue.push_all_in(&mut tx, replacing([1, 2], 1)));
        let ended = relay::drop_at(&mut push, n).await;
        // The first one stands still there while the second one goes as far as it can.
        let (queue, mut second) = (world.queue.clone(), world.place.connect().await);
        let mut other = tokio::spawn(async move {
            let mut tx = second.begin().await.unwrap();
            let answers = queue.push_all_in(&mut tx, replacing([2, 1], 2)).await.unwrap();
            tx.commit().await.unwrap();
            answers
        });
        let second = tokio::select! {
            answers = &mut other => Some(answers.unwrap()),
            () = wait_for_a_push(&world.place) => None,
        };
        let was_there = ended.is_none();
        let first = match ended {
            Some(answers) => answers.unwrap(),
            None => push.as_mut().await.unwrap(),
        };
        drop(push);
        tx.commit().await.unwrap();
        let second = match second {
            Some(answers) => answers,
            None => other.await.unwrap(),
        };
        for answer in first.into_iter().chain(second) {
            assert!(matches!(answer, Ok(Enqueued::Replaced(_))), "at await {n}: {answer:?}");
        }
        match was_there {
            true => n += 1,
            false if n > 1 => return,
            // The answers were there before they were read, and nothing waited.
            false => {}
        }
    }
    panic!("it never ends, or never stands still");
}

/// Makes a queue behind a proxy, on a connection that has been used.
async fn behind_a_proxy(world: &World, engine: Engine) -> (Proxy, Queue<Db, Desk>) {
    let options = world.place.server.clone().database(&world.place.name);
    let (proxy, options) = Db::proxy(&options, Duration::ZERO).await.expect("there is a server");
    let pool = sqlx::pool::PoolOptions::new().max_connections(3).connect_lazy_with(options);
    let idem = Idem::builder(pool).state(world.desk.clone()).build().unwrap();
    let queue = idem.queue(engine);
    let _ = queue.push(UntilEnd { id: 1, note: 1 }).await.unwrap();
    (proxy, queue)
}

/// Pushes a job and loses a message of it.
async fn push_and_lose(proxy: &Proxy, queue: &Queue<Db, Desk>, loss: Loss, id: i64) -> TaskId {
    proxy.lose(loss, "EXECUTE idem_push");
    let pushed = queue.push(UntilEnd { id, note: 1 }).await.unwrap();
    assert!(!proxy.is_loss_pending(), "the connection did not break");
    let Enqueued::New(task) = pushed else { panic!("{pushed:?}") };
    task
}

#[tokio::test]
async fn a_push_that_is_sent_twice_takes_no_claim_for_a_task_that_is_done() {
    let Some(world) = World::new().await else { return };
    let (proxy, queue) = behind_a_proxy(&world, Engine::Apalis).await;
    for (id, loss) in [(2, Loss::Request), (3, Loss::Answer)] {
        let task = push_and_lose(&proxy, &queue, loss, id).await;
        assert_eq!(world.task(task).await.status, "Pending");
        assert_eq!(world.push_duplicate(UntilEnd { id, note: 2 }).await, task);
    }
    // The worker is as fast as can be: what is enqueued is done.
    world
        .sql(
            "CREATE FUNCTION work() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
             UPDATE apalis.jobs SET status = 'Done' WHERE id = NEW.id; RETURN NULL; END $$; \
             CREATE TRIGGER work AFTER INSERT ON apalis.jobs FOR EACH ROW EXECUTE FUNCTION work()",
        )
        .await;
    let task = push_and_lose(&proxy, &queue, Loss::Answer, 4).await;
    assert_eq!(world.task(task).await.status, "Done");
    assert_eq!(queue.holder(&UntilEnd { id: 4, note: 1 }).await.unwrap(), None);
}

#[tokio::test]
async fn a_push_to_the_outbox_whose_task_may_have_left_it_is_made_under_a_new_id() {
    let Some(world) = World::new().await else { return };
    let (proxy, queue) = behind_a_proxy(&world, Engine::Outbox).await;
    let count = |task| {
        format!("DO $$ BEGIN ASSERT (SELECT count(*) FROM idem_outbox WHERE task = '{task}') = 1; END $$")
    };
    for (id, loss) in [(2, Loss::Request), (3, Loss::Answer)] {
        let task = push_and_lose(&proxy, &queue, loss, id).await;
        world.sql(count(task)).await;
        assert_eq!(world.push_duplicate(UntilEnd { id, note: 2 }).await, task);
    }
    // The first that comes is delivered, done and out of the engine's hands at once. Under its id the engine takes none.
    world
        .sql(
            "CREATE TABLE done (task text); CREATE FUNCTION work() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
             IF NOT EXISTS (SELECT 1 FROM done) THEN INSERT INTO done VALUES (NEW.task); \
             DELETE FROM idem_claims WHERE task = NEW.task; DELETE FROM idem_outbox WHERE task = NEW.task; END IF; \
             RETURN NULL; END $$; \
             CREATE TRIGGER work AFTER INSERT ON idem_outbox FOR EACH ROW EXECUTE FUNCTION work()",
        )
        .await;
    let task = push_and_lose(&proxy, &queue, Loss::Answer, 4).await;
    let done: String = sqlx::query_scalar("SELECT task FROM done")
        .fetch_one(&mut world.place.connect().await)
        .await
        .unwrap();
    assert_ne!(done, task.to_string());
    world.sql(count(task)).await;
    assert_eq!(world.push_duplicate(UntilEnd { id: 4, note: 2 }).await, task);
}

/// Writes bytes, given in hexadecimal.
pub(crate) fn bytes(hex: &str) -> String {
    format!("'\\x{hex}'::bytea")
}

/// What apalis asks of a task before it says that it has begun.
pub(crate) const MAY_BEGIN: &str = "run_at < now()";

/// Reads the tasks in the order in which they came.
pub(crate) const IN_ORDER: &str = "SELECT id FROM apalis.jobs ORDER BY run_at";

/// What an older version of idem has made of the triggers.
pub(crate) const OLDER_TRIGGERS: &str = "DO $$ DECLARE name text; BEGIN \
     FOR name IN SELECT tgname FROM pg_trigger WHERE tgrelid = 'apalis.jobs'::regclass AND tgname LIKE 'idem%' \
     LOOP EXECUTE format('DROP TRIGGER %I ON apalis.jobs', name); END LOOP; END $$; \
     CREATE TRIGGER idem_task_ended AFTER UPDATE OF status ON apalis.jobs FOR EACH ROW \
     WHEN (NEW.status = 'Done') EXECUTE FUNCTION idem_release_claim(); \
     CREATE TRIGGER idem_task_deleted AFTER DELETE ON apalis.jobs FOR EACH ROW EXECUTE FUNCTION idem_release_claim(); \
     CREATE TRIGGER idem_task_put_back BEFORE UPDATE OF status ON apalis.jobs FOR EACH ROW \
     WHEN (FALSE) EXECUTE FUNCTION idem_keep_put_back()";

/// Counts the triggers of idem.
pub(crate) const TRIGGERS: &str =
    "SELECT count(*) FROM pg_trigger WHERE tgrelid = 'apalis.jobs'::regclass AND tgname LIKE 'idem%'";

/// Two applications with tables of their own, by `schema(...)` or by the path of their connections, have one apalis.
#[tokio::test]
async fn the_claims_of_each_schema_end_with_their_tasks() {
    use idem_runtime::Idem;
    use idem_runtime::engine::{Engine, Enqueued};

    let Some(place) = Place::empty().await else { return };
    place.set_up_apalis().await;
    let mut connection = place.connect().await;
    let schemas = "CREATE SCHEMA one; CREATE SCHEMA two; CREATE SCHEMA three";
    sqlx::raw_sql(schemas).execute(&mut connection).await.unwrap();
    let by_path = place.server.clone().database(&place.name).options([("search_path", "three,public")]);
    let by_path = sqlx::pool::PoolOptions::new().max_connections(4).connect_lazy_with(by_path);
    let builders = [
        Idem::builder(place.pool(4)).schema("one").namespace("one"),
        Idem::builder(place.pool(4)).schema("two").namespace("two"),
        Idem::builder(by_path).namespace("three"),
    ];
    let mut apps = Vec::new();
    for builder in builders {
        let idem = builder.state(Desk::default()).build().unwrap();
        idem.migrate().await.unwrap();
        assert!(!idem.store().is_prepared(Engine::Apalis).await.unwrap(), "{}", idem.namespace());
        idem.queue(Engine::Apalis).set_up().await.unwrap();
        apps.push(idem);
    }
    for idem in apps {
        let (queue, namespace) = (idem.queue(Engine::Apalis), idem.namespace());
        let job = || UntilEnd { id: 1, note: 1 };
        let first = queue.push(job()).await.unwrap();
        assert!(matches!(first, Enqueued::New(_)), "{namespace}: {first:?}");
        let done = format!("UPDATE apalis.jobs SET status = 'Done' WHERE id = '{}'", first.task().unwrap());
        sqlx::raw_sql(AssertSqlSafe(done)).execute(&mut connection).await.unwrap();
        let second = queue.push(job()).await.unwrap();
        assert!(matches!(second, Enqueued::New(_)), "{namespace}: {second:?}");
    }
}

#[idem_runtime::idempotent(
    key = (id, note),
    retain = none,
    unique = until_and_while_executing,
    unique_by = id,
    lock = lease("3s"),
    on_busy = error,
    in_doubt = rerun
)]
async fn short(id: i64, note: i64, #[state] desk: &Desk) -> Result<i64, crate::desk::Refusal> {
    desk.work(id, note).await
}

#[tokio::test]
async fn a_task_that_is_held_back_by_a_caller_keeps_others_out_for_longer_than_a_lease() {
    let Some(world) = World::new().await else { return };
    let task = world.push(Short { id: 1, note: 1 }).await;
    let mut connection = world.place.connect().await;
    let mut tx = connection.begin().await.unwrap();
    let answer = world.queue.push_in(&mut tx, Short { id: 1, note: 2 }).await.unwrap();
    assert!(matches!(answer, Enqueued::Duplicate { of, .. } if of == task), "{answer:?}");
    let worker = world.work::<Short>("w1");
    wait_for_a_push(&world.place).await;
    let mut connection = world.place.connect().await;
    let mut lease = async || -> i64 {
        let sql = "SELECT (extract(epoch FROM lease_until) * 1000)::bigint FROM idem_records";
        sqlx::query_scalar(sql).fetch_one(&mut connection).await.unwrap()
    };
    let first = lease().await;
    let started = tokio::time::Instant::now();
    while lease().await < first + 3_000 {
        assert!(started.elapsed() < crate::desk::LIMIT, "the lease is not renewed");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(short(&world.idem, 1, 3).await.is_err(), "another run begins beside it");
    tx.commit().await.unwrap();
    world.until_status(task, "Done").await;
    assert_eq!(world.desk.notes(1), [1]);
    drop(worker);
}

/// A transaction in which apalis says of tasks what has become of them, in the order in which it does.
struct Said {
    connection: sqlx::PgConnection,
}

impl Said {
    async fn begin(world: &World) -> Self {
        let mut said = Said { connection: world.place.connect().await };
        said.sql("BEGIN").await;
        said
    }

    async fn ended(&mut self, task: TaskId) {
        self.sql(&format!(
            "UPDATE apalis.jobs SET status = 'Done', attempts = 1, done_at = now() WHERE id = '{task}' AND lock_by = 'w1'"
        ))
        .await;
    }

    async fn begun(&mut self, task: TaskId) {
        self.sql(&format!(
            "UPDATE apalis.jobs SET status = 'Running', lock_at = now(), lock_by = 'w1' WHERE id = '{task}'"
        ))
        .await;
    }

    async fn commit(&mut self) {
        self.sql("COMMIT").await;
    }

    async fn sql(&mut self, sql: &str) {
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut self.connection).await.unwrap();
    }
}

/// What a worker asks for a task as it begins: whether the claim is its, or it is the latest.
#[derive(Clone, Copy)]
enum Asks {
    Claim,
    Latest,
}

impl Asks {
    /// Enqueues two tasks with one claim, which the first has, and puts both into the hands of `w1`.
    async fn two_tasks(self, world: &World) -> [TaskId; 2] {
        let first = match self {
            Asks::Claim => world.push(UntilEndOrLater { id: 1, note: 1 }).await,
            Asks::Latest => world.push(Latest { id: 1, note: 1 }).await,
        };
        world.take(first, "w1").await;
        let second = match self {
            Asks::Claim => {
                world.queue.push(UntilEndOrLater { id: 1, note: 2 }).await.unwrap().task().unwrap()
            }
            Asks::Latest => {
                assert!(self.ask(&world.idem, first).await.unwrap());
                world.push(Latest { id: 1, note: 2 }).await
            }
        };
        world.take(second, "w1").await;
        [first, second]
    }

    /// Tells whether the task may begin.
    async fn ask(self, idem: &Idem<Db, Desk>, task: TaskId) -> Result<bool, StoreError> {
        let store = idem.store();
        let worker = Some("w1");
        match self {
            Asks::Claim => {
                let job = store.enrol("default", "until_end_or_later").await?;
                let key = Key::new("default", "until_end_or_later", &KeyParts::of(&1_i64).unwrap());
                let claim = UniqueClaim { key: &key, lasts: None };
                let holder = store.acquire(job, &claim, task, worker).await?;
                Ok(holder.is_some_and(|holder| holder.task == task))
            }
            Asks::Latest => {
                let key = Key::new("default", "latest", &KeyParts::of(&1_i64).unwrap());
                let latest = store.keep_latest(Moment::Begins, &key, task, worker).await?;
                Ok(latest == record::Latest::Goes)
            }
        }
    }
}

#[tokio::test]
async fn a_worker_that_says_that_one_task_has_ended_and_the_next_has_begun_is_in_the_way_of_neither() {
    for asks in [Asks::Claim, Asks::Latest] {
        let Some(world) = World::new().await else { return };
        let [first, second] = asks.two_tasks(&world).await;
        let mut said = Said::begin(&world).await;
        said.ended(first).await;
        let idem = world.idem.clone();
        let asked = tokio::spawn(async move { asks.ask(&idem, second).await });
        wait_for_a_push(&world.place).await;
        said.begun(second).await;
        said.commit().await;
        assert!(asked.await.unwrap().unwrap());
        assert_eq!(world.task(second).await.status, "Running");
    }
}

/// Returns one whose sessions come with a stricter isolation than PostgreSQL's own.
async fn strict(world: &World) -> Idem<Db, Desk> {
    let options = world.place.server.clone().database(&world.place.name);
    let options = options.options([("default_transaction_isolation", "repeatable read")]);
    let pool = sqlx::PgPool::connect_with(options).await.unwrap();
    Idem::builder(pool).state(world.desk.clone()).build().unwrap()
}

#[tokio::test]
async fn a_task_begins_beside_what_apalis_says_of_it_whatever_the_isolation() {
    for asks in [Asks::Claim, Asks::Latest] {
        let Some(world) = World::new().await else { return };
        let [first, second] = asks.two_tasks(&world).await;
        assert!(world.say_ended(first, "w1", "Done").await);
        let idem = strict(&world).await;
        let mut said = Said::begin(&world).await;
        said.begun(second).await;
        let asked = tokio::spawn(async move { asks.ask(&idem, second).await });
        wait_for_a_push(&world.place).await;
        said.commit().await;
        assert!(asked.await.unwrap().unwrap());
    }
}

#[tokio::test]
async fn a_task_that_apalis_is_just_ending_does_not_begin_and_takes_no_claim() {
    for asks in [Asks::Claim, Asks::Latest] {
        let Some(world) = World::new().await else { return };
        let [first, second] = asks.two_tasks(&world).await;
        assert!(world.say_ended(first, "w1", "Done").await);
        let mut said = Said::begin(&world).await;
        said.ended(second).await;
        let idem = world.idem.clone();
        let asked = tokio::spawn(async move { asks.ask(&idem, second).await });
        wait_for_a_push(&world.place).await;
        said.commit().await;
        assert!(!asked.await.unwrap().unwrap());
        assert_eq!(world.claim_rows().await, 0);
    }
}

#[tokio::test]
async fn a_push_that_waited_for_a_transaction_names_the_winner_whatever_the_isolation() {
    let Some(world) = World::new().await else { return };
    let queue = strict(&world).await.queue(Engine::Apalis);
    let mut connection = world.place.connect().await;
    let mut tx = connection.begin().await.unwrap();
    let first = world.queue.push_in(&mut tx, UntilEnd { id: 1, note: 1 }).await.unwrap();
    let second = tokio::spawn(async move { queue.push(UntilEnd { id: 1, note: 2 }).await });
    wait_for_a_push(&world.place).await;
    tx.commit().await.unwrap();
    let second = second.await.unwrap().unwrap();
    assert!(matches!(second, Enqueued::Duplicate { of, .. } if Some(of) == first.task()), "{second:?}");
}

#[tokio::test]
async fn a_task_is_put_back_behind_what_apalis_says_of_it_whatever_the_isolation() {
    let Some(world) = World::new().await else { return };
    let idem = strict(&world).await;
    let task = world.push(UntilEnd { id: 1, note: 1 }).await;
    world.take(task, "w1").await;
    let mut said = Said::begin(&world).await;
    said.begun(task).await;
    let put_back = tokio::spawn(async move {
        idem.store().put_off(Engine::Apalis, task, "w1", Duration::ZERO, Attempt::Unspent).await
    });
    wait_for_a_push(&world.place).await;
    said.commit().await;
    assert!(put_back.await.unwrap().unwrap());
    assert_eq!(world.task(task).await.status, "Pending");
}

#[tokio::test]
async fn a_relay_delivers_what_is_replaced_as_it_takes_it_whatever_the_isolation() {
    let Some(world) = World::new().await else { return };
    let (idem, queue) = (strict(&world).await, world.idem.queue(Engine::Outbox));
    let task = queue.push(UntilEndOrReplace { id: 1, note: 1 }).await.unwrap().task().unwrap();
    let mut connection = world.place.connect().await;
    let mut tx = connection.begin().await.unwrap();
    let replaced = queue.push_in(&mut tx, UntilEndOrReplace { id: 1, note: 2 }).await.unwrap();
    assert_eq!(replaced, Enqueued::Replaced(task));
    let mut notes = Vec::new();
    let relayed = idem.relay(async |task| {
        notes.push(task.decode::<UntilEndOrReplace>()?.note);
        Ok::<_, StoreError>(())
    });
    let committed = async {
        wait_for_a_push(&world.place).await;
        tx.commit().await.unwrap();
    };
    let (relayed, ()) = tokio::join!(relayed, committed);
    assert_eq!(relayed.unwrap(), 1);
    assert_eq!(notes, [2]);
}

#[tokio::test]
async fn a_task_that_is_rescued_while_a_caller_holds_it_back_keeps_its_claim() {
    let Some(world) = World::new().await else { return };
    let task = world.push(UntilStart { id: 1, note: 1 }).await;
    world.take(task, "w1").await;
    let mut connection = world.place.connect().await;
    let mut tx = connection.begin().await.unwrap();
    let answer = world.queue.push_in(&mut tx, UntilStart { id: 1, note: 2 }).await.unwrap();
    assert!(matches!(answer, Enqueued::Duplicate { of, .. } if of == task), "{answer:?}");
    let idem = world.idem.clone();
    let started = tokio::spawn(async move { idem.store().release(task, Some("w1")).await });
    wait_for_a_push(&world.place).await;
    assert_eq!(world.rescue("w1").await, 1);
    tx.commit().await.unwrap();
    assert!(!started.await.unwrap().unwrap());
    assert_eq!(world.claims().await, [task]);
}
