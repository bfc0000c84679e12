//! A cart is checked out in steps, and a worker that takes over goes on behind them.
//!
//! The job is in `examples/src/jobs/payment_steps.rs`.

use std::process::Command;

use clap::Parser;
use idem_examples::cli::{CommonArgs, Database, ProviderArgs};
use idem_examples::{postgres, sqlite};

/// Checks out a cart in a process that is killed in the middle, goes on here, and delivers the mail.
///
/// The gateway and the mail provider are a process of their own, started on a free port. With CART_ID only
/// that cart is checked out.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    common: CommonArgs,
    #[command(flatten)]
    provider: ProviderArgs,
    /// Check out this cart and do nothing else
    cart_id: Option<i64>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    if args.provider.serve_provider {
        return args.provider.serve().await;
    }
    let database = args.common.set_up()?;
    let provider = args.provider.find()?;
    let address = provider.address;
    let worker = |url: &str| -> anyhow::Result<Command> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--database-url", url, "--provider", &address.to_string()]);
        Ok(command)
    };
    match (&database, args.cart_id) {
        (Database::Sqlite(url, _), None) => {
            sqlite::demos::payment_steps::show(url, address, worker(url)?).await
        }
        (Database::Sqlite(url, _), Some(cart)) => {
            use sqlite::demos::payment_steps::{Shop, check_out_one};
            check_out_one(url, &Shop::new(address), cart).await
        }
        (Database::Postgres(url), None) => {
            postgres::demos::payment_steps::show(url, address, worker(url)?).await
        }
        (Database::Postgres(url), Some(cart)) => {
            use postgres::demos::payment_steps::{Shop, check_out_one};
            check_out_one(url, &Shop::new(address), cart).await
        }
    }
}
