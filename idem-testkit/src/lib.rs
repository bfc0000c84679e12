//! Tests that a job is safe to run again: crashes, races and real servers.

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
        Trouble, check_concurrent, check_crash, check_interleavings, check_kill, check_lost_ack,
        check_repeat, check_rival, check_single_effect, check_zombie, examine, examine_schedule,
    },
    lab::Lab,
    scenario::{Scenario, SetUpError},
    trial::Trial,
};
use unique::unique;

/// The README, so that its snippets are compiled and run.
#[cfg(all(doctest, feature = "sqlite"))]
#[doc = include_str!("../../README.md")]
mod readme {}
