//! The atomic job: begin → lock the key and read its record → lock the business row → check → body
//! → write the record, once, with its result → commit.

use std::time::Duration;

use tracing::info;

use super::Context;
use super::call::{Attempt, Call, Ended, Failed, share, wait_max};
use super::silence::Bounded;
use crate::error::{Error, RowNotFound, StoreError, StoreErrorKind};
use crate::job::{AtomicJob, JobOutput, Lock, Retain, Settled};
use crate::record::{self, Event, NewRecord, Outcome, Record, State};
use crate::store::{Begun, Claim, Committed, Database, Found, KeyLock, NewTask, RowLock};
use crate::tx::Tx;

/// Runs a job, or answers for it.
pub(super) async fn run_atomic<J, D, S>(context: Context<'_, D, S>, job: J) -> Ended<J::Output, J::Error>
where
    J: AtomicJob<S, Db = D>,
    D: Database,
    S: Sync + 'static,
{
    let call = Call::new(&context, &job)?;
    let run = AtomicRun { row: job.row(), call, context };
    if J::SPEC.lock == Lock::None {
        let ended = run.attempt(job, wait_max(&J::SPEC)).await;
        return ended.map(|(done, _)| done).map_err(|failed| run.call.named(failed));
    }
    share(&run.call, run.context.flights, || run.recorded(), |wait| run.attempt(job, wait)).await
}

/// One run of an atomic job: what stays the same over its attempts.
struct AtomicRun<'a, J, D: Database, S> {
    call: Call<'a, J>,
    context: Context<'a, D, S>,
    row: Option<crate::store::RowValue>,
}

