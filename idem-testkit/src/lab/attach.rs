//! How another process finds a throw-away database.

#[cfg(any(feature = "postgres", feature = "mysql"))]
use sqlx::ConnectOptions as _;

use super::{AtomicBool, Home, Lab, LabDatabase, OptionsOf};

/// Tells another process of the same test where a throw-away database is.
///
/// The other process cannot look for the server itself: this one may have started a server of its own.
#[doc(hidden)]
pub trait Attach: sqlx::Database {
    /// Says where the database is. The text may hold a password: it is for a process that this one starts.
    fn place(options: &OptionsOf<Self>) -> String;

    /// Returns how to connect to the database there; `None` if this is no place of such a database.
    fn at(place: &str) -> Option<OptionsOf<Self>>;
}

impl<D: LabDatabase> Lab<D> {
    /// Names this database for another process.
    pub(crate) fn place(&self) -> String {
        D::place(&self.options)
    }

    /// Works on a database that belongs to another process, and is not removed here.
    pub(crate) fn attached(place: &str) -> Option<Self> {
        let options = D::at(place)?;
        let (home, kept) = (Home::Elsewhere, AtomicBool::new(false));
        Some(Lab { options, address: String::from("elsewhere"), home, kept })
    }
}

#[cfg(feature = "sqlite")]
impl Attach for sqlx::Sqlite {
    fn place(options: &OptionsOf<Self>) -> String {
        options.get_filename().display().to_string()
    }

    fn at(place: &str) -> Option<OptionsOf<Self>> {
        // What a process has written outlasts it without waiting for the disk; no lab outlasts the machine.
        let (wal, off) = (sqlx::sqlite::SqliteJournalMode::Wal, sqlx::sqlite::SqliteSynchronous::Off);
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(place);
        Some(options.journal_mode(wal).synchronous(off))
    }
}

#[cfg(feature = "postgres")]
impl Attach for sqlx::Postgres {
    fn place(options: &OptionsOf<Self>) -> String {
        let mut url = options.to_url_lossy();
        // What is lost in between are the settings, with the schema.
        if let Some(settings) = options.get_options() {
            url.query_pairs_mut().append_pair("options", settings);
        }
        url.into()
    }

    fn at(place: &str) -> Option<OptionsOf<Self>> {
        place.parse().ok()
    }
}

#[cfg(feature = "mysql")]
impl Attach for sqlx::MySql {
    fn place(options: &OptionsOf<Self>) -> String {
        options.to_url_lossy().into()
    }

    fn at(place: &str) -> Option<OptionsOf<Self>> {
        place.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goes to another process and back, as far as what is shown of options tells.
    #[cfg(any(feature = "postgres", feature = "mysql"))]
    fn check_found_again<D: Attach>(options: OptionsOf<D>) {
        let there = D::at(&D::place(&options)).expect("it is a place");
        assert_eq!(format!("{there:?}"), format!("{options:?}"));
    }

    #[cfg(feature = "sqlite")]
    #[test]
    fn a_file_is_found_again() {
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename("/a folder/lab.db");
        let there = <sqlx::Sqlite as Attach>::at(&<sqlx::Sqlite as Attach>::place(&options));
        assert_eq!(there.expect("it is a place").get_filename(), options.get_filename());
    }

    #[cfg(feature = "postgres")]
    #[test]
    fn a_schema_is_found_again() {
        let url = "postgres://idem:p%40ss@127.0.0.1:5544/tests";
        let options: OptionsOf<sqlx::Postgres> = url.parse().expect("it is a URL");
        check_found_again::<sqlx::Postgres>(options.options([("search_path", "idem_lab_1")]));
    }

    #[cfg(feature = "mysql")]
    #[test]
    fn a_database_is_found_again() {
        let url = "mysql://idem:p%40ss@127.0.0.1:3344/tests";
        let options: OptionsOf<sqlx::MySql> = url.parse().expect("it is a URL");
        check_found_again::<sqlx::MySql>(options.database("idem_lab_1"));
    }
}
