//! The leased job: claim the key and load its steps → resolve what is in doubt → check → body, step by step, with
//! a heartbeat beside it → write the outcome.

use std::any::type_name;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{Instrument, Span, debug, info, warn};

use super::Context;
use super::call::{Attempt, Call, Ended, Failed, share};
use super::heart::Beating;
use super::interrupt::{Interrupt, Stop};
use super::silence::{SILENCE_MAX, answered};
use super::steps::{Core, Run, Steps};
use super::wait::Waiting;
use crate::codec;
use crate::error::{self, DriftError, Error, LostClaim, StoreError, StoreErrorKind};
use crate::fingerprint::Fingerprint;
use crate::job::{Drift, InDoubt, JobOutput, LeasedJob, Retain, Settled};
use crate::operate::troubles;
use crate::record::{
    self, Decision, Entry, Epoch, Event, Hold, Outcome, Parked, Record, State, StepRecord, Token, Trouble,
};
use crate::store::{Change, Claimed, Database, Held, Lease, LeaseClaim, LeaseStore, NewTask};

/// Runs a job, or answers for it.
pub(super) async fn run_leased<J, D, S>(context: Context<'_, D, S>, job: J) -> Ended<J::Output, J::Error>
where
    J: LeasedJob<D, S>,
    D: Database,
    S: Sync + 'static,
{
    let mut call = Call::new(&context, &job)?;
    if J::SPEC.retain == Retain::None && !J::SPEC.steps {
        // Nothing is recorded that other arguments could be taken for.
        call.fingerprint = Fingerprint::NONE;
    }
    let store: Arc<dyn LeaseStore> = Arc::clone(context.store) as _;
    let run = LeasedRun { call, context, store };
    share(&run.call, run.context.flights, || run.recorded(), |wait| run.attempt(job, wait)).await
}

/// One run of a leased job.
struct LeasedRun<'a, J, D: Database, S> {
    call: Call<'a, J>,
    context: Context<'a, D, S>,
    store: Arc<dyn LeaseStore>,
}

/// How a run was admitted.
enum Admitted {
    /// It has the key.
    Run(Claim),
    /// The record answers.
    Answer(Record),
}

/// A key that a run has.
struct Claim {
    release: Release,
    /// When it was asked for.
    asked: Instant,
    attempt: u32,
    steps: Vec<StepRecord>,
    /// Whether an earlier run may have had the effect of the whole job.
    in_doubt: bool,
    /// The error that the run before ended with, if it was recorded.
    last_error: Option<String>,
}

/// How a future ended beside an interrupt.
pub(super) enum Raced<T> {
    Ended(T),
    Stopped(Stop),
    TimedOut(Duration),
}

