//! Why a job has no answer.

mod code;

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use crate::codec::CodecError;
use crate::fingerprint::Fingerprint;
use crate::key::{EmptyKey, KeyHash};
use crate::record::Epoch;

pub use self::code::Code;

/// Why a job has no answer.
///
/// A duplicate is not among the reasons: it is answered from the record.
///
/// Each text says what has happened, what was and was not changed and what to do, and ends with its [`Code`]; the job's
/// own error says what it says. No text has the job's arguments in it, but for the readable key.
///
/// # Example
///
/// ```
/// use idem_runtime::Error;
///
/// fn next_step(error: Error<std::io::Error>) -> &'static str {
///     match error {
///         error if error.is_retryable() => "deliver the job again",
///         Error::Job(_) => "ask the job's own error",
///         Error::KeyReused(_) => "somebody used the key for other work",
///         _ => "tell a person",
///     }
/// }
/// # assert_eq!(next_step(Error::Job(std::io::Error::other("x"))), "ask the job's own error");
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error<E> {
    /// The job's own error. The effect of an atomic job was undone, the steps of a leased one stay; the key is free
    /// to run again (a leased job's for the same arguments), unless
    /// `replay(...)` declares the error final: then it was recorded, and this may be its replay.
    #[error(transparent)]
    Job(E),
    /// Another run holds the key, or another transaction the business row of `lock = row(table.column = arg)`.
    #[error(transparent)]
    Busy(Busy),
    /// The key was used before with other arguments.
    #[error(transparent)]
    KeyReused(KeyReused),
    /// The business row of `lock = row(table.column = arg)` does not exist.
    #[error(transparent)]
    RowNotFound(RowNotFound),
    /// The body took longer than the job's `timeout`. What an atomic job did was undone; a leased job goes on
    /// from its last step when it is run again.
    #[error(transparent)]
    Timeout(Timeout),
    /// Another run has taken the key over, the store could not be reached for a whole lease, or a person has released the
    /// key. What this run did since its last step is not recorded.
    #[error(transparent)]
    LostClaim(LostClaim),
    /// The job does not know whether an effect has happened, or what becomes of recorded steps, and waits for a person.
    #[error(transparent)]
    Parked(Parked),
    /// The steps that an earlier run recorded are not those of this code.
    #[error(transparent)]
    Drift(DriftError),
    /// The arguments cannot make a key or a fingerprint.
    #[error(transparent)]
    Args(ArgsError),
    /// The store could not do its part.
    #[error(transparent)]
    Store(StoreError),
}

impl<E> Error<E> {
    /// Tells whether the same call may succeed when it is made again. A job's own error never says so.
    pub fn is_retryable(&self) -> bool {
        match self {
            Error::Busy(busy) => !busy.skipped,
            // Whoever took the key over answers, or has left the rest to the next run.
            Error::Timeout(_) | Error::LostClaim(_) => true,
            Error::Store(error) => error.is_temporary(),
            Error::Job(_)
            | Error::KeyReused(_)
            | Error::RowNotFound(_)
            | Error::Args(_)
            | Error::Parked(_)
            | Error::Drift(_) => false,
        }
    }

    /// Returns what the error says; `own` says it of the job's own error, which need not be printable.
    #[doc(hidden)]
    pub fn text(&self, own: impl FnOnce(&E) -> String) -> String {
        match self {
            Error::Job(error) => own(error),
            Error::Busy(error) => error.to_string(),
            Error::KeyReused(error) => error.to_string(),
            Error::RowNotFound(error) => error.to_string(),
            Error::Timeout(error) => error.to_string(),
            Error::LostClaim(error) => error.to_string(),
            Error::Parked(error) => error.to_string(),
            Error::Drift(error) => error.to_string(),
            Error::Args(error) => error.to_string(),
            Error::Store(error) => error.to_string(),
        }
    }

    /// Returns the job's own error, or the error itself if it is another.
    ///
    /// # Errors
    ///
    /// Every error that is not the job's own.
    pub fn into_job(self) -> Result<E, Self> {
        match self {
            Error::Job(error) => Ok(error),
            other => Err(other),
        }
    }
}

impl<E> From<StoreError> for Error<E> {
    fn from(error: StoreError) -> Self {
        Error::Store(error)
    }
}

/// Another run holds the key, or another transaction the business row.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Busy {
    /// The job.
    pub job: &'static str,
    /// The key, readable.
    pub key: String,
    /// How long this run waited.
    pub waited: Duration,
    /// Whether the job leaves the work to the other run (`on_busy = skip`): then there is nothing to retry. Only of a
    /// key: who holds a row need not be a run of this work.
    pub skipped: bool,
    /// The table of `lock = row(table.column = arg)`, where not the key is held but the row.
    pub row_of: Option<&'static str>,
    /// When to deliver the job again, counted from now (`on_busy = reschedule("5s")`).
    pub again_in: Option<Duration>,
}

