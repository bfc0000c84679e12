//! Jobs under apalis 1.x: its workers run them, its tables, retries, layers and dashboards are used as they are.
//!
//! ```text
//! let queue = idem.queue(Engine::Apalis);
//! queue.set_up().await?;                                   // once, after apalis's own `setup` and `Idem::migrate`
//! queue.push_in(&mut tx, SyncUser { user_id: 42 }).await?; // with the caller's own writes
//!
//! let storage = SqliteStorage::<Payload<SyncUser>>::new(&pool)
//!     .with_config(Config::default().queue(queue.name::<SyncUser>())) // the job's name, not that of a type
//!     .with_codec(PayloadCodec)                             // bytes that are no JSON end the task, not the worker
//!     .poll_with_strategy(apalis::Every::new(apalis::POLL));
//! WorkerBuilder::new("worker-1").backend(storage).build(queue.handler::<SyncUser>()).run().await?;
//! ```
//!
//! Whatever a run of a task comes to, apalis is told so that nothing is lost:
//!
//! | the run | the task |
//! |---|---|
//! | is done, now or before | done |
//! | finds its key or its unique claim held, its claim lost, or the key parked | goes back to its queue, with no attempt spent |
//! | finds its key held by another run, under `on_busy = skip` | done, as `Skipped`, without having run; where that run may be its own, of a worker that died, it goes back to its queue |
//! | is of a `keep_latest` job, and a newer one has begun, or has taken its claim | done, as `Superseded`, without having run |
//! | returns an error that is not final, also one of idem's such as [`Timeout`](crate::Error::Timeout), or panics | failed: apalis tries it again after a [`backoff`], up to its limit |
//! | returns an error that is final (`replay(...)`), finds its key used with other arguments, or has an empty key or an argument that cannot be serialized | killed: it is not tried again |
//! | has ended its worker with its last attempt and once more, as a body does that takes all memory | killed, with no further run |
//! | cannot read its payload, which no version of the job wrote | killed, with its bytes; the worker goes on |

mod at_queue;

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::ops::Deref;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use apalis_core::backend::codec::Codec;
use apalis_core::backend::ext::poll_strategy::{PollSnapshot, PollStrategy};
use apalis_core::backend::finalize::FinalizeBackend;
use apalis_core::backend::{Backend, BackendConfig};
use apalis_core::error::{AbortError, BoxDynError};
use apalis_core::layers::Service;
use apalis_core::task::Task;
use apalis_core::task::builder::TaskBuilder;
use apalis_core::task::from_request::FromRequest;
use apalis_core::worker::context::WorkerContext;
use apalis_core::worker::service::{IntoWorkerService, WorkerService};
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use tokio::time::{Interval, MissedTickBehavior};
use tracing::field::{DisplayValue, display};
use tracing::{debug, info, warn};

pub use self::at_queue::{AtQueue, AtQueueError};
use self::at_queue::{Look, Looking};
use super::{BEGUN, BEYOND_LIMIT, Enqueue, PushError, Queue, TaskId, claim_key};
use crate::codec::{self, CodecError, without_values};
use crate::done::Done;
use crate::error::{ArgsError, Code, Error, StoreError, StoreErrorKind};
use crate::idem::Idem;
use crate::job::{Job, JobSpec, OnDuplicate, Unique};
use crate::key::{Key, KeyHash};
use crate::record::{Latest, Moment};
use crate::run::{NotBegun, RunOn};
use crate::store::{Attempt, Database, Engine, Push, UniqueClaim};

/// How often a worker looks for tasks: by itself apalis looks every 30 seconds.
pub const POLL: Duration = Duration::from_millis(200);

/// Lets a worker look for tasks at intervals, for `poll_with_strategy`.
///
/// apalis's own `poll_with_interval` may stop: where an interval ends in the moment in which a look for tasks comes back
/// with none, nobody waits for the next one, and the worker sleeps until its heartbeat, 30 seconds by default.
#[derive(Debug)]
pub struct Every {
    period: Duration,
    /// Made as it is first waited for, within the runtime of the worker.
    interval: Option<Interval>,
}

impl Every {
    /// Looks at intervals of this length, at least a millisecond.
    pub fn new(period: Duration) -> Self {
        Every { period: period.max(Duration::from_millis(1)), interval: None }
    }
}

impl PollStrategy for Every {
    fn poll_drive(&mut self, context: &mut Context<'_>, _: &PollSnapshot) -> Poll<Option<()>> {
        let period = self.period;
        let interval = self.interval.get_or_insert_with(|| {
            let mut interval = tokio::time::interval(period);
            interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
            interval
        });
        let mut polled = Poll::Pending;
        // Whoever is told that an interval has ended has to be woken by the next one, too.
        while interval.poll_tick(context).is_ready() {
            polled = Poll::Ready(Some(()));
        }
        polled
    }
}

/// How long a task that finds its key held waits in its queue, unless its job says otherwise.
const HELD: Duration = Duration::from_secs(2);

/// How long a task whose key is parked waits in its queue: a person has to look first.
const PARKED: Duration = Duration::from_secs(60);

/// How long a task that was put back waits at the least.
const PUT_BACK_MIN: Duration = Duration::from_secs(1);

