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
use crate::tables::quoted;

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

    /// Writes the statements after which the database refuses every write to a table.
    fn refuse_writes(table: &str) -> String;

    /// Writes the statements after which it refuses none any more.
    fn accept_writes() -> String;
}

/// What a database says of a write that it refuses for the testkit.
const REFUSED: &str = "the testkit lets the database refuse this write";

/// What the triggers are called that refuse writes.
const REFUSE: &str = "idem_testkit_refuse";

/// Writes a statement for each kind of write, for a database whose triggers have one each.
#[cfg(any(feature = "sqlite", feature = "mysql"))]
fn for_each_write(statement: impl Fn(&str) -> String) -> String {
    ["INSERT", "UPDATE", "DELETE"].map(|write| statement(write) + ";\n").concat()
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

    fn refuse_writes(table: &str) -> String {
        let table = quoted(table, '"');
        for_each_write(|write| {
            format!(
                "CREATE TRIGGER {REFUSE}_{write} BEFORE {write} ON {table} \
                 BEGIN SELECT RAISE(ABORT, '{REFUSED}'); END"
            )
        })
    }

    fn accept_writes() -> String {
        for_each_write(|write| format!("DROP TRIGGER {REFUSE}_{write}"))
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

    fn refuse_writes(table: &str) -> String {
        let table = quoted(table, '"');
        format!(
            "CREATE FUNCTION {REFUSE}() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN RAISE EXCEPTION '{REFUSED}' USING ERRCODE = 'disk_full'; END $$; \
             CREATE TRIGGER {REFUSE} BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON {table} \
             FOR EACH STATEMENT EXECUTE FUNCTION {REFUSE}()"
        )
    }

    fn accept_writes() -> String {
        format!("DROP FUNCTION {REFUSE}() CASCADE")
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

    fn refuse_writes(table: &str) -> String {
        let table = quoted(table, '`');
        for_each_write(|write| {
            format!(
                "CREATE TRIGGER {REFUSE}_{write} BEFORE {write} ON {table} FOR EACH ROW \
                 SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = '{REFUSED}'"
            )
        })
    }

    fn accept_writes() -> String {
        for_each_write(|write| format!("DROP TRIGGER {REFUSE}_{write}"))
    }
}
