//! The payment gateway that the example `payment` talks to.

use std::net::{Ipv4Addr, SocketAddr};

use clap::Parser;
use idem_examples::cli;

/// Serves a payment gateway on the loopback interface.
///
/// POST /charges with an `Idempotency-Key` and {"reference": "payment-1", "amount_cents": 500} takes
/// money; GET /charges shows the books. POST /faults with {"reference": "payment-1", "fault":
/// "lose_answer"} (or "fail_before", "hold_answer") makes the next request go wrong; POST /release
/// lets held answers go.
#[derive(Parser)]
struct Args {
    /// The port; 0 takes a free one
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// End as soon as stdin does, as a child of a program should
    #[arg(long)]
    until_stdin_ends: bool,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let Args { port, until_stdin_ends } = Args::parse();
    cli::run_gateway(SocketAddr::from((Ipv4Addr::LOCALHOST, port)), until_stdin_ends).await
}
