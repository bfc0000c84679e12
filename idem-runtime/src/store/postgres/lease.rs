//! Leased jobs in PostgreSQL.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::postgres::PgRow;
use sqlx::{Column, Postgres, Row};
use tracing::warn;

use super::lease_statements::Locked;
use super::saved::Script;
use super::{
    PostgresStore, Session, bytes_of_hex, is_lock_timeout, is_prepared_elsewhere, key_of_uuid, message,
};
use crate::error::{StoreError, StoreErrorKind};
use crate::key::KeyHash;
use crate::record::{Entry, Hold, StepRecord, holds};
use crate::store::sql::{
    Connections, EntryColumns, broke, driver_error, heard, lost, read_audit_row, read_rows, read_task_id,
};
use crate::store::{
    AuditRow, Change, Claimed, Forget, Held, Lease, LeaseClaim, LeaseStore, NewTask, Resolve, TaskRow, Watch,
};

/// How long a renewal waits for records that somebody has locked.
const RENEWAL_LOCK_WAIT: Duration = Duration::from_millis(500);

/// What came of a message.
pub(super) struct Answer {
    pub(super) rows: Result<Vec<PgRow>, sqlx::Error>,
    /// It was sent twice, and nobody knows whether the first one was heard.
    again: bool,
}

/// What came of one try to send a message.
enum Tried {
    Ended(Result<Vec<PgRow>, sqlx::Error>),
    /// The connection had died while it stood idle, or has as it was used.
    Died(sqlx::Error),
}

impl PostgresStore {
    /// Sends a message that may be sent twice: if the connection turns out to have died while it stood idle, another
    /// one takes its place.
    pub(super) async fn send(
        &self,
        write: impl Fn(&mut Script, &mut Session) + Send + Sync,
    ) -> Result<Answer, StoreError> {
        self.send_on(&self.connections, write).await
    }

    /// Sends a message that must not be sent twice: if the connection turns out to have died while it stood idle, nobody
    /// knows what became of it.
    pub(super) async fn send_once(
        &self,
        doing: &str,
        write: impl Fn(&mut Script, &mut Session) + Send + Sync,
    ) -> Result<Result<Vec<PgRow>, sqlx::Error>, StoreError> {
        match self.try_on(&self.connections, &write).await? {
            Tried::Ended(rows) => Ok(rows),
            Tried::Died(error) => {
                let text = format!("{doing} failed: {error}; it may be done; do it again");
                let unknown = StoreError::new(StoreErrorKind::OutcomeUnknown, text).temporary();
                Err(unknown.caused_by(error))
            }
        }
    }

    /// The same for a message of text that may be sent twice.
    pub(super) async fn send_text(&self, sql: String) -> Result<Answer, StoreError> {
        self.send(|script, _| script.push_str(&sql)).await
    }

    async fn send_on(
        &self,
        connections: &Connections<Postgres>,
        write: impl Fn(&mut Script, &mut Session) + Send + Sync,
    ) -> Result<Answer, StoreError> {
        let mut again = false;
        loop {
            match self.try_on(connections, &write).await? {
                Tried::Ended(rows) => return Ok(Answer { rows, again }),
                Tried::Died(_) => again = true,
            }
        }
    }

    /// Sends a message on one connection.
    async fn try_on(
        &self,
        connections: &Connections<Postgres>,
        write: &(impl Fn(&mut Script, &mut Session) + Send + Sync),
    ) -> Result<Tried, StoreError> {
        loop {
            let mut connection = connections.lease().await?;
            let session = connection.session();
            let mut script = Script::to(session, self.keeps());
            write(&mut script, session);
            let keeps = script.keeps();
            match heard(connection.patience(), script.send(&mut connection)).await {
                Ok(rows) => {
                    connection.give_back();
                    return Ok(Tried::Ended(Ok(rows)));
                }
                Err(error) if connection.is_reused() && broke(&error) => return Ok(Tried::Died(error)),
                // Nothing of it has been done.
                Err(error) if keeps && is_prepared_elsewhere(&error) => self.stop_preparing(&error),
                // Its transaction did not end in order, so it is closed.
                Err(error) => return Ok(Tried::Ended(Err(error))),
            }
        }
    }

    /// Sends a renewal, on a connection of its own: it must not queue behind the runs that it keeps alive.
    async fn beat(&self, sql: String) -> Result<Answer, StoreError> {
        self.send_on(self.heart.connection(), |script, _| script.push_str(&sql)).await
    }

