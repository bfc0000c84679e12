//! The steps of a leased job: recorded once, and skipped when the job resumes.

use std::any::type_name;
use std::collections::HashSet;
use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tracing::{debug, info};

use super::call::{recordable, task};
use super::heart::LeaseClock;
use super::interrupt::{Interrupt, Stop};
use super::leased::Writer;
use super::silence::{Bounded, SILENCE_MAX, answered};
use crate::answer::Answer;
use crate::cleanup::KeepFailed;
use crate::codec;
use crate::error::{StoreError, StoreErrorKind};
use crate::job::{Drift, InDoubt, Job, JobSpec};
use crate::key::Key;
use crate::observe::{self, Taken};
use crate::record::{Epoch, Parked, StepRecord, holds};
use crate::store::{Begun, Change, Claim, Database, Held, KeyLock, NewTask, Store, TxStep};
use crate::tx::Tx;

/// A run of a leased job, as its body sees it: the way to take recorded steps.
///
/// A step is recorded when it has ended well, and a run that takes the work up again gets the recorded
/// result instead of the effect. Code between steps runs again each time, so it must not have effects of its own,
/// and it must come to the same steps in the same order. A body that goes on to other steps after the error of one
/// may come to others next time, which is [refused](crate::job::Drift::Refuse) unless it says `drift = resume`.
///
/// What the body cannot do anything about never comes back to it: if the claim is lost, the store fails, the
/// steps have changed or a person has to look, the step does not return and the body is dropped there.
///
/// # Example
///
/// ```
/// use idem_runtime::prelude::*;
/// use std::convert::Infallible;
///
/// #[idempotent(key = order_id, in_doubt = rerun)]
/// async fn fulfil(run: &mut Run<'_, Memory>, order_id: i64) -> Result<String, Infallible> {
///     // The provider takes the key and tells a repetition.
///     let charge = run.step("charge", async |key| Ok::<_, Infallible>(format!("charged under {key}"))).await?;
///     // This effect is in the database, and commits with the step's record.
///     run.tx_step("order", async |tx| {
///         tx.set(format!("order {order_id}"), charge.clone());
///         Ok::<_, Infallible>(())
///     })
///     .await?;
///     Ok(charge)
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let idem = Idem::memory().build().unwrap();
/// let charge = fulfil(&idem, 42).await.unwrap();
/// assert!(charge.starts_with("charged under idem_"));
/// assert!(fulfil(&idem, 42).await.unwrap().is_replayed());
/// # }
/// ```
pub struct Run<'r, D: Database> {
    core: &'r mut Core<D>,
}

impl<'r, D: Database> Run<'r, D> {
    pub(super) fn new(core: &'r mut Core<D>) -> Self {
        Run { core }
    }

    /// Returns the store, for the clean-up.
    pub(crate) fn store(&self) -> &Arc<dyn Store<D>> {
        &self.core.store
    }

    pub(crate) fn namespace(&self) -> &str {
        &self.core.namespace
    }

    pub(crate) fn keep_failed(&self) -> &KeepFailed {
        &self.core.keep_failed
    }

