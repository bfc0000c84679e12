//! What people look at: the same questions for all databases, which differ in how a value is written and a time is counted.
//!
//! Every column comes as a number of 64 bits or as text, so that one reader serves all.

use std::fmt::Write as _;
use std::time::Duration;

use sqlx::{ColumnIndex, Decode, Row, Type};

use super::lease::{FAILED, PARKED, RUNNING};
use super::{EntryColumns, driver_error, state_code};
use crate::error::StoreError;
use crate::key::KeyHash;
use crate::record::{Epoch, Outcome, State};
use crate::schedule::Tick;
use crate::store::{
    AuditRow, ClaimRow, Holder, JobRow, KeyFilter, KeyOrder, KeyRow, Settings, StateCounts, Volume,
};

/// How a database writes things.
pub(in crate::store) struct Dialect {
    /// The name of the column of keys.
    pub(in crate::store) key: &'static str,
    /// A join that looks at its left side first, whose order it keeps.
    pub(in crate::store) join: &'static str,
    /// Casts a number to 64 bits.
    pub(in crate::store) int: fn(&str) -> String,
    /// Turns a column of text into text, whatever its type.
    pub(in crate::store) text: fn(&str) -> String,
    /// Turns a column of bytes into hex digits.
    pub(in crate::store) hex: fn(&str) -> String,
    /// Counts the bytes of a column.
    pub(in crate::store) length: fn(&str) -> String,
    /// How many milliseconds ago a time of a record, or of the outbox, was.
    pub(in crate::store) ago: fn(&str) -> String,
    /// The same of a lease or of a claim.
    pub(in crate::store) ago_exactly: fn(&str) -> String,
    /// Asks whether a text contains another one.
    pub(in crate::store) contains: fn(&str, &str) -> String,
    /// Writes a text.
    pub(in crate::store) literal: fn(&str) -> String,
    /// Writes a key.
    pub(in crate::store) key_literal: fn(KeyHash) -> String,
}

/// The questions, with the tables' names.
pub(in crate::store) struct OperateStatements {
    dialect: Dialect,
    records: String,
    jobs: String,
    claims: String,
    outbox: String,
    audit: String,
}

impl OperateStatements {
    pub(in crate::store) fn new(settings: &Settings, dialect: Dialect) -> Self {
        let [records, jobs, claims, outbox, audit] =
            ["records", "jobs", "claims", "outbox", "audit"].map(|name| settings.table(name));
        OperateStatements { dialect, records, jobs, claims, outbox, audit }
    }

    pub(in crate::store) fn keys(&self, filter: &KeyFilter<'_>) -> String {
        let OperateStatements { dialect: d, records, jobs, .. } = self;
        let Dialect { key, join, int, text, hex, length, ago, ago_exactly, .. } = d;
        let mut sql = format!(
            "SELECT {} AS hash, {} AS readable, {} AS namespace, {} AS job, {} AS outcome, {} AS since, {} AS expired_for, \
             {} AS epoch, {} AS token, {} AS attempts, {} AS fingerprint, {} AS lapsed_for, {} AS size, \
             CASE WHEN r.outcome IN ({FAILED}, {PARKED}) THEN {} ELSE '' END AS payload \
             FROM {records} r {join} {jobs} j WHERE j.id = r.job",
            hex(&format!("r.{key}")),
            text("r.readable"),
            text("j.namespace"),
            text("j.name"),
            int("r.outcome"),
            ago("r.completed_at"),
            ago("r.expires_at"),
            int("coalesce(r.epoch, 0)"),
            int("coalesce(r.token, 0)"),
            int("coalesce(r.attempts, 0)"),
            int("r.fingerprint"),
            ago_exactly("r.lease_until"),
            int(&length("r.result")),
            hex("r.result"),
        );
        self.push_states(&mut sql, filter.states);
        let order = match filter.order {
            KeyOrder::Hash => format!("r.{key}"),
            KeyOrder::LongestUnchanged => String::from("r.completed_at"),
        };
        self.push_filter(&mut sql, filter, "r", &order);
        sql
    }

    /// `AND` the record is in one of these states.
    fn push_states(&self, sql: &mut String, states: &[State]) {
        let has_none =
            |state: &State| !matches!(state, State::Running | State::Lapsed | State::Failed | State::Parked);
        if !states.iter().any(has_none) {
            // What has no outcome is in an index, where there is one.
            sql.push_str(" AND r.outcome > 2");
        }
        if State::ALL.iter().all(|state| states.contains(state)) {
            return;
        }
        sql.push_str(" AND (1 = 0");
        for state in states {
            push(sql, format_args!(" OR {}", self.is_in(*state)));
        }
        sql.push(')');
    }

    fn is_in(&self, state: State) -> String {
        let (expired, lapsed) =
            ((self.dialect.ago)("r.expires_at"), (self.dialect.ago_exactly)("r.lease_until"));
        match state {
            State::Absent => format!("r.outcome < {RUNNING} AND {expired} >= 0"),
            State::Running => format!("r.outcome = {RUNNING} AND {lapsed} < 0"),
            State::Lapsed => format!("r.outcome = {RUNNING} AND {lapsed} >= 0"),
            State::Failed | State::Parked => format!("r.outcome = {}", state_code(state)),
            State::Completed | State::Rejected => {
                format!("r.outcome = {} AND (r.expires_at IS NULL OR {expired} < 0)", state_code(state))
            }
        }
    }

