//! Records in MySQL and MariaDB.
//!
//! What locks and reads rides with `BEGIN`, the record rides with `COMMIT`. The key's lock is a named
//! lock of the server (`GET_LOCK`), freed in the message that ends the transaction, or with the
//! connection. sqlx believes all the time that the connection is in a transaction; idem begins and
//! ends the real one with messages of its own.

mod lease;
mod lease_statements;
mod operate;
mod queue;
mod schedule;
mod statements;
mod tx;

use std::sync::Arc;

use async_trait::async_trait;
use sqlx::mysql::{MySqlConnection, MySqlRow};
use sqlx::{Column, Connection, MySql, MySqlPool, Row};
use tracing::{debug, info};

use self::lease_statements::LeaseStatements;
use self::operate::Operate;
use self::queue::QueueStatements;
use self::statements::Statements;
use self::tx::MySqlTx;
use super::sql::{
    Connections, Driver, Heart, Leased, SqlDatabase, Text, broke, driver_error, heard, is_silence,
    is_up_to_date, print_migrations, read_record, unknown_row,
};
use super::{Begun, Claim, Database, Found, KeyLock, Settings, Store, Swept};
use crate::error::{StoreError, StoreErrorKind};
use crate::key::KeyHash;
use crate::record::{Epoch, JobId, Record};

/// Records in MySQL or MariaDB.
pub struct MySqlStore {
    connections: Connections<MySql>,
    /// The one on which leases are renewed.
    heart: Heart<MySql>,
    statements: Arc<Statements>,
    lease_statements: Arc<LeaseStatements>,
    queue_statements: QueueStatements,
    operate: Operate,
}

impl MySqlStore {
    /// Makes the store of the database that `pool` connects to.
    pub fn new(pool: MySqlPool, settings: Settings) -> Self {
        let max = settings.connections.unwrap_or_else(|| pool.options().get_max_connections());
        MySqlStore {
            heart: Heart::new(pool.clone()),
            connections: Connections::new(pool, max),
            statements: Arc::new(Statements::new(&settings)),
            lease_statements: Arc::new(LeaseStatements::new(&settings)),
            queue_statements: QueueStatements::new(&settings),
            operate: Operate::new(&settings),
        }
    }
}

impl SqlDatabase for MySql {
    fn store(pool: MySqlPool, settings: Settings) -> Result<Arc<dyn Store<Self>>, StoreError> {
        Ok(Arc::new(MySqlStore::new(pool, settings)))
    }
}

impl Database for MySql {
    type Connection = MySqlConnection;
}

/// What the store knows about a session.
pub(super) struct Session {
    /// The server's number of the connection.
    id: u64,
    /// The database that unqualified names are in.
    database: String,
    /// The place of the records, once it was needed.
    place: Option<u64>,
    /// The session refuses to lock a row that has changed since its transaction first read.
    snapshots: bool,
    /// The lock of the last key that the session was asked to lock.
    claimed: Option<KeyHash>,
    /// The variable that forbids the session to write; servers name it differently.
    read_only: Option<&'static str>,
}

impl Session {
    /// Returns a query that has a row where the session may not write.
    fn is_read_only(&self) -> String {
        let session = self.read_only.map_or_else(String::new, |name| format!(" OR @@{name} <> 0"));
        // A number or a name, as the server's version has it.
        format!("SELECT 1 AS idem_read_only FROM DUAL WHERE @@global.read_only NOT IN ('0', 'OFF'){session}")
    }
}

/// What forbids a session to write is called so by MySQL and new versions of MariaDB, and by old ones.
const READ_ONLY: [&str; 2] = ["transaction_read_only", "tx_read_only"];

#[async_trait]
impl Driver for MySql {
    type Session = Session;