/// What a task was to do that is found gone before its body.
const BEGIN: &str = "it was to begin";

/// The name under which a task says which claim it has yet to take.
const UNCLAIMED: &str = "idem.unclaimed";

/// The arguments of a task, read only as the job begins: what cannot be read is the task's trouble and not its worker's.
pub struct Payload<J> {
    /// What is no JSON has no value, but the reason.
    value: Result<Value, String>,
    job: PhantomData<fn() -> J>,
}

impl<J: Job> Payload<J> {
    /// Packs a job.
    ///
    /// # Errors
    ///
    /// An argument whose own `Serialize` fails, or that JSON does not give back as it is.
    pub fn new(job: &J) -> Result<Self, serde_json::Error> {
        carry(job).map(|(_, value)| Payload { value: Ok(value), job: PhantomData })
    }

    /// Reads the job.
    ///
    /// # Errors
    ///
    /// The payload is that of another job, or of another version of this one, or no JSON at all.
    pub fn read(&self) -> Result<J, serde_json::Error> {
        match &self.value {
            Ok(value) => J::deserialize(value),
            Err(why) => Err(serde::de::Error::custom(format_args!("it is no JSON: {why}"))),
        }
    }
}

impl<J> Clone for Payload<J> {
    fn clone(&self) -> Self {
        Payload { value: self.value.clone(), job: PhantomData }
    }
}

impl<J> fmt::Debug for Payload<J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Arguments may be secret.
        f.debug_struct("Payload").finish_non_exhaustive()
    }
}

impl<J> Serialize for Payload<J> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.value {
            Ok(value) => value.serialize(serializer),
            Err(why) => Err(S::Error::custom(format_args!("it is no JSON: {why}"))),
        }
    }
}

impl<'de, J> Deserialize<'de> for Payload<J> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Value::deserialize(deserializer).map(|value| Payload { value: Ok(value), job: PhantomData })
    }
}

/// Reads payloads for apalis, for `with_codec`.
///
/// The codec that a storage comes with refuses bytes that are no JSON, and then apalis ends the worker: with the next one
/// too, as soon as the task is rescued. This one refuses nothing; the task is killed as it starts.
#[derive(Debug, Clone, Copy, Default)]
pub struct PayloadCodec;

impl<P: AnyPayload> Codec<P> for PayloadCodec {
    type Error = serde_json::Error;
    type Compact = Vec<u8>;

    fn encode(&self, payload: &P) -> Result<Vec<u8>, serde_json::Error> {
        payload.to_bytes()
    }

    fn decode(&self, bytes: &Vec<u8>) -> Result<P, serde_json::Error> {
        Ok(P::from_bytes(bytes))
    }
}

/// The [`Payload`] of any job: what rustc says of another type is then idem's, and not apalis's.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no `Payload`, which tasks of idem are [idem::not_a_payload]",
    label = "this storage has other tasks",
    note = "write `SqliteStorage::<Payload<SyncUser>>::new(&pool)` for the job `SyncUser`, with `idem_runtime::engine::apalis::Payload`"
)]
pub trait AnyPayload: Sized {
    #[doc(hidden)]
    fn to_bytes(&self) -> Result<Vec<u8>, serde_json::Error>;

    #[doc(hidden)]
    fn from_bytes(bytes: &[u8]) -> Self;
}

impl<J> AnyPayload for Payload<J> {
    fn to_bytes(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(self)
    }

    fn from_bytes(bytes: &[u8]) -> Self {
        let value = serde_json::from_slice(bytes).map_err(|error| error.to_string());
        Payload { value, job: PhantomData }
    }
}

/// What a handler needs of the task that apalis gives it.
#[derive(Debug, Clone)]
pub struct Delivery {
    task: Option<String>,
    worker: Option<String>,
    attempt: usize,
    /// How many it may have; `None` if nobody limits them.
    attempts: Option<usize>,
    priority: usize,
    /// It has begun although they were used up, and was neither put back nor has it ended since.
    has_begun_beyond_limit: bool,
    /// It has begun, and was put back.
    was_interrupted: bool,
    /// It was enqueued without its unique claim, which it has to take as it starts.
    is_unclaimed: bool,
}

impl<A: Sync> FromRequest<Task<A>> for Delivery {
    type Error = Infallible;

    async fn from_request(task: &Task<A>) -> Result<Self, Infallible> {
        Ok(Delivery {
            task: task.task_id().map(ToString::to_string),
            worker: task.data().get::<WorkerContext>().map(|worker| worker.name().to_owned()),
            attempt: task.attempt(),
            attempts: task.max_attempts(),
            priority: task.priority().unwrap_or(0),
            has_begun_beyond_limit: task.metadata().contains_key(BEYOND_LIMIT),
            was_interrupted: task.metadata().contains_key(BEGUN),
            is_unclaimed: task.metadata().contains_key(UNCLAIMED),
        })
    }
}

impl Delivery {
    /// Returns the worker that apalis has given the task to.
    fn worker(&self) -> &str {
        self.worker.as_deref().unwrap_or_default()
    }

    /// Tells whether this attempt is the last, or one more than that.
    fn is_last(&self) -> bool {
        self.attempts.is_some_and(|attempts| self.attempt >= attempts)
    }

