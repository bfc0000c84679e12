//! What the databases say of themselves.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::time::Duration;

use anyhow::Context as _;
use idem_bench_page::{Server, Store};
use idem_testkit::proxy::Proxy;
use sqlx::mysql::MySqlConnectOptions;
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection as _, MySqlConnection, PgConnection, SqliteConnection};

/// Returns where PostgreSQL is.
///
/// # Errors
///
/// `IDEM_TEST_POSTGRES` does not say.
pub fn postgres() -> anyhow::Result<PgConnectOptions> {
    Ok(address_in("IDEM_TEST_POSTGRES")?.parse()?)
}

/// Returns where MySQL or MariaDB is.
///
/// # Errors
///
/// `IDEM_TEST_MYSQL` does not say.
pub fn mysql() -> anyhow::Result<MySqlConnectOptions> {
    Ok(address_in("IDEM_TEST_MYSQL")?.parse()?)
}

fn address_in(variable: &str) -> anyhow::Result<String> {
    std::env::var(variable).with_context(|| format!("{variable} names no server; `scripts/bench` starts one"))
}

/// Starts a proxy in front of PostgreSQL that holds each message back for so long, and returns the way through it.
///
/// # Errors
///
/// The server's host has no address, or no port is free.
pub async fn postgres_through_proxy(
    options: PgConnectOptions,
    delay: Duration,
) -> anyhow::Result<(Proxy, PgConnectOptions)> {
    let proxy = proxy(options.get_host(), options.get_port(), delay).await?;
    let options = options.host(&proxy.address().ip().to_string()).port(proxy.address().port());
    Ok((proxy, options))
}

/// Starts a proxy in front of MySQL that holds each message back for so long, and returns the way through it.
///
/// # Errors
///
/// The server's host has no address, or no port is free.
pub async fn mysql_through_proxy(
    options: MySqlConnectOptions,
    delay: Duration,
) -> anyhow::Result<(Proxy, MySqlConnectOptions)> {
    let proxy = proxy(options.get_host(), options.get_port(), delay).await?;
    let options = options.host(&proxy.address().ip().to_string()).port(proxy.address().port());
    Ok((proxy, options))
}

async fn proxy(host: &str, port: u16, delay: Duration) -> anyhow::Result<Proxy> {
    let upstream: SocketAddr =
        (host, port).to_socket_addrs()?.next().context("the server's host has no address")?;
    Ok(Proxy::start(upstream, delay).await?)
}

/// Asks a database for its version, and for what decides whether a commit waits for the disk.
///
/// # Errors
///
/// It does not answer.
pub async fn ask(store: Store) -> anyhow::Result<Server> {
    let (version, durability): (String, String) = match store {
        Store::Sqlite => {
            let mut connection = SqliteConnection::connect("sqlite::memory:").await?;
            sqlx::query_as(
                "SELECT sqlite_version(), 'synchronous=' || CASE synchronous WHEN 0 THEN 'off' WHEN 1 THEN 'normal' \
                 WHEN 2 THEN 'full' ELSE 'extra' END FROM pragma_synchronous",
            )
            .fetch_one(&mut connection)
            .await?
        }
        Store::Postgres => {
            let mut connection = PgConnection::connect_with(&postgres()?).await?;
            sqlx::query_as(
                "SELECT current_setting('server_version'), 'fsync=' || current_setting('fsync') || \
                 ', synchronous_commit=' || current_setting('synchronous_commit')",
            )
            .fetch_one(&mut connection)
            .await?
        }
        Store::Mysql => {
            let mut connection = MySqlConnection::connect_with(&mysql()?).await?;
            sqlx::query_as(
                "SELECT version(), concat('innodb_flush_log_at_trx_commit=', @@innodb_flush_log_at_trx_commit)",
            )
            .fetch_one(&mut connection)
            .await?
        }
    };
    Ok(Server { store, version, durability })
}
