#![doc = include_str!("guide.md")]

mod lease;
pub mod memory;
#[cfg(feature = "mysql")]
mod mysql;
mod operate;
#[cfg(feature = "postgres")]
mod postgres;
mod queue;
mod schedule;
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
#[cfg_attr(
    not(all(feature = "sqlite", feature = "postgres", feature = "mysql")),
    allow(dead_code, unused_imports, reason = "what only some of the databases need")
)]
mod sql;
#[cfg(feature = "sqlite")]
mod sqlite;

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use async_trait::async_trait;

pub use self::lease::{
    AuditRow, Change, Claimed, Forget, Held, Lease, LeaseClaim, LeaseStore, NewTask, Resolve, ResolvedStep,
    TaskRow, TxStep, Watch,
};
#[cfg(feature = "mysql")]
pub use self::mysql::MySqlStore;
pub use self::operate::{ClaimRow, JobRow, KeyFilter, KeyOrder, KeyRow, OperateStore, StateCounts, Volume};
#[cfg(feature = "postgres")]
pub use self::postgres::PostgresStore;
pub(crate) use self::queue::OFFERS;
pub use self::queue::{Attempt, Engine, Holder, OutboxRow, Push, Pushed, QueueStore, UniqueClaim};
pub use self::schedule::ScheduleStore;
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
pub use self::sql::SqlDatabase;
#[cfg(feature = "sqlite")]
pub use self::sqlite::SqliteStore;
use crate::error::{StoreError, StoreErrorKind};
use crate::job::Retain;
use crate::key::{Key, KeyHash};
use crate::record::{Hold, JobId, NewRecord, Record};

/// A database that a job's effect can be in.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no database that idem has a store for [idem::unknown_database]",
    label = "no store for this database",
    note = "use `Sqlite`, `Postgres`, `MySql` or `Memory`, and switch the feature of idem-runtime with that name on"
)]
pub trait Database: Send + Sync + Sized + 'static {
    /// What the body of a job works on.
    type Connection: Send;
}

/// Records of one database, and the transactions that they commit with.
///
/// All time that matters for a decision is read from the store's own clock. Errors are [`StoreError`]s that
/// say whether another try may help: a method that can tell marks them as
/// [temporary](StoreError::temporary).
#[async_trait]
pub trait Store<D: Database>: LeaseStore + QueueStore<D> + ScheduleStore + OperateStore {
    /// Returns the name of the store, for messages.
    fn name(&self) -> &'static str;

    /// Creates or upgrades the store's tables; does nothing if they are up to date. Tells whether it has done anything.
    async fn migrate(&self) -> Result<bool, StoreError>;

    /// Returns the SQL that [`migrate`](Self::migrate) runs on an empty database.
    fn migration_sql(&self) -> String;

    /// Returns the number of the job `name` in `namespace`, the same for ever, making one if needed.
    async fn enrol(&self, namespace: &str, name: &str) -> Result<JobId, StoreError>;

    /// Checks that `table` has a `column`, for `lock = row(table.column = arg)`.
    async fn check_row(&self, table: &str, column: &str) -> Result<(), StoreError>;

    /// Returns the live record of a key, without a transaction and without waiting.
    async fn read(&self, key: KeyHash) -> Result<Option<Record>, StoreError>;

    /// Opens a transaction, locks the key and reads what is recorded for it.
    ///
    /// The lock is held until the transaction ends, however it ends. The read happens under it. The business row is
    /// locked only by who has the key: a begin that ends as [`Busy`](Begun::Busy) must not be in a run's way.
    async fn begin(&self, claim: &Claim<'_>) -> Result<Begun<D>, StoreError>;

    /// Deletes records that have expired, looking at no more than `limit` of those after `cursor`.
    async fn sweep(&self, cursor: Option<KeyHash>, limit: u32) -> Result<Swept, StoreError>;
}

/// What [`Store::begin`] needs to know.
#[derive(Debug, Clone, Copy)]
pub struct Claim<'a> {
    /// The key.
    pub key: &'a Key,
    /// Whether the key is locked.
    pub lock: KeyLock,
    /// How long to wait for the lock, and for the business row. Zero does not wait.
    pub wait: Duration,
    /// Whether the job keeps records. If not, none is looked for: the key counts as absent.
    pub records: bool,
    /// The business row to lock with it, if nothing is recorded.
    pub row: Option<RowLock<'a>>,
    /// Whether [`StoreTx::undo`] will be needed.
    pub undo: bool,
}

