//! Records in PostgreSQL.
//!
//! A run costs no round trip beyond its own: what locks and reads rides with `BEGIN`, the record
//! rides with `COMMIT`, and the statements are prepared in the session. sqlx believes all the time
//! that the connection is in a transaction; idem begins and ends the real one with messages of its own.

mod lease;
mod lease_statements;
mod operate;
mod queue;
mod saved;
mod schedule;
mod statements;
mod tx;
mod watch;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{AssertSqlSafe, Column, ConnectOptions, Connection, PgPool, Postgres, Row};
use tracing::{debug, info};

use self::lease_statements::LeaseStatements;
use self::operate::Operate;
use self::queue::QueueStatements;
use self::saved::Script;
use self::statements::Statements;
use self::tx::PostgresTx;
use self::watch::{Bell, Watches};
use super::sql::{
    Connections, Driver, Heart, Leased, SqlDatabase, Text, broke, driver_error, heard, is_silence,
    is_up_to_date, print_migrations, read_record, unknown_row,
};
use super::{Begun, Claim, Database, Found, KeyLock, Settings, Store, Swept};
use crate::error::StoreError;
use crate::key::KeyHash;
use crate::record::{Epoch, JobId, Record};

/// Records in PostgreSQL.
pub struct PostgresStore {
    connections: Connections<Postgres>,
    /// The one on which leases are renewed.
    heart: Heart<Postgres>,
    statements: Arc<Statements>,
    lease_statements: Arc<LeaseStatements>,
    queue_statements: QueueStatements,
    operate: Operate,
    watches: Watches,
    /// Statements prepared in a session do not outlast it here: a transaction pooler is in between.
    unprepared: AtomicBool,
    /// The pool is made for a transaction pooler: sqlx must be told there to keep no prepared statement
    /// (`statement_cache_capacity(0)`), since its names for them are the same in every session.
    pooled: bool,
}

impl PostgresStore {
    /// Makes the store of the database that `pool` connects to.
    pub fn new(pool: PgPool, settings: Settings) -> Self {
        let max = settings.connections.unwrap_or_else(|| pool.options().get_max_connections());
        let no_cache = |(name, value): (_, std::borrow::Cow<'_, str>)| {
            name == "statement-cache-capacity" && value == "0"
        };
        PostgresStore {
            pooled: pool.connect_options().to_url_lossy().query_pairs().any(no_cache),
            watches: Watches::new(pool.clone()),
            heart: Heart::new(pool.clone()),
            connections: Connections::new(pool, max),
            statements: Arc::new(Statements::new(&settings)),
            lease_statements: Arc::new(LeaseStatements::new(&settings)),
            queue_statements: QueueStatements::new(&settings),
            operate: Operate::new(&settings),
            unprepared: AtomicBool::new(false),
        }
    }

    /// Tells whether a connection is a session of the server, which a transaction pooler makes it not.
    fn has_sessions(&self) -> bool {
        !self.pooled && self.keeps()
    }

    /// Begins on a connection, whatever state the session's prepared statements are in.
    async fn begin_on(
        &self,
        connection: &mut Leased<Postgres>,
        claim: &Claim<'_>,
    ) -> Result<Vec<PgRow>, sqlx::Error> {
        loop {
            let session = connection.session();
            let mut script = Script::to(session, self.keeps_in(claim));
            if is_of_a_step(claim) {
                self.lease_statements.need_step(&mut script);
            }
            self.statements.begin(&mut script, claim, self.lock_in(session, claim));
            let keeps = script.keeps();
            match script.send(connection).await {
                Err(error) if keeps && is_prepared_elsewhere(&error) => {
                    self.stop_preparing(&error);
                    message(connection, "ROLLBACK").await?;
                }
                sent => return sent,
            }
        }
    }

    /// Tells whether a transaction calls statements that are prepared in its session.
    ///
    /// That of a step does so only after its body, when it is late to find out that they are gone.
    fn keeps_in(&self, claim: &Claim<'_>) -> bool {
        match is_of_a_step(claim) {
            true => self.has_sessions(),
            false => self.keeps(),
        }
    }

