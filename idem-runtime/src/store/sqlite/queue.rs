//! Unique claims and tasks in SQLite, whose one writer makes a transaction of several statements as good as one.

use std::collections::HashMap;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Waker};
use std::time::Duration;

use async_trait::async_trait;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, Row, SqlSafeStr, SqlStr, Sqlite};

use super::SqliteStore;
use super::lease_statements::NOW;
use crate::engine::{BEGUN, BEYOND_LIMIT, TaskId};
use crate::error::{StoreError, StoreErrorKind};
use crate::fingerprint::Fingerprint;
use crate::key::{Key, KeyHash};
use crate::record::{JobId, Latest, Moment, Move, Places, latest};
use crate::store::sql::{claim_of, crowded, driver_error, engine_error, key_of_bytes, millis, parse_task_id};
use crate::store::{Attempt, Engine, Holder, Push, Pushed, QueueStore, Settings, UniqueClaim};

/// Returns the SQL that makes the tables.
pub(super) fn schema(settings: &Settings) -> String {
    let [claims, outbox] = ["claims", "outbox"].map(|name| settings.table(name));
    format!(
        "CREATE TABLE {claims} (\n    key BLOB NOT NULL PRIMARY KEY,\n    job INTEGER NOT NULL,\n    task TEXT NOT NULL,\n    \
         since INTEGER NOT NULL,\n    expires_at INTEGER,\n    readable TEXT NOT NULL\n) STRICT, WITHOUT ROWID;\n\
         CREATE INDEX {claims}_task ON {claims} (task);\n\
         CREATE INDEX {claims}_expired ON {claims} (expires_at) WHERE expires_at IS NOT NULL;\n\
         ALTER TABLE {outbox} ADD COLUMN task TEXT;\n\
         ALTER TABLE {outbox} ADD COLUMN unclaimed BLOB;\n\
         ALTER TABLE {outbox} ADD COLUMN due INTEGER;\n\
         ALTER TABLE {outbox} ADD COLUMN priority INTEGER;\n\
         ALTER TABLE {outbox} ADD COLUMN attempts INTEGER;\n\
         CREATE UNIQUE INDEX {outbox}_task ON {outbox} (task);\n"
    )
}

/// The SQL of the queue, with the tables' names.
pub(super) struct QueueStatements {
    is_there: SqlStr,
    take_out: SqlStr,
    done: SqlStr,
    claim: SqlStr,
    holder: SqlStr,
    to_apalis: SqlStr,
    to_outbox: SqlStr,
    replace_in_apalis: SqlStr,
    replace_in_outbox: SqlStr,
    hand_over: SqlStr,
    places: SqlStr,
    change_key: SqlStr,
    in_hand: SqlStr,
    release: SqlStr,
    release_in_hand: SqlStr,
    put_back: SqlStr,
    put_back_begun: SqlStr,
    put_off: SqlStr,
    begin_beyond_limit: SqlStr,
    sweep: SqlStr,
    triggers: [Trigger; 3],
    prepare: String,
}