    /// Begins a step that calls somebody. Await it; before that, [`probe`](Step::probe), [`park`](Step::park) and
    /// [`rerun`](Step::rerun) say what to do if nobody knows whether an earlier run had the effect.
    ///
    /// `call` gets the key to hand to the callee, a pure function of namespace, job, key and step. What it returns
    /// is recorded if it is `Ok`. An `Err` is given to the body; the next run calls again, unless the step is probed or parked.
    ///
    /// `name` is a literal, or with an index, as steps in loops need, `("line", i)`.
    ///
    /// Cost: one writing transaction; two if the step is probed or parked, whose intent is written before.
    pub fn step<'s, F, Fut, T, E>(&'s mut self, name: impl Into<StepName>, call: F) -> Step<'s, D, F, E>
    where
        F: FnOnce(String) -> Fut + Send,
        Fut: Future<Output = Result<T, E>> + Send,
    {
        let in_doubt = self.core.spec.in_doubt;
        Step { core: self.core, name: name.into(), call, in_doubt, certain: None, probe: NoProbe }
    }

    /// Takes a step whose effect is in the database of the records: effect and record commit in one transaction.
    ///
    /// An `Err` of `body` undoes the effect and is given to the body of the job.
    ///
    /// Cost: one writing transaction, which is that of the effect.
    pub async fn tx_step<F, T, E>(&mut self, name: impl Into<StepName>, body: F) -> Result<T, E>
    where
        F: AsyncFnOnce(&mut Tx<'_, D>) -> Result<T, E>,
        T: Serialize + DeserializeOwned,
    {
        let name = name.into();
        let (job, shown) = (self.core.spec.name, name.clone());
        observe::step(job, &shown, self.take_tx_step(name, body)).await
    }

    async fn take_tx_step<F, T, E>(&mut self, name: StepName, body: F) -> Result<Taken<T>, E>
    where
        F: AsyncFnOnce(&mut Tx<'_, D>) -> Result<T, E>,
        T: Serialize + DeserializeOwned,
    {
        let core = &mut *self.core;
        let place = match core.enter(name).await {
            Entered::Recorded(value) => return Ok(Taken::Skipped(value)),
            Entered::Open(place) => place,
        };
        let claim = Claim {
            key: &core.key,
            lock: KeyLock::None,
            wait: std::time::Duration::ZERO,
            records: false,
            row: None,
            undo: false,
        };
        let mut tx = match core.store.begin(&claim).await {
            Ok(Begun::Open { tx, .. }) => Bounded::new(tx, core.spec.timeout),
            Ok(Begun::Busy | Begun::RowBusy) => {
                let text = format!(
                    "step `{}` could not begin its transaction, and was not taken; run the job again",
                    place.name
                );
                let error = StoreError::new(StoreErrorKind::Conflict, text).temporary();
                return core.interrupt.stop_here(Stop::Store(error)).await;
            }
            Err(error) => return core.interrupt.stop_here(Stop::Store(error)).await,
        };
        let mut view = Tx::new(&mut *tx.tx, &core.key, &core.namespace).for_step(&place.name);
        let value = match body(&mut view).await {
            Ok(value) => value,
            Err(error) => {
                tx.rollback().await;
                return Err(error);
            }
        };
        let tasks = view.into_tasks();
        let encoded = core.encode(&place.name, &value, "the step was undone");
        let result = match tx.enqueued(encoded, tasks).await {
            Ok(result) => result,
            Err(error) => {
                tx.rollback().await;
                return core.interrupt.stop_here(Stop::Store(error)).await;
            }
        };
        let step = TxStep { seq: place.seq, name: &place.name, result: &result };
        let stop = match tx.commit_step(&core.writer.hold, &step).await {
            Ok(Held::Yes) => return Ok(Taken::Executed(value)),
            Ok(Held::Lost) => Stop::Lost,
            Ok(Held::Unknown) => match core.has_recorded(&step).await {
                Ok(true) => return Ok(Taken::Executed(value)),
                // It may be under way still. Failing the run fences it off: then it either is in time, and the
                // next run finds the step, or it commits nothing.
                Ok(false) => Stop::Store(unknown(core.spec, &core.key, &place.name)),
                Err(error) => Stop::Store(unknown(core.spec, &core.key, &place.name).caused_by(error)),
            },
            Err(error) => Stop::Store(error),
        };
        core.interrupt.stop_here(stop).await
    }

    /// Enqueues another job, once: it is put into the outbox in the transaction that records this job's result.
    ///
    /// If this run does not complete, nothing is enqueued. [`Queue::relay`](crate::engine::Queue::relay) takes it on
    /// to an engine in the same database, [`Idem::relay`](crate::Idem::relay) to one elsewhere. What others push meanwhile
    /// comes before it: of a job that keeps the latest, this counts as the newest when it is taken on.
    pub fn enqueue<J: Job>(&mut self, job: J) -> Answer<'_, ()> {
        let core = &mut self.core;
        Answer::new(async move {
            match task(&core.namespace, &job) {
                Ok(task) => core.tasks.push(task),
                Err(error) => core.interrupt.stop_here(Stop::Store(error)).await,
            }
        })
    }

    /// Returns the key to hand to a callee of the job as a whole: the same for every run of this job and key.
    pub fn idempotency_key(&self) -> String {
        self.core.key.outbound("")
    }

    /// Returns the number of this claim, which grows with each run that takes the key: a fencing token for systems
    /// that refuse a lower one.
    ///
    /// It begins at 1 again when the record of the key has been swept, or an atomic job has replaced it: give such a system
    /// a job with `retain = forever`, or let it forget what is older than the retention.
    pub fn epoch(&self) -> Epoch {
        self.core.writer.hold.epoch
    }

    /// Returns which attempt this is, from 1.
    pub fn attempt(&self) -> u32 {
        self.core.attempt
    }
}

