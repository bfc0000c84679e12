//! What ends a body from outside.
//!
//! A step that finds the claim lost must not return that as an error: the body could take it for the
//! callee's, and go on. It says so here and never returns; the run hears it and drops the body.

use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

use crate::error::StoreError;
use crate::record::Parked;

/// Why a body must not go on.
#[derive(Debug)]
pub(super) enum Stop {
    /// Another run has the key.
    Lost,
    /// A person has to look.
    Park(Parked),
    /// The recorded steps are not those of this code.
    Drift { recorded: String, asked: Option<String> },
    /// The store could not do its part.
    Store(StoreError),
}

/// Where a stop is said and heard.
#[derive(Debug, Default)]
pub(super) struct Interrupt {
    stop: Mutex<Option<Stop>>,
    said: Notify,
}

impl Interrupt {
    /// Ends the body. The first stop counts.
    pub(super) fn stop(&self, stop: Stop) {
        self.slot().get_or_insert(stop);
        self.said.notify_one();
    }

    /// Ends the body from inside, which never goes on.
    pub(super) async fn stop_here<T>(&self, stop: Stop) -> T {
        self.stop(stop);
        std::future::pending().await
    }

    /// Tells whether a stop was said and not heard yet.
    pub(super) fn is_said(&self) -> bool {
        self.slot().is_some()
    }

    /// Waits for a stop.
    pub(super) async fn heard(&self) -> Stop {
        loop {
            if let Some(stop) = self.slot().take() {
                return stop;
            }
            self.said.notified().await;
        }
    }

    fn slot(&self) -> std::sync::MutexGuard<'_, Option<Stop>> {
        // It is whole between any two statements, so a panic elsewhere does not matter.
        self.stop.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
