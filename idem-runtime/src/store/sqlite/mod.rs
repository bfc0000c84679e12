//! Records in SQLite.
//!
//! SQLite has one writer at a time, so the store writes on one connection, whose statement cache it
//! keeps, and reads on others. Every statement of sqlx is a hop to the connection's thread; what
//! begins a run is one hop, and so is what ends it.

mod lease;
mod lease_statements;
mod operate;
mod queue;
mod schedule;
mod statements;
mod tx;

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, Column, Connection, Row, Sqlite, SqlitePool};
use tracing::info;

use self::lease_statements::LeaseStatements;
use self::operate::Operate;
use self::queue::QueueStatements;
use self::statements::Statements;
use self::tx::SqliteTx;
use super::sql::{
    Connections, Driver, Leased, SqlDatabase, driver_error, is_up_to_date, print_migrations, read_record,
    temporary, unknown_row,
};
use super::{Begun, Claim, Database, Found, RowValue, Settings, Store, Swept};
use crate::error::{StoreError, StoreErrorKind};
use crate::key::KeyHash;
use crate::record::{Epoch, JobId, Record};

/// How many connections read beside the one that writes.
const READERS: u32 = 4;

/// Records in SQLite.
pub struct SqliteStore {
    writer: Connections<Sqlite>,
    readers: Connections<Sqlite>,
    statements: Arc<Statements>,
    lease_statements: Arc<LeaseStatements>,
    queue_statements: QueueStatements,
    operate: Operate,
}

impl SqliteStore {
    /// Makes the store of the database that `pool` connects to.
    ///
    /// # Errors
    ///
    /// The pool opens a private in-memory database with every connection, so there is nothing to share;
    /// or the settings name a schema, which SQLite does not have.
    pub fn new(pool: SqlitePool, settings: Settings) -> Result<Self, StoreError> {
        let wrong = |what| Err(StoreError::new(StoreErrorKind::Misconfigured, what));
        if pool.connect_options().get_filename().as_os_str() == ":memory:" {
            return wrong(
                "every connection of this pool opens an in-memory database of its own; \
                 use the URL `sqlite::memory:`, which shares one, or a file",
            );
        }
        if settings.schema.is_some() {
            return wrong("SQLite has no schemas; use `Builder::table_prefix`");
        }
        let readers = settings.connections.unwrap_or(READERS);
        Ok(SqliteStore {
            writer: Connections::new(pool.clone(), 1),
            readers: Connections::new(pool, readers),
            statements: Arc::new(Statements::new(&settings)),
            lease_statements: Arc::new(LeaseStatements::new(&settings)),
            queue_statements: QueueStatements::new(&settings),
            operate: Operate::new(&settings),
        })
    }
}

impl SqliteStore {
    /// Tells whether the tables are up to date. It takes no turn to write, since a worker must be able
    /// to start while another one is in the middle of a run.
    async fn is_migrated(&self) -> Result<bool, StoreError> {
        let mut connection = self.readers.lease().await?;
        let version = self.statements.migrated_version.clone();
        match sqlx::query_scalar::<_, i64>(version).fetch_one(&mut *connection).await {
            Ok(applied) => {
                connection.give_back();
                Ok(is_up_to_date(applied, &self.statements.migrations))
            }
            // There is no history yet, or what is wrong shows again when one is made.
            Err(sqlx::Error::Database(_)) => {
                // Nothing is wrong with the connection, and an in-memory database may live in it alone.
                connection.give_back();
                Ok(false)
            }
            Err(error) => Err(driver_error("reading the version of idem's tables", error)),
        }
    }
}

impl SqlDatabase for Sqlite {
    fn store(pool: SqlitePool, settings: Settings) -> Result<Arc<dyn Store<Self>>, StoreError> {
        Ok(Arc::new(SqliteStore::new(pool, settings)?))
    }
}

impl Database for Sqlite {
    type Connection = SqliteConnection;
}

#[async_trait]
impl Driver for Sqlite {
    type Session = ();

    async fn set_up(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        // sqlx counts this transaction for ever; SQLite ends it right below.
        std::mem::forget(connection.begin().await?);
        sqlx::raw_sql("COMMIT").execute(connection).await?;
        Ok(())
    }
}