impl<J, D, S> LeasedRun<'_, J, D, S>
where
    J: LeasedJob<D, S>,
    D: Database,
    S: Sync + 'static,
{
    async fn recorded(&self) -> Result<Option<Record>, StoreError> {
        let entry = self.store.entry(self.call.key.hash()).await?;
        Ok(entry.as_ref().and_then(Entry::record))
    }

    async fn attempt(&self, job: J, wait: Duration) -> Attempt<J> {
        match self.admit(wait).await? {
            Admitted::Answer(record) => Ok((self.call.answer(&record)?, Some(record))),
            Admitted::Run(claim) => Box::pin(self.execute(job, claim)).await,
        }
    }

    /// Takes the key, waiting for another run of it for as long as the job says.
    async fn admit(&self, wait: Duration) -> Result<Admitted, Error<J::Error>> {
        let mut waiting = Waiting::new(wait);
        loop {
            let mut claim = self.claim(Epoch::NONE.next(), 1)?;
            let asked = Instant::now();
            // Dropped with its answer under way, the claim may be there all the same.
            let mut release = self.release(&claim);
            let found = match self.store.claim(&claim).await {
                Ok(Claimed::New) => {
                    return Ok(Admitted::Run(Claim {
                        release,
                        asked,
                        attempt: 1,
                        steps: vec![],
                        in_doubt: false,
                        last_error: None,
                    }));
                }
                Ok(Claimed::Found(found)) => found,
                Err(error) => return Err(error.into()),
            };
            release.disarm();
            let lease_left = match record::decide(Some(&found), self.call.fingerprint) {
                Decision::Refuse { recorded } => return Err(self.call.key_reused(recorded)),
                Decision::Replay => match found.record() {
                    Some(record) => return Ok(Admitted::Answer(record)),
                    None => continue,
                },
                Decision::Parked => return Err(self.is_parked(&found)),
                Decision::Take { epoch, attempts } => {
                    claim = self.claim(epoch, attempts)?;
                    let asked = Instant::now();
                    let mut release = self.release(&claim);
                    // However this run ends from here on, the doubt is not gone with it.
                    let in_doubt = self.is_in_doubt(&found);
                    release.in_doubt = in_doubt;
                    match self.store.take_over(&claim, &found).await? {
                        Some(steps) => {
                            debug!(%epoch, "took over");
                            return Ok(Admitted::Run(Claim {
                                release,
                                asked,
                                attempt: attempts,
                                steps,
                                in_doubt,
                                last_error: troubles(&found).error,
                            }));
                        }
                        None => {
                            release.disarm();
                            continue;
                        }
                    }
                }
                Decision::Busy { lease_left } => lease_left,
            };
            if !waiting.again(&*self.store, self.call.key.hash(), lease_left).await? {
                return Err(self.call.busy(waiting.elapsed()));
            }
        }
    }

    fn claim(&self, epoch: Epoch, attempts: u32) -> Result<LeaseClaim<'_>, StoreError> {
        Ok(LeaseClaim {
            key: &self.call.key,
            job: self.context.enrolled.id,
            fingerprint: self.call.fingerprint,
            epoch,
            token: random_token()?,
            attempts,
            lease: J::SPEC.lease(),
        })
    }

    fn release(&self, claim: &LeaseClaim<'_>) -> Release {
        Release {
            armed: Some((Arc::clone(&self.store), claim.hold())),
            in_doubt: false,
            span: self.context.span.clone(),
        }
    }

    /// Tells whether the last run may have had the effect of the whole job.
    fn is_in_doubt(&self, found: &Entry) -> bool {
        match found.state {
            // The doubts of a job with steps are theirs.
            State::Lapsed => !J::SPEC.steps,
            // What cannot be read says nothing against a doubt.
            State::Failed => {
                codec::decode::<Trouble>(&found.payload).map_or(true, |trouble| match trouble.released {
                    true => !J::SPEC.steps,
                    false => trouble.in_doubt,
                })
            }
            State::Absent | State::Running | State::Parked | State::Completed | State::Rejected => false,
        }
    }

    async fn execute(&self, job: J, claim: Claim) -> Attempt<J> {
        let Claim { mut release, asked, attempt, steps, in_doubt, last_error } = claim;
        let Some(hold) = release.hold() else { unreachable!("a claim that was just made is armed") };
        let interrupt = Arc::new(Interrupt::default());
        let lease = Lease { hold, length: J::SPEC.lease() };
        let beating = self.context.heart.beat(&self.store, lease, asked, Arc::clone(&interrupt));
        self.context.span.record("epoch", hold.epoch.0).record("attempt", attempt);
        let writer = Writer { store: Arc::clone(&self.store), hold, patience: lease.length };
        let mut held =
            Holding { run: self, writer: writer.clone(), beating, release: &mut release, last_error };

        if !J::SPEC.steps
            && J::SPEC.drift != Drift::Resume
            && let Some(step) = steps.first()
        {
            // The code had steps once; without them it would begin anew.
            return Err(held.stopped(Stop::Drift { recorded: step.name.clone(), asked: None }).await);
        }
        if in_doubt {
            match J::SPEC.in_doubt {
                InDoubt::Rerun => {}
                InDoubt::Park => {
                    let reason = format!(
                        "an earlier run began and did not record how it ended; the job returns `{}`",
                        type_name::<J::Output>()
                    );
                    return Err(held.stopped(Stop::Park(Parked::of(None, reason))).await);
                }
                InDoubt::Probe => {
                    let probe = job.probe(self.context.state);
                    if let Some(value) = held.ask(&interrupt, probe).await? {
                        return held.complete(Settled::Adopted(value), vec![]).await;
                    }
                }
            }
        }
        if let Some(value) = held.ask(&interrupt, job.check(self.context.state)).await? {
            return held.complete(Settled::Adopted(value), vec![]).await;
        }
        held.release.in_doubt = !J::SPEC.steps;
        let mut core = Core {
            store: Arc::clone(self.context.store),
            writer,
            key: self.call.key.clone(),
            namespace: self.context.namespace.to_owned(),
            keep_failed: Arc::clone(self.context.keep_failed),
            spec: &const { J::SPEC },
            attempt,
            steps: Steps::new(steps, J::SPEC.drift),
            tasks: Vec::new(),
            interrupt: Arc::clone(&interrupt),
            clock: held.beating.clock(),
        };
        let raced = {
            let mut view = Run::new(&mut core);
            race(&interrupt, J::SPEC.timeout, job.body(&mut view, self.context.state)).await
        };
        match raced {
            Raced::Ended(Ok(settled)) => match core.steps.left_over() {
                None => held.complete(settled, core.tasks).await,
                Some(recorded) => {
                    Err(held.stopped(Stop::Drift { recorded: recorded.to_owned(), asked: None }).await)
                }
            },
            Raced::Ended(Err(Error::Job(error))) => held.fail(error).await,
            Raced::Ended(Err(error)) => Err(held.give_up(error).await),
            Raced::Stopped(stop) => Err(held.stopped(stop).await),
            Raced::TimedOut(limit) => Err(held.give_up(self.call.timeout(limit)).await),
        }
    }

    fn is_parked(&self, found: &Entry) -> Error<J::Error> {
        let Parked { step, reason, .. } = codec::decode(&found.payload)
            .unwrap_or_else(|error| Parked::of(None, format!("the reason cannot be read: {}", error.says())));
        self.context.span.record("epoch", found.epoch.0);
        info!(step, "parked already: it waits for a person");
        self.parked(found.epoch, step, reason)
    }

    fn parked(&self, epoch: Epoch, step: Option<String>, reason: String) -> Error<J::Error> {
        let (key, hash) = (self.call.key.readable().to_owned(), self.call.key.hash());
        Error::Parked(error::Parked { job: J::SPEC.name, key, hash, epoch, step, reason })
    }
}