impl QueueStatements {
    pub(super) fn new(settings: &Settings) -> Self {
        let [records, claims, outbox] = ["records", "claims", "outbox"].map(|name| settings.table(name));
        let prefix = &settings.table_prefix;
        let safe = |sql: String| AssertSqlSafe(sql).into_sql_str();
        // apalis counts in seconds here, and a second that has begun counts as a whole one.
        let due = |after: &str| format!("iif({after} > 0, ({NOW} + {after} + 999) / 1000, unixepoch())");
        // What storages that share one poll have taken has no name yet.
        let in_hand = "id = $1 AND (lock_by = $2 OR lock_by IS NULL) AND status IN ('Queued', 'Running')";
        let put_off = |changes: &str| safe(format!("UPDATE Jobs SET {changes} WHERE {in_hand}"));
        let run_at = format!("run_at = {}", due("$3"));
        let [beyond_limit, begun] = [BEYOND_LIMIT, BEGUN].map(|note| format!("'$.\"{note}\"'"));
        let put_back = |metadata: &str| {
            put_off(&format!(
                "status = 'Pending', lock_by = NULL, lock_at = NULL, done_at = NULL, metadata = {metadata}, {run_at}"
            ))
        };
        let holds = format!("EXISTS (SELECT 1 FROM {claims} WHERE key = $1 AND task = $2)");
        let triggers = triggers(prefix, &claims);
        QueueStatements {
            is_there: safe(format!("SELECT 1 FROM {outbox} WHERE number = $1 AND payload = $2")),
            take_out: safe(format!("DELETE FROM {outbox} WHERE number = $1")),
            done: safe(format!(
                "SELECT fingerprint FROM {records} WHERE key = $1 AND outcome <= 2 \
                 AND (expires_at IS NULL OR expires_at > unixepoch())"
            )),
            claim: safe(format!(
                "INSERT INTO {claims} (key, job, task, since, expires_at, readable) \
                 VALUES ($1, $2, $3, {NOW}, {NOW} + $4, $5) ON CONFLICT (key) DO UPDATE SET job = excluded.job, \
                 task = excluded.task, since = excluded.since, expires_at = excluded.expires_at, \
                 readable = excluded.readable WHERE {claims}.expires_at <= {NOW}"
            )),
            holder: safe(format!(
                "SELECT task, {NOW} - since AS since, expires_at - {NOW} AS held_for FROM {claims} WHERE key = $1 \
                 AND (expires_at IS NULL OR expires_at > {NOW})"
            )),
            to_apalis: safe(format!(
                "INSERT INTO Jobs (job, id, job_type, status, attempts, max_attempts, run_at, priority, metadata) \
                 VALUES ($1, $2, $3, 'Pending', 0, $4, {}, $6, $7)",
                due("$5")
            )),
            to_outbox: safe(format!(
                "INSERT INTO {outbox} (namespace, id, job, key, payload, at, task, unclaimed, due, priority, attempts) \
                 VALUES ($1, $2, $3, $4, $5, unixepoch(), $6, $7, iif($8 > 0, {NOW} + $8, NULL), $9, $10)"
            )),
            replace_in_apalis: safe(format!(
                "UPDATE Jobs SET job = $3 WHERE id = $2 AND status = 'Pending' AND lock_by IS NULL AND attempts = 0 \
                 AND instr(coalesce(metadata, ''), '{BEGUN}') = 0 AND {holds}"
            )),
            replace_in_outbox: safe(format!(
                "UPDATE {outbox} SET payload = $3, id = $4, key = $5 WHERE task = $2 AND namespace = $6 \
                 AND (due IS NULL OR due > 0) AND {holds}"
            )),
            hand_over: safe(format!(
                "INSERT INTO {claims} (key, job, task, since, expires_at, readable) \
                 SELECT $1, job, $2, {NOW}, expires_at, $3 FROM {claims} WHERE key = $4"
            )),
            places: safe(format!("SELECT key, task FROM {claims} WHERE key IN ($1, $2, $3)")),
            change_key: safe(format!(
                "UPDATE {claims} SET key = $3, readable = $4 WHERE key = $1 AND task = $2"
            )),
            in_hand: safe(format!("SELECT 1 FROM Jobs WHERE {in_hand}")),
            release: safe(format!("DELETE FROM {claims} WHERE task = $1 AND expires_at IS NULL")),
            release_in_hand: safe(format!(
                "DELETE FROM {claims} WHERE task = $1 AND expires_at IS NULL AND EXISTS (SELECT 1 FROM Jobs WHERE {in_hand})"
            )),
            put_back: put_back(&format!(
                "CASE WHEN instr(metadata, '{BEYOND_LIMIT}') > 0 THEN json_remove(metadata, {beyond_limit}) \
                 ELSE metadata END"
            )),
            put_back_begun: put_back(&format!(
                "json_set(json_remove(coalesce(metadata, '{{}}'), {beyond_limit}), {begun}, 'interrupted')"
            )),
            put_off: put_off(&run_at),
            begin_beyond_limit: put_off(&format!(
                "metadata = json_set(coalesce(metadata, '{{}}'), {beyond_limit}, 'begun')"
            )),
            sweep: safe(format!(
                "DELETE FROM {claims} WHERE key IN (SELECT key FROM {claims} WHERE expires_at <= {NOW} LIMIT $1) \
                 AND expires_at <= {NOW}"
            )),
            prepare: prepare(&claims, &triggers),
            triggers,
        }
    }
}

