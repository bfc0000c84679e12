//! The atomic job: begin → lock the key and read its record → lock the business row → check → body
//! → write the record, once, with its result → commit.

use std::fmt;
use std::time::{Duration, Instant};

use tracing::{debug, info};

use super::flight::{Flights, Seat};
use crate::codec;
use crate::done::Done;
use crate::error::{ArgsError, Busy, Error, KeyReused, RowNotFound, StoreError, StoreErrorKind, Timeout};
use crate::fingerprint::Fingerprint;
use crate::idem::Enrolled;
use crate::job::{AtomicJob, Job, JobSpec, Lock, OnBusy, Retain, Settled};
use crate::key::Key;
use crate::record::{self, Admission, Event, NewRecord, Outcome, Record, State};
use crate::store::{Begun, Claim, Committed, Database, Found, KeyLock, RowLock, Store, StoreTx};
use crate::tx::Tx;

/// The largest result, or final error, that a record takes.
const RESULT_BYTES_MAX: usize = 1024 * 1024;

/// What a run needs of its `Idem`.
pub(crate) struct Context<'a, D: Database, S> {
    pub(crate) store: &'a dyn Store<D>,
    pub(crate) flights: &'a Flights,
    pub(crate) namespace: &'a str,
    pub(crate) state: &'a S,
    pub(crate) enrolled: &'a Enrolled,
}

/// Runs a job, or answers for it.
pub(crate) async fn run_atomic<J, D, S>(
    context: Context<'_, D, S>,
    job: J,
) -> Result<Done<J::Output>, Error<J::Error>>
where
    J: AtomicJob<S, Db = D>,
    D: Database,
    S: Sync + 'static,
{
    let call = Call::<J, D, S>::new(context, &job)?;
    let started = Instant::now();
    if J::SPEC.lock == Lock::None {
        return call
            .attempt(job, wait_max(&J::SPEC))
            .await
            .map(|(done, _)| done)
            .map_err(|failed| failed.error);
    }
    loop {
        let left = wait_max(&J::SPEC).saturating_sub(started.elapsed());
        match call.context.flights.board(call.key.hash()) {
            Seat::Pilot(pilot) => {
                let (answer, record) = match call.attempt(job, left).await {
                    Ok((done, record)) => (Ok(done), record),
                    Err(failed) => (Err(failed.error), failed.record),
                };
                if let Some(record) = record {
                    pilot.land(record);
                }
                return answer;
            }
            Seat::Passenger(passenger) => {
                if left.is_zero() {
                    // The other run may be a replay itself, so the record is asked before anybody is sent away.
                    return match call.recorded().await? {
                        Some(record) => call.answer(&record).map_err(|failed| failed.error),
                        None => Err(call.busy(started.elapsed())),
                    };
                }
                let landing = tokio::time::timeout(left, passenger.landing()).await;
                match landing {
                    Ok(Some(record)) => return call.answer(&record).map_err(|failed| failed.error),
                    Ok(None) => {}
                    Err(_) => return Err(call.busy(started.elapsed())),
                }
            }
        }
    }
}

/// How long a run may wait for another one of its key.
fn wait_max(spec: &JobSpec) -> Duration {
    match spec.on_busy {
        OnBusy::Wait(max) => max,
        OnBusy::Skip | OnBusy::Error => Duration::ZERO,
    }
}

/// An attempt that failed, and the record that it leaves for those who wait.
struct Failed<E> {
    error: Error<E>,
    record: Option<Record>,
}

impl<E> From<Error<E>> for Failed<E> {
    fn from(error: Error<E>) -> Self {
        Failed { error, record: None }
    }
}

impl<E> From<StoreError> for Failed<E> {
    fn from(error: StoreError) -> Self {
        Failed { error: Error::Store(error), record: None }
    }
}

/// The answer of an attempt, and the record that it leaves for those who wait.
type Attempt<J> = Result<(Done<<J as Job>::Output>, Option<Record>), Failed<<J as Job>::Error>>;

/// One call of a job: what stays the same over its attempts.
struct Call<'a, J, D: Database, S> {
    context: Context<'a, D, S>,
    key: Key,
    fingerprint: Fingerprint,
    row: Option<crate::store::RowValue>,
    job: std::marker::PhantomData<fn(J)>,
}

