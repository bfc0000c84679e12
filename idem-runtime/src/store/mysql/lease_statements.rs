//! The SQL text of leased jobs. What must be one transaction is one message.

use std::time::Duration;

use sqlx::{AssertSqlSafe, SqlSafeStr, SqlStr};

use super::statements::{CHECK_OPEN, NOW, add_columns, literal, push, push_bytes, unlock, wait_seconds};
use crate::job::Retain;
use crate::key::KeyHash;
use crate::record::{Entry, Hold, State, Token};
use crate::store::sql::{lease_millis, state_code, state_codes};
use crate::store::{
    Change, Forget, Lease, LeaseClaim, NewTask, Resolve, ResolvedStep, Settings, TxStep, retain_millis,
};

/// The columns of a task in the outbox.
const TASK: &str =
    "number, id, job, `key`, payload, task, unclaimed, COALESCE(priority, 0) AS priority, attempts";

/// Returns the SQL that makes the tables.
pub(super) fn schema(settings: &Settings) -> String {
    let [steps, audit, outbox] = ["steps", "audit", "outbox"].map(|name| settings.table(name));
    let columns = "ADD COLUMN epoch BIGINT, ADD COLUMN token BIGINT, ADD COLUMN attempts INT, ADD COLUMN lease_until BIGINT";
    let columns = add_columns(settings, "records", "lease_until", columns);
    // The server commits each of these by itself, and a migration that was cut off is made again from its beginning.
    // All columns come by one statement, so there are all or none of them; MySQL cannot be told to add those
    // only that are missing, so it is asked whether they are. No index finds what has no outcome: the servers have none
    // for a part of a table, and one on every record would be paid for by atomic jobs.
    format!(
        "{columns}CREATE TABLE IF NOT EXISTS {steps} (\n    `key` BINARY(16) NOT NULL,\n    seq INT NOT NULL,\n    \
         name VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,\n    result LONGBLOB,\n    \
         PRIMARY KEY (`key`, seq)\n) ENGINE = InnoDB;\n\
         CREATE TABLE IF NOT EXISTS {audit} (\n    id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,\n    \
         `key` BINARY(16) NOT NULL,\n    epoch BIGINT NOT NULL,\n    action TEXT CHARACTER SET utf8mb4 NOT NULL,\n    \
         why TEXT CHARACTER SET utf8mb4 NOT NULL,\n    at BIGINT NOT NULL,\n    \
         INDEX (`key`, id)\n) ENGINE = InnoDB;\n\
         CREATE TABLE IF NOT EXISTS {outbox} (\n    number BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,\n    \
         namespace VARBINARY(64) NOT NULL,\n    id BINARY(16) NOT NULL,\n    job VARCHAR(200) CHARACTER SET utf8mb4 NOT NULL,\n    \
         `key` VARCHAR(200) CHARACTER SET utf8mb4 NOT NULL,\n    payload LONGBLOB NOT NULL,\n    \
         at BIGINT NOT NULL,\n    INDEX (namespace, number)\n) ENGINE = InnoDB;\n"
    )
}

/// The SQL of leased jobs, with the tables' names.
pub(super) struct LeaseStatements {
    /// The entry of key `?`: a row for each of its steps, or one without.
    pub(super) entry: SqlStr,
    records: String,
    steps: String,
    audits: String,
    outbox: String,
}

impl LeaseStatements {
    pub(super) fn new(settings: &Settings) -> Self {
        let [records, steps, audits, outbox] =
            ["records", "steps", "audit", "outbox"].map(|name| settings.table(name));
        let entry = AssertSqlSafe(entry(&records, &steps, "?")).into_sql_str();
        LeaseStatements { entry, records, steps, audits, outbox }
    }

    /// Makes the record of a claim if the key has none, tells whether it did, and reads the entry.
    pub(super) fn claim(&self, claim: &LeaseClaim<'_>) -> String {
        let LeaseStatements { records, steps, .. } = self;
        let LeaseClaim { job, epoch, attempts, .. } = claim;
        let (key, fingerprint, token) = (claim.key.hash(), claim.fingerprint.to_bits(), claim.token.0);
        let (readable, lease) = (literal(claim.key.readable()), lease_millis(claim.lease));
        format!(
            "BEGIN;INSERT IGNORE INTO {records} (`key`, job, fingerprint, outcome, completed_at, readable, result, epoch, \
             token, attempts, lease_until) VALUES (x'{key}', {job}, {fingerprint}, {running}, {NOW}, {readable}, '', \
             {epoch}, {token}, {attempts}, {NOW} + {lease});{CHANGED};COMMIT;{}",
            entry(records, steps, &format!("x'{key}'")),
            running = state_code(State::Running),
        )
    }

