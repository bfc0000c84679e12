//! What people do: look at keys that have no outcome, and settle what a job does not know.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::codec::{self, CodecError};
use crate::engine::TaskId;
use crate::error::{ArgsError, Error, StoreError, StoreErrorKind};
use crate::idem::Idem;
use crate::job::{Job, JobOutput};
use crate::key::{Key, KeyHash};
use crate::operator::{ALL_KEYS, Known, KnownKey, stale};
use crate::record::{self, Entry, Epoch, State, StepRecord};
use crate::store::{AuditRow, Database, KeyFilter, KeyOrder, KeyRow, TaskRow};

/// All that is recorded of a key.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Explanation {
    /// The key.
    pub hash: KeyHash,
    /// The key, readable.
    pub key: String,
    /// Where the key stands; [`Absent`](State::Absent) if what is recorded has expired.
    pub state: State,
    /// The last claim; [`Epoch::NONE`] if an atomic job made the record, in place of no other.
    pub epoch: Epoch,
    /// How many runs have begun.
    pub attempts: u32,
    /// How much of the lease is left; zero if no run has the key.
    pub lease_left: Duration,
    /// The error that the last run of a failed key ended with; of a parked key, the run before the one that parked it, if
    /// that error was recorded.
    pub error: Option<String>,
    /// What a person has decided about a failed key since its last run, and why: it was resolved or released, and waits for
    /// its next run.
    pub settled: Option<String>,
    /// Where and why the key is parked.
    pub parked: Option<record::Parked>,
    /// Where and why the key was parked when a person resolved it; until the next run that can be
    /// [corrected](Resolution::correcting).
    pub resolved: Option<record::Parked>,
    /// The recorded steps, in order.
    pub steps: Vec<StepState>,
    /// What people have done about the key, oldest first.
    pub audit: Vec<Audit>,
}

/// A recorded step.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StepState {
    /// Its name, with its index if it has one.
    pub name: String,
    /// Whether its result is recorded; if not, it was begun and nobody knows what became of it.
    pub is_done: bool,
    /// Whether a person has given the result, and not the job.
    pub is_given: bool,
    /// The key that the step hands to its callee: what to look for in the callee's own records.
    pub call_key: String,
    result: Option<Vec<u8>>,
}

impl StepState {
    pub(crate) fn of(key: KeyHash, step: StepRecord) -> Self {
        let given = step.result.as_deref().and_then(codec::as_given).map(<[u8]>::to_vec);
        StepState {
            is_done: step.result.is_some(),
            is_given: given.is_some(),
            call_key: key.outbound(&step.name),
            name: step.name,
            result: given.or(step.result),
        }
    }

    /// Reads the recorded result, whoever has given it, as a type of the caller's; `None` if there is none.
    ///
    /// The encoding describes itself, so a type that takes whatever comes, as those of serde's formats, can be read too.
    pub fn result<T: DeserializeOwned>(&self) -> Option<Result<T, CodecError>> {
        self.result.as_deref().map(codec::decode)
    }
}

/// A note that a person has changed a record.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Audit {
    /// The claim at the time.
    pub epoch: Epoch,
    /// What was done.
    pub action: String,
    /// Who and why.
    pub why: String,
    /// How long ago, by the store's clock.
    pub age: Duration,
}

impl From<AuditRow> for Audit {
    fn from(row: AuditRow) -> Self {
        Audit { epoch: row.epoch, action: row.action, why: row.why, age: row.age }
    }
}

/// What a person has found out about an effect that is in doubt.
#[derive(Debug, Clone)]
pub struct Resolution {
    pub(crate) found: Found,
    /// Whether it may take the place of another one.
    pub(crate) corrects: bool,
}

#[derive(Debug, Clone)]
pub(crate) enum Found {
    Done(Vec<u8>),
    NotDone,
}