impl Busy {
    /// Returns what it says, without its code.
    pub(crate) fn says(&self) -> String {
        let Busy { job, key, waited, skipped, row_of, again_in } = self;
        let then = if let Some(again_in) = again_in {
            format!("; nothing was done; deliver it again in {again_in:?}")
        } else if *skipped {
            String::from("; that run does the work, and this one has done nothing")
        } else if waited.is_zero() {
            let other = if row_of.is_some() { "transaction" } else { "run" };
            format!(
                "; nothing was done; run it again when that {other} has ended, or wait with `on_busy = wait(\"10s\")`"
            )
        } else {
            format!(
                " and did not end within {waited:?}; nothing was done; run it again later, or write a longer `on_busy = wait(...)`"
            )
        };
        match row_of {
            None => format!("job `{job}` is running for key `{key}`{then}"),
            Some(table) => format!(
                "job `{job}` cannot lock its row of `{table}` for key `{key}`: another transaction has it{then}"
            ),
        }
    }
}

/// The key was used before with other arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyReused {
    /// The job.
    pub job: &'static str,
    /// The key, readable.
    pub key: String,
    /// The fingerprint of the run that was recorded.
    pub recorded: Fingerprint,
    /// The fingerprint of this run.
    pub given: Fingerprint,
}

impl KeyReused {
    /// Returns what it says, without its code.
    pub(crate) fn says(&self) -> String {
        let KeyReused { job, key, recorded, given } = self;
        format!(
            "job `{job}` has run for key `{key}` with other arguments (fingerprint {recorded}, now {given}); \
             nothing was done; give other work another key, or leave an argument out with `fingerprint = ignore(...)`"
        )
    }
}

/// The business row of `lock = row(table.column = arg)` does not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RowNotFound {
    /// The job.
    pub job: &'static str,
    /// The key, readable.
    pub key: String,
    /// The table.
    pub table: &'static str,
    /// The column.
    pub column: &'static str,
}

impl RowNotFound {
    /// Returns what it says, without its code.
    pub(crate) fn says(&self) -> String {
        let RowNotFound { job, key, table, column } = self;
        format!(
            "job `{job}` cannot lock its row for key `{key}`: `{table}` has no row with this `{column}`; nothing was done; insert the \
             row first, or write `lock = row` if the job makes it"
        )
    }
}

/// The body took longer than the job's `timeout`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Timeout {
    /// The job.
    pub job: &'static str,
    /// The key, readable.
    pub key: String,
    /// The limit.
    pub limit: Duration,
    /// Whether it is a leased job, of which the recorded steps stay.
    pub leased: bool,
}

impl Timeout {
    /// Returns what it says, without its code.
    pub(crate) fn says(&self) -> String {
        let Timeout { job, key, limit, leased } = self;
        format!(
            "job `{job}` took longer than {limit:?} for key `{key}` and was stopped; {}; run it again, or raise `timeout`",
            left_behind(*leased)
        )
    }
}

fn left_behind(leased: bool) -> &'static str {
    match leased {
        false => "its effect in the database is undone",
        true => "its recorded steps stay, and the next run goes on from them",
    }
}

/// The run does not have its key any more.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LostClaim {
    /// The job.
    pub job: &'static str,
    /// The key, readable.
    pub key: String,
    /// The claim that was lost.
    pub epoch: Epoch,
}

impl LostClaim {
    /// Returns what it says, without its code.
    pub(crate) fn says(&self) -> String {
        let LostClaim { job, key, epoch } = self;
        format!(
            "job `{job}` lost its claim of key `{key}` (epoch {epoch}): the lease passed and another run has the key, the \
             store could not be reached for a whole lease, or a person has released the key; what this run did since its last step is not recorded; run it again, and \
             write a longer `lock = lease(...)` if this happens often"
        )
    }
}

/// A job does not know whether an effect has happened, and waits for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Parked {
    /// The job.
    pub job: &'static str,
    /// The key, readable.
    pub key: String,
    /// The key, as [`Idem::resolve`](crate::Idem::resolve) takes it.
    pub hash: KeyHash,
    /// The claim that parked it.
    pub epoch: Epoch,
    /// The step that is in doubt; `None` if the job as a whole is.
    pub step: Option<String>,
    /// Why.
    pub reason: String,
}

impl Parked {
    /// Returns what it says, without its code.
    pub(crate) fn says(&self) -> String {
        let Parked { job, key, hash, epoch, step, reason } = self;
        format!(
            "job `{job}` is parked for key `{key}` at {}: {reason}; find out what happened and call `Idem::resolve` with key \
             {hash} and epoch {epoch}",
            place(step.as_deref())
        )
    }
}

fn place(step: Option<&str>) -> String {
    step.map_or_else(|| String::from("its body"), |step| format!("step `{step}`"))
}

