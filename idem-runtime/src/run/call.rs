//! What runs of both kinds share: a call of a job, its answer from a record, and flying together.

use std::fmt;
use std::marker::PhantomData;
use std::time::{Duration, Instant};

use tracing::{debug, info};

use super::Context;
use super::flight::{Flights, Seat};
use crate::codec::{self, CodecError};
use crate::done::Done;
use crate::error::{ArgsError, Busy, Error, KeyReused, StoreError, StoreErrorKind, Timeout};
use crate::fingerprint::Fingerprint;
use crate::idem::Enrolled;
use crate::job::{Job, JobOutput, JobSpec, Lock, OnBusy, Settled};
use crate::key::Key;
use crate::record::{self, Admission, Outcome, Record};
use crate::store::{Database, NewTask};

/// The largest result, or final error, that a record takes.
const RESULT_BYTES_MAX: usize = 1024 * 1024;

/// A run that failed.
pub struct Failed<E> {
    pub(crate) error: Error<E>,
    /// Whether it is the job's own error, and final.
    pub(crate) is_rejected: bool,
    /// Whether it was not to begin at all, since a newer task does the work.
    pub(crate) is_superseded: bool,
    /// What it leaves for those who wait. In a box, since most runs do not fail.
    pub(super) record: Option<Box<Record>>,
}

impl<E> Failed<E> {
    /// The job's own error is final, and this is its record, if there is one.
    pub(super) fn rejected(error: E, record: Option<Record>) -> Self {
        let record = record.map(Box::new);
        Failed { error: Error::Job(error), is_rejected: true, is_superseded: false, record }
    }
}

impl<E> From<Error<E>> for Failed<E> {
    fn from(error: Error<E>) -> Self {
        Failed { error, is_rejected: false, is_superseded: false, record: None }
    }
}

impl<E> From<StoreError> for Failed<E> {
    fn from(error: StoreError) -> Self {
        Error::Store(error).into()
    }
}

/// Why a run does not begin, although no other run stands in its way.
pub(crate) enum NotBegun {
    Store(StoreError),
    /// A newer task does the work.
    #[cfg(feature = "apalis")]
    Superseded,
}

impl From<StoreError> for NotBegun {
    fn from(error: StoreError) -> Self {
        NotBegun::Store(error)
    }
}

impl<E> From<NotBegun> for Failed<E> {
    fn from(why: NotBegun) -> Self {
        match why {
            NotBegun::Store(error) => error.into(),
            #[cfg(feature = "apalis")]
            NotBegun::Superseded => {
                let error =
                    StoreError::new(StoreErrorKind::Conflict, "a newer task does the work of this one");
                Failed { is_superseded: true, ..error.into() }
            }
        }
    }
}

/// How a run ended.
pub(crate) type Ended<T, E> = Result<Done<T>, Failed<E>>;

/// The answer of an attempt, and the record that it leaves for those who wait.
pub(super) type Attempt<J> = Result<(Done<<J as Job>::Output>, Option<Record>), Failed<<J as Job>::Error>>;

/// How long a run may wait for another one of its key.
pub(super) fn wait_max(spec: &JobSpec) -> Duration {
    match spec.on_busy {
        OnBusy::Wait(max) => max,
        OnBusy::Skip | OnBusy::Error | OnBusy::Reschedule(_) => Duration::ZERO,
    }
}

/// Lets one of the runs of a key in this process make an attempt, and the others wait for its record.
pub(super) async fn share<J, R, A>(
    call: &Call<'_, J>,
    flights: &Flights,
    recorded: impl FnOnce() -> R,
    attempt: impl FnOnce(Duration) -> A,
) -> Ended<J::Output, J::Error>
where
    J: Job,
    R: Future<Output = Result<Option<Record>, StoreError>>,
    A: Future<Output = Attempt<J>>,
{
    let started = Instant::now();
    loop {
        let left = wait_max(&J::SPEC).saturating_sub(started.elapsed());
        match flights.board(call.key.hash()) {
            Seat::Pilot(pilot) => {
                let (ended, record) = match attempt(left).await {
                    Ok((done, record)) => (Ok(done), record),
                    Err(mut failed) => {
                        let record = failed.record.take();
                        (Err(failed), record.map(|record| *record))
                    }
                };
                if let Some(record) = record {
                    pilot.land(record);
                }
                return ended.map_err(|failed| call.named(failed));
            }
            Seat::Passenger(passenger) => {
                if left.is_zero() {
                    // The other run may be a replay itself, so the record is asked before anybody is sent away.
                    return match recorded().await.map_err(|error| call.named(error.into()))? {
                        Some(record) => call.answer(&record),
                        None => Err(call.busy(started.elapsed()).into()),
                    };
                }
                let landing = tokio::time::timeout(left, passenger.landing()).await;
                match landing {
                    // The store was not asked, so this says nothing about what it should be asked first.
                    Ok(Some(record)) => return call.answer_with(&record),
                    Ok(None) => {}
                    Err(_) => return Err(call.busy(started.elapsed()).into()),
                }
            }
        }
    }
}

