//! A payment is charged once, although the job runs again and the gateway fails.
//!
//! The job is in `examples/src/jobs/payment.rs`.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;

use anyhow::Context as _;
use clap::Parser;
use idem_examples::cli::{self, CommonArgs, Database};
use idem_examples::gateway::{Gateway, GatewayProcess};
use idem_examples::{postgres, sqlite};

/// Charges payments at a gateway that loses an answer, knows a charge already, or is not needed.
///
/// The gateway is a process of its own, started on a free port. With PAYMENT_ID only that payment
/// is run, which must be in the table `payments`.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    common: CommonArgs,
    /// A gateway that is running, as IP:PORT (see the program `gateway`)
    #[arg(long, value_name = "ADDRESS")]
    gateway: Option<SocketAddr>,
    /// Run this payment and nothing else
    payment_id: Option<i64>,
    /// Be the gateway
    #[arg(long, hide = true)]
    serve_gateway: bool,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    if args.serve_gateway {
        return cli::run_gateway(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), true).await;
    }
    let database = args.common.set_up()?;
    let (_process, gateway) = match args.gateway {
        Some(address) => (None, Gateway::new(address)),
        None => {
            let process = start_gateway()?;
            let gateway = process.client();
            println!("The gateway is process {}, at {}.", process.id(), gateway.address());
            (Some(process), gateway)
        }
    };
    match (&database, args.payment_id) {
        (Database::Sqlite(url, _), None) => sqlite::demos::payment::show(url, &gateway).await,
        (Database::Sqlite(url, _), Some(id)) => sqlite::demos::payment::pay_one(url, &gateway, id).await,
        (Database::Postgres(url), None) => postgres::demos::payment::show(url, &gateway).await,
        (Database::Postgres(url), Some(id)) => postgres::demos::payment::pay_one(url, &gateway, id).await,
    }
}

/// Starts this program once more, as the gateway: `cargo run --bin payment` builds no other.
fn start_gateway() -> anyhow::Result<GatewayProcess> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("--serve-gateway");
    GatewayProcess::start(command).context("starting the gateway")
}