    /// Tells whether statements stay prepared in their session, as far as anybody knows.
    fn keeps(&self) -> bool {
        !self.unprepared.load(Ordering::Relaxed)
    }

    /// Returns how the key is locked in this session.
    fn lock_in<'s>(&self, session: &'s mut Session, claim: &Claim<'_>) -> SessionLock<'s> {
        let number = claim.key.hash().at(self.place_in(session)).lock_number();
        let Session { lock_timeout, claimed, snapshots, .. } = session;
        *claimed = self.has_sessions().then_some(number);
        // A statement that waits for the lock fixes what such a transaction sees, and so before it has the lock. Where there
        // is a record, its primary key refuses a run that has seen too little; where none is kept, nothing would.
        let ahead = *snapshots && claim.lock == KeyLock::Key && !claim.records;
        SessionLock { number, lock_timeout, ahead }
    }

    /// Returns the place of the records in this session.
    fn place_in(&self, session: &mut Session) -> u64 {
        let Session { schema, place, .. } = session;
        *place.get_or_insert_with(|| self.statements.place(schema))
    }

    /// Returns what tells that a claim of the key has ended.
    fn bell_in(&self, session: &mut Session, key: KeyHash) -> Bell {
        Bell::new(key, self.place_in(session))
    }

    /// Waits for the lock of the key inside the transaction, and reads again under it.
    async fn wait(
        &self,
        connection: &mut Leased<Postgres>,
        claim: &Claim<'_>,
    ) -> Result<Vec<PgRow>, sqlx::Error> {
        let session = connection.session();
        let mut script = Script::to(session, self.keeps_in(claim));
        self.statements.wait(&mut script, claim, self.lock_in(session, claim));
        script.send(connection).await
    }

    /// Ends a transaction that could not lock all that it had to, and tells which lock was held.
    async fn given_up(
        &self,
        mut connection: Leased<Postgres>,
        claim: &Claim<'_>,
    ) -> Result<Begun<Postgres>, sqlx::Error> {
        let SessionLock { number, ahead, .. } = self.lock_in(connection.session(), claim);
        let begun = match claim.row {
            None => {
                message(&mut connection, "ROLLBACK").await?;
                Begun::Busy
            }
            // What does not wait asks for the row only where it has the key.
            Some(_) if claim.wait.is_zero() || claim.lock == KeyLock::None => {
                message(&mut connection, "ROLLBACK").await?;
                Begun::RowBusy
            }
            // Of a message that has failed nobody sees how far it came. If the key is free now, it was had.
            Some(_) => {
                let sql = format!("ROLLBACK; SELECT pg_try_advisory_xact_lock({number}) AS idem_locked");
                let rows = message(&mut connection, sql).await?;
                let is_free = rows.last().map_or(Ok(false), |row| row.try_get::<bool, _>("idem_locked"))?;
                if is_free { Begun::RowBusy } else { Begun::Busy }
            }
        };
        // Cut off between its two transactions, the session may still have the lock.
        if !ahead {
            connection.give_back();
        }
        Ok(begun)
    }

    fn stop_preparing(&self, error: &sqlx::Error) {
        info!(%error, "prepared statements do not stay with their session here; going on without them");
        self.unprepared.store(true, Ordering::Relaxed);
    }

    fn open(&self, connection: Leased<Postgres>, claim: &Claim<'_>, read: Read) -> Begun<Postgres> {
        let tx = PostgresTx {
            connection,
            statements: Arc::clone(&self.statements),
            lease_statements: Arc::clone(&self.lease_statements),
            prepared: self.keeps_in(claim),
            expired: read.expired,
            works: read.found == Found::Absent,
        };
        Begun::Open { tx: Box::new(tx), found: read.found }
    }
}

impl SqlDatabase for Postgres {
    fn store(pool: PgPool, settings: Settings) -> Result<Arc<dyn Store<Self>>, StoreError> {
        Ok(Arc::new(PostgresStore::new(pool, settings)))
    }
}

impl Database for Postgres {
    type Connection = PgConnection;
}

/// How a key is locked in a session.
#[derive(Clone, Copy)]
struct SessionLock<'s> {
    /// The advisory lock.
    number: i64,
    /// The `lock_timeout` to put back.
    lock_timeout: &'s str,
    /// The key is locked before the transaction of the run begins.
    ahead: bool,
}

