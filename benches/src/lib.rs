//! What the benches share: how something is timed, how it is counted, and what the servers say of themselves.

pub mod cell;
pub mod count;
pub mod servers;
