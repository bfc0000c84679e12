//! What bodies do and what they are told to do: a log that a test reads, gates that it opens.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, watch};

/// No wait of a test takes longer, unless something is wrong.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// The error of the jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Refusal {
    /// It may go better next time.
    Passing,
    /// It never will.
    Final,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the desk says {self:?}")
    }
}

impl std::error::Error for Refusal {}

/// How a body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    Succeed,
    Fail,
    FailForGood,
    Panic,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    Began,
    Succeeded,
    /// It failed, panicked, or was dropped.
    Broke,
}

/// A line of the log: what a body did, with which arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) what: What,
    pub(crate) id: i64,
    pub(crate) note: i64,
}

/// The desk that all bodies work at: the state of the jobs.
#[derive(Debug, Clone)]
pub(crate) struct Desk(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    log: watch::Sender<Vec<Line>>,
    /// What the next bodies of an id do; those that follow succeed.
    acts: Mutex<HashMap<i64, VecDeque<Act>>>,
    /// Bodies of an id wait here once they have begun.
    gates: Mutex<HashMap<i64, Arc<Semaphore>>>,
}

impl Default for Desk {
    fn default() -> Self {
        let (acts, gates) = (Mutex::default(), Mutex::default());
        Desk(Arc::new(Inner { log: watch::Sender::new(Vec::new()), acts, gates }))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes how a body ended, however it ended.
struct Ending<'a> {
    desk: &'a Desk,
    line: Line,
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.desk.write(self.line);
    }
}

impl Desk {
    /// The body of the jobs: begins, waits at the gate of its id, and does what it is told.
    pub(crate) async fn work(&self, id: i64, note: i64) -> Result<i64, Refusal> {
        self.write(Line { what: What::Began, id, note });
        let mut ending = Ending { desk: self, line: Line { what: What::Broke, id, note } };
        let gate = lock(&self.0.gates).get(&id).cloned();
        if let Some(gate) = gate {
            gate.acquire().await.expect("a gate is opened, never taken away").forget();
        }
        let act = lock(&self.0.acts).get_mut(&id).and_then(VecDeque::pop_front);
        match act.unwrap_or(Act::Succeed) {
            Act::Succeed => {
                ending.line.what = What::Succeeded;
                Ok(note)
            }
            Act::Fail => Err(Refusal::Passing),
            Act::FailForGood => Err(Refusal::Final),
            Act::Panic => panic!("the body of {id} panics, as it was told"),
        }
    }

    fn write(&self, line: Line) {
        self.0.log.send_modify(|log| log.push(line));
    }

    /// Tells what the next bodies of an id do.
    pub(crate) fn next(&self, id: i64, acts: impl IntoIterator<Item = Act>) {
        lock(&self.0.acts).entry(id).or_default().extend(acts);
    }

    /// Lets bodies of an id wait once they have begun.
    pub(crate) fn close(&self, id: i64) {
        lock(&self.0.gates).insert(id, Arc::new(Semaphore::new(0)));
    }

    /// Lets one body of an id go on, or the next one that comes.
    pub(crate) fn pass(&self, id: i64) {
        lock(&self.0.gates)[&id].add_permits(1);
    }

    /// Lets all bodies of an id go on.
    pub(crate) fn open(&self, id: i64) {
        if let Some(gate) = lock(&self.0.gates).remove(&id) {
            gate.add_permits(1_000);
        }
    }

    pub(crate) fn log(&self) -> Vec<Line> {
        self.0.log.borrow().clone()
    }

    /// Counts the bodies of an id that did this.
    pub(crate) fn count(&self, what: What, id: i64) -> usize {
        count(&self.log(), what, id)
    }

    /// Returns the notes with which bodies of an id succeeded, in order.
    pub(crate) fn notes(&self, id: i64) -> Vec<i64> {
        let done = |line: &&Line| line.what == What::Succeeded && line.id == id;
        self.log().iter().filter(done).map(|line| line.note).collect()
    }

    /// Returns how many bodies of an id were under way at most at once.
    pub(crate) fn most_at_once(&self, id: i64) -> usize {
        let (mut now, mut most) = (0_usize, 0);
        for line in self.log().iter().filter(|line| line.id == id) {
            match line.what {
                What::Began => now += 1,
                What::Succeeded | What::Broke => now -= 1,
            }
            most = most.max(now);
        }
        most
    }

    /// Waits until so many bodies of an id have done this.
    pub(crate) async fn until(&self, what: What, id: i64, times: usize) {
        let mut log = self.0.log.subscribe();
        let waited = tokio::time::timeout(LIMIT, log.wait_for(|log| count(log, what, id) >= times)).await;
        assert!(waited.is_ok(), "{what:?} {times} times for {id}: {:?}", self.log());
    }
}

fn count(log: &[Line], what: What, id: i64) -> usize {
    log.iter().filter(|line| line.what == what && line.id == id).count()
}
