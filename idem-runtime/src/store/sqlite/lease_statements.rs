//! The SQL text of leased jobs.
//!
//! Parameters are written `$1`, not `?1`: where a statement does not use all numbers, SQLite makes up nameless
//! parameters for those between the `?`s, and sqlx counts these against the statements that follow in the text.

use std::fmt::Write as _;

use sqlx::{AssertSqlSafe, SqlSafeStr, SqlStr};

use super::statements::CHECK_OPEN;
use crate::record::State;
use crate::store::sql::state_code;
use crate::store::{Lease, Settings};

/// The store's clock in milliseconds. SQLite's own counts seconds where it is not asked for more.
pub(super) const NOW: &str = "CAST(unixepoch('subsec') * 1000 AS INTEGER)";

/// The run `$2, $3` has the key `$1`.
const HOLDS: &str = "key = $1 AND epoch = $2 AND token = $3 AND outcome = 3";

/// The columns of a task in the outbox.
const TASK: &str =
    "number, id, job, key, payload, task, unclaimed, coalesce(priority, 0) AS priority, attempts";

/// Returns the SQL that makes the tables.
pub(super) fn schema(settings: &Settings) -> String {
    let [records, steps, audit, outbox] =
        ["records", "steps", "audit", "outbox"].map(|name| settings.table(name));
    // Only records without an outcome are in the index, so atomic jobs do not pay for it.
    format!(
        "ALTER TABLE {records} ADD COLUMN epoch INTEGER;\n\
         ALTER TABLE {records} ADD COLUMN token INTEGER;\n\
         ALTER TABLE {records} ADD COLUMN attempts INTEGER;\n\
         ALTER TABLE {records} ADD COLUMN lease_until INTEGER;\n\
         CREATE INDEX {records}_unfinished ON {records} (completed_at) WHERE outcome > 2;\n\
         CREATE TABLE {steps} (\n    key BLOB NOT NULL,\n    seq INTEGER NOT NULL,\n    name TEXT NOT NULL,\n    \
         result BLOB,\n    PRIMARY KEY (key, seq)\n) STRICT, WITHOUT ROWID;\n\
         CREATE TABLE {audit} (\n    id INTEGER PRIMARY KEY,\n    key BLOB NOT NULL,\n    epoch INTEGER NOT NULL,\n    \
         action TEXT NOT NULL,\n    why TEXT NOT NULL,\n    at INTEGER NOT NULL\n) STRICT;\n\
         CREATE INDEX {audit}_key ON {audit} (key, id);\n\
         CREATE TABLE {outbox} (\n    number INTEGER PRIMARY KEY AUTOINCREMENT,\n    namespace TEXT NOT NULL,\n    id BLOB NOT NULL,\n    \
         job TEXT NOT NULL,\n    key TEXT NOT NULL,\n    payload BLOB NOT NULL,\n    at INTEGER NOT NULL\n) STRICT;\n\
         CREATE INDEX {outbox}_namespace ON {outbox} (namespace, number);\n"
    )
}

/// The SQL of leased jobs, with the tables' names.
pub(super) struct LeaseStatements {
    /// The entry of key `$1`, and its steps.
    pub(super) entry: SqlStr,
    /// Makes the record of a claim, if the key has none.
    pub(super) claim: SqlStr,
    /// Takes the key over, if it is still as it was found, and returns its steps.
    pub(super) take_over: SqlStr,
    /// Writes a step with its result, if the run has the key.
    pub(super) put_step: SqlStr,
    /// The same, as a transaction of its own that tells whether it has.
    pub(super) end_step: SqlStr,
    pub(super) begin_step: SqlStr,
    pub(super) forget_step: SqlStr,
    /// Ends a run without an outcome.
    pub(super) end: SqlStr,
    pub(super) tasks: SqlStr,
    /// Takes a task: its time is at the very beginning from then on, where it is at no other.
    pub(super) take_task: SqlStr,
    pub(super) delete_task: SqlStr,
    records: String,
    steps: String,
    audits: String,
    outbox: String,
}

