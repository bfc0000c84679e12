//! Throw-away databases.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use idem_runtime::store::SqlDatabase;
use sqlx::{ConnectOptions as _, Pool};

use crate::proxy::Proxy;

/// How to connect to a database.
pub type OptionsOf<D> = <<D as sqlx::Database>::Connection as sqlx::Connection>::Options;

/// A database that can be made for a test.
#[async_trait]
pub trait LabDatabase: SqlDatabase {
    /// The name of the database in reports and in `IDEM_REQUIRE`.
    const SHORT_NAME: &'static str;

    /// Whether transactions of several connections can write at once.
    const MANY_WRITERS: bool;

    /// Runs SQL text and returns how many rows came.
    ///
    /// # Errors
    ///
    /// The database's.
    async fn rows(
        connection: &mut <Self as sqlx::Database>::Connection,
        sql: &'static str,
    ) -> Result<usize, sqlx::Error>;

    async fn tables(
        connection: &mut <Self as sqlx::Database>::Connection,
        leave_out: &str,
    ) -> Result<crate::tables::Tables, sqlx::Error> {
        let _ = (connection, leave_out);
        unreachable!()
    }

    async fn skip_ids(
        connection: &mut <Self as sqlx::Database>::Connection,
        by: u32,
    ) -> Result<(), sqlx::Error> {
        let _ = (connection, by);
        Ok(())
    }
    /// Makes an empty database, or says `None` if its server is not there.
    ///
    /// # Panics
    ///
    /// The server was asked for by `IDEM_REQUIRE` and is not there, or it refuses.
    async fn lab() -> Option<Lab<Self>>;

    /// Puts a proxy in front of the server; `None` for a database without one.
    async fn proxy(options: &OptionsOf<Self>, delay: Duration) -> Option<(Proxy, OptionsOf<Self>)>;
}

/// A throw-away database, removed when it is dropped or closed.
#[derive(Debug)]
pub struct Lab<D: sqlx::Database> {
    options: OptionsOf<D>,
    /// The folder of a SQLite file.
    folder: Option<PathBuf>,
}

impl<D: LabDatabase> Lab<D> {
    pub fn keep(&mut self) {
        self.folder = None;
    }
    pub fn address(&self) -> String {
        format!("{:?}", self.folder)
    }
    /// Returns how to connect.
    pub fn options(&self) -> OptionsOf<D> {
        self.options.clone()
    }

    /// Returns a pool as it comes, with at most `connections`.
    pub fn pool(&self, connections: u32) -> Pool<D> {
        sqlx::pool::PoolOptions::new().max_connections(connections).connect_lazy_with(self.options())
    }

    /// Connects.
    ///
    /// # Panics
    ///
    /// The database cannot be reached.
    pub async fn connect(&self) -> <D as sqlx::Database>::Connection {
        self.options.connect().await.expect("a throw-away database can be reached")
    }
}

impl<D: sqlx::Database> Drop for Lab<D> {
    fn drop(&mut self) {
        if let Some(folder) = &self.folder {
            // What is left behind is in the folder for temporary files.
            let _ = std::fs::remove_dir_all(folder);
        }
    }
}

/// Returns a name that no other test uses, in this process or another.
fn unique(prefix: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{prefix}_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Runs one statement on a server, on a connection of its own.
#[cfg(any(feature = "postgres", feature = "mysql"))]
async fn run<D: sqlx::Database>(options: &OptionsOf<D>, sql: String)
where
    for<'c> &'c mut <D as sqlx::Database>::Connection: sqlx::Executor<'c, Database = D>,
{
    use sqlx::Connection as _;
    let mut admin = options.connect().await.expect("the server of the tests answers");
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql))
        .execute(&mut admin)
        .await
        .expect("a place for the test can be made");
    admin.close().await.expect("the connection can be closed");
}

/// Says on standard error that a database was not tested, even under a test harness that captures output.
#[cfg(any(feature = "postgres", feature = "mysql"))]
fn not_tested(name: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "not tested on {name}: scripts/test starts a server");
}

#[cfg(feature = "sqlite")]
#[async_trait]
impl LabDatabase for sqlx::Sqlite {
    const SHORT_NAME: &'static str = "sqlite";
    const MANY_WRITERS: bool = false;

    async fn rows(
        connection: &mut <Self as sqlx::Database>::Connection,
        sql: &'static str,
    ) -> Result<usize, sqlx::Error> {
        sqlx::raw_sql(sql).fetch_all(connection).await.map(|rows| rows.len())
    }