/// Ties claims to the tasks of apalis, by triggers: a claim ends in the transaction in which apalis gives its task up, be
/// it done, out of attempts, killed by hand or deleted. What a worker says late of a task that was put back, that it had
/// begun, takes the task neither out of its queue nor from the worker that has it by then; and that it was put back ends no
/// task, also where that worker has it again. A task that is taken without a name, as storages that share one poll do it,
/// begins in any hands.
fn triggers(prefix: &str, claims: &str) -> [Trigger; 3] {
    let release = format!("BEGIN DELETE FROM {claims} WHERE task = OLD.id AND expires_at IS NULL; END");
    let ended =
        "NEW.status IN ('Done', 'Killed') OR NEW.status = 'Failed' AND NEW.attempts >= NEW.max_attempts";
    let late = "NEW.status = 'Running' AND OLD.lock_by IS NOT NEW.lock_by \
                AND (OLD.status <> 'Queued' OR OLD.lock_by IS NOT NULL)";
    // As apalis writes `Ran::PutBack`.
    let put_back = r#"NEW.status = 'Done' AND NEW.last_result LIKE '{"Ok":{"put_back":{"why":%'"#;
    [
        ("task_ended", format!("AFTER UPDATE OF status ON Jobs WHEN {ended} {release}")),
        ("task_deleted", format!("AFTER DELETE ON Jobs {release}")),
        (
            "task_put_back",
            format!(
                "BEFORE UPDATE OF status ON Jobs WHEN {late} OR {put_back} BEGIN SELECT RAISE(IGNORE); END"
            ),
        ),
    ]
    .map(|(name, does)| {
        let name = format!("{prefix}{name}");
        Trigger { sql: format!("CREATE TRIGGER {name} {does}"), name }
    })
}

/// Says what keeps a push out that has a transaction of its own: often it is one of the caller's, which waits for the push.
fn kept_out(error: StoreError) -> StoreError {
    if error.kind() != StoreErrorKind::Conflict {
        return error;
    }
    let text = "enqueueing failed: another connection writes for longer than the pool's `busy_timeout`; if it is a transaction \
                of yours, enqueue in that, with `push_in`; nothing was enqueued; try again";
    StoreError::new(StoreErrorKind::Conflict, text).caused_by(error).temporary()
}

/// A trigger on the tasks of apalis.
struct Trigger {
    name: String,
    /// What makes it, letter for letter as SQLite keeps it.
    sql: String,
}

/// Makes the triggers anew: those that are there may be of another version.
fn prepare(claims: &str, triggers: &[Trigger]) -> String {
    let mut sql = format!("BEGIN IMMEDIATE; SELECT 1 FROM {claims} LIMIT 0; ");
    for Trigger { name, sql: create } in triggers {
        sql += &format!("DROP TRIGGER IF EXISTS {name}; {create}; ");
    }
    sql + "COMMIT"
}

/// The transaction that a push is part of.
enum Turn<'c> {
    /// The caller's; what idem has done in it is undone by a savepoint, also if the push is dropped.
    Caller(Savepoint<'c>),
    /// One of idem's own.
    Own(super::Leased<Sqlite>),
}

/// A savepoint in the caller's transaction, which is undone if it is dropped.
///
/// It is none of sqlx's: such a one undoes the caller's transaction if it is dropped as it begins.
struct Savepoint<'c> {
    connection: &'c mut SqliteConnection,
    is_open: bool,
}

impl Drop for Savepoint<'_> {
    fn drop(&mut self) {
        if !self.is_open {
            return;
        }
        for sql in ["ROLLBACK TO idem_push", "RELEASE idem_push"] {
            // The first poll hands it to the thread of the connection, which does it before whatever the caller sends next.
            let undone = pin!(sqlx::raw_sql(sql).execute(&mut *self.connection));
            let _ = undone.poll(&mut Context::from_waker(Waker::noop()));
        }
    }
}

impl<'c> Turn<'c> {
    fn connection(&mut self) -> &mut SqliteConnection {
        match self {
            Turn::Caller(savepoint) => savepoint.connection,
            Turn::Own(connection) => connection,
        }
    }

