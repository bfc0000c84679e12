//! The part of a store that a scheduler needs: its clock, and how far the ticks of a job have come.

use std::time::Duration;

use async_trait::async_trait;

use crate::error::StoreError;
use crate::record::JobId;
use crate::schedule::Tick;

/// The clock of a store, and the last ticks of its jobs.
///
/// That a tick starts a job once is not decided here: the tick is the key of the job, and its record decides. The last
/// tick is only a memory of how far a scheduler has come.
#[async_trait]
pub trait ScheduleStore: Send + Sync + 'static {
    /// Returns the store's clock: how long ago 1970 began in UTC, to the millisecond.
    async fn now(&self) -> Result<Duration, StoreError>;

    /// Returns the last tick that a job is through with; `None` if there is none.
    async fn last_tick(&self, job: JobId) -> Result<Option<Tick>, StoreError>;

    /// Replaces the last tick of a job if it is still `from`, in one statement; tells whether it was.
    async fn advance_tick(&self, job: JobId, from: Option<Tick>, to: Tick) -> Result<bool, StoreError>;
}
