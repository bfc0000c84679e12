//! Leased jobs: what they answer, what their steps leave, what is in doubt, and who has the key.
//!
//! The laws of the stores are in the conformance suite; here the store is in memory, whose clock is moved by hand,
//! unless a test says otherwise.

#[allow(
    dead_code,
    unused_imports,
    reason = "the broken stores of the conformance suite; one is broken here by hand"
)]
#[path = "../faults/mod.rs"]
mod faults;

mod answers;
mod doubt;
mod forget;
mod lease;
mod steps;
mod world;