    /// Takes a key over if it is still as it was found, tells whether it was, and reads the entry.
    ///
    /// The entry is read when the take-over is committed: a plain read inside could be of an earlier moment, and a
    /// step that was under way until then must be among what is read.
    pub(super) fn take_over(&self, claim: &LeaseClaim<'_>, found: &Entry) -> String {
        let LeaseStatements { records, steps, .. } = self;
        let LeaseClaim { job, epoch, attempts, .. } = claim;
        let (key, fingerprint, token) = (claim.key.hash(), claim.fingerprint.to_bits(), claim.token.0);
        let (readable, lease) = (literal(claim.key.readable()), lease_millis(claim.lease));
        let (first, last) = state_codes(found.state);
        // The columns are set in this order, and the condition is about what they were before.
        format!(
            "BEGIN;UPDATE {records} SET job = {job}, fingerprint = {fingerprint}, outcome = {running}, \
             completed_at = {NOW}, expires_at = NULL, readable = {readable}, result = '', epoch = {epoch}, \
             token = {token}, attempts = {attempts}, lease_until = {NOW} + {lease} \
             WHERE `key` = x'{key}' AND COALESCE(epoch, 0) = {} AND COALESCE(token, 0) = {} \
             AND outcome BETWEEN {first} AND {last} \
             AND CASE WHEN outcome = {running} THEN lease_until <= {NOW} \
             WHEN outcome < {running} THEN expires_at <= {NOW} ELSE outcome = {failed} END;{CHANGED};COMMIT;{}",
            found.epoch,
            found.token.0,
            entry(records, steps, &format!("x'{key}'")),
            running = state_code(State::Running),
            failed = state_code(State::Failed),
        )
    }

    /// Renews leases; `leases` is in the order of the keys, in which the records are locked, so that two such
    /// statements cannot wait for each other. Returns as `token` those whose run has the key, and whether they were
    /// `renewed`: not if somebody has them locked, and they are not waited for. Nothing is waited for longer than `limit`.
    pub(super) fn renew(&self, leases: &[Lease], locked: Locked, limit: Duration) -> String {
        let records = &self.records;
        let among = self.among(leases);
        let update = match locked {
            // The servers skip what is locked only where they read, and the limit makes them do that first.
            Locked::Skip => format!(
                "(SELECT r.`key`, l.millis FROM {among} LIMIT {} FOR UPDATE SKIP LOCKED) AS l \
                 STRAIGHT_JOIN {records} AS r FORCE INDEX (PRIMARY) ON r.`key` = l.`key`",
                leases.len()
            ),
            Locked::Wait => among.clone(),
        };
        // The server waits in whole seconds; the variable is the session's.
        format!(
            "SET @idem_now = {NOW}, @idem_wait = @@innodb_lock_wait_timeout, innodb_lock_wait_timeout = {};\
             UPDATE {update} SET r.lease_until = @idem_now + l.millis;\
             SET innodb_lock_wait_timeout = @idem_wait;\
             SELECT r.token, r.lease_until = @idem_now + l.millis AS renewed FROM {among}",
            wait_seconds(limit)
        )
    }

    /// Returns the same without renewing, and without waiting for anybody.
    pub(super) fn still_held(&self, leases: &[Lease]) -> String {
        format!("SELECT r.token, FALSE AS renewed FROM {}", self.among(leases))
    }

    /// Joins leases with the records whose run has the key, in this order. The records are found by their keys
    /// whatever the server thinks: looking at all of them, as it would while there are few, would lock them all.
    fn among(&self, leases: &[Lease]) -> String {
        let mut sql = String::from("(");
        for (at, Lease { hold, length }) in leases.iter().enumerate() {
            let Hold { key, epoch, token: Token(token) } = hold;
            let millis = lease_millis(*length);
            // The names of the first row are those of all.
            let row = match at {
                0 => format_args!(
                    "SELECT x'{key}' AS `key`, {epoch} AS epoch, {token} AS token, {millis} AS millis"
                ),
                _ => format_args!(" UNION ALL SELECT x'{key}', {epoch}, {token}, {millis}"),
            };
            push(&mut sql, row);
        }
        push(
            &mut sql,
            format_args!(
                ") AS l STRAIGHT_JOIN {} AS r FORCE INDEX (PRIMARY) ON r.`key` = l.`key` AND r.epoch = l.epoch \
                 AND r.token = l.token AND r.outcome = {}",
                self.records,
                state_code(State::Running)
            ),
        );
        sql
    }