    /// Tells whether the attempts were used up before this one. Workers that died with the task have counted one each.
    fn is_beyond_limit(&self) -> bool {
        self.attempts.is_some_and(|attempts| self.attempt > attempts)
    }

    /// Tells whether an earlier run of this task may have begun, and have the key still.
    fn may_have_begun(&self) -> bool {
        self.attempt > 1 || self.was_interrupted
    }

    /// Returns how many attempts are left, if this one is not spent.
    fn attempts_left(&self) -> Option<u32> {
        let left = self.attempts?.saturating_sub(self.attempt.saturating_sub(1)).max(1);
        Some(u32::try_from(left).unwrap_or(u32::MAX))
    }
}

/// What a handler has come to, as apalis records it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ran<T> {
    /// The work was done by this run.
    Executed(T),
    /// It had been done by an earlier run.
    Replayed(T),
    /// It turned out to have been done outside of idem.
    Adopted(T),
    /// Another run has the key, and the job says `on_busy = skip`.
    Skipped {
        /// Why.
        why: String,
    },
    /// The task is back in its queue: apalis's own record of this run has no effect.
    PutBack {
        /// Why.
        why: String,
    },
    /// A newer task of a `keep_latest` job does the work of this one, or has done it.
    Superseded {
        /// The newer one; `None` if it has ended.
        by: Option<String>,
    },
}

/// What a handler returns.
pub type Handled<T> = Pin<Box<dyn Future<Output = Result<Ran<T>, BoxDynError>> + Send>>;

/// Makes a task of apalis of one in the outbox, for a relay to an engine that is not in this database, such as Redis.
///
/// Its id is the same whenever it is made, so the engine takes it once. Its worker's handler comes from the queue of
/// [`Engine::Outbox`].
///
/// ```text
/// idem.relay(async |task| match task.job() {
///     "sync_user" => redis.push_task(apalis::task::<SyncUser>(task)?).await.map_err(Into::into),
///     other => bail!("nobody relays `{other}`"),
/// })
/// .await?;
/// ```
///
/// # Errors
///
/// The task is none of job `J`, or of a version of it that this one does not read.
pub fn task<J: Job>(task: &crate::Task) -> Result<Task<Payload<J>>, StoreError> {
    let unreadable = |error: serde_json::Error| {
        let text = format!(
            "task {} of job `{}` cannot be written as JSON, which apalis carries: {error}",
            task.id(),
            task.job()
        );
        StoreError::new(StoreErrorKind::Unreadable, text).caused_by(error)
    };
    let payload = Payload::new(&task.decode::<J>()?).map_err(unreadable)?;
    let priority = usize::try_from(task.priority()).unwrap_or(0);
    let builder = TaskBuilder::new(payload).task_id(task.id().into()).priority(priority);
    let attempts = task.attempts().and_then(|attempts| usize::try_from(attempts).ok());
    Ok(match attempts {
        Some(attempts) => builder.max_attempts(attempts).build(),
        None => builder.build(),
    })
}

impl From<TaskId> for apalis_core::task::task_id::TaskId {
    fn from(id: TaskId) -> Self {
        id.to_string().parse().expect("an id of idem's is a ULID")
    }
}

/// Encodes a job as apalis carries it.
pub(super) fn payload<J: Job>(job: &J) -> Result<Vec<u8>, PushError> {
    carry(job).map(|(bytes, _)| bytes).map_err(|error| {
        PushError::Args(ArgsError { job: J::SPEC.name, reason: CodecError::custom(error).into() })
    })
}

/// Writes a job as JSON, and makes sure that a worker will read this very job: JSON, or serde's way with it, loses some
/// values without a word.
fn carry<J: Job>(job: &J) -> Result<(Vec<u8>, Value), serde_json::Error> {
    let bytes = serde_json::to_vec(job)?;
    let value: Value = serde_json::from_slice(&bytes)?;
    let read = J::deserialize(&value);
    if read.is_ok_and(|read| shape(&read) == shape(job)) {
        return Ok((bytes, value));
    }
    Err(serde_json::Error::custom(
        "apalis carries arguments as JSON, which does not give these back as they are: it has no Some(None), no NaN and \
         no infinity, and no integer of more than 64 bits here; take a type that it has, such as a text",
    ))
}

/// Returns the bytes of a value, in an order of their own: a `HashMap` or `HashSet` that was read shows its entries in
/// another one.
fn shape<T: Serialize>(value: &T) -> Option<Vec<u8>> {
    let mut bytes = codec::encode(value).ok()?;
    bytes.sort_unstable();
    Some(bytes)
}

/// Handles the tasks of the job `J`, which returns `T`: for `WorkerBuilder::build`, and a function for a handler of yours around
/// it, of whose worker nobody asks at which queue it waits.
// No `impl Fn`, which repeats the bounds of what returns it (decision 0021).
pub struct Handler<J, T> {
    handle: Arc<Handle<J, T>>,
    look: Arc<Look>,
}

type Handle<J, T> = dyn Fn(Payload<J>, Delivery) -> Handled<T> + Send + Sync;

