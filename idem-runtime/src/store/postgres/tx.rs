//! An open transaction.

use std::error::Error as StdError;
use std::sync::Arc;

use async_trait::async_trait;
use sqlx::Postgres;
use sqlx::postgres::PgConnection;
use tracing::debug;

use super::lease_statements::{LOST, LeaseStatements};
use super::saved::Script;
use super::statements::Statements;
use super::{message, sqlstate};
use crate::error::StoreError;
use crate::record::{Epoch, Hold, NewRecord};
use crate::store::sql::{Leased, broke, driver_error, ended_by_body, violated_constraint};
use crate::store::{Committed, Held, NewTask, StoreTx, TxStep};

pub(super) struct PostgresTx {
    pub(super) connection: Leased<Postgres>,
    pub(super) statements: Arc<Statements>,
    pub(super) lease_statements: Arc<LeaseStatements>,
    /// Statements that are prepared in the session last.
    pub(super) prepared: bool,
    /// The epoch of the record of the key that is there, but whose time is over.
    pub(super) expired: Option<Epoch>,
    /// It is there for a body, not for a record that answers.
    pub(super) works: bool,
}

impl PostgresTx {
    /// Begins a message to the session.
    fn script(&mut self) -> Script {
        Script::to(self.connection.session(), self.prepared)
    }
}

#[async_trait]
impl StoreTx<Postgres> for PostgresTx {
    fn connection(&mut self) -> &mut PgConnection {
        &mut self.connection
    }

    fn connection_ref(&self) -> &PgConnection {
        &self.connection
    }

    async fn undo(&mut self) -> Result<(), StoreError> {
        message(&mut self.connection, "ROLLBACK TO SAVEPOINT idem_body")
            .await
            .map(|_| ())
            .map_err(|error| driver_error("undoing the body", error))
    }

    async fn undo_violation(
        &mut self,
        error: &(dyn StdError + Send + Sync + 'static),
        name: &str,
    ) -> Result<bool, StoreError> {
        match violated_constraint(error).and_then(|error| error.constraint()) {
            Some(violated) if violated == name => self.undo().await.map(|()| true),
            _ => Ok(false),
        }
    }

    async fn enqueue(&mut self, tasks: &[NewTask]) -> Result<(), StoreError> {
        if !self.connection.is_sound() {
            return Err(ended_by_body());
        }
        let sql = self.lease_statements.enqueue(tasks);
        match message(&mut self.connection, sql).await {
            Ok(_) => Ok(()),
            Err(error) if sqlstate(&error).as_deref() == Some("25P01") => {
                Err(ended_by_body().caused_by(error))
            }
            Err(error) => Err(driver_error("enqueueing", error)),
        }
    }

    async fn commit(mut self: Box<Self>, record: Option<&NewRecord<'_>>) -> Result<Committed, StoreError> {
        if !self.connection.is_sound() {
            return Err(ended_by_body());
        }
        let mut script = self.script();
        match record {
            Some(new) => self.statements.commit(&mut script, new, self.expired),
            // The COMMIT of a transaction that failed is a silent ROLLBACK; the query before it is not silent.
            None => script.push_str("SELECT 1;SAVEPOINT idem_end;COMMIT"),
        }
        match script.send(&mut self.connection).await {
            Ok(_) => {
                self.connection.give_back();
                Ok(Committed::Yes)
            }
            Err(error) if broke(&error) => Ok(Committed::Unknown),
            Err(error) => {
                let lost_race = error.as_database_error().and_then(|error| error.constraint())
                    == Some(self.statements.records_key.as_str());
                if let Err(rollback) = self.rollback().await {
                    debug!(error = %rollback, "rolling back failed, so the connection is closed");
                }
                match sqlstate(&error).as_deref() {
                    _ if lost_race => Ok(Committed::LostRace),
                    // There was no transaction to set the savepoint in.
                    Some("25P01") => Err(ended_by_body().caused_by(error)),
                    _ => Err(driver_error("recording the result", error)),
                }
            }
        }
    }

    async fn commit_step(mut self: Box<Self>, hold: &Hold, step: &TxStep<'_>) -> Result<Held, StoreError> {
        if !self.connection.is_sound() {
            return Err(ended_by_body());
        }
        let mut script = self.script();
        self.lease_statements.commit_step(&mut script, hold, step);
        match script.send(&mut self.connection).await {
            Ok(_) => {
                self.connection.give_back();
                Ok(Held::Yes)
            }
            Err(error) if broke(&error) => Ok(Held::Unknown),
            Err(error) if is_lost(&error) => self.rollback().await.map(|()| Held::Lost),
            Err(error) => {
                if let Err(rollback) = self.rollback().await {
                    debug!(error = %rollback, "rolling back failed, so the connection is closed");
                }
                match sqlstate(&error).as_deref() {
                    Some("25P01") => Err(ended_by_body().caused_by(error)),
                    _ => Err(driver_error("recording a step", error)),
                }
            }
        }
    }

    async fn rollback(mut self: Box<Self>) -> Result<(), StoreError> {
        // A server that has become another one's replica locks and reads as before, and refuses to write. What the body was told
        // nobody sees here, so the server is asked, where that costs no message: on that connection the next run would fail too.
        let sql = match self.works {
            true => {
                "ROLLBACK;SELECT 1 AS idem_read_only WHERE current_setting('transaction_read_only')::boolean"
            }
            false => "ROLLBACK",
        };
        match message(&mut self.connection, sql).await {
            Ok(read_only) if read_only.is_empty() => self.connection.give_back(),
            Ok(_) => self.connection.close_all(),
            Err(error) => return Err(driver_error("rolling back", error)),
        }
        Ok(())
    }
}

/// Tells whether the statement failed that fails where the run does not have its key: whatever else could not be
/// read as a number, as in a trigger of the user's that was deferred, does not begin like that.
fn is_lost(error: &sqlx::Error) -> bool {
    sqlstate(error).as_deref() == Some("22P02")
        && error.as_database_error().is_some_and(|error| error.message().contains(LOST))
}
