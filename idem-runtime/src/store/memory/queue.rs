//! Unique claims and tasks in memory.

use std::time::{Duration, Instant};

use async_trait::async_trait;

use super::{Data, Memory, MemoryConnection, MemoryStore};
use crate::engine::TaskId;
use crate::error::{StoreError, StoreErrorKind};
use crate::key::{Key, KeyHash};
use crate::record::{JobId, Latest, Moment, Move, State, latest};
use crate::store::{Attempt, Engine, Holder, NewTask, Push, Pushed, QueueStore, TaskRow, UniqueClaim};

/// A unique claim.
#[derive(Debug)]
pub(super) struct Claimed {
    pub(super) job: JobId,
    pub(super) readable: String,
    pub(super) task: TaskId,
    since: Instant,
    pub(super) expires_at: Option<Instant>,
}

/// A task in the outbox.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) row: TaskRow,
    /// Nobody takes it before.
    pub(super) due: Instant,
    /// When it was put there.
    pub(super) at: Instant,
    /// A relay has it in its hands.
    pub(super) taken: bool,
}

impl Data {
    /// Returns the claims whose time is over.
    pub(super) fn expired_claims(&self) -> impl Iterator<Item = KeyHash> {
        let now = self.now();
        let is_over = move |claimed: &Claimed| claimed.expires_at.is_some_and(|at| at <= now);
        self.claims.iter().filter(move |(_, claimed)| is_over(claimed)).map(|(key, _)| *key)
    }

    pub(super) fn holder(&self, claim: KeyHash) -> Option<Holder> {
        let now = self.now();
        let claimed = self.claims.get(&claim)?;
        let left = claimed.expires_at.map(|at| at.saturating_duration_since(now));
        let holder = Holder { task: claimed.task, since: now.saturating_duration_since(claimed.since), left };
        (left != Some(Duration::ZERO)).then_some(holder)
    }

    fn take(&mut self, job: JobId, claim: &UniqueClaim<'_>, task: TaskId) {
        let since = self.now();
        let expires_at = claim.lasts.and_then(|lasts| since.checked_add(lasts));
        let readable = claim.key.readable().to_owned();
        self.claims.insert(claim.key.hash(), Claimed { job, readable, task, since, expires_at });
    }

    fn offer(&mut self, task: &Push<'_>) -> Pushed {
        if !self.is_there(task) {
            return Pushed::Gone;
        }
        let done = |state| matches!(state, State::Completed | State::Rejected);
        if let Some(entry) = self.entry(task.key.hash()).filter(|entry| task.records && done(entry.state)) {
            self.take_out(task);
            return Pushed::Done(entry.fingerprint);
        }
        if let Some(claim) = &task.claim {
            match self.holder(claim.key.hash()) {
                None => self.take(task.job, claim, task.id),
                Some(holder) if holder.task == task.id => {}
                Some(holder) => {
                    if task.ends_if_held {
                        self.take_out(task);
                    }
                    return Pushed::Held(holder);
                }
            }
        }
        self.put(task);
        Pushed::New
    }

    fn is_there(&self, task: &Push<'_>) -> bool {
        task.outbox.is_none_or(|read| {
            let waiting = self.outbox.get(&read.number);
            waiting.is_some_and(|waiting| waiting.row.task.payload == read.payload)
        })
    }

    fn take_out(&mut self, task: &Push<'_>) {
        if let Some(row) = task.outbox {
            self.outbox.remove(&row.number);
        }
    }

    fn put(&mut self, task: &Push<'_>) {
        self.take_out(task);
        self.tasks += 1;
        let number = self.tasks;
        let due = self.now() + task.after;
        let new = NewTask {
            namespace: task.namespace.to_owned(),
            id: task.key.hash(),
            job: task.name.to_owned(),
            key: task.key.readable().to_owned(),
            payload: task.payload.to_vec(),
        };
        let row = TaskRow {
            number,
            task: new,
            id: Some(task.id),
            unclaimed: task.unclaimed,
            priority: task.priority,
            attempts: Some(task.attempts),
        };
        self.outbox.insert(number, Waiting { row, due, at: self.now(), taken: false });
    }

    /// Puts what a job enqueues into the outbox.
    pub(super) fn enqueue(&mut self, tasks: &[NewTask]) {
        let now = self.now();
        for task in tasks {
            self.tasks += 1;
            let row = TaskRow::enqueued(self.tasks, task.clone());
            self.outbox.insert(self.tasks, Waiting { row, due: now, at: now, taken: false });
        }
    }

    fn change_key(&mut self, step: &Move) {
        if let Some(claimed) = self.claims.remove(&step.from) {
            let readable = step.readable.clone();
            self.claims.insert(step.to, Claimed { readable, ..claimed });
        }
    }

    fn holds(&self, task: &Push<'_>, holder: TaskId) -> bool {
        let claim = task.claim.map(|claim| claim.key.hash());
        claim.and_then(|claim| self.claims.get(&claim)).is_some_and(|claimed| claimed.task == holder)
    }
}