impl<J, T> Clone for Handler<J, T> {
    fn clone(&self) -> Self {
        Handler { handle: Arc::clone(&self.handle), look: Arc::clone(&self.look) }
    }
}

impl<J, T> fmt::Debug for Handler<J, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handler").finish_non_exhaustive()
    }
}

impl<J, T> Deref for Handler<J, T> {
    type Target = Handle<J, T>;

    fn deref(&self) -> &Handle<J, T> {
        &*self.handle
    }
}

impl<J, T, B, O> IntoWorkerService<B, HandlerService<J, T>> for Handler<J, T>
where
    J: 'static,
    T: 'static,
    B: Backend + BackendConfig<Args = Payload<J>>,
    B::Kind: FinalizeBackend<B, Payload<J>, Backend = O>,
    O: Backend<Task = Task<Payload<J>>>,
{
    type Task = Task<Payload<J>>;
    type Backend = AtQueue<O>;

    fn into_service(self, backend: B) -> WorkerService<AtQueue<O>, HandlerService<J, T>> {
        let backend = AtQueue::new(B::Kind::finalize(backend), self.look);
        WorkerService { backend, service: HandlerService(self.handle) }
    }
}

/// A [`Handler`] as apalis calls it.
pub struct HandlerService<J, T>(Arc<Handle<J, T>>);

impl<J, T> Clone for HandlerService<J, T> {
    fn clone(&self) -> Self {
        HandlerService(Arc::clone(&self.0))
    }
}

impl<J, T> fmt::Debug for HandlerService<J, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandlerService").finish_non_exhaustive()
    }
}

impl<J: 'static, T: 'static> Service<Task<Payload<J>>> for HandlerService<J, T> {
    type Response = Ran<T>;
    type Error = BoxDynError;
    type Future = Handled<T>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxDynError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, task: Task<Payload<J>>) -> Handled<T> {
        let handle = Arc::clone(&self.0);
        // apalis counts the attempt as this is first polled.
        Box::pin(async move {
            let Ok(delivery) = Delivery::from_request(&task).await;
            handle(task.args, delivery).await
        })
    }
}

/// The error of a job that apalis runs.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the error of a task [idem::error_of_a_task]",
    label = "apalis cannot keep this error",
    note = "it must be a `std::error::Error`, `Send` and `Sync`",
    note = "write `#[derive(Debug, thiserror::Error)]` on a type of your own, with an `#[error(\"...\")]` for each variant, or implement `Display` and `std::error::Error`"
)]
pub trait TaskError: std::error::Error + Send + Sync {}

#[diagnostic::do_not_recommend]
impl<E: std::error::Error + Send + Sync> TaskError for E {}

impl<D: Database, S> Queue<D, S> {
    /// Returns a handler of the job's tasks, for `WorkerBuilder::build`.
    ///
    /// Its worker must come to the [queue of the job](Self::name); with a storage of another name it ends as it starts, with an error
    /// that says what to write.
    pub fn handler<J>(&self) -> Handler<J, J::Output>
    where
        J: RunOn<D, S>,
        J::Error: TaskError,
        S: Send + Sync + 'static,
    {
        let queue = self.clone();
        let handle = move |payload, delivery: Delivery| -> Handled<J::Output> {
            let queue = queue.clone();
            Box::pin(async move {
                let key = OnceLock::new();
                match catch_panic(handle::<J, D, S>(&queue, payload, delivery.clone(), &key)).await {
                    Ok(ran) => Ok(ran),
                    Err(failure) => {
                        Err(queue.failed(const { &J::SPEC }, &delivery, key.get(), failure).await)
                    }
                }
            })
        };
        let queue = self.clone();
        let look = move |worker: String| -> Looking {
            let queue = queue.clone();
            Box::pin(async move { queue.check_queue_of::<J>(&worker).await })
        };
        Handler { handle: Arc::new(handle), look: Arc::new(look) }
    }

    /// Makes sure that a worker has come to the queue of this job.
    async fn check_queue_of<J: Job>(&self, worker: &str) -> Result<(), StoreError> {
        let name = self.name::<J>();
        match self.idem.store().queue_of(self.engine, worker).await {
            Ok(Some(other)) if other != name => {
                let job = std::any::type_name::<J>().rsplit("::").next().unwrap_or_default();
                let text = format!(
                    "worker `{worker}` waits at queue `{other}`, and the tasks of job `{}` are in `{name}`; it has taken none; name the queue \
                     of its storage: `.with_config(Config::default().queue(queue.name::<{job}>()))`, and let no two workers share a name",
                    J::SPEC.name
                );
                Err(StoreError::new(StoreErrorKind::Misconfigured, text))
            }
            Ok(_) => Ok(()),
            // The worker does not need the answer.
            Err(error) => {
                warn!(job = J::SPEC.name, worker, %error, "whether the worker has come to the job's queue is not known");
                Ok(())
            }
        }
    }