impl<D: Database> fmt::Debug for Run<'_, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Run")
            .field("key", &self.core.key)
            .field("hold", &self.core.writer.hold)
            .finish_non_exhaustive()
    }
}

/// A step that calls somebody, not yet taken: await it.
#[must_use = "a step does nothing until it is awaited"]
pub struct Step<'s, D: Database, F, E, P = NoProbe> {
    core: &'s mut Core<D>,
    name: StepName,
    call: F,
    in_doubt: InDoubt,
    certain: Option<Certain<'s, E>>,
    probe: P,
}

type Certain<'s, E> = Box<dyn Fn(&E) -> bool + Send + 's>;

impl<'s, D: Database, F, E> Step<'s, D, F, E> {
    /// Asks, if nobody knows whether an earlier run had the effect: `Some` of the result if it had, `None` if it
    /// had not, and then it is had now.
    ///
    /// `probe` gets the same key as the call. An `Err` of it is given to the body, and the step stays in doubt.
    pub fn probe<P>(self, probe: P) -> Step<'s, D, F, E, Probe<P>> {
        Step {
            core: self.core,
            name: self.name,
            call: self.call,
            in_doubt: InDoubt::Probe,
            certain: self.certain,
            probe: Probe(probe),
        }
    }

    /// Waits for a person, if nobody knows whether an earlier run had the effect.
    ///
    /// An error of the call leaves that open too, unless [`not_done_if`](Self::not_done_if) says otherwise.
    pub fn park(mut self) -> Self {
        self.in_doubt = InDoubt::Park;
        self
    }

    /// Calls again, if nobody knows whether an earlier run had the effect: the callee takes the key and tells a
    /// repetition.
    pub fn rerun(mut self) -> Self {
        self.in_doubt = InDoubt::Rerun;
        self
    }
}

impl<'s, D: Database, F, E, P> Step<'s, D, F, E, P> {
    /// Says which errors of the call mean that its effect has certainly not happened: after one of these the next
    /// run simply calls again. Only steps that are probed or parked need it.
    pub fn not_done_if(mut self, is_certain: impl Fn(&E) -> bool + Send + 's) -> Self {
        self.certain = Some(Box::new(is_certain));
        self
    }
}

impl<'s, D, F, Fut, T, E, P> IntoFuture for Step<'s, D, F, E, P>
where
    D: Database,
    F: FnOnce(String) -> Fut + Send + 's,
    Fut: Future<Output = Result<T, E>> + Send + 's,
    T: Serialize + DeserializeOwned + Send + 's,
    E: Send + 's,
    P: StepProbe<T, E> + 's,
{
    type Output = Result<T, E>;
    type IntoFuture = Pin<Box<dyn Future<Output = Result<T, E>> + Send + 's>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let (job, shown) = (self.core.spec.name, self.name.clone());
            observe::step(job, &shown, self.take()).await
        })
    }
}

