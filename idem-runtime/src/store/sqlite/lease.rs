//! Leased jobs in SQLite.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{Column, Row, SqlStr, Sqlite};

use super::SqliteStore;
use super::tx::retain_seconds;
use crate::error::{StoreError, StoreErrorKind};
use crate::job::Retain;
use crate::key::KeyHash;
use crate::record::{Entry, Hold, State, StepRecord};
use crate::store::sql::{
    EntryColumns, driver_error, key_of_bytes, lost, read_audit_row, read_rows, read_task_id, state_code,
    state_codes,
};
use crate::store::{
    AuditRow, Change, Claimed, Forget, Held, Lease, LeaseClaim, LeaseStore, NewTask, Resolve, TaskRow,
};

/// How long a renewal waits for its turn to write, at the least.
const TURN_MIN: Duration = Duration::from_millis(500);

/// The share of the shortest lease for which it waits otherwise: who leaves the queue loses its place there, so that
/// behind many short transactions no renewal would ever get through. The heart gives a try a third.
const TURNS_PER_LEASE: u32 = 4;

impl SqliteStore {
    /// Sends what is one transaction, or one statement, to the writer, and returns its rows. A connection whose
    /// transaction did not end in order is closed.
    pub(super) async fn write(
        &self,
        doing: &str,
        query: Query<'_, Sqlite, SqliteArguments>,
    ) -> Result<Vec<SqliteRow>, StoreError> {
        let mut writer = self.writer.lease().await?;
        let rows = query.fetch_all(&mut *writer).await.map_err(|error| driver_error(doing, error))?;
        writer.give_back();
        Ok(rows)
    }

    pub(super) async fn look(
        &self,
        doing: &str,
        query: Query<'_, Sqlite, SqliteArguments>,
    ) -> Result<Vec<SqliteRow>, StoreError> {
        let mut reader = self.readers.lease().await?;
        let rows = query.fetch_all(&mut *reader).await.map_err(|error| driver_error(doing, error))?;
        reader.give_back();
        Ok(rows)
    }
}

#[async_trait]
impl LeaseStore for SqliteStore {
    async fn claim(&self, claim: &LeaseClaim<'_>) -> Result<Claimed, StoreError> {
        let doing = "claiming a key";
        loop {
            // What is recorded is found without a turn to write.
            if let Some(entry) = self.entry(claim.key.hash()).await? {
                return Ok(Claimed::Found(entry));
            }
            let mut writer = self.writer.lease().await?;
            let inserted = bind_claim(&self.lease_statements.claim, claim)
                .execute(&mut *writer)
                .await
                .map_err(|error| driver_error(doing, error))?
                .rows_affected();
            writer.give_back();
            if inserted == 1 {
                return Ok(Claimed::New);
            }
        }
    }

    async fn take_over(
        &self,
        claim: &LeaseClaim<'_>,
        found: &Entry,
    ) -> Result<Option<Vec<StepRecord>>, StoreError> {
        let doing = "taking a key over";
        let (first, last) = state_codes(found.state);
        let query = bind_claim(&self.lease_statements.take_over, claim)
            .bind(found.epoch.0)
            .bind(found.token.0)
            .bind(first)
            .bind(last);
        let rows = self.write(doing, query).await?;
        match is_held(&rows) {
            true => read_steps(&rows).map(Some).map_err(|error| driver_error(doing, error)),
            false => Ok(None),
        }
    }

    async fn entry(&self, key: KeyHash) -> Result<Option<Entry>, StoreError> {
        let doing = "reading what is recorded of a key";
        let query = sqlx::query(self.lease_statements.entry.clone()).bind(bytes(&key));
        let rows = self.look(doing, query).await?;
        read_entry_and_steps(&rows).map_err(|error| driver_error(doing, error))
    }