    async fn set_up(connection: &mut MySqlConnection) -> Result<Session, sqlx::Error> {
        // sqlx counts this transaction for ever; the server ends it right below.
        std::mem::forget(connection.begin().await?);
        let rows = message(
            connection,
            // What idem sends without a BEGIN is to be committed by itself, whatever the server's default.
            "COMMIT; SET autocommit = 1; SELECT CONNECTION_ID() AS id, DATABASE() AS db; \
             SHOW VARIABLES WHERE Variable_name = 'innodb_snapshot_isolation' AND Value = 'ON' \
             OR Variable_name IN ('transaction_read_only', 'tx_read_only')",
        )
        .await?;
        let (row, variables) = rows.split_first().ok_or(sqlx::Error::RowNotFound)?;
        let variables: Vec<String> = variables.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
        let database = row.try_get::<Option<String>, _>("db")?.unwrap_or_default();
        Ok(Session {
            id: row.try_get("id")?,
            database,
            place: None,
            snapshots: variables.iter().any(|name| name == "innodb_snapshot_isolation"),
            claimed: None,
            read_only: READ_ONLY.into_iter().find(|name| variables.iter().any(|found| found == name)),
        })
    }

    fn dropped(session: Session, pool: &sqlx::Pool<Self>) {
        // The server notices a closed connection only after the statement that it is busy with, and
        // keeps the transaction and its locks until then. It is ended only while it holds the key: after a
        // restart of the server the number may be somebody else's.
        let (Ok(runtime), Some(lock)) = (tokio::runtime::Handle::try_current(), session.claimed) else {
            return;
        };
        let pool = pool.clone();
        runtime.spawn(async move {
            let end = async {
                let mut connection = pool.acquire().await?;
                let sql =
                    format!("SELECT 1 AS held FROM DUAL WHERE IS_USED_LOCK('idem:{lock}') = {}", session.id);
                if message(&mut connection, sql).await?.is_empty() {
                    return Ok(());
                }
                message(&mut connection, format!("KILL {}", session.id)).await.map(|_| ())
            };
            if let Err(error) = end.await {
                // Most often the server was faster.
                debug!(session = session.id, %error, "ending a dropped session failed");
            }
        });
    }

    fn idle(session: &mut Session) {
        session.claimed = None;
    }
}

