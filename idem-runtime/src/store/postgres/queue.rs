//! Unique claims and tasks in PostgreSQL. A push is one statement, whatever it is made of.

use std::collections::HashMap;
use std::fmt::Display;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{Postgres, Row};

use super::lease_statements::BEGIN;
use super::saved::{Bytes, Quoted, Saved, Script, quoted};
use super::statements::literal;
use super::{PostgresStore, Session, key_of_uuid, message};
use crate::engine::{BEGUN, BEYOND_LIMIT, TaskId};
use crate::error::StoreError;
use crate::fingerprint::Fingerprint;
use crate::key::{self, Key, KeyHash};
use crate::record::{JobId, Latest, Moment, Move, Places, latest};
use crate::store::sql::{Leased, claim_of, crowded, driver_error, engine_error, millis, parse_task_id};
use crate::store::{
    Attempt, Engine, Holder, OFFERS, OutboxRow, Push, Pushed, QueueStore, Settings, UniqueClaim,
};

/// Returns the SQL that makes the tables.
pub(super) fn schema(settings: &Settings) -> String {
    let [claims, outbox] = ["claims", "outbox"].map(|name| settings.table(name));
    let prefix = &settings.table_prefix;
    format!(
        "CREATE TABLE {claims} (\n    key uuid NOT NULL PRIMARY KEY,\n    job integer NOT NULL,\n    task text NOT NULL,\n    \
         since timestamptz NOT NULL,\n    expires_at timestamptz,\n    readable text NOT NULL\n);\n\
         CREATE INDEX {prefix}claims_task ON {claims} (task);\n\
         CREATE INDEX {prefix}claims_expired ON {claims} (expires_at) WHERE expires_at IS NOT NULL;\n\
         ALTER TABLE {outbox} ADD COLUMN task text UNIQUE, ADD COLUMN unclaimed uuid, ADD COLUMN due timestamptz, \
         ADD COLUMN priority integer, ADD COLUMN attempts integer;\n"
    )
}

/// The tables that a push is about.
struct Tables {
    records: String,
    claims: String,
    outbox: String,
}