    async fn renew(&self, leases: &[Lease]) -> Result<Vec<Hold>, StoreError> {
        let doing = "renewing leases";
        let query = sqlx::query(self.lease_statements.renew(leases)).persistent(false);
        let shortest = leases.iter().map(|lease| lease.length).min().unwrap_or_default();
        let turn = TURN_MIN.max(shortest / TURNS_PER_LEASE);
        // While one transaction has the turn to write, nobody else can take a key over.
        let Ok(rows) = tokio::time::timeout(turn, self.write(doing, query)).await else {
            let text = format!(
                "the transactions of this process had the turn to write for {turn:?}, so leases cannot be renewed yet; keep \
                 transactions short"
            );
            return Err(StoreError::new(StoreErrorKind::Conflict, text).temporary());
        };
        let rows = rows?;
        let renewed: Result<Vec<i64>, _> = rows.iter().map(|row| row.try_get("token")).collect();
        Ok(lost(leases, &renewed.map_err(|error| driver_error(doing, error))?))
    }

    async fn change(&self, hold: &Hold, change: &Change<'_>) -> Result<Held, StoreError> {
        let statements = &self.lease_statements;
        let bound = |sql: &SqlStr| {
            sqlx::query(sql.clone()).bind(bytes(&hold.key)).bind(hold.epoch.0).bind(hold.token.0)
        };
        let query = match *change {
            Change::BeginStep { seq, name } => bound(&statements.begin_step).bind(seq).bind(name.to_owned()),
            Change::EndStep { seq, name, result } => {
                bound(&statements.end_step).bind(seq).bind(name.to_owned()).bind(result.to_vec())
            }
            Change::ForgetStep { seq } => bound(&statements.forget_step).bind(seq),
            Change::Fail { trouble } => {
                bound(&statements.end).bind(state_code(State::Failed)).bind(trouble.to_vec())
            }
            Change::Park { parked } => {
                bound(&statements.end).bind(state_code(State::Parked)).bind(parked.to_vec())
            }
            Change::Settle { outcome, result, retain, tasks } => {
                let result = if retain == Retain::None { &[] } else { result };
                let sql = statements.settle(&expires_at(retain), tasks.len());
                let query =
                    bound(&sql).persistent(tasks.is_empty()).bind(outcome.code()).bind(result.to_vec());
                bind_tasks(query, tasks)
            }
        };
        let rows = self.write("recording what a run did", query).await?;
        Ok(if is_held(&rows) { Held::Yes } else { Held::Lost })
    }

    async fn resolve(&self, resolve: &Resolve<'_>) -> Result<bool, StoreError> {
        let sql = self.lease_statements.resolve(
            resolve.from,
            resolve.state,
            &match resolve.state {
                State::Completed => expires_at(resolve.retain),
                _ => String::from("NULL"),
            },
        );
        let query = sqlx::query(sql)
            .persistent(false)
            .bind(bytes(&resolve.key))
            .bind(resolve.epoch.0)
            .bind(state_code(resolve.state))
            .bind(resolve.payload.to_vec())
            .bind(resolve.action.to_owned())
            .bind(resolve.why.to_owned())
            .bind(resolve.step.map(|step| step.name.to_owned()))
            .bind(resolve.step.and_then(|step| step.result).map(<[u8]>::to_vec))
            .bind(resolve.job.0)
            .bind(resolve.step.map(|step| step.seq));
        let rows = self.write("resolving a key", query).await?;
        Ok(is_held(&rows))
    }

    async fn forget(&self, forget: &Forget<'_>) -> Result<bool, StoreError> {
        let query = sqlx::query(self.lease_statements.forget(forget.state))
            .persistent(false)
            .bind(bytes(&forget.key))
            .bind(forget.job.0)
            .bind(forget.epoch.0)
            .bind(forget.action.to_owned())
            .bind(forget.why.to_owned());
        let rows = self.write("forgetting a key", query).await?;
        Ok(is_held(&rows))
    }

    async fn audit(&self, key: KeyHash) -> Result<Vec<AuditRow>, StoreError> {
        self.question("reading the audit of a key", self.operate.questions.audit(key), read_audit_row).await
    }

    async fn tasks(&self, namespace: &str, after: i64, limit: u32) -> Result<Vec<TaskRow>, StoreError> {
        let doing = "reading the outbox";
        let query = sqlx::query(self.lease_statements.tasks.clone())
            .bind(namespace.to_owned())
            .bind(after)
            .bind(limit);
        let rows = self.look(doing, query).await?;
        read_rows(doing, &rows, |row| read_task(row, namespace))
    }

