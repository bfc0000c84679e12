//! Unique claims and tasks in MySQL and MariaDB.
//!
//! What is held or done is found by a plain read. Only a task that seems to be free opens a transaction, in which the
//! claims are inserted in the order of their keys: of two pushes one waits for the other, never both. A claim that was
//! taken in between is not inserted, and locked no more than it takes to read it.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::mysql::{MySqlConnection, MySqlRow};
use sqlx::{Column, MySql, Row};

use super::lease_statements::CHANGED;
use super::statements::{NOW, literal, push, push_bytes};
use super::{Leased, MySqlStore, message, number};
use crate::engine::TaskId;
use crate::error::{StoreError, StoreErrorKind};
use crate::fingerprint::Fingerprint;
use crate::key::{Key, KeyHash};
use crate::record::{JobId, Latest, Moment, Move, Places, latest};
use crate::store::sql::{claim_of, crowded, driver_error, millis, parse_task_id};
use crate::store::{
    Attempt, Engine, Holder, OFFERS, OutboxRow, Push, Pushed, QueueStore, Settings, UniqueClaim,
};

/// Returns the SQL that makes the tables; see that of the leased jobs for why it looks as it does.
pub(super) fn schema(settings: &Settings) -> String {
    let [claims, outbox] = ["claims", "outbox"].map(|name| settings.table(name));
    let schema =
        settings.schema.as_ref().map_or_else(|| String::from("DATABASE()"), |schema| format!("'{schema}'"));
    let prefix = &settings.table_prefix;
    format!(
        "SET @idem_migrate = IF((SELECT COUNT(*) FROM information_schema.columns WHERE table_schema = {schema} \
         AND table_name = '{prefix}outbox' AND column_name = 'attempts') > 0, 'DO 0', \
         'ALTER TABLE {outbox} ADD COLUMN task VARCHAR(26) CHARACTER SET ascii COLLATE ascii_bin, \
         ADD COLUMN unclaimed BINARY(16), ADD COLUMN due BIGINT, ADD COLUMN priority INT, ADD COLUMN attempts INT, \
         ADD UNIQUE INDEX (task)');\n\
         PREPARE idem_migrate FROM @idem_migrate;\n\
         EXECUTE idem_migrate;\n\
         DEALLOCATE PREPARE idem_migrate;\n\
         CREATE TABLE IF NOT EXISTS {claims} (\n    `key` BINARY(16) NOT NULL PRIMARY KEY,\n    job INT NOT NULL,\n    \
         task VARCHAR(26) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,\n    since BIGINT NOT NULL,\n    \
         expires_at BIGINT,\n    readable VARCHAR(200) CHARACTER SET utf8mb4 NOT NULL,\n    \
         INDEX (task),\n    INDEX (expires_at)\n) ENGINE = InnoDB;\n"
    )
}

/// The SQL of the queue, with the tables' names.
pub(super) struct QueueStatements {
    records: String,
    claims: String,
    outbox: String,
}

impl QueueStatements {
    pub(super) fn new(settings: &Settings) -> Self {
        let [records, claims, outbox] = ["records", "claims", "outbox"].map(|name| settings.table(name));
        QueueStatements { records, claims, outbox }
    }

