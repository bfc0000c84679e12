//! The address of a database, for programs whose workers are processes of their own.

use std::str::FromStr;

use anyhow::Context as _;
use tempfile::TempDir;

/// The address of a database that idem has a store for, and that processes can share.
#[derive(Debug, Clone)]
pub struct DatabaseUrl {
    kind: Kind,
    text: String,
}

/// A database system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A SQLite file.
    Sqlite,
    /// A PostgreSQL server.
    Postgres,
    /// A MySQL or MariaDB server.
    MySql,
}

impl DatabaseUrl {
    /// Returns the address of a SQLite file.
    pub fn sqlite(file: &str) -> Self {
        let path = file.replace('%', "%25").replace('?', "%3F");
        DatabaseUrl { kind: Kind::Sqlite, text: format!("sqlite://{path}") }
    }

    /// Returns the address that was asked for, or that of a new SQLite file, which goes with its `folder`.
    ///
    /// # Errors
    ///
    /// There is no place for temporary files.
    pub fn or_temporary(
        asked: Option<Self>,
        program: &str,
        folder: &mut Option<TempDir>,
    ) -> anyhow::Result<Self> {
        if let Some(asked) = asked {
            return Ok(asked);
        }
        let prefix = format!("idem-{program}-");
        let made = tempfile::Builder::new().prefix(&prefix).tempdir().context("making a folder")?;
        let file = folder.insert(made).path().join(format!("{program}.sqlite"));
        let file = file.to_str().context("the folder for temporary files has a name that is not UTF-8")?;
        Ok(DatabaseUrl::sqlite(file))
    }

    /// Returns the database system.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Returns the name of the database system.
    pub fn name(&self) -> &'static str {
        match self.kind {
            Kind::Sqlite => "SQLite",
            Kind::Postgres => "PostgreSQL",
            Kind::MySql => "MySQL",
        }
    }

    /// Returns the URL.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl FromStr for DatabaseUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (scheme, rest) = text.split_once(':').ok_or("a URL begins with a scheme, such as `sqlite://`")?;
        let kind = match scheme {
            "sqlite" => Kind::Sqlite,
            "postgres" | "postgresql" => Kind::Postgres,
            "mysql" | "mariadb" => Kind::MySql,
            _ => {
                return Err(format!("cannot use `{scheme}`; write sqlite://FILE, postgres://… or mysql://…"));
            }
        };
        if matches!(kind, Kind::Sqlite) && (rest.contains(":memory:") || rest.contains("mode=memory")) {
            return Err(String::from(
                "the workers are processes, which share no memory; write sqlite://FILE",
            ));
        }
        Ok(DatabaseUrl { kind, text: text.to_owned() })
    }
}