impl<'s, D, F, Fut, T, E, P> Step<'s, D, F, E, P>
where
    D: Database,
    F: FnOnce(String) -> Fut + Send + 's,
    Fut: Future<Output = Result<T, E>> + Send + 's,
    T: Serialize + DeserializeOwned + Send + 's,
    E: Send + 's,
    P: StepProbe<T, E> + 's,
{
    async fn take(self) -> Result<Taken<T>, E> {
        let Step { core, name, call, in_doubt, certain, probe } = self;
        let place = match core.enter(name).await {
            Entered::Recorded(value) => return Ok(Taken::Skipped(value)),
            Entered::Open(place) => place,
        };
        let key = core.key.outbound(&place.name);
        if place.begun {
            match in_doubt {
                InDoubt::Rerun => {}
                InDoubt::Park => {
                    // Whoever finds out gives a value of this type.
                    let reason = format!(
                        "an earlier run began it and did not record how it ended; it returns `{}`",
                        type_name::<T>()
                    );
                    return core.interrupt.stop_here(Stop::Park(Parked::of(Some(place.name), reason))).await;
                }
                InDoubt::Probe => {
                    if let Some(value) = probe.ask(key.clone()).await? {
                        info!("adopted: the step had been done already");
                        let result = core.encode(&place.name, &value, UNRECORDED);
                        core.end_step(&place, result).await;
                        return Ok(Taken::Adopted(value));
                    }
                }
            }
        }
        let intends = in_doubt != InDoubt::Rerun;
        if intends && !place.begun {
            core.write(&Change::BeginStep { seq: place.seq, name: &place.name }).await;
        }
        core.is_not_overtaken().await;
        match call(key).await {
            Ok(value) => {
                let result = core.encode(&place.name, &value, UNRECORDED);
                core.end_step(&place, result).await;
                Ok(Taken::Executed(value))
            }
            Err(error) => {
                if (intends || place.begun) && certain.is_some_and(|is_certain| is_certain(&error)) {
                    core.write(&Change::ForgetStep { seq: place.seq }).await;
                }
                Err(error)
            }
        }
    }
}

impl<D: Database, F, E, P> fmt::Debug for Step<'_, D, F, E, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Step").field("name", &self.name.0).finish_non_exhaustive()
    }
}

/// How a step finds out whether an earlier run had its effect.
pub trait StepProbe<T, E>: Send {
    /// Asks the callee.
    #[doc(hidden)]
    fn ask(self, key: String) -> impl Future<Output = Result<Option<T>, E>> + Send;
}

/// The step has nobody to ask.
#[derive(Debug)]
pub struct NoProbe;

impl<T: Send, E: Send> StepProbe<T, E> for NoProbe {
    async fn ask(self, _: String) -> Result<Option<T>, E> {
        Ok(None)
    }
}

/// The step asks this function.
#[derive(Debug)]
pub struct Probe<P>(P);

impl<T, E, P, Fut> StepProbe<T, E> for Probe<P>
where
    P: FnOnce(String) -> Fut + Send,
    Fut: Future<Output = Result<Option<T>, E>> + Send,
{
    async fn ask(self, key: String) -> Result<Option<T>, E> {
        (self.0)(key).await
    }
}

/// The name of a step: a literal, or one with an index, as steps in loops need.
///
/// ```
/// use idem_runtime::StepName;
///
/// assert_eq!(StepName::from("mail").to_string(), "mail");
/// assert_eq!(StepName::from(("mail", 3)).to_string(), "mail[3]");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepName(Result<String, String>);

/// The longest name, and the longest index.
const NAME_CHARS_MAX: usize = 100;

impl StepName {
    fn new(name: &str, index: Option<String>) -> Self {
        let plain = |c: char| c.is_ascii_alphanumeric() || "_.:-".contains(c);
        if name.is_empty() || name.len() > NAME_CHARS_MAX || !name.chars().all(plain) {
            return StepName(Err(format!(
                "{name:?} must be 1 to {NAME_CHARS_MAX} characters out of a-z A-Z 0-9 _ . : -"
            )));
        }
        StepName(match index {
            None => Ok(name.to_owned()),
            Some(index) if index.is_empty() || index.chars().count() > NAME_CHARS_MAX => {
                Err(format!("the index {index:?} of {name:?} must be 1 to {NAME_CHARS_MAX} characters"))
            }
            // PostgreSQL keeps no NUL, and what it keeps instead would be another step's name.
            Some(index) if index.chars().any(char::is_control) => {
                Err(format!("the index {index:?} of {name:?} must have no control characters"))
            }
            Some(index) => Ok(format!("{name}[{index}]")),
        })
    }
}

impl From<&'static str> for StepName {
    fn from(name: &'static str) -> Self {
        StepName::new(name, None)
    }
}

impl<I: fmt::Display> From<(&'static str, I)> for StepName {
    fn from((name, index): (&'static str, I)) -> Self {
        StepName::new(name, Some(index.to_string()))
    }
}

impl fmt::Display for StepName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Ok(text) | Err(text)) = &self.0;
        f.write_str(text)
    }
}