#[async_trait]
impl Store<MySql> for MySqlStore {
    fn name(&self) -> &'static str {
        "mysql"
    }

    async fn migrate(&self) -> Result<bool, StoreError> {
        let failed = |error| driver_error("migrating idem's tables", error);
        let mut connection = self.connections.lease_alive().await?;
        // A user that may not make tables can still find out that none are to be made.
        if let Ok(rows) = message(&mut connection, self.statements.migrated_version()).await {
            let applied = rows.first().and_then(|row| row.try_get::<i64, _>("version").ok()).unwrap_or(0);
            if is_up_to_date(applied, &self.statements.migrations) {
                connection.give_back();
                return Ok(false);
            }
        }
        // The server commits every CREATE TABLE by itself; the lock keeps two migrations apart.
        let rows = message(&mut connection, self.statements.migrate_begin()).await.map_err(failed)?;
        let locked = rows.first().map(|row| row.try_get("idem_locked")).transpose().map_err(failed)?;
        has_turn(locked.flatten())?;
        message(&mut connection, self.statements.history.clone()).await.map_err(failed)?;
        let rows = message(&mut connection, self.statements.migrated_version()).await.map_err(failed)?;
        let applied: i64 = rows[0].try_get("version").map_err(failed)?;
        for (version, migration) in (1..).zip(&self.statements.migrations) {
            if version > applied {
                let sql = format!(
                    "{}; INSERT INTO {} (version) VALUES ({version})",
                    migration.sql.trim_end().trim_end_matches(';'),
                    self.statements.history_table
                );
                message(&mut connection, sql).await.map_err(failed)?;
                info!(store = self.name(), version, "migrated");
            }
        }
        message(&mut connection, self.statements.migrate_end()).await.map_err(failed)?;
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
        let mut connection = self.connections.lease_alive().await?;
        let select = self.statements.job_select(namespace, name);
        let mut rows = message(&mut connection, select.clone()).await.map_err(failed)?;
        if rows.is_empty() {
            let insert = self.statements.job_insert(namespace, name);
            message(&mut connection, insert).await.map_err(failed)?;
            rows = message(&mut connection, select).await.map_err(failed)?;
        }
        let id =
            rows.first().ok_or(sqlx::Error::RowNotFound).and_then(|row| row.try_get("id")).map_err(failed)?;
        connection.give_back();
        Ok(JobId(id))
    }

    async fn check_row(&self, table: &str, column: &str) -> Result<(), StoreError> {
        let mut connection = self.connections.lease_alive().await?;
        let sql = format!("SELECT {column} FROM {table} WHERE FALSE");
        match message(&mut connection, sql).await {
            Ok(_) => {
                connection.give_back();
                Ok(())
            }
            Err(error) => Err(unknown_row(table, column, error)),
        }
    }

    async fn read(&self, key: KeyHash) -> Result<Option<Record>, StoreError> {
        let failed = |error| driver_error("reading a record", error);
        loop {
            let mut connection = self.connections.lease().await?;
            let query = sqlx::query(self.statements.get.clone()).bind(&key.as_bytes()[..]);
            match heard(connection.patience(), query.fetch_optional(&mut *connection)).await {
                Ok(row) => {
                    connection.give_back();
                    let read = row.as_ref().map(read_row).transpose().map_err(failed)?;
                    return Ok(read.and_then(|(found, _)| match found {
                        Found::Record(record) => Some(record),
                        Found::Absent | Found::NoRow => None,
                    }));
                }
                Err(error) if connection.is_reused() && broke(&error) => {}
                Err(error) => return Err(failed(error)),
            }
        }
    }

    async fn begin(&self, claim: &Claim<'_>) -> Result<Begun<MySql>, StoreError> {
        let failed = |error| driver_error("beginning a run", error);
        loop {
            let mut connection = self.connections.lease().await?;
            let Session { database, place, claimed, .. } = connection.session();
            let place = *place.get_or_insert_with(|| self.statements.place(database));
            let lock = claim.key.hash().at(place);
            *claimed = Some(lock);
            let patience = connection.patience().map(|patience| patience.and(claim.wait));
            let begun = message(&mut connection, self.statements.begin(claim, lock));
            let rows = match heard(patience, begun).await {
                Ok(rows) => rows,
                // Nothing has happened yet, so a connection that died while it stood idle costs only a new one.
                Err(error) if connection.is_reused() && broke(&error) => {
                    if !is_silence(&error) {
                        connection.session().claimed = None;
                    }
                    continue;
                }
                Err(error) => return Err(failed(error)),
            };
            let mut read = read_rows(&rows).map_err(failed)?;
            if !read.locked && claim.lock == KeyLock::Key && read.found == Found::Absent {
                message(&mut connection, "ROLLBACK").await.map_err(failed)?;
                connection.give_back();
                return Ok(Begun::Busy);
            }
            if let (Some(row), Found::Absent) = (claim.row, &read.found) {
                match message(&mut connection, self.statements.lock_row(row, claim.wait)).await {
                    Ok(rows) if rows.is_empty() => read.found = Found::NoRow,
                    Ok(_) => {}
                    Err(error) if is_lock_timeout(&error) => {
                        let end = self.statements.rollback_row(lock, claim.wait);
                        message(&mut connection, end).await.map_err(failed)?;
                        connection.give_back();
                        return Ok(Begun::RowBusy);
                    }
                    Err(error) => return Err(failed(error)),
                }
            }
            let tx = MySqlTx {
                connection,
                statements: Arc::clone(&self.statements),
                lease_statements: Arc::clone(&self.lease_statements),
                lock,
                expired: read.expired,
                works: read.found == Found::Absent,
            };
            return Ok(Begun::Open { tx: Box::new(tx), found: read.found });
        }
    }

    async fn sweep(&self, cursor: Option<KeyHash>, limit: u32) -> Result<Swept, StoreError> {
        let failed = |error| driver_error("sweeping expired records", error);
        let mut connection = self.connections.lease_alive().await?;
        let last = self.statements.sweep_last(cursor, limit);
        let rows = message(&mut connection, last).await.map_err(failed)?;
        let last: Option<Vec<u8>> =
            rows.first().map(|row| row.try_get("last")).transpose().map_err(failed)?;
        let last = last.and_then(|last| <[u8; 16]>::try_from(last).ok()).map(KeyHash::from_bytes);
        let delete = self.statements.sweep_delete(cursor, last, limit);
        let deleted = sqlx::raw_sql(Text::from(delete).0)
            .execute(&mut *connection)
            .await
            .map_err(failed)?
            .rows_affected();
        connection.give_back();
        Ok(Swept { deleted, cursor: last })
    }
}