impl Tables {
    /// Enqueues tasks with their claims. A claim that is held is found before anything is written, so that a duplicate
    /// locks no row, unless its claim is one of `kept`: then that stays until the transaction ends, or the task is to be
    /// offered again. Of those with one claim the first that is free to take it does. Sent twice it does no more: the claim
    /// has its task already then, and the task is there; if apalis has done it by then, it takes no claim again. `moved` are
    /// the rows of those that are taken out of the outbox.
    fn push(&self, engine: Engine, input: &str, moved: &[OutboxRow<'_>], kept: &[KeyHash]) -> String {
        let Tables { records, claims, outbox } = self;
        // The row of the outbox is locked first and deleted last, so that it outlasts a claim that is lost in between.
        let (locked, there, moved) = match moved {
            [] => (String::new(), "TRUE", String::new()),
            rows => (
                format!("locked AS (SELECT number FROM {outbox} WHERE {} FOR UPDATE), ", are(rows)),
                "(i.number IS NULL OR i.number IN (SELECT number FROM locked))",
                format!(
                    ", moved AS (DELETE FROM {outbox} WHERE number IN (SELECT number FROM judged WHERE there \
                     AND (pushed OR done IS NOT NULL OR held_by IS NOT NULL AND ends_if_held)))"
                ),
            ),
        };
        let (keeping, held_by) = match kept {
            [] => (String::new(), String::from("held_by")),
            keys => {
                let keys = keys.iter().map(|key| format!("'{key}'")).collect::<Vec<_>>().join(", ");
                (
                    format!(
                        "kept AS (SELECT key, task FROM {claims} WHERE key IN ({keys}) \
                         AND (expires_at IS NULL OR expires_at > clock_timestamp()) ORDER BY key FOR KEY SHARE), "
                    ),
                    // One that has just ended is still seen, and not kept.
                    format!(
                        "CASE WHEN holder IS NULL OR claim NOT IN ({keys}) \
                         OR EXISTS (SELECT 1 FROM kept k WHERE k.key = judged.claim AND k.task = judged.holder) \
                         THEN held_by END"
                    ),
                )
            }
        };
        let enqueued = match engine {
            Engine::Apalis => "(i.number IS NULL AND EXISTS (SELECT 1 FROM apalis.jobs j WHERE j.id = i.id))",
            Engine::Outbox => "FALSE",
        };
        let lasts = "clock_timestamp() + i.lasts * interval '1 millisecond'";
        format!(
            "{input}, {locked}{keeping}seen AS (SELECT i.*, {there} AS there, {enqueued} AS enqueued, \
             r.fingerprint AS done, c.task AS holder, \
             (extract(epoch FROM clock_timestamp() - c.since) * 1000)::bigint AS since, \
             (extract(epoch FROM c.expires_at - clock_timestamp()) * 1000)::bigint AS held_for FROM input i \
             LEFT JOIN {records} r ON i.records AND r.key = i.key AND r.outcome <= 2 \
             AND (r.expires_at IS NULL OR r.expires_at > clock_timestamp()) \
             LEFT JOIN {claims} c ON c.key = i.claim AND (c.expires_at IS NULL OR c.expires_at > clock_timestamp())), \
             free AS (SELECT *, CASE WHEN claim IS NOT NULL AND holder IS NULL \
             THEN first_value(id) OVER (PARTITION BY claim ORDER BY ord) END AS candidate \
             FROM seen WHERE there AND NOT enqueued AND done IS NULL AND (holder IS NULL OR holder = id)), \
             claimed AS (INSERT INTO {claims} AS c (key, job, task, since, expires_at, readable) \
             SELECT i.claim, i.job, i.id, clock_timestamp(), {lasts}, i.readable FROM free i \
             WHERE i.candidate = i.id ORDER BY i.claim \
             ON CONFLICT (key) DO UPDATE SET job = excluded.job, task = excluded.task, since = excluded.since, \
             expires_at = excluded.expires_at, readable = excluded.readable \
             WHERE c.expires_at <= clock_timestamp() RETURNING c.key), \
             judged AS (SELECT i.*, i.enqueued OR f.ord IS NOT NULL AND (i.claim IS NULL OR i.holder IS NOT NULL \
             OR f.candidate = i.id AND c.key IS NOT NULL) AS pushed, \
             coalesce(i.holder, CASE WHEN c.key IS NOT NULL THEN f.candidate END) AS held_by \
             FROM seen i LEFT JOIN free f ON f.ord = i.ord LEFT JOIN claimed c ON c.key = i.claim), \
             pushed AS ({} WHERE i.pushed ON CONFLICT DO NOTHING){moved} \
             SELECT ord, there, done, {held_by} AS holder, coalesce(since, 0) AS since, \
             CASE WHEN holder IS NULL THEN lasts ELSE held_for END AS held_for, pushed FROM judged ORDER BY ord",
            self.insert(engine, "judged"),
        )
    }

    /// Returns the insert of the tasks in `from i`.
    fn insert(&self, engine: Engine, from: &str) -> String {
        let due = "CASE WHEN i.after > 0 THEN clock_timestamp() + i.after * interval '1 millisecond'";
        match engine {
            // apalis has a task whose time has come only when that lies in the past.
            Engine::Apalis => format!(
                "INSERT INTO apalis.jobs (id, job_type, job, status, attempts, max_attempts, run_at, priority, metadata) \
                 SELECT i.id, i.queue, i.payload, 'Pending', 0, i.attempts, {due} ELSE now() END, i.priority, \
                 i.metadata::hstore FROM {from} i"
            ),
            Engine::Outbox => format!(
                "INSERT INTO {} (namespace, id, job, key, payload, at, task, unclaimed, due, priority, attempts) \
                 SELECT i.namespace, i.key, i.name, i.readable_key, i.payload, clock_timestamp(), i.id, i.unclaimed, \
                 {due} END, i.priority, i.attempts FROM {from} i",
                self.outbox
            ),
        }
    }
}

/// The SQL of the queue, with the tables' names.
pub(super) struct QueueStatements {
    tables: Tables,
    prefix: String,
    /// Enqueues one task that is not taken out of the outbox.
    push_apalis: Saved,
    push_outbox: Saved,
}

impl QueueStatements {
    pub(super) fn new(settings: &Settings) -> Self {
        let [records, claims, outbox] = ["records", "claims", "outbox"].map(|name| settings.table(name));
        let tables = Tables { records, claims, outbox };
        let parameters = input([std::array::from_fn(|at| format!("${}", at + 1))]);
        let [push_apalis, push_outbox] = [Engine::Apalis, Engine::Outbox]
            .map(|engine| Saved::new("push", &TYPES, tables.push(engine, &parameters, &[], &[])));
        QueueStatements { tables, prefix: settings.table_prefix.clone(), push_apalis, push_outbox }
    }