/// What a run of a leased job knows and has done.
pub(super) struct Core<D: Database> {
    pub(super) store: Arc<dyn Store<D>>,
    pub(super) writer: Writer,
    pub(super) key: Key,
    pub(super) namespace: String,
    pub(super) keep_failed: Arc<KeepFailed>,
    pub(super) spec: &'static JobSpec,
    pub(super) attempt: u32,
    pub(super) steps: Steps,
    pub(super) tasks: Vec<NewTask>,
    pub(super) interrupt: Arc<Interrupt>,
    pub(super) clock: LeaseClock,
}

/// What becomes of a call whose result cannot be recorded.
const UNRECORDED: &str = "the step is not recorded, though its effect has happened";

/// Where a step stands.
enum Entered<T> {
    /// An earlier run has taken it.
    Recorded(T),
    /// It is to be taken.
    Open(Place),
}

impl<D: Database> Core<D> {
    /// Finds the recorded step of this name, or the place for a new one; does not return if there can be none.
    async fn enter<T: DeserializeOwned>(&mut self, name: StepName) -> Entered<T> {
        // A body that goes on beside a step which has stopped it comes no further than this.
        if self.interrupt.is_said() {
            return std::future::pending().await;
        }
        let entered = match name.0 {
            Ok(name) => self.steps.enter(name),
            Err(what) => Err(Misstep::Name(format!("the name of a step {what}"))),
        };
        match entered {
            Ok(Found::Recorded(name, result)) => {
                let given = codec::as_given(&result);
                match codec::decode(given.unwrap_or(&result)) {
                    Ok(value) => {
                        debug!("skipped: an earlier run has taken the step");
                        Entered::Recorded(value)
                    }
                    // Whoever gave it can give another one. What the job has recorded itself, nobody replaces.
                    Err(error) if given.is_some() => {
                        let reason = format!(
                            "a person has resolved it with a result that cannot be read as `{}`: {}; the step was not taken again",
                            type_name::<T>(),
                            error.says()
                        );
                        let parked = Parked::of(Some(name), reason);
                        self.interrupt.stop_here(Stop::Park(parked)).await
                    }
                    Err(error) => {
                        let text = format!(
                            "step `{name}` of job `{}` for key `{}` cannot be read back: {}; the step was not taken again; \
                         change its type so that it reads old records (`#[serde(default)]`, `#[serde(alias)]`)",
                            self.spec.name,
                            self.key.readable(),
                            error.says()
                        );
                        let error =
                            StoreError::new(StoreErrorKind::Unreadable, text).names_run().caused_by(error);
                        self.interrupt.stop_here(Stop::Store(error)).await
                    }
                }
            }
            Ok(Found::Open(place)) => Entered::Open(place),
            Err(Misstep::Drift { recorded, asked }) => {
                self.interrupt.stop_here(Stop::Drift { recorded, asked: Some(asked) }).await
            }
            Err(Misstep::Name(what)) => {
                let text = format!(
                    "{what}; the step was not taken (job `{}`, key `{}`)",
                    self.spec.name,
                    self.key.readable()
                );
                let error = StoreError::new(StoreErrorKind::StepName, text).names_run();
                self.interrupt.stop_here(Stop::Store(error)).await
            }
        }
    }

    fn encode<T: Serialize>(&self, step: &str, value: &T, lost: &str) -> Result<Vec<u8>, StoreError> {
        let what = || format!("the result of step `{step}` of job `{}`", self.spec.name);
        recordable(codec::encode(value), what, lost).map_err(StoreError::names_run)
    }

    /// Records the result of a step; does not return if it cannot.
    async fn end_step(&self, place: &Place, result: Result<Vec<u8>, StoreError>) {
        match result {
            Ok(result) => {
                self.write(&Change::EndStep { seq: place.seq, name: &place.name, result: &result }).await
            }
            Err(error) => self.interrupt.stop_here(Stop::Store(error)).await,
        }
    }

