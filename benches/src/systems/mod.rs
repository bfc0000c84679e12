//! What is measured: the same small job, protected in different ways.
//!
//! The job charges an account: one INSERT and one UPDATE. The leased one has three steps, each one INSERT.

mod databases;
mod folded;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use async_trait::async_trait;
use clap::ValueEnum;
use idem_bench::count::Counter;
use idem_bench::servers;
use idem_bench_page::{Contender, Form, Store};
use idem_testkit::proxy::Proxy;
use sqlx::{Connection as _, PgConnection};

/// How many accounts are charged, so that their rows are no bottleneck.
pub(crate) const ACCOUNTS: i64 = 10_000;

/// How many runs of one key a herd is.
pub(crate) const HERD: usize = 16;

/// How many keys are replayed.
pub(crate) const REPLAYED_KEYS: i64 = 1_000;

/// How many steps a leased job has.
pub(crate) const STEPS: i64 = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Workload {
    /// Every run has a key of its own
    First,
    /// Every run has a key that has run
    Replay,
    /// Sixteen runs of one fresh key at once
    Herd,
    /// Every run is a leased job of three steps, and has a key of its own
    Steps,
}

impl Workload {
    pub(crate) fn form(self) -> Form {
        match self {
            Workload::First => Form::First,
            Workload::Replay => Form::Replay,
            Workload::Herd => Form::Herd,
            Workload::Steps => Form::Steps,
        }
    }
}

/// What is between the bench and a server.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Network {
    /// Nothing.
    Direct,
    /// A proxy that counts, and holds each message back for so long.
    Proxy(Duration),
}

/// One way to protect the job.
#[async_trait]
pub(crate) trait System: Send + Sync {
    fn contender(&self) -> Contender;

    /// Does the workload once, as caller number `caller`.
    async fn run(&self, caller: usize) -> anyhow::Result<()>;
}

/// The systems to measure side by side, and what makes sure that they did what they say.
pub(crate) struct Bench {
    pub(crate) systems: Vec<Arc<dyn System>>,
    check: Box<dyn Fn() -> databases::Check + Send + Sync>,
    /// What the systems go through to the server.
    proxy: Option<Proxy>,
}

impl Bench {
    /// Fails if a protected system charged a key twice.
    pub(crate) async fn check(&self) -> anyhow::Result<()> {
        (self.check)().await
    }

    /// Makes what counts the messages of these systems; once, since it takes the proxy along.
    pub(crate) async fn counter(&mut self, store: Store) -> anyhow::Result<Counter> {
        let proxy = self.proxy.take().context("nothing counts without a proxy")?;
        let observer = match store {
            Store::Postgres => Some(PgConnection::connect_with(&servers::postgres()?).await?),
            Store::Sqlite | Store::Mysql => None,
        };
        Ok(Counter { store, proxy, observer })
    }
}

/// Makes the systems on a fresh database, with so many records in idem's table.
pub(crate) async fn on(
    store: Store,
    workload: Workload,
    callers: usize,
    records: u64,
    network: Network,
) -> anyhow::Result<Bench> {
    match store {
        Store::Sqlite => databases::sqlite(workload, callers, records).await,
        Store::Postgres => databases::postgres(workload, callers, records, network).await,
        Store::Mysql => databases::mysql(workload, callers, records, network).await,
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