    async fn run(&mut self, sql: &'static str) -> Result<(), sqlx::Error> {
        sqlx::raw_sql(sql).execute(self.connection()).await.map(|_| ())
    }

    /// Ends the turn, keeping what was done only if all of it was.
    async fn end<T>(mut self, done: Result<T, sqlx::Error>) -> Result<T, sqlx::Error> {
        // If undoing fails too, the transaction is over, and nothing of it is left.
        match &mut self {
            Turn::Caller(savepoint) => {
                savepoint.is_open = done.is_err();
                if done.is_ok() {
                    self.run("RELEASE idem_push").await?;
                }
            }
            Turn::Own(_) => {
                let ended = self.run(if done.is_ok() { "COMMIT" } else { "ROLLBACK" }).await;
                match (ended, self) {
                    (Ok(()), Turn::Own(connection)) => connection.give_back(),
                    (Err(error), _) if done.is_ok() => return Err(error),
                    _ => {}
                }
            }
        }
        done
    }
}

impl SqliteStore {
    async fn turn<'c>(
        &self,
        connection: Option<&'c mut SqliteConnection>,
        failed: impl Fn(sqlx::Error) -> StoreError,
    ) -> Result<Turn<'c>, StoreError> {
        let (mut turn, begin) = match connection {
            Some(connection) => {
                (Turn::Caller(Savepoint { connection, is_open: false }), "SAVEPOINT idem_push")
            }
            None => (Turn::Own(self.writer.lease().await?), "BEGIN IMMEDIATE"),
        };
        turn.run(begin).await.map_err(failed)?;
        if let Turn::Caller(savepoint) = &mut turn {
            savepoint.is_open = true;
        }
        Ok(turn)
    }

    async fn offer(
        &self,
        connection: &mut SqliteConnection,
        engine: Engine,
        task: &Push<'_>,
    ) -> Result<Pushed, sqlx::Error> {
        let statements = &self.queue_statements;
        if !self.is_there(connection, task).await? {
            return Ok(Pushed::Gone);
        }
        if task.records
            && let Some(done) = sqlx::query(statements.done.clone())
                .bind(bytes(task.key.hash()))
                .fetch_optional(&mut *connection)
                .await?
        {
            self.take_out(connection, task).await?;
            return Ok(Pushed::Done(Fingerprint::from_bits(done.try_get(0)?)));
        }
        if let Some(claim) = &task.claim
            && !self.take(connection, task.job, claim, task.id).await?
        {
            let holder = self.read_holder(connection, claim.key.hash()).await?;
            let holder = holder.ok_or(sqlx::Error::RowNotFound)?;
            if holder.task != task.id {
                if task.ends_if_held {
                    self.take_out(connection, task).await?;
                }
                return Ok(Pushed::Held(holder));
            }
        }
        self.insert(connection, engine, task).await?;
        Ok(Pushed::New)
    }

    /// Tells whether the row of the outbox that the task is taken out of is there as it was read.
    async fn is_there(
        &self,
        connection: &mut SqliteConnection,
        task: &Push<'_>,
    ) -> Result<bool, sqlx::Error> {
        let Some(row) = task.outbox else { return Ok(true) };
        let query =
            sqlx::query(self.queue_statements.is_there.clone()).bind(row.number).bind(row.payload.to_vec());
        Ok(query.fetch_optional(connection).await?.is_some())
    }

    /// Tells whether the worker that asks, if one does, has the task.
    async fn is_in_hand(
        &self,
        connection: &mut SqliteConnection,
        task: TaskId,
        worker: Option<&str>,
    ) -> Result<bool, sqlx::Error> {
        let Some(worker) = worker else { return Ok(true) };
        let query = sqlx::query(self.queue_statements.in_hand.clone());
        let row = query.bind(task.to_string()).bind(worker.to_owned()).fetch_optional(connection).await?;
        Ok(row.is_some())
    }

    async fn take_out(&self, connection: &mut SqliteConnection, task: &Push<'_>) -> Result<(), sqlx::Error> {
        if let Some(row) = task.outbox {
            sqlx::query(self.queue_statements.take_out.clone()).bind(row.number).execute(connection).await?;
        }
        Ok(())
    }

    async fn take(
        &self,
        connection: &mut SqliteConnection,
        job: JobId,
        claim: &UniqueClaim<'_>,
        task: TaskId,
    ) -> Result<bool, sqlx::Error> {
        let taken = sqlx::query(self.queue_statements.claim.clone())
            .bind(bytes(claim.key.hash()))
            .bind(job.0)
            .bind(task.to_string())
            .bind(claim.lasts.map(millis))
            .bind(claim.key.readable().to_owned())
            .execute(connection)
            .await?;
        Ok(taken.rows_affected() == 1)
    }

    async fn read_holder(
        &self,
        connection: &mut SqliteConnection,
        claim: KeyHash,
    ) -> Result<Option<Holder>, sqlx::Error> {
        let query = sqlx::query(self.queue_statements.holder.clone()).bind(bytes(claim));
        query.fetch_optional(connection).await?.as_ref().map(read_holder).transpose()
    }

    async fn change_key(&self, connection: &mut SqliteConnection, step: &Move) -> Result<bool, sqlx::Error> {
        let changed = sqlx::query(self.queue_statements.change_key.clone())
            .bind(bytes(step.from))
            .bind(step.task.to_string())
            .bind(bytes(step.to))
            .bind(step.readable.clone())
            .execute(connection)
            .await?;
        Ok(changed.rows_affected() == 1)
    }

    async fn insert(
        &self,
        connection: &mut SqliteConnection,
        engine: Engine,
        task: &Push<'_>,
    ) -> Result<(), sqlx::Error> {
        let query = match engine {
            Engine::Apalis => sqlx::query(self.queue_statements.to_apalis.clone())
                .bind(task.payload.to_vec())
                .bind(task.id.to_string())
                .bind(task.queue.to_owned())
                .bind(task.attempts)
                .bind(millis(task.after))
                .bind(task.priority)
                .bind(match task.unclaimed {
                    Some(claim) => format!(r#"{{"idem.unclaimed":"{claim}"}}"#),
                    None => String::from("{}"),
                }),
            Engine::Outbox => sqlx::query(self.queue_statements.to_outbox.clone())
                .bind(task.namespace.to_owned())
                .bind(bytes(task.key.hash()))
                .bind(task.name.to_owned())
                .bind(task.key.readable().to_owned())
                .bind(task.payload.to_vec())
                .bind(task.id.to_string())
                .bind(task.unclaimed.map(bytes))
                .bind(millis(task.after))
                .bind(task.priority)
                .bind(task.attempts),
        };
        query.execute(&mut *connection).await?;
        self.take_out(connection, task).await
    }
}

