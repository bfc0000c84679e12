//! The SQL text of the store. Several statements in one text are one hop to the connection's thread.

use sqlx::{AssertSqlSafe, SqlSafeStr, SqlStr};

use super::lease_statements::{self, NOW};
use super::queue;
use crate::store::sql::Migration;
use crate::store::{RowLock, Settings};

/// The SQL of a store, with its tables' names.
pub(super) struct Statements {
    /// The columns `outcome, fingerprint, result, epoch, expired` of the record with key `?1`.
    pub(super) get: SqlStr,
    /// Writes the record and commits.
    pub(super) commit: SqlStr,
    /// The same in place of a record whose time is over, under epoch `?8`: who has seen that one must not take the new
    /// one for it.
    pub(super) commit_over_expired: SqlStr,
    pub(super) job_select: SqlStr,
    pub(super) job_insert: SqlStr,
    /// The store's clock in milliseconds.
    pub(super) now: SqlStr,
    pub(super) last_tick: SqlStr,
    /// Replaces the last tick `?2` of job `?1` by `?3`.
    pub(super) advance_tick: SqlStr,
    pub(super) sweep_last: SqlStr,
    pub(super) sweep_delete: SqlStr,
    pub(super) migrated_version: SqlStr,
    pub(super) migrations: Vec<Migration>,
    pub(super) history: String,
    pub(super) history_table: String,
    begin: SqlStr,
    begin_text: String,
}

/// A body may end the transaction behind idem's back: with a COMMIT of its own, or by an error after
/// which SQLite rolls back by itself. The savepoint is gone then, and releasing it fails.
pub(super) const CHECK_OPEN: &str = "RELEASE idem_body";

impl Statements {
    pub(super) fn new(settings: &Settings) -> Self {
        let records = settings.table("records");
        let jobs = settings.table("jobs");
        let history_table = settings.table("migrations");
        let safe = |sql: String| AssertSqlSafe(sql).into_sql_str();

        let get = format!(
            "SELECT outcome, fingerprint, result, coalesce(epoch, 0) AS epoch, expires_at <= unixepoch() AS expired \
             FROM {records} WHERE key = ?1"
        );
        let begin_text = format!("BEGIN IMMEDIATE; {get}");
        let put = format!(
            "INSERT INTO {records} (key, job, fingerprint, outcome, completed_at, expires_at, readable, result) \
             VALUES (?1, ?2, ?3, ?4, unixepoch(), unixepoch() + ?5, ?6, ?7); COMMIT"
        );
        let put_over_expired = format!(
            "INSERT INTO {records} (key, job, fingerprint, outcome, completed_at, expires_at, readable, result, epoch) \
             VALUES (?1, ?2, ?3, ?4, unixepoch(), unixepoch() + ?5, ?6, ?7, ?8); COMMIT"
        );
        let delete_expired = format!("DELETE FROM {records} WHERE key = ?1 AND expires_at <= unixepoch()");
        // Clustered by key and strict: a record is 16 bytes of key, some small numbers, and the result.
        let schema = format!(
            "CREATE TABLE {jobs} (\n    id INTEGER PRIMARY KEY,\n    namespace TEXT NOT NULL,\n    \
             name TEXT NOT NULL,\n    UNIQUE (namespace, name)\n) STRICT;\n\
             CREATE TABLE {records} (\n    key BLOB NOT NULL PRIMARY KEY,\n    job INTEGER NOT NULL,\n    \
             fingerprint INTEGER NOT NULL,\n    outcome INTEGER NOT NULL,\n    completed_at INTEGER NOT NULL,\n    \
             expires_at INTEGER,\n    readable TEXT NOT NULL,\n    result BLOB NOT NULL\n) STRICT, WITHOUT ROWID;\n"
        );
        Statements {
            get: safe(get),
            commit: safe(format!("{CHECK_OPEN}; {put}")),
            commit_over_expired: safe(format!("{CHECK_OPEN}; {delete_expired}; {put_over_expired}")),
            job_select: safe(format!("SELECT id FROM {jobs} WHERE namespace = ?1 AND name = ?2")),
            job_insert: safe(format!("INSERT OR IGNORE INTO {jobs} (namespace, name) VALUES (?1, ?2)")),
            now: safe(format!("SELECT {NOW}")),
            last_tick: safe(format!("SELECT last_tick FROM {jobs} WHERE id = ?1")),
            advance_tick: safe(format!("UPDATE {jobs} SET last_tick = ?3 WHERE id = ?1 AND last_tick IS ?2")),
            sweep_last: safe(format!(
                "SELECT key FROM {records} WHERE key > ?1 ORDER BY key LIMIT 1 OFFSET ?2"
            )),
            sweep_delete: safe(format!(
                "DELETE FROM {records} WHERE key > ?1 AND key <= ?2 AND expires_at <= unixepoch()"
            )),
            migrated_version: safe(format!("SELECT coalesce(max(version), 0) FROM {history_table}")),
            migrations: vec![
                Migration { sql: schema },
                Migration { sql: lease_statements::schema(settings) },
                Migration { sql: queue::schema(settings) },
                Migration { sql: format!("ALTER TABLE {jobs} ADD COLUMN last_tick INTEGER;\n") },
            ],
            history: format!(
                "CREATE TABLE IF NOT EXISTS {history_table} (\n    version INTEGER PRIMARY KEY,\n    \
                 applied_at INTEGER NOT NULL DEFAULT (unixepoch())\n) STRICT;"
            ),
            history_table,
            begin: safe(format!("{begin_text}; SAVEPOINT idem_body")),
            begin_text,
        }
    }

    /// Begins, reads the record of key `?1` and finds the business row with value `?2`.
    pub(super) fn begin(&self, row: Option<&RowLock<'_>>) -> SqlStr {
        match row {
            None => self.begin.clone(),
            Some(RowLock { table, column, .. }) => AssertSqlSafe(format!(
                "{}; SELECT 1 AS idem_row FROM {table} WHERE {column} = ?2; SAVEPOINT idem_body",
                self.begin_text
            ))
            .into_sql_str(),
        }
    }
}