impl Resolution {
    /// The effect has happened, with this result: of the step that is parked, or of the job.
    ///
    /// That the result of a step has the step's type nobody can check here: with a wrong one the next run parks the step
    /// again and says what is wrong, and it can be resolved once more.
    ///
    /// # Errors
    ///
    /// The value's own `Serialize` fails.
    pub fn done<T: Serialize>(value: &T) -> Result<Self, CodecError> {
        codec::encode(value).map(|bytes| Resolution { found: Found::Done(bytes), corrects: false })
    }

    /// The effect has not happened, and may be had: the next run has it.
    pub fn rerun() -> Self {
        Resolution { found: Found::NotDone, corrects: false }
    }

    /// Takes the place of what somebody has said of the key before, by mistake, if no run has begun since.
    ///
    /// Without this, of several people who resolve a key the first one is heard, and the others are told.
    ///
    /// # Example
    ///
    /// ```
    /// use idem_runtime::prelude::*;
    /// use idem_runtime::Resolution;
    ///
    /// #[derive(Debug, Clone, thiserror::Error, serde::Serialize, serde::Deserialize)]
    /// #[error("no answer")]
    /// struct NoAnswer;
    ///
    /// #[idempotent(key = id, in_doubt = rerun)]
    /// async fn mail(run: &mut Run<'_, Memory>, id: i64) -> Result<String, NoAnswer> {
    ///     run.step("send", async |_| Err(NoAnswer)).park().await
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// let idem = Idem::memory().build().unwrap();
    /// mail(&idem, 42).await.unwrap_err();
    /// let Err(Error::Parked(parked)) = mail(&idem, 42).await else { panic!("the mail is in doubt") };
    ///
    /// // The key of another mail was meant.
    /// idem.resolve::<Mail>(parked.hash, parked.epoch, Resolution::rerun(), "Ada: it never left").await.unwrap();
    /// let sent = Resolution::done(&"sent").unwrap().correcting();
    /// idem.resolve::<Mail>(parked.hash, parked.epoch, sent, "Ada: it did").await.unwrap();
    /// assert_eq!(mail(&idem, 42).await.unwrap(), Done::Executed(String::from("sent")));
    /// # }
    /// ```
    #[must_use]
    pub fn correcting(self) -> Self {
        Resolution { corrects: true, ..self }
    }
}

/// A task in the outbox: what a job has enqueued ([`Tx::enqueue`](crate::Tx::enqueue), [`Run::enqueue`](crate::Run::enqueue)), or a [queue](crate::engine::Queue) of
/// [`Engine::Outbox`](crate::engine::Engine::Outbox).
#[derive(Debug, Clone)]
pub struct Task {
    row: TaskRow,
}

impl Task {
    /// Returns the name of the job.
    pub fn job(&self) -> &str {
        &self.row.task.job
    }

    /// Returns the key of the job, readable.
    pub fn key(&self) -> &str {
        &self.row.task.key
    }

    /// Returns the id of the task, the same whenever and by whomever it is delivered: an engine that tells duplicates by
    /// it takes the task once.
    pub fn id(&self) -> TaskId {
        self.row.id.unwrap_or_else(|| TaskId::of_outbox(self.row.task.id, self.row.number))
    }

    /// Returns the priority that the task was enqueued with; 0 if a job has enqueued it.
    pub fn priority(&self) -> i32 {
        self.row.priority
    }

    /// Returns how often the engine is to try the task, if somebody has said so.
    pub fn attempts(&self) -> Option<u32> {
        self.row.attempts
    }

    /// Returns the job as a value, to be run.
    ///
    /// # Errors
    ///
    /// The task is not of this job, or its arguments have changed so that it cannot be read.
    pub fn decode<J: Job>(&self) -> Result<J, StoreError> {
        let unreadable = |why: String| {
            StoreError::new(
                StoreErrorKind::Unreadable,
                format!(
                    "task {} of job `{}` cannot be read as job `{}`: {why}; the task stays in the outbox; let `{}` read old \
                     arguments (`#[serde(default)]`, `#[serde(alias)]`), or decode it as the job that `Task::job` names",
                    self.row.number,
                    self.job(),
                    J::SPEC.name,
                    J::SPEC.name
                ),
            )
        };
        if self.job() != J::SPEC.name {
            return Err(unreadable(String::from("it is of another job")));
        }
        codec::decode(&self.row.task.payload).map_err(|error| unreadable(error.says()).caused_by(error))
    }
}

