//! Jobs that the clock starts: which ticks start them, how often, and what becomes of those that fail.
//!
//! The store's clock is moved by hand, and goes on with tokio's, which most tests stop: then waits take no time.

#[allow(
    dead_code,
    unused_imports,
    reason = "the broken stores of the conformance suite; here one has a clock of its own"
)]
#[path = "../faults/mod.rs"]
mod faults;

mod cleanup;
mod crash;
mod databases;
mod failures;
mod ticks;
mod world;
