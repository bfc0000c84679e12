//! What the job needs to be watched, and to be killed in.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::protocol::Reply;

/// The `#[state]` of the job: it counts runs and stops where the sender wants to kill.
#[derive(Debug, Default)]
pub(crate) struct Desk {
    runs: AtomicU32,
    hold: AtomicBool,
}

impl Desk {
    /// Counts a run of the body.
    pub(crate) fn count_run(&self) {
        self.runs.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the runs since the last call.
    pub(crate) fn take_runs(&self) -> u32 {
        self.runs.swap(0, Ordering::Relaxed)
    }

    /// Lets the next [`here_it_may_die`](Self::here_it_may_die) stop, or not.
    pub(crate) fn hold(&self, hold: bool) {
        self.hold.store(hold, Ordering::Relaxed);
    }

    /// Stops for good if the sender wants to kill this worker in the job.
    pub(crate) async fn here_it_may_die(&self) {
        if self.hold.load(Ordering::Relaxed) {
            crate::worker::say(self, Reply::HeldInTheJob);
            std::future::pending().await
        }
    }
}