impl<D: Database, S> Idem<D, S> {
    /// Returns the parked keys of this namespace, the longest waiting first, at most `limit`.
    ///
    /// # Errors
    ///
    /// The database cannot be reached or refuses.
    pub async fn parked(&self, limit: u32) -> Result<Vec<KnownKey>, StoreError> {
        self.unfinished(&[State::Parked], limit).await
    }

    /// Returns the keys of this namespace that are in one of these states, the longest unchanged first, at most `limit`.
    ///
    /// Only keys of leased jobs have states without an outcome: running, lapsed, failed and parked. Of other states there
    /// are none here; [`Operator::keys`](crate::Operator::keys) lists these too.
    ///
    /// # Errors
    ///
    /// The database cannot be reached or refuses.
    pub async fn unfinished(&self, states: &[State], limit: u32) -> Result<Vec<KnownKey>, StoreError> {
        let is_one =
            |state: &State| matches!(state, State::Running | State::Lapsed | State::Failed | State::Parked);
        let states: Vec<State> = states.iter().copied().filter(is_one).collect();
        let order = KeyOrder::LongestUnchanged;
        let namespace = Some(self.namespace());
        let filter = KeyFilter { namespace, states: &states, limit, order, ..ALL_KEYS };
        Ok(self.store().keys(&filter).await?.into_iter().map(KnownKey::from).collect())
    }

    /// Returns all that is recorded of a job's key; `None` if nothing is.
    ///
    /// # Errors
    ///
    /// The arguments make no key, or the database cannot be reached or refuses.
    pub async fn explain<J: Job>(&self, job: &J) -> Result<Option<Explanation>, Error<J::Error>> {
        let parts =
            job.key().map_err(|error| Error::Args(ArgsError { job: J::SPEC.name, reason: error.into() }))?;
        let key = Key::new(self.namespace(), J::SPEC.name, &parts);
        let Some(entry) = self.store().entry(key.hash()).await? else { return Ok(None) };
        let audit = self.store().audit(key.hash()).await?;
        let Troubles { error, settled, parked, resolved, .. } = troubles(&entry);
        Ok(Some(Explanation {
            hash: key.hash(),
            key: key.readable().to_owned(),
            state: entry.state,
            epoch: entry.epoch,
            attempts: entry.attempts,
            lease_left: entry.lease_left,
            error,
            settled,
            parked,
            resolved,
            steps: entry.steps.into_iter().map(|step| StepState::of(key.hash(), step)).collect(),
            audit: audit.into_iter().map(Audit::from).collect(),
        }))
    }

    /// Ends the wait of a parked key with what a person has found out, and notes `why` in the audit.
    ///
    /// `epoch` is that of the listing or the error that the person acts on: if anything has happened to the key since,
    /// nothing is changed. Where a step is parked, [`done`](Resolution::done) takes the step's result, and the next
    /// run goes on behind it, or parks it again if the result is not of the step's type; where the whole job is, it
    /// takes the job's result, and a replay returns it. Write into `why` who has looked and where. What was a mistake can be
    /// [corrected](Resolution::correcting) until the next run.
    ///
    /// # Errors
    ///
    /// [`Stale`](StoreErrorKind::Stale): the key is not parked under this epoch, or it is not a key of this job.
    /// [`Unreadable`](StoreErrorKind::Unreadable): the result is not of the job's type.
    pub async fn resolve<J: Job>(
        &self,
        key: KeyHash,
        epoch: Epoch,
        resolution: Resolution,
        why: &str,
    ) -> Result<(), StoreError> {
        let known = self.own_key::<J>(key, "resolved").await?;
        let Troubles { parked, resolved, .. } = troubles(&known.row.entry);
        let is_whole = parked.or(resolved).is_some_and(|parked| parked.step.is_none());
        if let Found::Done(bytes) = &resolution.found
            && is_whole
            && let Err(error) = J::Output::decode_output(bytes)
        {
            let job = J::SPEC.name;
            let text = format!(
                "the result is not what job `{job}` returns: {}; nothing was changed; give `Resolution::done` a value of the \
                 job's result type",
                error.says()
            );
            return Err(StoreError::new(StoreErrorKind::Unreadable, text).caused_by(error));
        }
        self.operator().resolve_known(known, epoch, &resolution, J::SPEC.retain, why).await
    }

