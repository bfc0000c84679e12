//! Tests that a job is safe to run again: crashes, races and real servers.
//!
//! A `Scenario` is a job and all that it needs to run in a test; `check_single_effect` does everything to it that breaks jobs:
//!
//! | plan | what is tried |
//! |---|---|
//! | `check_repeat` | the same run again and again |
//! | `check_concurrent` | many runs at once |
//! | `check_crash` | a crash at every window, then recovery. A window is an await of the run, or a side of a call of the store. At the first await of the body the next run crashes too |
//! | `check_lost_ack` | the answer to `COMMIT` is lost |
//! | `check_rival` | somebody else's record appears while the job runs; skipped for leased jobs, for `retain = none`, and on SQLite, where nobody can write meanwhile |
//! | `check_interleavings` | two runs, step by step, in every order with at most two changes of turn |
//! | `check_zombie` | a worker that stands still, loses its claim and wakes up |
//! | `check_outage` | something fails once and works the next time: the database refuses to write to a table, or a service that [`Scenario::outage`] names is out |
//! | `check_kill` | a process that is killed at every window, then recovery |
//!
//! Each trial has a fresh database. Two clean runs teach a check what the job leaves, and which columns differ by nature, so a test
//! asserts nothing itself:
//!
//! ```
//! # #[cfg(feature = "sqlite")] mod example {
//! use idem_runtime::prelude::*;
//! use idem_testkit::{Scenario, check_crash};
//!
//! #[idempotent(key = payment_id)]
//! async fn charge(tx: &mut Tx<'_, Sqlite>, payment_id: i64) -> Result<(), sqlx::Error> {
//!     sqlx::query("INSERT INTO charges VALUES (?)").bind(payment_id).execute(&mut **tx).await?;
//!     Ok(())
//! }
//!
//! # #[tokio::main(flavor = "current_thread")] pub async fn main() {
//! check_crash(Scenario::new(Charge { payment_id: 42 }).setup(async |lab| {
//!     sqlx::query("CREATE TABLE charges (payment_id)").execute(&lab.pool(1)).await?;
//!     Ok(())
//! }))
//! .await;
//! # }
//! # }
//! # fn main() { #[cfg(feature = "sqlite")] example::main(); }
//! ```
//!
//! A failure says what was left, what the workers did, and a line with `IDEM_SCHEDULE=…` that does exactly that again;
//! `IDEM_REPORT=folder` writes reports as HTML and JSON.
//! [`check_all_jobs_covered!`] fails when a job of the crate has no scenario.
//! Jobs on PostgreSQL and MySQL run on servers that are [named](servers) or that the test starts for itself; `lab` makes the databases.
//! Who writes a store runs the [conformance] suite on it.

#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
mod check;
mod code;
pub mod conformance;
pub mod coverage;
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
mod hint;
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
pub mod lab;
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
mod oracle;
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
pub mod plan;
#[cfg(unix)]
mod private;
pub mod proxy;
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
pub mod report;
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
mod scenario;
pub mod servers;
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
mod subject;
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
pub mod tables;
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
mod trial;
mod unique;
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
mod watch;
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
mod watched;
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
mod world;

pub use self::code::Code;
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
pub use self::{
    check::{
        Checked, Trouble, check_concurrent, check_crash, check_interleavings, check_kill, check_lost_ack,
        check_outage, check_repeat, check_rival, check_single_effect, check_zombie, examine,
        examine_schedule,
    },
    lab::Lab,
    scenario::{Count, Scenario, SetUpError, TrialState},
    trial::Trial,
};
use unique::unique;

/// The README, so that its snippets are compiled and run.
#[cfg(all(doctest, feature = "sqlite"))]
#[doc = include_str!("../../README.md")]
mod readme {}

/// Chapters of the runtime's book whose snippets need crates that the runtime does not depend on.
#[cfg(all(doctest, feature = "sqlite"))]
mod book {
    #[doc = include_str!("../../idem-runtime/src/book/apalis.md")]
    mod apalis {}
    #[doc = include_str!("../../idem-runtime/src/guide/testing.md")]
    mod testing {}
    #[doc = include_str!("../../idem-runtime/src/guide/worker.md")]
    mod worker {}
}
