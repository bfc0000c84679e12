//! Tests that a job is safe to run again: crashes, races and real servers.

pub mod conformance;
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
pub mod lab;
pub mod plan;
#[cfg(unix)]
mod private;
pub mod proxy;
pub mod report;
pub mod servers;
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
pub mod tables;
mod unique;

use unique::unique;

/// The README, so that its snippets are compiled and run.
#[cfg(all(doctest, feature = "sqlite"))]
#[doc = include_str!("../../README.md")]
mod readme {}
