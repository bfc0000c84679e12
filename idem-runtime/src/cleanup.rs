//! Deletes what has had its time: by a call of [`Idem::sweep`](crate::Idem::sweep), or as a job that the clock starts.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tracing::{debug, info};

use crate::error::{Error, StoreError};
use crate::job::{Job, JobSpec, Leased, LeasedJob, Retain, Schedule, Settled};
use crate::key::{EmptyKey, KeyParts};
use crate::observe;
use crate::operator::ALL_KEYS;
use crate::record::{Event, State, next};
use crate::run::Run;
use crate::schedule::{Scheduled, Tick};
use crate::store::{Database, Forget, KeyFilter, KeyOrder, Store};

/// How many records one batch looks at.
const BATCH: u32 = 1_000;

/// How many failed keys one batch forgets: each is a transaction of its own.
const FORGET_BATCH: u32 = 100;

/// The pause after a batch that deleted something, which leaves the database to its users.
const PAUSE: Duration = Duration::from_millis(50);

/// The job `idem.cleanup`, which does what [`Idem::sweep`](crate::Idem::sweep) does, every ten minutes unless it is told otherwise.
///
/// It is a job like others: give it to the scheduler of every process, and one of them cleans up. It deletes records whose
/// retention has passed and unique claims for a time that is over, of every namespace, and failed keys of this namespace for which
/// [`Builder::keep_failed`](crate::Builder::keep_failed) says so. Parked keys stay until a person resolves them.
///
/// # Example
///
/// ```
/// # #[cfg(feature = "schedule")]
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use idem_runtime::cleanup::Cleanup;
/// use idem_runtime::prelude::*;
///
/// let idem = Idem::memory().build()?;
/// let scheduler = idem.scheduler().job::<Cleanup>()?;
/// scheduler.run_until(async { /* a signal to stop */ }).await;
/// # Ok(()) }
/// # #[cfg(not(feature = "schedule"))] fn main() {}
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cleanup {
    tick: Tick,
}

/// What a clean-up has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Swept {
    /// How many records were deleted, those of the keys that it forgot included.
    pub deleted: u64,
    /// How many failed keys were forgotten.
    pub forgotten: u64,
    /// How many unique claims whose time is over were deleted.
    pub claims: u64,
}

impl Job for Cleanup {
    type Kind = Leased;
    type Output = Swept;
    type Error = Infallible;
    const SPEC: JobSpec = JobSpec::leased("idem.cleanup")
        .retain(Retain::For(Duration::from_secs(24 * 60 * 60)))
        .schedule(Schedule::new("*/10 * * * *"));

    fn key(&self) -> Result<KeyParts, EmptyKey> {
        KeyParts::of(&self.tick)
    }
}

impl Scheduled for Cleanup {
    fn at(tick: Tick) -> Self {
        Cleanup { tick }
    }
}

impl<D: Database, S: Sync + 'static> LeasedJob<D, S> for Cleanup {
    async fn body<'a>(self, run: &'a mut Run<'_, D>, _: &'a S) -> Result<Settled<Swept>, Error<Infallible>> {
        let swept = sweep(run.store(), run.namespace(), run.keep_failed()).await?;
        Ok(Settled::Executed(swept))
    }
}

/// How long failed keys are kept, by the names of their jobs; those of other jobs for ever.
pub(crate) type KeepFailed = HashMap<&'static str, Duration>;

/// Deletes all that has had its time. Whatever gets a time to live has its place here.
pub(crate) async fn sweep<D: Database>(
    store: &Arc<dyn Store<D>>,
    namespace: &str,
    keep_failed: &KeepFailed,
) -> Result<Swept, StoreError> {
    let mut forgotten = 0;
    // First, since what is forgotten expires.
    for (job, keep) in keep_failed {
        forgotten += forget_failed(store, namespace, job, *keep).await?;
    }
    let swept = Swept { forgotten, ..delete(store, |_| ()).await? };
    observe::swept("failed_keys", swept.forgotten);
    info!(deleted = swept.deleted, forgotten = swept.forgotten, claims = swept.claims, "cleaned up");
    Ok(swept)
}

/// Deletes the records and the unique claims of every namespace whose time is over; `progress` is told how many records are
/// gone whenever some more are.
pub(crate) async fn delete<D: Database>(
    store: &Arc<dyn Store<D>>,
    progress: impl FnMut(u64) + Send,
) -> Result<Swept, StoreError> {
    let deleted = delete_expired(store, progress).await?;
    let claims = delete_expired_claims(store).await?;
    observe::swept("records", deleted);
    observe::swept("claims", claims);
    Ok(Swept { deleted, forgotten: 0, claims })
}

/// Forgets keys of a job that have failed this long ago, and returns how many.
async fn forget_failed<D: Database>(
    store: &Arc<dyn Store<D>>,
    namespace: &str,
    job: &'static str,
    keep: Duration,
) -> Result<u64, StoreError> {
    const STATE: State = State::Failed;
    next(STATE, Event::Forget).expect("a failed key may be forgotten");
    let mut forgotten = 0;
    let id = store.enrol(namespace, job).await?;
    let why = format!("failed keys of this job are kept for {keep:?}");
    loop {
        let filter = KeyFilter {
            namespace: Some(namespace),
            job: Some(job),
            states: &[STATE],
            limit: FORGET_BATCH,
            order: KeyOrder::LongestUnchanged,
            ..ALL_KEYS
        };
        let mut rows = store.keys(&filter).await?;
        let is_last = rows.len() < FORGET_BATCH as usize;
        rows.retain(|row| row.since >= keep);
        let before = forgotten;
        for row in &rows {
            let forget = Forget {
                key: row.hash,
                job: id,
                state: STATE,
                epoch: row.entry.epoch,
                action: "clean-up",
                why: &why,
            };
            if store.forget(&forget).await? {
                info!(job, key = row.key, epoch = %row.entry.epoch, "a failed key is forgotten");
                forgotten += 1;
            }
        }
        // One that has changed in the meantime is not failed any more, or not for as long.
        if is_last || rows.len() < FORGET_BATCH as usize || forgotten == before {
            return Ok(forgotten);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Deletes unique claims for a time that is over, and returns how many.
async fn delete_expired_claims<D: Database>(store: &Arc<dyn Store<D>>) -> Result<u64, StoreError> {
    let mut deleted = 0;
    loop {
        let batch = store.sweep_claims(BATCH).await?;
        deleted += batch;
        if batch < u64::from(BATCH) {
            return Ok(deleted);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Deletes records whose retention has passed, and returns how many.
async fn delete_expired<D: Database>(
    store: &Arc<dyn Store<D>>,
    mut progress: impl FnMut(u64) + Send,
) -> Result<u64, StoreError> {
    let mut deleted = 0;
    let mut cursor = None;
    loop {
        let batch = store.sweep(cursor, BATCH).await?;
        deleted += batch.deleted;
        debug!(deleted = batch.deleted, "swept a batch");
        if batch.deleted > 0 {
            progress(deleted);
        }
        cursor = batch.cursor;
        match (cursor, batch.deleted) {
            (None, _) => return Ok(deleted),
            (Some(_), 0) => {}
            (Some(_), _) => tokio::time::sleep(PAUSE).await,
        }
    }
}
