//! The proof of the testkit: planted bugs, each taken from a failure of a real system, are all found; correct
//! jobs raise no alarm; bad input is refused with a reason.
//!
//! `docs/planted-bugs.md` is the list, written by this test: `UPDATE=1 cargo test -p idem-testkit --test planted`.
//! `IDEM_ROUNDS=20` checks every correct job twenty times instead of once.

#![cfg(feature = "sqlite")]

#[macro_use]
mod harness;

#[allow(
    dead_code,
    unused_imports,
    reason = "the broken stores of the conformance suite; some are planted here too"
)]
#[path = "../faults/mod.rs"]
mod faults;

#[path = "../common/kept.rs"]
mod kept;

mod bad_input;
mod correct;
mod correct_leased;
mod elsewhere;
mod errors;
mod keys;
mod leased;
mod leased_stores;
mod memory;
mod outside;
mod stores;
mod table;
mod unrecorded;
