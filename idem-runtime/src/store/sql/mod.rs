//! What the SQL stores share: connections of their own, migrations, and how errors are read.

mod connections;
mod errors;
mod lease;
mod migrations;
mod operate;
mod queue;

use std::sync::Arc;
use std::time::Duration;

use sqlx::{AssertSqlSafe, Pool, SqlSafeStr, SqlStr};

pub(super) use self::connections::{Connections, Driver, Leased};
#[cfg(any(feature = "postgres", feature = "mysql"))]
pub(super) use self::connections::{Heart, heard, is_silence};
pub(super) use self::errors::{broke, driver_error, temporary, unknown_row, violated_constraint};
pub(super) use self::lease::{EntryColumns, lease_millis, lost, state_code, state_codes};
pub(super) use self::migrations::{Migration, is_up_to_date, print_migrations};
pub(super) use self::operate::{
    Columns, Dialect, OperateStatements, TABLES, read_audit_row, read_claim_row, read_job_row, read_key_row,
    read_rows, read_size, read_volume,
};
pub(super) use self::queue::{claim_of, crowded, engine_error, millis, parse_task_id, read_task_id};
use super::{Database, Settings, Store, kept_by_a_run};
use crate::error::{StoreError, StoreErrorKind};
use crate::fingerprint::Fingerprint;
use crate::key::KeyHash;
use crate::record::{Outcome, Record};

/// A database that sqlx speaks to and idem has a store for.
pub trait SqlDatabase: sqlx::Database + Database<Connection = <Self as sqlx::Database>::Connection> {
    /// Makes the store of the database that `pool` connects to.
    ///
    /// # Errors
    ///
    /// A pool that cannot serve.
    fn store(pool: Pool<Self>, settings: Settings) -> Result<Arc<dyn Store<Self>>, StoreError>;
}

/// SQL whose every part is a constant, a checked identifier or a literal that a store's `statements` wrote.
pub(super) struct Text(pub(super) SqlStr);

impl From<String> for Text {
    fn from(sql: String) -> Self {
        Text(AssertSqlSafe(sql).into_sql_str())
    }
}

impl From<&'static str> for Text {
    fn from(sql: &'static str) -> Self {
        Text(sql.into_sql_str())
    }
}

/// Makes a record of its columns, as all databases keep them.
pub(super) fn read_record(code: i16, fingerprint: i64, result: Vec<u8>) -> Result<Record, sqlx::Error> {
    let outcome = Outcome::from_code(code).ok_or_else(|| match lease::is_unfinished(code) {
        true => sqlx::Error::Decode(kept_by_a_run().into()),
        false => unknown_outcome(code),
    })?;
    Ok(Record { outcome, fingerprint: Fingerprint::from_bits(fingerprint), result })
}

/// Reads a key where tables keep its bytes.
pub(super) fn key_of_bytes(bytes: &[u8]) -> Result<KeyHash, sqlx::Error> {
    let bytes = bytes.try_into().map_err(|_| sqlx::Error::Decode("a key is not 16 bytes long".into()))?;
    Ok(KeyHash::from_bytes(bytes))
}

/// Makes a store's clock of its milliseconds since 1970 began.
pub(super) fn since_1970(millis: i64) -> Duration {
    // A clock that is set before that is as good as one that stands there.
    Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}

fn unknown_outcome(code: i16) -> sqlx::Error {
    sqlx::Error::Decode(
        format!("a record has outcome {code}, which this version of idem does not know").into(),
    )
}

/// The body has ended the transaction behind idem's back.
pub(super) fn ended_by_body() -> StoreError {
    StoreError::new(
        StoreErrorKind::Refused,
        "the transaction ended inside the body: by a COMMIT or ROLLBACK of its own, by a statement that commits \
         implicitly, by a deadlock that the body did not return, or by a nested `begin` that failed or was dropped; \
         nothing was recorded; return the errors of the database and leave COMMIT to idem",
    )
}
