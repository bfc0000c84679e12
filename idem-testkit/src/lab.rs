//! Throw-away databases.
//!
//! A [`Lab`] is an SQLite file, or a schema or database of its own on a server that [`servers`](crate::servers) finds
//! or starts. It is ready in a few milliseconds, after the first one on a private server, for which that server starts.
//! It is removed when it is dropped; when the test fails it is kept, and its address is printed.
//!
//! ```
//! use idem_testkit::lab::{Lab, LabDatabase};
//! use sqlx::Sqlite;
//!
//! # #[tokio::main] async fn main() {
//! let lab: Lab<Sqlite> = Sqlite::lab().await.expect("SQLite is built in");
//! sqlx::raw_sql("CREATE TABLE charges (id INTEGER)").execute(&mut lab.connect().await).await.unwrap();
//! let tables = Sqlite::tables(&mut lab.connect().await, "idem_").await.unwrap();
//! assert_eq!(tables["charges"].rows.len(), 0);
//! # }
//! ```

mod attach;
#[cfg(any(feature = "postgres", feature = "mysql"))]
mod keeper;
mod trials;

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use idem_runtime::store::SqlDatabase;
use sqlx::{ConnectOptions as _, Pool, SqlSafeStr};

pub use self::attach::Attach;
pub use self::trials::Trials;
use crate::code::Code;
use crate::proxy::Proxy;
use crate::servers::Private;
use crate::tables::{self, Tables};
use crate::unique;

/// How to connect to a database.
pub type OptionsOf<D> = <<D as sqlx::Database>::Connection as sqlx::Connection>::Options;

/// A database that can be made for a test.
#[async_trait]
pub trait LabDatabase: SqlDatabase + Attach + Trials {
    /// The name of the database in reports and in `IDEM_REQUIRE`.
    const SHORT_NAME: &'static str;

    /// Whether transactions of several connections can write at once.
    const MANY_WRITERS: bool;

    /// SQL after which the leases of all claims are over, as if their time had passed.
    const LET_LEASES_LAPSE: &str;

    /// Makes an empty database, or says `None` if its server is not there; why it is not there goes to standard error.
    ///
    /// # Panics
    ///
    /// The server was asked for by `IDEM_REQUIRE` and is not there, or it refuses.
    async fn lab() -> Option<Lab<Self>>;

    /// Runs SQL text and returns how many rows came.
    ///
    /// # Errors
    ///
    /// The database's.
    async fn rows(
        connection: &mut <Self as sqlx::Database>::Connection,
        sql: impl SqlSafeStr + Send,
    ) -> Result<usize, sqlx::Error>;

    /// Puts a proxy in front of the server; `None` for a database without one.
    async fn proxy(options: &OptionsOf<Self>, delay: Duration) -> Option<(Proxy, OptionsOf<Self>)>;

    /// Reads every table of the lab, except those whose names start with `leave_out`: give the prefix of idem's own
    /// tables, or `""` for all tables. Views, and tables of other schemas, are not read.
    ///
    /// The tables are read one after another. What is written meanwhile may be in one and missing in the next, unless
    /// the connection is in a transaction that sees one moment.
    ///
    /// # Errors
    ///
    /// Those of the database.
    async fn tables(
        connection: &mut <Self as sqlx::Database>::Connection,
        leave_out: &str,
    ) -> Result<Tables, sqlx::Error>;

    /// Makes the database go on as if `by` rows more had been inserted in every table that numbers its rows, so that
    /// what runs next gets other ids than it got before.
    ///
    /// These are the sequences of the schema on PostgreSQL, `AUTO_INCREMENT` on MySQL and MariaDB, and `AUTOINCREMENT`
    /// on SQLite. SQLite's plain `INTEGER PRIMARY KEY` has no counter: the next id follows from the rows. Idem's own
    /// tables are among them. On MySQL and MariaDB this commits the transaction of the connection.
    ///
    /// # Errors
    ///
    /// Those of the database; a counter that would pass its end is one.
    async fn skip_ids(
        connection: &mut <Self as sqlx::Database>::Connection,
        by: u32,
    ) -> Result<(), sqlx::Error>;
}