impl std::fmt::Debug for MySqlStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MySqlStore").finish_non_exhaustive()
    }
}

/// Checks what the lock of migrations was: 1 if it is had, 0 or null if not.
fn has_turn(locked: Option<i64>) -> Result<(), StoreError> {
    if locked == Some(1) {
        return Ok(());
    }
    let text = "migrating idem's tables has waited a minute for another migration, and was given up; nothing was changed; run it \
                again when that one is through";
    Err(StoreError::new(StoreErrorKind::Conflict, text).temporary())
}

/// Sends SQL text, which may be several statements, as one message, and returns all its rows.
async fn message(
    connection: &mut MySqlConnection,
    sql: impl Into<Text>,
) -> Result<Vec<MySqlRow>, sqlx::Error> {
    sqlx::raw_sql(sql.into().0).fetch_all(connection).await
}

/// What the rows of a begin say.
struct Read {
    found: Found,
    /// The epoch of a record that is there, but whose time is over.
    expired: Option<Epoch>,
    /// The lock of the key is held.
    locked: bool,
}

fn read_rows(rows: &[MySqlRow]) -> Result<Read, sqlx::Error> {
    let mut read = Read { found: Found::Absent, expired: None, locked: false };
    for row in rows {
        match row.column(0).name() {
            "idem_locked" => read.locked = row.try_get::<Option<i64>, _>(0)? == Some(1),
            _ => (read.found, read.expired) = read_row(row)?,
        }
    }
    Ok(read)
}

/// Reads a record, or the epoch of one whose time is over.
fn read_row(row: &MySqlRow) -> Result<(Found, Option<Epoch>), sqlx::Error> {
    let record = read_record(row.try_get("outcome")?, row.try_get("fingerprint")?, row.try_get("result")?)?;
    let expired = row.try_get::<Option<i64>, _>("expired")? == Some(1);
    Ok(match expired {
        true => (Found::Absent, Some(Epoch(row.try_get("epoch")?))),
        false => (Found::Record(record), None),
    })
}

/// Returns the server's number of an error.
fn number(error: &sqlx::Error) -> Option<u16> {
    let error = error.as_database_error()?.try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>()?;
    Some(error.number())
}

fn is_lock_timeout(error: &sqlx::Error) -> bool {
    matches!(number(error), Some(1205 | 3572))
}

#[cfg(test)]
mod tests {
    use super::has_turn;
    use crate::error::StoreErrorKind;

    #[test]
    fn a_migration_goes_on_under_its_lock_alone() {
        assert!(has_turn(Some(1)).is_ok());
        for locked in [Some(0), None] {
            let error = has_turn(locked).expect_err("it has no turn");
            assert!(error.is_temporary() && error.kind() == StoreErrorKind::Conflict, "{error}");
        }
    }
}
