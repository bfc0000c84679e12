//! How another process finds a throw-away database.

use super::{Lab, LabDatabase, OptionsOf};

/// Tells another process of the same test where a throw-away database is.
///
/// The server's address is not a part of it: the other process has the same environment.
#[doc(hidden)]
pub trait Attach: sqlx::Database {
    /// Names the database.
    fn place(options: &OptionsOf<Self>) -> String;

    /// Returns how to connect to the database of that name; `None` if its server is not there.
    fn at(place: &str) -> Option<OptionsOf<Self>>;
}

impl<D: LabDatabase> Lab<D> {
    /// Names this database for another process.
    pub(crate) fn place(&self) -> String {
        D::place(&self.options)
    }

    /// Works on a database that belongs to another process, and is not removed here.
    pub(crate) fn attached(place: &str) -> Option<Self> {
        D::at(place).map(|options| Lab { options, folder: None })
    }
}

#[cfg(feature = "sqlite")]
impl Attach for sqlx::Sqlite {
    fn place(options: &OptionsOf<Self>) -> String {
        options.get_filename().display().to_string()
    }

    fn at(place: &str) -> Option<OptionsOf<Self>> {
        let wal = sqlx::sqlite::SqliteJournalMode::Wal;
        Some(sqlx::sqlite::SqliteConnectOptions::new().filename(place).journal_mode(wal))
    }
}

#[cfg(feature = "postgres")]
impl Attach for sqlx::Postgres {
    fn place(options: &OptionsOf<Self>) -> String {
        let settings = options.get_options().unwrap_or_default();
        let schema = settings.split_once("search_path=").map(|(_, schema)| schema).unwrap_or_default();
        schema.split_whitespace().next().unwrap_or_default().to_owned()
    }

    fn at(place: &str) -> Option<OptionsOf<Self>> {
        let url = crate::servers::Server::Postgres.url()?;
        let options: OptionsOf<Self> = url.parse().expect("IDEM_TEST_POSTGRES is a URL");
        Some(options.options([("search_path", place)]))
    }
}

#[cfg(feature = "mysql")]
impl Attach for sqlx::MySql {
    fn place(options: &OptionsOf<Self>) -> String {
        options.get_database().unwrap_or_default().to_owned()
    }

    fn at(place: &str) -> Option<OptionsOf<Self>> {
        let url = crate::servers::Server::MySql.url()?;
        let options: OptionsOf<Self> = url.parse().expect("IDEM_TEST_MYSQL is a URL");
        Some(options.database(place))
    }
}
