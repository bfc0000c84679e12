//! The clock and the ticks of jobs in memory.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;

use super::MemoryStore;
use crate::error::StoreError;
use crate::record::JobId;
use crate::schedule::Tick;
use crate::store::ScheduleStore;

#[async_trait]
impl ScheduleStore for MemoryStore {
    async fn now(&self) -> Result<Duration, StoreError> {
        // A clock that is set before 1970 is as good as one that stands there.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() + self.data().advanced;
        Ok(Duration::new(now.as_secs(), now.subsec_millis() * 1_000_000))
    }

    async fn last_tick(&self, job: JobId) -> Result<Option<Tick>, StoreError> {
        Ok(self.data().ticks.get(&job).copied())
    }

    async fn advance_tick(&self, job: JobId, from: Option<Tick>, to: Tick) -> Result<bool, StoreError> {
        let mut data = self.data();
        let is_known = usize::try_from(job.0).is_ok_and(|at| at < data.jobs.len());
        if !is_known || data.ticks.get(&job).copied() != from {
            return Ok(false);
        }
        data.ticks.insert(job, to);
        Ok(true)
    }
}
