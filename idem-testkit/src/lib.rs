//! Tests that a job is safe to run again: crashes, races and real servers.

pub mod conformance;
pub mod servers;
