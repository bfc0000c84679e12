//! What the trials of a check need of a database besides.

use std::sync::Arc;

use async_trait::async_trait;
use idem_runtime::store::SqlDatabase;
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
use tokio::sync::OnceCell;

use super::{Lab, LabDatabase, OptionsOf};
use crate::check::Trouble;
#[cfg(any(feature = "postgres", feature = "mysql"))]
use crate::servers::Server;

/// Writes the statements that make the tables in an empty database on this server: always the same.
type Tables<D> = fn(OptionsOf<D>) -> Result<String, Trouble>;

/// Makes the databases of trials, and keeps their answers in hand.
#[doc(hidden)]
#[async_trait]
pub trait Trials: SqlDatabase {
    /// Makes a database with tables; `None` if its server is not there.
    async fn prepared(tables: Tables<Self>) -> Result<Option<Lab<Self>>, Trouble>
    where
        Self: LabDatabase;

    /// Calls `hold` while a statement of the connection is under way, as often as it likes: the answer comes when it
    /// has returned, and the statement ends without effect if it returned `false`. What answers over a network cannot be
    /// held back, and comes late by itself.
    async fn hold_answers(
        connection: &mut <Self as sqlx::Database>::Connection,
        hold: Arc<dyn Fn() -> bool + Send + Sync>,
    ) -> Result<(), sqlx::Error> {
        let _ = (connection, hold);
        Ok(())
    }
}

#[cfg(feature = "sqlite")]
#[async_trait]
impl Trials for sqlx::Sqlite {
    async fn prepared(tables: Tables<Self>) -> Result<Option<Lab<Self>>, Trouble> {
        // Making the tables takes longer than a run of most jobs; a file with them is copied in no time.
        static TEMPLATE: OnceCell<Vec<u8>> = OnceCell::const_new();
        let template = TEMPLATE.get_or_try_init(async || {
            let lab = Self::lab().await.expect("SQLite is built in");
            let tables = sqlx::AssertSqlSafe(tables(lab.options())?);
            let mut connection = lab.connect().await;
            sqlx::raw_sql(tables).execute(&mut connection).await.map_err(Trouble::database)?;
            // What is in the log of the database goes to its file.
            let flush = sqlx::query_scalar("PRAGMA wal_checkpoint(TRUNCATE)");
            let in_use: bool = flush.fetch_one(&mut connection).await.map_err(Trouble::database)?;
            assert!(!in_use, "nobody uses the database any more");
            std::fs::read(lab.options.get_filename()).map_err(unreadable)
        });
        let template = template.await?;
        let lab = Self::lab().await.expect("SQLite is built in");
        std::fs::write(lab.options.get_filename(), template).map_err(unreadable)?;
        Ok(Some(lab))
    }

    async fn hold_answers(
        connection: &mut <Self as sqlx::Database>::Connection,
        hold: Arc<dyn Fn() -> bool + Send + Sync>,
    ) -> Result<(), sqlx::Error> {
        // After every instruction of a statement, on the thread that the connection has for its statements.
        connection.lock_handle().await?.set_progress_handler(1, move || hold());
        Ok(())
    }
}

#[cfg(feature = "sqlite")]
fn unreadable(error: std::io::Error) -> Trouble {
    Trouble::database(sqlx::Error::Io(error))
}

#[cfg(feature = "postgres")]
#[async_trait]
impl Trials for sqlx::Postgres {
    async fn prepared(tables: Tables<Self>) -> Result<Option<Lab<Self>>, Trouble> {
        let Some(server) = super::find::<Self>(Server::Postgres).await else { return Ok(None) };
        static TABLES: OnceCell<String> = OnceCell::const_new();
        let tables = TABLES.get_or_try_init(async || tables(server.options.clone())).await?;
        Ok(Some(server.lab(tables).await))
    }
}

#[cfg(feature = "mysql")]
#[async_trait]
impl Trials for sqlx::MySql {
    async fn prepared(tables: Tables<Self>) -> Result<Option<Lab<Self>>, Trouble> {
        let Some(server) = super::find::<Self>(Server::MySql).await else { return Ok(None) };
        static TABLES: OnceCell<String> = OnceCell::const_new();
        let tables = TABLES.get_or_try_init(async || tables(server.options.clone())).await?;
        Ok(Some(server.lab(tables).await))
    }
}
