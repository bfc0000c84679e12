//! The part of a store that enqueues tasks and keeps their unique claims.

use std::time::Duration;

use async_trait::async_trait;

use super::Database;
use crate::engine::TaskId;
use crate::error::StoreError;
use crate::fingerprint::Fingerprint;
use crate::key::{Key, KeyHash};
use crate::record::{JobId, Latest, Moment};

/// How often a task is offered again that another transaction was in the way of in that moment, as one is that takes its
/// claim and gives it back.
pub(crate) const OFFERS: usize = 16;

/// Tasks on their way to a worker, and the unique claims that admit them.
///
/// A claim belongs to a task, by its id, and to nobody else: whoever changes one names the task that has it. A store
/// decides nothing; it says what is so.
#[async_trait]
pub trait QueueStore<D: Database>: Send + Sync + 'static {
    /// Enqueues each task that is not done and whose claim, if it has one, is free, and takes the claim with it: all in
    /// one transaction, which is the caller's if there is a `connection`.
    ///
    /// A claim that the task has already is free to it. The answers are in the order of the tasks. Of two tasks with one claim the first has it. A claim that another
    /// transaction is about to take is waited for. A task that is not enqueued writes nothing.
    ///
    /// [`OutcomeUnknown`](crate::StoreErrorKind::OutcomeUnknown) says that all may be enqueued or none, and may have
    /// ended since: they are pushed again under other ids, one of which would else have its claim again for a task that is done.
    async fn push(
        &self,
        connection: Option<&mut D::Connection>,
        engine: Engine,
        tasks: &[Push<'_>],
    ) -> Result<Vec<Pushed>, StoreError>;

    /// Gives the payload of a task to the one that has its claim, if that is still `holder` and no worker has ever taken it
    /// to run it, nor a relay ([`take_task`](super::LeaseStore::take_task)); tells whether it was so. A row of the outbox that the
    /// task is taken out of must be there, and ends with it.
    async fn replace(
        &self,
        connection: Option<&mut D::Connection>,
        engine: Engine,
        task: &Push<'_>,
        holder: TaskId,
    ) -> Result<bool, StoreError>;

    /// Enqueues a task and hands the claim of `holder` over to it, if that still has it; tells whether it had. `holder` is
    /// [superseded](crate::record::Move::supersedes) then. A row of the outbox that the task is taken out of must be there,
    /// and ends with it.
    async fn supersede(
        &self,
        connection: Option<&mut D::Connection>,
        engine: Engine,
        task: &Push<'_>,
        holder: TaskId,
    ) -> Result<bool, StoreError>;

    /// Takes a claim for a task that has been enqueued without it; returns who has it, be it this task or another one.
    ///
    /// If a `worker` of the engine in this database asks, the task must be in its hands, and stays there until the claim
    /// is taken; if it is not, nothing is taken, and the answer is `None`. Nobody would end the claim of a task that is over.
    async fn acquire(
        &self,
        job: JobId,
        claim: &UniqueClaim<'_>,
        task: TaskId,
        worker: Option<&str>,
    ) -> Result<Option<Holder>, StoreError>;

    /// Returns who has a claim, if anybody has.
    async fn holder(&self, claim: KeyHash) -> Result<Option<Holder>, StoreError>;

    /// Says where a task of a job that only keeps the latest has come to, and what follows by [`latest`](crate::record::latest): in one
    /// transaction, in which nobody else changes the rows that it has read. If a `worker` of the engine in this database asks
    /// and has the task no more, that is [gone](Latest::Gone), and nothing follows.
    async fn keep_latest(
        &self,
        moment: Moment,
        claim: &Key,
        task: TaskId,
        worker: Option<&str>,
    ) -> Result<Latest, StoreError>;

    /// Ends the claims of a task that are not for a time, and all that is kept of it beside; tells whether there was any.
    /// If a `worker` of the engine in this database asks, they end only if it has the task.
    async fn release(&self, task: TaskId, worker: Option<&str>) -> Result<bool, StoreError>;

    /// Lets a task that `worker` has taken be taken again after a time, and not before, or notes that it begins; tells
    /// whether the worker still had it.
    async fn put_off(
        &self,
        engine: Engine,
        task: TaskId,
        worker: &str,
        after: Duration,
        attempt: Attempt,
    ) -> Result<bool, StoreError>;

    /// Prepares an engine's tables in this database: claims end with the tasks that have them, however these end.
    ///
    /// Does nothing if it is done already.
    async fn prepare(&self, engine: Engine) -> Result<(), StoreError>;

    /// Tells whether an engine's tables in this database are [prepared](Self::prepare).
    async fn is_prepared(&self, engine: Engine) -> Result<bool, StoreError>;

    /// Returns for which queue an engine in this database has registered a worker; `None` if it has not, or is elsewhere.
    async fn queue_of(&self, engine: Engine, worker: &str) -> Result<Option<String>, StoreError>;

    /// Deletes claims that have expired, at most `limit`; returns how many.
    async fn sweep_claims(&self, limit: u32) -> Result<u64, StoreError>;
}

