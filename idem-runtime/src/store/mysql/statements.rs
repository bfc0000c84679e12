//! The SQL text of the store.

use std::fmt::Write as _;
use std::time::Duration;

use sqlx::{AssertSqlSafe, SqlSafeStr, SqlStr};

use super::{lease_statements, queue};
use crate::key::{self, KeyHash};
use crate::record::{Epoch, JobId, NewRecord};
use crate::schedule::Tick;
use crate::store::sql::Migration;
use crate::store::{Claim, KeyLock, RowLock, RowValue, Settings, retain_millis};

/// The SQL of a store, with its tables' names.
pub(super) struct Statements {
    /// The columns `outcome, fingerprint, result, epoch, expired` of the record with key `?`.
    pub(super) get: SqlStr,
    pub(super) migrations: Vec<Migration>,
    pub(super) history: String,
    pub(super) history_table: String,
    schema: Option<String>,
    records: String,
    jobs: String,
}

/// Milliseconds since 1970 by the server's clock, whatever the session's time zone: where clocks go back, a local time
/// is that of two moments.
pub(super) const NOW: &str = "(TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(3)) DIV 1000)";

/// A body may end the transaction behind idem's back: with a COMMIT of its own, with a statement that
/// commits implicitly, or by a deadlock, after which the server rolls back and goes on without a
/// transaction. The savepoint is gone then, and releasing it fails.
pub(super) const CHECK_OPEN: &str = "RELEASE SAVEPOINT idem_body";

impl Statements {
    pub(super) fn new(settings: &Settings) -> Self {
        let records = settings.table("records");
        let jobs = settings.table("jobs");
        let history_table = settings.table("migrations");
        let schema = format!(
            "CREATE TABLE IF NOT EXISTS {jobs} (\n    id INT NOT NULL AUTO_INCREMENT PRIMARY KEY,\n    \
             namespace VARBINARY(64) NOT NULL,\n    name VARBINARY(200) NOT NULL,\n    \
             UNIQUE (namespace, name)\n) ENGINE = InnoDB;\n\
             CREATE TABLE IF NOT EXISTS {records} (\n    `key` BINARY(16) NOT NULL PRIMARY KEY,\n    \
             job INT NOT NULL,\n    fingerprint BIGINT NOT NULL,\n    outcome SMALLINT NOT NULL,\n    \
             completed_at BIGINT NOT NULL,\n    expires_at BIGINT,\n    \
             readable VARCHAR(200) CHARACTER SET utf8mb4 NOT NULL,\n    \
             result LONGBLOB NOT NULL\n) ENGINE = InnoDB;\n"
        );
        Statements {
            get: AssertSqlSafe(get(&records, "?")).into_sql_str(),
            migrations: vec![
                Migration { sql: schema },
                Migration { sql: lease_statements::schema(settings) },
                Migration { sql: queue::schema(settings) },
                Migration { sql: tick_schema(settings) },
            ],
            history: format!(
                "CREATE TABLE IF NOT EXISTS {history_table} (\n    version INT NOT NULL PRIMARY KEY,\n    \
                 applied_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP\n) ENGINE = InnoDB;"
            ),
            history_table,
            schema: settings.schema.clone(),
            records,
            jobs,
        }
    }

    /// Returns the place of the records, for a session whose unqualified names are in `database`.
    pub(super) fn place(&self, database: &str) -> u64 {
        key::place(self.schema.as_deref().unwrap_or(database), &self.records)
    }

    /// What locks the key and reads its record, and `BEGIN`.
    ///
    /// The record is read before the transaction begins: under REPEATABLE READ the first plain read of a
    /// transaction fixes what all later ones see, and `check` must see the business row as it is once
    /// that is locked. The record cannot change in between, since the key's lock is the session's.
    pub(super) fn begin(&self, claim: &Claim<'_>, lock: KeyHash) -> String {
        let key = claim.key.hash();
        let mut sql = String::with_capacity(384);
        if claim.lock == KeyLock::Key {
            push(
                &mut sql,
                format_args!(
                    "SELECT GET_LOCK('idem:{lock}', {:.3}) AS idem_locked;",
                    claim.wait.as_secs_f64()
                ),
            );
        }
        if claim.records {
            push(&mut sql, format_args!("{};", get(&self.records, &format!("x'{key}'"))));
        }
        sql += "BEGIN;SAVEPOINT idem_body";
        sql
    }

