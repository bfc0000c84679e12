//! The laws that every store keeps, as tests that any store can run.
//!
//! A store brings a [`Harness`]: how to open a fresh database, how to count effects without asking
//! the store, and what it cannot do. The suite brings the laws.
//!
//! ```
//! # #[tokio::main] async fn main() {
//! use idem_testkit::conformance::{self, harness::Memory};
//!
//! let report = conformance::run(Memory::new()).await;
//! println!("{report}");
//! report.assert();
//! # }
//! ```

mod fixture;
pub mod harness;
mod laws;
mod report;
mod suite;
mod trial;

pub use self::fixture::{
    Ability, BoxError, BusinessRow, Fixture, Harness, NestedEnd, TransactionEnd, Violation,
};
pub use self::report::{Report, ReportedCase, Verdict};
pub use self::suite::{Suite, run};