/// What the store knows about a session.
pub(super) struct Session {
    /// The `lock_timeout` that the session came with, as PostgreSQL writes it.
    lock_timeout: String,
    /// A transaction sees the database as of its first statement all the time: the session came with an isolation
    /// stricter than READ COMMITTED.
    snapshots: bool,
    /// The statements that it has prepared.
    prepared: Vec<u32>,
    /// The schema that unqualified names are in.
    schema: String,
    /// The place of the records, once it was needed.
    place: Option<u64>,
    /// The server's number of the session.
    pid: i32,
    /// The lock of the last key that the session was asked to lock, if the session is one of the server's.
    claimed: Option<i64>,
}

#[async_trait]
impl Driver for Postgres {
    type Session = Session;

    async fn set_up(connection: &mut PgConnection) -> Result<Session, sqlx::Error> {
        // sqlx counts this transaction for ever; the server ends it right below.
        std::mem::forget(connection.begin().await?);
        let rows = message(
            connection,
            "COMMIT; SELECT current_setting('lock_timeout') AS idem_lock_timeout, \
             current_setting('default_transaction_isolation') IN ('repeatable read', 'serializable') AS idem_snapshots, \
             coalesce(current_schema(), '') AS idem_schema, pg_backend_pid() AS idem_pid",
        )
        .await?;
        let row = rows.last().ok_or(sqlx::Error::RowNotFound)?;
        Ok(Session {
            lock_timeout: row.try_get("idem_lock_timeout")?,
            snapshots: row.try_get("idem_snapshots")?,
            prepared: Vec::new(),
            schema: row.try_get("idem_schema")?,
            place: None,
            pid: row.try_get("idem_pid")?,
            claimed: None,
        })
    }

    fn idle(session: &mut Session) {
        session.claimed = None;
    }

    fn dropped(session: Session, pool: &PgPool) {
        // The server notices a closed connection only after the statement that it is busy with, and
        // keeps the transaction and its locks until then. It is ended only while it has to do with the
        // key: should there be a pooler that nobody has told of, the session may be somebody else's by now.
        let (Ok(runtime), Some(number)) = (tokio::runtime::Handle::try_current(), session.claimed) else {
            return;
        };
        let pool = pool.clone();
        runtime.spawn(async move {
            let sql = format!(
                "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE pid = {} AND locktype = 'advisory' \
                 AND (classid::bigint << 32 | objid::bigint) = {number} LIMIT 1",
                session.pid
            );
            if let Err(error) = sqlx::raw_sql(AssertSqlSafe(sql)).execute(&pool).await {
                debug!(pid = session.pid, %error, "ending a dropped session failed");
            }
        });
    }
}

