//! Records in the memory of this process: for tests, and as the shortest example of a store.

mod lease;
mod operate;
mod queue;
mod schedule;

use std::collections::{BTreeMap, HashMap};
use std::error::Error as StdError;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard, watch};

use super::{
    Begun, Claim, Committed, Database, Found, Held, KeyLock, NewTask, Store, StoreTx, Swept, TxStep,
    kept_by_a_run,
};
use crate::error::{StoreError, StoreErrorKind};
use crate::fingerprint::Fingerprint;
use crate::job::Retain;
use crate::key::KeyHash;
use crate::record::{Entry, Epoch, Hold, JobId, NewRecord, Record, State, StepRecord, Token};
use crate::schedule::Tick;

/// The database of jobs whose effect is in this process's memory.
#[derive(Debug, Clone, Copy)]
pub struct Memory;

impl Database for Memory {
    type Connection = MemoryConnection;
}

/// Records, and a map of strings for effects that commit with them, in this process's memory.
///
/// Clones share everything. The clock is the process's own; [`advance`](Self::advance) moves it.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    data: Mutex<Data>,
    locks: Mutex<HashMap<KeyHash, Weak<AsyncMutex<()>>>>,
    /// Counts the claims that have ended, for those who wait for one.
    ended: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Data {
    records: BTreeMap<KeyHash, Stored>,
    jobs: Vec<(String, String)>,
    ticks: HashMap<JobId, Tick>,
    effects: BTreeMap<String, String>,
    audit: Vec<lease::Audited>,
    outbox: BTreeMap<i64, queue::Waiting>,
    tasks: i64,
    claims: BTreeMap<KeyHash, queue::Claimed>,
    /// How far the clock was moved by hand.
    advanced: Duration,
}

/// All that is kept of a key.
#[derive(Debug, Clone)]
struct Stored {
    /// As it was written: running, failed, parked, completed or rejected.
    state: State,
    epoch: Epoch,
    token: Token,
    attempts: u32,
    fingerprint: Fingerprint,
    payload: Vec<u8>,
    job: JobId,
    readable: String,
    changed_at: Instant,
    /// `None` is for ever.
    expires_at: Option<Instant>,
    lease_until: Option<Instant>,
    steps: Vec<StepRecord>,
}

impl Data {
    fn now(&self) -> Instant {
        Instant::now() + self.advanced
    }

    /// Returns what is recorded of a key, as the clock has it now.
    fn entry(&self, key: KeyHash) -> Option<Entry> {
        let now = self.now();
        let stored = self.records.get(&key)?;
        let has_expired = stored.expires_at.is_some_and(|at| at <= now);
        let lease_left =
            stored.lease_until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now));
        let state = match stored.state {
            State::Completed | State::Rejected if has_expired => State::Absent,
            State::Running if lease_left.is_zero() => State::Lapsed,
            state => state,
        };
        Some(Entry {
            state,
            epoch: stored.epoch,
            token: stored.token,
            attempts: stored.attempts,
            fingerprint: stored.fingerprint,
            lease_left,
            payload: stored.payload.clone(),
            steps: stored.steps.clone(),
        })
    }

    /// Returns the live record of a key.
    fn live(&self, key: KeyHash) -> Result<Option<Record>, StoreError> {
        match self.entry(key) {
            None => Ok(None),
            Some(entry) if entry.state == State::Absent => Ok(None),
            Some(entry) => entry.record().map(Some).ok_or_else(kept_by_a_run),
        }
    }

    fn expiry(&self, retain: Retain) -> Option<Instant> {
        match retain {
            Retain::For(retain) => self.now().checked_add(retain),
            Retain::Forever => None,
            Retain::None => Some(self.now()),
        }
    }
}

impl MemoryStore {
    /// Makes an empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Moves the store's clock forward.
    pub fn advance(&self, by: Duration) {
        self.data().advanced += by;
    }

    /// Returns the committed effects.
    pub fn effects(&self) -> BTreeMap<String, String> {
        self.data().effects.clone()
    }

    fn data(&self) -> MutexGuard<'_, Data> {
        // Every change is made in one piece, so a panic elsewhere leaves the data whole.
        self.shared.data.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn key_lock(&self, key: KeyHash) -> Arc<AsyncMutex<()>> {
        let mut locks = self.shared.locks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lock) = locks.get(&key).and_then(Weak::upgrade) {
            return lock;
        }
        locks.retain(|_, lock| lock.strong_count() > 0);
        let lock = Arc::default();
        locks.insert(key, Arc::downgrade(&lock));
        lock
    }

    async fn lock(&self, key: KeyHash, wait: Duration) -> Option<OwnedMutexGuard<()>> {
        let lock = self.key_lock(key);
        match wait.is_zero() {
            true => lock.try_lock_owned().ok(),
            false => tokio::time::timeout(wait, lock.lock_owned()).await.ok(),
        }
    }
}