/// Checks that a push is one that this store can take.
fn check(connection: Option<&mut MemoryConnection>, engine: Engine) -> Result<(), StoreError> {
    let what = match (connection, engine) {
        (None, Engine::Outbox) => return Ok(()),
        (Some(_), _) => "in the transaction of somebody else",
        (None, Engine::Apalis) => "into the tables of apalis",
    };
    let text = format!(
        "the memory store cannot enqueue {what}: enqueue into the outbox, outside of transactions; nothing was enqueued"
    );
    Err(StoreError::new(StoreErrorKind::Misconfigured, text))
}

#[async_trait]
impl QueueStore<Memory> for MemoryStore {
    async fn push(
        &self,
        connection: Option<&mut MemoryConnection>,
        engine: Engine,
        tasks: &[Push<'_>],
    ) -> Result<Vec<Pushed>, StoreError> {
        check(connection, engine)?;
        let mut data = self.data();
        Ok(tasks.iter().map(|task| data.offer(task)).collect())
    }

    async fn replace(
        &self,
        connection: Option<&mut MemoryConnection>,
        engine: Engine,
        task: &Push<'_>,
        holder: TaskId,
    ) -> Result<bool, StoreError> {
        check(connection, engine)?;
        let mut data = self.data();
        if !data.holds(task, holder) || !data.is_there(task) {
            return Ok(false);
        }
        let waiting =
            data.outbox.values_mut().find(|waiting| waiting.row.id == Some(holder) && !waiting.taken);
        let Some(waiting) = waiting else { return Ok(false) };
        let new = &mut waiting.row.task;
        new.id = task.key.hash();
        task.key.readable().clone_into(&mut new.key);
        task.payload.clone_into(&mut new.payload);
        data.take_out(task);
        Ok(true)
    }

    async fn supersede(
        &self,
        connection: Option<&mut MemoryConnection>,
        engine: Engine,
        task: &Push<'_>,
        holder: TaskId,
    ) -> Result<bool, StoreError> {
        check(connection, engine)?;
        let mut data = self.data();
        if !data.is_there(task) {
            return Ok(false);
        }
        let Some(claim) = task.claim.filter(|_| data.holds(task, holder)) else { return Ok(false) };
        let expires_at = data.claims.get(&claim.key.hash()).and_then(|claimed| claimed.expires_at);
        data.change_key(&Move::supersedes(claim.key, holder, claim.key.hash()));
        let (since, readable) = (data.now(), claim.key.readable().to_owned());
        let claimed = Claimed { job: task.job, readable, task: task.id, since, expires_at };
        data.claims.insert(claim.key.hash(), claimed);
        data.put(task);
        Ok(true)
    }

    async fn keep_latest(
        &self,
        moment: Moment,
        claim: &Key,
        task: TaskId,
        _: Option<&str>,
    ) -> Result<Latest, StoreError> {
        let mut data = self.data();
        let has = |key| data.claims.get(&key).map(|claimed| claimed.task);
        let (latest, moves) = latest(moment, claim, task, has);
        for step in &moves {
            data.change_key(step);
        }
        Ok(latest)
    }

    async fn acquire(
        &self,
        job: JobId,
        claim: &UniqueClaim<'_>,
        task: TaskId,
        _: Option<&str>,
    ) -> Result<Option<Holder>, StoreError> {
        let mut data = self.data();
        Ok(Some(data.holder(claim.key.hash()).unwrap_or_else(|| {
            data.take(job, claim, task);
            Holder { task, since: Duration::ZERO, left: claim.lasts }
        })))
    }

    async fn holder(&self, claim: KeyHash) -> Result<Option<Holder>, StoreError> {
        Ok(self.data().holder(claim))
    }

    async fn release(&self, task: TaskId, _: Option<&str>) -> Result<bool, StoreError> {
        let claims = &mut self.data().claims;
        let before = claims.len();
        claims.retain(|_, claimed| claimed.task != task || claimed.expires_at.is_some());
        Ok(claims.len() < before)
    }

    async fn put_off(
        &self,
        _: Engine,
        _: TaskId,
        _: &str,
        _: Duration,
        _: Attempt,
    ) -> Result<bool, StoreError> {
        // No engine keeps its tasks here.
        Ok(false)
    }

    async fn queue_of(&self, engine: Engine, _: &str) -> Result<Option<String>, StoreError> {
        check(None, engine).map(|()| None)
    }

    async fn prepare(&self, engine: Engine) -> Result<(), StoreError> {
        check(None, engine)
    }

    async fn is_prepared(&self, _: Engine) -> Result<bool, StoreError> {
        Ok(true)
    }

    async fn sweep_claims(&self, limit: u32) -> Result<u64, StoreError> {
        let mut data = self.data();
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let expired: Vec<KeyHash> = data.expired_claims().take(limit).collect();
        for key in &expired {
            data.claims.remove(key);
        }
        Ok(expired.len() as u64)
    }
}
