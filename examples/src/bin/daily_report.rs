//! A report is built once a day, although it fails, takes long, and two workers want to.
//!
//! The job is in `examples/src/jobs/daily_report.rs`.

use clap::Parser;
use idem_examples::cli::{CommonArgs, Database, ProviderArgs};
use idem_examples::{postgres, sqlite};

/// Builds one day's report: it fails, is built again while a second worker asks, and takes longer than its lease.
///
/// The printer is a process of its own, started on a free port.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    common: CommonArgs,
    #[command(flatten)]
    provider: ProviderArgs,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    if args.provider.serve_provider {
        return args.provider.serve().await;
    }
    let database = args.common.set_up()?;
    let provider = args.provider.find()?;
    match database {
        Database::Sqlite(url, _folder) => sqlite::demos::daily_report::show(&url, provider.address).await,
        Database::Postgres(url) => postgres::demos::daily_report::show(&url, provider.address).await,
    }
}
