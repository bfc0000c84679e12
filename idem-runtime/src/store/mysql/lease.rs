//! Leased jobs in MySQL and MariaDB.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::mysql::MySqlRow;
use sqlx::{Column, MySql, Row};
use tracing::warn;

use super::lease_statements::Locked;
use super::{MySqlStore, is_lock_timeout, message};
use crate::error::StoreError;
use crate::key::KeyHash;
use crate::record::{Entry, Hold, StepRecord, holds};
use crate::store::sql::{
    Connections, EntryColumns, broke, driver_error, heard, key_of_bytes, lost, read_audit_row, read_rows,
    read_task_id,
};
use crate::store::{
    AuditRow, Change, Claimed, Forget, Held, Lease, LeaseClaim, LeaseStore, NewTask, Resolve, TaskRow,
};

/// How long a renewal waits for records that somebody has locked.
const RENEWAL_LOCK_WAIT: Duration = Duration::from_millis(500);

/// What came of a message.
pub(super) struct Answer {
    pub(super) rows: Result<Vec<MySqlRow>, sqlx::Error>,
    /// It was sent twice, and nobody knows whether the first one was heard.
    again: bool,
}

impl MySqlStore {
    /// Sends a message that may be sent twice: if the connection turns out to have died while it stood idle, another
    /// one takes its place.
    pub(super) async fn send(&self, write: impl Fn() -> String + Send + Sync) -> Result<Answer, StoreError> {
        self.send_on(&self.connections, write).await
    }

    async fn send_on(
        &self,
        connections: &Connections<MySql>,
        write: impl Fn() -> String + Send + Sync,
    ) -> Result<Answer, StoreError> {
        let mut again = false;
        loop {
            let mut connection = connections.lease().await?;
            let rows = heard(connection.patience(), message(&mut connection, write())).await;
            match &rows {
                Ok(_) => connection.give_back(),
                Err(error) if connection.is_reused() && broke(error) => {
                    again = true;
                    continue;
                }
                // Its transaction did not end in order, so it is closed.
                Err(_) => drop(connection),
            }
            return Ok(Answer { rows, again });
        }
    }

    /// Sends a renewal, on a connection of its own: it must not queue behind the runs that it keeps alive.
    async fn beat(&self, write: impl Fn() -> String + Send + Sync) -> Result<Answer, StoreError> {
        self.send_on(self.heart.connection(), write).await
    }

    /// Sends what changes nothing, or nothing more when it is sent again.
    pub(super) async fn ask(
        &self,
        doing: &str,
        write: impl Fn() -> String + Send + Sync,
    ) -> Result<Vec<MySqlRow>, StoreError> {
        self.send(write).await?.rows.map_err(|error| driver_error(doing, error))
    }
}

#[async_trait]
impl LeaseStore for MySqlStore {
    async fn claim(&self, claim: &LeaseClaim<'_>) -> Result<Claimed, StoreError> {
        let failed = |error| driver_error("claiming a key", error);
        // What is recorded is found without a write, and an insert that finds a record would have locked it.
        if let Some(entry) = self.entry(claim.key.hash()).await? {
            return Ok(Claimed::Found(entry));
        }
        loop {
            let Answer { rows, again } = self.send(|| self.lease_statements.claim(claim)).await?;
            let rows = rows.map_err(failed)?;
            match read_entry_and_steps(&rows).map_err(failed)? {
                _ if is_held(&rows).map_err(failed)? => return Ok(Claimed::New),
                // The first message was heard.
                Some(entry) if again && holds(&entry, &claim.hold()) => return Ok(Claimed::New),
                Some(entry) => return Ok(Claimed::Found(entry)),
                // What was in the way is gone again.
                None => {}
            }
        }
    }

    async fn take_over(
        &self,
        claim: &LeaseClaim<'_>,
        found: &Entry,
    ) -> Result<Option<Vec<StepRecord>>, StoreError> {
        let failed = |error| driver_error("taking a key over", error);
        let Answer { rows, again } = self.send(|| self.lease_statements.take_over(claim, found)).await?;
        let rows = rows.map_err(failed)?;
        let held = is_held(&rows).map_err(failed)?;
        // It is read when the take-over is durable, and may be another run's by then.
        let entry = read_entry_and_steps(&rows).map_err(failed)?.filter(|entry| holds(entry, &claim.hold()));
        Ok(entry.filter(|_| held || again).map(|entry| entry.steps))
    }