/// A throw-away database, removed when it is dropped.
///
/// It is kept, and where it is and how to reach it is printed, if the thread that drops it is panicking or if
/// [`keep`](Self::keep) was called. A lab on a private server goes with its server, at the end of the process.
pub struct Lab<D: sqlx::Database> {
    options: OptionsOf<D>,
    address: String,
    home: Home,
    kept: AtomicBool,
}

/// Where a lab is, which decides how it goes.
#[cfg_attr(
    not(all(feature = "sqlite", any(feature = "postgres", feature = "mysql"))),
    expect(dead_code, reason = "a crate built for one database makes one kind of home")
)]
enum Home {
    Folder(PathBuf),
    /// A server that goes on after the tests; the lab has to be removed from it.
    Shared(Box<dyn Fn() -> Result<(), String> + Send + Sync>),
    Private(&'static Private),
    /// It belongs to another process.
    Elsewhere,
}

impl<D: LabDatabase> Lab<D> {
    /// Returns how to connect.
    pub fn options(&self) -> OptionsOf<D> {
        self.options.clone()
    }

    /// Returns a pool as it comes, with at most `connections`.
    pub fn pool(&self, connections: u32) -> Pool<D> {
        pool_of(self.options(), connections)
    }

    /// Connects.
    ///
    /// # Panics
    ///
    /// The database cannot be reached.
    pub async fn connect(&self) -> <D as sqlx::Database>::Connection {
        self.options.connect().await.unwrap_or_else(|error| {
            panic!(
                "the throw-away database cannot be reached: {error}; is its server still there? [{}]",
                Code::Server
            )
        })
    }
}

impl<D: sqlx::Database> Lab<D> {
    /// Returns the URL of this database, with its schema and without a password.
    pub fn address(&self) -> String {
        self.address.clone()
    }

    /// Keeps the database when this is dropped.
    pub fn keep(&self) {
        self.kept.store(true, Ordering::Relaxed);
    }
}

/// A lab whose kind of database is forgotten.
pub(crate) trait AnyLab: Send {
    fn keep(&self);
}

impl<D: LabDatabase> AnyLab for Lab<D> {
    fn keep(&self) {
        Lab::keep(self);
    }
}

impl<D: sqlx::Database> fmt::Debug for Lab<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lab").field("address", &self.address).finish_non_exhaustive()
    }
}

impl<D: sqlx::Database> Drop for Lab<D> {
    fn drop(&mut self) {
        let address = &self.address;
        if *self.kept.get_mut() || std::thread::panicking() {
            match &self.home {
                Home::Folder(_) | Home::Shared(_) => say(&format!("kept: {address}")),
                Home::Elsewhere => {}
                Home::Private(server) => match server.keep() {
                    Ok(command) => say(&format!("kept: {address} on the server that this starts: {command}")),
                    Err(why) => say(&format!("not kept: {address}: {why}")),
                },
            }
            return;
        }
        let removed = match &self.home {
            Home::Folder(folder) => std::fs::remove_dir_all(folder).map_err(|e| e.to_string()),
            Home::Shared(remove) => remove(),
            Home::Private(_) | Home::Elsewhere => Ok(()),
        };
        if let Err(why) = removed {
            say(&format!("left behind: {address}: {why}"));
        }
    }
}

/// Makes a pool as it comes, with at most `connections`.
pub(crate) fn pool_of<D: LabDatabase>(options: OptionsOf<D>, connections: u32) -> Pool<D> {
    sqlx::pool::PoolOptions::new().max_connections(connections).connect_lazy_with(options)
}

