//! The heartbeat: one task renews the leases of all runs of an `Idem`, those that are due together in one
//! statement. It ends with the last run.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::{debug, warn};

use super::interrupt::{Interrupt, Stop};
use crate::error::StoreErrorKind;
use crate::record::{Hold, Token};
use crate::store::{Lease, LeaseStore};

/// A lease is renewed when a third of it has passed, so that two renewals may fail.
const BEATS_PER_LEASE: u32 = 3;

/// How long a renewal is given at the least.
const TRY_MIN: Duration = Duration::from_secs(1);

/// How many leases one statement renews.
const BATCH: usize = 500;

/// Renews the leases of the runs that are under way.
#[derive(Default)]
pub(crate) struct Heart {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// Told when the first beat is earlier than before.
    earlier: Notify,
}

#[derive(Default)]
struct State {
    /// By token: no two runs share one.
    beats: HashMap<Token, Beat>,
    /// The task is there.
    is_beating: bool,
}

struct Beat {
    lease: Lease,
    /// When the lease is renewed next.
    due: Instant,
    /// When the lease has passed unless a renewal was answered, as far as this process can tell.
    passes: Instant,
    interrupt: Arc<Interrupt>,
}

impl Beat {
    fn interval(&self) -> Duration {
        self.lease.length / BEATS_PER_LEASE
    }
}

impl Heart {
    /// Renews a lease from now on, until the guard is dropped. A run whose lease is lost is interrupted.
    ///
    /// `asked` is when the claim was sent to the store: its lease began no earlier.
    pub(super) fn beat(
        &self,
        store: &Arc<dyn LeaseStore>,
        lease: Lease,
        asked: Instant,
        interrupt: Arc<Interrupt>,
    ) -> Beating {
        let due = asked + lease.length / BEATS_PER_LEASE;
        let beat = Beat { lease, due, passes: asked + lease.length, interrupt };
        let was_beating = {
            let mut state = self.shared.state();
            state.beats.insert(lease.hold.token, beat);
            std::mem::replace(&mut state.is_beating, true)
        };
        // Not under the lock: a task that cannot be spawned is dropped here, which takes the lock.
        if !was_beating {
            let alive = Alive { shared: Arc::clone(&self.shared), ended: false };
            tokio::spawn(beat_on(alive, Arc::clone(store)));
        }
        self.shared.earlier.notify_one();
        Beating { shared: Arc::clone(&self.shared), token: lease.hold.token }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // It is whole between any two statements, so a panic elsewhere does not matter.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns when the next lease is due; `None`, and the task is gone, if there is none.
    fn next_due(&self) -> Option<Instant> {
        let mut state = self.state();
        let next = state.beats.values().map(|beat| beat.due).min();
        state.is_beating = next.is_some();
        next
    }

    /// Returns the leases that are due, and those that soon will be: half an interval early costs nothing
    /// and saves a statement.
    fn due(&self, now: Instant) -> Vec<Lease> {
        let state = self.state();
        let is_near = |beat: &&Beat| beat.due <= now + beat.interval() / 2;
        state.beats.values().filter(is_near).map(|beat| beat.lease).collect()
    }

    fn renewed(&self, leases: &[Lease], lost: &[Hold], asked: Instant) {
        let mut state = self.state();
        for lease in leases {
            let Some(beat) = state.beats.get_mut(&lease.hold.token) else { continue };
            if lost.contains(&lease.hold) {
                beat.interrupt.stop(Stop::Lost);
                state.beats.remove(&lease.hold.token);
            } else {
                beat.due = asked + beat.interval();
                beat.passes = asked + lease.length;
            }
        }
    }

    /// Tries again soon. Where the store did not answer for a whole lease, for whatever reason, the run is given up:
    /// somebody else may have the key. Where others stood in the way of the write, they do so for everybody, and
    /// the store's word is waited for.
    fn not_renewed(&self, leases: &[Lease], out_of_reach: bool, now: Instant) {
        let mut state = self.state();
        for lease in leases {
            let Some(beat) = state.beats.get_mut(&lease.hold.token) else { continue };
            if out_of_reach && beat.passes <= now {
                beat.interrupt.stop(Stop::Lost);
                state.beats.remove(&lease.hold.token);
            } else {
                beat.due = now + beat.interval() / 4;
            }
        }
    }

    /// Returns how long one try may take for these leases, so that another one is left; `None` if all have ended.
    fn try_limit(&self, leases: &[Lease]) -> Option<Duration> {
        let state = self.state();
        let beats = leases.iter().filter_map(|lease| state.beats.get(&lease.hold.token));
        beats.map(Beat::interval).min().map(|interval| interval.max(TRY_MIN))
    }
}

async fn beat_on(mut alive: Alive, store: Arc<dyn LeaseStore>) {
    let shared = &Arc::clone(&alive.shared);
    while let Some(due) = shared.next_due() {
        if tokio::time::timeout_at(due, shared.earlier.notified()).await.is_ok() {
            continue;
        }
        for batch in shared.due(Instant::now()).chunks(BATCH) {
            // A run that has ended meanwhile needs no renewal.
            let Some(limit) = shared.try_limit(batch) else { continue };
            let asked = Instant::now();
            match tokio::time::timeout(limit, store.renew(batch)).await {
                Ok(Ok(lost)) => {
                    debug!(leases = batch.len(), lost = lost.len(), "renewed leases");
                    shared.renewed(batch, &lost, asked);
                }
                Ok(Err(error)) => {
                    warn!(%error, leases = batch.len(), "renewing leases failed; trying again");
                    let out_of_reach = error.kind() != StoreErrorKind::Conflict;
                    shared.not_renewed(batch, out_of_reach, Instant::now());
                }
                Err(_) => {
                    warn!(leases = batch.len(), ?limit, "renewing leases got no answer; trying again");
                    shared.not_renewed(batch, true, Instant::now());
                }
            }
        }
    }
    alive.ended = true;
}

/// Says that the task is gone if its runtime is shut down.
struct Alive {
    shared: Arc<Shared>,
    /// The task has said so itself, and another one may be there by now.
    ended: bool,
}

impl Drop for Alive {
    fn drop(&mut self) {
        if !self.ended {
            self.shared.state().is_beating = false;
        }
    }
}

/// A lease that is being renewed.
pub(super) struct Beating {
    shared: Arc<Shared>,
    token: Token,
}

impl Beating {
    /// Returns a way to ask whether the lease is over.
    pub(super) fn clock(&self) -> LeaseClock {
        LeaseClock { shared: Arc::clone(&self.shared), token: self.token }
    }
}

/// Tells whether a lease is over, as far as this process can tell.
pub(super) struct LeaseClock {
    shared: Arc<Shared>,
    token: Token,
}

impl LeaseClock {
    pub(super) fn is_over(&self) -> bool {
        self.shared.state().beats.get(&self.token).is_none_or(|beat| beat.passes <= Instant::now())
    }
}

impl Drop for Beating {
    fn drop(&mut self) {
        self.shared.state().beats.remove(&self.token);
        // The task looks whether anybody is left.
        self.shared.earlier.notify_one();
    }
}