impl LeaseStatements {
    pub(super) fn new(settings: &Settings) -> Self {
        let [records, steps, audits, outbox] =
            ["records", "steps", "audit", "outbox"].map(|name| settings.table(name));
        let safe = |sql: String| AssertSqlSafe(sql).into_sql_str();
        let select_steps = format!("SELECT seq, name, result FROM {steps} WHERE key = $1 ORDER BY seq");
        let put_step = format!(
            "INSERT INTO {steps} (key, seq, name, result) SELECT $1, $4, $5, $6 FROM {records} WHERE {HOLDS} \
             ON CONFLICT (key, seq) DO UPDATE SET result = excluded.result RETURNING 1 AS idem_held"
        );
        let guarded = |sql: &str| safe(format!("{}; {sql}; COMMIT", begin_held(&records, HOLDS)));
        LeaseStatements {
            entry: safe(format!("SELECT {} FROM {records} WHERE key = $1; {select_steps}", columns())),
            claim: safe(format!(
                "INSERT INTO {records} (key, job, fingerprint, outcome, completed_at, readable, result, epoch, token, \
                 attempts, lease_until) VALUES ($1, $2, $3, 3, unixepoch(), $4, x'', $5, $6, $7, {NOW} + $8) \
                 ON CONFLICT DO NOTHING"
            )),
            take_over: safe(format!(
                "BEGIN IMMEDIATE; \
                 UPDATE {records} SET job = $2, fingerprint = $3, outcome = 3, completed_at = unixepoch(), \
                 expires_at = NULL, readable = $4, result = x'', epoch = $5, token = $6, attempts = $7, \
                 lease_until = {NOW} + $8 \
                 WHERE key = $1 AND coalesce(epoch, 0) = $9 AND coalesce(token, 0) = $10 AND outcome BETWEEN $11 AND $12 \
                 AND CASE WHEN outcome = 3 THEN lease_until <= {NOW} WHEN outcome < 3 THEN expires_at <= unixepoch() \
                 ELSE outcome = 4 END RETURNING 1 AS idem_held; {select_steps}; COMMIT"
            )),
            end_step: guarded(&put_step),
            put_step: safe(format!("RELEASE idem_body; {put_step}")),
            begin_step: guarded(&format!(
                "INSERT INTO {steps} (key, seq, name) SELECT $1, $4, $5 FROM {records} WHERE {HOLDS} \
                 ON CONFLICT DO NOTHING"
            )),
            forget_step: guarded(&format!(
                "DELETE FROM {steps} WHERE key = $1 AND seq = $4 AND result IS NULL \
                 AND EXISTS (SELECT 1 FROM {records} WHERE {HOLDS})"
            )),
            end: guarded(&format!(
                "UPDATE {records} SET outcome = $4, result = $5, completed_at = unixepoch(), lease_until = NULL \
                 WHERE {HOLDS}"
            )),
            tasks: safe(format!(
                "SELECT {TASK} FROM {outbox} WHERE namespace = $1 AND number > $2 AND (due IS NULL OR due <= {NOW}) ORDER BY number LIMIT $3"
            )),
            take_task: safe(format!(
                "UPDATE {outbox} SET due = 0 WHERE namespace = $1 AND number = $2 RETURNING {TASK}"
            )),
            delete_task: safe(format!("DELETE FROM {outbox} WHERE number = $1")),
            records,
            steps,
            audits,
            outbox,
        }
    }

    /// Puts `tasks` tasks into the outbox in the transaction that is open. A task takes five parameters.
    pub(super) fn enqueue(&self, tasks: usize) -> SqlStr {
        // Where the body has ended it, there is no savepoint.
        let mut sql = format!("{CHECK_OPEN}; SAVEPOINT idem_body");
        self.push_tasks(&mut sql, 1, tasks, "");
        AssertSqlSafe(sql).into_sql_str()
    }

    fn push_tasks(&self, sql: &mut String, first: usize, tasks: usize, only_then: &str) {
        let outbox = &self.outbox;
        for task in 0..tasks {
            let [namespace, id, job, key, payload] = std::array::from_fn(|at| first + task * 5 + at);
            push(
                sql,
                format_args!(
                    "; INSERT INTO {outbox} (namespace, id, job, key, payload, at) SELECT ${namespace}, ${id}, ${job}, ${key}, ${payload}, \
                     unixepoch(){only_then}"
                ),
            );
        }
    }

    /// Writes the outcome `$4` with result `$5`, deletes the steps, and puts `tasks` tasks into the outbox. A task
    /// takes five parameters, from `$6` on.
    pub(super) fn settle(&self, expires_at: &str, tasks: usize) -> SqlStr {
        let LeaseStatements { records, steps, .. } = self;
        let mut sql = begin_held(records, HOLDS);
        self.push_tasks(&mut sql, 6, tasks, &format!(" FROM {records} WHERE {HOLDS}"));
        push(
            &mut sql,
            format_args!(
                "; DELETE FROM {steps} WHERE key = $1 AND EXISTS (SELECT 1 FROM {records} WHERE {HOLDS}); \
                 UPDATE {records} SET outcome = $4, result = $5, completed_at = unixepoch(), \
                 expires_at = {expires_at}, lease_until = NULL WHERE {HOLDS}; COMMIT"
            ),
        );
        AssertSqlSafe(sql).into_sql_str()
    }

