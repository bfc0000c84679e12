//! The world outside of the examples, as one process of its own, and its clients.
//!
//! It takes money, sends mails, prints reports, and keeps users' data. All of that is one small HTTP server;
//! what differs is how a request is treated that comes again, and there real providers differ too:
//!
//! | path | client | takes a key | the key comes again | the reference comes again under another key, or none |
//! |---|---|---|---|---|
//! | `/charges` | [`Gateway`] | must | the recorded answer, marked `idempotent-replayed: true` | 409, a duplicate; the answer names the charge |
//! | `/mails` | [`Mailer`] | must | 409, sent already; the answer names the mail | another mail |
//! | `/plain-mails` | [`PlainMailer`] | no | – | another mail |
//! | `/prints` | [`Printer`] | no | – | printed again |
//! | `/profiles`, `/contacts` | [`Directory`], [`Contacts`] | no | – | replaces what was there |
//!
//! Where keys are taken, one that comes with another request is refused (422), and so is one whose first
//! request is still being worked on (409). An answer of 500 is not recorded: nothing was done.
//!
//! It keeps its books in memory, for as long as the process lives.

mod client;
mod process;
mod server;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub use self::client::{Client, Contacts, Directory, Gateway, Mailer, PlainMailer, Printer, ProviderError};
pub use self::process::ProviderProcess;
pub use self::server::serve;

/// The header with the key.
const KEY_HEADER: &str = "idempotency-key";

/// The header of an answer that was given before.
const REPLAYED_HEADER: &str = "idempotent-replayed";

/// Something that the provider does, and then has in its books.
pub trait Service: Serialize + DeserializeOwned {
    /// Where it is asked for.
    const PATH: &'static str;
}

macro_rules! services {
    ($($(#[$doc:meta])* $name:ident at $path:literal { $($(#[$field_doc:meta])* $field:ident: $ty:ty,)* })+) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: $ty,)*
        }

        impl Service for $name {
            const PATH: &'static str = $path;
        }
    )+};
}

services! {
    /// Money that is taken.
    Charge at "charges" {
        /// How much.
        amount_cents: i64,
    }
    /// A mail that is sent by a provider that takes keys.
    Mail at "mails" {
        /// To whom.
        to: String,
        /// What it says.
        subject: String,
    }
    /// A mail that is sent by a provider that takes no keys.
    PlainMail at "plain-mails" {
        /// To whom.
        to: String,
        /// What it says.
        subject: String,
    }
    /// A page that is printed.
    Print at "prints" {
        /// What is on it.
        text: String,
    }
    /// A user, as the directory knows them.
    Profile at "profiles" {
        /// Their name.
        name: String,
        /// Their address.
        email: String,
    }
    /// A user, as the newsletter knows them.
    Contact at "contacts" {
        /// Their name and address.
        address: String,
    }
}

/// An entry of the provider's books.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry<T> {
    /// The provider's name for it.
    pub id: String,
    /// The client's name for what it is about: a payment, a user.
    pub reference: String,
    /// What was done.
    #[serde(flatten)]
    pub what: T,
}

/// The provider's books of one service, for those who count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Books<T> {
    /// What was done, the oldest first.
    pub entries: Vec<Entry<T>>,
    /// How many requests to do it came in, whatever the answer was.
    pub requests: u64,
}

impl<T> Books<T> {
    /// Returns the entries of one reference: a customer would complain about two charges.
    pub fn of(&self, reference: &str) -> Vec<&Entry<T>> {
        self.entries.iter().filter(|entry| entry.reference == reference).collect()
    }
}

/// What goes wrong with the next request for a reference; once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// The provider answers 500 and has done nothing.
    FailBefore,
    /// The provider does nothing, and closes the connection without an answer.
    LoseRequest,
    /// The provider does its work, records its answer, and closes the connection instead of sending it.
    LoseAnswer,
    /// The provider does its work, and answers only when it is told to release what it holds.
    HoldAnswer,
}

/// What the client asks the provider's operator for.
#[derive(Debug, Serialize, Deserialize)]
struct FaultRequest {
    path: String,
    reference: String,
    fault: Fault,
}

/// What is asked for, before anybody looks at what it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Order<T> {
    reference: String,
    #[serde(flatten)]
    what: T,
}

/// The body of an answer to a request that was not met.
#[derive(Debug, Serialize, Deserialize)]
struct Refusal {
    error: String,
    /// What was done before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<String>,
}
