//! What a job is: the traits that `#[idempotent]` implements and the facts that it states.

use std::future::Future;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::codec::{self, CodecError};
use crate::error::Error;
use crate::fingerprint::Fingerprint;
use crate::key::{EmptyKey, KeyParts};
use crate::run::Run;
use crate::store::{Database, RowValue};
use crate::tx::Tx;

/// A job as a value: its arguments, and everything about it that does not depend on them.
///
/// `#[idempotent]` implements this for the struct that it generates; nothing else should.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no job [idem::not_a_job]",
    label = "this is no job",
    note = "write the struct that `#[idempotent]` has named after the function: that of `async fn charge` is `Charge`; without the attribute there is none"
)]
pub trait Job: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// Where the job's effects are: [`Atomic`] or [`Leased`].
    type Kind: 'static;
    /// What a successful run returns and a replay returns again.
    type Output: JobOutput;
    /// The job's own error.
    type Error: Send + 'static;
    /// The facts of the job.
    const SPEC: JobSpec;

    /// Returns what makes two runs the same work.
    ///
    /// # Errors
    ///
    /// An empty key: see [`EmptyKey`].
    fn key(&self) -> Result<KeyParts, EmptyKey>;

    /// Returns what makes two tasks in a queue the same, for a job that is [unique](JobSpec::unique) there.
    ///
    /// # Errors
    ///
    /// An empty key: see [`EmptyKey`].
    fn queue_key(&self) -> Result<KeyParts, EmptyKey> {
        self.key()
    }

    /// Returns what makes two runs exclude each other, for a job that is unique while it runs; `None` is the key, which
    /// excludes them anyway.
    ///
    /// # Errors
    ///
    /// An empty key: see [`EmptyKey`].
    fn run_key(&self) -> Result<Option<KeyParts>, EmptyKey> {
        Ok(None)
    }

    /// Returns the hash of the arguments that a second run must share.
    ///
    /// # Errors
    ///
    /// An argument whose own `Serialize` fails.
    fn fingerprint(&self) -> Result<Fingerprint, CodecError> {
        Ok(Fingerprint::NONE)
    }

    /// Returns the value that finds the business row of `lock = row(table.column = arg)`.
    fn row(&self) -> Option<RowValue> {
        None
    }

    /// Encodes an error that `replay(...)` declares final; `None` leaves the key free to run again.
    fn final_error(error: &Self::Error) -> Option<Result<Vec<u8>, CodecError>> {
        let _ = error;
        None
    }

    /// Decodes an error that [`Job::final_error`] encoded.
    ///
    /// # Errors
    ///
    /// A job without `replay(...)` has no recorded errors; bytes of another shape.
    fn decode_error(bytes: &[u8]) -> Result<Self::Error, CodecError> {
        let _ = bytes;
        Err(CodecError::no_final_errors())
    }

    /// Returns what is said of the error of a failed run, in the record of a leased job, by a scheduler and in tests.
    fn describe_error(error: &Self::Error) -> String {
        let _ = error;
        String::from(std::any::type_name::<Self::Error>())
    }
}

/// The kind of a job whose effect is in one database, inside one transaction: [`AtomicJob`].
#[derive(Debug)]
pub enum Atomic {}

/// The kind of a job whose effects are elsewhere, or that takes long: [`LeasedJob`].
#[derive(Debug)]
pub enum Leased {}

/// A job whose effect is in one database, inside one transaction.
///
/// `S` is the state of the [`Idem`](crate::Idem) that runs it.
pub trait AtomicJob<S: Sync + 'static>: Job {
    /// The database that the effect is in.
    type Db: Database;

    /// Answers from the business state, if the work turns out to be done already.
    fn check(
        &self,
        tx: &mut Tx<'_, Self::Db>,
    ) -> impl Future<Output = Result<Option<Self::Output>, Self::Error>> + Send {
        let _ = tx;
        async { Ok(None) }
    }

    /// Runs the body that the user wrote, and adopts the errors that `adopt(...)` names.
    fn body<'a>(
        self,
        tx: &'a mut Tx<'_, Self::Db>,
        state: &'a S,
    ) -> impl Future<Output = Result<Settled<Self::Output>, Error<Self::Error>>> + Send + 'a;
}

