//! A run that excludes others of its [`run_key`](crate::Job::run_key) while it runs: a claim on that key, with a lease
//! that the heart renews, around the run of the job's own key.

use std::future::Future;
use std::sync::Arc;

use tokio::time::Instant;
use tracing::{debug, warn};

use super::Context;
use super::call::{Call, Ended, NotBegun, wait_max};
use super::interrupt::{Interrupt, Stop};
use super::kind::RunOn;
use super::leased::{Raced, race, random_token};
use super::silence::{SILENCE_MAX, answered};
use super::wait::Waiting;
use crate::error::{ArgsError, Error, LostClaim, StoreError};
use crate::fingerprint::Fingerprint;
use crate::job::{Job, Retain};
use crate::key::{Key, KeyParts};
use crate::record::{self, Decision, Entry, Epoch, Hold, Outcome};
use crate::store::{Change, Claimed, Database, Held, Lease, LeaseClaim, LeaseStore, kept_by_a_run};

/// Runs a job that is unique while it runs. `started` is awaited when nothing stands in its way any more.
pub(crate) async fn run_unique<J, D, S>(
    context: Context<'_, D, S>,
    job: J,
    started: impl Future<Output = Result<(), NotBegun>>,
) -> Ended<J::Output, J::Error>
where
    J: RunOn<D, S>,
    D: Database,
{
    let call = Call::new(&context, &job)?;
    let store: Arc<dyn LeaseStore> = Arc::clone(context.store) as _;
    if J::SPEC.retain != Retain::None {
        // Who only asks for an answer excludes nobody, and is excluded by nobody.
        let entry = store.entry(call.key.hash()).await?;
        if entry.as_ref().and_then(Entry::record).is_some() {
            started.await?;
            return job.run_on(context).await;
        }
    }
    let key = run_key(context.namespace, &job).map_err(Error::Args)?;
    let (claim, asked) = take::<J, D, S>(&context, &call, &store, &key).await?;
    let interrupt = Arc::new(Interrupt::default());
    let lease = Lease { hold: claim.hold, length: J::SPEC.lease() };
    let beating = context.heart.beat(&store, lease, asked, Arc::clone(&interrupt));
    let epoch = claim.hold.epoch;
    // What it waits for to begin may take longer than the lease.
    let run = async {
        started.await?;
        job.run_on(context).await
    };
    let raced = race(&interrupt, None, run).await;
    drop(beating);
    match raced {
        Raced::Ended(ended) => {
            claim.end().await;
            ended
        }
        Raced::Stopped(Stop::Store(error)) => Err(error.into()),
        Raced::Stopped(Stop::Lost | Stop::Park(_) | Stop::Drift { .. }) => {
            let key = key.key.readable().to_owned();
            Err(Error::LostClaim(LostClaim { job: J::SPEC.name, key, epoch }).into())
        }
        Raced::TimedOut(_) => unreachable!("the run of the key has the limit"),
    }
}

/// What runs exclude each other by.
struct RunKey {
    key: Key,
    /// It is the key of the job: who has it does the same work.
    is_of_the_job: bool,
}

/// Returns the key of the claim. Its name is that of no job, so it meets no record, and people see what it is.
fn run_key<J: Job>(namespace: &str, job: &J) -> Result<RunKey, ArgsError> {
    let name = J::SPEC.name;
    let refuse = |error: crate::key::EmptyKey| ArgsError { job: name, reason: error.into() };
    let own = job.run_key().map_err(refuse)?;
    let is_of_the_job = own.is_none();
    let parts: KeyParts = match own {
        Some(parts) => parts,
        None => job.key().map_err(refuse)?,
    };
    let key = Key::new(namespace, &format!("{name} while executing"), &parts).remarked(" (while executing)");
    Ok(RunKey { key, is_of_the_job })
}

/// Takes the claim, waiting for another run for as long as the job says.
async fn take<J: Job, D: Database, S>(
    context: &Context<'_, D, S>,
    call: &Call<'_, J>,
    store: &Arc<dyn LeaseStore>,
    key: &RunKey,
) -> Result<(RunClaim, Instant), Error<J::Error>> {
    let mut waiting = Waiting::new(wait_max(&J::SPEC));
    loop {
        let claim = |epoch, attempts| -> Result<LeaseClaim<'_>, StoreError> {
            Ok(LeaseClaim {
                key: &key.key,
                job: context.enrolled.id,
                fingerprint: Fingerprint::NONE,
                epoch,
                token: random_token()?,
                attempts,
                lease: J::SPEC.lease(),
            })
        };
        let first = claim(Epoch::NONE.next(), 1)?;
        let asked = Instant::now();
        // Dropped with its answer under way, the claim may be there all the same.
        let taken = RunClaim::new(store, first.hold());
        let found = match store.claim(&first).await {
            Ok(Claimed::New) => return Ok((taken, asked)),
            Ok(Claimed::Found(found)) => {
                taken.forget();
                found
            }
            Err(error) => return Err(error.into()),
        };
        let lease_left = match record::decide(Some(&found), Fingerprint::NONE) {
            Decision::Take { epoch, attempts } => {
                let next = claim(epoch, attempts)?;
                let asked = Instant::now();
                let taken = RunClaim::new(store, next.hold());
                match store.take_over(&next, &found).await? {
                    Some(_) => return Ok((taken, asked)),
                    None => {
                        taken.forget();
                        continue;
                    }
                }
            }
            Decision::Busy { lease_left } => lease_left,
            Decision::Refuse { .. } | Decision::Replay | Decision::Parked => {
                return Err(kept_by_a_run().into());
            }
        };
        if !waiting.again(&**store, key.key.hash(), lease_left).await? {
            return Err(match key.is_of_the_job {
                true => call.busy(waiting.elapsed()),
                false => call.excluded(waiting.elapsed()),
            });
        }
    }
}

/// A claim of a run; dropping it ends it, or lets its lease pass.
struct RunClaim {
    store: Option<Arc<dyn LeaseStore>>,
    hold: Hold,
}

impl RunClaim {
    fn new(store: &Arc<dyn LeaseStore>, hold: Hold) -> Self {
        RunClaim { store: Some(Arc::clone(store)), hold }
    }

    /// Says that there is no claim.
    fn forget(mut self) {
        self.store = None;
    }

    async fn end(mut self) {
        if let Some(store) = &self.store {
            end(&**store, &self.hold).await;
        }
        self.store = None;
    }
}

impl Drop for RunClaim {
    fn drop(&mut self) {
        let (Some(store), hold) = (self.store.take(), self.hold) else { return };
        // Without a runtime the lease passes.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { end(&*store, &hold).await });
        }
    }
}

/// Ends a claim; if that fails, its lease passes.
async fn end(store: &dyn LeaseStore, hold: &Hold) {
    let change =
        Change::Settle { outcome: Outcome::Completed, result: &[], retain: Retain::None, tasks: &[] };
    match answered(SILENCE_MAX, store.change(hold, &change)).await {
        Ok(Held::Yes) => {}
        Ok(Held::Lost | Held::Unknown) => debug!(hash = %hold.key, "the claim of a run had ended before it"),
        Err(error) => {
            warn!(hash = %hold.key, %error, "the claim of a run was not ended; others run when its lease has passed");
        }
    }
}