    /// Says how long a task waits after its attempt of this number, from 1, has failed; [`backoff`] by itself.
    ///
    /// It is for the handlers that are made afterwards, at [`Engine::Apalis`]: elsewhere the engine's own delays hold.
    /// apalis on SQLite counts in seconds, and rounds up. A retry layer of apalis around the handler does not wait.
    ///
    /// # Example
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use idem_runtime::Idem;
    /// use idem_runtime::engine::Engine;
    ///
    /// let idem = Idem::memory().build().unwrap();
    /// let queue = idem.queue(Engine::Apalis).backoff(|attempt| Duration::from_secs(10) * attempt);
    /// ```
    pub fn backoff(mut self, backoff: impl Fn(u32) -> Duration + Send + Sync + 'static) -> Self {
        self.backoff = Backoff(Arc::new(backoff));
        self
    }

    /// Does what is to be done of a task whose attempt has failed; returns what the engine is told.
    async fn failed(
        &self,
        spec: &JobSpec,
        delivery: &Delivery,
        key: Option<&Key>,
        failure: Failure,
    ) -> BoxDynError {
        let Failure { error, code, then } = failure;
        let Some(task) = delivery.task.as_deref().and_then(|id| id.parse::<TaskId>().ok()) else {
            return error;
        };
        let (job, attempt, code) = (spec.name, delivery.attempt, code.map(display));
        let (key, hash) = shown(key);
        let is_final = matches!(then, Then::Final | Then::Killed);
        let gives_up = is_final || delivery.is_last();
        match then {
            Then::Again if gives_up => {
                warn!(job, key, hash, %task, attempt, code, "failed for the last time: its attempts are used up");
            }
            Then::Final => info!(job, key, %task, attempt, "failed for good: its error is final"),
            // Told below, or before.
            Then::Again | Then::Killed | Then::Gone => {}
        }
        match (self.engine, gives_up) {
            // Its tables end the claim.
            (Engine::Apalis, true) => error,
            (Engine::Apalis, false) => {
                let after = (self.backoff.0)(u32::try_from(attempt).unwrap_or(u32::MAX));
                let (store, worker) = (self.idem.store(), delivery.worker());
                match store.put_off(self.engine, task, worker, after, Attempt::Failed).await {
                    Ok(true) => {
                        info!(job, key, %task, attempt, ?after, code, "failed, and is tried again");
                    }
                    // Another worker has it by now.
                    Ok(false) => {}
                    Err(error) => warn!(job, key, hash, %task, %error, "failed, and is tried again at once"),
                }
                error
            }
            (Engine::Outbox, true) => {
                if let Err(error) = over(&self.idem, self.engine, spec.unique, task).await {
                    warn!(job, key, hash, %task, %error, "is over, and its unique claim was not ended; end it by hand");
                }
                match is_final {
                    true => error,
                    // It would try on, whatever limit it was given.
                    false => Box::new(AbortError::new(error)),
                }
            }
            (Engine::Outbox, false) => {
                info!(job, key, %task, attempt, code, "failed; whether it is tried again is up to its engine");
                error
            }
        }
    }
}

/// What is shown of a key that could be read: its form for people, and for warnings its hash.
fn shown(key: Option<&Key>) -> (Option<&str>, Option<DisplayValue<KeyHash>>) {
    (key.map(Key::readable), key.map(|key| display(key.hash())))
}

/// A task that is not done.
struct Failure {
    /// What apalis is told.
    error: BoxDynError,
    code: Option<Code>,
    then: Then,
}

/// What becomes of a task that is not done.
enum Then {
    /// It is tried again, if it has attempts left.
    Again,
    /// It is over: the job says that its error is final.
    Final,
    /// It is over: no run can do it. That has been logged.
    Killed,
    /// It is another worker's by now. That has been logged.
    Gone,
}

impl Failure {
    fn again(error: impl Into<BoxDynError>, code: Option<Code>) -> Self {
        Failure { error: error.into(), code, then: Then::Again }
    }

    fn killed(error: impl Into<BoxDynError>) -> Self {
        Failure { error: Box::new(AbortError::new(error)), code: None, then: Then::Killed }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let code = error.code();
        Failure::again(error, Some(code))
    }
}

impl From<PushError> for Failure {
    fn from(error: PushError) -> Self {
        let code = error.code();
        Failure::again(error, Some(code))
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        Failure::again(error, Some(Code::Unreadable))
    }
}

/// Ends the claim of a task that is over. In the database of apalis its own tables do that, with the task.
async fn over<D: Database, S>(
    idem: &Idem<D, S>,
    engine: Engine,
    unique: Option<Unique>,
    task: TaskId,
) -> Result<(), StoreError> {
    if engine == Engine::Outbox && unique.is_some_and(Unique::in_queue) {
        idem.store().release(task, None).await?;
    }
    Ok(())
}

/// How long tasks wait between their attempts.
#[derive(Clone)]
pub(super) struct Backoff(Arc<dyn Fn(u32) -> Duration + Send + Sync>);

impl Default for Backoff {
    fn default() -> Self {
        Backoff(Arc::new(backoff))
    }
}

/// The longest time that a task waits between two attempts by [`backoff`].
pub const BACKOFF_MAX: Duration = Duration::from_secs(3600);