/// A run that has the key, from its claim to its last write.
struct Holding<'h, 'a, J, D: Database, S> {
    run: &'h LeasedRun<'a, J, D, S>,
    writer: Writer,
    /// The lease is renewed for as long as this is there.
    beating: Beating,
    release: &'h mut Release,
    /// What the run before ended with: this claim has taken its place on record.
    last_error: Option<String>,
}

impl<J, D, S> Holding<'_, '_, J, D, S>
where
    J: LeasedJob<D, S>,
    D: Database,
    S: Sync + 'static,
{
    /// Lets the user's code look whether the work is done already.
    async fn ask(
        &mut self,
        interrupt: &Interrupt,
        question: impl Future<Output = Result<Option<J::Output>, J::Error>> + Send,
    ) -> Result<Option<J::Output>, Failed<J::Error>> {
        match race(interrupt, None, question).await {
            Raced::Ended(Ok(answer)) => Ok(answer),
            Raced::Ended(Err(error)) => Err(self.give_up(Error::Job(error)).await),
            Raced::Stopped(stop) => Err(self.stopped(stop).await),
            Raced::TimedOut(_) => unreachable!("a question has no limit"),
        }
    }

    async fn complete(&mut self, settled: Settled<J::Output>, tasks: Vec<NewTask>) -> Attempt<J> {
        let (Settled::Executed(value) | Settled::Adopted(value)) = &settled;
        let result = match self.run.call.encode(value.encode_output()) {
            Ok(result) => result,
            Err(error) => return Err(self.give_up(error.into()).await),
        };
        let record = self.settle(Event::Complete, result, &tasks).await?;
        Ok((self.run.call.done(settled), record))
    }

    async fn fail(&mut self, error: J::Error) -> Attempt<J> {
        let result = match J::final_error(&error).map(|encoded| self.run.call.encode(encoded)) {
            None => return Err(self.give_up(Error::Job(error)).await),
            Some(Err(error)) => return Err(self.give_up(error.into()).await),
            Some(Ok(result)) => result,
        };
        let record = self.settle(Event::Reject, result, &[]).await?;
        Err(self.run.call.rejected(error, record))
    }

    /// Writes the outcome. Returns the record, if the job keeps one.
    async fn settle(
        &mut self,
        event: Event,
        result: Vec<u8>,
        tasks: &[NewTask],
    ) -> Result<Option<Record>, Failed<J::Error>> {
        let state = record::next(State::Running, event).expect("a running job completes or rejects");
        let outcome = Outcome::of(state).expect("a completed or rejected key has a record");
        let retain = J::SPEC.retain;
        if let Err(stop) =
            self.writer.write(&Change::Settle { outcome, result: &result, retain, tasks }).await
        {
            return Err(self.stopped(stop).await);
        }
        self.release.disarm();
        let fingerprint = self.run.call.fingerprint;
        Ok((retain != Retain::None).then_some(Record { outcome, fingerprint, result }))
    }

    /// Ends the run for a reason from outside the body.
    async fn stopped(&mut self, stop: Stop) -> Failed<J::Error> {
        let run = self.run;
        let (job, key) = (J::SPEC.name, run.call.key.readable().to_owned());
        match stop {
            Stop::Lost => {
                self.release.disarm();
                let epoch = self.writer.hold.epoch;
                warn!(hash = %self.writer.hold.key, "lost the claim: its lease has passed, or a person has released it");
                Error::LostClaim(LostClaim { job, key, epoch }).into()
            }
            Stop::Park(parked) => self.park(parked).await,
            Stop::Drift { recorded, asked } => {
                let drift = DriftError { job, key, recorded, asked };
                match J::SPEC.drift {
                    Drift::Park => {
                        let reason = drift.says();
                        self.park(Parked { step: None, reason, error: None, drifted: true }).await
                    }
                    Drift::Refuse | Drift::Resume => self.give_up(Error::Drift(drift)).await,
                }
            }
            Stop::Store(error) => self.give_up(Error::Store(error)).await,
        }
    }

    async fn park(&mut self, mut parked: Parked) -> Failed<J::Error> {
        parked.error = self.last_error.take();
        let bytes = codec::encode(&parked).expect("texts can be encoded");
        match self.writer.write(&Change::Park { parked: &bytes }).await {
            Ok(()) => {
                self.release.disarm();
                let Parked { step, reason, .. } = &parked;
                warn!(hash = %self.writer.hold.key, step, reason, "parked: a person has to look");
                self.run.parked(self.writer.hold.epoch, parked.step, parked.reason).into()
            }
            Err(Stop::Lost) => Box::pin(self.stopped(Stop::Lost)).await,
            // The doubt stays on record, and the next run parks.
            Err(Stop::Store(error)) => self.give_up(Error::Store(error)).await,
            Err(Stop::Park(_) | Stop::Drift { .. }) => {
                unreachable!("a write finds a lost claim or a store's error")
            }
        }
    }

    /// Frees the key for another run, and says why.
    async fn give_up(&mut self, error: Error<J::Error>) -> Failed<J::Error> {
        let text = error.text(J::describe_error);
        if let Some((store, hold)) = self.release.armed.take() {
            fail(&*store, &hold, text, self.release.in_doubt).await;
        }
        error.into()
    }
}

