//! What a job is: the traits that `#[idempotent]` implements and the facts that it states.

use std::future::Future;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::codec::{self, CodecError};
use crate::error::Error;
use crate::fingerprint::Fingerprint;
use crate::key::{EmptyKey, KeyParts};
use crate::store::{Database, RowValue};
use crate::tx::Tx;

/// A job as a value: its arguments, and everything about it that does not depend on them.
///
/// `#[idempotent]` implements this for the struct that it generates; nothing else should.
pub trait Job: Serialize + DeserializeOwned + Send + Sync + 'static {
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
}

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
        }
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

/// An argument of a job: serde carries it in and out.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be an argument of an idempotent job",
    label = "serde cannot carry this value",
    note = "an argument must be owned and implement `Serialize` and `DeserializeOwned`",
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
    message = "`{Self}` cannot be the result of an idempotent job",
    label = "serde cannot record this value",
    note = "the result must be owned and implement `Serialize` and `DeserializeOwned`, so that a replay can return it"
)]
pub trait JobOutput: Serialize + DeserializeOwned + Send + 'static {}

#[diagnostic::do_not_recommend]
impl<T: Serialize + DeserializeOwned + Send + 'static> JobOutput for T {}

/// The error of a job that uses `replay(...)`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be replayed",
    label = "serde cannot record this error",
    note = "`replay(...)` records the error, so it must implement `Serialize` and `DeserializeOwned`"
)]
pub trait FinalError: Serialize + DeserializeOwned + Send + 'static {}

#[diagnostic::do_not_recommend]
impl<T: Serialize + DeserializeOwned + Send + 'static> FinalError for T {}

/// The return type of a job's function, split into its two halves.
#[diagnostic::on_unimplemented(
    message = "an idempotent job must return a `Result`",
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

/// Encodes a final error for [`Job::final_error`].
///
/// # Errors
///
/// An error whose own `Serialize` fails.
pub fn encode_final_error<E: FinalError>(error: &E) -> Result<Vec<u8>, CodecError> {
    codec::encode(error)
}

/// Decodes a final error for [`Job::decode_error`].
///
/// # Errors
///
/// Bytes that are not of this error's shape.
pub fn decode_final_error<E: FinalError>(bytes: &[u8]) -> Result<E, CodecError> {
    codec::decode(bytes)
}