/// Runs a block on a throw-away database of every kind that this crate was built for; one that is not there is named
/// on standard error and passed over, unless `IDEM_REQUIRE` asks for it.
///
/// The block is compiled once for every database, with the name before `>` standing for it. It stands in the function
/// around it, which is async: `?` and `return` leave that, and pass over the databases that would follow.
///
/// ```
/// use idem_testkit::lab::LabDatabase;
///
/// # #[tokio::main] async fn main() -> Result<(), sqlx::Error> {
/// idem_testkit::for_each_database!(lab: Lab<Db> => {
///     sqlx::raw_sql("CREATE TABLE charges (id INTEGER)").execute(&mut lab.connect().await).await?;
///     let tables = Db::tables(&mut lab.connect().await, "idem_").await?;
///     assert_eq!(tables["charges"].columns, ["id"]);
/// });
/// # Ok(()) }
/// ```
#[macro_export]
macro_rules! for_each_database {
    ($lab:ident: Lab<$db:ident> => $body:block) => {{
        $crate::__if_sqlite! {{ $crate::__on_database! { Sqlite, $lab, $db, $body } }}
        $crate::__if_postgres! {{ $crate::__on_database! { Postgres, $lab, $db, $body } }}
        $crate::__if_mysql! {{ $crate::__on_database! { MySql, $lab, $db, $body } }}
    }};
}

#[doc(hidden)]
#[macro_export]
macro_rules! __on_database {
    ($name:ident, $lab:ident, $db:ident, $body:block) => {
        type $db = $crate::lab::__sqlx::$name;
        if let Some($lab) = <$db as $crate::lab::LabDatabase>::lab().await {
            $body
        }
    };
}

/// Defines a macro that is what it is given if this crate has a feature, whatever features the caller has.
macro_rules! define_if {
    ($if_feature:ident, $feature:literal, $d:tt) => {
        #[cfg(feature = $feature)]
        #[doc(hidden)]
        #[macro_export]
        macro_rules! $if_feature { ($d($d then:tt)*) => { $d($d then)* }; }

        #[cfg(not(feature = $feature))]
        #[doc(hidden)]
        #[macro_export]
        macro_rules! $if_feature {
            ($d($d then:tt)*) => {};
        }
    };
}

define_if!(__if_sqlite, "sqlite", $);
define_if!(__if_postgres, "postgres", $);
define_if!(__if_mysql, "mysql", $);

#[doc(hidden)]
pub use sqlx as __sqlx;

/// Says something on standard error, even under a test harness that captures output.
fn say(what: &str) {
    use std::io::Write as _;
    // Whoever closed standard error does not want to hear it.
    let _ = writeln!(std::io::stderr(), "{what}");
}

/// A server to make labs on.
#[cfg(any(feature = "postgres", feature = "mysql"))]
struct On<D: sqlx::Database> {
    found: crate::servers::Found,
    options: OptionsOf<D>,
}

/// Finds or starts a server, or says that a database was not tested.
#[cfg(any(feature = "postgres", feature = "mysql"))]
async fn find<D: sqlx::Database>(server: crate::servers::Server) -> Option<On<D>> {
    // Starting one takes its time, in which other tests can go on.
    let found = tokio::task::spawn_blocking(move || server.find()).await;
    match found.unwrap_or_else(|ended| std::panic::resume_unwind(ended.into_panic())) {
        Ok(found) => {
            let options = found.url().parse().unwrap_or_else(|error| no_url(server, &error));
            Some(On { found, options })
        }
        Err(why) => {
            say(&format!("not tested on {server}: {why}; scripts/test starts a server"));
            None
        }
    }
}

#[cfg(any(feature = "postgres", feature = "mysql"))]
impl<D: sqlx::Database> On<D>
where
    for<'c> &'c mut <D as sqlx::Database>::Connection: sqlx::Executor<'c, Database = D>,
    OptionsOf<D>: Send + Sync + 'static,
{
    /// Makes a home for a lab, and what is in it. On a server that goes on after the tests, `remove` is run in the end.
    async fn home(
        &self,
        keeper: &'static keeper::Keeper<D>,
        make: &str,
        contents: &str,
        remove: String,
    ) -> Home {
        let sql = format!("{make}; {contents}");
        keeper.run(self.options.clone(), sql).await.unwrap_or_else(|error| {
            panic!(
                "`{make}` failed, so the test has no place: {error}; let the URL of the server name a user that may do that [{}]",
                Code::Server
            )
        });
        match self.found {
            crate::servers::Found::Private(server) => Home::Private(server),
            crate::servers::Found::Named(_) => {
                let options = self.options.clone();
                Home::Shared(Box::new(move || keeper.run_in_time(options.clone(), remove.clone())))
            }
        }
    }
}

