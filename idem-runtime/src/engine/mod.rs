//! Jobs in a queue: enqueue once, in the caller's transaction, and run wherever a worker takes the task.
//!
//! idem has no queue of its own. Tasks lie in the tables of an *engine*, whose workers, retries and dashboards are
//! used as they are. What idem adds is the *unique claim*: a row that says which task of a [unique](crate::job::Unique)
//! job is the one, taken in the transaction that enqueues the task, and kept apart from it, so that no retry of a task
//! and no change of its state can ever collide with another one.

#[cfg(feature = "apalis")]
pub mod apalis;
mod relay;
mod task_id;

use std::fmt;
use std::time::Duration;

use tracing::{debug, info};

pub use self::relay::{Relay, Relayed};
pub use self::task_id::{TaskId, TaskIdError};
use crate::answer::Answer;
use crate::codec;
use crate::error::{ArgsError, Code, KeyReused, StoreError, StoreErrorKind};
use crate::fingerprint::Fingerprint;
use crate::idem::{Enrolled, Idem};
use crate::job::{Job, JobSpec, OnDuplicate, Retain, Unique};
use crate::key::{Key, KeyHash};
use crate::observe;
pub use crate::store::Engine;
use crate::store::{Database, Holder, OFFERS, OutboxRow, Push, Pushed, UniqueClaim};

/// How often a task is tried, unless somebody says otherwise: as often as apalis does by itself.
const ATTEMPTS: u32 = 25;

/// What a task's metadata are told of one that has begun although its attempts are used up.
#[cfg_attr(
    not(any(feature = "sqlite", feature = "postgres")),
    allow(dead_code, reason = "what only some of the databases need")
)]
pub(crate) const BEYOND_LIMIT: &str = "idem.beyond_limit";

/// What a task is marked with that has begun and was put back.
#[cfg_attr(
    not(any(feature = "sqlite", feature = "postgres")),
    allow(dead_code, reason = "what only some of the databases need")
)]
pub(crate) const BEGUN: &str = "idem.begun";

/// The queues of an [`Idem`]'s jobs: each job has one, by its name.
///
/// # Example
///
/// ```
/// use idem_runtime::engine::{Engine, Enqueued};
/// use idem_runtime::prelude::*;
///
/// #[idempotent(key = id)]
/// async fn greet(tx: &mut Tx<'_, Memory>, id: i64) -> Result<(), std::convert::Infallible> {
///     tx.set(format!("greeted {id}"), "yes");
///     Ok(())
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let idem = Idem::memory().build().unwrap();
/// let queue = idem.queue(Engine::Outbox);
/// assert!(matches!(queue.push(Greet { id: 42 }).await.unwrap(), Enqueued::New(_)));
///
/// greet(&idem, 42).await.unwrap();
/// assert_eq!(queue.push(Greet { id: 42 }).await.unwrap(), Enqueued::AlreadyDone);
/// # }
/// ```
pub struct Queue<D: Database, S = ()> {
    idem: Idem<D, S>,
    engine: Engine,
    #[cfg(feature = "apalis")]
    backoff: apalis::Backoff,
}

impl<D: Database, S> Clone for Queue<D, S> {
    fn clone(&self) -> Self {
        Queue {
            idem: self.idem.clone(),
            engine: self.engine,
            #[cfg(feature = "apalis")]
            backoff: self.backoff.clone(),
        }
    }
}

impl<D: Database, S> fmt::Debug for Queue<D, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("idem", &self.idem).field("engine", &self.engine).finish()
    }
}

impl<D: Database, S> Idem<D, S> {
    /// Returns the queues of this handle's jobs at an engine.
    pub fn queue(&self, engine: Engine) -> Queue<D, S> {
        Queue {
            idem: self.clone(),
            engine,
            #[cfg(feature = "apalis")]
            backoff: apalis::Backoff::default(),
        }
    }
}

