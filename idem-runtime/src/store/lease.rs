//! The part of a store that keeps leased jobs: claims, steps, and what waits for a person.

use std::time::Duration;

use async_trait::async_trait;

use crate::engine::TaskId;
use crate::error::StoreError;
use crate::fingerprint::Fingerprint;
use crate::job::Retain;
use crate::key::{Key, KeyHash};
use crate::record::{Entry, Epoch, Hold, JobId, Outcome, State, StepRecord, Token};

/// Records of leased jobs.
///
/// Every method is one transaction, and every change is conditional on what the caller believes: on a
/// [`Hold`], on an [`Entry`] that was read, or on an epoch. A store decides nothing; it says whether that was still so.
#[async_trait]
pub trait LeaseStore: Send + Sync + 'static {
    /// Claims a key of which nothing at all is recorded; otherwise returns what is, and writes nothing.
    async fn claim(&self, claim: &LeaseClaim<'_>) -> Result<Claimed, StoreError>;

    /// Claims a key over what was found there, if it is still so; returns the steps of the key.
    ///
    /// Still so means: the same state, epoch and token, the lease or the retention over by the store's clock where
    /// the state is [`Lapsed`](State::Lapsed) or [`Absent`](State::Absent). `None` if it is not.
    async fn take_over(
        &self,
        claim: &LeaseClaim<'_>,
        found: &Entry,
    ) -> Result<Option<Vec<StepRecord>>, StoreError>;

    /// Returns what is recorded of a key, expired or not, without waiting.
    async fn entry(&self, key: KeyHash) -> Result<Option<Entry>, StoreError>;

    /// Makes leases last for their whole length from now on, all in one statement; returns those that are lost.
    async fn renew(&self, leases: &[Lease]) -> Result<Vec<Hold>, StoreError>;

    /// Makes a change, if the run still has the key.
    ///
    /// Making the same change of a step again changes nothing.
    async fn change(&self, hold: &Hold, change: &Change<'_>) -> Result<Held, StoreError>;

    /// Ends the wait of a parked key, or the claim of a run, if the key is this job's and its epoch is still this, and notes
    /// it in the audit; tells whether it was.
    async fn resolve(&self, resolve: &Resolve<'_>) -> Result<bool, StoreError>;

    /// Lets what is recorded of a key count as expired, if it is this job's and still has this state and epoch, deletes
    /// its steps and notes it in the audit; tells whether it was.
    ///
    /// The epoch stays until a sweep deletes the record, as that of every record that has expired.
    async fn forget(&self, forget: &Forget<'_>) -> Result<bool, StoreError>;

    /// Returns the audit of a key, oldest first.
    async fn audit(&self, key: KeyHash) -> Result<Vec<AuditRow>, StoreError>;

    /// Returns the oldest tasks of a namespace in the outbox with numbers above `after`, of those whose time has come.
    async fn tasks(&self, namespace: &str, after: i64, limit: u32) -> Result<Vec<TaskRow>, StoreError>;

    /// Takes a task of the outbox into the hands of a relay, and returns it as it is from now on: no other task
    /// [replaces](super::QueueStore::replace) it any more. `None` if it is not there.
    ///
    /// It stays until it is deleted, and may be taken again, by any relay.
    async fn take_task(&self, namespace: &str, number: i64) -> Result<Option<TaskRow>, StoreError>;

    /// Deletes a task of the outbox; tells whether it was there.
    async fn delete_task(&self, number: i64) -> Result<bool, StoreError>;

    /// Starts to watch a key, for a run that waits for another one.
    ///
    /// Whatever ends a claim after this has returned wakes the watch. `None` if the store cannot tell, as is the
    /// default: then runs that wait look again, every now and then.
    async fn watch(&self, key: KeyHash) -> Result<Option<Box<dyn Watch>>, StoreError> {
        let _ = key;
        Ok(None)
    }
}

/// Tells when a claim has ended.
#[async_trait]
pub trait Watch: Send {
    /// Returns when the claim of the key may have ended since the watch began, or since this returned last.
    async fn changed(&mut self);
}

/// A run that wants a key.
#[derive(Debug, Clone, Copy)]
pub struct LeaseClaim<'a> {
    /// The key.
    pub key: &'a Key,
    /// The job.
    pub job: JobId,
    /// The arguments.
    pub fingerprint: Fingerprint,
    /// The number of the claim.
    pub epoch: Epoch,
    /// The run.
    pub token: Token,
    /// Which attempt it is.
    pub attempts: u32,
    /// How long the claim lasts without being renewed, by the store's clock.
    pub lease: Duration,
}

impl LeaseClaim<'_> {
    /// Returns the right to the key that the claim asks for.
    pub fn hold(&self) -> Hold {
        Hold { key: self.key.hash(), epoch: self.epoch, token: self.token }
    }
}

/// How [`LeaseStore::claim`] ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claimed {
    /// The run has the key.
    New,
    /// This is recorded.
    Found(Entry),
}

/// A claim to be renewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// The claim.
    pub hold: Hold,
    /// How long it lasts from now on.
    pub length: Duration,
}

