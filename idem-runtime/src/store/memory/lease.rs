//! Leased jobs in memory.

use std::time::Instant;

use async_trait::async_trait;
use tokio::sync::watch;

use super::{Data, MemoryStore, Stored};
use crate::error::StoreError;
use crate::job::Retain;
use crate::key::KeyHash;
use crate::record::{Entry, Epoch, Event, Hold, State, StepRecord, holds, next};
use crate::store::{
    AuditRow, Change, Claimed, Forget, Held, Lease, LeaseClaim, LeaseStore, Resolve, ResolvedStep, TaskRow,
    Watch,
};

/// A note of what a person did.
#[derive(Debug)]
pub(super) struct Audited {
    pub(super) key: KeyHash,
    pub(super) epoch: Epoch,
    pub(super) action: String,
    pub(super) why: String,
    pub(super) at: Instant,
}

impl Data {
    /// Returns what is kept of a key, if the run has it.
    pub(super) fn held(&mut self, hold: &Hold) -> Option<&mut Stored> {
        let entry = self.entry(hold.key)?;
        self.records.get_mut(&hold.key).filter(|_| holds(&entry, hold))
    }

    fn claimed(&self, claim: &LeaseClaim<'_>, steps: Vec<StepRecord>) -> Stored {
        Stored {
            state: State::Running,
            epoch: claim.epoch,
            token: claim.token,
            attempts: claim.attempts,
            fingerprint: claim.fingerprint,
            payload: Vec::new(),
            job: claim.job,
            readable: claim.key.readable().to_owned(),
            changed_at: self.now(),
            expires_at: None,
            lease_until: Some(self.now() + claim.lease),
            steps,
        }
    }
}

/// Writes a step in its place.
pub(super) fn put_step(steps: &mut Vec<StepRecord>, seq: u32, name: &str, result: Option<&[u8]>) {
    let step = StepRecord { seq, name: name.to_owned(), result: result.map(<[u8]>::to_vec) };
    match steps.binary_search_by_key(&seq, |step| step.seq) {
        Ok(at) => steps[at] = step,
        Err(at) => steps.insert(at, step),
    }
}

impl MemoryStore {
    /// Tells those who wait that a claim has ended.
    fn claim_ended(&self) {
        self.shared.ended.send_modify(|ended| *ended += 1);
    }
}

#[async_trait]
impl LeaseStore for MemoryStore {
    async fn claim(&self, claim: &LeaseClaim<'_>) -> Result<Claimed, StoreError> {
        let mut data = self.data();
        if let Some(entry) = data.entry(claim.key.hash()) {
            return Ok(Claimed::Found(entry));
        }
        let stored = data.claimed(claim, Vec::new());
        data.records.insert(claim.key.hash(), stored);
        Ok(Claimed::New)
    }

    async fn take_over(
        &self,
        claim: &LeaseClaim<'_>,
        found: &Entry,
    ) -> Result<Option<Vec<StepRecord>>, StoreError> {
        let mut data = self.data();
        let still_so = |entry: &Entry| {
            next(entry.state, Event::Begin).is_ok()
                && (entry.state, entry.epoch, entry.token) == (found.state, found.epoch, found.token)
        };
        let Some(entry) = data.entry(claim.key.hash()).filter(still_so) else { return Ok(None) };
        let stored = data.claimed(claim, entry.steps.clone());
        data.records.insert(claim.key.hash(), stored);
        Ok(Some(entry.steps))
    }

    async fn entry(&self, key: KeyHash) -> Result<Option<Entry>, StoreError> {
        Ok(self.data().entry(key))
    }

    async fn renew(&self, leases: &[Lease]) -> Result<Vec<Hold>, StoreError> {
        let mut data = self.data();
        let now = data.now();
        let mut lost = Vec::new();
        for lease in leases {
            match data.held(&lease.hold) {
                Some(stored) => stored.lease_until = Some(now + lease.length),
                None => lost.push(lease.hold),
            }
        }
        Ok(lost)
    }