/// A job to be enqueued, and how.
///
/// # Example
///
/// ```
/// use std::time::Duration;
///
/// use idem_runtime::engine::Enqueue;
/// # use idem_runtime::prelude::*;
/// # #[idempotent(key = id)]
/// # async fn greet(tx: &mut Tx<'_, Memory>, id: i64) -> Result<(), std::convert::Infallible> { Ok(()) }
///
/// let task = Enqueue::new(Greet { id: 42 }).after(Duration::from_secs(60)).priority(5).attempts(3);
/// ```
#[derive(Debug, Clone)]
#[must_use = "nothing is enqueued until this is pushed"]
pub struct Enqueue<J> {
    job: J,
    after: Duration,
    priority: i32,
    attempts: u32,
}

impl<J: Job> Enqueue<J> {
    /// Takes a job with the defaults: at once, with priority 0, 25 attempts.
    pub fn new(job: J) -> Self {
        Enqueue { job, after: Duration::ZERO, priority: 0, attempts: ATTEMPTS }
    }

    /// Lets no worker take the task before this time has passed, by the database's clock. apalis on SQLite counts in
    /// seconds, and rounds up.
    pub fn after(mut self, after: Duration) -> Self {
        self.after = after;
        self
    }

    /// Lets the task go before those of a lower priority.
    pub fn priority(mut self, priority: i32) -> Self {
        self.priority = priority;
        self
    }

    /// Limits how often the engine tries the task; at least once.
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts.max(1);
        self
    }
}

/// What [`Queue::push`] takes: a job, or an [`Enqueue`] that says how.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no job [idem::not_a_job]",
    label = "this is no job",
    note = "write the struct that `#[idempotent]` has named after the function: that of `async fn charge` is `Charge`; without the attribute there is none"
)]
pub trait IntoEnqueue {
    /// The job.
    type Job: Job;

    /// Returns the job to be enqueued, and how.
    fn into_enqueue(self) -> Enqueue<Self::Job>;
}

#[diagnostic::do_not_recommend]
impl<J: Job> IntoEnqueue for J {
    type Job = J;

    fn into_enqueue(self) -> Enqueue<J> {
        Enqueue::new(self)
    }
}

#[diagnostic::do_not_recommend]
impl<J: Job> IntoEnqueue for Enqueue<J> {
    type Job = J;

    fn into_enqueue(self) -> Self {
        self
    }
}

/// What became of a job that was to be enqueued, and which task does its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a task that was not enqueued is a fact that the caller should know"]
pub enum Enqueued {
    /// It is enqueued as this task.
    New(TaskId),
    /// It is not enqueued: another task has the unique claim.
    Duplicate {
        /// That task.
        of: TaskId,
        /// How long it has had the claim.
        since: Duration,
    },
    /// Its arguments have replaced those of this task, which keeps its place.
    Replaced(TaskId),
    /// Its arguments have replaced those of this task, which waits behind one that runs.
    Coalesced(TaskId),
    /// It is enqueued without a claim, which another task has.
    Deferred {
        /// The new task.
        id: TaskId,
        /// When it tries to take the claim, from now on.
        after: Duration,
    },
    /// It is not enqueued: a record says that the work is done.
    AlreadyDone,
}

impl Enqueued {
    /// Returns the task that does the work, unless it is done.
    pub fn task(self) -> Option<TaskId> {
        match self {
            Enqueued::New(id)
            | Enqueued::Duplicate { of: id, .. }
            | Enqueued::Replaced(id)
            | Enqueued::Coalesced(id)
            | Enqueued::Deferred { id, .. } => Some(id),
            Enqueued::AlreadyDone => None,
        }
    }
}