    /// Reads whether tasks are done and who has their claims, a row a task, in their order.
    fn look(&self, tasks: &[Push<'_>]) -> String {
        let QueueStatements { records, claims, .. } = self;
        let mut sql = String::new();
        for (ord, task) in tasks.iter().enumerate() {
            let before = if ord == 0 { "" } else { " UNION ALL " };
            let done = match task.records {
                true => format!(
                    "(SELECT fingerprint FROM {records} WHERE `key` = x'{}' AND outcome <= 2 \
                     AND (expires_at IS NULL OR expires_at > {NOW}))",
                    task.key.hash()
                ),
                false => String::from("NULL"),
            };
            push(
                &mut sql,
                format_args!("{before}SELECT {ord} AS ord, CAST({done} AS SIGNED) AS done, c.* FROM "),
            );
            match task.claim {
                // A claim that nobody has is a row, too.
                Some(claim) => push(
                    &mut sql,
                    format_args!(
                        "(SELECT 1 AS one) one LEFT JOIN (SELECT {} FROM {claims} WHERE `key` = x'{}') c ON TRUE",
                        columns(),
                        claim.key.hash(),
                    ),
                ),
                None => {
                    sql.push_str("(SELECT NULL AS holder, NULL AS since, NULL AS held_for, NULL AS live) c")
                }
            }
        }
        sql += " ORDER BY ord";
        sql
    }

    /// Locks rows of the outbox, takes claims, and reads who has them and which rows there are.
    ///
    /// `claims` are in the order of their keys.
    fn take(&self, moved: &[OutboxRow<'_>], candidates: &[Candidate<'_>]) -> String {
        let QueueStatements { claims, outbox, .. } = self;
        let mut sql = String::new();
        if !moved.is_empty() {
            push(&mut sql, format_args!("SELECT number AS idem_number FROM {outbox} WHERE "));
            for (ord, row) in moved.iter().enumerate() {
                sql.push_str(if ord == 0 { "" } else { " OR " });
                push_is(&mut sql, row);
            }
            sql += " ORDER BY number FOR UPDATE;";
        }
        let mut inserting = false;
        for Candidate { task, claim, expired } in candidates {
            if *expired {
                if std::mem::take(&mut inserting) {
                    sql.push(';');
                }
                push(&mut sql, format_args!("{};", self.take_over(task.job, claim, task.id)));
                continue;
            }
            match std::mem::replace(&mut inserting, true) {
                true => sql.push(','),
                false => push(&mut sql, format_args!("{}", self.insert_claims())),
            }
            push_claim(&mut sql, task.job, claim, task.id);
        }
        if inserting {
            sql.push(';');
        }
        if !candidates.is_empty() {
            let keys = list(candidates.iter().map(|candidate| format!("x'{}'", candidate.claim.key.hash())));
            // An older moment than now is what a plain read of the caller's transaction may show.
            push(
                &mut sql,
                format_args!(
                    "SELECT `key` AS idem_claim, {} FROM {claims} WHERE `key` IN ({keys}) LOCK IN SHARE MODE;",
                    columns()
                ),
            );
        }
        sql
    }

    fn insert_claims(&self) -> String {
        format!("INSERT IGNORE INTO {} (`key`, job, task, since, expires_at, readable) VALUES ", self.claims)
    }

    /// Takes a claim whose time is over.
    fn take_over(&self, job: JobId, claim: &UniqueClaim<'_>, task: TaskId) -> String {
        format!(
            "UPDATE {} SET job = {job}, task = '{task}', since = {NOW}, expires_at = {NOW} + {}, readable = {} \
             WHERE `key` = x'{}' AND expires_at <= {NOW}",
            self.claims,
            lasts(claim),
            literal(claim.key.readable()),
            claim.key.hash(),
        )
    }

    /// Puts tasks into the outbox, and takes others out.
    fn put(&self, tasks: &[Push<'_>], ended: &[i64]) -> String {
        let outbox = &self.outbox;
        let mut sql = String::new();
        for (ord, task) in tasks.iter().enumerate() {
            match ord {
                0 => push(&mut sql, format_args!("INSERT INTO {outbox} ({TASK}) VALUES (")),
                _ => sql.push_str(",("),
            }
            push_task(&mut sql, task);
            sql.push(')');
        }
        if !tasks.is_empty() {
            sql.push(';');
        }
        if !ended.is_empty() {
            push(&mut sql, format_args!("DELETE FROM {outbox} WHERE number IN ({});", list(ended.iter())));
        }
        sql
    }

    /// Puts a task into the outbox, if it has its claim.
    fn put_claimed(&self, task: &Push<'_>) -> String {
        let QueueStatements { claims, outbox, .. } = self;
        let Some(claim) = &task.claim else { return self.put(&[*task], &[]) };
        let mut sql = format!("INSERT INTO {outbox} ({TASK}) SELECT ");
        push_task(&mut sql, task);
        push(
            &mut sql,
            format_args!(" FROM {claims} WHERE `key` = x'{}' AND task = '{}';", claim.key.hash(), task.id),
        );
        sql
    }

    /// Locks the rows of a task that may not be the latest.
    fn places(&self, places: &Places) -> String {
        format!(
            "SELECT `key`, task FROM {} WHERE `key` IN (x'{}', x'{}', x'{}') ORDER BY `key` FOR UPDATE",
            self.claims, places.waits, places.began, places.superseded
        )
    }

    fn change_key(&self, step: &Move) -> String {
        let Move { task, from, to, readable } = step;
        format!(
            "UPDATE {} SET `key` = x'{to}', readable = {} WHERE `key` = x'{from}' AND task = '{task}';",
            self.claims,
            literal(readable)
        )
    }

    fn holder(&self, claim: KeyHash) -> String {
        format!("SELECT {} FROM {} WHERE `key` = x'{claim}'", columns(), self.claims)
    }

    fn acquire(&self, job: JobId, claim: &UniqueClaim<'_>, task: TaskId) -> String {
        let mut sql = format!("{};{}", self.take_over(job, claim, task), self.insert_claims());
        push_claim(&mut sql, job, claim, task);
        push(&mut sql, format_args!(";{}", self.holder(claim.key.hash())));
        sql
    }
}

/// The columns of a task that is put into the outbox.
const TASK: &str = "namespace, id, job, `key`, payload, at, task, unclaimed, due, priority, attempts";

/// Writes the values of these.
fn push_task(sql: &mut String, task: &Push<'_>) {
    push(
        sql,
        format_args!(
            "{}, x'{}', {}, {}, ",
            literal(task.namespace),
            task.key.hash(),
            literal(task.name),
            literal(task.key.readable()),
        ),
    );
    push_bytes(sql, task.payload);
    let unclaimed = task.unclaimed.map_or_else(|| String::from("NULL"), |claim| format!("x'{claim}'"));
    let due = match task.after.is_zero() {
        true => String::from("NULL"),
        false => format!("{NOW} + {}", millis(task.after)),
    };
    push(
        sql,
        format_args!(", {NOW}, '{}', {unclaimed}, {due}, {}, {}", task.id, task.priority, task.attempts),
    );
}

/// What is to be known of a claim. Its time is over where `live` is 0.
fn columns() -> String {
    format!(
        "task AS holder, {NOW} - since AS since, expires_at - {NOW} AS held_for, \
         CAST(expires_at IS NULL OR expires_at > {NOW} AS SIGNED) AS live"
    )
}

fn push_claim(sql: &mut String, job: JobId, claim: &UniqueClaim<'_>, task: TaskId) {
    let (key, readable) = (claim.key.hash(), literal(claim.key.readable()));
    push(sql, format_args!("(x'{key}', {job}, '{task}', {NOW}, {NOW} + {}, {readable})", lasts(claim)));
}

fn lasts(claim: &UniqueClaim<'_>) -> String {
    claim.lasts.map_or_else(|| String::from("NULL"), |lasts| millis(lasts).to_string())
}

fn list(items: impl Iterator<Item = impl ToString>) -> String {
    items.map(|item| item.to_string()).collect::<Vec<_>>().join(",")
}

/// A task that is the first with its claim.
struct Candidate<'a> {
    task: &'a Push<'a>,
    claim: UniqueClaim<'a>,
    /// Somebody else has had the claim.
    expired: bool,
}

/// Who has had a claim last.
#[derive(Clone, Copy)]
struct Claimed {
    holder: Holder,
    live: bool,
}

/// What a plain read says of a task.
struct Seen {
    done: Option<Fingerprint>,
    claimed: Option<Claimed>,
}

impl Seen {
    /// Returns the answer to a task that another one keeps out, or that is done.
    fn answer(&self, task: &Push<'_>) -> Option<Pushed> {
        match (self.done, self.claimed) {
            (Some(done), _) => Some(Pushed::Done(done)),
            (None, Some(Claimed { holder, live: true })) if holder.task != task.id => {
                Some(Pushed::Held(holder))
            }
            (None, _) => None,
        }
    }
}

/// What came of tasks that were offered.
enum Offered {
    /// All have an answer.
    All(Vec<Pushed>),
    /// The rows of the outbox that these are taken out of are not there; the others are to be offered again.
    Gone(Vec<usize>),
    /// A claim changed hands in that moment; all are to be offered again.
    Again,
}

/// The transaction that a push is part of.
enum Turn<'c> {
    /// The caller's; what idem has done in it is undone by a savepoint.
    Caller(&'c mut MySqlConnection),
    /// One of idem's own.
    Own(Leased<MySql>),
}

impl Turn<'_> {
    fn connection(&mut self) -> &mut MySqlConnection {
        match self {
            Turn::Caller(connection) => connection,
            Turn::Own(connection) => connection,
        }
    }

