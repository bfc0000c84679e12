//! What the jobs under test do to the outside, and what they are told to do.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use idem_runtime::Idem;
use idem_runtime::store::memory::{Memory, MemoryStore};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

/// The error of the jobs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Failure {
    /// The callee refused: nothing has happened.
    Refused,
    /// The answer was lost.
    TimedOut,
    /// It has happened before.
    Twice,
    /// It never will.
    Never,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the callee says {self:?}")
    }
}

/// The outside: everybody who is called, by name.
#[derive(Debug, Clone, Default)]
pub(crate) struct World(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Who was called, in order, with which key.
    calls: Mutex<Vec<(String, String)>>,
    /// What the next calls answer, the last first.
    answers: Mutex<HashMap<String, Vec<Result<(), Failure>>>>,
    /// Calls wait here where the gate of their name is closed.
    gates: Mutex<HashMap<String, Arc<Semaphore>>>,
    /// Told when a call waits.
    arrived: Semaphore,
}

impl Default for Inner {
    fn default() -> Self {
        Inner {
            calls: Mutex::default(),
            answers: Mutex::default(),
            gates: Mutex::default(),
            arrived: Semaphore::new(0),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl World {
    /// Calls somebody; a closed gate holds the call before its effect is counted.
    pub(crate) async fn call(&self, who: &str, key: impl Into<String>) -> Result<String, Failure> {
        let gate = lock(&self.0.gates).get(who).cloned();
        if let Some(gate) = gate {
            self.0.arrived.add_permits(1);
            gate.acquire().await.expect("the gate is there").forget();
        }
        let answer = lock(&self.0.answers).get_mut(who).and_then(Vec::pop).unwrap_or(Ok(()));
        if matches!(answer, Ok(()) | Err(Failure::TimedOut)) {
            lock(&self.0.calls).push((who.to_owned(), key.into()));
        }
        answer.map(|()| format!("{who} {}", self.count(who)))
    }

    /// Counts something that is no call.
    pub(crate) fn note(&self, what: &str) {
        lock(&self.0.calls).push((what.to_owned(), String::new()));
    }

    /// Lets the next calls of `who` answer so.
    pub(crate) fn answer(&self, who: &str, answers: &[Result<(), Failure>]) {
        let answers = answers.iter().rev().cloned().collect();
        lock(&self.0.answers).insert(who.to_owned(), answers);
    }

    /// Holds every call of `who`.
    pub(crate) fn close(&self, who: &str) {
        lock(&self.0.gates).insert(who.to_owned(), Arc::new(Semaphore::new(0)));
    }

    /// Lets the calls of `who` go on, those that wait and those that come.
    pub(crate) fn open(&self, who: &str) {
        if let Some(gate) = lock(&self.0.gates).remove(who) {
            gate.add_permits(1_000);
        }
    }

    /// Waits until a call has come to a closed gate.
    pub(crate) async fn arrival(&self) {
        self.0.arrived.acquire().await.expect("the world is there").forget();
    }

    /// Counts the effects of `who`.
    pub(crate) fn count(&self, who: &str) -> usize {
        lock(&self.0.calls).iter().filter(|(called, _)| called == who).count()
    }

    /// Returns the keys that `who` was called with.
    pub(crate) fn keys(&self, who: &str) -> Vec<String> {
        let calls = lock(&self.0.calls);
        calls.iter().filter(|(called, _)| called == who).map(|(_, key)| key.clone()).collect()
    }
}

/// A handle on a store in memory, with its world.
pub(crate) struct Desk {
    pub(crate) store: MemoryStore,
    pub(crate) world: World,
    pub(crate) idem: Idem<Memory, World>,
}

impl Desk {
    pub(crate) fn new() -> Self {
        let (store, world) = (MemoryStore::new(), World::default());
        let idem = handle(&store, &world);
        Desk { store, world, idem }
    }

    /// Returns another handle on the same store, as another process has.
    pub(crate) fn other(&self) -> Idem<Memory, World> {
        handle(&self.store, &self.world)
    }
}

fn handle(store: &MemoryStore, world: &World) -> Idem<Memory, World> {
    Idem::with_store(Arc::new(store.clone())).state(world.clone()).build().expect("nothing is wrong with it")
}
