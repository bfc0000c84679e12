//! An order is placed once, and whoever asks again gets the same answer.
//!
//! The job is in `examples/src/jobs/order.rs`.

use clap::Parser;
use idem_examples::cli::{CommonArgs, Database};
use idem_examples::{postgres, sqlite};

/// Places orders: twice at once, again later, with other arguments, and out of stock.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    common: CommonArgs,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    match Args::parse().common.set_up()? {
        Database::Sqlite(url, _folder) => sqlite::demos::order::show(&url).await,
        Database::Postgres(url) => postgres::demos::order::show(&url).await,
    }
}
