//! An open transaction.

use std::error::Error as StdError;
use std::sync::Arc;

use async_trait::async_trait;
use sqlx::Sqlite;
use sqlx::sqlite::SqliteConnection;
use tracing::debug;

use super::end;
use super::lease::bind_tasks;
use super::lease_statements::LeaseStatements;
use super::statements::Statements;
use crate::error::StoreError;
use crate::job::Retain;
use crate::record::{Epoch, Hold, NewRecord};
use crate::store::sql::{Leased, driver_error, ended_by_body, violated_constraint};
use crate::store::{Committed, Held, NewTask, StoreTx, TxStep};

pub(super) struct SqliteTx {
    pub(super) connection: Leased<Sqlite>,
    pub(super) statements: Arc<Statements>,
    pub(super) lease_statements: Arc<LeaseStatements>,
    /// The epoch of the record of the key that is there, but whose time is over.
    pub(super) expired: Option<Epoch>,
}

#[async_trait]
impl StoreTx<Sqlite> for SqliteTx {
    fn connection(&mut self) -> &mut SqliteConnection {
        &mut self.connection
    }

    fn connection_ref(&self) -> &SqliteConnection {
        &self.connection
    }

    async fn undo(&mut self) -> Result<(), StoreError> {
        end(&mut self.connection, "ROLLBACK TO idem_body")
            .await
            .map_err(|error| driver_error("undoing the body", error))
    }

    async fn undo_violation(
        &mut self,
        error: &(dyn StdError + Send + Sync + 'static),
        name: &str,
    ) -> Result<bool, StoreError> {
        let Some(violated) = violated_constraint(error).map(|error| error.message().to_owned()) else {
            return Ok(false);
        };
        self.undo().await?;
        // SQLite names the columns of the index, and the index itself only if it is on expressions.
        let columns: Option<String> = sqlx::query_scalar(
            "SELECT group_concat(name, ', ') FROM (SELECT i.tbl_name || '.' || c.name AS name FROM sqlite_master i \
             JOIN pragma_index_info(i.name) c WHERE i.type = 'index' AND i.name = ?1 ORDER BY c.seqno)",
        )
        .bind(name)
        .fetch_one(&mut *self.connection)
        .await
        .map_err(|error| driver_error("looking up the violated index", error))?;
        let by_columns = columns.map(|columns| format!("UNIQUE constraint failed: {columns}"));
        Ok(by_columns.as_deref() == Some(&violated)
            || violated == format!("UNIQUE constraint failed: index '{name}'"))
    }

    async fn enqueue(&mut self, tasks: &[NewTask]) -> Result<(), StoreError> {
        if !self.connection.is_sound() {
            return Err(ended_by_body());
        }
        let query = sqlx::query(self.lease_statements.enqueue(tasks.len())).persistent(false);
        let put = bind_tasks(query, tasks).execute(&mut *self.connection).await;
        put.map(|_| ()).map_err(|error| failed_end("enqueueing", error))
    }

    async fn commit(mut self: Box<Self>, record: Option<&NewRecord<'_>>) -> Result<Committed, StoreError> {
        if !self.connection.is_sound() {
            return Err(ended_by_body());
        }
        let ended = match record {
            Some(new) => {
                let sql = match self.expired {
                    None => self.statements.commit.clone(),
                    Some(_) => self.statements.commit_over_expired.clone(),
                };
                let query = sqlx::query(sql)
                    .bind(&new.key.hash().as_bytes()[..])
                    .bind(new.job.0)
                    .bind(new.fingerprint.to_bits())
                    .bind(new.outcome.code())
                    .bind(retain_seconds(new.retain))
                    .bind(new.key.readable())
                    .bind(new.result);
                let query = match self.expired {
                    None => query,
                    Some(expired) => query.bind(expired.next().0),
                };
                query.execute(&mut *self.connection).await.map(|_| ())
            }
            None => end(&mut self.connection, "RELEASE idem_body; COMMIT").await,
        };
        match ended {
            Ok(()) => {
                self.connection.give_back();
                Ok(Committed::Yes)
            }
            Err(error) => {
                if let Err(rollback) = self.rollback().await {
                    debug!(error = %rollback, "rolling back failed, so the connection is closed");
                }
                // The only unique index in the text is the primary key of the records.
                if error.as_database_error().is_some_and(|error| error.is_unique_violation()) {
                    return Ok(Committed::LostRace);
                }
                Err(failed_end("recording the result", error))
            }
        }
    }

    async fn commit_step(mut self: Box<Self>, hold: &Hold, step: &TxStep<'_>) -> Result<Held, StoreError> {
        if !self.connection.is_sound() {
            return Err(ended_by_body());
        }
        let write = sqlx::query(self.lease_statements.put_step.clone())
            .bind(&hold.key.as_bytes()[..])
            .bind(hold.epoch.0)
            .bind(hold.token.0)
            .bind(step.seq)
            .bind(step.name)
            .bind(step.result)
            // A count of rows would include what statements before it have left.
            .fetch_all(&mut *self.connection)
            .await;
        let ended = match write {
            Ok(rows) if rows.is_empty() => return self.rollback().await.map(|()| Held::Lost),
            Ok(_) => end(&mut self.connection, "COMMIT").await,
            Err(error) => Err(error),
        };
        match ended {
            Ok(()) => {
                self.connection.give_back();
                Ok(Held::Yes)
            }
            Err(error) => {
                if let Err(rollback) = self.rollback().await {
                    debug!(error = %rollback, "rolling back failed, so the connection is closed");
                }
                Err(failed_end("recording a step", error))
            }
        }
    }

    async fn rollback(mut self: Box<Self>) -> Result<(), StoreError> {
        match end(&mut self.connection, "ROLLBACK").await {
            Ok(()) => {
                self.connection.give_back();
                Ok(())
            }
            Err(error) => Err(driver_error("rolling back", error)),
        }
    }
}

fn failed_end(doing: &str, error: sqlx::Error) -> StoreError {
    let transaction_is_gone =
        error.as_database_error().is_some_and(|error| error.message().starts_with("no such savepoint"));
    match transaction_is_gone {
        true => ended_by_body().caused_by(error),
        false => driver_error(doing, error),
    }
}

/// The store's clock counts whole seconds, so one more keeps a retention from being shortened.
pub(super) fn retain_seconds(retain: Retain) -> Option<i64> {
    crate::store::retain_millis(retain).map(|millis| millis.saturating_add(1_999) / 1_000)
}
