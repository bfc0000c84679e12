//! How the errors of sqlx and the databases are read.

use std::error::Error as StdError;

use sqlx::error::DatabaseError;

use crate::error::{StoreError, StoreErrorKind};

/// Turns an error of the driver into one that says what idem was doing, what kind of error it is and
/// whether another try may help.
pub(in crate::store) fn driver_error(doing: &str, error: sqlx::Error) -> StoreError {
    let (kind, temporary) = read(&error);
    let advice = match kind {
        StoreErrorKind::NotMigrated => {
            "; idem's tables are not in the database and schema that the pool is connected to, so nothing was recorded: call \
             `Idem::migrate` at start-up, or run the SQL of `Idem::migration_sql`; if that was done, compare the pool's URL, \
             `Builder::schema` and `Builder::table_prefix`"
        }
        StoreErrorKind::ReadOnly => {
            "; nothing was changed; give idem a pool of the primary, as a user that may write"
        }
        StoreErrorKind::Exhausted => {
            "; nothing was done: the server accepts no connection, or all those of the pool are in use; look at the pool's \
             host and port, allow more with `PoolOptions::max_connections`, and run it again"
        }
        StoreErrorKind::Conflict => "; the transaction is undone; run it again",
        StoreErrorKind::Unavailable if temporary => {
            "; the server is out of reach or went away; run it again when it answers, and look at the pool's host and port if \
             it never does"
        }
        StoreErrorKind::Unavailable => {
            "; look at the pool's URL, its options for TLS and its file (`create_if_missing` makes one of SQLite), and close \
             the pool only after the last run"
        }
        StoreErrorKind::Misconfigured => {
            "; nothing was done; correct the pool's URL or options (host, user, password, database), or create what they name"
        }
        _ => "",
    };
    let made = StoreError::new(kind, format!("{doing} failed: {error}{advice}")).caused_by(error);
    if temporary { made.temporary() } else { made }
}

/// Says why what `lock = row(table.column = …)` names could not be looked at: most often the database does not have it.
pub(in crate::store) fn unknown_row(table: &str, column: &str, error: sqlx::Error) -> StoreError {
    if !matches!(error, sqlx::Error::Database(_)) || temporary(&error) {
        return driver_error("checking the table of `lock = row(...)`", error);
    }
    let text = format!(
        "`lock = row({table}.{column} = …)` cannot lock: {error}; write the table and the column as the database has them, or \
         `lock = row` to lock the key alone"
    );
    StoreError::new(StoreErrorKind::UnknownRow, text).caused_by(error)
}

/// Tells whether another try may help after this error.
pub(in crate::store) fn temporary(error: &sqlx::Error) -> bool {
    read(error).1
}

/// Tells whether the connection broke, so that nobody knows what became of the statement.
pub(in crate::store) fn broke(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) | sqlx::Error::WorkerCrashed => {
            true
        }
        sqlx::Error::Database(error) => ended_the_session(&**error),
        _ => false,
    }
}

/// Finds the database's own report of a violated unique constraint behind a job's error.
pub(in crate::store) fn violated_constraint<'e>(
    error: &'e (dyn StdError + Send + Sync + 'static),
) -> Option<&'e dyn DatabaseError> {
    let mut next: Option<&'e (dyn StdError + 'static)> = Some(error);
    let mut chain = std::iter::from_fn(|| {
        let link = next?;
        next = link.source();
        Some(link)
    });
    chain.find_map(database_error).filter(|error| error.is_unique_violation())
}

/// Reads one link of a chain as the database's report. A `#[error(transparent)]` around sqlx's error
/// hides that error and shows only its source.
fn database_error<'e>(error: &'e (dyn StdError + 'static)) -> Option<&'e dyn DatabaseError> {
    match error.downcast_ref::<sqlx::Error>() {
        Some(error) => error.as_database_error(),
        None => error.downcast_ref::<Box<dyn DatabaseError>>().map(|error| &**error),
    }
}

fn read(error: &sqlx::Error) -> (StoreErrorKind, bool) {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::Protocol(_) | sqlx::Error::WorkerCrashed => {
            (StoreErrorKind::Unavailable, true)
        }
        sqlx::Error::PoolTimedOut => (StoreErrorKind::Exhausted, true),
        sqlx::Error::PoolClosed | sqlx::Error::Tls(_) => (StoreErrorKind::Unavailable, false),
        sqlx::Error::Configuration(_) => (StoreErrorKind::Misconfigured, false),
        sqlx::Error::Database(error) => read_database(&**error),
        _ => (StoreErrorKind::Refused, false),
    }
}

