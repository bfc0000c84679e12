//! What the processes of one trial have in common.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use sqlx::Pool;

use crate::code::Code;
use crate::lab::{self, LabDatabase, OptionsOf};

/// One trial of a check: what the processes that take part in it have in common.
///
/// [`Scenario::state_with`](crate::Scenario::state_with) is given it.
pub struct Trial<D: LabDatabase> {
    options: OptionsOf<D>,
    shared: Mutex<BTreeMap<String, String>>,
    is_child: bool,
}

impl<D: LabDatabase> Trial<D> {
    /// Returns a pool on the database of this trial, with at most `connections`, for a job that takes one as `#[state]`.
    pub fn pool(&self, connections: u32) -> Pool<D> {
        lab::pool_of(self.options.clone(), connections)
    }

    /// Returns the text that `make` makes in the process of the test, in every process of this trial: the
    /// address of a server, the path of a file.
    ///
    /// # Panics
    ///
    /// A process that was started for this trial asks for what the test's own process did not share.
    pub fn share(&self, name: &str, make: impl FnOnce() -> String) -> String {
        if let Some(text) = self.lock().get(name) {
            return text.clone();
        }
        if self.is_child {
            panic!(
                "the test's own process shares no `{name}`; let both call `Trial::share` with the same names [{}]",
                Code::Unshared
            );
        }
        let text = make();
        self.lock().insert(name.to_owned(), text.clone());
        text
    }

    /// Begins a trial on this database.
    pub(crate) fn new(options: OptionsOf<D>) -> Self {
        Trial { options, shared: Mutex::default(), is_child: false }
    }

    /// Takes part in the trial of another process.
    pub(crate) fn joined(options: OptionsOf<D>, shared: BTreeMap<String, String>) -> Self {
        Trial { options, shared: Mutex::new(shared), is_child: true }
    }

    pub(crate) fn shared(&self) -> BTreeMap<String, String> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<D: LabDatabase> fmt::Debug for Trial<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trial").field("shared", &self.shared()).finish_non_exhaustive()
    }
}