#[cfg(feature = "postgres")]
impl On<sqlx::Postgres> {
    /// Makes a schema, with these tables in it.
    async fn lab(self, tables: &str) -> Lab<sqlx::Postgres> {
        let name = unique("idem_lab");
        // The runtime of the test may wait for this lab to go, and cannot close a connection meanwhile that is in the
        // middle of a transaction. Whoever has locked something of the schema is of this test.
        let remove = format!(
            "SET LOCAL lock_timeout = '2s'; \
             SELECT pg_terminate_backend(l.pid) FROM pg_locks l JOIN pg_class c ON c.oid = l.relation \
             WHERE c.relnamespace = '{name}'::regnamespace AND l.pid <> pg_backend_pid() \
             AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()); \
             DROP SCHEMA {name} CASCADE"
        );
        let contents = format!("SET LOCAL search_path = {name}; {tables}");
        let home = self.home(&keeper::POSTGRES, &format!("CREATE SCHEMA {name}"), &contents, remove).await;
        let mut address = self.options.to_url_lossy();
        // A URL that has a host, as this one, can be without a password.
        let _ = address.set_password(None);
        address.set_query(Some(&format!("options=-csearch_path%3D{name}")));
        let options = self.options.options([("search_path", name)]);
        Lab { options, address: address.into(), home, kept: AtomicBool::new(false) }
    }
}

#[cfg(feature = "mysql")]
impl On<sqlx::MySql> {
    /// Makes a database, with these tables in it.
    async fn lab(self, tables: &str) -> Lab<sqlx::MySql> {
        let name = unique("idem_lab");
        let remove =
            format!("SET lock_wait_timeout = 2; DROP DATABASE {name}; SET lock_wait_timeout = DEFAULT");
        let contents = format!("USE {name}; {tables}");
        let home = self.home(&keeper::MYSQL, &format!("CREATE DATABASE {name}"), &contents, remove).await;
        let options = self.options.database(&name);
        let mut address = options.to_url_lossy();
        // A URL that has a host, as this one, can be without a password.
        let _ = address.set_password(None);
        address.set_query(None);
        Lab { options, address: address.into(), home, kept: AtomicBool::new(false) }
    }
}

#[cfg(feature = "sqlite")]
#[async_trait]
impl LabDatabase for sqlx::Sqlite {
    const SHORT_NAME: &'static str = "sqlite";
    const MANY_WRITERS: bool = false;
    const LET_LEASES_LAPSE: &str = "UPDATE idem_records SET lease_until = 0 WHERE outcome = 3";

    async fn rows(
        connection: &mut <Self as sqlx::Database>::Connection,
        sql: impl SqlSafeStr + Send,
    ) -> Result<usize, sqlx::Error> {
        sqlx::raw_sql(sql).fetch_all(connection).await.map(|rows| rows.len())
    }

    async fn lab() -> Option<Lab<Self>> {
        let folder = std::env::temp_dir().join(unique("idem_lab"));
        std::fs::create_dir(&folder).expect("a folder for temporary files can be made");
        let file = folder.join("lab.db");
        let address = format!("sqlite://{}", file.display());
        let options = Self::at(&file.display().to_string())?.create_if_missing(true);
        Some(Lab { options, address, home: Home::Folder(folder), kept: AtomicBool::new(false) })
    }

    async fn proxy(
        _: &sqlx::sqlite::SqliteConnectOptions,
        _: Duration,
    ) -> Option<(Proxy, sqlx::sqlite::SqliteConnectOptions)> {
        None
    }

    async fn tables(
        connection: &mut <Self as sqlx::Database>::Connection,
        leave_out: &str,
    ) -> Result<Tables, sqlx::Error> {
        tables::sqlite::read(connection, leave_out).await
    }

    async fn skip_ids(
        connection: &mut <Self as sqlx::Database>::Connection,
        by: u32,
    ) -> Result<(), sqlx::Error> {
        tables::sqlite::skip_ids(connection, by).await
    }
}

