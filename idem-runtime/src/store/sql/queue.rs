//! What the databases share in enqueueing tasks.

use std::time::Duration;

use super::driver_error;
use crate::engine::TaskId;
use crate::error::{StoreError, StoreErrorKind};
use crate::store::{Engine, Push, UniqueClaim};

/// Turns an error of the driver into one that says whose tables are missing.
pub(in crate::store) fn engine_error(
    doing: &str,
    engine: Engine,
    storage: &str,
    error: sqlx::Error,
) -> StoreError {
    let text = error.to_string();
    let is_apalis = engine == Engine::Apalis
        && ["apalis.jobs", "Jobs", "\"apalis\"", "hstore"].iter().any(|name| text.contains(name));
    let made = driver_error(doing, error);
    match is_apalis && matches!(made.kind(), StoreErrorKind::NotMigrated | StoreErrorKind::Refused) {
        false => made,
        true => {
            let advice = format!(
                "{doing} failed: {text}; the tables of apalis are not in the database that the pool is connected to: \
                     call `{storage}::setup` at start-up, before `Idem::migrate` and `Queue::set_up`; nothing was enqueued"
            );
            StoreError::new(StoreErrorKind::NotMigrated, advice).caused_by(made)
        }
    }
}

/// Another transaction took a claim and gave it back each time that it was asked for.
pub(in crate::store) fn crowded() -> StoreError {
    let text =
        "a unique claim changed hands each time that it was asked for; nothing was enqueued; try again";
    StoreError::new(StoreErrorKind::Conflict, text).temporary()
}

/// Returns the claim of a task that has met another one with it.
pub(in crate::store) fn claim_of<'a>(task: &Push<'a>) -> UniqueClaim<'a> {
    task.claim.expect("only a task with a claim meets one that has it")
}

/// Writes a duration in milliseconds; a longer one than a thousand years is as good as that.
pub(in crate::store) fn millis(duration: Duration) -> i64 {
    super::lease_millis(duration)
}

/// Reads the id of a task that was given one.
pub(in crate::store) fn read_task_id(text: Option<&str>) -> Result<Option<TaskId>, sqlx::Error> {
    text.map(parse_task_id).transpose()
}

pub(in crate::store) fn parse_task_id(text: &str) -> Result<TaskId, sqlx::Error> {
    text.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))
}