/// Returns how long a task waits after its attempt of this number, from 1, unless [`Queue::backoff`] says otherwise: a
/// second, and twice as long each time, up to an hour. 25 attempts take 13 hours then.
///
/// ```
/// use std::time::Duration;
///
/// use idem_runtime::engine::apalis::backoff;
///
/// let waits = [1, 2, 3, 4, 25].map(|attempt| backoff(attempt).as_secs());
/// assert_eq!(waits, [1, 2, 4, 8, 3600]);
/// ```
pub fn backoff(attempt: u32) -> Duration {
    let seconds = 1_u64.checked_shl(attempt.saturating_sub(1)).unwrap_or(u64::MAX);
    Duration::from_secs(seconds).min(BACKOFF_MAX)
}

/// Turns a panic into an error. By itself apalis would end the worker with all the bodies that it runs; its layer that
/// catches panics would leave the task, and its claim, with the worker for as long as that lives.
async fn catch_panic<T>(handling: impl Future<Output = Result<Ran<T>, Failure>>) -> Result<Ran<T>, Failure> {
    let mut handling = std::pin::pin!(handling);
    std::future::poll_fn(|context| {
        // A body that has panicked is not polled again.
        let polled = std::panic::catch_unwind(AssertUnwindSafe(|| handling.as_mut().poll(context)));
        polled.unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no text");
            Poll::Ready(Err(Failure::again(panicked(text), Some(Code::Panicked))))
        })
    })
    .await
}

pub(crate) fn panicked(text: &str) -> String {
    format!("the job panicked: {text}; what an atomic job did is undone [{}]", Code::Panicked)
}

pub(crate) fn attempts_used_up(job: &str, task: &str) -> String {
    format!(
        "task {task} of job `{job}` has used up its attempts, and the worker that ran it beyond them has died; it is not \
         run again: find out what of it ends its workers, then set its status to Pending and its attempts to 0 [{}]",
        Code::AttemptsUsedUp
    )
}

/// A task under way.
struct Handling<'a, J, D: Database, S> {
    queue: &'a Queue<D, S>,
    idem: &'a Idem<D, S>,
    engine: Engine,
    job: &'static str,
    unique: Option<Unique>,
    task: TaskId,
    /// `None` if it is empty.
    key: Option<&'a Key>,
    delivery: Delivery,
    payload: Payload<J>,
}

/// Does what a task asks for; `known` is its key, as soon as that is read.
async fn handle<J, D, S>(
    queue: &Queue<D, S>,
    payload: Payload<J>,
    delivery: Delivery,
    known: &OnceLock<Key>,
) -> Result<Ran<J::Output>, Failure>
where
    J: RunOn<D, S>,
    J::Error: TaskError,
    D: Database,
    S: Send + Sync + 'static,
{
    let name = J::SPEC.name;
    let id = delivery.task.as_deref().unwrap_or_default();
    let task = match id.parse::<TaskId>() {
        Ok(task) => task,
        Err(error) => {
            warn!(job = name, task = id, code = %error.code(), "killed: its id is none of idem's");
            return Err(Failure::killed(format!("a task of job `{name}` cannot be run: {error}")));
        }
    };
    let job = match payload.read() {
        Ok(job) => job,
        Err(error) => {
            let error = without_values(&error.to_string());
            warn!(job = name, %task, code = %Code::Unreadable, %error, "killed: the payload cannot be read");
            return Err(Failure::killed(format!(
                "the payload of task {task} is none of job `{name}`: {error}; it was not run, and stays with its bytes; \
                 make the job read it (`#[serde(default)]`, `#[serde(alias)]`), then set its status to Pending [{}]",
                Code::Unreadable
            )));
        }
    };
    // The run takes the job with it.
    if let Ok(parts) = job.key() {
        known.get_or_init(|| Key::new(queue.idem.namespace(), name, &parts));
    }
    let (key, hash) = shown(known.get());
    if queue.engine == Engine::Apalis && delivery.is_beyond_limit() {
        if delivery.has_begun_beyond_limit {
            let (attempt, code) = (delivery.attempt, Code::AttemptsUsedUp);
            warn!(job = name, key, hash, %task, attempt, %code, "killed: its worker has died beyond its attempts");
            return Err(Failure::killed(attempts_used_up(name, id)));
        }
        // apalis counts also for tasks that were in the hands of a dead worker and had not begun. So one more may
        // begin, and what ends a worker once more is told from what has only waited beside it.
        let (store, worker) = (queue.idem.store(), delivery.worker());
        if let Err(error) =
            store.put_off(queue.engine, task, worker, Duration::ZERO, Attempt::BeyondLimit).await
        {
            warn!(job = name, key, hash, %task, %error, "begins beyond its attempts, which could not be noted");
        }
    }
    let handling = Handling {
        queue,
        idem: &queue.idem,
        engine: queue.engine,
        job: name,
        unique: J::SPEC.unique,
        task,
        key: known.get(),
        delivery,
        payload,
    };
    handling.handle(job).await
}

