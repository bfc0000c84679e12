//! A payment gateway in a process of its own, and its client.
//!
//! The server treats idempotency keys as the big gateways do. A key that comes again with the same
//! request gets the recorded answer, marked `idempotent-replayed: true`; with another request it is
//! refused (422), and so is one whose first request is still being worked on (409). A reference
//! that was charged before under another key is a duplicate (409), and the answer names the charge.
//! An answer of 500 is not recorded: nothing was done.
//!
//! It keeps its books in memory, for as long as the process lives.

mod client;
mod process;
mod server;

use serde::{Deserialize, Serialize};

pub use self::client::{Gateway, GatewayError};
pub use self::process::GatewayProcess;
pub use self::server::serve;

/// The header with the key.
const KEY_HEADER: &str = "idempotency-key";

/// The header of an answer that was given before.
const REPLAYED_HEADER: &str = "idempotent-replayed";

/// What a client asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct ChargeRequest {
    reference: String,
    amount_cents: i64,
}

/// Money that was taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Charge {
    /// The gateway's name for it.
    pub charge_id: String,
    /// The client's name for what was paid.
    pub reference: String,
    /// How much was taken.
    pub amount_cents: i64,
}

/// The gateway's books, for those who count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Books {
    /// Every charge, the oldest first.
    pub charges: Vec<Charge>,
    /// How many requests for a charge came in, whatever the answer was.
    pub requests: u64,
}

impl Books {
    /// Returns the charges of one reference: a customer would complain about two.
    pub fn charges_of(&self, reference: &str) -> Vec<&Charge> {
        self.charges.iter().filter(|charge| charge.reference == reference).collect()
    }
}

/// What goes wrong with the next request for a reference; once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// The gateway answers 500 and has done nothing.
    FailBefore,
    /// The gateway charges, records its answer, and closes the connection instead of sending it.
    LoseAnswer,
    /// The gateway charges, and answers only when it is told to release what it holds.
    HoldAnswer,
}

/// What the client asks the gateway's operator for.
#[derive(Debug, Serialize, Deserialize)]
struct FaultRequest {
    reference: String,
    fault: Fault,
}

/// The body of an answer that is no charge.
#[derive(Debug, Serialize, Deserialize)]
struct Refusal {
    error: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    charge_id: Option<String>,
}