    async fn entry(&self, key: KeyHash) -> Result<Option<Entry>, StoreError> {
        let failed = |error| driver_error("reading what is recorded of a key", error);
        loop {
            let mut connection = self.connections.lease().await?;
            let query = sqlx::query(self.lease_statements.entry.clone()).bind(&key.as_bytes()[..]);
            match heard(connection.patience(), query.fetch_all(&mut *connection)).await {
                Ok(rows) => {
                    connection.give_back();
                    return read_entry_and_steps(&rows).map_err(failed);
                }
                Err(error) if connection.is_reused() && broke(&error) => {}
                Err(error) => return Err(failed(error)),
            }
        }
    }

    async fn renew(&self, leases: &[Lease]) -> Result<Vec<Hold>, StoreError> {
        let doing = "renewing leases";
        let failed = |error| driver_error(doing, error);
        if leases.is_empty() {
            return Ok(Vec::new());
        }
        let mut sorted = leases.to_vec();
        sorted.sort_unstable_by_key(|lease| lease.hold.key);
        let renew = |leases: &[Lease], locked| self.lease_statements.renew(leases, locked, RENEWAL_LOCK_WAIT);
        let rows = self.beat(|| renew(&sorted, Locked::Skip)).await?.rows.map_err(failed)?;
        let (mut held, locked) = read_tokens(&rows).map_err(failed)?;
        if locked.is_empty() {
            return Ok(lost(leases, &held));
        }
        // As by a write of their own runs: those are waited for, but not by the others.
        sorted.retain(|lease| locked.contains(&lease.hold.token.0));
        let rows = match self.beat(|| renew(&sorted, Locked::Wait)).await?.rows {
            Ok(rows) => rows,
            // While somebody has a record locked nobody can take the key over either, so its lease is not lost yet.
            Err(error) if is_lock_timeout(&error) => {
                warn!(leases = sorted.len(), "records are locked for long; their leases are renewed later");
                self.beat(|| self.lease_statements.still_held(&sorted)).await?.rows.map_err(failed)?
            }
            Err(error) => return Err(failed(error)),
        };
        let (renewed, locked) = read_tokens(&rows).map_err(failed)?;
        held.extend(renewed);
        held.extend(locked);
        Ok(lost(leases, &held))
    }

    async fn change(&self, hold: &Hold, change: &Change<'_>) -> Result<Held, StoreError> {
        let failed = |error| driver_error("recording what a run did", error);
        let Answer { rows, again } = self.send(|| self.lease_statements.change(hold, change)).await?;
        match rows {
            Ok(rows) if is_held(&rows).map_err(failed)? => Ok(Held::Yes),
            // It may be the first message that has ended the run.
            Ok(_) if again => Ok(Held::Unknown),
            Ok(_) => Ok(Held::Lost),
            Err(error) if broke(&error) => Ok(Held::Unknown),
            Err(error) => Err(failed(error)),
        }
    }

    async fn resolve(&self, resolve: &Resolve<'_>) -> Result<bool, StoreError> {
        let failed = |error| driver_error("resolving a key", error);
        // A person's word is not sent twice: what it answers the second time would be wrong.
        let mut connection = self.connections.lease_alive().await?;
        let sql = self.lease_statements.resolve(resolve);
        let rows = message(&mut connection, sql).await.map_err(failed)?;
        connection.give_back();
        is_held(&rows).map_err(failed)
    }

    async fn forget(&self, forget: &Forget<'_>) -> Result<bool, StoreError> {
        let failed = |error| driver_error("forgetting a key", error);
        // As little as a resolution is it sent twice.
        let mut connection = self.connections.lease_alive().await?;
        let rows = message(&mut connection, self.lease_statements.forget(forget)).await.map_err(failed)?;
        connection.give_back();
        is_held(&rows).map_err(failed)
    }

    async fn audit(&self, key: KeyHash) -> Result<Vec<AuditRow>, StoreError> {
        self.question("reading the audit of a key", self.operate.questions.audit(key), read_audit_row).await
    }