/// Lets user code run until it ends, is interrupted, or takes too long.
pub(super) async fn race<T>(
    interrupt: &Interrupt,
    limit: Option<Duration>,
    code: impl Future<Output = T>,
) -> Raced<T> {
    let mut heard = pin!(interrupt.heard());
    let mut code = pin!(code);
    let mut too_long = pin!(limit.map(tokio::time::sleep));
    poll_fn(|cx| {
        if let Poll::Ready(stop) = heard.as_mut().poll(cx) {
            return Poll::Ready(Raced::Stopped(stop));
        }
        if let Poll::Ready(ended) = code.as_mut().poll(cx) {
            // A body that ends beside a step which has stopped it, as with `select!`, has not ended well.
            return match heard.as_mut().poll(cx) {
                Poll::Ready(stop) => Poll::Ready(Raced::Stopped(stop)),
                Poll::Pending => Poll::Ready(Raced::Ended(ended)),
            };
        }
        match (too_long.as_mut().as_pin_mut(), limit) {
            (Some(too_long), Some(limit)) => too_long.poll(cx).map(|()| Raced::TimedOut(limit)),
            _ => Poll::Pending,
        }
    })
    .await
}

pub(super) fn random_token() -> Result<Token, StoreError> {
    getrandom::u64().map(|random| Token(i64::from_ne_bytes(random.to_ne_bytes()))).map_err(|error| {
        let text =
            format!("the operating system has no random numbers: {error}; a run needs one to be told from others; nothing was done");
        StoreError::new(StoreErrorKind::Misconfigured, text)
    })
}

/// Writes for a run, for as long as the run has the key.
#[derive(Clone)]
pub(super) struct Writer {
    store: Arc<dyn LeaseStore>,
    pub(super) hold: Hold,
    /// How long a store with temporary trouble is tried.
    patience: Duration,
}