    async fn take_task(&self, namespace: &str, number: i64) -> Result<Option<TaskRow>, StoreError> {
        let failed = |error| driver_error("taking a task of the outbox", error);
        let mut writer = self.writer.lease().await?;
        let query = sqlx::query(self.lease_statements.take_task.clone());
        // To its end, or it does not commit.
        let rows = query.bind(namespace.to_owned()).bind(number).fetch_all(&mut *writer).await;
        let rows = rows.map_err(failed)?;
        writer.give_back();
        rows.first().map(|row| read_task(row, namespace)).transpose().map_err(failed)
    }

    async fn delete_task(&self, number: i64) -> Result<bool, StoreError> {
        let mut writer = self.writer.lease().await?;
        let deleted = sqlx::query(self.lease_statements.delete_task.clone())
            .bind(number)
            .execute(&mut *writer)
            .await
            .map_err(|error| driver_error("deleting a task of the outbox", error))?
            .rows_affected();
        writer.give_back();
        Ok(deleted == 1)
    }
}

fn read_task(row: &SqliteRow, namespace: &str) -> Result<TaskRow, sqlx::Error> {
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
        attempts: row.try_get("attempts")?,
    })
}

/// Binds the claim to the first eight parameters.
fn bind_claim<'q>(sql: &SqlStr, claim: &LeaseClaim<'_>) -> Query<'q, Sqlite, SqliteArguments> {
    sqlx::query(sql.clone())
        .bind(bytes(&claim.key.hash()))
        .bind(claim.job.0)
        .bind(claim.fingerprint.to_bits())
        .bind(claim.key.readable().to_owned())
        .bind(claim.epoch.0)
        .bind(claim.token.0)
        .bind(claim.attempts)
        .bind(i64::try_from(claim.lease.as_millis()).unwrap_or(i64::MAX / 2))
}

/// Binds what tasks are put into the outbox with.
pub(super) fn bind_tasks<'q>(
    query: Query<'q, Sqlite, SqliteArguments>,
    tasks: &[NewTask],
) -> Query<'q, Sqlite, SqliteArguments> {
    tasks.iter().fold(query, |query, NewTask { namespace, id, job, key, payload }| {
        query
            .bind(namespace.clone())
            .bind(bytes(id))
            .bind(job.clone())
            .bind(key.clone())
            .bind(payload.clone())
    })
}

fn bytes(key: &KeyHash) -> Vec<u8> {
    key.as_bytes().to_vec()
}

/// Returns when a record expires, as SQL.
fn expires_at(retain: Retain) -> String {
    match (retain, retain_seconds(retain)) {
        // Not the time of now: the clock may be set back, and what was not kept must not answer until it is there again.
        (Retain::None, _) => String::from("0"),
        (_, Some(seconds)) => format!("unixepoch() + {seconds}"),
        (_, None) => String::from("NULL"),
    }
}

fn is_held(rows: &[SqliteRow]) -> bool {
    rows.iter().any(|row| row.column(0).name() == "idem_held")
}

fn read_entry_and_steps(rows: &[SqliteRow]) -> Result<Option<Entry>, sqlx::Error> {
    let Some(row) = rows.iter().find(|row| row.column(0).name() == "outcome") else { return Ok(None) };
    let mut entry = read_entry(row)?;
    entry.steps = read_steps(rows)?;
    Ok(Some(entry))
}

fn read_entry(row: &SqliteRow) -> Result<Entry, sqlx::Error> {
    EntryColumns {
        outcome: row.try_get("outcome")?,
        expired: row.try_get("expired")?,
        epoch: row.try_get("epoch")?,
        token: row.try_get("token")?,
        attempts: row.try_get("attempts")?,
        fingerprint: row.try_get("fingerprint")?,
        lease_left: row.try_get("lease_left")?,
        result: row.try_get("result")?,
    }
    .read()
}

fn read_steps(rows: &[SqliteRow]) -> Result<Vec<StepRecord>, sqlx::Error> {
    let steps = rows.iter().filter(|row| row.column(0).name() == "seq");
    steps
        .map(|row| {
            Ok(StepRecord {
                seq: row.try_get("seq")?,
                name: row.try_get("name")?,
                result: row.try_get("result")?,
            })
        })
        .collect()
}

fn read_key(row: &SqliteRow, column: &str) -> Result<KeyHash, sqlx::Error> {
    key_of_bytes(row.try_get(column)?)
}