/// One call of a job: what stays the same over its attempts.
pub(super) struct Call<'a, J> {
    pub(super) key: Key,
    pub(super) fingerprint: Fingerprint,
    enrolled: &'a Enrolled,
    job: PhantomData<fn(J)>,
}

impl<'a, J: Job> Call<'a, J> {
    pub(super) fn new<D: Database, S>(context: &Context<'a, D, S>, job: &J) -> Result<Self, Error<J::Error>> {
        let name = J::SPEC.name;
        let refuse = |reason| Error::Args(ArgsError { job: name, reason });
        let parts = job.key().map_err(|error| refuse(error.into()))?;
        let fingerprint = job.fingerprint().map_err(|error| refuse(error.into()))?;
        let key = Key::new(context.namespace, name, &parts);
        context.span.record("key", key.readable());
        Ok(Call { key, fingerprint, enrolled: context.enrolled, job: PhantomData })
    }

    /// Answers from a record that the store has found.
    pub(super) fn answer(&self, record: &Record) -> Ended<J::Output, J::Error> {
        self.enrolled.replayed();
        self.answer_with(record)
    }

    fn answer_with(&self, record: &Record) -> Ended<J::Output, J::Error> {
        match record::admit(Some(record), self.fingerprint) {
            Admission::Refuse { recorded } => return Err(self.key_reused(recorded).into()),
            Admission::Replay | Admission::Run => {}
        }
        info!("duplicate: answered from the record");
        match record.outcome {
            Outcome::Completed => {
                J::Output::decode_output(&record.result).map(Done::Replayed).map_err(|e| self.unreadable(e))
            }
            Outcome::Rejected => match J::decode_error(&record.result) {
                Ok(error) => Err(Failed::rejected(error, Some(record.clone()))),
                Err(error) => Err(self.unreadable(error)),
            },
        }
    }

    /// Answers with what was settled.
    pub(super) fn done(&self, settled: Settled<J::Output>) -> Done<J::Output> {
        match settled {
            Settled::Executed(value) => {
                debug!("completed");
                Done::Executed(value)
            }
            Settled::Adopted(value) => {
                info!("adopted: the work had been done already");
                Done::Adopted(value)
            }
        }
    }

    /// Says that the job's own error is final.
    pub(super) fn rejected(&self, error: J::Error, record: Option<Record>) -> Failed<J::Error> {
        info!("rejected: the error is final and recorded");
        Failed::rejected(error, record)
    }

    pub(super) fn key_reused(&self, recorded: Fingerprint) -> Error<J::Error> {
        Error::KeyReused(KeyReused {
            job: J::SPEC.name,
            key: self.key.readable().to_owned(),
            recorded,
            given: self.fingerprint,
        })
    }

    /// Checks that an encoded result, or final error, can be recorded.
    pub(super) fn encode(&self, encoded: Result<Vec<u8>, CodecError>) -> Result<Vec<u8>, StoreError> {
        let lost = match J::SPEC.lock {
            Lock::Lease(_) => "its outcome is not recorded",
            Lock::Row | Lock::BusinessRow { .. } | Lock::Advisory | Lock::None => "nothing was committed",
        };
        recordable(encoded, || format!("the result of job `{}`", J::SPEC.name), lost)
            .map_err(StoreError::names_run)
    }

