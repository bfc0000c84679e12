//! Programs that use idem; each is an example of its own.
//!
//! `jobs/` has the jobs themselves, one file a pattern, and is where to start reading. Each file is
//! written once, over the type `Db`, and compiled for every database: [`sqlite`], [`postgres`].
//! `demos/` is what the programs in `bin/` do with them.

pub mod cli;
pub mod gateway;
pub mod postgres;
pub mod sqlite;