    /// Sends statements as the first of the turn.
    async fn begin(mut self, sql: &str) -> Result<(Self, Vec<MySqlRow>), sqlx::Error> {
        let begin = match self {
            // Outside of a transaction a savepoint is none, and releasing it fails before anything is written.
            Turn::Caller(_) => "SAVEPOINT idem_push;RELEASE SAVEPOINT idem_push;SAVEPOINT idem_push",
            Turn::Own(_) => "BEGIN",
        };
        match message(self.connection(), format!("{begin};{sql}")).await {
            Ok(rows) => Ok((self, rows)),
            Err(error) => {
                self.undo().await;
                Err(error)
            }
        }
    }

    /// Sends statements as the last of the turn.
    async fn end(mut self, sql: &str) -> Result<(), sqlx::Error> {
        let end = match self {
            Turn::Caller(_) => "RELEASE SAVEPOINT idem_push",
            Turn::Own(_) => "COMMIT",
        };
        if let Err(error) = message(self.connection(), format!("{sql}{end}")).await {
            self.undo().await;
            return Err(error);
        }
        if let Turn::Own(connection) = self {
            connection.give_back();
        }
        Ok(())
    }

    /// Undoes what was done. If that fails the transaction is over, and nothing of it is left.
    async fn undo(mut self) {
        let undo = match self {
            Turn::Caller(_) => "ROLLBACK TO SAVEPOINT idem_push;RELEASE SAVEPOINT idem_push",
            Turn::Own(_) => "ROLLBACK",
        };
        let undone = message(self.connection(), undo).await;
        if let (Ok(_), Turn::Own(connection)) = (undone, self) {
            connection.give_back();
        }
    }
}