    /// Enqueues tasks with their claims; see [`Tables::push`]. `kept` are claims that stay as they are.
    fn push(&self, engine: Engine, tasks: &[Push<'_>], kept: &[KeyHash]) -> String {
        let moved: Vec<OutboxRow<'_>> = tasks.iter().filter_map(|task| task.outbox).collect();
        self.tables.push(engine, &rows(tasks), &moved, kept)
    }

    /// The same for a single task that is not taken out of the outbox.
    fn push_one(&self, script: &mut Script, engine: Engine, task: &Push<'_>) {
        let saved = match engine {
            Engine::Apalis => &self.push_apalis,
            Engine::Outbox => &self.push_outbox,
        };
        let fields = fields(0, task);
        script.call(saved, &fields.each_ref().map(|field| field as &dyn Display));
    }

    /// Gives the payload to the task that has the claim, if no worker has it yet.
    fn replace(&self, engine: Engine, task: &Push<'_>, holder: TaskId) -> String {
        let claims = &self.tables.claims;
        let key = claim_of(task).key.hash();
        let payload = Bytes(task.payload);
        // Who has been told of the holder has this lock already, and so may another one.
        let lock = if task.holds_back { "KEY SHARE" } else { "UPDATE" };
        let holds = format!(
            "EXISTS (SELECT 1 FROM {claims} WHERE key = '{key}' AND task = '{holder}' FOR {lock}){}",
            self.is_there(task)
        );
        let update = match engine {
            Engine::Apalis => format!(
                "UPDATE apalis.jobs SET job = {payload}::bytea WHERE id = '{holder}' AND status = 'Pending' \
                 AND lock_by IS NULL AND attempts = 0 AND NOT coalesce(exist(metadata, '{BEGUN}'), false) \
                 AND {holds} RETURNING 1"
            ),
            Engine::Outbox => format!(
                "UPDATE {} SET payload = {payload}::bytea, id = '{}', key = {} WHERE task = '{holder}' AND namespace = {} \
                 AND (due IS NULL OR due > 'epoch') AND {holds} RETURNING 1",
                self.tables.outbox,
                task.key.hash(),
                literal(task.key.readable()),
                literal(task.namespace),
            ),
        };
        format!("WITH done AS ({update}){} SELECT 1 FROM done", self.take_out(task))
    }

    /// Hands the claim over and enqueues the task that gets it.
    fn supersede(&self, engine: Engine, task: &Push<'_>, holder: TaskId) -> String {
        let claims = &self.tables.claims;
        let claim = claim_of(task);
        let Move { from, to, readable, .. } = Move::supersedes(claim.key, holder, claim.key.hash());
        format!(
            "{}, done AS (UPDATE {claims} SET key = '{to}', readable = {} WHERE key = '{from}' AND task = '{holder}'{} \
             RETURNING expires_at), claimed AS (INSERT INTO {claims} (key, job, task, since, expires_at, readable) \
             SELECT i.claim, i.job, i.id, clock_timestamp(), done.expires_at, i.readable FROM done, input i), \
             pushed AS ({} WHERE EXISTS (SELECT 1 FROM done)){} SELECT 1 FROM done",
            rows(&[*task]),
            literal(&readable),
            self.is_there(task),
            self.tables.insert(engine, "input"),
            self.take_out(task),
        )
    }

    /// The row of the outbox that the task is taken out of is there, and stays so.
    fn is_there(&self, task: &Push<'_>) -> String {
        match task.outbox {
            Some(row) => {
                let outbox = &self.tables.outbox;
                format!(" AND EXISTS (SELECT 1 FROM {outbox} WHERE {} FOR UPDATE)", are(&[row]))
            }
            None => String::new(),
        }
    }

    /// Ends the row of the outbox that the task is taken out of, if something was done.
    fn take_out(&self, task: &Push<'_>) -> String {
        match task.outbox {
            Some(OutboxRow { number, .. }) => format!(
                ", moved AS (DELETE FROM {} WHERE number = {number} AND EXISTS (SELECT 1 FROM done))",
                self.tables.outbox
            ),
            None => String::new(),
        }
    }

    /// Locks the rows of a task that may not be the latest.
    fn places(&self, places: &Places) -> String {
        format!(
            "SELECT key, task FROM {} WHERE key IN ('{}', '{}', '{}') ORDER BY key FOR UPDATE",
            self.tables.claims, places.waits, places.began, places.superseded
        )
    }

    /// Changes the keys of rows, and ends the transaction.
    fn change_keys(&self, moves: &[Move]) -> String {
        let mut sql = String::new();
        for Move { task, from, to, readable } in moves {
            sql += &format!(
                "UPDATE {} SET key = '{to}', readable = {} WHERE key = '{from}' AND task = '{task}'; ",
                self.tables.claims,
                literal(readable)
            );
        }
        sql + "COMMIT"
    }

    fn acquire(&self, job: JobId, claim: &UniqueClaim<'_>, task: TaskId) -> String {
        let claims = &self.tables.claims;
        let lasts = claim.lasts.map_or_else(|| String::from("NULL"), |lasts| millis(lasts).to_string());
        format!(
            "INSERT INTO {claims} AS c (key, job, task, since, expires_at, readable) VALUES ('{key}', {job}, '{task}', \
             clock_timestamp(), clock_timestamp() + {lasts} * interval '1 millisecond', {}) \
             ON CONFLICT (key) DO UPDATE SET job = excluded.job, task = excluded.task, since = excluded.since, \
             expires_at = excluded.expires_at, readable = excluded.readable WHERE c.expires_at <= clock_timestamp(); {}",
            literal(claim.key.readable()),
            self.holder(claim.key.hash()),
            key = claim.key.hash(),
        )
    }

    fn holder(&self, claim: KeyHash) -> String {
        format!(
            "SELECT task AS holder, (extract(epoch FROM clock_timestamp() - since) * 1000)::bigint AS since, \
             (extract(epoch FROM expires_at - clock_timestamp()) * 1000)::bigint AS held_for FROM {} \
             WHERE key = '{claim}' AND (expires_at IS NULL OR expires_at > clock_timestamp())",
            self.tables.claims
        )
    }

    /// Ties claims to the tasks of apalis, by triggers: a claim ends in the transaction in which apalis gives its task up,
    /// be it done, out of attempts, killed by hand or deleted. What a worker says late of a task that was put back, that it
    /// had begun, takes the task neither out of its queue nor from the worker that has it by then; and that it was put back
    /// ends no task, also where that worker has it again. A task that is taken without a name, as storages that share one
    /// poll do it, begins in any hands.
    ///
    /// All applications of a database have one table of tasks, so a trigger's name tells its place, and what it does: of
    /// another place, or another version, it has another name.
    fn triggers(&self, schema: &str) -> Triggers {
        let QueueStatements { tables: Tables { claims, .. }, prefix, .. } = self;
        let (claims, place) = match claims.split_once('.') {
            Some((schema, _)) => (claims.clone(), schema.to_owned()),
            None => (format!("\"{schema}\".{claims}"), format!("\"{schema}\"")),
        };
        let [release, put_back] =
            ["release_claim", "keep_put_back"].map(|name| format!("{place}.{prefix}{name}()"));
        let functions = format!(
            "CREATE OR REPLACE FUNCTION {release} RETURNS trigger LANGUAGE plpgsql AS $idem$ BEGIN \
             DELETE FROM {claims} WHERE task = OLD.id AND expires_at IS NULL; RETURN NULL; END $idem$; \
             CREATE OR REPLACE FUNCTION {put_back} RETURNS trigger LANGUAGE plpgsql AS $idem$ BEGIN \
             RETURN NULL; END $idem$; "
        );
        let ended =
            "NEW.status IN ('Done', 'Killed') OR NEW.status = 'Failed' AND NEW.attempts >= NEW.max_attempts";
        let late = "NEW.status = 'Running' AND OLD.lock_by IS DISTINCT FROM NEW.lock_by \
                    AND (OLD.status <> 'Queued' OR OLD.lock_by IS NOT NULL)";
        // As apalis writes `Ran::PutBack`.
        let put_back_is_done = "NEW.status = 'Done' AND NEW.last_result #> '{Ok,put_back,why}' IS NOT NULL";
        let triggers = [
            ("task_ended", "AFTER UPDATE OF status", format!("WHEN ({ended}) EXECUTE FUNCTION {release}")),
            ("task_deleted", "AFTER DELETE", format!("EXECUTE FUNCTION {release}")),
            (
                "task_put_back",
                "BEFORE UPDATE OF status",
                format!("WHEN ({late} OR {put_back_is_done}) EXECUTE FUNCTION {put_back}"),
            ),
        ];
        let whole = format!("{functions}{triggers:?}");
        let [a, b, c, d, ..] = key::hash(b"idem triggers v1", &[whole.as_bytes()]);
        let version = u32::from_be_bytes([a, b, c, d]);
        let names = triggers.each_ref().map(|(name, ..)| format!("{prefix}{name}_{version:08x}"));
        let mut sql = format!(
            "BEGIN; SELECT pg_advisory_xact_lock(hashtext('idem prepares apalis')); SELECT 1 FROM {claims} LIMIT 0; \
             {functions}DO $idem$ DECLARE other text; BEGIN FOR other IN SELECT tgname FROM pg_trigger \
             WHERE tgrelid = to_regclass('apalis.jobs') \
             AND tgfoid IN ('{release}'::regprocedure, '{put_back}'::regprocedure) \
             LOOP EXECUTE format('DROP TRIGGER %I ON apalis.jobs', other); END LOOP; END $idem$; "
        );
        for (name, (_, when, does)) in names.iter().zip(&triggers) {
            sql += &format!("CREATE TRIGGER {name} {when} ON apalis.jobs FOR EACH ROW {does}; ");
        }
        Triggers { names, prepare: sql + "COMMIT" }
    }
}

/// The triggers on the tasks of apalis.
struct Triggers {
    names: [String; 3],
    /// Makes them, in the place of those of another version.
    prepare: String,
}

/// Rows of the outbox are as they were read.
fn are(rows: &[OutboxRow<'_>]) -> String {
    let row =
        |row: &OutboxRow<'_>| format!("number = {} AND payload = {}::bytea", row.number, Bytes(row.payload));
    rows.iter().map(row).collect::<Vec<_>>().join(" OR ")
}

const COLUMNS: &str = "ord, id, namespace, name, queue, job, key, readable_key, records, payload, claim, readable, lasts, \
     unclaimed, after, priority, attempts, number, ends_if_held, metadata";

/// The types of [`COLUMNS`].
const TYPES: [&str; 20] = [
    "int", "text", "text", "text", "text", "int", "uuid", "text", "boolean", "bytea", "uuid", "text",
    "bigint", "uuid", "bigint", "int", "int", "bigint", "boolean", "text",
];

/// What the columns of `input` are of a task, as literals.
fn fields(ord: usize, task: &Push<'_>) -> [String; TYPES.len()] {
    let claim = task.claim;
    let metadata =
        task.unclaimed.map_or_else(String::new, |claim| format!("\"idem.unclaimed\"=>\"{claim}\""));
    [
        Quoted(ord).to_string(),
        Quoted(task.id).to_string(),
        literal(task.namespace),
        literal(task.name),
        literal(task.queue),
        Quoted(task.job).to_string(),
        Quoted(task.key.hash()).to_string(),
        literal(task.key.readable()),
        Quoted(task.records).to_string(),
        Bytes(task.payload).to_string(),
        quoted(claim.map(|claim| claim.key.hash())),
        literal(claim.map_or("", |claim| claim.key.readable())),
        quoted(claim.and_then(|claim| claim.lasts).map(millis)),
        quoted(task.unclaimed),
        Quoted(millis(task.after)).to_string(),
        Quoted(task.priority).to_string(),
        Quoted(task.attempts).to_string(),
        quoted(task.outbox.map(|row| row.number)),
        Quoted(task.ends_if_held).to_string(),
        literal(&metadata),
    ]
}

/// Writes tasks as rows of `input`.
fn rows(tasks: &[Push<'_>]) -> String {
    input(tasks.iter().enumerate().map(|(ord, task)| {
        let fields = fields(ord, task);
        // The types of the first row are those of all.
        match ord {
            0 => std::array::from_fn(|at| format!("CAST({} AS {})", fields[at], TYPES[at])),
            _ => fields,
        }
    }))
}

fn input(rows: impl IntoIterator<Item = [String; TYPES.len()]>) -> String {
    let rows: Vec<String> = rows.into_iter().map(|row| format!("({})", row.join(", "))).collect();
    format!("WITH input ({COLUMNS}) AS (VALUES {})", rows.join(", "))
}

impl PostgresStore {
    /// Sends a statement on the caller's connection, or in a transaction of the store's own, where it may be sent twice.
    async fn send_on_either(
        &self,
        connection: Option<&mut PgConnection>,
        sql: String,
        failed: impl Fn(sqlx::Error) -> StoreError + Send,
    ) -> Result<Vec<PgRow>, StoreError> {
        match connection {
            Some(connection) => message(connection, sql).await.map_err(failed),
            None => self.send_text(format!("{BEGIN}{sql};COMMIT")).await?.rows.map_err(failed),
        }
    }

    /// Begins a transaction with statements about claims, and keeps the task in the hands of the worker that asks, if one does,
    /// until it ends; `None` if the task is not in them.
    ///
    /// Whoever writes the task may have written claims before, or may do so with it, as apalis does when tasks end and others
    /// begin: who has claims here does not wait for the task. Others are to be seen whatever isolation the session came with.
    async fn begin_in_hand(
        &self,
        sql: &str,
        task: TaskId,
        worker: Option<&str>,
        failed: impl Fn(sqlx::Error) -> StoreError + Send,
    ) -> Result<Option<(Leased<Postgres>, Vec<PgRow>)>, StoreError> {
        for _ in 0..OFFERS {
            let mut connection = self.connections.lease_alive().await?;
            let Some(worker) = worker else {
                let rows = message(&mut connection, format!("{BEGIN}{sql}")).await.map_err(&failed)?;
                return Ok(Some((connection, rows)));
            };
            let keep = format!("{} FOR SHARE", in_hand(task, worker));
            let sql = format!("{BEGIN}{sql}; {keep} SKIP LOCKED");
            let rows = message(&mut connection, sql).await.map_err(&failed)?;
            let is_in_hand = |row: &PgRow| row.try_get::<bool, _>("in_hand").is_ok();
            let (hand, rows): (Vec<PgRow>, Vec<PgRow>) = rows.into_iter().partition(is_in_hand);
            if !hand.is_empty() {
                return Ok(Some((connection, rows)));
            }
            // It is not, or somebody is just writing it.
            let sql = format!("ROLLBACK; {BEGIN}{keep}; COMMIT");
            let hand = message(&mut connection, sql).await.map_err(&failed)?;
            connection.give_back();
            if hand.is_empty() {
                return Ok(None);
            }
        }
        Err(crowded())
    }
}

#[async_trait]
impl QueueStore<Postgres> for PostgresStore {
    async fn push(
        &self,
        mut connection: Option<&mut PgConnection>,
        engine: Engine,
        tasks: &[Push<'_>],
    ) -> Result<Vec<Pushed>, StoreError> {
        let failed = |error| engine_error("enqueueing", engine, "PostgresStorage", error);
        if tasks.is_empty() {
            return Ok(Vec::new());
        }
        let mut answers: Vec<Option<Pushed>> = vec![None; tasks.len()];
        let mut open: Vec<usize> = (0..tasks.len()).collect();
        for _ in 0..OFFERS {
            let offered: Vec<Push<'_>> = open.iter().map(|ord| tasks[*ord]).collect();
            let kept = offered.iter().filter(|task| task.holds_back && connection.is_some());
            let kept: Vec<KeyHash> =
                kept.filter_map(|task| task.claim).map(|claim| claim.key.hash()).collect();
            let push = |script: &mut Script, _: &mut Session| {
                script.begin(BEGIN);
                match &offered[..] {
                    [task] if task.outbox.is_none() => self.queue_statements.push_one(script, engine, task),
                    tasks => {
                        script.push_str(&self.queue_statements.push(engine, tasks, &[]));
                        script.push_str(";");
                    }
                }
                script.push_str("COMMIT");
            };
            let rows = match connection.as_deref_mut() {
                Some(connection) => {
                    message(connection, self.queue_statements.push(engine, &offered, &kept)).await
                }
                // Of one that has left the outbox nobody knows whether its claim has ended with it.
                None if engine == Engine::Outbox && offered.iter().any(|task| task.claim.is_some()) => {
                    self.send_once("enqueueing", push).await?
                }
                None => self.send(push).await?.rows,
            };
            let rows = rows.map_err(failed)?;
            let mut lost = Vec::new();
            for (ord, row) in open.iter().zip(&rows) {
                match read_pushed(row).map_err(failed)? {
                    Some(pushed) => answers[*ord] = Some(pushed),
                    // Another transaction took the claim in that moment: it shows now.
                    None => lost.push(*ord),
                }
            }
            open = lost;
            if open.is_empty() {
                break;
            }
        }
        answers.into_iter().map(|answer| answer.ok_or_else(crowded)).collect()
    }

    async fn replace(
        &self,
        connection: Option<&mut PgConnection>,
        engine: Engine,
        task: &Push<'_>,
        holder: TaskId,
    ) -> Result<bool, StoreError> {
        let sql = self.queue_statements.replace(engine, task, holder);
        let failed = |error| engine_error("replacing a task", engine, "PostgresStorage", error);
        let rows = self.send_on_either(connection, sql, failed).await?;
        Ok(!rows.is_empty())
    }

    async fn supersede(
        &self,
        connection: Option<&mut PgConnection>,
        engine: Engine,
        task: &Push<'_>,
        holder: TaskId,
    ) -> Result<bool, StoreError> {
        let sql = self.queue_statements.supersede(engine, task, holder);
        let failed = |error| engine_error("handing a claim over", engine, "PostgresStorage", error);
        let rows = self.send_on_either(connection, sql, failed).await?;
        Ok(!rows.is_empty())
    }

    async fn keep_latest(
        &self,
        moment: Moment,
        claim: &Key,
        task: TaskId,
        worker: Option<&str>,
    ) -> Result<Latest, StoreError> {
        let failed = |error| driver_error("finding out which task is the latest", error);
        let places = self.queue_statements.places(&Places::new(claim, task));
        for _ in 0..OFFERS {
            let begun = self.begin_in_hand(&places, task, worker, failed).await?;
            let Some((mut connection, rows)) = begun else { return Ok(Latest::Gone) };
            let rows = rows.iter().map(read_place).collect::<Result<HashMap<_, _>, _>>().map_err(failed)?;
            let (latest, moves) = latest(moment, claim, task, |key| rows.get(&key).copied());
            match message(&mut connection, self.queue_statements.change_keys(&moves)).await {
                Ok(_) => {
                    connection.give_back();
                    return Ok(latest);
                }
                // A newer task was enqueued in that moment. The connection is closed, which undoes the rest.
                Err(sqlx::Error::Database(error)) if error.is_unique_violation() => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Err(crowded())
    }

    async fn acquire(
        &self,
        job: JobId,
        claim: &UniqueClaim<'_>,
        task: TaskId,
        worker: Option<&str>,
    ) -> Result<Option<Holder>, StoreError> {
        let failed = |error| driver_error("taking a unique claim", error);
        let acquire = self.queue_statements.acquire(job, claim, task);
        for _ in 0..OFFERS {
            let begun = self.begin_in_hand(&acquire, task, worker, failed).await?;
            let Some((mut connection, rows)) = begun else { return Ok(None) };
            message(&mut connection, "COMMIT").await.map_err(failed)?;
            connection.give_back();
            if let Some(row) = rows.first() {
                return read_holder(row).map(Some).map_err(failed);
            }
        }
        Err(crowded())
    }

    async fn holder(&self, claim: KeyHash) -> Result<Option<Holder>, StoreError> {
        let failed = |error| driver_error("reading a unique claim", error);
        let rows = self.send_on_either(None, self.queue_statements.holder(claim), failed).await?;
        rows.first().map(read_holder).transpose().map_err(failed)
    }

    async fn release(&self, task: TaskId, worker: Option<&str>) -> Result<bool, StoreError> {
        let claims = &self.queue_statements.tables.claims;
        let its = format!("task = '{task}' AND expires_at IS NULL");
        // Who is held back by a caller looks whose the task is when that has ended.
        let (wait, only_then) = match worker {
            None => (String::new(), String::new()),
            Some(worker) => (
                format!("SELECT true AS waited FROM {claims} WHERE {its} FOR UPDATE;"),
                format!(" AND EXISTS ({})", in_hand(task, worker)),
            ),
        };
        let sql = format!("{wait}DELETE FROM {claims} WHERE {its}{only_then} RETURNING true AS released");
        let rows =
            self.send_on_either(None, sql, |error| driver_error("ending a unique claim", error)).await?;
        Ok(rows.iter().any(|row| row.try_get::<bool, _>("released").is_ok()))
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
        let run_at = format!("run_at = clock_timestamp() + {} * interval '1 millisecond'", millis(after));
        let back = format!("status = 'Pending', lock_by = NULL, lock_at = NULL, done_at = NULL, {run_at}");
        let changes = match attempt {
            Attempt::Unspent => format!("{back}, metadata = metadata - text '{BEYOND_LIMIT}'"),
            Attempt::Interrupted => format!(
                "{back}, metadata = (coalesce(metadata, '') - text '{BEYOND_LIMIT}') || '\"{BEGUN}\"=>\"interrupted\"'::hstore"
            ),
            Attempt::Failed => run_at,
            Attempt::BeyondLimit => {
                format!("metadata = coalesce(metadata, '') || '\"{BEYOND_LIMIT}\"=>\"begun\"'::hstore")
            }
        };
        let sql =
            format!("UPDATE apalis.jobs SET {changes} WHERE {} RETURNING 1", is_the_workers(task, worker));
        let failed = |error| engine_error("putting a task off", engine, "PostgresStorage", error);
        let rows = self.send_on_either(None, sql, failed).await?;
        Ok(!rows.is_empty())
    }

    async fn prepare(&self, engine: Engine) -> Result<(), StoreError> {
        if self.is_prepared(engine).await? {
            return Ok(());
        }
        let failed = |error| engine_error("preparing the tables of apalis", engine, "PostgresStorage", error);
        let mut connection = self.connections.lease_alive().await?;
        let schema = connection.session().schema.clone();
        message(&mut connection, self.queue_statements.triggers(&schema).prepare).await.map_err(failed)?;
        connection.give_back();
        Ok(())
    }

    async fn queue_of(&self, engine: Engine, worker: &str) -> Result<Option<String>, StoreError> {
        let Engine::Apalis = engine else { return Ok(None) };
        let failed = |error| driver_error("looking for the queue of a worker", error);
        let sql = format!("SELECT worker_type FROM apalis.workers WHERE id = {}", literal(worker));
        let rows = self.send_text(sql).await?.rows.map_err(failed)?;
        rows.first().map(|row| row.try_get(0)).transpose().map_err(failed)
    }

    async fn is_prepared(&self, engine: Engine) -> Result<bool, StoreError> {
        let Engine::Apalis = engine else { return Ok(true) };
        let failed = |error| driver_error("looking at the triggers on the tables of apalis", error);
        let mut connection = self.connections.lease_alive().await?;
        let schema = connection.session().schema.clone();
        let names = self.queue_statements.triggers(&schema).names;
        // A name without quotes is in small letters there.
        let sql = format!(
            "SELECT 1 FROM pg_trigger WHERE tgrelid = to_regclass('apalis.jobs') AND tgname IN ({})",
            names.map(|name| literal(&name.to_ascii_lowercase())).join(", ")
        );
        let found = message(&mut connection, sql).await.map_err(failed)?.len();
        connection.give_back();
        Ok(found == 3)
    }

    async fn sweep_claims(&self, limit: u32) -> Result<u64, StoreError> {
        let claims = &self.queue_statements.tables.claims;
        let sql = format!(
            "DELETE FROM {claims} WHERE key IN (SELECT key FROM {claims} WHERE expires_at <= clock_timestamp() \
             LIMIT {limit} FOR UPDATE SKIP LOCKED) AND expires_at <= clock_timestamp() RETURNING 1"
        );
        let rows =
            self.send_on_either(None, sql, |error| driver_error("sweeping unique claims", error)).await?;
        Ok(u64::try_from(rows.len()).unwrap_or(u64::MAX))
    }
}

/// Reads what became of a task; `None` if its claim was taken in that moment.
fn read_pushed(row: &PgRow) -> Result<Option<Pushed>, sqlx::Error> {
    if row.try_get("pushed")? {
        return Ok(Some(Pushed::New));
    }
    if !row.try_get("there")? {
        return Ok(Some(Pushed::Gone));
    }
    if let Some(done) = row.try_get::<Option<i64>, _>("done")? {
        return Ok(Some(Pushed::Done(Fingerprint::from_bits(done))));
    }
    match row.try_get::<Option<&str>, _>("holder")? {
        Some(_) => read_holder(row).map(Pushed::Held).map(Some),
        None => Ok(None),
    }
}

/// What is so of a task of apalis that a worker has. What storages that share one poll have taken has no name yet.
fn is_the_workers(task: TaskId, worker: &str) -> String {
    let worker = literal(worker);
    format!("id = '{task}' AND (lock_by = {worker} OR lock_by IS NULL) AND status IN ('Queued', 'Running')")
}

/// Returns a row if a worker has a task.
fn in_hand(task: TaskId, worker: &str) -> String {
    format!("SELECT true AS in_hand FROM apalis.jobs WHERE {}", is_the_workers(task, worker))
}

fn read_place(row: &PgRow) -> Result<(KeyHash, TaskId), sqlx::Error> {
    Ok((key_of_uuid(row.try_get("key")?), parse_task_id(row.try_get("task")?)?))
}

fn read_holder(row: &PgRow) -> Result<Holder, sqlx::Error> {
    let task: &str = row.try_get("holder")?;
    let duration = |millis: i64| Duration::from_millis(u64::try_from(millis).unwrap_or(0));
    Ok(Holder {
        task: parse_task_id(task)?,
        since: duration(row.try_get("since")?),
        left: row.try_get::<Option<i64>, _>("held_for")?.map(duration),
    })
}