    /// `AND` all that the filter says beside the states, and the order.
    fn push_filter(&self, sql: &mut String, filter: &KeyFilter<'_>, table: &str, order: &str) {
        let Dialect { key, contains, literal, key_literal, .. } = self.dialect;
        for (column, name) in [("namespace", filter.namespace), ("name", filter.job)] {
            if let Some(name) = name {
                push(sql, format_args!(" AND j.{column} = {}", literal(name)));
            }
        }
        if let Some(text) = filter.containing {
            push(sql, format_args!(" AND {}", contains(&format!("{table}.readable"), text)));
        }
        for (comparison, hash) in [("=", filter.key), (">", filter.after)] {
            if let Some(hash) = hash {
                push(sql, format_args!(" AND {table}.{key} {comparison} {}", key_literal(hash)));
            }
        }
        push(sql, format_args!(" ORDER BY {order} LIMIT {}", filter.limit));
    }

    pub(in crate::store) fn jobs(&self) -> String {
        let OperateStatements { dialect: Dialect { int, text, .. }, records, jobs, .. } = self;
        let (mut outer, mut inner) = (String::new(), String::new());
        for (at, state) in State::ALL.into_iter().enumerate() {
            push(&mut outer, format_args!(", {} AS c{at}", int(&format!("coalesce(c.c{at}, 0)"))));
            push(
                &mut inner,
                format_args!(", sum(CASE WHEN {} THEN 1 ELSE 0 END) AS c{at}", self.is_in(state)),
            );
        }
        format!(
            "SELECT {} AS namespace, {} AS name, {} AS last_tick{outer} FROM {jobs} j \
             LEFT JOIN (SELECT r.job{inner} FROM {records} r GROUP BY r.job) c ON c.job = j.id \
             ORDER BY j.namespace, j.name",
            text("j.namespace"),
            text("j.name"),
            int("j.last_tick"),
        )
    }

    pub(in crate::store) fn claims(&self, filter: &KeyFilter<'_>) -> String {
        let OperateStatements { dialect: d, claims, jobs, .. } = self;
        let Dialect { key, join, text, hex, ago_exactly, .. } = d;
        let expired = ago_exactly("c.expires_at");
        let mut sql = format!(
            "SELECT {} AS hash, {} AS readable, {} AS namespace, {} AS job, {} AS task, {} AS since, {expired} AS expired_for \
             FROM {claims} c {join} {jobs} j WHERE j.id = c.job AND (c.expires_at IS NULL OR {expired} < 0)",
            hex(&format!("c.{key}")),
            text("c.readable"),
            text("j.namespace"),
            text("j.name"),
            text("c.task"),
            ago_exactly("c.since"),
        );
        self.push_filter(&mut sql, filter, "c", &format!("c.{key}"));
        sql
    }

    pub(in crate::store) fn audit(&self, key: KeyHash) -> String {
        let OperateStatements {
            dialect: Dialect { key: column, int, text, ago, key_literal, .. },
            audit,
            ..
        } = self;
        format!(
            "SELECT {} AS epoch, {} AS action, {} AS why, {} AS age FROM {audit} WHERE {column} = {} ORDER BY id",
            int("epoch"),
            text("action"),
            text("why"),
            int(&ago("at")),
            key_literal(key)
        )
    }

    pub(in crate::store) fn volume(&self) -> String {
        let OperateStatements { dialect: Dialect { int, ago, ago_exactly, .. }, claims, outbox, .. } = self;
        format!(
            "SELECT {} AS claims, {} AS expired_claims, {} AS outbox, {} AS oldest",
            int(&format!("(SELECT count(*) FROM {claims})")),
            int(&format!("(SELECT count(*) FROM {claims} c WHERE {} >= 0)", ago_exactly("c.expires_at"))),
            int(&format!("(SELECT count(*) FROM {outbox})")),
            int(&format!("(SELECT max({}) FROM {outbox} o)", ago("o.at"))),
        )
    }
}

/// The tables whose sizes are told.
pub(in crate::store) const TABLES: [&str; 6] = ["audit", "claims", "jobs", "outbox", "records", "steps"];

/// Reads every row of an answer.
pub(in crate::store) fn read_rows<R, T>(
    doing: &str,
    rows: &[R],
    read: impl Fn(&R) -> Result<T, sqlx::Error>,
) -> Result<Vec<T>, StoreError> {
    rows.iter().map(read).collect::<Result<_, _>>().map_err(|error| driver_error(doing, error))
}

/// A row of which numbers and texts can be read by the names of their columns.
pub(in crate::store) trait Columns {
    /// Reads a number.
    fn number(&self, column: &str) -> Result<Option<i64>, sqlx::Error>;
    /// Reads a text.
    fn text(&self, column: &str) -> Result<String, sqlx::Error>;
}

