//! The clock and the ticks of jobs in SQLite.

use std::time::Duration;

use async_trait::async_trait;

use super::SqliteStore;
use crate::error::StoreError;
use crate::record::JobId;
use crate::schedule::Tick;
use crate::store::ScheduleStore;
use crate::store::sql::{driver_error, since_1970};

#[async_trait]
impl ScheduleStore for SqliteStore {
    async fn now(&self) -> Result<Duration, StoreError> {
        let mut reader = self.readers.lease().await?;
        let millis: i64 = sqlx::query_scalar(self.statements.now.clone())
            .fetch_one(&mut *reader)
            .await
            .map_err(|error| driver_error("reading the clock", error))?;
        reader.give_back();
        Ok(since_1970(millis))
    }

    async fn last_tick(&self, job: JobId) -> Result<Option<Tick>, StoreError> {
        let mut reader = self.readers.lease().await?;
        let tick: Option<Option<i64>> = sqlx::query_scalar(self.statements.last_tick.clone())
            .bind(job.0)
            .fetch_optional(&mut *reader)
            .await
            .map_err(|error| driver_error("reading the last tick of a job", error))?;
        reader.give_back();
        Ok(tick.flatten().map(Tick::from_unix))
    }

    async fn advance_tick(&self, job: JobId, from: Option<Tick>, to: Tick) -> Result<bool, StoreError> {
        let mut writer = self.writer.lease().await?;
        let advanced = sqlx::query(self.statements.advance_tick.clone())
            .bind(job.0)
            .bind(from.map(Tick::unix))
            .bind(to.unix())
            .execute(&mut *writer)
            .await
            .map_err(|error| driver_error("advancing the last tick of a job", error))?
            .rows_affected();
        writer.give_back();
        Ok(advanced == 1)
    }
}
