//! What the processes of one trial have in common.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::code::Code;

/// One trial of a check: what the processes that take part in it have in common.
///
/// [`Scenario::state_with`](crate::Scenario::state_with) is given it.
#[derive(Debug, Default)]
pub struct Trial {
    shared: Mutex<BTreeMap<String, String>>,
    is_child: bool,
}

impl Trial {
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

    /// Takes part in the trial of another process.
    pub(crate) fn joined(shared: BTreeMap<String, String>) -> Self {
        Trial { shared: Mutex::new(shared), is_child: true }
    }

    pub(crate) fn shared(&self) -> BTreeMap<String, String> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