/// How a key is locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyLock {
    /// By the store's best means.
    Key,
    /// Not at all: [`StoreTx::commit`] finds out who was first.
    None,
}

/// The business row of `lock = row(table.column = arg)`.
#[derive(Debug, Clone, Copy)]
pub struct RowLock<'a> {
    /// The table; a plain identifier, perhaps with a schema before it.
    pub table: &'a str,
    /// The column; a plain identifier.
    pub column: &'a str,
    /// The value that finds the row.
    pub value: &'a RowValue,
}

/// The value that finds a business row.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RowValue {
    /// A number.
    Int(i64),
    /// A text.
    Text(String),
    /// A UUID.
    Uuid([u8; 16]),
}

/// A type whose values can find a business row.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot find the row of `lock = row(...)` [idem::not_a_row_key]",
    label = "not an integer, a string or a UUID",
    note = "`row(table.column = arg)` compares the column with an integer of up to 64 bits, a `String` or a `Uuid`"
)]
pub trait RowKey {
    /// Returns the value.
    fn row_value(&self) -> RowValue;
}

macro_rules! row_keys {
    ($($int:ty)+) => {$(
        impl RowKey for $int {
            fn row_value(&self) -> RowValue {
                RowValue::Int(i64::from(*self))
            }
        }
    )+};
}
row_keys!(i8 i16 i32 i64 u8 u16 u32);

impl RowKey for u64 {
    fn row_value(&self) -> RowValue {
        // The databases read a number from its text, so nothing is lost above i64::MAX.
        i64::try_from(*self).map_or_else(|_| RowValue::Text(self.to_string()), RowValue::Int)
    }
}

impl RowKey for str {
    fn row_value(&self) -> RowValue {
        RowValue::Text(self.to_owned())
    }
}

impl RowKey for String {
    fn row_value(&self) -> RowValue {
        RowValue::Text(self.clone())
    }
}

#[cfg(feature = "uuid")]
impl RowKey for uuid::Uuid {
    fn row_value(&self) -> RowValue {
        RowValue::Uuid(*self.as_bytes())
    }
}

impl<T: RowKey + ?Sized> RowKey for &T {
    fn row_value(&self) -> RowValue {
        (**self).row_value()
    }
}

/// How [`Store::begin`] ended.
pub enum Begun<D: Database> {
    /// The transaction is open.
    Open {
        /// The transaction.
        tx: Box<dyn StoreTx<D>>,
        /// What is recorded for the key.
        found: Found,
    },
    /// Another transaction held the lock of the key all the time: a run of this very key.
    Busy,
    /// The key was to be had, but another transaction held the business row all the time. It may be that of a run of
    /// another key, or of somebody who knows nothing of idem.
    RowBusy,
}

impl<D: Database> fmt::Debug for Begun<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Begun::Open { found, .. } => f.debug_struct("Open").field("found", found).finish_non_exhaustive(),
            Begun::Busy => f.write_str("Busy"),
            Begun::RowBusy => f.write_str("RowBusy"),
        }
    }
}

/// What is recorded for a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Nothing, or what has expired.
    Absent,
    /// Nothing, and the business row does not exist.
    NoRow,
    /// A live record.
    Record(Record),
}

/// An open transaction that holds the lock of a key.
///
/// Dropping it at any point, also inside one of its futures, ends the transaction, undoes its
/// effects and frees its lock, if not at once then soon and without anybody's help.
#[async_trait]
pub trait StoreTx<D: Database>: Send {
    /// Returns the connection that the body works on.
    fn connection(&mut self) -> &mut D::Connection;

    /// Returns the connection to look at.
    fn connection_ref(&self) -> &D::Connection;

    /// Undoes what the body did; transaction and lock stay. Only after [`Claim::undo`].
    async fn undo(&mut self) -> Result<(), StoreError>;