fn check(engine: Engine) -> Result<(), StoreError> {
    match engine {
        Engine::Outbox => Ok(()),
        Engine::Apalis => {
            let text = "apalis has no tables in this database that idem can write to: enqueue into the outbox \
                        (`Engine::Outbox`), and let `Idem::relay` take the tasks to an engine elsewhere";
            Err(StoreError::new(StoreErrorKind::Misconfigured, text))
        }
    }
}

fn failed(doing: &str, error: sqlx::Error) -> StoreError {
    match number(&error) {
        Some(1305) => {
            let text = format!(
                "{doing} failed: the connection is not in a transaction, or that has ended; nothing was \
                 enqueued; call `begin` first and hand in the transaction"
            );
            StoreError::new(StoreErrorKind::Refused, text).caused_by(error)
        }
        _ => driver_error(doing, error),
    }
}

/// Tells whether the server has rolled a transaction back since another one stood in its way, and it in that one's.
fn is_deadlock(error: &sqlx::Error) -> bool {
    number(error) == Some(1213)
}

impl MySqlStore {
    async fn turn<'c>(&self, connection: Option<&'c mut MySqlConnection>) -> Result<Turn<'c>, StoreError> {
        match connection {
            Some(connection) => Ok(Turn::Caller(connection)),
            None => Ok(Turn::Own(self.connections.lease_alive().await?)),
        }
    }

    async fn look(
        &self,
        connection: Option<&mut MySqlConnection>,
        tasks: &[Push<'_>],
    ) -> Result<Vec<Seen>, StoreError> {
        let sql = self.queue_statements.look(tasks);
        let rows = match connection {
            Some(connection) => message(connection, sql).await,
            None => self.send(|| sql.clone()).await?.rows,
        };
        let read = |row: &MySqlRow| {
            let done: Option<i64> = row.try_get("done")?;
            Ok(Seen { done: done.map(Fingerprint::from_bits), claimed: read_claimed(row)? })
        };
        let seen = rows.and_then(|rows| rows.iter().map(read).collect::<Result<_, _>>());
        seen.map_err(|error| failed("enqueueing", error))
    }

    /// Enqueues those of the tasks that are free, all of them or none.
    async fn offer(&self, turn: Turn<'_>, tasks: &[Push<'_>], seen: &[Seen]) -> Result<Offered, sqlx::Error> {
        let moved: Vec<OutboxRow<'_>> = tasks.iter().filter_map(|task| task.outbox).collect();
        let mut candidates = HashMap::new();
        for (task, seen) in tasks.iter().zip(seen) {
            let Some(claim) = task.claim.filter(|_| seen.done.is_none()) else { continue };
            let expired = seen.claimed.is_some_and(|claimed| !claimed.live);
            candidates.entry(claim.key.hash()).or_insert(Candidate { task, claim, expired });
        }
        let mut sorted: Vec<Candidate<'_>> = candidates.into_values().collect();
        sorted.sort_unstable_by_key(|candidate| candidate.claim.key.hash());
        let mut sql = self.queue_statements.take(&moved, &sorted);
        // A push may be dropped between two messages, and the caller's transaction go on.
        let puts_at_once = matches!(turn, Turn::Caller(_)) && moved.is_empty();
        if puts_at_once {
            let free = tasks.iter().zip(seen).filter(|(_, seen)| seen.done.is_none());
            sql.extend(free.map(|(task, _)| self.queue_statements.put_claimed(task)));
        }
        let (turn, rows) = turn.begin(&sql).await?;
        let (there, claims) = match read_taken(&rows) {
            Ok(taken) => taken,
            Err(error) => {
                turn.undo().await;
                return Err(error);
            }
        };
        let is_gone = |task: &Push<'_>| task.outbox.is_some_and(|row| !there.contains(&row.number));
        let gone: Vec<usize> = (0..tasks.len()).filter(|place| is_gone(&tasks[*place])).collect();
        if !gone.is_empty() {
            turn.undo().await;
            return Ok(Offered::Gone(gone));
        }
        let (mut answers, mut pushed, mut ended) = (Vec::with_capacity(tasks.len()), Vec::new(), Vec::new());
        for (task, seen) in tasks.iter().zip(seen) {
            let claimed = task.claim.map(|claim| claims.get(&claim.key.hash()));
            let answer = match (seen.done, claimed) {
                (Some(done), _) => Pushed::Done(done),
                (None, None) => Pushed::New,
                (None, Some(Some(Claimed { holder, live: true }))) if holder.task == task.id => Pushed::New,
                (None, Some(Some(Claimed { holder, live: true }))) => Pushed::Held(*holder),
                (None, Some(_)) => {
                    turn.undo().await;
                    return Ok(Offered::Again);
                }
            };
            if answer == Pushed::New && !puts_at_once {
                pushed.push(*task);
            }
            if !matches!(answer, Pushed::Held(_)) || task.ends_if_held {
                ended.extend(number_of(task));
            }
            answers.push(answer);
        }
        turn.end(&self.queue_statements.put(&pushed, &ended)).await?;
        Ok(Offered::All(answers))
    }

    /// Begins a turn with locks, and with that of the task's own row in the outbox. `None` if what is needed is not there, or
    /// the row is gone; then nothing was done.
    async fn begin_with<'c>(
        &self,
        turn: Turn<'c>,
        task: &Push<'_>,
        locks: &str,
        needed: &[&str],
    ) -> Result<Option<Turn<'c>>, sqlx::Error> {
        let mut sql = String::new();
        if let Some(row) = &task.outbox {
            let outbox = &self.queue_statements.outbox;
            push(&mut sql, format_args!("SELECT 1 AS idem_there FROM {outbox} WHERE "));
            push_is(&mut sql, row);
            sql += " FOR UPDATE;";
        }
        sql += locks;
        let (turn, rows) = turn.begin(&sql).await?;
        let has = |name: &str| rows.iter().any(|row| row.column(0).name() == name);
        if needed.iter().all(|name| has(name)) && (task.outbox.is_none() || has("idem_there")) {
            return Ok(Some(turn));
        }
        turn.undo().await;
        Ok(None)
    }

    /// Replaces the task that waits with the claim, if it does.
    async fn try_replace(
        &self,
        turn: Turn<'_>,
        task: &Push<'_>,
        holder: TaskId,
    ) -> Result<bool, sqlx::Error> {
        let QueueStatements { claims, outbox, .. } = &self.queue_statements;
        let claim = claim_of(task).key.hash();
        let namespace = literal(task.namespace);
        let locks = format!(
            "SELECT number AS idem_waits FROM {outbox} WHERE task = '{holder}' AND namespace = {namespace} \
             AND (due IS NULL OR due > 0) FOR UPDATE;\
             SELECT 1 AS idem_holds FROM {claims} WHERE `key` = x'{claim}' AND task = '{holder}' LOCK IN SHARE MODE;"
        );
        let needed = ["idem_waits", "idem_holds"];
        let Some(turn) = self.begin_with(turn, task, &locks, &needed).await? else { return Ok(false) };
        let mut sql = format!(
            "UPDATE {outbox} SET id = x'{}', `key` = {}, payload = ",
            task.key.hash(),
            literal(task.key.readable())
        );
        push_bytes(&mut sql, task.payload);
        push(&mut sql, format_args!(" WHERE task = '{holder}';"));
        sql += &self.queue_statements.put(&[], number_of(task).as_slice());
        turn.end(&sql).await?;
        Ok(true)
    }

    /// Hands the claim over, if the holder has it.
    async fn try_supersede(
        &self,
        turn: Turn<'_>,
        task: &Push<'_>,
        holder: TaskId,
    ) -> Result<bool, sqlx::Error> {
        let QueueStatements { claims, .. } = &self.queue_statements;
        let Some(unique) = &task.claim else { return Ok(false) };
        let claim = unique.key.hash();
        // A claim that is not `holder`'s is not handed over, and stays so: the row is locked.
        let locks = format!(
            "SELECT 1 AS idem_holds FROM {claims} WHERE `key` = x'{claim}' AND task = '{holder}' FOR UPDATE;"
        );
        let Some(turn) = self.begin_with(turn, task, &locks, &["idem_holds"]).await? else {
            return Ok(false);
        };
        let step = Move::supersedes(unique.key, holder, claim);
        let mut sql = self.queue_statements.change_key(&step);
        push(
            &mut sql,
            format_args!(
                "INSERT INTO {claims} (`key`, job, task, since, expires_at, readable) \
                 SELECT x'{claim}', job, '{}', {NOW}, expires_at, {} FROM {claims} WHERE `key` = x'{}';{}",
                task.id,
                literal(unique.key.readable()),
                step.to,
                self.queue_statements.put(&[*task], number_of(task).as_slice()),
            ),
        );
        turn.end(&sql).await?;
        Ok(true)
    }

    /// Says where a task has come to of which only the latest is kept.
    async fn try_keep_latest(
        &self,
        turn: Turn<'_>,
        moment: Moment,
        claim: &Key,
        task: TaskId,
    ) -> Result<Latest, sqlx::Error> {
        let places = self.queue_statements.places(&Places::new(claim, task));
        let (turn, rows) = turn.begin(&places).await?;
        let rows = match rows.iter().map(read_place).collect::<Result<HashMap<_, _>, _>>() {
            Ok(rows) => rows,
            Err(error) => {
                turn.undo().await;
                return Err(error);
            }
        };
        let (latest, moves) = latest(moment, claim, task, |key| rows.get(&key).copied());
        let sql: String = moves.iter().map(|step| self.queue_statements.change_key(step)).collect();
        turn.end(&sql).await?;
        Ok(latest)
    }
}