/// What a leased run writes.
#[derive(Debug, Clone, Copy)]
pub enum Change<'a> {
    /// A step is about to have its effect.
    BeginStep {
        /// Its place.
        seq: u32,
        /// Its name.
        name: &'a str,
    },
    /// A step has had its effect.
    EndStep {
        /// Its place.
        seq: u32,
        /// Its name.
        name: &'a str,
        /// Its result, encoded.
        result: &'a [u8],
    },
    /// A step that was begun has certainly had no effect.
    ForgetStep {
        /// Its place.
        seq: u32,
    },
    /// The run has an outcome. The steps are deleted, the tasks are put into the outbox.
    Settle {
        /// How it ended.
        outcome: Outcome,
        /// The result or the final error, encoded.
        result: &'a [u8],
        /// How long it answers; [`Retain::None`] expires at once, and stays so if the clock is set back.
        retain: Retain,
        /// What the run enqueued.
        tasks: &'a [NewTask],
    },
    /// The run ends without an outcome.
    Fail {
        /// The [`Trouble`](crate::record::Trouble), encoded.
        trouble: &'a [u8],
    },
    /// The run ends and waits for a person.
    Park {
        /// The [`Parked`](crate::record::Parked), encoded.
        parked: &'a [u8],
    },
}

/// How a conditional write ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// It is durable.
    Yes,
    /// The run does not have the key any more; nothing was written.
    Lost,
    /// The connection broke before the answer came.
    Unknown,
}

/// A task for the outbox: a job to be run later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTask {
    /// The namespace of the job, and of whoever delivers it.
    pub namespace: String,
    /// The same for every task of this job and key: what an engine tells duplicates by.
    pub id: KeyHash,
    /// The job's name.
    pub job: String,
    /// The job's key, readable.
    pub key: String,
    /// The job itself, encoded.
    pub payload: Vec<u8>,
}

/// A task in the outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskRow {
    /// Its place in the outbox.
    pub number: i64,
    /// What was put there.
    pub task: NewTask,
    /// Its id, if it was given one; if not, its place makes it one.
    pub id: Option<TaskId>,
    /// The claim that it has yet to take, as it starts.
    pub unclaimed: Option<KeyHash>,
    /// Tasks of a higher priority go first, at the engine.
    pub priority: i32,
    /// How often it is tried, if somebody has said so.
    pub attempts: Option<u32>,
}

impl TaskRow {
    /// Makes the row of a task that a job has enqueued.
    pub fn enqueued(number: i64, task: NewTask) -> Self {
        TaskRow { number, task, id: None, unclaimed: None, priority: 0, attempts: None }
    }
}

/// What a person has found out about a key that is parked or running.
#[derive(Debug, Clone, Copy)]
pub struct Resolve<'a> {
    /// The key.
    pub key: KeyHash,
    /// The job that it is a key of.
    pub job: JobId,
    /// The claim that it is under.
    pub epoch: Epoch,
    /// Where it stands: parked, or running, which means lapsed too; failed, if it was resolved by mistake.
    pub from: State,
    /// What becomes of the key: failed, so that it may go on, or completed.
    pub state: State,
    /// What is kept with the state.
    pub payload: &'a [u8],
    /// How long it answers, where it is completed.
    pub retain: Retain,
    /// The step that was in doubt, and its result; no result if it had no effect.
    pub step: Option<ResolvedStep<'a>>,
    /// What was done, for the audit.
    pub action: &'a str,
    /// Who and why, for the audit.
    pub why: &'a str,
}

/// What a person has found out about a step.
#[derive(Debug, Clone, Copy)]
pub struct ResolvedStep<'a> {
    /// Its place. It may have no row, if it was said by mistake that it had no effect.
    pub seq: u32,
    /// Its name.
    pub name: &'a str,
    /// Its result, encoded; `None` if it had no effect.
    pub result: Option<&'a [u8]>,
}

/// A key that is to be forgotten.
#[derive(Debug, Clone, Copy)]
pub struct Forget<'a> {
    /// The key.
    pub key: KeyHash,
    /// The job that it is a key of.
    pub job: JobId,
    /// Where it stands: failed, parked, completed or rejected.
    pub state: State,
    /// Its last claim; [`Epoch::NONE`] of a record that an atomic job made in place of no other.
    pub epoch: Epoch,
    /// What was done, for the audit.
    pub action: &'a str,
    /// Who and why, for the audit.
    pub why: &'a str,
}

/// A note that a person, or a clean-up, has changed a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRow {
    /// The claim at the time.
    pub epoch: Epoch,
    /// What was done.
    pub action: String,
    /// Who and why.
    pub why: String,
    /// How long ago, by the store's clock.
    pub age: Duration,
}

/// A step that becomes durable together with its effect.
#[derive(Debug, Clone, Copy)]
pub struct TxStep<'a> {
    /// Its place.
    pub seq: u32,
    /// Its name.
    pub name: &'a str,
    /// Its result, encoded.
    pub result: &'a [u8],
}