impl<J: Job, D: Database, S: Send + Sync + 'static> Handling<'_, J, D, S> {
    async fn handle(&self, job: J) -> Result<Ran<J::Output>, Failure>
    where
        J: RunOn<D, S>,
        J::Error: TaskError,
    {
        let unique = self.unique;
        let claim = claim_key(self.idem.namespace(), &job)
            .map_err(|error| self.killed(Error::<J::Error>::Args(error)))?;
        let lasts = match unique {
            Some(Unique::UntilExpired(window)) => Some(window),
            _ => None,
        };
        let claim = claim.as_ref().map(|key| UniqueClaim { key, lasts });
        // Such a task without its claim is superseded, or has begun before.
        let latest = self.latest(claim);
        if let Some(claim) = &claim
            && latest.is_none()
            && self.has_to_claim()
        {
            let enrolled = self.idem.enrolled::<J>().await?;
            let holder = self.idem.store().acquire(enrolled.id, claim, self.task, self.worker()).await?;
            let Some(holder) = holder else { return Err(self.gone(&Why::said(BEGIN))) };
            if holder.task != self.task {
                let after = match J::SPEC.on_duplicate {
                    OnDuplicate::Reschedule(after) => after,
                    OnDuplicate::Skip | OnDuplicate::Error | OnDuplicate::Replace => HELD,
                };
                let why = Why::said(format!("task {} has its unique claim", holder.task));
                return self.put_back(after, Attempt::Unspent, why).await;
            }
        }
        let releases = matches!(unique, Some(Unique::UntilExecuting | Unique::UntilAndWhileExecuting));
        // It is told outside of the run.
        let not_begun = OnceLock::new();
        let started = async {
            let store = self.idem.store();
            if let Some(claim) = latest {
                match store.keep_latest(Moment::Begins, claim, self.task, self.worker()).await? {
                    Latest::Goes => {}
                    Latest::Superseded(by) => {
                        not_begun.get_or_init(|| Latest::Superseded(by));
                        return Err(NotBegun::Superseded);
                    }
                    Latest::Gone => {
                        not_begun.get_or_init(|| Latest::Gone);
                        return Err(self.not_ours(BEGIN).into());
                    }
                }
            }
            if releases {
                store.release(self.task, self.worker()).await?;
            }
            Ok(())
        };
        let done = self.idem.run_started(job, started).await;
        match not_begun.into_inner() {
            Some(Latest::Superseded(by)) => return self.superseded(by).await,
            Some(Latest::Gone) => return Err(self.gone(&Why::said(BEGIN))),
            Some(Latest::Goes) | None => {}
        }
        match done {
            Ok(done) => {
                self.over().await?;
                Ok(match done {
                    Done::Executed(value) => Ran::Executed(value),
                    Done::Replayed(value) => Ran::Replayed(value),
                    Done::Adopted(value) => Ran::Adopted(value),
                })
            }
            // Another one's run, and not what is left of one of its own, whose worker may be dead.
            Err(Error::Busy(busy)) if busy.skipped && !self.delivery.may_have_begun() => {
                self.over().await?;
                Ok(Ran::Skipped { why: busy.to_string() })
            }
            Err(Error::Busy(busy)) => {
                let why = Why { says: busy.says(), code: Some(busy.code()) };
                let after = busy.again_in.unwrap_or(HELD);
                self.wait(claim, releases, after, Attempt::Unspent, why).await
            }
            Err(Error::LostClaim(lost)) => {
                let why = Why { says: lost.says(), code: Some(lost.code()) };
                self.wait(claim, releases, HELD, Attempt::Interrupted, why).await
            }
            Err(Error::Parked(parked)) => {
                let why = Why { says: parked.says(), code: Some(parked.code()) };
                self.wait(claim, releases, PARKED, Attempt::Interrupted, why).await
            }
            Err(error @ (Error::KeyReused(_) | Error::Args(_))) => Err(self.killed(error)),
            Err(error) => {
                let is_final = match &error {
                    Error::Job(error) => J::final_error(error).is_some(),
                    _ => false,
                };
                let code = error.code();
                let error: BoxDynError = Box::new(error);
                Err(match is_final {
                    true => Failure { error: Box::new(AbortError::new(error)), code, then: Then::Final },
                    false => Failure::again(error, code),
                })
            }
        }
    }

    /// Says that no run can do the task.
    fn killed(&self, error: Error<J::Error>) -> Failure
    where
        J::Error: TaskError,
    {
        let ((key, hash), code) = (shown(self.key), error.code().map(display));
        warn!(job = self.job, key, hash, task = %self.task, code, "killed: no run can do it");
        Failure::killed(error)
    }

    /// Tells whether the task has no claim yet. At an engine elsewhere nobody knows.
    fn has_to_claim(&self) -> bool {
        match self.engine {
            Engine::Apalis => self.delivery.is_unclaimed,
            Engine::Outbox => self.delivery.attempt <= 1,
        }
    }

    /// Returns the worker that must have the task still where the store can tell. One that others take for dead, since it
    /// was silent, comes to tasks that are theirs by then, or done.
    fn worker(&self) -> Option<&str> {
        match self.engine {
            Engine::Apalis => Some(self.delivery.worker()),
            Engine::Outbox => None,
        }
    }

    /// Returns the claim of a task of which only the latest is kept.
    fn latest<'c>(&self, claim: Option<UniqueClaim<'c>>) -> Option<&'c Key> {
        claim.filter(|_| self.unique == Some(Unique::KeepLatest)).map(|claim| claim.key)
    }

    async fn over(&self) -> Result<(), StoreError> {
        over(self.idem, self.engine, self.unique, self.task).await
    }
}