/// The steps that an earlier run recorded are not those of this code.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DriftError {
    /// The job.
    pub job: &'static str,
    /// The key, readable.
    pub key: String,
    /// The recorded step that the code does not have in its place.
    pub recorded: String,
    /// The step that the code has there; `None` if it ends before.
    pub asked: Option<String>,
}

impl DriftError {
    /// Returns what it says, without its code.
    pub(crate) fn says(&self) -> String {
        let DriftError { job, key, recorded, asked } = self;
        format!(
            "job `{job}` cannot go on for key `{key}`: an earlier run recorded step `{recorded}`, and this code {}; nothing more was \
             done; run code that has the recorded steps, or choose `drift = resume` or `drift = park`",
            instead(recorded, asked.as_deref())
        )
    }
}

fn instead(recorded: &str, asked: Option<&str>) -> String {
    match asked {
        None => String::from("has come to its end"),
        Some(asked) if asked == recorded => String::from("has it in another place"),
        Some(asked) => format!("has step `{asked}`"),
    }
}

/// The arguments cannot make a key or a fingerprint.
#[derive(Debug, thiserror::Error)]
#[error("job `{job}` refuses its arguments, and nothing was done: {reason}")]
#[non_exhaustive]
pub struct ArgsError {
    /// The job.
    pub job: &'static str,
    /// What is wrong with them.
    #[source]
    pub reason: ArgsErrorReason,
}

/// What is wrong with the arguments of a job.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArgsErrorReason {
    /// They make an empty key.
    #[error(transparent)]
    EmptyKey(#[from] EmptyKey),
    /// One of them cannot be serialized.
    #[error(transparent)]
    Unserializable(#[from] CodecError),
}

/// The store could not do its part.
///
/// What went wrong ([`kind`](Self::kind)) and whether another try may help
/// ([`is_temporary`](Self::is_temporary)) are separate facts. The text ends with the [`Code`] of the kind; the error of
/// the driver, if there was one, is the [source](StdError::source), and its text a part of this one.
pub struct StoreError {
    kind: StoreErrorKind,
    temporary: bool,
    what: String,
    /// Whether `what` says which run, or which job, it is about.
    names_run: bool,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// With the text as it is displayed: a `main` that returns an error prints this.
impl fmt::Debug for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreError")
            .field("kind", &self.kind)
            .field("temporary", &self.temporary)
            .field("text", &format_args!("{self}"))
            .field("source", &self.source)
            .finish()
    }
}

/// What a store could not do. Each kind has a [`Code`] of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// The database cannot be reached, or the connection broke.
    Unavailable,
    /// No connection, or no turn to write, became free in time.
    Exhausted,
    /// The database gave up one of several transactions that were in each other's way.
    Conflict,
    /// idem's tables, or the engine's, are missing or not prepared: `Idem::migrate` creates those of idem.
    NotMigrated,
    /// The database, or this user, may only read.
    ReadOnly,
    /// `lock = row(table.column = arg)` names a table or column that does not exist.
    UnknownRow,
    /// Two jobs of one process share a name.
    NameTaken,
    /// The result, or a final error, cannot be recorded.
    Unrecordable,
    /// A record, or a step, cannot be read back into its type.
    Unreadable,
    /// A step has a name that no step can have, or one that another step of the run has.
    StepName,
    /// A key is not as the caller believes: its epoch or its state has changed, or it is another job's.
    Stale,
    /// The connection broke during COMMIT and no record can be read that would tell: run again, the record decides. With
    /// `retain = none` there is none, and the body runs again. Or the connection broke as tasks
    /// were enqueued, which are or are not: push again.
    OutcomeUnknown,
    /// The settings of idem or the database cannot work.
    Misconfigured,
    /// Anything else that the database refused.
    Refused,
}

impl StoreError {
    /// Makes an error that says `what` went wrong and what to do about it; the code is added to it.
    pub fn new(kind: StoreErrorKind, what: impl Into<String>) -> Self {
        StoreError { kind, temporary: false, what: what.into(), names_run: false, source: None }
    }

    /// Marks the error as worth a retry.
    #[must_use]
    pub fn temporary(mut self) -> Self {
        self.temporary = true;
        self
    }

    /// Adds the cause.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Says that the text names the run that it is about, or its job.
    #[must_use]
    pub(crate) fn names_run(mut self) -> Self {
        self.names_run = true;
        self
    }

    /// Names the run that it has ended, unless the text does.
    #[must_use]
    pub(crate) fn of_run(self, run: &impl fmt::Display) -> Self {
        match self.names_run {
            true => self,
            false => StoreError { what: format!("{run}: {}", self.what), names_run: true, ..self },
        }
    }

    /// Returns what went wrong.
    pub fn kind(&self) -> StoreErrorKind {
        self.kind
    }

    /// Tells whether the same call may succeed when it is made again.
    pub fn is_temporary(&self) -> bool {
        self.temporary
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}]", self.what, self.code())
    }
}

impl StdError for StoreError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

#[cfg(all(test, feature = "schedule", feature = "apalis"))]
mod tests;
