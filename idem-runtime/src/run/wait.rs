//! Waiting for another run that has the key.

use std::time::Duration;

use tokio::time::Instant;

use crate::error::StoreError;
use crate::key::KeyHash;
use crate::store::{LeaseStore, Watch};

/// How soon a run that waits looks again, where the store cannot tell it: at first, and at the most.
const FIRST_LOOK: Duration = Duration::from_millis(5);
const LAST_LOOK: Duration = Duration::from_millis(200);

/// The same where the store tells it, in case the telling is lost.
const WATCHED_LOOK: Duration = Duration::from_secs(2);

/// A run that waits for its key, for as long as its job says.
pub(super) struct Waiting {
    limit: Duration,
    since: Instant,
    begun: Option<How>,
}

/// How a run learns that the key may be free.
enum How {
    Told(Box<dyn Watch>),
    Looking { next: Duration },
}

impl Waiting {
    pub(super) fn new(limit: Duration) -> Self {
        Waiting { limit, since: Instant::now(), begun: None }
    }

    /// Returns how long it has waited.
    pub(super) fn elapsed(&self) -> Duration {
        self.since.elapsed()
    }

    /// Waits until it is time to ask for the key again; no longer than the lease of the run that has it, of which
    /// `lease_left` is left. `false` means that it has waited for as long as it may.
    pub(super) async fn again(
        &mut self,
        store: &dyn LeaseStore,
        key: KeyHash,
        lease_left: Duration,
    ) -> Result<bool, StoreError> {
        let left = self.limit.saturating_sub(self.elapsed());
        if left.is_zero() {
            return Ok(false);
        }
        let limit = left.min(lease_left.max(FIRST_LOOK));
        match &mut self.begun {
            // What happened before the watch began shows when the key is asked for again: at once.
            None => {
                self.begun = Some(match store.watch(key).await? {
                    Some(watch) => How::Told(watch),
                    None => How::Looking { next: FIRST_LOOK },
                });
            }
            Some(How::Told(watch)) => {
                let _ = tokio::time::timeout(limit.min(WATCHED_LOOK), watch.changed()).await;
            }
            Some(How::Looking { next }) => {
                // Runs that began to wait together do not look together: up to half less.
                let half = *next / 2;
                let spread = getrandom::u32().map_or(0.5, |random| f64::from(random) / f64::from(u32::MAX));
                tokio::time::sleep(limit.min(half + half.mul_f64(spread))).await;
                *next = (*next * 2).min(LAST_LOOK);
            }
        }
        Ok(true)
    }
}