/// A job was not enqueued.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PushError {
    /// Another task has the unique claim, and the job says `on_duplicate = error`.
    #[error(
        "job `{job}` is not enqueued: task {of} has had the claim of `{claim}` for {since:?}, and does the work; \
         write `on_duplicate = skip` if that is no error [{}]",
        Code::Duplicate
    )]
    #[non_exhaustive]
    Duplicate {
        /// The job.
        job: &'static str,
        /// What is unique, readable.
        claim: String,
        /// The other task.
        of: TaskId,
        /// How long it has had the claim.
        since: Duration,
    },
    /// The work was done under this key with other arguments.
    #[error(transparent)]
    KeyReused(#[from] KeyReused),
    /// The arguments make no key, or cannot be serialized, or the engine would give others to the job.
    #[error(transparent)]
    Args(#[from] ArgsError),
    /// The store could not do its part; nothing was enqueued.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl PushError {
    /// Tells whether another try may help.
    pub fn is_temporary(&self) -> bool {
        matches!(self, PushError::Store(error) if error.is_temporary())
    }
}

/// A job made ready to be enqueued.
struct Prepared {
    id: TaskId,
    spec: &'static JobSpec,
    queue: String,
    enrolled: std::sync::Arc<Enrolled>,
    key: Key,
    fingerprint: Fingerprint,
    payload: Vec<u8>,
    claim: Option<Key>,
    after: Duration,
    priority: i32,
    attempts: u32,
    unclaimed: Option<KeyHash>,
    /// The row of the outbox that it is taken out of: its number, and its payload.
    outbox: Option<(i64, Vec<u8>)>,
}

impl Prepared {
    fn push<'a>(&'a self, namespace: &'a str) -> Push<'a> {
        let lasts = match self.spec.unique {
            Some(Unique::UntilExpired(window)) => Some(window),
            _ => None,
        };
        Push {
            id: self.id,
            namespace,
            name: self.spec.name,
            queue: &self.queue,
            job: self.enrolled.id,
            key: &self.key,
            records: self.spec.retain != Retain::None,
            payload: &self.payload,
            claim: self.claim.as_ref().map(|key| UniqueClaim { key, lasts }),
            unclaimed: self.unclaimed,
            after: self.after,
            priority: self.priority,
            attempts: self.attempts,
            outbox: self.outbox.as_ref().map(|(number, payload)| OutboxRow { number: *number, payload }),
            ends_if_held: self.spec.unique != Some(Unique::KeepLatest)
                && matches!(self.spec.on_duplicate, OnDuplicate::Skip | OnDuplicate::Error),
            // Its claim ends as it starts, and it is to see what the caller has changed.
            holds_back: matches!(
                self.spec.unique,
                Some(Unique::UntilExecuting | Unique::UntilAndWhileExecuting)
            ),
        }
    }

    fn key_reused(&self, recorded: Fingerprint) -> PushError {
        PushError::KeyReused(KeyReused {
            job: self.spec.name,
            key: self.key.readable().to_owned(),
            recorded,
            given: self.fingerprint,
        })
    }
}

/// Returns the name of a job's queue at an engine, which the workers of other namespaces must leave alone.
fn queue_name(namespace: &str, job: &str) -> String {
    match namespace {
        "default" if !job.contains(':') => job.to_owned(),
        // What stands before the first colon is the namespace.
        namespace => format!("{}:{job}", namespace.replace('%', "%25").replace(':', "%3A")),
    }
}

/// Returns the key of a job's claim in its queue.
fn claim_key<J: Job>(namespace: &str, job: &J) -> Result<Option<Key>, ArgsError> {
    if !J::SPEC.unique.is_some_and(Unique::in_queue) {
        return Ok(None);
    }
    let parts = job.queue_key().map_err(|error| ArgsError { job: J::SPEC.name, reason: error.into() })?;
    Ok(Some(Key::new(namespace, J::SPEC.name, &parts)))
}

impl<D: Database, S> Queue<D, S> {
    /// Returns the name of a job's queue, for the worker that serves it: the job's name, behind the namespace if that is
    /// not the default one.
    pub fn name<J: Job>(&self) -> String {
        queue_name(self.idem.namespace(), J::SPEC.name)
    }

    /// Prepares the engine's tables for unique claims, after the engine's own migrations and [`Idem::migrate`]; does
    /// nothing if they are prepared.
    ///
    /// At apalis it makes triggers on its table of tasks: a claim ends in the very transaction in which apalis gives
    /// its task up, be it done, out of attempts, killed by hand or deleted.
    ///
    /// # Errors
    ///
    /// [`NotMigrated`](StoreErrorKind::NotMigrated), or the engine has no tables in this database.
    pub async fn set_up(&self) -> Result<(), StoreError> {
        self.idem.store().prepare(self.engine).await
    }

    /// Enqueues a job, in a transaction of its own: one statement, or one transaction.
    ///
    /// # Errors
    ///
    /// See [`PushError`]; a duplicate is one only with `on_duplicate = error`.
    pub fn push(&self, job: impl IntoEnqueue) -> Answer<'_, Result<Enqueued, PushError>>
    where
        S: Send + Sync,
    {
        Answer::new(self.push_on(None, job.into_enqueue()))
    }

    /// Enqueues a job in the caller's transaction: task and claim are there if it commits, and never were if not.
    ///
    /// A duplicate changes nothing in the transaction. A claim that another transaction is about to take is waited for.
    /// A job whose claim ends as it starts (`until_executing`, `until_and_while_executing`) does not start before a
    /// transaction has ended that was told of it: it sees what that has changed.
    ///
    /// A push that is dropped before it ends leaves task and claim in the transaction, or neither.
    /// [Enrol](Idem::enrol) the job at start-up: on SQLite its first use writes on another connection, which the caller's
    /// transaction may keep out.
    ///
    /// # Errors
    ///
    /// See [`push`](Self::push). Under a stricter isolation than READ COMMITTED, a claim that another transaction has
    /// just taken is a serialization failure: run the transaction again.
    pub fn push_in<'a>(
        &'a self,
        connection: &'a mut D::Connection,
        job: impl IntoEnqueue,
    ) -> Answer<'a, Result<Enqueued, PushError>>
    where
        S: Send + Sync,
    {
        Answer::new(self.push_on(Some(connection), job.into_enqueue()))
    }

    /// Enqueues jobs in one transaction, and one round trip where the database allows it; each has an answer of its
    /// own, in the order of the jobs, and a duplicate stops none of the others.
    ///
    /// # Errors
    ///
    /// The arguments of one of them make no key: then none is enqueued. The store could not do its part: then none is,
    /// unless a claim changed hands in that moment, for which tasks are offered again; push them all again, and those
    /// that are enqueued are duplicates.
    pub fn push_all(
        &self,
        jobs: impl IntoIterator<Item = impl IntoEnqueue>,
    ) -> Answer<'_, Result<Vec<Result<Enqueued, PushError>>, PushError>>
    where
        S: Send + Sync,
    {
        Answer::new(self.push_all_on(None, jobs.into_iter().map(IntoEnqueue::into_enqueue).collect()))
    }

    /// Enqueues jobs in the caller's transaction; see [`push_all`](Self::push_all) and [`push_in`](Self::push_in).
    ///
    /// # Errors
    ///
    /// See [`push_all`](Self::push_all).
    pub fn push_all_in<'a>(
        &'a self,
        connection: &'a mut D::Connection,
        jobs: impl IntoIterator<Item = impl IntoEnqueue>,
    ) -> Answer<'a, Result<Vec<Result<Enqueued, PushError>>, PushError>>
    where
        S: Send + Sync,
    {
        Answer::new(
            self.push_all_on(Some(connection), jobs.into_iter().map(IntoEnqueue::into_enqueue).collect()),
        )
    }

    /// Returns which task has the unique claim that this job would take, if any has.
    ///
    /// # Errors
    ///
    /// The arguments make no key, or the store could not do its part.
    pub async fn holder<J: Job>(&self, job: &J) -> Result<Option<Holder>, PushError> {
        match claim_key(self.idem.namespace(), job)? {
            Some(claim) => Ok(self.idem.store().holder(claim.hash()).await?),
            None => Ok(None),
        }
    }

    /// Ends the unique claim of a task by hand; tells whether it had one. The task stays in its queue, and another one
    /// may come beside it. A claim for a time stays. A task of `keep_latest` runs then, also if a newer one has.
    ///
    /// # Errors
    ///
    /// The store could not do its part.
    pub async fn release(&self, task: TaskId) -> Result<bool, StoreError> {
        let released = self.idem.store().release(task, None).await?;
        info!(%task, released, "released the claim of a task by hand");
        Ok(released)
    }

    async fn push_on<J: Job>(
        &self,
        connection: Option<&mut D::Connection>,
        job: Enqueue<J>,
    ) -> Result<Enqueued, PushError> {
        let mut answers = self.push_all_on(connection, vec![job]).await?;
        answers.pop().expect("one job has one answer")
    }

    async fn push_all_on<J: Job>(
        &self,
        mut connection: Option<&mut D::Connection>,
        jobs: Vec<Enqueue<J>>,
    ) -> Result<Vec<Result<Enqueued, PushError>>, PushError> {
        let tasks = self.prepare_all(jobs).await;
        let mut tasks = tasks.map_err(|error| match error {
            PushError::Store(error) if connection.is_some() && error.is_temporary() => {
                not_enrolled(J::SPEC.name, error).into()
            }
            error => error,
        })?;
        let pushed = self.push_prepared(connection.as_deref_mut(), &mut tasks).await?;
        // A claim may stay locked until the caller's transaction ends: in one order, whatever that of the jobs is.
        let mut settled: Vec<(usize, &Prepared, Pushed)> =
            tasks.iter().zip(pushed).enumerate().map(|(at, (task, pushed))| (at, task, pushed)).collect();
        settled.sort_by_key(|(_, task, _)| task.claim.as_ref().map(Key::hash));
        let mut answers = Vec::with_capacity(tasks.len());
        for (at, task, pushed) in settled {
            let answer = self.answer(connection.as_deref_mut(), task, pushed).await;
            let answer =
                answer.map(|answer| answer.expect("it is taken out of nowhere, so it cannot be gone"));
            observe::pushed(task.spec.name, &answer);
            answers.push((at, answer));
        }
        answers.sort_by_key(|(at, _)| *at);
        Ok(answers.into_iter().map(|(_, answer)| answer).collect())
    }

    /// Pushes tasks, and does so again under new ids where nobody knows whether they were enqueued.
    async fn push_prepared(
        &self,
        mut connection: Option<&mut D::Connection>,
        tasks: &mut [Prepared],
    ) -> Result<Vec<Pushed>, PushError> {
        let is_own = connection.is_none();
        let mut earlier: Vec<Vec<TaskId>> = Vec::new();
        let mut pushed = loop {
            let pushes: Vec<Push<'_>> = tasks.iter().map(|task| task.push(self.idem.namespace())).collect();
            match self.idem.store().push(connection.as_deref_mut(), self.engine, &pushes).await {
                // A connection of the store's had died while it stood idle, as may several.
                Err(error)
                    if is_own && error.kind() == StoreErrorKind::OutcomeUnknown && earlier.len() < OFFERS =>
                {
                    earlier.push(tasks.iter().map(|task| task.id).collect());
                    for task in tasks.iter_mut() {
                        task.id = TaskId::new()?;
                    }
                }
                pushed => break pushed?,
            }
        };
        for (at, (task, pushed)) in tasks.iter_mut().zip(&mut pushed).enumerate() {
            if let Pushed::Held(holder) = pushed
                && earlier.iter().any(|ids| ids[at] == holder.task)
            {
                task.id = holder.task;
                *pushed = Pushed::New;
            }
        }
        Ok(pushed)
    }

    async fn prepare_all<J: Job>(&self, jobs: Vec<Enqueue<J>>) -> Result<Vec<Prepared>, PushError> {
        if jobs.is_empty() {
            return Ok(Vec::new());
        }
        let enrolled = self.idem.enrolled::<J>().await?;
        if J::SPEC.unique.is_some_and(Unique::in_queue) && self.engine == Engine::Apalis {
            self.idem.check_prepared(self.engine).await?;
        }
        let namespace = self.idem.namespace();
        jobs.into_iter()
            .map(|Enqueue { job, after, priority, attempts }| {
                let refuse = |reason| ArgsError { job: J::SPEC.name, reason };
                let parts = job.key().map_err(|error| refuse(error.into()))?;
                Ok(Prepared {
                    id: TaskId::new()?,
                    spec: const { &J::SPEC },
                    queue: queue_name(namespace, J::SPEC.name),
                    enrolled: enrolled.clone(),
                    key: Key::new(namespace, J::SPEC.name, &parts),
                    fingerprint: job.fingerprint().map_err(|error| refuse(error.into()))?,
                    payload: payload(self.engine, &job)?,
                    claim: claim_key(namespace, &job)?,
                    after,
                    priority,
                    attempts,
                    unclaimed: None,
                    outbox: None,
                })
            })
            .collect()
    }

    /// Turns what the store found into an answer, and does what the job says about a claim that is taken. `None` if the
    /// row of the outbox that the task was to be taken out of is gone.
    async fn answer(
        &self,
        mut connection: Option<&mut D::Connection>,
        task: &Prepared,
        mut pushed: Pushed,
    ) -> Result<Option<Enqueued>, PushError> {
        let (store, engine) = (self.idem.store(), self.engine);
        let push = task.push(self.idem.namespace());
        let (job, key) = (task.spec.name, task.key.readable());
        for _ in 0..OFFERS {
            let holder = match pushed {
                Pushed::New => {
                    debug!(job, key, task = %task.id, "enqueued");
                    return Ok(Some(Enqueued::New(task.id)));
                }
                Pushed::Done(recorded) if !recorded.agrees_with(task.fingerprint) => {
                    return Err(task.key_reused(recorded));
                }
                Pushed::Done(_) => {
                    info!(job, key, "duplicate: not enqueued, the work is done");
                    return Ok(Some(Enqueued::AlreadyDone));
                }
                Pushed::Gone => return Ok(None),
                Pushed::Held(holder) => holder,
            };
            if task.spec.unique == Some(Unique::KeepLatest) {
                if store.replace(connection.as_deref_mut(), engine, &push, holder.task).await? {
                    info!(job, key, of = %holder.task, "duplicate: the task that waits has these arguments now");
                    return Ok(Some(Enqueued::Coalesced(holder.task)));
                }
                // A worker has that task in its hands, with the arguments that it had.
                if store.supersede(connection.as_deref_mut(), engine, &push, holder.task).await? {
                    debug!(job, key, task = %task.id, "enqueued behind one that starts");
                    return Ok(Some(Enqueued::New(task.id)));
                }
            } else {
                match task.spec.on_duplicate {
                    OnDuplicate::Skip => return Ok(Some(self.duplicate(task, holder))),
                    OnDuplicate::Error => {
                        let claim = task.claim.as_ref().map_or("", Key::readable).to_owned();
                        return Err(PushError::Duplicate {
                            job,
                            claim,
                            of: holder.task,
                            since: holder.since,
                        });
                    }
                    OnDuplicate::Reschedule(after) => {
                        let claim = push.claim.map(|claim| claim.key.hash());
                        return self.push_unclaimed(connection, push, claim, after).await;
                    }
                    OnDuplicate::Replace => {
                        if store.replace(connection.as_deref_mut(), engine, &push, holder.task).await? {
                            info!(job, key, of = %holder.task, "duplicate: it has replaced the one that waits");
                            return Ok(Some(Enqueued::Replaced(holder.task)));
                        }
                        // Either it runs, or it is gone by now.
                        match claim_holder(store.as_ref(), &push).await? {
                            Some(still) if still.task == holder.task => {
                                if let Some(row) = push.outbox {
                                    store.delete_task(row.number).await?;
                                }
                                return Ok(Some(self.duplicate(task, holder)));
                            }
                            Some(_) | None => {}
                        }
                    }
                }
            }
            let again = store.push(connection.as_deref_mut(), engine, &[push]).await?;
            pushed = again.into_iter().next().expect("one task has one answer");
        }
        let text = format!(
            "the unique claim of job `{job}` changes hands all the time; it is not enqueued; try again"
        );
        Err(StoreError::new(StoreErrorKind::Conflict, text).temporary().into())
    }

    async fn push_unclaimed(
        &self,
        connection: Option<&mut D::Connection>,
        push: Push<'_>,
        claim: Option<KeyHash>,
        after: Duration,
    ) -> Result<Option<Enqueued>, PushError> {
        let after = after.max(push.after);
        let unclaimed = Push { claim: None, unclaimed: claim, after, ..push };
        match self.idem.store().push(connection, self.engine, &[unclaimed]).await?.first() {
            Some(Pushed::Done(_)) => Ok(Some(Enqueued::AlreadyDone)),
            Some(Pushed::Gone) => Ok(None),
            _ => {
                info!(job = push.name, key = push.key.readable(), task = %push.id, "duplicate: it is tried again later");
                Ok(Some(Enqueued::Deferred { id: push.id, after }))
            }
        }
    }

    fn duplicate(&self, task: &Prepared, holder: Holder) -> Enqueued {
        info!(job = task.spec.name, key = task.key.readable(), of = %holder.task, "duplicate: not enqueued");
        Enqueued::Duplicate { of: holder.task, since: holder.since }
    }
}