#[async_trait]
impl Store<Postgres> for PostgresStore {
    fn name(&self) -> &'static str {
        "postgres"
    }

    async fn migrate(&self) -> Result<bool, StoreError> {
        let failed = |error| driver_error("migrating idem's tables", error);
        let mut connection = self.connections.lease_alive().await?;
        // A user that may not make tables can still find out that none are to be made.
        if let Ok(rows) = message(&mut connection, self.statements.migrated_version()).await {
            let applied = rows.first().and_then(|row| row.try_get::<i32, _>(0).ok()).unwrap_or(0);
            if is_up_to_date(applied.into(), &self.statements.migrations) {
                connection.give_back();
                return Ok(false);
            }
        }
        // A connection that fails anywhere in here is closed, which undoes everything.
        message(&mut connection, self.statements.migrate_begin()).await.map_err(failed)?;
        let rows = message(&mut connection, self.statements.migrated_version()).await.map_err(failed)?;
        let applied: i32 = rows[0].try_get(0).map_err(failed)?;
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
        message(&mut connection, "COMMIT").await.map_err(failed)?;
        connection.give_back();
        // Another process may have done it meanwhile.
        Ok(!is_up_to_date(applied.into(), &self.statements.migrations))
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
            rows.first().ok_or(sqlx::Error::RowNotFound).and_then(|row| row.try_get(0)).map_err(failed)?;
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
            let prepared = self.has_sessions();
            let mut connection = self.connections.lease().await?;
            let patience = connection.patience();
            let read = match prepared {
                true => {
                    let key = uuid::Uuid::from_bytes(*key.as_bytes());
                    let get = sqlx::query(self.statements.get.clone()).bind(key);
                    heard(patience, get.fetch_all(&mut *connection))
                        .await
                        .and_then(|rows| rows.first().map(read_row).transpose())
                }
                false => heard(patience, message(&mut connection, self.statements.get_text(key)))
                    .await
                    .and_then(|rows| rows.first().map(|row| read_packed(row.try_get(0)?)).transpose()),
            };
            match read {
                Ok(read) => {
                    connection.give_back();
                    return Ok(read.and_then(|read| match read.found {
                        Found::Record(record) => Some(record),
                        Found::Absent | Found::NoRow => None,
                    }));
                }
                Err(error) if connection.is_reused() && broke(&error) => {}
                Err(error) if prepared && is_prepared_elsewhere(&error) => self.stop_preparing(&error),
                Err(error) => return Err(failed(error)),
            }
        }
    }

    async fn begin(&self, claim: &Claim<'_>) -> Result<Begun<Postgres>, StoreError> {
        let failed = |error| driver_error("beginning a run", error);
        loop {
            let mut connection = self.connections.lease().await?;
            // With a row one message may wait for the key and then for that; without, none waits that is sent first.
            let waits = if claim.row.is_some() { 2 } else { 0 };
            let patience =
                connection.patience().map(|patience| patience.and(claim.wait.saturating_mul(waits)));
            let rows = match heard(patience, self.begin_on(&mut connection, claim)).await {
                Ok(rows) => rows,
                // Nothing has happened yet, so a connection that died while it stood idle costs only a new one.
                Err(error) if connection.is_reused() && broke(&error) => {
                    if !is_silence(&error) {
                        connection.session().claimed = None;
                    }
                    continue;
                }
                // Where there is no row, nothing that was sent waits for a lock of idem's.
                Err(error) if claim.row.is_some() && is_wait_over(&error, claim) => {
                    return self.given_up(connection, claim).await.map_err(failed);
                }
                Err(error) => return Err(failed(error)),
            };
            let read = read_rows(&rows, claim).map_err(failed)?;
            if read.locked || read.found != Found::Absent && read.found != Found::NoRow {
                return Ok(self.open(connection, claim, read));
            }
            if claim.wait.is_zero() {
                message(&mut connection, "ROLLBACK").await.map_err(failed)?;
                connection.give_back();
                return Ok(Begun::Busy);
            }
            return match self.wait(&mut connection, claim).await {
                Ok(rows) => {
                    let read = read_rows(&rows, claim).map_err(failed)?;
                    Ok(self.open(connection, claim, read))
                }
                Err(error) if is_wait_over(&error, claim) => {
                    self.given_up(connection, claim).await.map_err(failed)
                }
                Err(error) => Err(failed(error)),
            };
        }
    }

    async fn sweep(&self, cursor: Option<KeyHash>, limit: u32) -> Result<Swept, StoreError> {
        let failed = |error| driver_error("sweeping expired records", error);
        let mut connection = self.connections.lease_alive().await?;
        let sql = self.statements.sweep(cursor, limit);
        let rows = message(&mut connection, sql).await.map_err(failed)?;
        let row = &rows[0];
        connection.give_back();
        let seen: i64 = row.try_get("seen").map_err(failed)?;
        let deleted: i64 = row.try_get("deleted").map_err(failed)?;
        let last: Option<uuid::Uuid> = row.try_get("last").map_err(failed)?;
        let cursor = last.filter(|_| seen == i64::from(limit)).map(key_of_uuid);
        Ok(Swept { deleted: u64::try_from(deleted).unwrap_or(0), cursor })
    }
}

impl std::fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresStore").field("unprepared", &self.unprepared).finish_non_exhaustive()
    }
}

/// Tells whether a transaction is that of a step: only such a one neither locks nor reads.
fn is_of_a_step(claim: &Claim<'_>) -> bool {
    claim.lock == KeyLock::None && !claim.records
}

