//! An open transaction.

use std::error::Error as StdError;
use std::sync::Arc;

use async_trait::async_trait;
use sqlx::MySql;
use sqlx::mysql::MySqlConnection;
use tracing::debug;

use super::lease_statements::LeaseStatements;
use super::statements::{Statements, push};
use super::{message, number};
use crate::error::StoreError;
use crate::key::KeyHash;
use crate::record::{Epoch, Hold, NewRecord};
use crate::store::sql::{Leased, broke, driver_error, ended_by_body, violated_constraint};
use crate::store::{Committed, Held, NewTask, StoreTx, TxStep};

pub(super) struct MySqlTx {
    pub(super) connection: Leased<MySql>,
    pub(super) statements: Arc<Statements>,
    pub(super) lease_statements: Arc<LeaseStatements>,
    /// The name of the key's lock.
    pub(super) lock: KeyHash,
    /// The epoch of the record of the key that is there, but whose time is over.
    pub(super) expired: Option<Epoch>,
    /// It is there for a body, not for a record that answers.
    pub(super) works: bool,
}

#[async_trait]
impl StoreTx<MySql> for MySqlTx {
    fn connection(&mut self) -> &mut MySqlConnection {
        &mut self.connection
    }

    fn connection_ref(&self) -> &MySqlConnection {
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
        match violated_constraint(error).and_then(|error| violated_index(error.message())) {
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
            Err(error) if number(&error) == Some(1305) => Err(ended_by_body().caused_by(error)),
            Err(error) => Err(driver_error("enqueueing", error)),
        }
    }

    async fn commit(mut self: Box<Self>, record: Option<&NewRecord<'_>>) -> Result<Committed, StoreError> {
        if !self.connection.is_sound() {
            return Err(ended_by_body());
        }
        let sql = match record {
            Some(new) => self.statements.commit(new, self.expired, self.lock),
            None => self.statements.commit_bare(self.lock),
        };
        match message(&mut self.connection, sql).await {
            Ok(_) => {
                self.connection.give_back();
                Ok(Committed::Yes)
            }
            Err(error) if broke(&error) => Ok(Committed::Unknown),
            Err(error) => {
                if let Err(rollback) = self.rollback().await {
                    debug!(error = %rollback, "rolling back failed, so the connection is closed");
                }
                match number(&error) {
                    // The only unique index in the message is the primary key of the records.
                    Some(1062) => Ok(Committed::LostRace),
                    Some(1305) => Err(ended_by_body().caused_by(error)),
                    _ => Err(driver_error("recording the result", error)),
                }
            }
        }
    }

    async fn commit_step(mut self: Box<Self>, hold: &Hold, step: &TxStep<'_>) -> Result<Held, StoreError> {
        if !self.connection.is_sound() {
            return Err(ended_by_body());
        }
        let snapshots = self.connection.session().snapshots;
        let sql = self.lease_statements.commit_step(hold, step, self.lock, snapshots);
        match message(&mut self.connection, sql).await {
            Ok(_) => {
                self.connection.give_back();
                Ok(Held::Yes)
            }
            Err(error) if broke(&error) => Ok(Held::Unknown),
            // The only column in the message that may be given no value and takes none is the key of the step.
            Err(error) if number(&error) == Some(1048) => self.rollback().await.map(|()| Held::Lost),
            // What the message sets in the session may still be set, so the connection is closed, not given back.
            Err(error) if number(&error) == Some(1305) => Err(ended_by_body().caused_by(error)),
            Err(error) => Err(driver_error("recording a step", error)),
        }
    }

    async fn rollback(mut self: Box<Self>) -> Result<(), StoreError> {
        let mut sql = self.statements.rollback(self.lock);
        if self.works {
            // A server that has become another one's replica locks and reads as before, and refuses to write. What the body was told
            // nobody sees here, so the server is asked, where that costs no message: on that connection the next run would fail too.
            push(&mut sql, format_args!(";{}", self.connection.session().is_read_only()));
        }
        match message(&mut self.connection, sql).await {
            Ok(read_only) if read_only.is_empty() => self.connection.give_back(),
            Ok(_) => self.connection.close_all(),
            Err(error) => return Err(driver_error("rolling back", error)),
        }
        Ok(())
    }
}

/// Reads the name of the index out of `Duplicate entry '…' for key 'index'`; MySQL writes `table.index`.
fn violated_index(message: &str) -> Option<&str> {
    let (_, key) = message.strip_suffix('\'')?.rsplit_once('\'')?;
    Some(key.rsplit_once('.').map_or(key, |(_, index)| index))
}

#[cfg(test)]
mod tests {
    use super::violated_index;

    #[test]
    fn the_index_is_read_from_both_servers_messages() {
        assert_eq!(violated_index("Duplicate entry '7' for key 'one_per_user'"), Some("one_per_user"));
        assert_eq!(violated_index("Duplicate entry 'a'b' for key 'subs.one_per_user'"), Some("one_per_user"));
        assert_eq!(violated_index("something else"), None);
    }
}