    /// Lets a key count as if nothing had ever run for it, and notes `why` in the audit: the next run is a first one,
    /// with whatever arguments.
    ///
    /// The key is one of `J`, and is failed, parked or completed, or has a final error. A result that is recorded
    /// answers no more, recorded steps are gone, and what is in doubt is in doubt for nobody: whoever calls this says
    /// that the effects may be had again. `epoch` is that of the listing, the error or the [explanation](Explanation) that the person
    /// acts on ([`Epoch::NONE`] for the first record that an atomic job made): if anything has happened to the key since, nothing is changed.
    ///
    /// # Errors
    ///
    /// [`Stale`](StoreErrorKind::Stale): a run has the key, nothing is recorded of it, its epoch is another, or it is not a key of this job.
    ///
    /// # Example
    ///
    /// ```
    /// use idem_runtime::prelude::*;
    /// use std::convert::Infallible;
    ///
    /// #[idempotent(key = id)]
    /// async fn pay(tx: &mut Tx<'_, Memory>, id: i64, cents: i64) -> Result<i64, Infallible> {
    ///     tx.set(format!("payment {id}"), cents.to_string());
    ///     Ok(cents)
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// let idem = Idem::memory().build().unwrap();
    /// pay(&idem, 42, 100).await.unwrap();
    /// assert!(matches!(pay(&idem, 42, 250).await, Err(Error::KeyReused(_))));
    ///
    /// let known = idem.explain(&Pay { id: 42, cents: 100 }).await.unwrap().unwrap();
    /// idem.forget::<Pay>(known.hash, known.epoch, "paid back by hand").await.unwrap();
    /// assert_eq!(pay(&idem, 42, 250).await.unwrap(), Done::Executed(250));
    /// # }
    /// ```
    pub async fn forget<J: Job>(&self, key: KeyHash, epoch: Epoch, why: &str) -> Result<(), StoreError> {
        let known = self.own_key::<J>(key, "forgotten").await?;
        self.operator().forget_known(known, epoch, why).await
    }

    /// Looks at a key of this job that is to be changed.
    async fn own_key<J: Job>(&self, key: KeyHash, done: &'static str) -> Result<Known, StoreError> {
        let stale = |what| stale(&key.to_string(), J::SPEC.name, done, what);
        let known = Known::look(&**self.store(), key, done).await?;
        let known = known.ok_or_else(|| stale(String::from("nothing is recorded of it")))?;
        let KeyRow { namespace, job, .. } = &known.row;
        if (&**namespace, &**job) != (self.namespace(), J::SPEC.name) {
            return Err(stale(format!("it is a key of job `{job}` of namespace `{namespace}`")));
        }
        Ok(known)
    }