/// Where tasks are put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Engine {
    /// Into the tables of apalis in the same database.
    Apalis,
    /// Into idem's outbox, from where a relay takes them to an engine elsewhere.
    Outbox,
}

/// A task to be enqueued.
#[derive(Debug, Clone, Copy)]
pub struct Push<'a> {
    /// The new task.
    pub id: TaskId,
    /// The namespace of the job.
    pub namespace: &'a str,
    /// The job's name.
    pub name: &'a str,
    /// The name of the job's queue at the engine.
    pub queue: &'a str,
    /// The job.
    pub job: JobId,
    /// The job's key.
    pub key: &'a Key,
    /// Whether a record of the key says that the task is done.
    pub records: bool,
    /// The job itself, as the engine carries it.
    pub payload: &'a [u8],
    /// The claim that admits it.
    pub claim: Option<UniqueClaim<'a>>,
    /// A claim that the task has yet to take, as it starts.
    pub unclaimed: Option<KeyHash>,
    /// No worker takes it before this time has passed.
    pub after: Duration,
    /// Tasks of a higher priority go first.
    pub priority: i32,
    /// How often it is tried.
    pub attempts: u32,
    /// The row of the outbox that it is taken out of: it is enqueued only if that is still there as it was read, which ends
    /// with it, and also if the task is done.
    pub outbox: Option<OutboxRow<'a>>,
    /// Whether that row ends if another task has the claim, too.
    pub ends_if_held: bool,
    /// Whether another task that has the claim must not end it before the caller's transaction has ended.
    pub holds_back: bool,
}

/// A row of the outbox, as a relay has read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutboxRow<'a> {
    /// Its number.
    pub number: i64,
    /// Its payload, which another task may replace until the row is taken out.
    pub payload: &'a [u8],
}

/// A claim that only one task has.
#[derive(Debug, Clone, Copy)]
pub struct UniqueClaim<'a> {
    /// What is unique.
    pub key: &'a Key,
    /// How long the claim lasts, whatever becomes of the task; `None` ends with the task.
    pub lasts: Option<Duration>,
}

/// What became of a task that was to be enqueued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pushed {
    /// It is enqueued.
    New,
    /// A record of its key says how it ended.
    Done(Fingerprint),
    /// Another task has the claim.
    Held(Holder),
    /// The row of the outbox that it was to be taken out of is not there, or not as it was read.
    Gone,
}

/// What the attempt of a task has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt {
    /// It did not begin: the task goes back to its engine, and the attempt is not counted.
    Unspent,
    /// It began, and has to begin again: the task goes back to its engine, and the attempt is not counted. That it has
    /// begun is noted with the task.
    Interrupted,
    /// It failed, which the engine itself is about to write.
    Failed,
    /// It begins although the task has none left. That is noted with the task until it is put back; its time stays.
    BeyondLimit,
}

/// Who has a unique claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder {
    /// The task.
    pub task: TaskId,
    /// For how long, by the store's clock.
    pub since: Duration,
    /// How much is left of a claim for a time.
    pub left: Option<Duration>,
}