    /// Locks the business row. Text and number compare as the column's type says.
    pub(super) fn lock_row(&self, row: RowLock<'_>, wait: Duration) -> String {
        let RowLock { table, column, value } = row;
        let value = match value {
            RowValue::Int(value) => value.to_string(),
            RowValue::Text(value) => literal(value),
            RowValue::Uuid(bytes) => format!("x'{}'", KeyHash::from_bytes(*bytes)),
        };
        // The server waits in whole seconds; the variable is put back for the body. The savepoint is set
        // again behind the row: going back to one that is older than InnoDB's part in the transaction
        // would free the row.
        if wait.is_zero() {
            return format!(
                "SELECT 1 AS idem_row FROM {table} WHERE {column} = {value} FOR UPDATE NOWAIT;SAVEPOINT idem_body"
            );
        }
        let seconds = wait_seconds(wait);
        format!(
            "SET @idem_wait = @@innodb_lock_wait_timeout, innodb_lock_wait_timeout = {seconds};\
             SELECT 1 AS idem_row FROM {table} WHERE {column} = {value} FOR UPDATE;\
             SET innodb_lock_wait_timeout = @idem_wait;\
             SAVEPOINT idem_body"
        )
    }

    /// Writes the record and commits. In place of one whose time is over it gets the next epoch: who has seen that one
    /// must not take the new one for it.
    pub(super) fn commit(&self, new: &NewRecord<'_>, expired: Option<Epoch>, lock: KeyHash) -> String {
        let Statements { records, .. } = self;
        let key = new.key.hash();
        let mut sql = String::with_capacity(512 + new.result.len() * 2);
        push(&mut sql, format_args!("{CHECK_OPEN};"));
        if expired.is_some() {
            push(
                &mut sql,
                format_args!("DELETE FROM {records} WHERE `key` = x'{key}' AND expires_at <= {NOW};"),
            );
        }
        let retain =
            retain_millis(new.retain).map_or_else(|| String::from("NULL"), |millis| millis.to_string());
        let readable = literal(new.key.readable());
        let (job, fingerprint, outcome) = (new.job, new.fingerprint.to_bits(), new.outcome.code());
        let (column, epoch) = match expired {
            Some(expired) => (" epoch,", format!("{},", expired.next())),
            None => ("", String::new()),
        };
        push(
            &mut sql,
            format_args!(
                "INSERT INTO {records} (`key`, job, fingerprint, outcome, completed_at, expires_at, readable,{column} result) \
                 VALUES (x'{key}',{job},{fingerprint},{outcome},{NOW},{NOW} + {retain},{readable},{epoch}"
            ),
        );
        push_bytes(&mut sql, new.result);
        push(&mut sql, format_args!(");COMMIT;{}", unlock(lock)));
        sql
    }

    /// Commits without a record.
    pub(super) fn commit_bare(&self, lock: KeyHash) -> String {
        format!("{CHECK_OPEN};COMMIT;{}", unlock(lock))
    }

    pub(super) fn rollback(&self, lock: KeyHash) -> String {
        format!("ROLLBACK;{}", unlock(lock))
    }

    /// Ends a transaction whose business row was not to be had within `wait`: where there was a wait, the
    /// timeout is still to be put back.
    pub(super) fn rollback_row(&self, lock: KeyHash, wait: Duration) -> String {
        if wait.is_zero() {
            return self.rollback(lock);
        }
        format!("{};SET innodb_lock_wait_timeout = @idem_wait", self.rollback(lock))
    }

    pub(super) fn migrate_begin(&self) -> String {
        format!("SELECT GET_LOCK('{MIGRATION_LOCK}', 60) AS idem_locked")
    }

    pub(super) fn migrate_end(&self) -> String {
        format!("DO RELEASE_LOCK('{MIGRATION_LOCK}')")
    }

    pub(super) fn migrated_version(&self) -> String {
        format!("SELECT CAST(coalesce(max(version), 0) AS SIGNED) AS version FROM {}", self.history_table)
    }

    pub(super) fn job_select(&self, namespace: &str, name: &str) -> String {
        let (namespace, name) = (literal(namespace), literal(name));
        format!("SELECT id FROM {} WHERE namespace = {namespace} AND name = {name}", self.jobs)
    }

    pub(super) fn job_insert(&self, namespace: &str, name: &str) -> String {
        let (namespace, name) = (literal(namespace), literal(name));
        format!("INSERT IGNORE INTO {} (namespace, name) VALUES ({namespace}, {name})", self.jobs)
    }

    /// Reads the server's clock in milliseconds.
    pub(super) fn now(&self) -> String {
        format!("SELECT {NOW} AS now")
    }

    pub(super) fn last_tick(&self, job: JobId) -> String {
        format!("SELECT last_tick FROM {} WHERE id = {job}", self.jobs)
    }

    /// Replaces the last tick of a job if it is still `from`.
    pub(super) fn advance_tick(&self, job: JobId, from: Option<Tick>, to: Tick) -> String {
        let from = from.map_or_else(|| String::from("NULL"), |from| from.unix().to_string());
        format!(
            "UPDATE {} SET last_tick = {} WHERE id = {job} AND last_tick <=> {from}",
            self.jobs,
            to.unix()
        )
    }

