//! A payment is charged once, although the job runs again and the gateway fails.
//!
//! The job is in `examples/src/jobs/payment.rs`.

use clap::Parser;
use idem_examples::cli::{CommonArgs, Database, ProviderArgs};
use idem_examples::provider::Gateway;
use idem_examples::{postgres, sqlite};

/// Charges payments at a gateway that loses an answer, knows a charge already, or is not needed.
///
/// The gateway is a process of its own, started on a free port. With PAYMENT_ID only that payment
/// is run, which must be in the table `payments`.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    common: CommonArgs,
    #[command(flatten)]
    provider: ProviderArgs,
    /// Run this payment and nothing else
    payment_id: Option<i64>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    if args.provider.serve_provider {
        return args.provider.serve().await;
    }
    let database = args.common.set_up()?;
    let provider = args.provider.find()?;
    let gateway = Gateway::new(provider.address);
    match (&database, args.payment_id) {
        (Database::Sqlite(url, _), None) => sqlite::demos::payment::show(url, &gateway).await,
        (Database::Sqlite(url, _), Some(id)) => sqlite::demos::payment::pay_one(url, &gateway, id).await,
        (Database::Postgres(url), None) => postgres::demos::payment::show(url, &gateway).await,
        (Database::Postgres(url), Some(id)) => postgres::demos::payment::pay_one(url, &gateway, id).await,
    }
}