    /// Hands the tasks of this namespace in the outbox to `deliver`, oldest first, and deletes each that was delivered; returns how
    /// many were.
    ///
    /// Tasks are what jobs enqueue, with [`Tx::enqueue`](crate::Tx::enqueue) or [`Run::enqueue`](crate::Run::enqueue), and what a [queue](crate::engine::Queue) of
    /// [`Engine::Outbox`](crate::engine::Engine::Outbox) takes. It stops at the first error, and the task stays: call it
    /// again. A task is delivered at least once, and again if this process dies before it is deleted, so the job must
    /// be idempotent, or the engine must tell duplicates by [`Task::id`]. A task whose delivery always fails holds up
    /// those behind it; `Ok` lets go of it. Nothing calls this by itself.
    ///
    /// A task that was handed to `deliver` once has its arguments for good: of a later one with its unique claim
    /// `on_duplicate = replace` makes a duplicate, and `keep_latest` another task, as if a worker had it.
    ///
    /// # Errors
    ///
    /// The first error of `deliver`, or of the store.
    ///
    /// # Example
    ///
    /// ```
    /// use idem_runtime::prelude::*;
    /// use std::convert::Infallible;
    ///
    /// #[idempotent(key = id)]
    /// async fn notify(tx: &mut Tx<'_, Memory>, id: i64) -> Result<(), Infallible> {
    ///     tx.set(format!("notified {id}"), "yes");
    ///     Ok(())
    /// }
    ///
    /// #[idempotent(key = id, in_doubt = rerun)]
    /// async fn order(run: &mut Run<'_, Memory>, id: i64) -> Result<(), Infallible> {
    ///     run.enqueue(Notify { id }).await;
    ///     Ok(())
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// let idem = Idem::memory().build().unwrap();
    /// order(&idem, 42).await.unwrap();
    /// let delivered = idem
    ///     .relay(async |task| match task.job() {
    ///         "notify" => idem.run(task.decode::<Notify>()?).await.map(|_| ()),
    ///         other => panic!("nobody enqueues `{other}`"),
    ///     })
    ///     .await;
    /// assert_eq!(delivered.unwrap(), 1);
    /// # }
    /// ```
    pub async fn relay<E>(&self, mut deliver: impl AsyncFnMut(&Task) -> Result<(), E>) -> Result<u64, E>
    where
        E: From<StoreError>,
    {
        const BATCH: u32 = 100;
        let (mut delivered, mut after) = (0, 0);
        loop {
            let rows = self.store().tasks(self.namespace(), after, BATCH).await?;
            if rows.is_empty() {
                return Ok(delivered);
            }
            for mut row in rows {
                after = row.number;
                // That of a queue may have got other arguments meanwhile. These would be lost if it got them any later.
                if row.id.is_some() {
                    let Some(taken) = self.store().take_task(self.namespace(), after).await? else {
                        continue;
                    };
                    row = taken;
                }
                let task = Task { row };
                deliver(&task).await?;
                // Another relay may have delivered it too, and deleted it first.
                delivered += u64::from(self.store().delete_task(after).await?);
            }
        }
    }
}

/// What is kept with a failed or parked key.
#[derive(Default)]
pub(crate) struct Troubles {
    pub(crate) error: Option<String>,
    pub(crate) settled: Option<String>,
    pub(crate) parked: Option<record::Parked>,
    /// Where the key was parked when a person resolved it.
    pub(crate) resolved: Option<record::Parked>,
    /// The place of the step that was resolved.
    pub(crate) seq: Option<u32>,
}

/// Reads what is kept with a failed or parked key.
pub(crate) fn troubles(entry: &Entry) -> Troubles {
    let unreadable = |error: CodecError| format!("what is recorded cannot be read: {}", error.says());
    match entry.state {
        State::Failed => match codec::decode::<record::Trouble>(&entry.payload) {
            Ok(record::Trouble { error, settled, parked, seq, .. }) => {
                Troubles { error: Some(error), settled, parked: None, resolved: parked, seq }
            }
            Err(error) => Troubles { error: Some(unreadable(error)), ..Troubles::default() },
        },
        State::Parked => {
            let parked: record::Parked = codec::decode(&entry.payload)
                .unwrap_or_else(|error| record::Parked::of(None, unreadable(error)));
            Troubles { error: parked.error.clone(), parked: Some(parked), ..Troubles::default() }
        }
        State::Absent | State::Running | State::Lapsed | State::Completed | State::Rejected => {
            Troubles::default()
        }
    }
}