/// A job is used for the first time in a transaction of the caller's, which keeps idem's own connection out.
fn not_enrolled(job: &'static str, error: StoreError) -> StoreError {
    let text = format!(
        "job `{job}` could not be made known, since its first use needs a connection of its own, which the transaction that \
         it is pushed in may keep out; call `Idem::enrol` for it at start-up; nothing was enqueued"
    );
    StoreError::new(error.kind(), text).caused_by(error).temporary()
}

async fn claim_holder<D: Database>(
    store: &dyn crate::store::Store<D>,
    push: &Push<'_>,
) -> Result<Option<Holder>, StoreError> {
    match push.claim {
        Some(claim) => store.holder(claim.key.hash()).await,
        None => Ok(None),
    }
}

/// Encodes a job as its engine carries it.
fn payload<J: Job>(engine: Engine, job: &J) -> Result<Vec<u8>, PushError> {
    match engine {
        Engine::Outbox => codec::encode(job)
            .map_err(|error| PushError::Args(ArgsError { job: J::SPEC.name, reason: error.into() })),
        #[cfg(feature = "apalis")]
        Engine::Apalis => apalis::payload(job),
        #[cfg(not(feature = "apalis"))]
        Engine::Apalis => {
            let text = "tasks of apalis need the feature `apalis` of idem-runtime: add it in Cargo.toml; nothing was enqueued";
            Err(StoreError::new(StoreErrorKind::Misconfigured, text).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_jobs_have_one_queue() {
        assert_eq!(queue_name("default", "charge"), "charge");
        assert_eq!(queue_name("billing", "charge"), "billing:charge");
        let named = [
            ("default", "billing:charge"),
            ("billing", "charge"),
            ("a", "b:c"),
            ("a:b", "c"),
            ("a%3Ab", "c"),
        ];
        let names: std::collections::HashSet<String> =
            named.iter().map(|(namespace, job)| queue_name(namespace, job)).collect();
        assert_eq!(names.len(), named.len(), "{names:?}");
    }
}
