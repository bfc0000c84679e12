//! What the broken stores do wrong with clocks and ticks, one mistake each.

use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use idem_runtime::StoreError;
use idem_runtime::record::JobId;
use idem_runtime::schedule::Tick;
use idem_runtime::store::Database;

use super::{Fault, Good};

faults! {
    /// Takes milliseconds for seconds.
    CountsMillisecondsAsSeconds;
    /// Advances whatever the tick was.
    AdvancesFromAnywhere;
    /// Looks first and advances afterwards, whatever has happened in between.
    LooksThenAdvances;
    /// Has one tick for all jobs.
    SharesTheTick;
}

/// Reads the clock once and never again.
#[derive(Default)]
pub(crate) struct StopsTheClock(Mutex<Option<Duration>>);

#[async_trait]
impl<D: Database> Fault<D> for CountsMillisecondsAsSeconds {
    async fn now(&self, good: &Good<D>) -> Result<Duration, StoreError> {
        good.now().await.map(|now| now * 1_000)
    }
}

#[async_trait]
impl<D: Database> Fault<D> for StopsTheClock {
    async fn now(&self, good: &Good<D>) -> Result<Duration, StoreError> {
        let now = good.now().await?;
        Ok(*self.0.lock().expect("nobody panics").get_or_insert(now))
    }
}

#[async_trait]
impl<D: Database> Fault<D> for AdvancesFromAnywhere {
    async fn advance_tick(
        &self,
        good: &Good<D>,
        job: JobId,
        _: Option<Tick>,
        to: Tick,
    ) -> Result<bool, StoreError> {
        let from = good.last_tick(job).await?;
        good.advance_tick(job, from, to).await
    }
}

#[async_trait]
impl<D: Database> Fault<D> for LooksThenAdvances {
    async fn advance_tick(
        &self,
        good: &Good<D>,
        job: JobId,
        from: Option<Tick>,
        to: Tick,
    ) -> Result<bool, StoreError> {
        if good.last_tick(job).await? != from {
            return Ok(false);
        }
        tokio::task::yield_now().await;
        let from = good.last_tick(job).await?;
        good.advance_tick(job, from, to).await
    }
}

#[async_trait]
impl<D: Database> Fault<D> for SharesTheTick {
    async fn last_tick(&self, good: &Good<D>, _: JobId) -> Result<Option<Tick>, StoreError> {
        let one = good.enrol("shared", "tick").await?;
        good.last_tick(one).await
    }

    async fn advance_tick(
        &self,
        good: &Good<D>,
        _: JobId,
        from: Option<Tick>,
        to: Tick,
    ) -> Result<bool, StoreError> {
        let one = good.enrol("shared", "tick").await?;
        good.advance_tick(one, from, to).await
    }
}
