//! The built-in stores keep the laws.

use idem_testkit::conformance::harness::Memory;
#[cfg(feature = "mysql")]
use idem_testkit::conformance::harness::MySql;
#[cfg(feature = "postgres")]
use idem_testkit::conformance::harness::Postgres;
#[cfg(feature = "sqlite")]
use idem_testkit::conformance::harness::Sqlite;
use idem_testkit::conformance::{self, Harness};
#[cfg(any(feature = "postgres", feature = "mysql"))]
use idem_testkit::servers::Server;

async fn check_conforms(harness: impl Harness) {
    let report = conformance::run(harness).await;
    println!("{report}");
    report.assert();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_memory_store_keeps_the_laws() {
    check_conforms(Memory::new()).await;
}

#[cfg(feature = "sqlite")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sqlite_store_keeps_the_laws() {
    check_conforms(Sqlite::new()).await;
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_postgres_store_keeps_the_laws() {
    if let Some(url) = url_or_say(Server::Postgres) {
        check_conforms(Postgres::new(url)).await;
    }
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_postgres_store_keeps_the_laws_behind_a_pooler() {
    if let (Some(url), Some(pooler)) = (url_or_say(Server::Postgres), url_or_say(Server::PgBouncer)) {
        check_conforms(Postgres::new(url).through_pooler(pooler)).await;
    }
}

#[cfg(feature = "mysql")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_mysql_store_keeps_the_laws() {
    if let Some(url) = url_or_say(Server::MySql) {
        check_conforms(MySql::new(url)).await;
    }
}

/// Returns the server's address, or says that the store was not tested.
#[cfg(any(feature = "postgres", feature = "mysql"))]
fn url_or_say(server: Server) -> Option<String> {
    use std::io::Write;
    let url = server.url();
    if url.is_none() {
        // Past the capture of the test harness, which would hide it.
        writeln!(
            std::io::stderr(),
            "NOT TESTED: the {server} store, there is no server; scripts/test starts one"
        )
        .expect("stderr takes a line");
    }
    url
}