/// Does something again on a connection of idem's own for as long as the server ends it to resolve a deadlock. That in
/// the caller's transaction is the caller's to do again.
macro_rules! unless_deadlocked {
    ($doing:literal, $connection:ident, $attempt:expr) => {{
        let is_own = $connection.is_none();
        let mut attempts = 1;
        loop {
            match $attempt.await {
                Err(error) if is_own && is_deadlock(&error) && attempts < OFFERS => attempts += 1,
                done => break done.map_err(|error| failed($doing, error)),
            }
        }
    }};
}

#[async_trait]
impl QueueStore<MySql> for MySqlStore {
    async fn push(
        &self,
        mut connection: Option<&mut MySqlConnection>,
        engine: Engine,
        tasks: &[Push<'_>],
    ) -> Result<Vec<Pushed>, StoreError> {
        check(engine)?;
        let is_own = connection.is_none();
        let mut answers: Vec<Option<Pushed>> = vec![None; tasks.len()];
        for _ in 0..OFFERS {
            let mut open: Vec<usize> = (0..tasks.len()).filter(|place| answers[*place].is_none()).collect();
            if open.is_empty() {
                break;
            }
            let offered: Vec<Push<'_>> = open.iter().map(|place| tasks[*place]).collect();
            let mut seen = self.look(connection.as_deref_mut(), &offered).await?;
            // What the caller's transaction sees may be old: that another task has a claim is to be read again there.
            let is_certain = |task: &Push<'_>, answer: &Pushed| {
                task.outbox.is_none() && (is_own || matches!(answer, Pushed::Done(_)))
            };
            for (place, seen) in open.iter().zip(&seen) {
                let task = &tasks[*place];
                answers[*place] = seen.answer(task).filter(|answer| is_certain(task, answer));
            }
            let mut is_open = open.iter().map(|place| answers[*place].is_none());
            seen.retain(|_| is_open.next().unwrap_or(false));
            open.retain(|place| answers[*place].is_none());
            if open.is_empty() {
                break;
            }
            let offered: Vec<Push<'_>> = open.iter().map(|place| tasks[*place]).collect();
            let turn = match connection.as_deref_mut() {
                Some(connection) => Turn::Caller(connection),
                // The look has just found out that it is alive.
                None => Turn::Own(self.connections.lease().await?),
            };
            match self.offer(turn, &offered, &seen).await {
                Ok(Offered::All(pushed)) => {
                    for (place, pushed) in open.iter().zip(pushed) {
                        answers[*place] = Some(pushed);
                    }
                }
                Ok(Offered::Gone(gone)) => {
                    for place in gone {
                        answers[open[place]] = Some(Pushed::Gone);
                    }
                }
                Ok(Offered::Again) => {}
                Err(error) if is_own && is_deadlock(&error) => {}
                Err(error) => return Err(failed("enqueueing", error)),
            }
        }
        answers.into_iter().map(|answer| answer.ok_or_else(crowded)).collect()
    }

