//! Which of the tasks of a job that only keeps the latest may begin.

use crate::engine::TaskId;
use crate::key::{Key, KeyHash, hash};

/// Where a task of a job that only keeps the latest has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Its body is about to begin.
    Begins,
    /// It could not, and is to wait in its queue again.
    Waits,
}

/// What is kept of the tasks of a job that only keeps the latest: beside the claim of the one that waits, which one was the
/// last to begin, and of each older one that may come again that it is superseded.
///
/// Each task has one row, under one of these keys after the other, and it ends with the task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Places {
    /// The claim: the task that waits has it.
    pub waits: KeyHash,
    /// The task that was the last to begin has it.
    pub began: KeyHash,
    /// The task has it if it is superseded.
    pub superseded: KeyHash,
}

impl Places {
    /// Returns the keys for a task.
    pub fn new(claim: &Key, task: TaskId) -> Self {
        let waits = claim.hash();
        Places {
            waits,
            began: KeyHash(hash(b"idem began v1", &[waits.as_bytes()])),
            superseded: KeyHash(hash(b"idem superseded v1", &[task.to_string().as_bytes()])),
        }
    }
}

/// What becomes of a task of a job that only keeps the latest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Latest {
    /// It goes on.
    Goes,
    /// A newer task does its work, or has done it: this one, as far as it is still known.
    Superseded(Option<TaskId>),
    /// It is not in the hands of the worker that asks: another one has it, or it has ended.
    Gone,
}

/// A row that changes its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    /// The task, which has it under `from`.
    pub task: TaskId,
    /// The key.
    pub from: KeyHash,
    /// Its new key.
    pub to: KeyHash,
    /// What it has to read then.
    pub readable: String,
}

impl Move {
    /// A newer task does the work of this one, which has its row under `from`.
    pub fn supersedes(claim: &Key, task: TaskId, from: KeyHash) -> Self {
        let to = Places::new(claim, task).superseded;
        Move { task, from, to, readable: claim.remarked(" (superseded)").readable().to_owned() }
    }
}

/// Decides what becomes of a task of a job that only keeps the latest, and which rows change their keys for it, one after the
/// other. `has` tells which task has a key.
///
/// Whichever order tasks come in, and however often: after the body of a task has begun, none that was enqueued before it
/// begins.
pub fn latest(
    moment: Moment,
    claim: &Key,
    task: TaskId,
    has: impl Fn(KeyHash) -> Option<TaskId>,
) -> (Latest, Vec<Move>) {
    let places = Places::new(claim, task);
    let (waits, began) = (has(places.waits), has(places.began));
    if has(places.superseded) == Some(task) {
        return (Latest::Superseded(waits.or(began)), Vec::new());
    }
    let moves = match moment {
        // It is the newest, as it has the claim.
        Moment::Begins if waits == Some(task) && began != Some(task) => {
            let older = began.map(|older| Move::supersedes(claim, older, places.began));
            let readable = claim.remarked(" (began)").readable().to_owned();
            let begins = Move { task, from: places.waits, to: places.began, readable };
            older.into_iter().chain([begins]).collect()
        }
        Moment::Waits if waits.is_some_and(|other| other != task) => {
            return (Latest::Superseded(waits), Vec::new());
        }
        Moment::Waits if waits.is_none() && began == Some(task) => {
            let readable = claim.readable().to_owned();
            vec![Move { task, from: places.began, to: places.waits, readable }]
        }
        // It begins again, with nothing newer begun; or somebody has ended its claim by hand.
        Moment::Begins | Moment::Waits => Vec::new(),
    };
    (Latest::Goes, moves)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::key::KeyParts;

    /// The rows of one claim, and of the tasks that had it.
    struct Rows {
        claim: Key,
        rows: HashMap<KeyHash, TaskId>,
    }

    impl Rows {
        fn new() -> Self {
            let parts = KeyParts::of(&1_u64).expect("a number is a key");
            Rows { claim: Key::new("default", "sync", &parts), rows: HashMap::new() }
        }

        /// Enqueues a task, behind one that a worker has taken but not begun if there is one.
        fn push(&mut self) -> TaskId {
            let task = TaskId::new().expect("the system is random");
            if let Some(holder) = self.rows.insert(self.claim.hash(), task) {
                self.rows.insert(Places::new(&self.claim, holder).superseded, holder);
            }
            task
        }

        fn tell(&mut self, moment: Moment, task: TaskId) -> Latest {
            let (latest, moves) = latest(moment, &self.claim, task, |key| self.rows.get(&key).copied());
            for step in moves {
                assert_eq!(self.rows.remove(&step.from), Some(step.task), "{step:?}");
                assert_eq!(self.rows.insert(step.to, step.task), None, "{step:?}");
            }
            latest
        }

        fn begin(&mut self, task: TaskId) -> Latest {
            self.tell(Moment::Begins, task)
        }

        fn wait(&mut self, task: TaskId) -> Latest {
            self.tell(Moment::Waits, task)
        }

        fn end(&mut self, task: TaskId) {
            self.rows.retain(|_, of| *of != task);
        }
    }

    #[test]
    fn a_task_that_was_taken_before_a_newer_one_came_does_not_begin() {
        let mut rows = Rows::new();
        let (old, new) = (rows.push(), rows.push());
        assert_eq!(rows.begin(old), Latest::Superseded(Some(new)));
        assert_eq!(rows.begin(new), Latest::Goes);
        assert_eq!(rows.begin(old), Latest::Superseded(Some(new)));
        rows.end(new);
        assert_eq!(rows.begin(old), Latest::Superseded(None));
        rows.end(old);
        assert!(rows.rows.is_empty());
    }

    #[test]
    fn a_task_begins_again_until_a_newer_one_has_begun() {
        let mut rows = Rows::new();
        let old = rows.push();
        assert_eq!([rows.begin(old), rows.begin(old)], [Latest::Goes, Latest::Goes]);
        let new = rows.push();
        assert_eq!(rows.begin(old), Latest::Goes, "the newer one is still to come");
        assert_eq!(rows.begin(new), Latest::Goes);
        assert_eq!(rows.begin(old), Latest::Superseded(Some(new)));
        rows.end(new);
        assert_eq!(rows.begin(old), Latest::Superseded(None));
        assert_eq!(rows.rows.len(), 1, "each task has one row");
    }

    #[test]
    fn a_task_that_waits_again_has_its_claim_unless_a_newer_one_waits() {
        let mut rows = Rows::new();
        let old = rows.push();
        assert_eq!(rows.wait(old), Latest::Goes);
        assert_eq!(rows.begin(old), Latest::Goes);
        assert_eq!(rows.wait(old), Latest::Goes);
        assert_eq!(rows.rows, HashMap::from([(rows.claim.hash(), old)]));
        assert_eq!(rows.begin(old), Latest::Goes);
        let new = rows.push();
        assert_eq!(rows.wait(old), Latest::Superseded(Some(new)));
        assert_eq!(rows.rows[&rows.claim.hash()], new);
    }

    #[test]
    fn a_task_whose_claim_was_ended_by_hand_begins() {
        let mut rows = Rows::new();
        let old = rows.push();
        rows.end(old);
        let new = rows.push();
        assert_eq!([rows.wait(old), rows.begin(new)], [Latest::Superseded(Some(new)), Latest::Goes]);
        assert_eq!([rows.wait(old), rows.begin(old)], [Latest::Goes, Latest::Goes]);
        assert_eq!(rows.rows.len(), 1, "it takes nothing from the newer one");
    }
}
