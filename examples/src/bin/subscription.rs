//! A user has one subscription, because the database says so.
//!
//! The job is in `examples/src/jobs/subscription.rs`.

use clap::Parser;
use idem_examples::cli::{CommonArgs, Database};
use idem_examples::{postgres, sqlite};

/// Subscribes one user twice, by a repeated request and by another one.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    common: CommonArgs,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    match Args::parse().common.set_up()? {
        Database::Sqlite(url, _folder) => sqlite::demos::subscription::show(&url).await,
        Database::Postgres(url) => postgres::demos::subscription::show(&url).await,
    }
}