/// A job whose effects are elsewhere, or that takes long: it has its key by a lease while it runs.
///
/// `S` is the state of the [`Idem`](crate::Idem) that runs it, `D` the database that its records are in.
pub trait LeasedJob<D: Database, S: Sync + 'static>: Job {
    /// Answers from the business state, if the work turns out to be done already.
    fn check<'a>(
        &'a self,
        state: &'a S,
    ) -> impl Future<Output = Result<Option<Self::Output>, Self::Error>> + Send + 'a {
        let _ = state;
        async { Ok(None) }
    }

    /// Finds out whether a run that was cut off has done the work, for `in_doubt = probe(...)`.
    fn probe<'a>(
        &'a self,
        state: &'a S,
    ) -> impl Future<Output = Result<Option<Self::Output>, Self::Error>> + Send + 'a {
        let _ = state;
        async { Ok(None) }
    }

    /// Runs the body that the user wrote, and adopts the errors that `adopt(...)` names.
    fn body<'a>(
        self,
        run: &'a mut Run<'_, D>,
        state: &'a S,
    ) -> impl Future<Output = Result<Settled<Self::Output>, Error<Self::Error>>> + Send + 'a;
}

/// How a body ended well.
#[derive(Debug)]
pub enum Settled<T> {
    /// The body did the work.
    Executed(T),
    /// The work turned out to be done already.
    Adopted(T),
}

/// The facts of a job, as its attribute states them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct JobSpec {
    /// The stable identity: records belong to it, so moving or renaming the function keeps them.
    pub name: &'static str,
    /// How runs of one key keep out of each other's way.
    pub lock: Lock,
    /// What a run does when another run holds its key.
    pub on_busy: OnBusy,
    /// How long a completed record answers.
    pub retain: Retain,
    /// The limit on the body.
    pub timeout: Option<Duration>,
    /// Whether the body can be undone without losing the lock: it adopts or replays errors.
    pub undo: bool,
    /// What a leased job does about an effect whose outcome nobody knows.
    pub in_doubt: InDoubt,
    /// What a leased job does when its recorded steps are not those of its code.
    pub drift: Drift,
    /// Whether a leased job has steps: then these are in doubt, each by itself, and not the job as a whole.
    pub steps: bool,
    /// What of the job there is only one of, in its queue and in its runs.
    pub unique: Option<Unique>,
    /// What becomes of a task whose unique claim is taken.
    pub on_duplicate: OnDuplicate,
    /// When the clock starts the job.
    pub schedule: Option<Schedule>,
}

impl JobSpec {
    /// States a job with the defaults of an atomic job.
    pub const fn new(name: &'static str) -> Self {
        JobSpec {
            name,
            lock: Lock::Row,
            on_busy: OnBusy::Wait(Duration::from_secs(10)),
            retain: Retain::For(Duration::from_secs(7 * 24 * 60 * 60)),
            timeout: None,
            undo: false,
            in_doubt: InDoubt::Rerun,
            drift: Drift::Refuse,
            steps: false,
            unique: None,
            on_duplicate: OnDuplicate::Skip,
            schedule: None,
        }
    }

    /// States a job with the defaults of a leased job.
    pub const fn leased(name: &'static str) -> Self {
        JobSpec::new(name).lock(Lock::Lease(Duration::from_secs(30)))
    }

    /// Replaces the lock.
    pub const fn lock(mut self, lock: Lock) -> Self {
        self.lock = lock;
        self
    }

    /// Replaces what happens when the key is held.
    pub const fn on_busy(mut self, on_busy: OnBusy) -> Self {
        self.on_busy = on_busy;
        self
    }

    /// Replaces the retention.
    pub const fn retain(mut self, retain: Retain) -> Self {
        self.retain = retain;
        self
    }

    /// Limits the body.
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Lets the body be undone, which `adopt` and `replay` need.
    pub const fn undo(mut self) -> Self {
        self.undo = true;
        self
    }

    /// Replaces what happens about an effect whose outcome nobody knows.
    pub const fn in_doubt(mut self, in_doubt: InDoubt) -> Self {
        self.in_doubt = in_doubt;
        self
    }

    /// Replaces what happens when the recorded steps are not those of the code.
    pub const fn drift(mut self, drift: Drift) -> Self {
        self.drift = drift;
        self
    }

    /// Makes the job unique.
    pub const fn unique(mut self, unique: Unique) -> Self {
        self.unique = Some(unique);
        self
    }

    /// Replaces what becomes of a task whose unique claim is taken.
    pub const fn on_duplicate(mut self, on_duplicate: OnDuplicate) -> Self {
        self.on_duplicate = on_duplicate;
        self
    }

    /// Lets the clock start the job.
    pub const fn schedule(mut self, schedule: Schedule) -> Self {
        self.schedule = Some(schedule);
        self
    }

    /// Gives the job steps.
    pub const fn steps(mut self) -> Self {
        self.steps = true;
        self
    }

    /// Returns how long a claim of a leased job lasts without being renewed.
    pub(crate) fn lease(&self) -> Duration {
        match self.lock {
            Lock::Lease(lease) => lease,
            Lock::Row | Lock::BusinessRow { .. } | Lock::Advisory | Lock::None => Duration::from_secs(30),
        }
    }
}