/// Sends SQL text, which may be several statements, as one message, and returns all its rows.
async fn message(connection: &mut PgConnection, sql: impl Into<Text>) -> Result<Vec<PgRow>, sqlx::Error> {
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

impl Read {
    fn of(record: Record, expired: Option<Epoch>) -> Self {
        let found = if expired.is_some() { Found::Absent } else { Found::Record(record) };
        Read { found, expired, locked: false }
    }
}

fn read_rows(rows: &[PgRow], claim: &Claim<'_>) -> Result<Read, sqlx::Error> {
    let mut read = Read { found: Found::Absent, expired: None, locked: claim.lock == KeyLock::None };
    let mut has_row = claim.row.is_none();
    for row in rows {
        match row.column(0).name() {
            // A lock that was waited for has no truth value, but a row.
            "idem_locked" => read.locked = row.try_get::<bool, _>(0).unwrap_or(true),
            "idem_record" => {
                let record = read_packed(row.try_get(0)?)?;
                read.found = record.found;
                read.expired = record.expired;
            }
            "idem_row" => has_row = true,
            _ => {}
        }
    }
    if read.found == Found::Absent && !has_row {
        read.found = Found::NoRow;
    }
    Ok(read)
}

fn read_row(row: &PgRow) -> Result<Read, sqlx::Error> {
    let record = read_record(row.try_get(0)?, row.try_get(1)?, row.try_get(2)?)?;
    let expired = row.try_get::<Option<bool>, _>(3)?.unwrap_or(false);
    // Nothing is written over what is read without a transaction.
    Ok(Read::of(record, expired.then_some(Epoch::NONE)))
}

/// Reads what [`Statements::get_text`] asks for.
fn read_packed(text: &str) -> Result<Read, sqlx::Error> {
    let record = || {
        let mut fields = text.split(' ');
        let outcome = fields.next()?.parse().ok()?;
        let fingerprint = fields.next()?.parse().ok()?;
        let result = bytes_of_hex(fields.next()?)?;
        let epoch = Epoch(fields.next()?.parse().ok()?);
        Some((outcome, fingerprint, result, (fields.next() == Some("t")).then_some(epoch)))
    };
    let (outcome, fingerprint, result, expired) =
        record().ok_or_else(|| sqlx::Error::Decode("a record is not in idem's own form".into()))?;
    Ok(Read::of(read_record(outcome, fingerprint, result)?, expired))
}

fn key_of_uuid(uuid: uuid::Uuid) -> KeyHash {
    KeyHash::from_bytes(*uuid.as_bytes())
}

fn bytes_of_hex(digits: &str) -> Option<Vec<u8>> {
    let value = |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
    let byte = |pair: &[u8]| match pair {
        [high, low] => Some(value(*high)? << 4 | value(*low)?),
        _ => None,
    };
    digits.as_bytes().chunks(2).map(byte).collect()
}

fn sqlstate(error: &sqlx::Error) -> Option<String> {
    error.as_database_error().and_then(|error| error.code()).map(|code| code.into_owned())
}

/// Tells whether a prepared statement was missing, or there already: the session is not ours alone.
fn is_prepared_elsewhere(error: &sqlx::Error) -> bool {
    matches!(sqlstate(error).as_deref(), Some("26000" | "42P05"))
}

fn is_lock_timeout(error: &sqlx::Error) -> bool {
    // The second is the session's own limit on a statement.
    matches!(sqlstate(error).as_deref(), Some("55P03" | "57014"))
}

/// Tells whether a begin has ended because a lock was not to be had in time.
///
/// A begin that does not wait is cut off by a limit on its statements, or by hand, for reasons that say nothing of a lock.
fn is_wait_over(error: &sqlx::Error, claim: &Claim<'_>) -> bool {
    match claim.wait.is_zero() {
        true => sqlstate(error).as_deref() == Some("55P03"),
        false => is_lock_timeout(error),
    }
}

/// Writes a duration as PostgreSQL's `lock_timeout` takes it; never zero, which would mean for ever.
fn lock_timeout_millis(wait: Duration) -> i32 {
    i32::try_from(wait.as_millis()).unwrap_or(i32::MAX).max(1)
}