#[async_trait]
impl Store<Memory> for MemoryStore {
    fn name(&self) -> &'static str {
        "memory"
    }

    async fn migrate(&self) -> Result<bool, StoreError> {
        Ok(false)
    }

    fn migration_sql(&self) -> String {
        String::from("-- the memory store has no tables\n")
    }

    async fn enrol(&self, namespace: &str, name: &str) -> Result<JobId, StoreError> {
        let mut data = self.data();
        let job = (namespace.to_owned(), name.to_owned());
        let index = data.jobs.iter().position(|known| *known == job).unwrap_or_else(|| {
            data.jobs.push(job);
            data.jobs.len() - 1
        });
        Ok(JobId(i32::try_from(index).expect("nobody declares two billion jobs")))
    }

    async fn check_row(&self, table: &str, column: &str) -> Result<(), StoreError> {
        Err(StoreError::new(
            StoreErrorKind::UnknownRow,
            format!("the memory store has no table `{table}` with a column `{column}`; use `lock = row`"),
        ))
    }

    async fn read(&self, key: KeyHash) -> Result<Option<Record>, StoreError> {
        self.data().live(key)
    }

    async fn begin(&self, claim: &Claim<'_>) -> Result<Begun<Memory>, StoreError> {
        let lock = match claim.lock {
            KeyLock::None => None,
            KeyLock::Key => match self.lock(claim.key.hash(), claim.wait).await {
                Some(lock) => Some(lock),
                None => return Ok(Begun::Busy),
            },
        };
        let recorded = match claim.records {
            true => self.data().live(claim.key.hash())?,
            false => None,
        };
        let found = recorded.map_or(Found::Absent, Found::Record);
        let connection = MemoryConnection { store: self.clone(), staged: BTreeMap::new() };
        Ok(Begun::Open { tx: Box::new(MemoryTx { connection, tasks: Vec::new(), lock }), found })
    }

    async fn sweep(&self, cursor: Option<KeyHash>, limit: u32) -> Result<Swept, StoreError> {
        let mut data = self.data();
        let after = cursor.map_or(Bound::Unbounded, Bound::Excluded);
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let batch: Vec<KeyHash> =
            data.records.range((after, Bound::Unbounded)).take(limit).map(|(key, _)| *key).collect();
        let has_expired =
            |key: &&KeyHash| data.entry(**key).is_some_and(|entry| entry.state == State::Absent);
        let expired: Vec<KeyHash> = batch.iter().filter(has_expired).copied().collect();
        for key in &expired {
            data.records.remove(key);
        }
        let cursor = batch.last().copied().filter(|_| batch.len() == limit);
        Ok(Swept { deleted: expired.len() as u64, cursor })
    }
}

/// What the body of a job on [`Memory`] works on: a map whose changes commit with the record.
#[derive(Debug)]
pub struct MemoryConnection {
    store: MemoryStore,
    staged: BTreeMap<String, String>,
}

impl MemoryConnection {
    /// Returns the value of a name, as this transaction sees it.
    pub fn get(&self, name: &str) -> Option<String> {
        self.staged.get(name).cloned().or_else(|| self.store.data().effects.get(name).cloned())
    }

    /// Sets the value of a name when the transaction commits.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.staged.insert(name.into(), value.into());
    }
}

struct MemoryTx {
    connection: MemoryConnection,
    tasks: Vec<NewTask>,
    /// Freed when the transaction is dropped, after everything else.
    lock: Option<OwnedMutexGuard<()>>,
}

#[async_trait]
impl StoreTx<Memory> for MemoryTx {
    fn connection(&mut self) -> &mut MemoryConnection {
        &mut self.connection
    }

    fn connection_ref(&self) -> &MemoryConnection {
        &self.connection
    }

    async fn undo(&mut self) -> Result<(), StoreError> {
        self.connection.staged.clear();
        self.tasks.clear();
        Ok(())
    }

    async fn undo_violation(
        &mut self,
        _: &(dyn StdError + Send + Sync + 'static),
        _: &str,
    ) -> Result<bool, StoreError> {
        // There are no constraints in memory.
        Ok(false)
    }

    async fn enqueue(&mut self, tasks: &[NewTask]) -> Result<(), StoreError> {
        self.tasks.extend_from_slice(tasks);
        Ok(())
    }

    async fn commit(self: Box<Self>, record: Option<&NewRecord<'_>>) -> Result<Committed, StoreError> {
        let MemoryTx { connection: MemoryConnection { store, staged }, tasks, lock } = *self;
        let mut data = store.data();
        if let Some(new) = record {
            // In place of one whose time is over it gets the next epoch: who has seen that one must not take the new
            // one for it.
            let epoch = match data.entry(new.key.hash()) {
                None => Epoch::NONE,
                Some(entry) if entry.state == State::Absent => entry.epoch.next(),
                Some(_) => return Ok(Committed::LostRace),
            };
            let stored = Stored {
                state: new.outcome.state(),
                epoch,
                token: Token(0),
                attempts: 0,
                fingerprint: new.fingerprint,
                payload: new.result.to_vec(),
                job: new.job,
                readable: new.key.readable().to_owned(),
                changed_at: data.now(),
                // A store that is asked for a record keeps it.
                expires_at: data.expiry(new.retain).filter(|_| new.retain != Retain::None),
                lease_until: None,
                steps: Vec::new(),
            };
            data.records.insert(new.key.hash(), stored);
        }
        data.effects.extend(staged);
        data.enqueue(&tasks);
        drop(data);
        drop(lock);
        Ok(Committed::Yes)
    }

    async fn commit_step(self: Box<Self>, hold: &Hold, step: &TxStep<'_>) -> Result<Held, StoreError> {
        let MemoryTx { connection: MemoryConnection { store, staged }, tasks, .. } = *self;
        let mut data = store.data();
        let Some(stored) = data.held(hold) else { return Ok(Held::Lost) };
        lease::put_step(&mut stored.steps, step.seq, step.name, Some(step.result));
        data.effects.extend(staged);
        data.enqueue(&tasks);
        Ok(Held::Yes)
    }

    async fn rollback(self: Box<Self>) -> Result<(), StoreError> {
        Ok(())
    }
}