    async fn replace(
        &self,
        mut connection: Option<&mut MySqlConnection>,
        engine: Engine,
        task: &Push<'_>,
        holder: TaskId,
    ) -> Result<bool, StoreError> {
        check(engine)?;
        unless_deadlocked!("replacing a task", connection, {
            let turn = self.turn(connection.as_deref_mut()).await?;
            self.try_replace(turn, task, holder)
        })
    }

    async fn supersede(
        &self,
        mut connection: Option<&mut MySqlConnection>,
        engine: Engine,
        task: &Push<'_>,
        holder: TaskId,
    ) -> Result<bool, StoreError> {
        check(engine)?;
        unless_deadlocked!("handing a claim over", connection, {
            let turn = self.turn(connection.as_deref_mut()).await?;
            self.try_supersede(turn, task, holder)
        })
    }

    async fn keep_latest(
        &self,
        moment: Moment,
        claim: &Key,
        task: TaskId,
        _: Option<&str>,
    ) -> Result<Latest, StoreError> {
        for _ in 0..OFFERS {
            let turn = self.turn(None).await?;
            match self.try_keep_latest(turn, moment, claim, task).await {
                // A newer task was enqueued in that moment.
                Err(sqlx::Error::Database(error)) if error.is_unique_violation() => {}
                Err(error) if is_deadlock(&error) => {}
                done => return done.map_err(|error| failed("finding out which task is the latest", error)),
            }
        }
        Err(crowded())
    }