    /// Renews leases, and returns the tokens of those that were.
    pub(super) fn renew(&self, leases: &[Lease]) -> SqlStr {
        let mut sql =
            format!("UPDATE {} AS r SET lease_until = {NOW} + l.column4 FROM (VALUES ", self.records);
        for (at, Lease { hold, length }) in leases.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            let (key, epoch, token, millis) = (hold.key, hold.epoch, hold.token.0, length.as_millis());
            push(&mut sql, format_args!("{comma}(x'{}',{epoch},{token},{millis})", hex(&key)));
        }
        sql += ") AS l WHERE r.key = l.column1 AND r.epoch = l.column2 AND r.token = l.column3 AND r.outcome = 3 \
                RETURNING token";
        AssertSqlSafe(sql).into_sql_str()
    }

    /// Gives the key `$1` of epoch `$2` and job `$9`, which is in state `from`, the state `$3` with `$4`, and notes action `$5` and `$6`.
    /// Step `$7` in place `$10` gets result `$8`, whether it has a row or not, or goes if that is null.
    pub(super) fn resolve(&self, from: State, state: State, expires_at: &str) -> SqlStr {
        let LeaseStatements { records, steps, audits, .. } = self;
        let is_so = format!("key = $1 AND epoch = $2 AND job = $9 AND outcome = {}", state_code(from));
        let exists = format!("EXISTS (SELECT 1 FROM {records} WHERE {is_so})");
        // The steps of a key that is done are not needed any more.
        let all = match state {
            State::Completed => format!("DELETE FROM {steps} WHERE key = $1 AND {exists}; "),
            _ => String::new(),
        };
        AssertSqlSafe(format!(
            "{}; INSERT INTO {audits} (key, epoch, action, why, at) SELECT $1, $2, $5, $6, unixepoch() WHERE {exists}; \
             DELETE FROM {steps} WHERE key = $1 AND seq = $10 AND $8 IS NULL AND {exists}; \
             INSERT INTO {steps} (key, seq, name, result) SELECT $1, $10, $7, $8 WHERE $8 IS NOT NULL AND {exists} \
             ON CONFLICT (key, seq) DO UPDATE SET result = excluded.result; {all}\
             UPDATE {records} SET outcome = $3, result = $4, completed_at = unixepoch(), expires_at = {expires_at}, \
             lease_until = NULL WHERE {is_so}; COMMIT",
            begin_held(records, &is_so)
        ))
        .into_sql_str()
    }

    /// Lets the record of key `$1`, job `$2` and epoch `$3` count as expired if it is in this state, deletes its steps, and
    /// notes action `$4` and `$5`.
    pub(super) fn forget(&self, state: State) -> SqlStr {
        let LeaseStatements { records, steps, audits, .. } = self;
        let is_so =
            format!("key = $1 AND job = $2 AND coalesce(epoch, 0) = $3 AND outcome = {}", state_code(state));
        let exists = format!("EXISTS (SELECT 1 FROM {records} WHERE {is_so})");
        AssertSqlSafe(format!(
            "{}; INSERT INTO {audits} (key, epoch, action, why, at) SELECT $1, $3, $4, $5, unixepoch() WHERE {exists}; \
             DELETE FROM {steps} WHERE key = $1 AND {exists}; \
             UPDATE {records} SET outcome = {}, result = x'', completed_at = unixepoch(), expires_at = 0 WHERE {is_so}; COMMIT",
            begin_held(records, &is_so),
            state_code(State::Absent)
        ))
        .into_sql_str()
    }
}

/// The columns of an entry.
fn columns() -> String {
    format!(
        "outcome, fingerprint, result, coalesce(expires_at <= unixepoch(), FALSE) AS expired, \
         coalesce(epoch, 0) AS epoch, coalesce(token, 0) AS token, coalesce(attempts, 0) AS attempts, \
         coalesce(lease_until - {NOW}, 0) AS lease_left"
    )
}

/// Begins, and tells whether a record is as it must be; the statements behind it ask for themselves.
fn begin_held(records: &str, condition: &str) -> String {
    format!("BEGIN IMMEDIATE; SELECT 1 AS idem_held FROM {records} WHERE {condition}")
}

fn hex(key: &crate::key::KeyHash) -> String {
    key.as_bytes().iter().fold(String::new(), |mut hex, byte| {
        push(&mut hex, format_args!("{byte:02x}"));
        hex
    })
}

fn push(sql: &mut String, text: std::fmt::Arguments<'_>) {
    sql.write_fmt(text).expect("a string takes everything");
}
