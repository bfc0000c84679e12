//! What the databases share in enqueueing tasks.

use std::collections::HashMap;
use std::time::Duration;

use super::driver_error;
use crate::engine::TaskId;
use crate::error::{StoreError, StoreErrorKind};
use crate::store::{Engine, Push};

/// How often a task is offered again whose claim was taken and given back in that moment.
pub(in crate::store) const OFFERS: usize = 16;

/// Returns the places of the tasks that are first with their claim, and of all others the place of that first one.
pub(in crate::store) fn first_of_each_claim(tasks: &[Push<'_>]) -> (Vec<usize>, HashMap<usize, usize>) {
    let mut claims = HashMap::new();
    let (mut first, mut twins) = (Vec::with_capacity(tasks.len()), HashMap::new());
    for (place, task) in tasks.iter().enumerate() {
        let Some(claim) = task.claim else {
            first.push(place);
            continue;
        };
        match claims.get(&claim.key.hash()) {
            None => {
                claims.insert(claim.key.hash(), place);
                first.push(place);
            }
            Some(other) => {
                twins.insert(place, *other);
            }
        }
    }
    (first, twins)
}

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
            let advice =
                format!("{doing} failed: {text}; the tables of apalis are missing: call `{storage}::setup`");
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

/// Writes a duration in milliseconds; a longer one than a thousand years is as good as that.
pub(in crate::store) fn millis(duration: Duration) -> i64 {
    super::lease_millis(duration)
}

/// Reads the id of a task that was given one.
pub(in crate::store) fn read_task_id(text: Option<&str>) -> Result<Option<TaskId>, sqlx::Error> {
    let read = |text: &str| text.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)));
    text.map(read).transpose()
}
