//! A delivery is booked once, also when nothing remembers the first run.
//!
//! The job is in `examples/src/jobs/inventory.rs`.

use clap::Parser;
use idem_examples::cli::{CommonArgs, Database};
use idem_examples::{postgres, sqlite};

/// Books a delivery, again, and again after its record has expired.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    common: CommonArgs,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    match Args::parse().common.set_up()? {
        Database::Sqlite(url, _folder) => sqlite::demos::inventory::show(&url).await,
        Database::Postgres(url) => postgres::demos::inventory::show(&url).await,
    }
}