    /// Does not return if the process has stood still for a whole lease and another run has the key by now: its
    /// heart notices as well, but perhaps after the call.
    async fn is_not_overtaken(&self) {
        if !self.clock.is_over() {
            return;
        }
        let stop = match answered(SILENCE_MAX, self.store.entry(self.key.hash())).await {
            Ok(Some(entry)) if holds(&entry, &self.writer.hold) => return,
            Ok(_) => Stop::Lost,
            Err(error) => Stop::Store(error),
        };
        self.interrupt.stop_here(stop).await
    }

    /// Writes, or does not return.
    async fn write(&self, change: &Change<'_>) {
        if let Err(stop) = self.writer.write(change).await {
            self.interrupt.stop_here(stop).await
        }
    }

    async fn has_recorded(&self, step: &TxStep<'_>) -> Result<bool, StoreError> {
        let entry = answered(SILENCE_MAX, self.store.entry(self.key.hash())).await?;
        Ok(entry.is_some_and(|entry| {
            entry
                .steps
                .iter()
                .any(|found| found.seq == step.seq && found.result.as_deref() == Some(step.result))
        }))
    }
}

fn unknown(spec: &JobSpec, key: &Key, step: &str) -> StoreError {
    let text = format!(
        "the connection broke while step `{step}` of job `{}` for key `{}` was committing; run it again: the record decides",
        spec.name,
        key.readable()
    );
    StoreError::new(StoreErrorKind::OutcomeUnknown, text).names_run().temporary()
}

/// The steps of a run: those that earlier runs recorded, and how far this one has come.
#[derive(Debug)]
pub(super) struct Steps {
    /// In order. A step that failed, and that the body went on behind, leaves a gap in the places.
    recorded: Vec<StepRecord>,
    /// The names of the steps that this run has come to.
    met: HashSet<String>,
    /// The place of the next step.
    next: u32,
    drift: Drift,
}

/// A step that is to be taken.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place {
    seq: u32,
    name: String,
    /// An earlier run has begun it, and nobody knows what became of it.
    begun: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Found {
    Recorded(String, Vec<u8>),
    Open(Place),
}

/// A step that there cannot be.
#[derive(Debug, PartialEq, Eq)]
enum Misstep {
    Name(String),
    Drift { recorded: String, asked: String },
}

impl Steps {
    pub(super) fn new(recorded: Vec<StepRecord>, drift: Drift) -> Self {
        let next = match drift {
            Drift::Refuse | Drift::Park => 0,
            // New steps come behind all others.
            Drift::Resume => recorded.iter().map(|step| step.seq + 1).max().unwrap_or(0),
        };
        Steps { recorded, met: HashSet::new(), next, drift }
    }

    fn enter(&mut self, name: String) -> Result<Found, Misstep> {
        if !self.met.insert(name.clone()) {
            return Err(Misstep::Name(format!(
                "two steps of one run are called `{name}`; give one another name, or an index: `(\"{name}\", i)`"
            )));
        }
        let seq = self.next;
        let by_name = self.recorded.iter().find(|step| step.name == name);
        let found = match self.drift {
            Drift::Resume => by_name,
            Drift::Refuse | Drift::Park => {
                match (self.recorded.iter().find(|step| step.seq == seq), by_name) {
                    (Some(step), _) if step.name == name => Some(step),
                    (None, None) => None,
                    (Some(other), _) | (None, Some(other)) => {
                        return Err(Misstep::Drift { recorded: other.name.clone(), asked: name });
                    }
                }
            }
        };
        let found = match found {
            None => Found::Open(Place { seq, name, begun: false }),
            Some(StepRecord { result: Some(result), .. }) => Found::Recorded(name, result.clone()),
            Some(step) => Found::Open(Place { seq: step.seq, name, begun: true }),
        };
        self.next += 1;
        Ok(found)
    }

