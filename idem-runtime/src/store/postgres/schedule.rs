//! The clock and the ticks of jobs in PostgreSQL.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::Row;

use super::{PostgresStore, message};
use crate::error::StoreError;
use crate::record::JobId;
use crate::schedule::Tick;
use crate::store::ScheduleStore;
use crate::store::sql::{driver_error, since_1970};

#[async_trait]
impl ScheduleStore for PostgresStore {
    async fn now(&self) -> Result<Duration, StoreError> {
        let doing = "reading the clock";
        let rows = self.ask(doing, self.statements.now().to_owned()).await?;
        let now = rows.first().ok_or(sqlx::Error::RowNotFound).and_then(|row| row.try_get("now"));
        now.map(since_1970).map_err(|error| driver_error(doing, error))
    }

    async fn last_tick(&self, job: JobId) -> Result<Option<Tick>, StoreError> {
        let doing = "reading the last tick of a job";
        let rows = self.ask(doing, self.statements.last_tick(job)).await?;
        let tick = rows.first().map(|row| row.try_get::<Option<i64>, _>("last_tick")).transpose();
        Ok(tick.map_err(|error| driver_error(doing, error))?.flatten().map(Tick::from_unix))
    }

    async fn advance_tick(&self, job: JobId, from: Option<Tick>, to: Tick) -> Result<bool, StoreError> {
        // It is not sent twice: what it answers the second time would be wrong.
        let mut connection = self.connections.lease_alive().await?;
        let rows = message(&mut connection, self.statements.advance_tick(job, from, to))
            .await
            .map_err(|error| driver_error("advancing the last tick of a job", error))?;
        connection.give_back();
        Ok(!rows.is_empty())
    }
}
