//! A mail is sent once, although answers are lost: by a provider that takes keys, and by one that does not.
//!
//! The job is in `examples/src/jobs/email.rs`.

use clap::Parser;
use idem_examples::cli::{CommonArgs, Database, ProviderArgs};
use idem_examples::{postgres, sqlite};

/// Sends mails whose answers are lost, and shows who decides what became of them.
///
/// The provider is a process of its own, started on a free port.
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
        Database::Sqlite(url, _folder) => sqlite::demos::email::show(&url, provider.address).await,
        Database::Postgres(url) => postgres::demos::email::show(&url, provider.address).await,
    }
}
