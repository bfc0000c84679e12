//! The jobs and the demonstrations on SQLite.

use std::str::FromStr as _;
use std::time::Duration;

/// What configures a queue of apalis.
pub use apalis_sqlite::Config as QueueConfig;
/// A queue of apalis.
pub use apalis_sqlite::SqliteStorage as Storage;
/// The database that the jobs of this module are for.
pub use sqlx::Sqlite as Db;
/// A connection to it.
pub use sqlx::SqliteConnection as Connection;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};

/// The type of a primary key whose values the database gives out.
pub const SERIAL: &str = "INTEGER PRIMARY KEY";
/// Begins a transaction that writes. Without `IMMEDIATE` it would be a reader first, and be refused if another one has
/// written before it does.
pub const BEGIN: &str = "BEGIN IMMEDIATE";
/// Where apalis keeps its tasks.
pub const JOBS: &str = "Jobs";
/// How many connections of a process are worth having: writers wait for each other anyway.
pub const WRITERS: u32 = 1;

/// How long a process waits for its turn to write.
const TURN_MAX: Duration = Duration::from_secs(30);

/// Opens the database file of `url`, and makes one if there is none.
///
/// # Errors
///
/// The URL is malformed. A file that cannot be opened shows at the first statement.
pub fn open(url: &str) -> sqlx::Result<SqlitePool> {
    let options = SqliteConnectOptions::from_str(url)?;
    Ok(SqlitePool::connect_lazy_with(options.create_if_missing(true).journal_mode(SqliteJournalMode::Wal)))
}

/// Opens the database file of `url` for one of several processes, and makes one if there is none.
///
/// # Errors
///
/// See [`open`].
pub fn pool(url: &str, connections: u32) -> sqlx::Result<SqlitePool> {
    let options = SqliteConnectOptions::from_str(url)?
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        // What a process has committed outlives its kill. Only a machine that goes down may take the last commits along.
        .synchronous(SqliteSynchronous::Normal)
        .busy_timeout(TURN_MAX);
    Ok(SqlitePoolOptions::new().max_connections(connections).connect_lazy_with(options))
}

/// Makes the tables of apalis.
///
/// # Errors
///
/// The database's.
pub async fn set_up_apalis(pool: &SqlitePool) -> Result<(), apalis_sqlite::Error> {
    Storage::setup(pool).await
}

#[path = "jobs/mod.rs"]
pub mod jobs;

#[path = "demos/mod.rs"]
pub mod demos;