    async fn change(&self, hold: &Hold, change: &Change<'_>) -> Result<Held, StoreError> {
        let mut data = self.data();
        let now = data.now();
        let expires_at = match change {
            Change::Settle { retain, .. } => data.expiry(*retain),
            _ => None,
        };
        let Some(stored) = data.held(hold) else { return Ok(Held::Lost) };
        let end = |stored: &mut Stored, state, payload: &[u8]| {
            stored.state = state;
            stored.payload = payload.to_vec();
            stored.changed_at = now;
            stored.lease_until = None;
        };
        match *change {
            Change::BeginStep { seq, .. } if stored.steps.iter().any(|step| step.seq == seq) => {}
            Change::BeginStep { seq, name } => put_step(&mut stored.steps, seq, name, None),
            Change::EndStep { seq, name, result } => put_step(&mut stored.steps, seq, name, Some(result)),
            Change::ForgetStep { seq } => {
                stored.steps.retain(|step| step.seq != seq || step.result.is_some())
            }
            Change::Settle { outcome, result, tasks, retain } => {
                end(stored, outcome.state(), if retain == Retain::None { &[] } else { result });
                stored.expires_at = expires_at;
                stored.steps.clear();
                data.enqueue(tasks);
            }
            Change::Fail { trouble } => end(stored, State::Failed, trouble),
            Change::Park { parked } => end(stored, State::Parked, parked),
        }
        drop(data);
        if matches!(change, Change::Settle { .. } | Change::Fail { .. } | Change::Park { .. }) {
            self.claim_ended();
        }
        Ok(Held::Yes)
    }

    async fn resolve(&self, resolve: &Resolve<'_>) -> Result<bool, StoreError> {
        let mut data = self.data();
        let (now, expires_at) = (data.now(), data.expiry(resolve.retain));
        let is_still_so = |stored: &&mut Stored| {
            (stored.state, stored.job, stored.epoch) == (resolve.from, resolve.job, resolve.epoch)
        };
        let Some(stored) = data.records.get_mut(&resolve.key).filter(is_still_so) else { return Ok(false) };
        stored.state = resolve.state;
        stored.payload = resolve.payload.to_vec();
        stored.changed_at = now;
        stored.lease_until = None;
        match resolve.step {
            Some(ResolvedStep { seq, result: None, .. }) => stored.steps.retain(|step| step.seq != seq),
            Some(ResolvedStep { seq, name, result }) => put_step(&mut stored.steps, seq, name, result),
            None => {}
        }
        if resolve.state == State::Completed {
            stored.expires_at = expires_at;
            stored.steps.clear();
        }
        let (action, why) = (resolve.action.to_owned(), resolve.why.to_owned());
        data.audit.push(Audited { key: resolve.key, epoch: resolve.epoch, action, why, at: now });
        drop(data);
        self.claim_ended();
        Ok(true)
    }

    async fn forget(&self, forget: &Forget<'_>) -> Result<bool, StoreError> {
        let mut data = self.data();
        let now = data.now();
        let is_still_so = |stored: &&mut Stored| {
            (stored.state, stored.job, stored.epoch) == (forget.state, forget.job, forget.epoch)
        };
        let Some(stored) = data.records.get_mut(&forget.key).filter(is_still_so) else { return Ok(false) };
        stored.state = State::Completed;
        stored.payload.clear();
        stored.changed_at = now;
        stored.expires_at = Some(now);
        stored.steps.clear();
        let (action, why) = (forget.action.to_owned(), forget.why.to_owned());
        data.audit.push(Audited { key: forget.key, epoch: forget.epoch, action, why, at: now });
        Ok(true)
    }

    async fn audit(&self, key: KeyHash) -> Result<Vec<AuditRow>, StoreError> {
        let data = self.data();
        let now = data.now();
        let notes = data.audit.iter().filter(|note| note.key == key).map(|note| AuditRow {
            epoch: note.epoch,
            action: note.action.clone(),
            why: note.why.clone(),
            age: now.saturating_duration_since(note.at),
        });
        Ok(notes.collect())
    }

    async fn tasks(&self, namespace: &str, after: i64, limit: u32) -> Result<Vec<TaskRow>, StoreError> {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let data = self.data();
        let now = data.now();
        let due = data.outbox.range(after + 1..).filter(|(_, waiting)| waiting.due <= now);
        let rows = due.map(|(_, waiting)| &waiting.row).filter(|row| row.task.namespace == namespace);
        Ok(rows.take(limit).cloned().collect())
    }

    async fn take_task(&self, namespace: &str, number: i64) -> Result<Option<TaskRow>, StoreError> {
        let mut data = self.data();
        let waiting = data.outbox.get_mut(&number);
        Ok(waiting.filter(|waiting| waiting.row.task.namespace == namespace).map(|waiting| {
            waiting.taken = true;
            waiting.row.clone()
        }))
    }

    async fn delete_task(&self, number: i64) -> Result<bool, StoreError> {
        Ok(self.data().outbox.remove(&number).is_some())
    }

    async fn watch(&self, _: KeyHash) -> Result<Option<Box<dyn Watch>>, StoreError> {
        Ok(Some(Box::new(MemoryWatch(self.shared.ended.subscribe()))))
    }
}

struct MemoryWatch(watch::Receiver<u64>);

#[async_trait]
impl Watch for MemoryWatch {
    async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            // The store is gone, and with it every claim.
            std::future::pending().await
        }
    }
}