fn read_database(error: &dyn DatabaseError) -> (StoreErrorKind, bool) {
    #[cfg(feature = "postgres")]
    if let Some(error) = error.try_downcast_ref::<sqlx::postgres::PgDatabaseError>() {
        return read_postgres(error.code());
    }
    #[cfg(feature = "mysql")]
    if let Some(error) = error.try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>() {
        return read_mysql(error.number());
    }
    #[cfg(feature = "sqlite")]
    if let Some(error) = error.try_downcast_ref::<sqlx::sqlite::SqliteError>() {
        return read_sqlite(error);
    }
    let _ = error;
    (StoreErrorKind::Refused, false)
}

#[cfg(feature = "postgres")]
fn read_postgres(code: &str) -> (StoreErrorKind, bool) {
    match code {
        // Serialization failure, deadlock, lock not available.
        "40001" | "40P01" | "55P03" => (StoreErrorKind::Conflict, true),
        "42P01" | "3F000" => (StoreErrorKind::NotMigrated, false),
        // A database that does not exist, and a user or a password that is refused.
        "3D000" | "28000" | "28P01" => (StoreErrorKind::Misconfigured, false),
        "25006" => (StoreErrorKind::ReadOnly, false),
        // Too many connections, and a server that starts or stops.
        "57P01" | "57P02" | "57P03" | "57P05" | "25P03" | "25P04" => (StoreErrorKind::Unavailable, true),
        // A statement that took longer than the session allows.
        "57014" => (StoreErrorKind::Conflict, true),
        code if code.starts_with("08") || code.starts_with("53") => (StoreErrorKind::Unavailable, true),
        _ => (StoreErrorKind::Refused, false),
    }
}

#[cfg(feature = "mysql")]
fn read_mysql(number: u16) -> (StoreErrorKind, bool) {
    match number {
        // Lock wait timeout, deadlock, and MariaDB's "record has changed since last read".
        1205 | 3572 | 1213 | 1020 => (StoreErrorKind::Conflict, true),
        // A statement that was interrupted, or took longer than the session allows.
        1317 | 1969 | 3024 => (StoreErrorKind::Conflict, true),
        1146 => (StoreErrorKind::NotMigrated, false),
        // A database that does not exist, and a user or a password that is refused.
        1049 | 1044 | 1045 => (StoreErrorKind::Misconfigured, false),
        1290 | 1792 | 1836 => (StoreErrorKind::ReadOnly, false),
        // Too many connections, and a server that stops or ended the session.
        1040 | 1203 | 1053 | 1927 | 3168 | 4031 => (StoreErrorKind::Unavailable, true),
        // A node of a Galera cluster that does not work at the time, and a user who has had enough for an hour.
        1047 | 1226 => (StoreErrorKind::Unavailable, true),
        _ => (StoreErrorKind::Refused, false),
    }
}

#[cfg(feature = "sqlite")]
fn read_sqlite(error: &sqlx::sqlite::SqliteError) -> (StoreErrorKind, bool) {
    // The extended codes carry the primary one in their low byte.
    let primary = error.code().and_then(|code| code.parse::<u32>().ok()).map(|code| code & 0xff);
    match primary {
        // Busy, and locked by another connection of a shared cache.
        Some(5 | 6) => (StoreErrorKind::Conflict, true),
        Some(8) => (StoreErrorKind::ReadOnly, false),
        Some(14) => (StoreErrorKind::Unavailable, false),
        Some(1) if error.message().starts_with("no such table") => (StoreErrorKind::NotMigrated, false),
        _ => (StoreErrorKind::Refused, false),
    }
}

/// Tells whether a server that reports this error has closed the session, perhaps after a commit.
fn ended_the_session(error: &dyn DatabaseError) -> bool {
    #[cfg(feature = "postgres")]
    if let Some(error) = error.try_downcast_ref::<sqlx::postgres::PgDatabaseError>() {
        use sqlx::postgres::PgSeverity;
        return matches!(error.severity(), PgSeverity::Fatal | PgSeverity::Panic);
    }
    #[cfg(feature = "mysql")]
    if let Some(error) = error.try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>() {
        return matches!(error.number(), 1053 | 1317 | 1927 | 3168 | 4031);
    }
    let _ = error;
    false
}
