//! A user is synced again and again, but never twice at the same time.
//!
//! The job is in `examples/src/jobs/user_sync.rs`.

use clap::Parser;
use idem_examples::cli::{CommonArgs, Database, ProviderArgs};
use idem_examples::{postgres, sqlite};

/// Syncs a user over a queue of apalis: asked for three times at once, and while another sync is at work.
///
/// The directory and the newsletter are a process of its own, started on a free port.
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
        Database::Sqlite(url, _folder) => sqlite::demos::user_sync::show(&url, provider.address).await,
        Database::Postgres(url) => postgres::demos::user_sync::show(&url, provider.address).await,
    }
}