#[async_trait]
impl Store<Sqlite> for SqliteStore {
    fn name(&self) -> &'static str {
        "sqlite"
    }

    async fn migrate(&self) -> Result<bool, StoreError> {
        let failed = |error| driver_error("migrating idem's tables", error);
        if self.is_migrated().await? {
            return Ok(false);
        }
        let mut connection = self.writer.lease().await?;
        // Kept in the file from now on: readers and the writer do not wait for each other.
        sqlx::raw_sql("PRAGMA journal_mode = WAL").execute(&mut *connection).await.map_err(failed)?;
        // A connection that fails anywhere in here is closed, which undoes everything.
        let begin = format!("BEGIN IMMEDIATE; {}", self.statements.history);
        sqlx::raw_sql(AssertSqlSafe(begin)).execute(&mut *connection).await.map_err(failed)?;
        let applied: i64 = sqlx::query_scalar(self.statements.migrated_version.clone())
            .fetch_one(&mut *connection)
            .await
            .map_err(failed)?;
        for (version, migration) in (1..).zip(&self.statements.migrations) {
            if version > applied {
                let sql = format!(
                    "{} INSERT INTO {} (version) VALUES ({version});",
                    migration.sql, self.statements.history_table
                );
                sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *connection).await.map_err(failed)?;
                info!(store = self.name(), version, "migrated");
            }
        }
        sqlx::raw_sql("COMMIT").execute(&mut *connection).await.map_err(failed)?;
        connection.give_back();
        // Another process may have done it meanwhile.
        Ok(!is_up_to_date(applied, &self.statements.migrations))
    }

    fn migration_sql(&self) -> String {
        let Statements { history_table, history, migrations, .. } = &*self.statements;
        print_migrations(history_table, history, migrations)
    }

    async fn enrol(&self, namespace: &str, name: &str) -> Result<JobId, StoreError> {
        let failed = |error| driver_error(&format!("making job `{name}` known"), error);
        let select = self.statements.job_select.clone();
        let mut reader = self.readers.lease().await?;
        let known: Option<i64> = sqlx::query_scalar(select.clone())
            .bind(namespace)
            .bind(name)
            .fetch_optional(&mut *reader)
            .await
            .map_err(failed)?;
        reader.give_back();
        let id = match known {
            Some(id) => id,
            None => {
                let mut writer = self.writer.lease().await?;
                sqlx::query(self.statements.job_insert.clone())
                    .bind(namespace)
                    .bind(name)
                    .execute(&mut *writer)
                    .await
                    .map_err(failed)?;
                let query = sqlx::query_scalar(select).bind(namespace).bind(name);
                let id = query.fetch_one(&mut *writer).await.map_err(failed)?;
                writer.give_back();
                id
            }
        };
        i32::try_from(id).map(JobId).map_err(|_| {
            StoreError::new(
                StoreErrorKind::Refused,
                format!("job `{name}` has number {id}, which is too large; `idem_jobs` has a row that idem did not write"),
            )
        })
    }

    async fn check_row(&self, table: &str, column: &str) -> Result<(), StoreError> {
        let mut connection = self.readers.lease().await?;
        // A quoted name that is no column would be taken for a text.
        let sql = format!("SELECT {table}.{column} FROM {table} WHERE FALSE");
        match sqlx::query(AssertSqlSafe(sql)).execute(&mut *connection).await {
            Ok(_) => {
                connection.give_back();
                Ok(())
            }
            Err(error) => {
                if let sqlx::Error::Database(_) = error {
                    connection.give_back();
                }
                Err(unknown_row(table, column, error))
            }
        }
    }

    async fn read(&self, key: KeyHash) -> Result<Option<Record>, StoreError> {
        let failed = |error| driver_error("reading a record", error);
        let mut connection = self.readers.lease().await?;
        let row = sqlx::query(self.statements.get.clone())
            .bind(&key.as_bytes()[..])
            .fetch_optional(&mut *connection)
            .await
            .map_err(failed)?;
        connection.give_back();
        let read = row.as_ref().map(read_row).transpose().map_err(failed)?;
        Ok(read.and_then(|(found, _)| match found {
            Found::Record(record) => Some(record),
            Found::Absent | Found::NoRow => None,
        }))
    }

    async fn begin(&self, claim: &Claim<'_>) -> Result<Begun<Sqlite>, StoreError> {
        let failed = |error| driver_error("beginning a run", error);
        let sql = self.statements.begin(claim.row.as_ref());
        let started = Instant::now();
        loop {
            let mut connection = self.writer.lease().await?;
            let mut query = sqlx::query(sql.clone()).bind(&claim.key.hash().as_bytes()[..]);
            query = match claim.row.map(|row| row.value) {
                None => query,
                Some(RowValue::Int(value)) => query.bind(*value),
                Some(RowValue::Text(value)) => query.bind(value.as_str()),
                Some(RowValue::Uuid(value)) => query.bind(&value[..]),
            };
            match query.fetch_all(&mut *connection).await {
                Ok(rows) => {
                    let (found, expired) = read_rows(&rows, claim).map_err(failed)?;
                    let (statements, lease_statements) =
                        (Arc::clone(&self.statements), Arc::clone(&self.lease_statements));
                    let tx = SqliteTx { connection, statements, lease_statements, expired };
                    return Ok(Begun::Open { tx: Box::new(tx), found });
                }
                // Another process is writing. SQLite has waited for its `busy_timeout` already; a job that
                // waits longer tries again. Which key the other one is at, nobody can tell.
                Err(error) if temporary(&error) && started.elapsed() < claim.wait => {
                    drop(connection);
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                Err(error) => return Err(failed(error)),
            }
        }
    }

    async fn sweep(&self, cursor: Option<KeyHash>, limit: u32) -> Result<Swept, StoreError> {
        let failed = |error| driver_error("sweeping expired records", error);
        let mut reader = self.readers.lease().await?;
        let after: &[u8] = cursor.as_ref().map_or(&[], |key| key.as_bytes());
        let last: Option<Vec<u8>> = sqlx::query_scalar(self.statements.sweep_last.clone())
            .bind(after)
            .bind(i64::from(limit) - 1)
            .fetch_optional(&mut *reader)
            .await
            .map_err(failed)?;
        reader.give_back();
        let cursor = last.and_then(|last| <[u8; 16]>::try_from(last).ok()).map(KeyHash::from_bytes);
        // Sixteen bytes of ones and one more stand behind every key.
        let last: &[u8] = cursor.as_ref().map_or(&[u8::MAX; 17], |key| key.as_bytes());
        let mut writer = self.writer.lease().await?;
        let deleted = sqlx::query(self.statements.sweep_delete.clone())
            .bind(after)
            .bind(last)
            .execute(&mut *writer)
            .await
            .map_err(failed)?
            .rows_affected();
        writer.give_back();
        Ok(Swept { deleted, cursor })
    }
}