#[async_trait]
impl QueueStore<Sqlite> for SqliteStore {
    async fn push(
        &self,
        connection: Option<&mut SqliteConnection>,
        engine: Engine,
        tasks: &[Push<'_>],
    ) -> Result<Vec<Pushed>, StoreError> {
        let failed = |error| engine_error("enqueueing", engine, "SqliteStorage", error);
        if tasks.is_empty() {
            return Ok(Vec::new());
        }
        let is_own = connection.is_none();
        let begun = self.turn(connection, failed).await;
        let mut turn = begun.map_err(|error| if is_own { kept_out(error) } else { error })?;
        let offered = async {
            let mut answers = Vec::with_capacity(tasks.len());
            for task in tasks {
                answers.push(self.offer(turn.connection(), engine, task).await?);
            }
            Ok(answers)
        }
        .await;
        turn.end(offered).await.map_err(failed)
    }

    async fn replace(
        &self,
        connection: Option<&mut SqliteConnection>,
        engine: Engine,
        task: &Push<'_>,
        holder: TaskId,
    ) -> Result<bool, StoreError> {
        let failed = |error| engine_error("replacing a task", engine, "SqliteStorage", error);
        let statements = &self.queue_statements;
        let claim = bytes(claim_of(task).key.hash());
        let query = match engine {
            Engine::Apalis => sqlx::query(statements.replace_in_apalis.clone())
                .bind(claim)
                .bind(holder.to_string())
                .bind(task.payload.to_vec()),
            Engine::Outbox => sqlx::query(statements.replace_in_outbox.clone())
                .bind(claim)
                .bind(holder.to_string())
                .bind(task.payload.to_vec())
                .bind(bytes(task.key.hash()))
                .bind(task.key.readable().to_owned())
                .bind(task.namespace.to_owned()),
        };
        let mut turn = self.turn(connection, failed).await?;
        let replaced = async {
            if !self.is_there(turn.connection(), task).await?
                || query.execute(turn.connection()).await?.rows_affected() == 0
            {
                return Ok(false);
            }
            self.take_out(turn.connection(), task).await?;
            Ok(true)
        }
        .await;
        turn.end(replaced).await.map_err(failed)
    }

    async fn supersede(
        &self,
        connection: Option<&mut SqliteConnection>,
        engine: Engine,
        task: &Push<'_>,
        holder: TaskId,
    ) -> Result<bool, StoreError> {
        let failed = |error| engine_error("handing a claim over", engine, "SqliteStorage", error);
        let mut turn = self.turn(connection, failed).await?;
        let superseded = async {
            if !self.is_there(turn.connection(), task).await? {
                return Ok(false);
            }
            let Some(claim) = &task.claim else { return Ok(false) };
            let step = Move::supersedes(claim.key, holder, claim.key.hash());
            let handed = self.change_key(turn.connection(), &step).await?;
            if handed {
                sqlx::query(self.queue_statements.hand_over.clone())
                    .bind(bytes(claim.key.hash()))
                    .bind(task.id.to_string())
                    .bind(claim.key.readable().to_owned())
                    .bind(bytes(step.to))
                    .execute(turn.connection())
                    .await?;
                self.insert(turn.connection(), engine, task).await?;
            }
            Ok(handed)
        }
        .await;
        turn.end(superseded).await.map_err(failed)
    }

    async fn keep_latest(
        &self,
        moment: Moment,
        claim: &Key,
        task: TaskId,
        worker: Option<&str>,
    ) -> Result<Latest, StoreError> {
        let failed = |error| driver_error("finding out which task is the latest", error);
        let mut turn = self.turn(None, failed).await?;
        let places = Places::new(claim, task);
        let kept = async {
            if !self.is_in_hand(turn.connection(), task, worker).await? {
                return Ok(Latest::Gone);
            }
            let rows = sqlx::query(self.queue_statements.places.clone())
                .bind(bytes(places.waits))
                .bind(bytes(places.began))
                .bind(bytes(places.superseded))
                .fetch_all(turn.connection())
                .await?;
            let rows = rows.iter().map(read_place).collect::<Result<HashMap<_, _>, _>>()?;
            let (latest, moves) = latest(moment, claim, task, |key| rows.get(&key).copied());
            for step in &moves {
                self.change_key(turn.connection(), step).await?;
            }
            Ok(latest)
        }
        .await;
        turn.end(kept).await.map_err(failed)
    }

    async fn acquire(
        &self,
        job: JobId,
        claim: &UniqueClaim<'_>,
        task: TaskId,
        worker: Option<&str>,
    ) -> Result<Option<Holder>, StoreError> {
        let failed = |error| driver_error("taking a unique claim", error);
        let mut turn = self.turn(None, failed).await?;
        let acquired = async {
            if !self.is_in_hand(turn.connection(), task, worker).await? {
                return Ok(None);
            }
            self.take(turn.connection(), job, claim, task).await?;
            self.read_holder(turn.connection(), claim.key.hash()).await.map(Some)
        }
        .await;
        match turn.end(acquired).await.map_err(failed)? {
            None => Ok(None),
            Some(holder) => holder.ok_or_else(crowded).map(Some),
        }
    }

    async fn holder(&self, claim: KeyHash) -> Result<Option<Holder>, StoreError> {
        let mut reader = self.readers.lease().await?;
        let holder = self.read_holder(&mut reader, claim).await;
        let holder = holder.map_err(|error| driver_error("reading a unique claim", error))?;
        reader.give_back();
        Ok(holder)
    }

    async fn release(&self, task: TaskId, worker: Option<&str>) -> Result<bool, StoreError> {
        let query = match worker {
            None => sqlx::query(self.queue_statements.release.clone()).bind(task.to_string()),
            Some(worker) => sqlx::query(self.queue_statements.release_in_hand.clone())
                .bind(task.to_string())
                .bind(worker.to_owned()),
        };
        Ok(self.execute("ending a unique claim", query).await? > 0)
    }

    async fn put_off(
        &self,
        engine: Engine,
        task: TaskId,
        worker: &str,
        after: Duration,
        attempt: Attempt,
    ) -> Result<bool, StoreError> {
        let Engine::Apalis = engine else { return Ok(false) };
        let statement = match attempt {
            Attempt::Unspent => &self.queue_statements.put_back,
            Attempt::Interrupted => &self.queue_statements.put_back_begun,
            Attempt::Failed => &self.queue_statements.put_off,
            Attempt::BeyondLimit => &self.queue_statements.begin_beyond_limit,
        };
        let query = sqlx::query(statement.clone()).bind(task.to_string()).bind(worker.to_owned());
        let query = match attempt {
            Attempt::Unspent | Attempt::Interrupted | Attempt::Failed => query.bind(millis(after)),
            Attempt::BeyondLimit => query,
        };
        Ok(self.execute("putting a task off", query).await? > 0)
    }

    async fn prepare(&self, engine: Engine) -> Result<(), StoreError> {
        if self.is_prepared(engine).await? {
            return Ok(());
        }
        let mut writer = self.writer.lease().await?;
        let sql = AssertSqlSafe(self.queue_statements.prepare.clone());
        sqlx::raw_sql(sql).execute(&mut *writer).await.map_err(|error| {
            engine_error("preparing the tables of apalis", engine, "SqliteStorage", error)
        })?;
        writer.give_back();
        Ok(())
    }

    async fn queue_of(&self, engine: Engine, worker: &str) -> Result<Option<String>, StoreError> {
        let Engine::Apalis = engine else { return Ok(None) };
        let mut reader = self.readers.lease().await?;
        let queue = sqlx::query_scalar("SELECT worker_type FROM Workers WHERE id = ?")
            .bind(worker.to_owned())
            .fetch_optional(&mut *reader)
            .await
            .map_err(|error| driver_error("looking for the queue of a worker", error))?;
        reader.give_back();
        Ok(queue)
    }

    async fn is_prepared(&self, engine: Engine) -> Result<bool, StoreError> {
        let Engine::Apalis = engine else { return Ok(true) };
        let mut reader = self.readers.lease().await?;
        let sql = "SELECT sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'Jobs'";
        let there: Vec<String> = sqlx::query_scalar(sql)
            .fetch_all(&mut *reader)
            .await
            .map_err(|error| driver_error("looking at the triggers on the tables of apalis", error))?;
        reader.give_back();
        Ok(self.queue_statements.triggers.iter().all(|trigger| there.contains(&trigger.sql)))
    }

    async fn sweep_claims(&self, limit: u32) -> Result<u64, StoreError> {
        let query = sqlx::query(self.queue_statements.sweep.clone()).bind(limit);
        self.execute("sweeping unique claims", query).await
    }
}

impl SqliteStore {
    async fn execute(
        &self,
        doing: &str,
        query: sqlx::query::Query<'_, Sqlite, sqlx::sqlite::SqliteArguments>,
    ) -> Result<u64, StoreError> {
        let mut writer = self.writer.lease().await?;
        let done = query.execute(&mut *writer).await.map_err(|error| driver_error(doing, error))?;
        writer.give_back();
        Ok(done.rows_affected())
    }
}

fn bytes(key: KeyHash) -> Vec<u8> {
    key.as_bytes().to_vec()
}

fn read_holder(row: &SqliteRow) -> Result<Holder, sqlx::Error> {
    let task: &str = row.try_get("task")?;
    let duration = |millis: i64| Duration::from_millis(u64::try_from(millis).unwrap_or(0));
    Ok(Holder {
        task: parse_task_id(task)?,
        since: duration(row.try_get("since")?),
        left: row.try_get::<Option<i64>, _>("held_for")?.map(duration),
    })
}

fn read_place(row: &SqliteRow) -> Result<(KeyHash, TaskId), sqlx::Error> {
    Ok((key_of_bytes(row.try_get("key")?)?, parse_task_id(row.try_get("task")?)?))
}