    async fn tables(
        connection: &mut <Self as sqlx::Database>::Connection,
        leave_out: &str,
    ) -> Result<crate::tables::Tables, sqlx::Error> {
        use sqlx::Row as _;
        let mut all = std::collections::BTreeMap::new();
        let names =
            sqlx::query("SELECT name FROM sqlite_schema WHERE type='table' AND name NOT LIKE 'sqlite_%'")
                .fetch_all(&mut *connection)
                .await?;
        for name in names {
            let name: String = name.get(0);
            if name.starts_with(leave_out) {
                continue;
            }
            let cols: Vec<String> =
                sqlx::query(sqlx::AssertSqlSafe(format!("SELECT name FROM pragma_table_info('{name}')")))
                    .fetch_all(&mut *connection)
                    .await?
                    .iter()
                    .map(|r| r.get(0))
                    .collect();
            let list = cols.iter().map(|c| format!("quote({c})")).collect::<Vec<_>>().join(",");
            let mut rows: Vec<Vec<Option<String>>> =
                sqlx::query(sqlx::AssertSqlSafe(format!("SELECT {list} FROM {name}")))
                    .fetch_all(&mut *connection)
                    .await?
                    .iter()
                    .map(|r| (0..cols.len()).map(|i| r.get(i)).collect())
                    .collect();
            rows.sort();
            all.insert(name, crate::tables::Table { columns: cols, rows });
        }
        Ok(crate::tables::Tables(all))
    }
    async fn lab() -> Option<Lab<Self>> {
        let folder = std::env::temp_dir().join(unique("idem_lab"));
        std::fs::create_dir_all(&folder).expect("a folder for temporary files can be made");
        let options = sqlx::sqlite::SqliteConnectOptions::new()
            .filename(folder.join("lab.db"))
            .create_if_missing(true)
            .journal_mode(sqlx::sqlite::SqliteJournalMode::Wal);
        Some(Lab { options, folder: Some(folder) })
    }

    async fn proxy(
        _: &sqlx::sqlite::SqliteConnectOptions,
        _: Duration,
    ) -> Option<(Proxy, sqlx::sqlite::SqliteConnectOptions)> {
        None
    }
}

#[cfg(feature = "postgres")]
#[async_trait]
impl LabDatabase for sqlx::Postgres {
    const SHORT_NAME: &'static str = "postgres";
    const MANY_WRITERS: bool = true;

    async fn rows(
        connection: &mut <Self as sqlx::Database>::Connection,
        sql: &'static str,
    ) -> Result<usize, sqlx::Error> {
        sqlx::raw_sql(sql).fetch_all(connection).await.map(|rows| rows.len())
    }

    async fn lab() -> Option<Lab<Self>> {
        let Some(url) = crate::servers::Server::Postgres.url() else {
            not_tested("postgres");
            return None;
        };
        let options: sqlx::postgres::PgConnectOptions = url.parse().expect("IDEM_TEST_POSTGRES is a URL");
        let name = unique("idem_lab");
        run::<Self>(&options, format!("CREATE SCHEMA {name}")).await;
        Some(Lab { options: options.options([("search_path", name)]), folder: None })
    }

    async fn proxy(
        options: &sqlx::postgres::PgConnectOptions,
        delay: Duration,
    ) -> Option<(Proxy, sqlx::postgres::PgConnectOptions)> {
        let proxy = proxy_to(options.get_host(), options.get_port(), delay).await;
        let address = proxy.address();
        Some((proxy, options.clone().host(&address.ip().to_string()).port(address.port())))
    }
}

#[cfg(feature = "mysql")]
#[async_trait]
impl LabDatabase for sqlx::MySql {
    const SHORT_NAME: &'static str = "mysql";
    const MANY_WRITERS: bool = true;

    async fn rows(
        connection: &mut <Self as sqlx::Database>::Connection,
        sql: &'static str,
    ) -> Result<usize, sqlx::Error> {
        sqlx::raw_sql(sql).fetch_all(connection).await.map(|rows| rows.len())
    }

    async fn lab() -> Option<Lab<Self>> {
        let Some(url) = crate::servers::Server::MySql.url() else {
            not_tested("mysql");
            return None;
        };
        let options: sqlx::mysql::MySqlConnectOptions = url.parse().expect("IDEM_TEST_MYSQL is a URL");
        let name = unique("idem_lab");
        run::<Self>(&options, format!("CREATE DATABASE {name}")).await;
        Some(Lab { options: options.database(&name), folder: None })
    }

    async fn proxy(
        options: &sqlx::mysql::MySqlConnectOptions,
        delay: Duration,
    ) -> Option<(Proxy, sqlx::mysql::MySqlConnectOptions)> {
        let proxy = proxy_to(options.get_host(), options.get_port(), delay).await;
        let address = proxy.address();
        Some((proxy, options.clone().host(&address.ip().to_string()).port(address.port())))
    }
}

#[cfg(any(feature = "postgres", feature = "mysql"))]
async fn proxy_to(host: &str, port: u16, delay: Duration) -> Proxy {
    use std::net::ToSocketAddrs as _;
    let upstream = (host, port).to_socket_addrs().ok().and_then(|mut addresses| addresses.next());
    let upstream = upstream.expect("the server's host has an address");
    Proxy::start(upstream, delay).await.expect("a port is free")
}
