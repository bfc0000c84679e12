//! A task is enqueued with the change that it is about, and many workers do the tasks.
//!
//! The endpoint writes a change and enqueues a sync of the user **in one transaction**: there is never one without the
//! other. Many changes of a user need one sync, so the job is unique by the user while it *waits*.
//!
//! Which uniqueness, and why no other:
//!
//! * `until_executing`: the claim ends *before* the body reads. A change that comes later gets a task of its own, and one
//!   that comes before is seen. With `until_executed` a change that comes between the read and the end of the run would
//!   be told that it is a duplicate, of a task that has not seen it: a lost update.
//! * `lock = row(profiles.id = user_id)`: the endpoint updates the user's row before it asks for the claim, so its
//!   transaction and the body exclude each other. A push that found the claim held has committed before the body reads.
//! * `key = (user_id, version)`: the version is that of the change a task was enqueued for. It is the identity of the
//!   task, which is delivered again when its worker dies; with `retain = none` it would then have its effect again.
//!
//! `profile_syncs` has **no** unique constraint: nothing but idem keeps a second effect of a task out, so its rows are a
//! proof.

use std::time::Duration;

use idem_runtime::engine::{Enqueue, Enqueued, PushError, Queue};
use idem_runtime::prelude::*;
use serde::{Deserialize, Serialize};
use sqlx::{AssertSqlSafe, Executor as _, Pool};

use super::{BEGIN, Connection, Db, SERIAL};
use crate::fleet::{Accepted, Answer, Change, Desk, Stage};

/// How long a task waits before it may start: who changes something often changes more, and one sync does for all.
const DEBOUNCE: Duration = Duration::from_secs(1);

/// Brings another system up to date with a user: here a row for each sync, with what it saw.
#[idempotent(
    key = (user_id, version),
    lock = row(profiles.id = user_id),
    on_busy = reschedule("1s"),
    unique = until_executing,
    unique_by = user_id,
    retain = "1d",
)]
pub async fn sync_profile(
    tx: &mut Tx<'_, Db>,
    user_id: i64,
    version: i64,
    #[state] desk: &Desk,
) -> Result<Synced, sqlx::Error> {
    sync(tx, user_id, version, desk).await
}

/// What a sync has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Synced {
    /// The number of changes of the user by then.
    pub seen: i64,
}

/// The effect. It knows nothing of idem, so `fleet --without-idem` can call it as it is.
///
/// # Errors
///
/// The database's.
pub async fn sync(
    connection: &mut Connection,
    user_id: i64,
    version: i64,
    desk: &Desk,
) -> Result<Synced, sqlx::Error> {
    desk.runs();
    let seen = sqlx::query_scalar(
        "INSERT INTO profile_syncs (user_id, version, seen, email) \
         SELECT id, $2, version, email FROM profiles WHERE id = $1 RETURNING seen",
    )
    .bind(user_id)
    .bind(version)
    .fetch_one(connection)
    .await?;
    desk.pass(Stage::InTheJob).await;
    Ok(Synced { seen })
}

/// Writes a change of a user and enqueues the sync, in one transaction.
///
/// # Errors
///
/// The database's, such as a violated constraint; then there is neither a change nor a task.
pub async fn change(
    pool: &Pool<Db>,
    queue: &Queue<Db, Desk>,
    user_id: i64,
    change: &Change,
) -> Result<Accepted, ChangeError> {
    let mut tx = pool.begin_with(BEGIN).await?;
    // First of all, so that changes and syncs of one user exclude each other.
    let version: i64 = sqlx::query_scalar(
        "INSERT INTO profiles (id, version, email) VALUES ($1, 1, $2) \
         ON CONFLICT (id) DO UPDATE SET version = profiles.version + 1, email = excluded.email RETURNING version",
    )
    .bind(user_id)
    .bind(&change.email)
    .fetch_one(&mut *tx)
    .await?;
    let sync = Enqueue::new(SyncProfile { user_id, version }).after(DEBOUNCE);
    let enqueued = queue.push_in(&mut tx, sync).await?;
    let task = enqueued.task().map(|task| task.to_string());
    let answer = match enqueued {
        Enqueued::New(_) => Answer::New,
        Enqueued::Duplicate { .. } => Answer::Duplicate,
        // No other answer belongs to `on_duplicate = skip`, and no version was there before.
        other => return Err(ChangeError::Unexpected(other)),
    };
    sqlx::query(
        "INSERT INTO profile_changes (user_id, version, email, task, coalesced) VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(user_id)
    .bind(version)
    .bind(&change.email)
    .bind(&task)
    .bind(answer == Answer::Duplicate)
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(Accepted { user_id, version, enqueued: answer, task })
}

/// Why a change was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// The database refused.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    /// The task was not enqueued.
    #[error(transparent)]
    Push(#[from] PushError),
    /// The queue has answered what it cannot answer for this job.
    #[error("the queue answered {0:?}")]
    Unexpected(Enqueued),
}

impl ChangeError {
    /// Tells whether another try may help.
    pub fn is_temporary(&self) -> bool {
        match self {
            // 40… is a deadlock or a serialization failure, 5 and 6 are SQLite's busy and locked.
            ChangeError::Database(error) => match error.as_database_error().and_then(|error| error.code()) {
                Some(code) => code.starts_with("40") || ["5", "6"].contains(&&*code),
                None => matches!(error, sqlx::Error::PoolTimedOut | sqlx::Error::Io(_)),
            },
            ChangeError::Push(error) => error.is_temporary(),
            ChangeError::Unexpected(_) => false,
        }
    }

    /// Tells whether the change itself is wrong.
    pub fn is_refusal(&self) -> bool {
        match self {
            ChangeError::Database(error) => {
                error.as_database_error().is_some_and(sqlx::error::DatabaseError::is_check_violation)
            }
            ChangeError::Push(_) | ChangeError::Unexpected(_) => false,
        }
    }
}

/// Makes the tables.
///
/// # Errors
///
/// The database's.
pub async fn create_tables(connection: &mut Connection) -> sqlx::Result<()> {
    let tables = format!(
        "CREATE TABLE IF NOT EXISTS profiles (id BIGINT PRIMARY KEY, version BIGINT NOT NULL, email TEXT NOT NULL);\n\
         CREATE TABLE IF NOT EXISTS profile_changes (id {SERIAL}, user_id BIGINT NOT NULL, version BIGINT NOT NULL, \
         email TEXT NOT NULL CHECK (email LIKE '%_@_%'), task TEXT, coalesced BOOLEAN NOT NULL);\n\
         CREATE TABLE IF NOT EXISTS profile_syncs (id {SERIAL}, user_id BIGINT NOT NULL, version BIGINT NOT NULL, \
         seen BIGINT NOT NULL, email TEXT NOT NULL);\n\
         CREATE INDEX IF NOT EXISTS profile_syncs_of_user ON profile_syncs (user_id, seen);"
    );
    connection.execute(sqlx::raw_sql(AssertSqlSafe(tables))).await?;
    Ok(())
}
