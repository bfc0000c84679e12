//! apalis on SQLite.

use apalis_sqlite::{Config as Settings, SqliteStorage};
use idem_testkit::lab::{Lab, LabDatabase as _};
use sqlx::AssertSqlSafe;

pub(crate) type Db = sqlx::Sqlite;
pub(crate) type Storage<T> = SqliteStorage<T>;
pub(crate) type Config = Settings;

/// The table of tasks.
pub(crate) const TASKS: &str = "Jobs";
/// The table of workers.
pub(crate) const WORKERS: &str = "Workers";
/// Now, as apalis writes it.
pub(crate) const NOW: &str = "unixepoch()";
/// An hour ago, as apalis writes it.
pub(crate) const AN_HOUR_AGO: &str = "unixepoch() - 3600";
/// In an hour, as apalis writes it.
pub(crate) const IN_AN_HOUR: &str = "unixepoch() + 3600";
/// How apalis is told to prepare its tables.
pub(crate) const SETUP: &str = "SqliteStorage::setup";

/// A database with the tables of apalis, and what removes it.
pub(crate) struct Place {
    lab: Lab<Db>,
}

impl Place {
    /// Makes an empty database.
    pub(crate) async fn empty() -> Option<Self> {
        Some(Place { lab: Db::lab().await? })
    }

    pub(crate) fn pool(&self, connections: u32) -> sqlx::Pool<Db> {
        self.lab.pool(connections)
    }

    pub(crate) async fn connect(&self) -> sqlx::SqliteConnection {
        self.lab.connect().await
    }

    pub(crate) async fn set_up_apalis(&self) {
        SqliteStorage::setup(&self.pool(1)).await.unwrap();
    }
}

/// Reads rows of apalis's table of tasks.
pub(crate) async fn read(c: &mut sqlx::SqliteConnection, condition: &str) -> Vec<Row> {
    let sql = format!(
        "SELECT id, status, attempts, max_attempts, lock_by, CAST(job AS BLOB), last_result, \
         run_at - unixepoch() FROM Jobs WHERE {condition} ORDER BY id"
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

/// Lets the time of all claims for a time be over.
pub(crate) const EXPIRE_CLAIMS: &str =
    "UPDATE idem_claims SET expires_at = expires_at - 3600000 WHERE expires_at IS NOT NULL";

/// Waits until a push waits for another transaction, where that can be seen: here it waits for the one writer, in a
/// thread that tells nobody.
pub(crate) async fn wait_for_a_push(_: &Place) {
    tokio::task::yield_now().await;
}

/// Writes bytes, given in hexadecimal.
pub(crate) fn bytes(hex: &str) -> String {
    format!("x'{hex}'")
}

/// What apalis asks of a task before it says that it has begun.
pub(crate) const MAY_BEGIN: &str = "TRUE";

/// Makes the worker that puts a task back take it again at once, whenever it is due.
pub(crate) const TAKES_AGAIN: &str = "CREATE TRIGGER takes_again AFTER UPDATE OF status ON Jobs \
     WHEN NEW.status = 'Pending' AND OLD.lock_by IS NOT NULL BEGIN \
     UPDATE Jobs SET status = 'Queued', lock_by = OLD.lock_by, lock_at = OLD.lock_at, \
     run_at = unixepoch() + 3600 WHERE id = OLD.id; END";

/// Ends that.
pub(crate) const TAKES_NO_MORE: &str = "DROP TRIGGER takes_again";

/// Reads the tasks in the order in which they came.
pub(crate) const IN_ORDER: &str = "SELECT id FROM Jobs ORDER BY rowid";

/// What an older version of idem has made of the triggers.
pub(crate) const OLDER_TRIGGERS: &str = "DROP TRIGGER idem_task_put_back; \
     CREATE TRIGGER idem_task_put_back BEFORE UPDATE OF status ON Jobs WHEN FALSE BEGIN SELECT RAISE(IGNORE); END";

/// Counts the triggers of idem.
pub(crate) const TRIGGERS: &str =
    "SELECT count(*) FROM sqlite_master WHERE type = 'trigger' AND name LIKE 'idem%'";

#[tokio::test]
async fn a_push_that_the_callers_transaction_keeps_out_says_how_to_be_part_of_it() {
    use crate::jobs::UntilEnd;
    use idem_runtime::StoreErrorKind;
    use idem_runtime::engine::{Engine, PushError};
    use sqlx::Connection as _;

    let world = world::World::new().await.expect("SQLite is built in");
    world.idem.enrol::<UntilEnd>().await.unwrap();
    let options = world.place.lab.options().busy_timeout(std::time::Duration::from_millis(20));
    let pool = sqlx::sqlite::SqlitePoolOptions::new().connect_lazy_with(options);
    let idem = idem_runtime::Idem::builder(pool).state(world.desk.clone()).build().unwrap();
    let mut connection = world.place.connect().await;
    let tx = connection.begin_with("BEGIN IMMEDIATE").await.unwrap();
    let job = UntilEnd { id: 1, note: 1 };
    let Err(PushError::Store(error)) = idem.queue(Engine::Apalis).push(job).await else {
        panic!("it is enqueued")
    };
    assert_eq!(error.kind(), StoreErrorKind::Conflict);
    assert!(error.is_temporary() && error.to_string().contains("`push_in`"), "{error}");
    tx.rollback().await.unwrap();
    assert_eq!(world.tasks().await, []);
}
