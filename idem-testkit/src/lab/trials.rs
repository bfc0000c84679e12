//! What the trials of a check need of a database besides.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use idem_runtime::store::SqlDatabase;

use super::{Lab, LabDatabase};
use crate::check::Trouble;

/// Makes the tables in an empty database.
type Prepare<D> = fn(&Lab<D>) -> Pin<Box<dyn Future<Output = Result<(), Trouble>> + Send + '_>>;

/// Makes the databases of trials, and keeps their answers in hand.
#[doc(hidden)]
#[async_trait]
pub trait Trials: SqlDatabase {
    /// Makes a database that `prepare` has prepared, always the same one; `None` if its server is not there.
    async fn prepared(prepare: Prepare<Self>) -> Result<Option<Lab<Self>>, Trouble>
    where
        Self: LabDatabase,
    {
        let Some(lab) = Self::lab().await else { return Ok(None) };
        prepare(&lab).await?;
        Ok(Some(lab))
    }

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
    async fn prepared(prepare: Prepare<Self>) -> Result<Option<Lab<Self>>, Trouble> {
        // Making the tables takes longer than a run of most jobs; a file with them is copied in no time.
        static TEMPLATE: tokio::sync::OnceCell<Vec<u8>> = tokio::sync::OnceCell::const_new();
        let template = TEMPLATE.get_or_try_init(async || {
            let lab = Self::lab().await.expect("SQLite is built in");
            prepare(&lab).await?;
            // What is in the log of the database goes to its file.
            let flush = sqlx::query_scalar("PRAGMA wal_checkpoint(TRUNCATE)");
            let in_use: bool = flush.fetch_one(&mut lab.connect().await).await.map_err(Trouble::database)?;
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
impl Trials for sqlx::Postgres {}

#[cfg(feature = "mysql")]
impl Trials for sqlx::MySql {}
