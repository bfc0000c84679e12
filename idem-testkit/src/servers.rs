//! The database servers that tests may run on.
//!
//! `scripts/servers` starts them and sets one variable for each. Where a variable is not set and the programs of
//! PostgreSQL or MariaDB are installed, a test process starts a private server at its first use: it listens on
//! loopback, does not wait for the disk, serves all tests of the process and goes with it, however the process ends.
//! What was left out is never left unsaid: [`untested`] lists it, and when `IDEM_REQUIRE` (a comma list such as
//! `sqlite,postgres`) asks for a server that is not there, the test fails.
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

use crate::code::Code;

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
    /// Redis, for queues that are not in the database.
    Redis,
}

impl Server {
    /// Every server, in the order of the reports.
    pub const ALL: [Self; 4] = [Self::Postgres, Self::MySql, Self::PgBouncer, Self::Redis];

    /// Returns the server's address, or `None` if it is neither there nor asked for.
    ///
    /// If its variable is missing or empty, this starts the private server of the process, which takes some tenths of
    /// a second, or returns its address. The database that the address names is shared by all tests: make a schema or a
    /// database of your own in it, or let a [`Lab`](crate::lab::Lab) do it.
    ///
    /// # Panics
    ///
    /// If `IDEM_REQUIRE` lists this server and it can be neither found nor started, and if `IDEM_REQUIRE` has a name
    /// that is no server's: a server that was asked for and is not there must not look like a passed test.
    pub fn url(self) -> Option<String> {
        self.find().ok().map(|found| found.url().to_owned())
    }

    /// Finds or starts the server, or says why it is not there although nobody asked for it.
    pub(crate) fn find(self) -> Result<Found, String> {
        Surroundings::from_env()
            .and_then(|surroundings| surroundings.find(self))
            .unwrap_or_else(|why| panic!("{why} [{}]", Code::Server))
    }

    /// Returns the name in `IDEM_REQUIRE`, which is also how the server is displayed.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::MySql => "mysql",
            Self::PgBouncer => "pgbouncer",
            Self::Redis => "redis",
        }
    }

    /// Returns the name of the environment variable with the server's address.
    pub const fn variable(self) -> &'static str {
        match self {
            Self::Postgres => "IDEM_TEST_POSTGRES",
            Self::MySql => "IDEM_TEST_MYSQL",
            Self::PgBouncer => "IDEM_TEST_PGBOUNCER",
            Self::Redis => "IDEM_TEST_REDIS",
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

/// Where a server is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found<P = &'static Private> {
    /// At the URL that its variable has.
    Named(String),
    /// It is this process's own.
    Private(P),
}

#[cfg(unix)]
pub(crate) use crate::private::Private;

/// There are no private servers: what keeps them from outliving the tests is made for Unix.
#[cfg(not(unix))]
#[derive(Debug)]
pub(crate) enum Private {}

#[cfg(not(unix))]
impl Private {
    pub(crate) fn url(&self) -> &str {
        match *self {}
    }

    #[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
    pub(crate) fn keep(&self) -> std::io::Result<&str> {
        match *self {}
    }
}

impl Found {
    pub(crate) fn url(&self) -> &str {
        match self {
            Self::Named(url) => url,
            Self::Private(server) => server.url(),
        }
    }
}

/// Starts the private server of this process, or returns it.
fn start(server: Server) -> Result<&'static Private, String> {
    #[cfg(unix)]
    match server {
        Server::Postgres => return crate::private::postgres().map_err(str::to_owned),
        Server::MySql => return crate::private::mysql().map_err(str::to_owned),
        Server::PgBouncer | Server::Redis => {}
    }
    Err(format!("{server} is never started by a test"))
}

/// The part of the environment that decides; apart from it, so that the rules can be tested without changing it.
struct Surroundings<V, S> {
    require: String,
    variable: V,
    start: S,
}

type Start = fn(Server) -> Result<&'static Private, String>;

impl Surroundings<fn(&str) -> Result<String, String>, Start> {
    fn from_env() -> Result<Self, String> {
        Ok(Self { require: read_env("IDEM_REQUIRE")?, variable: read_env, start })
    }
}

impl<V, S, P> Surroundings<V, S>
where
    V: Fn(&str) -> Result<String, String>,
    S: Fn(Server) -> Result<P, String>,
{
    /// Fails if the server must be there and is not; the inner error says why one that need not be there is not.
    fn find(&self, server: Server) -> Result<Result<Found<P>, String>, String> {
        let required = required(&self.require)?;
        let url = (self.variable)(server.variable())?;
        if !url.is_empty() {
            return Ok(Ok(Found::Named(url)));
        }
        match (self.start)(server) {
            Ok(private) => Ok(Ok(Found::Private(private))),
            Err(why) if required.contains(&server) => Err(format!(
                "`IDEM_REQUIRE` asks for {server}, but `{}` is not set, and {why}; run the tests with scripts/test",
                server.variable(),
            )),
            Err(why) => Ok(Err(why)),
        }
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

    /// Looks for PostgreSQL where only `there` is running, and where `installed` says whether it can be started.
    fn look(require: &str, there: &[Server], installed: bool) -> Result<Result<Found<()>, String>, String> {
        Surroundings {
            require: require.to_owned(),
            variable: |name: &str| {
                let set = there.iter().any(|server| server.variable() == name);
                Ok(if set { URL } else { "" }.to_owned())
            },
            start: |_| if installed { Ok(()) } else { Err(String::from("it is not installed")) },
        }
        .find(Server::Postgres)
    }

    #[test]
    fn a_server_that_nobody_asked_for_may_be_missing() {
        let missing = Ok(Err(String::from("it is not installed")));
        assert_eq!(look("", &[], false), missing);
        assert_eq!(look("sqlite", &[], false), missing);
        assert_eq!(look("sqlite,mysql", &[Server::MySql], false), missing);
    }

    #[test]
    fn a_server_that_is_there_is_used_whether_asked_for_or_not() {
        let named = Ok(Ok(Found::Named(URL.to_owned())));
        for installed in [false, true] {
            assert_eq!(look("", &[Server::Postgres], installed), named);
            assert_eq!(look(" sqlite , postgres ,", &[Server::Postgres], installed), named);
        }
    }

    #[test]
    fn a_server_that_is_installed_is_started_whether_asked_for_or_not() {
        for require in ["", "sqlite", "postgres"] {
            assert_eq!(look(require, &[Server::MySql], true), Ok(Ok(Found::Private(()))));
        }
    }

    #[test]
    fn a_server_that_was_asked_for_must_be_there() {
        let why = look("sqlite,postgres", &[Server::MySql], false).expect_err("postgres is missing");
        assert!(why.contains("postgres") && why.contains("IDEM_TEST_POSTGRES"));
        assert!(why.contains("it is not installed") && why.contains("scripts/test"), "{why}");
    }

    #[test]
    fn a_name_that_is_no_server_is_an_error_even_if_all_are_there() {
        let why = look("postgress", &Server::ALL, true).expect_err("there is no such server");
        assert!(why.contains("`postgress`"), "{why}");
    }
}