    pub(super) fn busy(&self, waited: Duration) -> Error<J::Error> {
        let skipped = J::SPEC.on_busy == OnBusy::Skip;
        info!(skipped, "duplicate: another run holds the key");
        Error::Busy(Busy { skipped, ..self.held(waited) })
    }

    /// The business row is held. Whoever holds it need not do this work, so nothing is left to it.
    pub(super) fn row_busy(&self, waited: Duration) -> Error<J::Error> {
        let table = match J::SPEC.lock {
            Lock::BusinessRow { table, .. } => table,
            Lock::Row | Lock::Advisory | Lock::None | Lock::Lease(_) => "",
        };
        info!(table, "another transaction holds the business row");
        Error::Busy(Busy { row_of: Some(table), ..self.held(waited) })
    }

    /// A run of another key is under way that this one must not meet. It does not do this work, so nothing is left to it.
    pub(super) fn excluded(&self, waited: Duration) -> Error<J::Error> {
        info!("another run is under way that this one must not meet");
        Error::Busy(self.held(waited))
    }

    fn held(&self, waited: Duration) -> Busy {
        let again_in = match J::SPEC.on_busy {
            OnBusy::Reschedule(again_in) => Some(again_in),
            OnBusy::Wait(_) | OnBusy::Skip | OnBusy::Error => None,
        };
        let key = self.key.readable().to_owned();
        Busy { job: J::SPEC.name, key, waited, skipped: false, row_of: None, again_in }
    }

    pub(super) fn timeout(&self, limit: Duration) -> Error<J::Error> {
        let leased = matches!(J::SPEC.lock, Lock::Lease(_));
        Error::Timeout(Timeout { job: J::SPEC.name, key: self.key.readable().to_owned(), limit, leased })
    }

    /// Lets a store's error say which run it has ended.
    pub(super) fn named(&self, failed: Failed<J::Error>) -> Failed<J::Error> {
        match failed.error {
            Error::Store(error) => error.of_run(self).into(),
            _ => failed,
        }
    }

    fn unreadable(&self, error: CodecError) -> Failed<J::Error> {
        StoreError::new(
            StoreErrorKind::Unreadable,
            format!(
                "the record of {self} cannot be read into the job's type: {}; the job was not run again; \
                 change the type so that it reads old records (`#[serde(default)]`, `#[serde(alias)]`); if a person has given \
                 the result, forget the key, and the job is done again",
                error.says()
            ),
        )
        .names_run()
        .caused_by(error)
        .into()
    }
}

impl<J: Job> fmt::Display for Call<'_, J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "job `{}` for key `{}`", J::SPEC.name, self.key.readable())
    }
}

/// Checks that an encoded value can be recorded. `lost` says what becomes of what was done.
pub(super) fn recordable(
    encoded: Result<Vec<u8>, CodecError>,
    what: impl Fn() -> String,
    lost: &str,
) -> Result<Vec<u8>, StoreError> {
    let bytes = encoded.map_err(|error| {
        let text = format!("{} cannot be recorded, so {lost}: {}", what(), error.says());
        StoreError::new(StoreErrorKind::Unrecordable, text).caused_by(error)
    })?;
    if bytes.len() <= RESULT_BYTES_MAX {
        return Ok(bytes);
    }
    let text = format!(
        "{} has {} bytes, a record takes {RESULT_BYTES_MAX}; {lost}; keep the value in a table of yours and return its id",
        what(),
        bytes.len()
    );
    Err(StoreError::new(StoreErrorKind::Unrecordable, text))
}

/// Makes a task of a job that another one enqueues.
pub(crate) fn task<J: Job>(namespace: &str, job: &J) -> Result<NewTask, StoreError> {
    let refused = |error: &str| {
        let text = format!("job `{}` cannot be enqueued: {error}; nothing was enqueued", J::SPEC.name);
        StoreError::new(StoreErrorKind::Unrecordable, text)
    };
    let parts = job.key().map_err(|error| refused(error.says()))?;
    let key = Key::new(namespace, J::SPEC.name, &parts);
    let what = || format!("the task `{}`", J::SPEC.name);
    let payload = recordable(codec::encode(job), what, "nothing was enqueued")?;
    Ok(NewTask {
        namespace: namespace.to_owned(),
        id: key.hash(),
        job: J::SPEC.name.to_owned(),
        key: key.readable().to_owned(),
        payload,
    })
}
