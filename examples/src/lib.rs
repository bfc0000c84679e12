//! Programs that use idem; each is an example of its own.
//!
//! `jobs/` has the jobs themselves, one file a pattern, and is where to start reading. Each file is
//! written once, over the type `Db`, and compiled for every database: [`sqlite`], [`postgres`].
//! `demos/` is what the programs in `bin/` do with them, and [`provider`] the world outside: who takes
//! money and sends mails.

pub mod cli;
pub mod database_url;
pub mod fleet;
pub mod postgres;
pub mod process;
pub mod progress;
pub mod provider;
pub mod sqlite;

/// A job that works on every database, so that it is there once.
#[path = "jobs/user_sync.rs"]
pub mod user_sync;
