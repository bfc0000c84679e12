//! The database servers that tests may run on.
//!
//! `scripts/servers` starts them and sets one variable for each; a plain `cargo test` has none of them, and its tests
//! run on SQLite and in memory alone. What was left out is never left unsaid: [`untested`] lists it, and when
//! `IDEM_REQUIRE` (a comma list such as `sqlite,postgres`) asks for a server that is not there, the test fails.
//!
//! ```
//! use idem_testkit::servers::Server;
//!
//! let Some(url) = Server::Postgres.url() else {
//!     println!("skipped on {}: no server", Server::Postgres);
//!     return;
//! };
//! assert!(url.starts_with("postgres://"));
//! ```

use std::{
    env::{self, VarError},
    fmt,
};

/// A database server that a test can run on.
///
/// SQLite is not among them: it is built in, and always there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Server {
    /// PostgreSQL, reached directly, as a superuser.
    Postgres,
    /// MariaDB or MySQL, as a user with all privileges.
    MySql,
    /// The same PostgreSQL behind PgBouncer in transaction pooling mode: what a session sets may be gone, or somebody
    /// else's, in the next transaction.
    PgBouncer,
}

impl Server {
    /// Every server, in the order of the reports.
    pub const ALL: [Self; 3] = [Self::Postgres, Self::MySql, Self::PgBouncer];

    /// Returns the server's address, or `None` if it is neither there nor asked for.
    ///
    /// The database that it names is shared by all tests of the run: make a schema or a database of your own in it.
    ///
    /// # Panics
    ///
    /// If `IDEM_REQUIRE` lists this server and its variable is missing or empty, and if `IDEM_REQUIRE` has a name that
    /// is no server's: a server that was asked for and is not there must not look like a passed test.
    pub fn url(self) -> Option<String> {
        Surroundings::from_env()
            .and_then(|surroundings| surroundings.url(self))
            .unwrap_or_else(|why| panic!("{why}"))
    }

    /// Returns the name in `IDEM_REQUIRE`, which is also how the server is displayed.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::MySql => "mysql",
            Self::PgBouncer => "pgbouncer",
        }
    }

    /// Returns the name of the environment variable with the server's address.
    pub const fn variable(self) -> &'static str {
        match self {
            Self::Postgres => "IDEM_TEST_POSTGRES",
            Self::MySql => "IDEM_TEST_MYSQL",
            Self::PgBouncer => "IDEM_TEST_PGBOUNCER",
        }
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Returns the servers that this run of the tests does without.
///
/// # Panics
///
/// As [`Server::url`] does, for any of the servers.
pub fn untested() -> Vec<Server> {
    Server::ALL.into_iter().filter(|server| server.url().is_none()).collect()
}

/// The part of the environment that decides; apart from it, so that the rules can be tested without changing it.
struct Surroundings<V> {
    require: String,
    variable: V,
}

impl Surroundings<fn(&str) -> Result<String, String>> {
    fn from_env() -> Result<Self, String> {
        Ok(Self { require: read_env("IDEM_REQUIRE")?, variable: read_env })
    }
}

impl<V: Fn(&str) -> Result<String, String>> Surroundings<V> {
    fn url(&self, server: Server) -> Result<Option<String>, String> {
        let required = required(&self.require)?;
        let url = (self.variable)(server.variable())?;
        if !url.is_empty() {
            return Ok(Some(url));
        }
        if required.contains(&server) {
            return Err(format!(
                "`IDEM_REQUIRE` asks for {server}, but `{}` is not set; run the tests with scripts/test",
                server.variable(),
            ));
        }
        Ok(None)
    }
}

fn required(list: &str) -> Result<Vec<Server>, String> {
    list.split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty() && *name != "sqlite")
        .map(|name| {
            Server::ALL.into_iter().find(|server| server.name() == name).ok_or_else(|| {
                format!(
                    "`IDEM_REQUIRE` asks for `{name}`, which is none of sqlite, postgres, mysql, pgbouncer; \
                         scripts/test sets it"
                )
            })
        })
        .collect()
}

/// Reads a variable; one that is not set is empty.
fn read_env(name: &str) -> Result<String, String> {
    match env::var(name) {
        Ok(value) => Ok(value),
        Err(VarError::NotPresent) => Ok(String::new()),
        Err(VarError::NotUnicode(_)) => Err(format!("`{name}` is not UTF-8; scripts/test sets it")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const URL: &str = "postgres://idem@127.0.0.1:1/idem";

    /// Looks for PostgreSQL where only `there` is running.
    fn look(require: &str, there: &[Server]) -> Result<Option<String>, String> {
        Surroundings {
            require: require.to_owned(),
            variable: |name: &str| {
                let set = there.iter().any(|server| server.variable() == name);
                Ok(if set { URL } else { "" }.to_owned())
            },
        }
        .url(Server::Postgres)
    }

    #[test]
    fn a_server_that_nobody_asked_for_may_be_missing() {
        assert_eq!(look("", &[]), Ok(None));
        assert_eq!(look("sqlite", &[]), Ok(None));
        assert_eq!(look("sqlite,mysql", &[Server::MySql]), Ok(None));
    }

    #[test]
    fn a_server_that_is_there_is_used_whether_asked_for_or_not() {
        assert_eq!(look("", &[Server::Postgres]), Ok(Some(URL.to_owned())));
        assert_eq!(look(" sqlite , postgres ,", &[Server::Postgres]), Ok(Some(URL.to_owned())));
    }

    #[test]
    fn a_server_that_was_asked_for_must_be_there() {
        let why = look("sqlite,postgres", &[Server::MySql]).expect_err("postgres is missing");
        assert!(why.contains("postgres") && why.contains("IDEM_TEST_POSTGRES"));
        assert!(why.contains("scripts/test"), "{why}");
    }

    #[test]
    fn a_name_that_is_no_server_is_an_error_even_if_all_are_there() {
        let why = look("postgress", &Server::ALL).expect_err("there is no such server");
        assert!(why.contains("`postgress`"), "{why}");
    }
}
