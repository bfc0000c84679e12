//! A job that the clock starts: old sessions are deleted once an hour, by one of any number of processes.
//!
//! idem's own records go the same way: `idem_runtime::cleanup::Cleanup` is such a job too, and the program gives both to
//! one scheduler.

use std::time::Duration;

use idem_runtime::cleanup::Cleanup;
use idem_runtime::prelude::*;
use idem_runtime::schedule::{ScheduleError, Scheduler, Tick};
use serde::{Deserialize, Serialize};

use super::Db;

/// How long a session lives, in seconds.
pub const LIFE: i64 = 24 * 60 * 60;

/// How long a failed run of this module's jobs can be looked at.
pub const KEEP_FAILED: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// What a run has deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expired {
    /// How many sessions.
    pub sessions: u64,
}

/// Deletes the sessions that are over.
///
/// The key is the tick, so an hour has one run, whoever starts it. What is over is decided by the tick and not by the
/// time of the run: a run that comes late, or again after a failure, deletes the same sessions.
#[idempotent(key = tick, schedule = "0 * * * *", retain = "2d")]
pub async fn expire_sessions(tx: &mut Tx<'_, Db>, tick: Tick) -> Result<Expired, sqlx::Error> {
    let deleted = sqlx::query("DELETE FROM sessions WHERE begun < $1")
        .bind(tick.unix() - LIFE)
        .execute(&mut **tx)
        .await?;
    sqlx::query("INSERT INTO expirations (tick, sessions) VALUES ($1, $2)")
        .bind(tick.unix())
        .bind(i64::try_from(deleted.rows_affected()).unwrap_or(i64::MAX))
        .execute(&mut **tx)
        .await?;
    Ok(Expired { sessions: deleted.rows_affected() })
}

/// Returns the scheduler that every process runs.
///
/// # Errors
///
/// A schedule that cannot be used.
pub fn scheduler(idem: &Idem<Db>) -> Result<Scheduler<Db>, ScheduleError> {
    idem.scheduler().job::<ExpireSessions>()?.job::<Cleanup>()
}

/// Makes the tables.
///
/// # Errors
///
/// The database's.
pub async fn set_up(connection: &mut super::Connection) -> sqlx::Result<()> {
    for sql in [
        "CREATE TABLE IF NOT EXISTS sessions (id TEXT PRIMARY KEY, begun BIGINT NOT NULL)",
        "CREATE TABLE IF NOT EXISTS expirations (tick BIGINT NOT NULL, sessions BIGINT NOT NULL)",
    ] {
        sqlx::query(sql).execute(&mut *connection).await?;
    }
    Ok(())
}