impl Writer {
    /// Makes a change. A write whose answer was lost, or that the store could not make for now, is made again:
    /// that is harmless, and giving up would forget an effect that has happened.
    pub(super) async fn write(&self, change: &Change<'_>) -> Result<(), Stop> {
        let started = Instant::now();
        let mut pause = Duration::from_millis(5);
        let mut again = false;
        loop {
            let trouble = match answered(self.silence(), self.store.change(&self.hold, change)).await {
                Ok(Held::Yes) => return Ok(()),
                Ok(Held::Lost) if again => match self.is_made(change).await {
                    Ok(true) => return Ok(()),
                    Ok(false) => return Err(Stop::Lost),
                    Err(error) if error.is_temporary() => error,
                    Err(error) => return Err(Stop::Store(error)),
                },
                Ok(Held::Lost) => return Err(Stop::Lost),
                Ok(Held::Unknown) => StoreError::new(
                    StoreErrorKind::OutcomeUnknown,
                    "the connection broke during a write of a leased run; run it again: its record decides",
                )
                .temporary(),
                Err(error) if error.is_temporary() => error,
                Err(error) => return Err(Stop::Store(error)),
            };
            // After a silent connection another one is tried once, however long the silence was.
            if again && started.elapsed() + pause > self.patience {
                return Err(Stop::Store(trouble));
            }
            debug!(error = %trouble, "writing again");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(500));
            again = true;
        }
    }

    /// Returns how long one try may go unanswered.
    fn silence(&self) -> Duration {
        self.patience.max(SILENCE_MAX)
    }

    /// Tells whether a change that ends the run was made by an earlier try.
    async fn is_made(&self, change: &Change<'_>) -> Result<bool, StoreError> {
        let entry = answered(self.silence(), self.store.entry(self.hold.key)).await?;
        let Some(entry) = entry else { return Ok(false) };
        if entry.epoch != self.hold.epoch || entry.token != self.hold.token {
            return Ok(false);
        }
        Ok(match change {
            // An outcome that is not kept has expired at once.
            Change::Settle { outcome, .. } => entry.state == outcome.state() || entry.state == State::Absent,
            Change::Fail { .. } => entry.state == State::Failed,
            Change::Park { .. } => entry.state == State::Parked,
            Change::BeginStep { .. } | Change::EndStep { .. } | Change::ForgetStep { .. } => false,
        })
    }
}

/// Frees the key if the run is dropped or panics.
struct Release {
    armed: Option<(Arc<dyn LeaseStore>, Hold)>,
    /// Whether the effect of the whole job may have happened.
    in_doubt: bool,
    span: Span,
}

impl Release {
    fn hold(&self) -> Option<Hold> {
        self.armed.as_ref().map(|(_, hold)| *hold)
    }

    fn disarm(&mut self) {
        self.armed = None;
    }
}

impl Drop for Release {
    fn drop(&mut self) {
        let Some((store, hold)) = self.armed.take() else { return };
        // Without a runtime the lease passes.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let how = if std::thread::panicking() { "the run panicked" } else { "the run was dropped" };
        let in_doubt = self.in_doubt;
        let failing = async move { fail(&*store, &hold, String::from(how), in_doubt).await };
        runtime.spawn(failing.instrument(self.span.clone()));
    }
}

/// Says on record that a run ended without an outcome, once; if that fails, its lease passes.
async fn fail(store: &dyn LeaseStore, hold: &Hold, error: String, in_doubt: bool) {
    let error = match error.char_indices().nth(ERROR_CHARS_MAX) {
        None => error,
        Some((end, _)) => format!("{}…", &error[..end]),
    };
    info!("ended without an outcome; the next run has the key");
    let trouble = codec::encode(&Trouble::of(error, in_doubt)).expect("a text can be encoded");
    match answered(SILENCE_MAX, store.change(hold, &Change::Fail { trouble: &trouble })).await {
        Ok(Held::Yes | Held::Lost) => {}
        Ok(Held::Unknown) => {
            debug!("nobody knows whether the failure was recorded; if not, the lease passes")
        }
        Err(error) => {
            warn!(hash = %hold.key, %error, "the failure was not recorded; the key is free when the lease has passed")
        }
    }
}

/// How much of an error a record keeps.
const ERROR_CHARS_MAX: usize = 1_000;