/// How runs of one key keep out of each other's way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Lock {
    /// The key's record, from before the body until the transaction ends.
    Row,
    /// The key's record, and the row of `table` whose `column` has [`Job::row`], `FOR UPDATE`.
    BusinessRow {
        /// The table, with its schema if one was written.
        table: &'static str,
        /// The column that finds the row.
        column: &'static str,
    },
    /// A lock of the database server on the key's hash.
    Advisory,
    /// No lock: the record's primary key alone decides, and the loser's effect is rolled back.
    None,
    /// A claim that lasts this long, by the store's clock, and is renewed while the body runs: a leased job's.
    Lease(Duration),
}

/// What a leased job does about an effect whose outcome nobody knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum InDoubt {
    /// Has it again: the callee takes the key and tells a repetition.
    Rerun,
    /// Asks the callee whether it has happened.
    Probe,
    /// Waits for a person.
    Park,
}

/// What a leased job does when the steps that an earlier run recorded are not the first ones of its code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Drift {
    /// Fails, and leaves the steps to code that knows them.
    Refuse,
    /// Goes on: steps are found by their names, whatever the order, and others are left alone.
    Resume,
    /// Waits for a person.
    Park,
}

/// What a run does when another run holds its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnBusy {
    /// Waits this long for the other run's result.
    Wait(Duration),
    /// Gives up: the other run does the work.
    Skip,
    /// Fails with an error that is worth a retry.
    Error,
    /// Fails with an error that says when to deliver the job again.
    Reschedule(Duration),
}

/// How long a completed record answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Retain {
    /// This long after completion, by the store's clock.
    For(Duration),
    /// For ever.
    Forever,
    /// Not at all: the job may run again as soon as it is done.
    None,
}

/// What of a job there is only one of, by its [`queue_key`](Job::queue_key) and its [`run_key`](Job::run_key).
///
/// A task takes its claim as it is enqueued. A task that has none, since it was [rescheduled](OnDuplicate::Reschedule),
/// takes it as it starts, or waits on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unique {
    /// One waits: the claim ends as the body starts.
    UntilExecuting,
    /// One waits or runs: the claim ends when the task has succeeded or is given up for good, and outlasts retries.
    UntilExecuted,
    /// One in this time, by the store's clock, from when it is enqueued, whatever becomes of it.
    UntilExpired(Duration),
    /// One runs: any number wait, and one that meets a running one waits on, without spending an attempt.
    WhileExecuting,
    /// One waits and one runs.
    UntilAndWhileExecuting,
    /// One waits and one runs, and the one that waits is the newest: a task that is enqueued replaces the arguments of
    /// the one that waits.
    KeepLatest,
}

impl Unique {
    /// Tells whether a task takes a claim as it is enqueued.
    pub const fn in_queue(self) -> bool {
        !matches!(self, Unique::WhileExecuting)
    }

    /// Tells whether a run takes a claim while it runs.
    pub const fn in_run(self) -> bool {
        matches!(self, Unique::WhileExecuting | Unique::UntilAndWhileExecuting | Unique::KeepLatest)
    }
}

/// What becomes of a task whose unique claim another one has, as it is enqueued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnDuplicate {
    /// It is not enqueued; the caller is told which one has the claim.
    Skip,
    /// It is not enqueued, and that is an error.
    Error,
    /// Its arguments replace those of the other one, if that still waits; if not, it is skipped.
    Replace,
    /// It is enqueued without a claim, to be started after this time, and takes the claim then.
    Reschedule(Duration),
}

/// When the clock starts a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Schedule {
    /// Minute, hour, day of the month, month, day of the week, as cron has them.
    pub cron: &'static str,
    /// The time zone that the fields are in, by its name in the IANA database.
    pub time_zone: &'static str,
    /// What becomes of ticks at which no process was there.
    pub missed: Missed,
}

impl Schedule {
    /// States a schedule in UTC that makes up for the latest missed tick.
    pub const fn new(cron: &'static str) -> Self {
        Schedule { cron, time_zone: "UTC", missed: Missed::Latest }
    }

    /// Replaces the time zone.
    pub const fn time_zone(mut self, name: &'static str) -> Self {
        self.time_zone = name;
        self
    }

    /// Replaces what becomes of missed ticks.
    pub const fn missed(mut self, missed: Missed) -> Self {
        self.missed = missed;
        self
    }
}

/// What becomes of ticks of a schedule at which no process was there to start the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Missed {
    /// The latest one is made up for; those before it are logged and skipped.
    Latest,
    /// All are made up for, oldest first.
    All,
}

/// An argument of a job: serde carries it in and out.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be an argument of an idempotent job [idem::argument_without_serde]",
    label = "serde cannot carry this value",
    note = "an argument must be owned and implement `Serialize` and `DeserializeOwned`; for a type of your own, derive them from the crate `serde` with its feature `derive`",
    note = "pass an id and load the value inside the job, or take it as `#[state]`"
)]
pub trait JobArg<Via = Serde> {
    /// The type itself.
    #[doc(hidden)]
    type Itself;