impl<R> Columns for R
where
    R: Row,
    for<'a> &'a str: ColumnIndex<R>,
    for<'a> i64: Decode<'a, R::Database> + Type<R::Database>,
    for<'a> String: Decode<'a, R::Database> + Type<R::Database>,
{
    fn number(&self, column: &str) -> Result<Option<i64>, sqlx::Error> {
        self.try_get(column)
    }

    fn text(&self, column: &str) -> Result<String, sqlx::Error> {
        self.try_get(column)
    }
}

pub(in crate::store) fn read_key_row(row: &impl Columns) -> Result<KeyRow, sqlx::Error> {
    let expired_for = row.number("expired_for")?;
    let outcome = narrow(count(row, "outcome")?)?;
    let has_outcome = Outcome::from_code(outcome).is_some();
    let entry = EntryColumns {
        outcome,
        expired: expired_for.is_some_and(|past| past >= 0),
        epoch: count(row, "epoch")?,
        token: count(row, "token")?,
        attempts: narrow(count(row, "attempts")?)?,
        fingerprint: count(row, "fingerprint")?,
        lease_left: row.number("lapsed_for")?.map_or(0, |past| -past),
        result: bytes(&row.text("payload")?)?,
    }
    .read()?;
    Ok(KeyRow {
        namespace: row.text("namespace")?,
        job: row.text("job")?,
        hash: key(&row.text("hash")?)?,
        key: row.text("readable")?,
        since: duration(count(row, "since")?),
        expires_in: expired_for.filter(|_| has_outcome).map(|past| duration(-past)),
        result_bytes: if has_outcome { u64::try_from(count(row, "size")?).unwrap_or(0) } else { 0 },
        entry,
    })
}

pub(in crate::store) fn read_job_row(row: &impl Columns) -> Result<JobRow, sqlx::Error> {
    let mut counts = StateCounts::default();
    for (at, state) in State::ALL.into_iter().enumerate() {
        counts.add(state, u64::try_from(count(row, &format!("c{at}"))?).unwrap_or(0));
    }
    Ok(JobRow {
        namespace: row.text("namespace")?,
        name: row.text("name")?,
        last_tick: row.number("last_tick")?.map(Tick::from_unix),
        counts,
    })
}

pub(in crate::store) fn read_claim_row(row: &impl Columns) -> Result<ClaimRow, sqlx::Error> {
    Ok(ClaimRow {
        namespace: row.text("namespace")?,
        job: row.text("job")?,
        hash: key(&row.text("hash")?)?,
        key: row.text("readable")?,
        holder: Holder {
            task: row.text("task")?.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))?,
            since: duration(count(row, "since")?),
            left: row.number("expired_for")?.map(|past| duration(-past)),
        },
    })
}

pub(in crate::store) fn read_audit_row(row: &impl Columns) -> Result<AuditRow, sqlx::Error> {
    Ok(AuditRow {
        epoch: Epoch(count(row, "epoch")?),
        action: row.text("action")?,
        why: row.text("why")?,
        age: duration(count(row, "age")?),
    })
}

/// Reads the volume, without the tables.
pub(in crate::store) fn read_volume(row: &impl Columns) -> Result<Volume, sqlx::Error> {
    let size = |column| count(row, column).map(|count| u64::try_from(count).unwrap_or(0));
    Ok(Volume {
        claims: size("claims")?,
        expired_claims: size("expired_claims")?,
        outbox: size("outbox")?,
        outbox_oldest: row.number("oldest")?.map(duration),
        tables: Vec::new(),
    })
}

/// Reads what a table takes.
pub(in crate::store) fn read_size(row: &impl Columns) -> Result<(String, u64), sqlx::Error> {
    Ok((row.text("name")?, u64::try_from(count(row, "bytes")?).unwrap_or(0)))
}

fn count(row: &impl Columns, column: &str) -> Result<i64, sqlx::Error> {
    row.number(column)?.ok_or_else(|| sqlx::Error::Decode(format!("`{column}` is null").into()))
}

fn narrow<T: TryFrom<i64, Error: std::error::Error + Send + Sync + 'static>>(
    number: i64,
) -> Result<T, sqlx::Error> {
    T::try_from(number).map_err(|error| sqlx::Error::Decode(Box::new(error)))
}

fn duration(millis: i64) -> Duration {
    Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}

fn key(digits: &str) -> Result<KeyHash, sqlx::Error> {
    KeyHash::from_hex(digits).ok_or_else(|| sqlx::Error::Decode("a key is not 16 bytes in hex digits".into()))
}

fn bytes(digits: &str) -> Result<Vec<u8>, sqlx::Error> {
    let byte = |at| digits.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
    let bytes: Option<Vec<u8>> = (0..digits.len()).step_by(2).map(byte).collect();
    bytes.ok_or_else(|| sqlx::Error::Decode("no hex digits".into()))
}

fn push(sql: &mut String, text: std::fmt::Arguments<'_>) {
    sql.write_fmt(text).expect("a string takes everything");
}
