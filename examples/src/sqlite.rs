//! The jobs and the demonstrations on SQLite.

use std::str::FromStr as _;

/// The database that the jobs of this module are for.
pub use sqlx::Sqlite as Db;
/// A connection to it.
pub use sqlx::SqliteConnection as Connection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool};

/// The type of a primary key whose values the database gives out.
pub const SERIAL: &str = "INTEGER PRIMARY KEY";

/// Opens the database file of `url`, and makes one if there is none.
///
/// # Errors
///
/// The URL is malformed. A file that cannot be opened shows at the first statement.
pub fn open(url: &str) -> sqlx::Result<SqlitePool> {
    let options = SqliteConnectOptions::from_str(url)?;
    Ok(SqlitePool::connect_lazy_with(options.create_if_missing(true).journal_mode(SqliteJournalMode::Wal)))
}

#[path = "jobs/mod.rs"]
pub mod jobs;

#[path = "demos/mod.rs"]
pub mod demos;
