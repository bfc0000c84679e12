//! The harnesses of idem's own stores, and examples for that of another.

mod memory;
#[cfg(feature = "mysql")]
mod mysql;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "sqlite")]
mod sqlite;

pub use self::memory::Memory;
#[cfg(feature = "mysql")]
pub use self::mysql::MySql;
#[cfg(feature = "postgres")]
pub use self::postgres::Postgres;
#[cfg(feature = "sqlite")]
pub use self::sqlite::Sqlite;

#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
use super::{BoxError, NestedEnd, TransactionEnd};

/// Ends a nested transaction of sqlx.
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
async fn end_nested<D: sqlx::Database>(
    nested: sqlx::Transaction<'_, D>,
    end: NestedEnd,
) -> Result<(), BoxError> {
    match end {
        NestedEnd::Commit => nested.commit().await?,
        NestedEnd::Rollback => nested.rollback().await?,
        NestedEnd::Drop => drop(nested),
    }
    Ok(())
}

/// Returns the statement by which a body ends a transaction.
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
fn statement(end: TransactionEnd) -> &'static str {
    match end {
        TransactionEnd::Commit => "COMMIT",
        TransactionEnd::Rollback => "ROLLBACK",
    }
}
