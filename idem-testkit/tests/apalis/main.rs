//! Unique jobs in the queues of apalis, run by its own workers, on real databases.
//!
//! Every test is written once and runs on SQLite and on PostgreSQL.
#![allow(clippy::duplicate_mod, reason = "the files of the themes are compiled once for each database")]

mod desk;
mod jobs;
mod log;
mod polling;

#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "sqlite")]
mod property;
#[cfg(feature = "sqlite")]
mod sqlite;
