//! The provider that the examples talk to: payments, mails, prints, users.

use std::net::{Ipv4Addr, SocketAddr};

use clap::Parser;
use idem_examples::cli;

/// Serves a provider on the loopback interface.
///
/// POST /charges with an `Idempotency-Key` and {"reference": "payment-1", "amount_cents": 500} takes
/// money; GET /charges shows the books. Other services are /mails, /plain-mails, /prints, /profiles and
/// /contacts. POST /faults with {"path": "charges", "reference": "payment-1", "fault": "lose_answer"} (or
/// "fail_before", "lose_request", "hold_answer") makes the next request go wrong; POST /release lets held
/// answers go.
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
    cli::serve_provider(SocketAddr::from((Ipv4Addr::LOCALHOST, port)), until_stdin_ends).await
}