    async fn acquire(
        &self,
        job: JobId,
        claim: &UniqueClaim<'_>,
        task: TaskId,
        _: Option<&str>,
    ) -> Result<Option<Holder>, StoreError> {
        for _ in 0..OFFERS {
            // Who is not to have the claim need not lock it.
            if let Some(holder) = self.holder(claim.key.hash()).await? {
                return Ok(Some(holder));
            }
            match self.send(|| self.queue_statements.acquire(job, claim, task)).await?.rows {
                Ok(rows) => {
                    let claimed = rows.first().map(read_claimed).transpose();
                    let claimed = claimed.map_err(|error| failed("taking a unique claim", error))?.flatten();
                    if let Some(Claimed { holder, live: true }) = claimed {
                        return Ok(Some(holder));
                    }
                }
                Err(error) if is_deadlock(&error) => {}
                Err(error) => return Err(failed("taking a unique claim", error)),
            }
        }
        Err(crowded())
    }

    async fn holder(&self, claim: KeyHash) -> Result<Option<Holder>, StoreError> {
        let failed = |error| failed("reading a unique claim", error);
        let rows = self.send(|| self.queue_statements.holder(claim)).await?.rows.map_err(failed)?;
        let claimed = rows.first().map(read_claimed).transpose().map_err(failed)?.flatten();
        Ok(claimed.filter(|claimed| claimed.live).map(|claimed| claimed.holder))
    }