    /// Makes a change if the run has the key, and tells whether it has.
    pub(super) fn change(&self, hold: &Hold, change: &Change<'_>) -> String {
        let LeaseStatements { records, steps, .. } = self;
        let (key, holds) = (hold.key, holds(hold));
        let mut sql = String::with_capacity(512);
        sql.push_str("BEGIN;");
        match *change {
            // One statement: what it changes is what it asks for.
            Change::Fail { trouble } => self.push_end(&mut sql, State::Failed, trouble, None, &holds),
            Change::Park { parked } => self.push_end(&mut sql, State::Parked, parked, None, &holds),
            Change::BeginStep { seq, name } => {
                push_held(&mut sql, records, &holds);
                let name = literal(name);
                push(
                    &mut sql,
                    format_args!(
                        "INSERT INTO {steps} (`key`, seq, name) SELECT x'{key}', {seq}, {name} \
                         FROM (SELECT 1 AS held FROM {records} WHERE {holds}) AS held ON DUPLICATE KEY UPDATE seq = {seq};"
                    ),
                );
            }
            Change::EndStep { seq, name, result } => {
                push_held(&mut sql, records, &holds);
                push(
                    &mut sql,
                    format_args!("INSERT INTO {steps} (`key`, seq, name, result) SELECT x'{key}', {seq}, "),
                );
                sql.push_str(&literal(name));
                sql.push_str(", ");
                push_bytes(&mut sql, result);
                push(
                    &mut sql,
                    format_args!(" FROM (SELECT 1 AS held FROM {records} WHERE {holds}) AS held {UPSERT};"),
                );
            }
            Change::ForgetStep { seq } => {
                push_held(&mut sql, records, &holds);
                push(
                    &mut sql,
                    format_args!(
                        "DELETE FROM {steps} WHERE `key` = x'{key}' AND seq = {seq} AND result IS NULL \
                         AND EXISTS (SELECT 1 FROM {records} WHERE {holds});"
                    ),
                );
            }
            Change::Settle { outcome, result, retain, tasks } => {
                // The lock comes first, and the steps are looked for behind it: a step that was still under way
                // is among them then.
                push_held(&mut sql, records, &holds);
                self.push_tasks(&mut sql, tasks, &format!(" FROM {records} WHERE {holds}"));
                push(
                    &mut sql,
                    format_args!(
                        "DELETE FROM {steps} WHERE `key` = x'{key}' AND EXISTS (SELECT 1 FROM {records} WHERE {holds});"
                    ),
                );
                let result = if retain == Retain::None { &[] } else { result };
                self.push_end(&mut sql, outcome.state(), result, Some(retain), &holds);
            }
        }
        sql.push_str("COMMIT");
        sql
    }

    /// Writes a step in the transaction that is open and commits, if the run has the key.
    ///
    /// If it has not, the step would have no key, which its table does not take, and the message fails before
    /// anything is committed. That goes for one row of values in every `sql_mode`; rows that are selected would be
    /// corrected where the mode is not strict.
    ///
    /// `snapshots` says that the session refuses to lock a row which has changed since the transaction first read,
    /// as MariaDB does by default from 11.6 on. The heartbeat changes the record all the time, so it must not refuse here.
    pub(super) fn commit_step(
        &self,
        hold: &Hold,
        step: &TxStep<'_>,
        lock: KeyHash,
        snapshots: bool,
    ) -> String {
        let LeaseStatements { records, steps, .. } = self;
        let (key, holds) = (hold.key, holds(hold));
        let [off, on] = match snapshots {
            true => ["SET innodb_snapshot_isolation = OFF;", "SET innodb_snapshot_isolation = ON;"],
            false => ["", ""],
        };
        let mut sql = format!(
            "{CHECK_OPEN};{off}SELECT COUNT(*) INTO @idem_held FROM {records} WHERE {holds} FOR UPDATE;{on}\
             INSERT INTO {steps} (`key`, seq, name, result) VALUES (IF(@idem_held = 1, x'{key}', NULL), {}, {}, ",
            step.seq,
            literal(step.name)
        );
        push_bytes(&mut sql, step.result);
        push(&mut sql, format_args!(") {UPSERT};COMMIT;{}", unlock(lock)));
        sql
    }