    /// Finds the last of the `limit` keys after `cursor`, if there are so many.
    pub(super) fn sweep_last(&self, cursor: Option<KeyHash>, limit: u32) -> String {
        let offset = limit.saturating_sub(1);
        format!(
            "SELECT `key` AS last FROM {} WHERE {} ORDER BY `key` LIMIT 1 OFFSET {offset}",
            self.records,
            after(cursor)
        )
    }

    /// Deletes what has expired after `cursor`, up to `last`, but for what a run has locked: that is about to be replaced. Who
    /// waited for the run would be in its way where it inserts, and one of the two would be ended for a deadlock.
    pub(super) fn sweep_delete(&self, cursor: Option<KeyHash>, last: Option<KeyHash>, limit: u32) -> String {
        let up_to = last.map_or_else(|| String::from("TRUE"), |last| format!("`key` <= x'{last}'"));
        format!(
            "DELETE r FROM (SELECT `key` FROM {records} WHERE {} AND {up_to} AND expires_at <= {NOW} LIMIT {limit} \
             FOR UPDATE SKIP LOCKED) AS expired STRAIGHT_JOIN {records} AS r FORCE INDEX (PRIMARY) ON r.`key` = expired.`key`",
            after(cursor),
            records = self.records
        )
    }
}

/// Returns the SQL that adds the last tick of a job.
///
/// A migration that was cut off is made again, and MySQL cannot be told to add a column only if it is missing.
fn tick_schema(settings: &Settings) -> String {
    add_columns(settings, "jobs", "last_tick", "ADD COLUMN last_tick BIGINT")
}

/// Returns the SQL that adds columns to a table, unless it has the column `last` of them already.
pub(super) fn add_columns(settings: &Settings, table: &str, last: &str, columns: &str) -> String {
    let schema =
        settings.schema.as_ref().map_or_else(|| String::from("DATABASE()"), |schema| format!("'{schema}'"));
    let (prefix, full) = (&settings.table_prefix, settings.table(table));
    format!(
        "SET @idem_migrate = IF((SELECT COUNT(*) FROM information_schema.columns WHERE table_schema = {schema} \
         AND table_name = '{prefix}{table}' AND column_name = '{last}') > 0, 'DO 0', 'ALTER TABLE {full} {columns}');\n\
         PREPARE idem_migrate FROM @idem_migrate;\n\
         EXECUTE idem_migrate;\n\
         DEALLOCATE PREPARE idem_migrate;\n"
    )
}

const MIGRATION_LOCK: &str = "idem:migrate";

fn get(records: &str, key: &str) -> String {
    format!(
        "SELECT outcome, fingerprint, result, COALESCE(epoch, 0) AS epoch, expires_at <= {NOW} AS expired FROM {records} \
         WHERE `key` = {key}"
    )
}

pub(super) fn unlock(lock: KeyHash) -> String {
    format!("DO RELEASE_LOCK('idem:{lock}')")
}

fn after(cursor: Option<KeyHash>) -> String {
    cursor.map_or_else(|| String::from("TRUE"), |key| format!("`key` > x'{key}'"))
}

pub(super) fn push(sql: &mut String, text: std::fmt::Arguments<'_>) {
    sql.write_fmt(text).expect("a string takes everything");
}

/// Writes bytes as a literal.
pub(super) fn push_bytes(sql: &mut String, bytes: &[u8]) {
    sql.reserve(bytes.len() * 2 + 3);
    sql.push_str("x'");
    for byte in bytes {
        push(sql, format_args!("{byte:02x}"));
    }
    sql.push('\'');
}

/// Returns a wait in what `innodb_lock_wait_timeout` counts in.
pub(super) fn wait_seconds(wait: Duration) -> u64 {
    wait.as_secs().clamp(1, 100_000_000)
}

/// Writes a text literal that means the same whatever `sql_mode` says about backslashes.
pub(super) fn literal(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || " _.,:;@/+#=()-".contains(c);
    if text.chars().all(plain) {
        return format!("'{text}'");
    }
    let mut sql = String::from("_utf8mb4 ");
    push_bytes(&mut sql, text.as_bytes());
    sql
}

#[cfg(test)]
mod tests {
    use super::literal;

    #[test]
    fn a_literal_cannot_be_left() {
        assert_eq!(literal("evt-42, a@b.c"), "'evt-42, a@b.c'");
        assert_eq!(literal("it's"), "_utf8mb4 x'69742773'");
        assert_eq!(literal("\\"), "_utf8mb4 x'5c'");
    }
}