    async fn release(&self, task: TaskId, _: Option<&str>) -> Result<bool, StoreError> {
        let claims = &self.queue_statements.claims;
        let sql = format!("DELETE FROM {claims} WHERE task = '{task}' AND expires_at IS NULL;{CHANGED}");
        Ok(self.count("ending a unique claim", sql).await? > 0)
    }

    async fn put_off(
        &self,
        engine: Engine,
        _: TaskId,
        _: &str,
        _: Duration,
        _: Attempt,
    ) -> Result<bool, StoreError> {
        // The outbox has no workers.
        check(engine).map(|()| false)
    }

    async fn queue_of(&self, engine: Engine, _: &str) -> Result<Option<String>, StoreError> {
        check(engine).map(|()| None)
    }

    async fn prepare(&self, engine: Engine) -> Result<(), StoreError> {
        check(engine)
    }

    async fn is_prepared(&self, engine: Engine) -> Result<bool, StoreError> {
        check(engine).map(|()| true)
    }

    async fn sweep_claims(&self, limit: u32) -> Result<u64, StoreError> {
        let claims = &self.queue_statements.claims;
        let sql = format!(
            "DELETE FROM {claims} WHERE expires_at <= {NOW} ORDER BY expires_at LIMIT {limit};SELECT ROW_COUNT() AS n"
        );
        self.count("sweeping unique claims", sql).await
    }
}

impl MySqlStore {
    /// Sends statements of which the last one returns a number.
    async fn count(&self, doing: &str, sql: String) -> Result<u64, StoreError> {
        let mut attempts = 1;
        let rows = loop {
            match self.send(|| sql.clone()).await?.rows {
                Err(error) if is_deadlock(&error) && attempts < OFFERS => attempts += 1,
                rows => break rows.map_err(|error| failed(doing, error))?,
            }
        };
        let count = rows.first().map(|row| row.try_get::<i64, _>(0)).transpose();
        let count = count.map_err(|error| failed(doing, error))?.unwrap_or(0);
        Ok(u64::try_from(count).unwrap_or(0))
    }
}

fn number_of(task: &Push<'_>) -> Option<i64> {
    task.outbox.map(|row| row.number)
}

/// A row of the outbox is as it was read.
fn push_is(sql: &mut String, row: &OutboxRow<'_>) {
    push(sql, format_args!("number = {} AND payload = ", row.number));
    push_bytes(sql, row.payload);
}

/// Reads the rows of the outbox that are locked, and who has the claims.
fn read_taken(rows: &[MySqlRow]) -> Result<(Vec<i64>, HashMap<KeyHash, Claimed>), sqlx::Error> {
    let (mut there, mut claims) = (Vec::new(), HashMap::new());
    for row in rows {
        match row.column(0).name() {
            "idem_number" => there.push(row.try_get(0)?),
            _ => {
                let key = super::lease::read_key(row, "idem_claim")?;
                claims.extend(read_claimed(row)?.map(|claimed| (key, claimed)));
            }
        }
    }
    Ok((there, claims))
}

fn read_place(row: &MySqlRow) -> Result<(KeyHash, TaskId), sqlx::Error> {
    Ok((super::lease::read_key(row, "key")?, parse_task_id(row.try_get("task")?)?))
}

/// Reads who has, or had, a claim, if anybody did.
fn read_claimed(row: &MySqlRow) -> Result<Option<Claimed>, sqlx::Error> {
    let Some(task) = row.try_get::<Option<String>, _>("holder")? else { return Ok(None) };
    let duration = |millis: i64| Duration::from_millis(u64::try_from(millis).unwrap_or(0));
    let holder = Holder {
        task: parse_task_id(&task)?,
        since: duration(row.try_get("since")?),
        left: row.try_get::<Option<i64>, _>("held_for")?.map(duration),
    };
    Ok(Some(Claimed { holder, live: row.try_get::<i64, _>("live")? == 1 }))
}