    /// Returns the first recorded step that a run which has come to its end has not come to.
    pub(super) fn left_over(&self) -> Option<&str> {
        match self.drift {
            Drift::Resume => None,
            Drift::Refuse | Drift::Park => {
                let mut names = self.recorded.iter().map(|step| step.name.as_str());
                names.find(|name| !self.met.contains(*name))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Steps of these names, recorded in these places.
    fn steps(recorded: &[(u32, &str)], drift: Drift) -> Steps {
        let step = |(seq, name): &(u32, &str)| StepRecord {
            seq: *seq,
            name: (*name).to_owned(),
            result: Some(vec![]),
        };
        Steps::new(recorded.iter().map(step).collect(), drift)
    }

    fn enter(steps: &mut Steps, name: &str) -> Result<Found, Misstep> {
        steps.enter(name.to_owned())
    }

    fn open(seq: u32, name: &str) -> Result<Found, Misstep> {
        Ok(Found::Open(Place { seq, name: name.to_owned(), begun: false }))
    }

    fn skipped(name: &str) -> Result<Found, Misstep> {
        Ok(Found::Recorded(name.to_owned(), vec![]))
    }

    fn drifted(recorded: &str, asked: &str) -> Result<Found, Misstep> {
        Err(Misstep::Drift { recorded: recorded.to_owned(), asked: asked.to_owned() })
    }

    #[test]
    fn recorded_steps_are_skipped_and_new_ones_follow() {
        for drift in [Drift::Refuse, Drift::Park, Drift::Resume] {
            let mut steps = steps(&[(0, "a"), (1, "b")], drift);
            assert_eq!(enter(&mut steps, "a"), skipped("a"));
            assert_eq!(steps.left_over(), (drift != Drift::Resume).then_some("b"));
            assert_eq!(enter(&mut steps, "b"), skipped("b"));
            assert_eq!(steps.left_over(), None);
            assert!(matches!(enter(&mut steps, "c"), Ok(Found::Open(Place { seq: 2.., begun: false, .. }))));
        }
    }

    #[test]
    fn another_step_in_the_place_of_a_recorded_one_is_drift() {
        for drift in [Drift::Refuse, Drift::Park] {
            let mut replaced = steps(&[(0, "a"), (1, "b")], drift);
            assert_eq!(enter(&mut replaced, "a"), skipped("a"));
            assert_eq!(enter(&mut replaced, "x"), drifted("b", "x"));
            assert_eq!(enter(&mut steps(&[(0, "a"), (1, "b")], drift), "b"), drifted("a", "b"));
        }
    }

    #[test]
    fn a_step_that_failed_and_was_gone_on_behind_keeps_its_place() {
        let mut again = steps(&[(1, "needed")], Drift::Refuse);
        assert_eq!(enter(&mut again, "optional"), open(0, "optional"));
        assert_eq!(enter(&mut again, "needed"), skipped("needed"));
        assert_eq!(enter(&mut again, "next"), open(2, "next"));
        // Without it, the recorded step is in another place.
        assert_eq!(enter(&mut steps(&[(1, "needed")], Drift::Refuse), "needed"), drifted("needed", "needed"));
    }

    #[test]
    fn resume_finds_steps_by_name_and_gives_new_ones_places_behind_all() {
        let mut steps = steps(&[(0, "a"), (1, "b")], Drift::Resume);
        assert_eq!(enter(&mut steps, "x"), open(2, "x"));
        assert_eq!(enter(&mut steps, "b"), skipped("b"));
        assert!(matches!(enter(&mut steps, "y"), Ok(Found::Open(Place { seq: 3.., .. }))));
    }

    #[test]
    fn a_name_used_twice_is_refused_whether_recorded_or_not() {
        let mut steps = steps(&[(0, "a")], Drift::Refuse);
        for name in ["a", "b"] {
            assert!(enter(&mut steps, name).is_ok());
            assert!(matches!(enter(&mut steps, name), Err(Misstep::Name(_))));
        }
    }

    #[test]
    fn a_begun_step_is_in_doubt() {
        let step = StepRecord { seq: 0, name: String::from("mail"), result: None };
        let place = Place { seq: 0, name: String::from("mail"), begun: true };
        assert_eq!(enter(&mut Steps::new(vec![step], Drift::Refuse), "mail"), Ok(Found::Open(place)));
    }

    #[test]
    fn an_index_cannot_be_mistaken_for_a_name() {
        assert!(StepName::from("mail[3]").0.is_err());
        assert!(StepName::from("").0.is_err());
        assert!(StepName::from(("mail", "")).0.is_err());
        assert!(StepName::from(("mail", "a\0")).0.is_err());
        assert_eq!(StepName::from(("mail", 3)).0, Ok(String::from("mail[3]")));
    }
}