impl<J, D, S> AtomicRun<'_, J, D, S>
where
    J: AtomicJob<S, Db = D>,
    D: Database,
    S: Sync + 'static,
{
    /// Reads the record of the key, without a transaction and without waiting.
    async fn recorded(&self) -> Result<Option<Record>, StoreError> {
        match self.records() {
            true => self.context.store.read(self.call.key.hash()).await,
            false => Ok(None),
        }
    }

    async fn attempt(&self, job: J, wait: Duration) -> Attempt<J> {
        // A run after replays reads first: most likely one plain read is all it takes. A run after
        // runs opens its transaction at once, and reads as it does so.
        if self.context.enrolled.expects_replay()
            && let Some(record) = self.recorded().await?
        {
            return Ok((self.call.answer(&record)?, Some(record)));
        }
        let claim = self.claim(wait);
        let (tx, found) = match self.context.store.begin(&claim).await? {
            Begun::Open { tx, found } => (Bounded::new(tx, J::SPEC.timeout), found),
            // What holds the key may be a replay that is on its way out.
            Begun::Busy => {
                return match self.recorded().await? {
                    Some(record) => Ok((self.call.answer(&record)?, Some(record))),
                    None => Err(self.call.busy(wait).into()),
                };
            }
            Begun::RowBusy => return Err(self.call.row_busy(wait).into()),
        };
        match found {
            Found::Record(record) => {
                release(tx);
                Ok((self.call.answer(&record)?, Some(record)))
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
            Lock::Row | Lock::BusinessRow { .. } | Lock::Advisory | Lock::Lease(_) => KeyLock::Key,
        };
        Claim { key: &self.call.key, lock, wait, records: self.records(), row, undo: J::SPEC.undo }
    }

    async fn execute(&self, job: J, mut tx: Bounded<D>) -> Attempt<J> {
        let mut view = Tx::new(&mut *tx.tx, &self.call.key, self.context.namespace);
        match job.check(&mut view).await {
            Ok(None) => {}
            Ok(Some(value)) => {
                let tasks = view.into_tasks();
                return self.complete(tx, Settled::Adopted(value), tasks).await;
            }
            Err(error) => return Err(self.abandon(tx, Error::Job(error)).await),
        }

        let body = job.body(&mut view, self.context.state);
        let ended = match J::SPEC.timeout {
            None => body.await,
            // Dropping the body may leave a statement half-way, so the connection goes with it.
            Some(limit) => match tokio::time::timeout(limit, body).await {
                Ok(ended) => ended,
                Err(_) => return Err(self.call.timeout(limit).into()),
            },
        };
        match ended {
            Ok(settled) => {
                let tasks = view.into_tasks();
                self.complete(tx, settled, tasks).await
            }
            Err(Error::Job(error)) => self.fail(tx, error).await,
            Err(error) => Err(self.abandon(tx, error).await),
        }
    }

    async fn complete(
        &self,
        mut tx: Bounded<D>,
        settled: Settled<J::Output>,
        tasks: Result<Vec<NewTask>, StoreError>,
    ) -> Attempt<J> {
        let (Settled::Executed(value) | Settled::Adopted(value)) = &settled;
        let encoded = self.call.encode(value.encode_output());
        let result = match tx.enqueued(encoded, tasks).await {
            Ok(result) => result,
            Err(error) => return Err(self.abandon(tx, error.into()).await),
        };
        match self.record(tx, Event::Complete, &result).await? {
            Ok(record) => Ok((self.call.done(settled), record)),
            Err(winner) => Ok((self.call.answer(&winner)?, Some(winner))),
        }
    }

    async fn fail(&self, mut tx: Bounded<D>, error: J::Error) -> Attempt<J> {
        let result = match J::final_error(&error).map(|encoded| self.call.encode(encoded)) {
            None => return Err(self.abandon(tx, Error::Job(error)).await),
            Some(Err(error)) => return Err(self.abandon(tx, error.into()).await),
            Some(Ok(result)) => result,
        };
        tx.undo().await?;
        match self.record(tx, Event::Reject, &result).await? {
            Ok(record) => Err(self.call.rejected(error, record)),
            Err(winner) => Ok((self.call.answer(&winner)?, Some(winner))),
        }
    }

    /// Commits effect and record. `Err` inside is the record of another run that was first.
    async fn record(
        &self,
        tx: Bounded<D>,
        event: Event,
        result: &[u8],
    ) -> Result<Result<Option<Record>, Record>, Failed<J::Error>> {
        let state = record::next(State::Running, event).expect("a running job completes or rejects");
        let outcome = Outcome::of(state).expect("a completed or rejected key has a record");
        let new = NewRecord {
            key: &self.call.key,
            job: self.context.enrolled.id,
            outcome,
            fingerprint: self.call.fingerprint,
            result,
            retain: J::SPEC.retain,
        };
        match tx.commit(self.records().then_some(&new)).await? {
            Committed::Yes => Ok(Ok(self.records().then(|| Record {
                outcome,
                fingerprint: self.call.fingerprint,
                result: result.to_vec(),
            }))),
            Committed::LostRace => match self.context.store.read(self.call.key.hash()).await? {
                Some(winner) => {
                    info!("lost a race; the winner's record answers");
                    Ok(Err(winner))
                }
                None => Err(StoreError::new(
                    StoreErrorKind::Conflict,
                    format!(
                        "the record of {} changed while the job ran; nothing was committed; run it again",
                        self.call
                    ),
                )
                .names_run()
                .temporary()
                .into()),
            },
            Committed::Unknown => self.recover().await.map(Err),
        }
    }

    /// Finds out what became of a commit whose answer was lost.
    async fn recover(&self) -> Result<Record, Failed<J::Error>> {
        info!("the answer to COMMIT was lost; reading the record");
        let unknown = |source: Option<StoreError>| {
            let advice = match self.records() {
                true => "run it again: its record decides",
                false => {
                    "no record tells (`retain = none`), so look whether it is done before you run it again"
                }
            };
            let error = StoreError::new(
                StoreErrorKind::OutcomeUnknown,
                format!("the connection broke while {} was committing; {advice}", self.call),
            )
            .names_run()
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
            Ok(Begun::Busy | Begun::RowBusy) => Err(unknown(None)),
            Ok(Begun::Open { tx, found }) => {
                release(Bounded::new(tx, None));
                match found {
                    Found::Record(record) => Ok(record),
                    Found::Absent | Found::NoRow if claim.lock == KeyLock::None || !self.records() => {
                        Err(unknown(None))
                    }
                    Found::Absent | Found::NoRow => Err(StoreError::new(
                        StoreErrorKind::Unavailable,
                        format!("the connection broke before {} could commit; nothing was committed; run it again", self.call),
                    )
                    .names_run()
                    .temporary()
                    .into()),
                }
            }
        }
    }

    async fn abandon(&self, tx: Bounded<D>, error: Error<J::Error>) -> Failed<J::Error> {
        tx.rollback().await;
        error.into()
    }

    fn row_not_found(&self) -> Error<J::Error> {
        let (table, column) = match J::SPEC.lock {
            Lock::BusinessRow { table, column } => (table, column),
            Lock::Row | Lock::Advisory | Lock::None | Lock::Lease(_) => ("", ""),
        };
        Error::RowNotFound(RowNotFound {
            job: J::SPEC.name,
            key: self.call.key.readable().to_owned(),
            table,
            column,
        })
    }
}

/// Ends a transaction that did nothing, while the caller has its answer already.
fn release<D: Database>(tx: Bounded<D>) {
    tokio::spawn(tx.rollback());
}