impl std::fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqliteStore").finish_non_exhaustive()
    }
}

fn read_rows(rows: &[SqliteRow], claim: &Claim<'_>) -> Result<(Found, Option<Epoch>), sqlx::Error> {
    let mut has_row = claim.row.is_none();
    let mut read = (Found::Absent, None);
    for row in rows {
        match row.column(0).name() {
            "outcome" if claim.records => read = read_row(row)?,
            "outcome" => {}
            _ => has_row = true,
        }
    }
    if read.0 == Found::Absent && !has_row {
        read.0 = Found::NoRow;
    }
    Ok(read)
}

/// Reads a record, or the epoch of one whose time is over.
fn read_row(row: &SqliteRow) -> Result<(Found, Option<Epoch>), sqlx::Error> {
    let record = read_record(row.try_get("outcome")?, row.try_get("fingerprint")?, row.try_get("result")?)?;
    let expired = row.try_get::<Option<bool>, _>("expired")?.unwrap_or(false);
    Ok(match expired {
        true => (Found::Absent, Some(Epoch(row.try_get("epoch")?))),
        false => (Found::Record(record), None),
    })
}

/// Ends the transaction of a leased connection in order.
async fn end(connection: &mut Leased<Sqlite>, sql: &'static str) -> Result<(), sqlx::Error> {
    sqlx::query(sql).execute(&mut **connection).await.map(|_| ())
}