impl<'a, J, D, S> Call<'a, J, D, S>
where
    J: AtomicJob<S, Db = D>,
    D: Database,
    S: Sync + 'static,
{
    fn new(context: Context<'a, D, S>, job: &J) -> Result<Self, Error<J::Error>> {
        let name = J::SPEC.name;
        let refuse = |reason| Error::Args(ArgsError { job: name, reason });
        let parts = job.key().map_err(|error| refuse(error.into()))?;
        let fingerprint = job.fingerprint().map_err(|error| refuse(error.into()))?;
        let key = Key::new(context.namespace, name, &parts);
        Ok(Call { context, key, fingerprint, row: job.row(), job: std::marker::PhantomData })
    }

    /// Reads the record of the key, without a transaction and without waiting.
    async fn recorded(&self) -> Result<Option<Record>, StoreError> {
        match self.records() {
            true => self.context.store.read(self.key.hash()).await,
            false => Ok(None),
        }
    }

    async fn attempt(&self, job: J, wait: Duration) -> Attempt<J> {
        // A run after replays reads first: most likely one plain read is all it takes. A run after
        // runs opens its transaction at once, and reads as it does so.
        if self.context.enrolled.expects_replay()
            && let Some(record) = self.recorded().await?
        {
            return Ok((self.answer(&record)?, Some(record)));
        }
        let claim = self.claim(wait);
        let (tx, found) = match self.context.store.begin(&claim).await? {
            Begun::Open { tx, found } => (tx, found),
            Begun::Busy => return Err(self.busy(wait).into()),
        };
        match found {
            Found::Record(record) => {
                release(tx);
                Ok((self.answer(&record)?, Some(record)))
            }
            Found::NoRow => Err(self.abandon(tx, self.row_not_found()).await),
            Found::Absent => {
                self.context.enrolled.ran();
                self.execute(job, tx).await
            }
        }
    }

    /// Tells whether the job keeps records at all.
    fn records(&self) -> bool {
        J::SPEC.retain != Retain::None
    }

    fn claim(&self, wait: Duration) -> Claim<'_> {
        let row = match (J::SPEC.lock, &self.row) {
            (Lock::BusinessRow { table, column }, Some(value)) => Some(RowLock { table, column, value }),
            _ => None,
        };
        let lock = match J::SPEC.lock {
            Lock::None => KeyLock::None,
            Lock::Row | Lock::BusinessRow { .. } | Lock::Advisory => KeyLock::Key,
        };
        Claim { key: &self.key, lock, wait, records: self.records(), row, undo: J::SPEC.undo }
    }

    async fn execute(&self, job: J, mut tx: Box<dyn StoreTx<D>>) -> Attempt<J> {
        let mut view = Tx::new(&mut *tx, &self.key);
        match job.check(&mut view).await {
            Ok(None) => {}
            Ok(Some(value)) => return self.complete(tx, Settled::Adopted(value)).await,
            Err(error) => return Err(self.abandon(tx, Error::Job(error)).await),
        }

        let body = job.body(&mut view, self.context.state);
        let ended = match J::SPEC.timeout {
            None => body.await,
            // Dropping the body may leave a statement half-way, so the connection goes with it.
            Some(limit) => match tokio::time::timeout(limit, body).await {
                Ok(ended) => ended,
                Err(_) => return Err(self.timeout(limit).into()),
            },
        };
        match ended {
            Ok(settled) => self.complete(tx, settled).await,
            Err(Error::Job(error)) => self.fail(tx, error).await,
            Err(error) => Err(self.abandon(tx, error).await),
        }
    }

    async fn complete(&self, tx: Box<dyn StoreTx<D>>, settled: Settled<J::Output>) -> Attempt<J> {
        let (Settled::Executed(value) | Settled::Adopted(value)) = &settled;
        let result = match self.encode(codec::encode(value)) {
            Ok(result) => result,
            Err(error) => return Err(self.abandon(tx, error.into()).await),
        };
        match self.record(tx, Event::Complete, &result).await? {
            Ok(record) => {
                let (job, key) = (J::SPEC.name, self.key.readable());
                let done = match settled {
                    Settled::Executed(value) => {
                        debug!(job, key, "completed");
                        Done::Executed(value)
                    }
                    Settled::Adopted(value) => {
                        info!(job, key, "adopted: the work had been done already");
                        Done::Adopted(value)
                    }
                };
                Ok((done, record))
            }
            Err(winner) => Ok((self.answer(&winner)?, Some(winner))),
        }
    }

    async fn fail(&self, mut tx: Box<dyn StoreTx<D>>, error: J::Error) -> Attempt<J> {
        let result = match J::final_error(&error).map(|encoded| self.encode(encoded)) {
            None => return Err(self.abandon(tx, Error::Job(error)).await),
            Some(Err(error)) => return Err(self.abandon(tx, error.into()).await),
            Some(Ok(result)) => result,
        };
        tx.undo().await?;
        match self.record(tx, Event::Reject, &result).await? {
            Ok(record) => {
                info!(
                    job = J::SPEC.name,
                    key = self.key.readable(),
                    "rejected: the error is final and recorded"
                );
                Err(Failed { error: Error::Job(error), record })
            }
            Err(winner) => Ok((self.answer(&winner)?, Some(winner))),
        }
    }

    fn encode(&self, encoded: Result<Vec<u8>, codec::CodecError>) -> Result<Vec<u8>, StoreError> {
        let job = J::SPEC.name;
        let result = encoded.map_err(|error| {
            StoreError::new(
                StoreErrorKind::Unrecordable,
                format!("the result of job `{job}` cannot be recorded, so nothing was committed: {error}"),
            )
            .caused_by(error)
        })?;
        if result.len() <= RESULT_BYTES_MAX {
            return Ok(result);
        }
        Err(StoreError::new(
            StoreErrorKind::Unrecordable,
            format!(
                "the result of job `{job}` has {} bytes, a record takes {RESULT_BYTES_MAX}; nothing was committed; \
                 keep the value in a table of yours and return its id",
                result.len()
            ),
        ))
    }

    /// Commits effect and record. `Err` inside is the record of another run that was first.
    async fn record(
        &self,
        tx: Box<dyn StoreTx<D>>,
        event: Event,
        result: &[u8],
    ) -> Result<Result<Option<Record>, Record>, Failed<J::Error>> {
        let state = record::next(State::Running, event).expect("a running job completes or rejects");
        let outcome = Outcome::of(state).expect("a completed or rejected key has a record");
        let new = NewRecord {
            key: &self.key,
            job: self.context.enrolled.id,
            outcome,
            fingerprint: self.fingerprint,
            result,
            retain: J::SPEC.retain,
        };
        match tx.commit(self.records().then_some(&new)).await? {
            Committed::Yes => Ok(Ok(self.records().then(|| Record {
                outcome,
                fingerprint: self.fingerprint,
                result: result.to_vec(),
            }))),
            Committed::LostRace => match self.context.store.read(self.key.hash()).await? {
                Some(winner) => {
                    info!(
                        job = J::SPEC.name,
                        key = self.key.readable(),
                        "lost a race; the winner's record answers"
                    );
                    Ok(Err(winner))
                }
                None => Err(StoreError::new(
                    StoreErrorKind::Conflict,
                    format!(
                        "the record of {self} changed while the job ran; nothing was committed; run it again"
                    ),
                )
                .temporary()
                .into()),
            },
            Committed::Unknown => self.recover().await.map(Err),
        }
    }

    /// Finds out what became of a commit whose answer was lost.
    async fn recover(&self) -> Result<Record, Failed<J::Error>> {
        info!(
            job = J::SPEC.name,
            key = self.key.readable(),
            "the answer to COMMIT was lost; reading the record"
        );
        let unknown = |source: Option<StoreError>| {
            let error = StoreError::new(
                StoreErrorKind::OutcomeUnknown,
                format!("the connection broke while {self} was committing; run it again: its record decides"),
            )
            .temporary();
            Failed::from(match source {
                Some(source) => error.caused_by(source),
                None => error,
            })
        };
        // Under the lock the old transaction is over, so what is read is final.
        let claim =
            Claim { row: None, undo: false, wait: Duration::from_secs(10), ..self.claim(Duration::ZERO) };
        match self.context.store.begin(&claim).await {
            Err(error) => Err(unknown(Some(error))),
            Ok(Begun::Busy) => Err(unknown(None)),
            Ok(Begun::Open { tx, found }) => {
                release(tx);
                match found {
                    Found::Record(record) => Ok(record),
                    Found::Absent | Found::NoRow if claim.lock == KeyLock::None || !self.records() => {
                        Err(unknown(None))
                    }
                    Found::Absent | Found::NoRow => Err(StoreError::new(
                        StoreErrorKind::Unavailable,
                        format!("the connection broke before {self} could commit; nothing was committed; run it again"),
                    )
                    .temporary()
                    .into()),
                }
            }
        }
    }

    /// Answers from a record.
    fn answer(&self, record: &Record) -> Result<Done<J::Output>, Failed<J::Error>> {
        self.context.enrolled.replayed();
        match record::admit(Some(record), self.fingerprint) {
            Admission::Refuse { recorded } => {
                return Err(Error::KeyReused(KeyReused {
                    job: J::SPEC.name,
                    key: self.key.readable().to_owned(),
                    recorded,
                    given: self.fingerprint,
                })
                .into());
            }
            Admission::Replay | Admission::Run => {}
        }
        info!(job = J::SPEC.name, key = self.key.readable(), "duplicate: answered from the record");
        match record.outcome {
            Outcome::Completed => {
                codec::decode(&record.result).map(Done::Replayed).map_err(|e| self.unreadable(e))
            }
            Outcome::Rejected => match J::decode_error(&record.result) {
                Ok(error) => Err(Failed { error: Error::Job(error), record: Some(record.clone()) }),
                Err(error) => Err(self.unreadable(error)),
            },
        }
    }

    async fn abandon(&self, tx: Box<dyn StoreTx<D>>, error: Error<J::Error>) -> Failed<J::Error> {
        if let Err(rollback) = tx.rollback().await {
            // The connection is closed then, which undoes the transaction as well.
            debug!(job = J::SPEC.name, key = self.key.readable(), %rollback, "rolling back failed");
        }
        error.into()
    }

    fn unreadable(&self, error: codec::CodecError) -> Failed<J::Error> {
        StoreError::new(
            StoreErrorKind::Unreadable,
            format!(
                "the record of {self} cannot be read into the job's type: {error}; the job was not run again; \
                 change the type so that it reads old records (`#[serde(default)]`, `#[serde(alias)]`)"
            ),
        )
        .caused_by(error)
        .into()
    }

    fn busy(&self, waited: Duration) -> Error<J::Error> {
        let skipped = J::SPEC.on_busy == OnBusy::Skip;
        info!(job = J::SPEC.name, key = self.key.readable(), skipped, "duplicate: another run holds the key");
        Error::Busy(Busy { job: J::SPEC.name, key: self.key.readable().to_owned(), waited, skipped })
    }

    fn row_not_found(&self) -> Error<J::Error> {
        let (table, column) = match J::SPEC.lock {
            Lock::BusinessRow { table, column } => (table, column),
            Lock::Row | Lock::Advisory | Lock::None => ("", ""),
        };
        Error::RowNotFound(RowNotFound {
            job: J::SPEC.name,
            key: self.key.readable().to_owned(),
            table,
            column,
        })
    }

    fn timeout(&self, limit: Duration) -> Error<J::Error> {
        Error::Timeout(Timeout { job: J::SPEC.name, key: self.key.readable().to_owned(), limit })
    }
}

impl<J: Job, D: Database, S> fmt::Display for Call<'_, J, D, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "job `{}` for key `{}`", J::SPEC.name, self.key.readable())
    }
}

/// Ends a transaction that did nothing, while the caller has its answer already.
fn release<D: Database>(tx: Box<dyn StoreTx<D>>) {
    tokio::spawn(async move {
        if let Err(error) = tx.rollback().await {
            debug!(%error, "closing an unused transaction failed");
        }
    });
}
