//! The protocol of a run: admit, run the body, settle.

mod atomic;
mod flight;

pub(crate) use self::atomic::{Context, run_atomic};
pub(crate) use self::flight::Flights;