#[cfg(feature = "postgres")]
#[async_trait]
impl LabDatabase for sqlx::Postgres {
    const SHORT_NAME: &'static str = "postgres";
    const MANY_WRITERS: bool = true;
    const LET_LEASES_LAPSE: &str = "UPDATE idem_records SET lease_until = 'epoch' WHERE outcome = 3";

    async fn rows(
        connection: &mut <Self as sqlx::Database>::Connection,
        sql: impl SqlSafeStr + Send,
    ) -> Result<usize, sqlx::Error> {
        sqlx::raw_sql(sql).fetch_all(connection).await.map(|rows| rows.len())
    }

    async fn lab() -> Option<Lab<Self>> {
        Some(find::<Self>(crate::servers::Server::Postgres).await?.lab("").await)
    }

    async fn proxy(
        options: &sqlx::postgres::PgConnectOptions,
        delay: Duration,
    ) -> Option<(Proxy, sqlx::postgres::PgConnectOptions)> {
        let proxy = proxy_to(options.get_host(), options.get_port(), delay).await;
        let address = proxy.address();
        Some((proxy, options.clone().host(&address.ip().to_string()).port(address.port())))
    }

    async fn tables(
        connection: &mut <Self as sqlx::Database>::Connection,
        leave_out: &str,
    ) -> Result<Tables, sqlx::Error> {
        tables::postgres::read(connection, leave_out).await
    }

    async fn skip_ids(
        connection: &mut <Self as sqlx::Database>::Connection,
        by: u32,
    ) -> Result<(), sqlx::Error> {
        tables::postgres::skip_ids(connection, by).await
    }
}

#[cfg(feature = "mysql")]
#[async_trait]
impl LabDatabase for sqlx::MySql {
    const SHORT_NAME: &'static str = "mysql";
    const MANY_WRITERS: bool = true;
    const LET_LEASES_LAPSE: &str = "UPDATE idem_records SET lease_until = 0 WHERE outcome = 3";

    async fn rows(
        connection: &mut <Self as sqlx::Database>::Connection,
        sql: impl SqlSafeStr + Send,
    ) -> Result<usize, sqlx::Error> {
        sqlx::raw_sql(sql).fetch_all(connection).await.map(|rows| rows.len())
    }

    async fn lab() -> Option<Lab<Self>> {
        Some(find::<Self>(crate::servers::Server::MySql).await?.lab("").await)
    }

    async fn proxy(
        options: &sqlx::mysql::MySqlConnectOptions,
        delay: Duration,
    ) -> Option<(Proxy, sqlx::mysql::MySqlConnectOptions)> {
        let proxy = proxy_to(options.get_host(), options.get_port(), delay).await;
        let address = proxy.address();
        Some((proxy, options.clone().host(&address.ip().to_string()).port(address.port())))
    }

    async fn tables(
        connection: &mut <Self as sqlx::Database>::Connection,
        leave_out: &str,
    ) -> Result<Tables, sqlx::Error> {
        tables::mysql::read(connection, leave_out).await
    }

    async fn skip_ids(
        connection: &mut <Self as sqlx::Database>::Connection,
        by: u32,
    ) -> Result<(), sqlx::Error> {
        tables::mysql::skip_ids(connection, by).await
    }
}

/// Refuses the address of a server, which may have a password in it.
#[cfg(any(feature = "postgres", feature = "mysql"))]
pub(crate) fn no_url<T>(server: crate::servers::Server, error: &sqlx::Error) -> T {
    panic!(
        "`{}` is not the URL of a {server} server: {error}; write {server}://user:password@host/database [{}]",
        server.variable(),
        Code::Server
    )
}

#[cfg(any(feature = "postgres", feature = "mysql"))]
async fn proxy_to(host: &str, port: u16, delay: Duration) -> Proxy {
    use std::net::ToSocketAddrs as _;
    let upstream = (host, port).to_socket_addrs().ok().and_then(|mut addresses| addresses.next());
    let upstream = upstream.expect("the server's host has an address");
    Proxy::start(upstream, delay).await.expect("a port is free")
}