    #[doc(hidden)]
    fn give(&self) -> &Self::Itself;

    #[doc(hidden)]
    fn take(itself: Self::Itself) -> Self;
}

/// The way in which every argument is one.
#[doc(hidden)]
#[derive(Debug)]
pub enum Serde {}

#[diagnostic::do_not_recommend]
impl<T: Serialize + DeserializeOwned + Send + Sync + 'static> JobArg<Serde> for T {
    type Itself = T;

    fn give(&self) -> &T {
        self
    }

    fn take(itself: T) -> T {
        itself
    }
}

/// A second way, which no argument goes. With one way only, rustc takes it for granted and complains
/// about each of its conditions at each use. With two it finds that neither is open, says so once, and
/// has no type for `Itself` left to complain about.
#[doc(hidden)]
#[derive(Debug)]
pub enum Closed {}

#[doc(hidden)]
pub trait Never {}

#[diagnostic::do_not_recommend]
impl<T: Never> JobArg<Closed> for T {
    type Itself = T;

    fn give(&self) -> &T {
        self
    }

    fn take(itself: T) -> T {
        itself
    }
}

/// The result of a job: recorded by the first run, returned again by a replay.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the result of an idempotent job [idem::result_without_serde]",
    label = "serde cannot record this value",
    note = "the result must be owned and implement `Serialize` and `DeserializeOwned`, so that a replay can return it",
    note = "write `#[derive(serde::Serialize, serde::Deserialize)]` on a type of your own; they are in the crate `serde` with its feature `derive`"
)]
pub trait JobOutput: Sized + Send + 'static {
    /// The type itself, for those who hand the result to serde.
    #[doc(hidden)]
    type Itself: Serialize;

    #[doc(hidden)]
    fn itself(&self) -> &Self::Itself;

    // Methods, and not serde's traits as supertraits: rustc would complain about each of those instead of this one.
    #[doc(hidden)]
    fn encode_output(&self) -> Result<Vec<u8>, CodecError>;

    #[doc(hidden)]
    fn decode_output(bytes: &[u8]) -> Result<Self, CodecError>;
}

#[diagnostic::do_not_recommend]
impl<T: Serialize + DeserializeOwned + Send + 'static> JobOutput for T {
    type Itself = T;

    fn itself(&self) -> &T {
        self
    }

    fn encode_output(&self) -> Result<Vec<u8>, CodecError> {
        codec::encode(self)
    }

    fn decode_output(bytes: &[u8]) -> Result<Self, CodecError> {
        codec::decode(bytes)
    }
}

/// The error of a job that uses `replay(...)`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be replayed [idem::error_without_serde]",
    label = "serde cannot record this error",
    note = "`replay(...)` records the error, so it must implement `Serialize` and `DeserializeOwned`",
    note = "write `#[derive(serde::Serialize, serde::Deserialize)]` on a type of your own; they are in the crate `serde` with its feature `derive`",
    note = "give a variant that `replay(...)` does not name, such as `Db(sqlx::Error)`, `#[serde(skip)]`"
)]
pub trait FinalError: Sized + Send + 'static {
    /// Encodes the error for [`Job::final_error`].
    ///
    /// # Errors
    ///
    /// The error's own `Serialize` fails.
    fn encode_error(&self) -> Result<Vec<u8>, CodecError>;

    /// Decodes the error for [`Job::decode_error`].
    ///
    /// # Errors
    ///
    /// Bytes that are not of this error's shape.
    fn decode_error(bytes: &[u8]) -> Result<Self, CodecError>;
}

#[diagnostic::do_not_recommend]
impl<T: Serialize + DeserializeOwned + Send + 'static> FinalError for T {
    fn encode_error(&self) -> Result<Vec<u8>, CodecError> {
        codec::encode(self)
    }

    fn decode_error(bytes: &[u8]) -> Result<Self, CodecError> {
        codec::decode(bytes)
    }
}

/// The return type of a job's function, split into its two halves.
#[diagnostic::on_unimplemented(
    message = "an idempotent job must return a `Result` [idem::not_a_result]",
    label = "this is `{Self}`, not a `Result`",
    note = "write `Result<{Self}, YourError>`: an `Err` leaves the key free to run again"
)]
pub trait JobResult {
    /// The `Ok` half.
    type Output;
    /// The `Err` half.
    type Error;

    /// Returns the `Result` that this is.
    #[doc(hidden)]
    fn into_result(self) -> Result<Self::Output, Self::Error>;
}

impl<T, E> JobResult for Result<T, E> {
    type Output = T;
    type Error = E;

    fn into_result(self) -> Self {
        self
    }
}