    async fn tasks(&self, namespace: &str, after: i64, limit: u32) -> Result<Vec<TaskRow>, StoreError> {
        let doing = "reading the outbox";
        let rows = self.ask(doing, || self.lease_statements.tasks(namespace, after, limit)).await?;
        read_rows(doing, &rows, |row| read_task(row, namespace))
    }

    async fn take_task(&self, namespace: &str, number: i64) -> Result<Option<TaskRow>, StoreError> {
        let doing = "taking a task of the outbox";
        let rows = self.ask(doing, || self.lease_statements.take_task(namespace, number)).await?;
        let taken = rows.first().map(|row| read_task(row, namespace)).transpose();
        taken.map_err(|error| driver_error(doing, error))
    }

    async fn delete_task(&self, number: i64) -> Result<bool, StoreError> {
        let failed = |error| driver_error("deleting a task of the outbox", error);
        let Answer { rows, again } = self.send(|| self.lease_statements.delete_task(number)).await?;
        // Of two messages the first may have deleted it; nobody but a relay does.
        Ok(is_held(&rows.map_err(failed)?).map_err(failed)? || again)
    }
}

fn read_task(row: &MySqlRow, namespace: &str) -> Result<TaskRow, sqlx::Error> {
    let task = NewTask {
        namespace: namespace.to_owned(),
        id: read_key(row, "id")?,
        job: row.try_get("job")?,
        key: row.try_get("key")?,
        payload: row.try_get("payload")?,
    };
    Ok(TaskRow {
        number: row.try_get("number")?,
        task,
        id: read_task_id(row.try_get("task")?)?,
        unclaimed: row.try_get::<Option<&[u8]>, _>("unclaimed")?.map(key_of_bytes).transpose()?,
        priority: row.try_get("priority")?,
        attempts: row.try_get::<Option<i32>, _>("attempts")?.and_then(|count| u32::try_from(count).ok()),
    })
}

fn is_held(rows: &[MySqlRow]) -> Result<bool, sqlx::Error> {
    for row in rows.iter().filter(|row| row.column(0).name() == "idem_held") {
        if row.try_get::<i64, _>(0)? == 1 {
            return Ok(true);
        }
    }
    Ok(false)
}

fn read_entry_and_steps(rows: &[MySqlRow]) -> Result<Option<Entry>, sqlx::Error> {
    let mut entry = None;
    for row in rows.iter().filter(|row| row.column(0).name() == "outcome") {
        let entry: &mut Entry = match &mut entry {
            Some(entry) => entry,
            none => none.insert(read_entry(row)?),
        };
        if let Some(seq) = row.try_get::<Option<i32>, _>("seq")? {
            entry.steps.push(StepRecord {
                seq: u32::try_from(seq).map_err(|error| sqlx::Error::Decode(error.into()))?,
                name: row.try_get("name")?,
                result: row.try_get("step_result")?,
            });
        }
    }
    Ok(entry)
}

fn read_entry(row: &MySqlRow) -> Result<Entry, sqlx::Error> {
    EntryColumns {
        outcome: row.try_get("outcome")?,
        expired: row.try_get::<i64, _>("expired")? == 1,
        epoch: row.try_get("epoch")?,
        token: row.try_get("token")?,
        attempts: row.try_get("attempts")?,
        fingerprint: row.try_get("fingerprint")?,
        lease_left: row.try_get("lease_left")?,
        result: row.try_get("result")?,
    }
    .read()
}

/// Reads the tokens of the runs that have their keys: those whose leases were renewed, and the others.
fn read_tokens(rows: &[MySqlRow]) -> Result<(Vec<i64>, Vec<i64>), sqlx::Error> {
    let (mut renewed, mut locked) = (Vec::new(), Vec::new());
    for row in rows.iter().filter(|row| row.column(0).name() == "token") {
        let tokens = if row.try_get::<i64, _>("renewed")? == 1 { &mut renewed } else { &mut locked };
        tokens.push(row.try_get("token")?);
    }
    Ok((renewed, locked))
}

pub(super) fn read_key(row: &MySqlRow, column: &str) -> Result<KeyHash, sqlx::Error> {
    key_of_bytes(row.try_get(column)?)
}
