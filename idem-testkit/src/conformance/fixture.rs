//! What a store brings to the suite.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use idem_runtime::store::{Database, Store};

/// Any error of a fixture; it fails the case.
pub type BoxError = Box<dyn Error + Send + Sync + 'static>;

/// A store that the suite can test: it opens databases and says what the store cannot do.
#[async_trait]
pub trait Harness: Send + Sync + 'static {
    /// The database of the store.
    type Db: Database;

    /// Returns the name that the report shows.
    fn name(&self) -> String;

    /// Returns why the store lacks an ability, in a few words; `None` if it has it.
    ///
    /// Cases that need the ability are reported as skipped, with this reason.
    fn lacks(&self, ability: Ability) -> Option<&'static str>;

    /// Makes a fresh database. Every case has one of its own.
    async fn open(&self) -> Result<Arc<dyn Fixture<Self::Db>>, BoxError>;
}

/// What not every store can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Ability {
    /// Two transactions of different keys, or with `KeyLock::None`, are open at once.
    ConcurrentTransactions,
    /// A key that is held answers `Begun::Busy`, rather than a temporary error.
    BusyToldApart,
    /// A transaction inside the transaction is a savepoint: [`Fixture::insert_nested`].
    NestedTransactions,
    /// A body that ends the transaction itself is noticed: [`Fixture::end_transaction`].
    EndedTransactions,
    /// There are unique constraints to violate: [`Fixture::violate`].
    UniqueConstraints,
    /// There are rows to lock: [`Fixture::business_row`], [`Fixture::row_is_locked`].
    BusinessRows,
    /// Records are in tables, which have to be made: [`Fixture::store_with_prefix`].
    Tables,
    /// Connections can be lost: [`Fixture::kill_connections`].
    LostConnections,
    /// Tasks can be enqueued in a transaction of the caller's.
    TasksInTransactions,
}

/// One fresh database with two handles of the store on it.
///
/// Nothing in here may go through the store under test, except for the handles themselves: effects
/// are counted, and time passes, on a connection of the fixture's own. The methods with a default
/// belong to an [`Ability`]; a store that lacks it leaves them out.
#[async_trait]
pub trait Fixture<D: Database>: Send + Sync + 'static {
    /// Returns the two handles, migrated, each with connections of its own, at least eight.
    fn stores(&self) -> [Arc<dyn Store<D>>; 2];

    /// Adds an effect, such as a row with this name, in the transaction of `connection`.
    ///
    /// # Errors
    ///
    /// The database's.
    async fn insert(&self, connection: &mut D::Connection, effect: &str) -> Result<(), BoxError>;

    /// Counts the committed effects with this name.
    ///
    /// # Errors
    ///
    /// The database's.
    async fn count(&self, effect: &str) -> Result<u64, BoxError>;

    /// Lets time pass: moves the store's clock forward, or the expiry, lease and age of every
    /// record and unique claim back, and the time before which a task of the outbox is not taken.
    ///
    /// # Errors
    ///
    /// The database's.
    async fn let_pass(&self, time: Duration) -> Result<(), BoxError>;

    /// Returns once a `begin` or a push that was started waits in the database for a lock.
    ///
    /// The default lets other tasks run for a moment, which is enough for a store within the process.
    ///
    /// # Errors
    ///
    /// The database's.
    async fn until_blocked(&self) -> Result<(), BoxError> {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// Adds an effect in a transaction inside the one of `connection`, as the driver makes them.
    ///
    /// # Errors
    ///
    /// The database's.
    async fn insert_nested(
        &self,
        connection: &mut D::Connection,
        effect: &str,
        end: NestedEnd,
    ) -> Result<(), BoxError> {
        let _ = (connection, effect, end);
        missing(Ability::NestedTransactions)
    }

    /// Ends the transaction of `connection` with SQL, as no body should.
    ///
    /// # Errors
    ///
    /// The database's.
    async fn end_transaction(
        &self,
        connection: &mut D::Connection,
        end: TransactionEnd,
    ) -> Result<(), BoxError> {
        let _ = (connection, end);
        missing(Ability::EndedTransactions)
    }

    /// Violates a unique constraint in the transaction of `connection` and returns what came of it.
    ///
    /// # Errors
    ///
    /// The database's, if it is any other than the violation.
    async fn violate(&self, connection: &mut D::Connection) -> Result<Violation, BoxError> {
        let _ = connection;
        missing(Ability::UniqueConstraints)
    }

    /// Returns a table with an integer column, in which one row holds 1, another 2, and none 3.
    ///
    /// # Errors
    ///
    /// The fixture has none.
    fn business_row(&self) -> Result<BusinessRow, BoxError> {
        missing(Ability::BusinessRows)
    }

    /// Tells whether the business row with this value is locked against another connection.
    ///
    /// # Errors
    ///
    /// The database's.
    async fn row_is_locked(&self, value: i64) -> Result<bool, BoxError> {
        let _ = value;
        missing(Ability::BusinessRows)
    }

    /// Returns another handle on the same database, whose tables have another prefix and do not exist yet.
    ///
    /// # Errors
    ///
    /// The fixture cannot.
    async fn store_with_prefix(&self, prefix: &str) -> Result<Arc<dyn Store<D>>, BoxError> {
        let _ = prefix;
        missing(Ability::Tables)
    }

    /// Ends all connections of the stores at the server, and returns when they are gone.
    ///
    /// # Errors
    ///
    /// The database's.
    async fn kill_connections(&self) -> Result<(), BoxError> {
        missing(Ability::LostConnections)
    }

    /// Removes the database. Called once, whatever became of the case.
    ///
    /// # Errors
    ///
    /// The database's; it fails the case.
    async fn close(&self) -> Result<(), BoxError> {
        Ok(())
    }
}

/// How a transaction inside the transaction ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NestedEnd {
    /// It is committed.
    Commit,
    /// It is rolled back.
    Rollback,
    /// It is dropped.
    Drop,
}

/// How a body ends the transaction that is not its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransactionEnd {
    /// With `COMMIT`.
    Commit,
    /// With `ROLLBACK`.
    Rollback,
}

/// A violated unique constraint.
#[derive(Debug)]
pub struct Violation {
    /// The driver's error.
    pub error: BoxError,
    /// The name of the constraint or index.
    pub constraint: String,
}

/// A table for `lock = row(table.column = …)`.
#[derive(Debug, Clone)]
pub struct BusinessRow {
    /// The table.
    pub table: String,
    /// The column.
    pub column: String,
}

fn missing<T>(ability: Ability) -> Result<T, BoxError> {
    Err(format!(
        "the fixture does nothing for `Ability::{ability:?}`, but the harness does not say that it lacks it"
    )
    .into())
}