impl<J: Job, D: Database, S: Send + Sync + 'static> Handling<'_, J, D, S> {
    /// Lets a task that could not begin wait in its queue, if it may.
    async fn wait<T>(
        &self,
        claim: Option<UniqueClaim<'_>>,
        was_released: bool,
        after: Duration,
        attempt: Attempt,
        why: Why,
    ) -> Result<Ran<T>, Failure> {
        // It waits again, so its claim is its own again, unless another one waits by now.
        let store = self.idem.store();
        if let Some(claim) = self.latest(claim) {
            match store.keep_latest(Moment::Waits, claim, self.task, self.worker()).await? {
                Latest::Goes => {}
                Latest::Superseded(by) => return self.superseded(by).await,
                Latest::Gone => return Err(self.gone(&why)),
            }
        } else if let Some(claim) = claim.filter(|_| was_released) {
            let job = store.enrol(self.idem.namespace(), self.job).await?;
            if store.acquire(job, &claim, self.task, self.worker()).await?.is_none() {
                return Err(self.gone(&why));
            }
        }
        self.put_back(after, attempt, why).await
    }

    /// Ends a task whose work a newer one does, or has done.
    async fn superseded<T>(&self, by: Option<TaskId>) -> Result<Ran<T>, Failure> {
        self.over().await?;
        let by = by.map(|by| by.to_string());
        info!(job = self.job, key = shown(self.key).0, task = %self.task, by, "superseded by a newer task");
        Ok(Ran::Superseded { by })
    }

    /// Gives the task back to its queue. apalis writes how a run ended only where the task is still the worker's, and a
    /// trigger lets no task end by having been put back, so what apalis is told then has no effect.
    async fn put_back<T>(&self, after: Duration, attempt: Attempt, why: Why) -> Result<Ran<T>, Failure> {
        let (store, worker) = (self.idem.store(), self.delivery.worker());
        // What this worker is still to say of the task must be said before it can take it again.
        let after = after.max(PUT_BACK_MIN);
        if store.put_off(self.engine, self.task, worker, after, attempt).await? {
            let (key, (says, code)) = (shown(self.key).0, why.shown());
            info!(job = self.job, key, task = %self.task, ?after, code, why = says, "put back");
            return Ok(Ran::PutBack { why: why.to_string() });
        }
        if self.engine == Engine::Outbox {
            return self.enqueue_again(after, why).await;
        }
        Err(self.gone(&why))
    }

    /// Leaves a task alone that this worker has no more; what apalis is told has no effect then.
    fn gone(&self, why: &Why) -> Failure {
        let (key, (says, code)) = (shown(self.key).0, why.shown());
        debug!(job = self.job, key, task = %self.task, code, why = says, "left alone: it is not this worker's any more");
        Failure { then: Then::Gone, ..self.not_ours(&why.says).into() }
    }

    fn not_ours(&self, says: &str) -> StoreError {
        let text = format!(
            "task {} of job `{}` is not this worker's any more; it is left to whoever has it: {says}",
            self.task, self.job
        );
        StoreError::new(StoreErrorKind::Conflict, text).temporary()
    }

    /// Lets a new task, behind a relay, do the work of this one, and hands the claim over to it.
    async fn enqueue_again<T>(&self, after: Duration, why: Why) -> Result<Ran<T>, Failure> {
        let store = self.idem.store();
        let priority = i32::try_from(self.delivery.priority).unwrap_or(i32::MAX);
        let mut again = Enqueue::new(self.payload.read()?).priority(priority);
        if let Some(attempts) = self.delivery.attempts_left() {
            again = again.attempts(attempts);
        }
        let again = self.queue.prepare_all(vec![again]).await?.pop().expect("one job makes one task");
        let push = Push { after, ..again.push(self.idem.namespace()) };
        let has_claim = match push.claim {
            Some(_) => store.supersede(None, self.engine, &push, self.task).await?,
            None => false,
        };
        if !has_claim {
            if let Some(claim) = self.latest(push.claim)
                && let Latest::Superseded(by) =
                    store.keep_latest(Moment::Waits, claim, self.task, None).await?
            {
                return self.superseded(by).await;
            }
            let unclaimed = push.claim.map(|claim| claim.key.hash());
            store.push(None, self.engine, &[Push { claim: None, unclaimed, ..push }]).await?;
        }
        self.over().await?;
        let (key, (says, code)) = (shown(self.key).0, why.shown());
        info!(
            job = self.job, key, task = %self.task, again = %again.id, ?after, code, why = says,
            "enqueued again"
        );
        Ok(Ran::PutBack { why: why.to_string() })
    }
}

/// Why a task has to wait: what is said, and the code of the error that says it, if one does.
struct Why {
    says: String,
    code: Option<Code>,
}

impl Why {
    fn said(says: impl Into<String>) -> Self {
        Why { says: says.into(), code: None }
    }

    /// What is logged of it: the code is enough, since the run has said the rest.
    fn shown(&self) -> (Option<&str>, Option<DisplayValue<Code>>) {
        match self.code {
            Some(code) => (None, Some(display(code))),
            None => (Some(&self.says), None),
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.says)?;
        match self.code {
            Some(code) => write!(f, " [{code}]"),
            None => Ok(()),
        }
    }
}