    /// Ends the wait of a parked key or the claim of a run, notes it in the audit, and tells whether it was as it must be.
    pub(super) fn resolve(&self, resolve: &Resolve<'_>) -> String {
        let LeaseStatements { records, steps, audits, .. } = self;
        let (key, job, epoch) = (resolve.key, resolve.job, resolve.epoch);
        let is_so = format!(
            "`key` = x'{key}' AND job = {job} AND epoch = {epoch} AND outcome = {}",
            state_code(resolve.from)
        );
        let exists = format!("EXISTS (SELECT 1 FROM {records} WHERE {is_so})");
        let mut sql = String::from("BEGIN;");
        push_held(&mut sql, records, &is_so);
        let (action, why) = (literal(resolve.action), literal(resolve.why));
        push(
            &mut sql,
            format_args!(
                "INSERT INTO {audits} (`key`, epoch, action, why, at) SELECT `key`, {epoch}, {action}, {why}, {NOW} \
                 FROM {records} WHERE {is_so};"
            ),
        );
        match resolve.step {
            // The steps of a key that is done are not needed any more.
            _ if resolve.state == State::Completed => {
                push(&mut sql, format_args!("DELETE FROM {steps} WHERE `key` = x'{key}' AND {exists};"));
            }
            Some(ResolvedStep { seq, result: None, .. }) => {
                push(
                    &mut sql,
                    format_args!("DELETE FROM {steps} WHERE `key` = x'{key}' AND seq = {seq} AND {exists};"),
                );
            }
            Some(ResolvedStep { seq, name, result: Some(result) }) => {
                let name = literal(name);
                push(
                    &mut sql,
                    format_args!(
                        "INSERT INTO {steps} (`key`, seq, name, result) SELECT x'{key}', {seq}, {name}, "
                    ),
                );
                push_bytes(&mut sql, result);
                push(
                    &mut sql,
                    format_args!(" FROM (SELECT 1 AS held FROM {records} WHERE {is_so}) AS held {UPSERT};"),
                );
            }
            None => {}
        }
        let retain = (resolve.state == State::Completed).then_some(resolve.retain);
        self.push_end(&mut sql, resolve.state, resolve.payload, retain, &is_so);
        sql.push_str("COMMIT");
        sql
    }

    /// Lets a record count as expired, deletes its steps, notes it in the audit, and tells whether it was as it must be.
    pub(super) fn forget(&self, forget: &Forget<'_>) -> String {
        let LeaseStatements { records, steps, audits, .. } = self;
        let Forget { key, job, state, epoch, action, why } = *forget;
        let is_so = format!(
            "`key` = x'{key}' AND job = {job} AND COALESCE(epoch, 0) = {epoch} AND outcome = {}",
            state_code(state)
        );
        let mut sql = String::from("BEGIN;");
        push_held(&mut sql, records, &is_so);
        let (action, why) = (literal(action), literal(why));
        push(
            &mut sql,
            format_args!(
                "INSERT INTO {audits} (`key`, epoch, action, why, at) SELECT `key`, {epoch}, {action}, {why}, {NOW} \
                 FROM {records} WHERE {is_so};\
                 DELETE FROM {steps} WHERE `key` = x'{key}' AND EXISTS (SELECT 1 FROM {records} WHERE {is_so});"
            ),
        );
        self.push_end(&mut sql, State::Absent, &[], Some(Retain::None), &is_so);
        sql.push_str("COMMIT");
        sql
    }

    pub(super) fn tasks(&self, namespace: &str, after: i64, limit: u32) -> String {
        let namespace = literal(namespace);
        format!(
            "SELECT {TASK} FROM {} WHERE namespace = {namespace} AND number > {after} AND (due IS NULL OR due <= {NOW}) \
             ORDER BY number LIMIT {limit}",
            self.outbox
        )
    }