    /// Sends what changes nothing, or nothing more when it is sent again.
    pub(super) async fn ask(&self, doing: &str, sql: String) -> Result<Vec<PgRow>, StoreError> {
        self.send_text(sql).await?.rows.map_err(|error| driver_error(doing, error))
    }
}

#[async_trait]
impl LeaseStore for PostgresStore {
    async fn claim(&self, claim: &LeaseClaim<'_>) -> Result<Claimed, StoreError> {
        let doing = "claiming a key";
        loop {
            let Answer { rows, again } =
                self.send(|script, _| self.lease_statements.claim(script, claim)).await?;
            let rows = rows.map_err(|error| driver_error(doing, error))?;
            let entry = read_entry_and_steps(&rows).map_err(|error| driver_error(doing, error))?;
            match entry {
                _ if is_held(&rows) => return Ok(Claimed::New),
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
        let doing = "taking a key over";
        let sql = self.lease_statements.take_over(claim, found);
        let Answer { rows, again } = self.send_text(sql).await?;
        let rows = rows.map_err(|error| driver_error(doing, error))?;
        let entry = read_entry_and_steps(&rows).map_err(|error| driver_error(doing, error))?;
        let taken = entry.filter(|entry| is_held(&rows) || again && holds(entry, &claim.hold()));
        Ok(taken.map(|entry| entry.steps))
    }

    async fn entry(&self, key: KeyHash) -> Result<Option<Entry>, StoreError> {
        let failed = |error| driver_error("reading what is recorded of a key", error);
        if !self.has_sessions() {
            let rows =
                self.ask("reading what is recorded of a key", self.lease_statements.entry_text(key)).await?;
            return read_entry_and_steps(&rows).map_err(failed);
        }
        loop {
            let mut connection = self.connections.lease().await?;
            let query = sqlx::query(self.lease_statements.entry.query())
                .bind(uuid::Uuid::from_bytes(*key.as_bytes()));
            match heard(connection.patience(), query.fetch_all(&mut *connection)).await {
                Ok(rows) => {
                    connection.give_back();
                    return read_entry_and_steps(&rows).map_err(failed);
                }
                Err(error) if connection.is_reused() && broke(&error) => {}
                Err(error) if is_prepared_elsewhere(&error) => {
                    self.stop_preparing(&error);
                    return Box::pin(self.entry(key)).await;
                }
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
        let renew = self.lease_statements.renew(leases, Locked::Skip);
        let rows = self.beat(renew).await?.rows.map_err(failed)?;
        let mut renewed = read_tokens(&rows).map_err(failed)?;
        let left: Vec<Lease> =
            leases.iter().filter(|lease| !renewed.contains(&lease.hold.token.0)).copied().collect();
        if left.is_empty() {
            return Ok(Vec::new());
        }
        // Some are lost, or locked, as by a write of their own runs: those are waited for, but not by the others.
        let wait = self.lease_statements.renew(&left, Locked::Wait(RENEWAL_LOCK_WAIT));
        let rows = match self.beat(wait).await?.rows {
            Ok(rows) => rows,
            // While somebody has a record locked nobody can take the key over either, so its lease is not lost yet.
            Err(error) if is_lock_timeout(&error) => {
                warn!(leases = left.len(), "records are locked for long; their leases are renewed later");
                self.beat(self.lease_statements.still_held(&left)).await?.rows.map_err(failed)?
            }
            Err(error) => return Err(failed(error)),
        };
        renewed.extend(read_tokens(&rows).map_err(failed)?);
        Ok(lost(leases, &renewed))
    }

    async fn change(&self, hold: &Hold, change: &Change<'_>) -> Result<Held, StoreError> {
        let Answer { rows, again } = self
            .send(|script, session| {
                self.lease_statements.change(script, hold, change, self.bell_in(session, hold.key));
            })
            .await?;
        match rows {
            Ok(rows) if is_held(&rows) => Ok(Held::Yes),
            // It may be the first message that has ended the run.
            Ok(_) if again => Ok(Held::Unknown),
            Ok(_) => Ok(Held::Lost),
            Err(error) if broke(&error) => Ok(Held::Unknown),
            Err(error) => Err(driver_error("recording what a run did", error)),
        }
    }

    async fn resolve(&self, resolve: &Resolve<'_>) -> Result<bool, StoreError> {
        // A person's word is not sent twice: what it answers the second time would be wrong.
        let mut connection = self.connections.lease_alive().await?;
        let bell = self.bell_in(connection.session(), resolve.key);
        let mut script = Script::text();
        self.lease_statements.resolve(&mut script, resolve, bell);
        let rows =
            script.send(&mut connection).await.map_err(|error| driver_error("resolving a key", error))?;
        connection.give_back();
        Ok(is_held(&rows))
    }

    async fn forget(&self, forget: &Forget<'_>) -> Result<bool, StoreError> {
        // As little as a resolution is it sent twice.
        let mut connection = self.connections.lease_alive().await?;
        let rows = message(&mut connection, self.lease_statements.forget(forget))
            .await
            .map_err(|error| driver_error("forgetting a key", error))?;
        connection.give_back();
        Ok(is_held(&rows))
    }

    async fn audit(&self, key: KeyHash) -> Result<Vec<AuditRow>, StoreError> {
        self.question("reading the audit of a key", self.operate.questions.audit(key), read_audit_row).await
    }

    async fn tasks(&self, namespace: &str, after: i64, limit: u32) -> Result<Vec<TaskRow>, StoreError> {
        let doing = "reading the outbox";
        let rows = self.ask(doing, self.lease_statements.tasks(namespace, after, limit)).await?;
        read_rows(doing, &rows, |row| read_task(row, namespace))
    }

    async fn take_task(&self, namespace: &str, number: i64) -> Result<Option<TaskRow>, StoreError> {
        let doing = "taking a task of the outbox";
        let rows = self.ask(doing, self.lease_statements.take_task(namespace, number)).await?;
        let taken = rows.first().map(|row| read_task(row, namespace)).transpose();
        taken.map_err(|error| driver_error(doing, error))
    }

    async fn delete_task(&self, number: i64) -> Result<bool, StoreError> {
        let sql = self.lease_statements.delete_task(number);
        let Answer { rows, again } = self.send_text(sql).await?;
        let rows = rows.map_err(|error| driver_error("deleting a task of the outbox", error))?;
        // Of two messages the first may have deleted it; nobody but a relay does.
        Ok(is_held(&rows) || again)
    }

    async fn watch(&self, key: KeyHash) -> Result<Option<Box<dyn Watch>>, StoreError> {
        // Behind a transaction pooler the locks and the listening would be another client's.
        if !self.has_sessions() {
            return Ok(None);
        }
        let mut connection = self.connections.lease().await?;
        let bell = self.bell_in(connection.session(), key);
        connection.give_back();
        Ok(self.watches.begin(bell).await.map(|watch| Box::new(watch) as _))
    }
}

fn read_task(row: &PgRow, namespace: &str) -> Result<TaskRow, sqlx::Error> {
    let task = NewTask {
        namespace: namespace.to_owned(),
        id: key_of_uuid(row.try_get("id")?),
        job: row.try_get("job")?,
        key: row.try_get("key")?,
        payload: read_bytes(row, "payload")?.unwrap_or_default(),
    };
    Ok(TaskRow {
        number: row.try_get("number")?,
        task,
        id: read_task_id(row.try_get("task")?)?,
        unclaimed: row.try_get::<Option<_>, _>("unclaimed")?.map(key_of_uuid),
        priority: row.try_get("priority")?,
        attempts: row.try_get::<Option<i32>, _>("attempts")?.and_then(|count| u32::try_from(count).ok()),
    })
}

fn is_held(rows: &[PgRow]) -> bool {
    rows.iter().any(|row| row.column(0).name() == "idem_held")
}

fn read_entry_and_steps(rows: &[PgRow]) -> Result<Option<Entry>, sqlx::Error> {
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
                result: read_bytes(row, "step_result")?,
            });
        }
    }
    Ok(entry)
}

fn read_entry(row: &PgRow) -> Result<Entry, sqlx::Error> {
    EntryColumns {
        outcome: row.try_get("outcome")?,
        expired: row.try_get("expired")?,
        epoch: row.try_get("epoch")?,
        token: row.try_get("token")?,
        attempts: row.try_get("attempts")?,
        fingerprint: row.try_get("fingerprint")?,
        lease_left: row.try_get("lease_left")?,
        result: read_bytes(row, "result")?.unwrap_or_default(),
    }
    .read()
}

fn read_tokens(rows: &[PgRow]) -> Result<Vec<i64>, sqlx::Error> {
    rows.iter().map(|row| row.try_get("token")).collect()
}

fn read_bytes(row: &PgRow, column: &str) -> Result<Option<Vec<u8>>, sqlx::Error> {
    let digits: Option<&str> = row.try_get(column)?;
    let bytes = |digits| bytes_of_hex(digits).ok_or_else(|| sqlx::Error::Decode("no hex digits".into()));
    digits.map(bytes).transpose()
}
