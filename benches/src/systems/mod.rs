//! What is measured: the same small job, protected in different ways.
//!
//! The job charges an account: one INSERT and one UPDATE.

mod databases;
mod folded;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use async_trait::async_trait;
use clap::ValueEnum;
use serde::Serialize;

pub(crate) use self::databases::{mysql, postgres, sqlite};

/// How many accounts are charged, so that their rows are no bottleneck.
pub(crate) const ACCOUNTS: i64 = 10_000;

/// How many runs of one key a herd is.
pub(crate) const HERD: usize = 16;

/// How many keys are replayed.
pub(crate) const REPLAYED_KEYS: i64 = 1_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Workload {
    /// Every run has a key of its own
    First,
    /// Every run has a key that has run
    Replay,
    /// Sixteen runs of one fresh key at once
    Herd,
}

/// One way to protect the job.
#[async_trait]
pub(crate) trait System: Send + Sync {
    fn name(&self) -> &'static str;

    /// Does the workload once, as worker number `worker`.
    async fn run(&self, worker: usize) -> anyhow::Result<()>;
}

/// The systems to measure side by side, and what makes sure that they did what they say.
pub(crate) struct Bench {
    pub(crate) systems: Vec<Arc<dyn System>>,
    check: Box<dyn Fn() -> databases::Check + Send + Sync>,
}

impl Bench {
    /// Fails if a protected system charged a key twice.
    pub(crate) async fn check(&self) -> anyhow::Result<()> {
        (self.check)().await
    }
}

/// Keys that nobody has used, of all systems of a process.
fn fresh_key() -> i64 {
    static NEXT: AtomicI64 = AtomicI64::new(REPLAYED_KEYS);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Keys that have run, one after the other.
fn used_key() -> i64 {
    static NEXT: AtomicI64 = AtomicI64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed) % REPLAYED_KEYS
}
