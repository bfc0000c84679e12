//! The built-in stores keep the laws.

use idem_testkit::conformance::harness::Memory;
#[cfg(feature = "sqlite")]
use idem_testkit::conformance::harness::Sqlite;
use idem_testkit::conformance::{self, Harness};

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
    match url_or_say(idem_testkit::servers::Server::Postgres) {
        Some(url) => check_conforms(conformance::harness::Postgres::new(url)).await,
        None => {}
    }
}

#[cfg(feature = "mysql")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_mysql_store_keeps_the_laws() {
    match url_or_say(idem_testkit::servers::Server::MySql) {
        Some(url) => check_conforms(conformance::harness::MySql::new(url)).await,
        None => {}
    }
}

/// Returns the server's address, or says that the store was not tested.
#[cfg(any(feature = "postgres", feature = "mysql"))]
fn url_or_say(server: idem_testkit::servers::Server) -> Option<String> {
    use std::io::Write;
    let url = server.url();
    if url.is_none() {
        // Past the capture of the test harness, which would hide it.
        writeln!(std::io::stderr(), "NOT TESTED: the {server} store, there is no server; scripts/test starts one")
            .expect("stderr takes a line");
    }
    url
}