    /// Takes a task: its time is at the very beginning from then on, where it is at no other.
    pub(super) fn take_task(&self, namespace: &str, number: i64) -> String {
        let outbox = &self.outbox;
        let is_it = format!("number = {number} AND namespace = {}", literal(namespace));
        format!(
            "BEGIN;UPDATE {outbox} SET due = 0 WHERE {is_it};SELECT {TASK} FROM {outbox} WHERE {is_it};COMMIT"
        )
    }

    pub(super) fn delete_task(&self, number: i64) -> String {
        format!("BEGIN;DELETE FROM {} WHERE number = {number};{CHANGED};COMMIT", self.outbox)
    }

    /// Gives a record its state, and tells whether it did. `retain` is that of an outcome.
    fn push_end(
        &self,
        sql: &mut String,
        state: State,
        payload: &[u8],
        retain: Option<Retain>,
        condition: &str,
    ) {
        let expires_at = match retain.map(|retain| (retain, retain_millis(retain))) {
            // Not the time of now: the clock may be set back, and what was not kept must not answer until it is there again.
            Some((Retain::None, _)) => String::from("0"),
            Some((_, Some(millis))) => format!("{NOW} + {millis}"),
            Some((_, None)) | None => String::from("NULL"),
        };
        push(sql, format_args!("UPDATE {} SET outcome = {}, result = ", self.records, state_code(state)));
        push_bytes(sql, payload);
        push(
            sql,
            format_args!(
                ", completed_at = {NOW}, lease_until = NULL, expires_at = {expires_at} WHERE {condition};{CHANGED};"
            ),
        );
    }

    /// Puts tasks into the outbox in the transaction that is open.
    pub(super) fn enqueue(&self, tasks: &[NewTask]) -> String {
        // Where the body has ended it, there is no savepoint.
        let mut sql = format!("{CHECK_OPEN};SAVEPOINT idem_body;");
        self.push_tasks(&mut sql, tasks, "");
        sql
    }

    /// Puts tasks into the outbox, in order.
    fn push_tasks(&self, sql: &mut String, tasks: &[NewTask], only_then: &str) {
        let outbox = &self.outbox;
        for NewTask { namespace, id, job, key, payload } in tasks {
            let [namespace, job, key] = [namespace, job, key].map(|text| literal(text));
            push(
                sql,
                format_args!(
                    "INSERT INTO {outbox} (namespace, id, job, `key`, payload, at) SELECT {namespace}, x'{id}', {job}, {key}, "
                ),
            );
            push_bytes(sql, payload);
            push(sql, format_args!(", {NOW}{only_then};"));
        }
    }
}

/// What becomes of a record that somebody has locked.
#[derive(Clone, Copy)]
pub(super) enum Locked {
    /// It is left out.
    Skip,
    /// It is waited for.
    Wait,
}

/// Tells whether the statement before it has found its row. sqlx asks the server to count a row that was found
/// although it is as it was.
pub(super) const CHANGED: &str = "SELECT ROW_COUNT() AS idem_held";

/// A step that is there already gets the result; both servers know this form.
const UPSERT: &str = "ON DUPLICATE KEY UPDATE result = VALUES(result)";

/// The columns of an entry.
fn columns() -> String {
    format!(
        "r.outcome, r.fingerprint, r.result, COALESCE(r.expires_at <= {NOW}, FALSE) AS expired, \
         COALESCE(r.epoch, 0) AS epoch, COALESCE(r.token, 0) AS token, COALESCE(r.attempts, 0) AS attempts, \
         COALESCE(r.lease_until - {NOW}, 0) AS lease_left"
    )
}

/// Reads the entry of a key with its steps: one statement, so that they belong together.
fn entry(records: &str, steps: &str, key: &str) -> String {
    format!(
        "SELECT {}, s.seq, s.name, s.result AS step_result FROM {records} AS r \
         LEFT JOIN {steps} AS s ON s.`key` = r.`key` WHERE r.`key` = {key} ORDER BY s.seq",
        columns()
    )
}

/// The run has the key.
fn holds(hold: &Hold) -> String {
    let Hold { key, epoch, token: Token(token) } = hold;
    let running = state_code(State::Running);
    format!("`key` = x'{key}' AND epoch = {epoch} AND token = {token} AND outcome = {running}")
}

/// Locks a record if it is as it must be, and tells whether it is; the statements behind it ask for themselves.
fn push_held(sql: &mut String, records: &str, condition: &str) {
    push(sql, format_args!("SELECT 1 AS idem_held FROM {records} WHERE {condition} FOR UPDATE;"));
}
