//! Jobs that the clock starts: one a tick, however many processes there are.
//!
//! The job is in `examples/src/jobs/cleanup.rs`.

use clap::Parser;
use idem_examples::cli::{CommonArgs, Database};
use idem_examples::{postgres, sqlite};

/// Starts the tick of an hour in three processes at once, and cleans up idem's own tables.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    common: CommonArgs,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    match Args::parse().common.set_up()? {
        Database::Sqlite(url, _folder) => sqlite::demos::cleanup::show(&url).await,
        Database::Postgres(url) => postgres::demos::cleanup::show(&url).await,
    }
}