    /// Undoes what the body did if `error` is caused by a violation of the unique constraint or
    /// index `name`, and tells whether it was. Only after [`Claim::undo`].
    async fn undo_violation(
        &mut self,
        error: &(dyn StdError + Send + Sync + 'static),
        name: &str,
    ) -> Result<bool, StoreError>;

    /// Puts tasks into the outbox, in order and as a part of the transaction. It comes behind the body: what follows is the
    /// commit or a rollback, and no undo.
    ///
    /// An error if the body has ended the transaction: the tasks would be there whatever becomes of the run.
    async fn enqueue(&mut self, tasks: &[NewTask]) -> Result<(), StoreError>;

    /// Writes the record, if there is one, and commits; a live record of the key is never replaced.
    ///
    /// The epoch of a first record is [`Epoch::NONE`](crate::record::Epoch::NONE); one in place of a record whose time is
    /// over gets the epoch behind that one's, so that nobody takes it for that one.
    async fn commit(self: Box<Self>, record: Option<&NewRecord<'_>>) -> Result<Committed, StoreError>;

    /// Writes a step of a leased run and commits, if the run still has the key; undoes everything if not.
    async fn commit_step(self: Box<Self>, hold: &Hold, step: &TxStep<'_>) -> Result<Held, StoreError>;

    /// Ends the transaction and undoes everything.
    async fn rollback(self: Box<Self>) -> Result<(), StoreError>;
}

/// How [`StoreTx::commit`] ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Committed {
    /// Effect and record are durable.
    Yes,
    /// Another transaction recorded the key first; everything is undone.
    LostRace,
    /// The connection broke before the answer came: effect and record are both durable or both gone.
    Unknown,
}

/// How far [`Store::sweep`] came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Swept {
    /// How many records were deleted.
    pub deleted: u64,
    /// Where the next batch goes on; `None` at the end.
    pub cursor: Option<KeyHash>,
}

/// Where a store keeps its tables and how many connections it holds.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Settings {
    /// What the names of the tables begin with.
    pub table_prefix: String,
    /// The schema, or on MySQL the database, of the tables; `None` leaves that to the connection.
    pub schema: Option<String>,
    /// The most connections to hold; `None` takes the pool's limit. On SQLite the most that read, beside one that writes; `None`
    /// takes 4.
    pub connections: Option<u32>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings { table_prefix: String::from("idem_"), schema: None, connections: None }
    }
}

impl Settings {
    /// Checks that the names can stand in SQL as they are.
    ///
    /// # Errors
    ///
    /// A name that is no plain identifier, or a limit of no connections.
    pub fn check(&self) -> Result<(), StoreError> {
        let wrong = |what: String| Err(StoreError::new(StoreErrorKind::Misconfigured, what));
        if !is_plain_identifier(&self.table_prefix) || self.table_prefix.len() > 32 {
            return wrong(format!(
                "table prefix {:?} must begin with a letter or `_`, contain only a-z A-Z 0-9 _, and have at most 32 characters",
                self.table_prefix
            ));
        }
        match &self.schema {
            Some(schema) if !is_plain_identifier(schema) || schema.len() > 63 => {
                return wrong(format!(
                    "schema {schema:?} must begin with a letter or `_`, contain only a-z A-Z 0-9 _, and have at most 63 characters"
                ));
            }
            _ => {}
        }
        match self.connections {
            Some(0) => wrong(String::from("idem needs at least 1 connection, not 0")),
            _ => Ok(()),
        }
    }

    /// Returns the full name of the table `name`.
    pub fn table(&self, name: &str) -> String {
        match &self.schema {
            Some(schema) => format!("{schema}.{}{name}", self.table_prefix),
            None => format!("{}{name}", self.table_prefix),
        }
    }
}

fn is_plain_identifier(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// The error of an atomic job that finds the key kept by a leased job without an outcome: the job has changed its
/// kind, or two jobs share a name.
pub fn kept_by_a_run() -> StoreError {
    StoreError::new(
        StoreErrorKind::Refused,
        "the key belongs to a run of a leased job that has no outcome yet, so an atomic job cannot have it; let that \
         run end, or give the job another name",
    )
}

/// Turns a retention into the milliseconds that a store adds to its clock; `None` is for ever.
///
/// Longer than a thousand years is for ever too: no database's clock reaches that far.
pub fn retain_millis(retain: Retain) -> Option<i64> {
    match retain {
        Retain::For(duration) => {
            i64::try_from(duration.as_millis()).ok().filter(|millis| *millis <= RETAIN_MILLIS_MAX)
        }
        Retain::Forever | Retain::None => None,
    }
}

/// A thousand years.
const RETAIN_MILLIS_MAX: i64 = 1_000 * 366 * 24 * 60 * 60 * 1_000;
