//! What people do who know keys and jobs by name: no job's type is needed, so a command or a page can do it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use tracing::info;

use crate::cleanup::{self, Swept};
use crate::codec::{self, CodecError};
use crate::engine::TaskId;
use crate::error::{StoreError, StoreErrorKind};
use crate::idem::Idem;
use crate::job::Retain;
use crate::key::KeyHash;
use crate::operate::{Audit, Found, Resolution, StepState, Troubles, troubles};
use crate::record::{self, Epoch, Event, JobId, State};
use crate::store::{
    ClaimRow, Database, Forget, Holder, JobRow, KeyFilter, KeyOrder, KeyRow, Resolve, ResolvedStep, Store,
    Volume,
};

/// Every key.
pub(crate) const ALL_KEYS: KeyFilter<'static> = KeyFilter {
    namespace: None,
    job: None,
    states: &State::ALL,
    containing: None,
    key: None,
    after: None,
    order: KeyOrder::Hash,
    limit: 1,
};

/// Looks at keys of every namespace and job, and settles what they do not know, without the types of the jobs.
///
/// Every change is made under the epoch that the person has seen, and leaves a note in the audit: if anything has happened
/// to the key since, nothing is changed. Where the type of the job is at hand, [`Idem::resolve`] and [`Idem::forget`] check more.
///
/// # Example
///
/// ```
/// use idem_runtime::prelude::*;
/// use idem_runtime::{KeyQuery, Resolution};
/// use std::convert::Infallible;
///
/// #[idempotent(key = id, in_doubt = park)]
/// async fn mail(run: &mut Run<'_, Memory>, id: i64) -> Result<String, Infallible> {
///     // The callee takes no key, and the answer never comes.
///     run.step("send", async |_| Ok::<_, Infallible>(String::from("sent"))).await
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let idem = Idem::memory().build().unwrap();
/// mail(&idem, 42).await.unwrap();
///
/// let operator = idem.operator();
/// let keys = operator.keys(&KeyQuery::new().job("mail").containing("42")).await.unwrap();
/// assert_eq!(keys[0].key, "42");
///
/// let known = operator.explain(keys[0].hash).await.unwrap().unwrap();
/// assert_eq!(known.result::<String>().unwrap().unwrap(), "sent");
/// operator.forget(known.key.hash, known.key.epoch, "Ada: the mail came back").await.unwrap();
/// assert!(mail(&idem, 42).await.unwrap().is_executed());
/// # }
/// ```
pub struct Operator<D: Database> {
    store: Arc<dyn Store<D>>,
}

impl<D: Database> Clone for Operator<D> {
    fn clone(&self) -> Self {
        Operator { store: Arc::clone(&self.store) }
    }
}

impl<D: Database> fmt::Debug for Operator<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Operator").field("store", &self.store.name()).finish()
    }
}

impl<D: Database, S> Idem<D, S> {
    /// Returns what people look at and do in this database, in all namespaces.
    pub fn operator(&self) -> Operator<D> {
        Operator { store: Arc::clone(self.store()) }
    }
}

/// Which keys, or which unique claims, [`Operator`] lists: all of them, unless it is told otherwise.
///
/// # Example
///
/// ```
/// use idem_runtime::KeyQuery;
/// use idem_runtime::record::State;
///
/// let query = KeyQuery::new().namespace("billing").states([State::Failed, State::Parked]).limit(20);
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct KeyQuery {
    namespace: Option<String>,
    job: Option<String>,
    states: Vec<State>,
    containing: Option<String>,
    after: Option<KeyHash>,
    limit: u32,
}

impl Default for KeyQuery {
    fn default() -> Self {
        KeyQuery::new()
    }
}

impl KeyQuery {
    /// Asks for all keys, at most 100 of them.
    pub fn new() -> Self {
        let states = State::ALL.to_vec();
        KeyQuery { namespace: None, job: None, states, containing: None, after: None, limit: 100 }
    }

    /// Asks for keys of one namespace.
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = Some(namespace.into());
        self
    }

    /// Asks for keys of one job.
    pub fn job(mut self, job: impl Into<String>) -> Self {
        self.job = Some(job.into());
        self
    }

    /// Asks for keys in these states; [`Absent`](State::Absent) is what has expired and is not swept yet.
    pub fn states(mut self, states: impl IntoIterator<Item = State>) -> Self {
        self.states = states.into_iter().collect();
        self
    }

    /// Asks for keys whose readable form contains a text, in this case.
    pub fn containing(mut self, text: impl Into<String>) -> Self {
        self.containing = Some(text.into());
        self
    }

    /// Asks for what comes after this key: give the last one of a page for the next page.
    pub fn after(mut self, key: KeyHash) -> Self {
        self.after = Some(key);
        self
    }

    /// Asks for at most so many.
    pub fn limit(mut self, limit: u32) -> Self {
        self.limit = limit;
        self
    }

    fn filter(&self) -> KeyFilter<'_> {
        KeyFilter {
            namespace: self.namespace.as_deref(),
            job: self.job.as_deref(),
            states: &self.states,
            containing: self.containing.as_deref(),
            key: None,
            after: self.after,
            order: KeyOrder::Hash,
            limit: self.limit,
        }
    }
}

/// A key that something is recorded of, in whatever state.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct KnownKey {
    /// The namespace.
    pub namespace: String,
    /// The job's name.
    pub job: String,
    /// The key, readable, cut at [`READABLE_BYTES_MAX`](crate::key::READABLE_BYTES_MAX).
    pub key: String,
    /// The key.
    pub hash: KeyHash,
    /// Where the key stands; [`Absent`](State::Absent) if what is recorded has expired.
    pub state: State,
    /// The last claim; [`Epoch::NONE`] if an atomic job made the record, in place of no other.
    pub epoch: Epoch,
    /// How many runs have begun; 0 if an atomic job made the record.
    pub attempts: u32,
    /// How long ago the state changed, by the store's clock.
    pub since: Duration,
    /// How much of the lease is left; zero if no run has the key.
    pub lease_left: Duration,
    /// How long the record still answers; `None` if it does for ever, or is none.
    pub expires_in: Option<Duration>,
    /// How long the recorded result or final error is, in bytes.
    pub result_bytes: u64,
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
}

impl KnownKey {
    /// Returns the key that the call in doubt has handed to its callee, of a key that is parked, or was until a person resolved
    /// it: what to look for in the callee's own records.
    ///
    /// A callee that takes no key has not seen it.
    pub fn call_key(&self) -> Option<String> {
        let parked = self.parked.as_ref().or(self.resolved.as_ref()).filter(|parked| !parked.drifted)?;
        Some(self.hash.outbound(parked.step.as_deref().unwrap_or("")))
    }
}

impl From<KeyRow> for KnownKey {
    fn from(row: KeyRow) -> Self {
        let Troubles { error, settled, parked, resolved, .. } = troubles(&row.entry);
        KnownKey {
            namespace: row.namespace,
            job: row.job,
            key: row.key,
            hash: row.hash,
            state: row.entry.state,
            epoch: row.entry.epoch,
            attempts: row.entry.attempts,
            since: row.since,
            lease_left: row.entry.lease_left,
            expires_in: row.expires_in,
            result_bytes: row.result_bytes,
            error,
            settled,
            parked,
            resolved,
        }
    }
}

/// All that is known of a key.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct KeyReport {
    /// The key and where it stands.
    pub key: KnownKey,
    /// The recorded steps, in order.
    pub steps: Vec<StepState>,
    /// What people have done about the key, oldest first.
    pub audit: Vec<Audit>,
    /// The task that has the unique claim of this very key; one under another `unique_by` cannot be found here.
    pub claim: Option<Holder>,
    result: Option<Vec<u8>>,
}

impl KeyReport {
    /// Reads the recorded result, or the final error, as a type of the caller's; `None` if there is none.
    ///
    /// The encoding describes itself, so a type that takes whatever comes, as those of serde's formats, can be read too.
    pub fn result<T: DeserializeOwned>(&self) -> Option<Result<T, CodecError>> {
        self.result.as_deref().map(codec::decode)
    }
}

impl<D: Database> Operator<D> {
    /// Takes a store.
    pub fn new(store: Arc<dyn Store<D>>) -> Self {
        Operator { store }
    }

    /// Returns the jobs of all namespaces, and how many keys each has in every state.
    ///
    /// It looks at every record: of a million, that takes the database a second or two.
    ///
    /// # Errors
    ///
    /// The database cannot be reached or refuses.
    pub async fn jobs(&self) -> Result<Vec<JobRow>, StoreError> {
        self.store.jobs().await
    }

    /// Returns keys, in the order of their hashes, which means nothing but is always the same.
    ///
    /// # Errors
    ///
    /// The database cannot be reached or refuses.
    pub async fn keys(&self, query: &KeyQuery) -> Result<Vec<KnownKey>, StoreError> {
        Ok(self.store.keys(&query.filter()).await?.into_iter().map(KnownKey::from).collect())
    }

    /// Returns the unique claims that tasks have, in the order of their hashes; the states of the query mean nothing.
    ///
    /// # Errors
    ///
    /// The database cannot be reached or refuses.
    pub async fn claims(&self, query: &KeyQuery) -> Result<Vec<ClaimRow>, StoreError> {
        self.store.claims(&query.filter()).await
    }

    /// Returns all that is known of a key; `None` if nothing is recorded of it.
    ///
    /// # Errors
    ///
    /// The database cannot be reached or refuses.
    pub async fn explain(&self, key: KeyHash) -> Result<Option<KeyReport>, StoreError> {
        let filter = KeyFilter { key: Some(key), ..ALL_KEYS };
        let (Some(row), Some(entry)) = (self.store.keys(&filter).await?.pop(), self.store.entry(key).await?)
        else {
            return Ok(None);
        };
        let audit = self.store.audit(key).await?;
        let claim = self.store.holder(key).await?;
        let has_result = matches!(entry.state, State::Completed | State::Rejected);
        Ok(Some(KeyReport {
            key: row.into(),
            steps: entry.steps.into_iter().map(|step| StepState::of(key, step)).collect(),
            audit: audit.into_iter().map(Audit::from).collect(),
            claim,
            result: has_result.then_some(entry.payload),
        }))
    }

    /// Returns how much there is beside the records.
    ///
    /// # Errors
    ///
    /// The database cannot be reached or refuses.
    pub async fn volume(&self) -> Result<Volume, StoreError> {
        self.store.volume().await
    }

    /// Ends the wait of a parked key with what a person has found out, and notes `why` in the audit.
    ///
    /// As [`Idem::resolve`], but nobody can check here that the result of a job is of the job's type: a wrong one makes
    /// every replay fail, until the key is forgotten. A wrong one of a step is parked again by the next run. `retain` is how long the result of a job answers.
    ///
    /// # Errors
    ///
    /// [`Stale`](StoreErrorKind::Stale): the key is not parked under this epoch, or, if the resolution
    /// [corrects](Resolution::correcting) another one, a run has begun since.
    pub async fn resolve(
        &self,
        key: KeyHash,
        epoch: Epoch,
        resolution: &Resolution,
        retain: Retain,
        why: &str,
    ) -> Result<(), StoreError> {
        let known = self.known(key, "resolved").await?;
        self.resolve_known(known, epoch, resolution, retain, why).await
    }

    /// The same, of a key that has been looked at.
    pub(crate) async fn resolve_known(
        &self,
        known: Known,
        epoch: Epoch,
        resolution: &Resolution,
        retain: Retain,
        why: &str,
    ) -> Result<(), StoreError> {
        let entry = &known.row.entry;
        let (from, parked, seq) = match troubles(entry) {
            Troubles { parked: Some(_), .. } if entry.epoch != epoch => {
                return Err(known.stale(format!("it is parked under epoch {}, not {epoch}", entry.epoch)));
            }
            Troubles { parked: Some(parked), .. } => {
                let seq = self.place(&known, parked.step.as_deref()).await?;
                (State::Parked, parked, seq)
            }
            Troubles { resolved: Some(_), .. } if resolution.corrects && entry.epoch != epoch => {
                return Err(known.stale(format!("it was resolved under epoch {}, not {epoch}", entry.epoch)));
            }
            Troubles { resolved: Some(parked), seq, .. } if resolution.corrects => {
                (State::Failed, parked, seq)
            }
            Troubles { resolved: Some(_), settled: Some(settled), .. } => {
                return Err(known.stale(format!(
                    "it waits for its next run since it was {settled}; until then `Resolution::correcting` takes the place of that"
                )));
            }
            Troubles { settled: Some(settled), .. } => {
                return Err(known.stale(format!("it waits for its next run since it was {settled}")));
            }
            _ => return Err(known.stale(format!("it is {:?}, not parked", entry.state))),
        };
        let step = parked.step.as_deref();
        let (event, action) = match (&resolution.found, step) {
            (Found::Done(_), None) => (Event::Complete, "done"),
            (Found::Done(_), Some(_)) => (Event::Release, "done"),
            (Found::NotDone, _) => (Event::Release, "rerun"),
        };
        let at = match from {
            State::Failed => {
                record::next(from, Event::Correct).expect("what was said of a failed key is corrected")
            }
            _ => from,
        };
        let state = record::next(at, event).expect("a parked key is completed or released");
        let result = match &resolution.found {
            Found::Done(bytes) => Some(bytes.as_slice()),
            Found::NotDone => None,
        };
        let given = result.map(codec::given);
        let error = parked.error.clone().unwrap_or_else(|| parked.reason.clone());
        let trouble = record::Trouble {
            settled: Some(format!("resolved as {action}: {why}")),
            parked: Some(parked.clone()),
            seq,
            ..record::Trouble::of(error, false)
        };
        let trouble = codec::encode(&trouble).expect("a text can be encoded");
        let resolve = Resolve {
            key: known.row.hash,
            job: self.number(&known).await?,
            epoch,
            from,
            state,
            payload: match (event, result) {
                (Event::Complete, Some(result)) => result,
                _ => &trouble,
            },
            retain,
            step: seq.zip(step).map(|(seq, name)| ResolvedStep { seq, name, result: given.as_deref() }),
            action,
            why,
        };
        known.ended(self.store.resolve(&resolve).await?, epoch, action)
    }

    /// Ends the claim of a run that is known to be dead before its lease passes, and notes `why` in the audit: the key is failed,
    /// and the next run takes it over under the next epoch.
    ///
    /// Recorded steps stay. What was under way when the run died is in doubt, as if the lease had passed. If the run
    /// lives after all, none of its writes is made any more, and it ends with [`LostClaim`](crate::LostClaim); what it does
    /// elsewhere until then happens beside the next run.
    ///
    /// # Errors
    ///
    /// [`Stale`](StoreErrorKind::Stale): no run has the key under this epoch.
    ///
    /// # Example
    ///
    /// ```
    /// use idem_runtime::prelude::*;
    /// use idem_runtime::record::State;
    /// use idem_runtime::{KeyQuery, StoreErrorKind};
    /// use std::convert::Infallible;
    ///
    /// #[idempotent(key = id, in_doubt = rerun)]
    /// async fn export(run: &mut Run<'_, Memory>, id: i64, #[state] dies: &tokio::sync::Notify) -> Result<(), Infallible> {
    ///     Ok(dies.notified().await)
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// let idem = Idem::memory().state(tokio::sync::Notify::new()).build().unwrap();
    /// let operator = idem.operator();
    /// let person = async {
    ///     tokio::task::yield_now().await;
    ///     let running = operator.keys(&KeyQuery::new().states([State::Running])).await.unwrap();
    ///     operator.release(running[0].hash, running[0].epoch, "Ada: its machine is gone").await.unwrap();
    ///     // Nobody does so twice.
    ///     let again = operator.release(running[0].hash, running[0].epoch, "Bo: gone").await.unwrap_err();
    ///     assert_eq!(again.kind(), StoreErrorKind::Stale);
    ///     idem.state().notify_one();
    /// };
    /// let (end, ()) = tokio::join!(export(&idem, 42), person);
    /// assert!(matches!(end, Err(Error::LostClaim(_))));
    /// # }
    /// ```
    pub async fn release(&self, key: KeyHash, epoch: Epoch, why: &str) -> Result<(), StoreError> {
        let known = self.known(key, "released").await?;
        let entry = &known.row.entry;
        let (State::Running | State::Lapsed) = entry.state else {
            return Err(known.stale(format!("it is {:?}, so no run has it", entry.state)));
        };
        if entry.epoch != epoch {
            return Err(known.stale(format!("its epoch is {}, not {epoch}", entry.epoch)));
        }
        let state = record::next(entry.state, Event::Release).expect("a run that has a key may be released");
        let trouble = record::Trouble {
            released: true,
            settled: Some(format!("released: {why}")),
            // A version that does not know `released` has to take it for a doubt.
            ..record::Trouble::of(String::from("its run was ended by a person"), true)
        };
        let payload = codec::encode(&trouble).expect("a text can be encoded");
        let resolve = Resolve {
            key,
            job: self.number(&known).await?,
            epoch,
            from: State::Running,
            state,
            payload: &payload,
            retain: Retain::None,
            step: None,
            action: "release",
            why,
        };
        known.ended(self.store.resolve(&resolve).await?, epoch, "release")
    }

    /// Lets a key count as if nothing had ever run for it, and notes `why` in the audit; see [`Idem::forget`].
    ///
    /// # Errors
    ///
    /// [`Stale`](StoreErrorKind::Stale): a run has the key, nothing is recorded of it, or its epoch is another.
    pub async fn forget(&self, key: KeyHash, epoch: Epoch, why: &str) -> Result<(), StoreError> {
        let known = self.known(key, "forgotten").await?;
        self.forget_known(known, epoch, why).await
    }

    /// The same, of a key that has been looked at.
    pub(crate) async fn forget_known(&self, known: Known, epoch: Epoch, why: &str) -> Result<(), StoreError> {
        let entry = &known.row.entry;
        let state = entry.state;
        if record::next(state, Event::Forget).is_err() {
            return Err(known.stale(
                match state {
                    State::Running => format!(
                        "a run has it; let that run end, or its lease of another {:?} pass and another run take over",
                        entry.lease_left
                    ),
                    State::Lapsed => String::from(
                        "a run has it whose lease is over, and which may still write; run the job again",
                    ),
                    State::Absent | State::Failed | State::Parked | State::Completed | State::Rejected => {
                        String::from("what is recorded of it has expired")
                    }
                },
            ));
        }
        if entry.epoch != epoch {
            return Err(known.stale(format!("its epoch is {}, not {epoch}", entry.epoch)));
        }
        let job = self.number(&known).await?;
        let forget = Forget { key: known.row.hash, job, state, epoch, action: "forget", why };
        known.ended(self.store.forget(&forget).await?, epoch, "forget")
    }

    /// Ends the unique claims of a task that no engine will ever end, and notes `why` in the audit of each claim; returns how many
    /// there were.
    ///
    /// The task stays in its queue, if it is there, and another one may come beside it. A claim for a time stays.
    ///
    /// # Errors
    ///
    /// The database cannot be reached or refuses.
    pub async fn release_task(&self, task: TaskId, why: &str) -> Result<u64, StoreError> {
        let released = self.store.release_claims(task, "release", why).await?;
        info!(%task, released, "released the claims of a task by hand");
        Ok(released)
    }

    /// Deletes the records and the unique claims of every namespace whose time is over, as [`Idem::sweep`] does, in batches with a
    /// pause between them; `progress` is told how many records are gone whenever some more are.
    ///
    /// # Errors
    ///
    /// The database cannot be reached or refuses; what is gone stays gone.
    pub async fn sweep(&self, progress: impl FnMut(u64) + Send) -> Result<Swept, StoreError> {
        cleanup::delete(&self.store, progress).await
    }

    /// Looks at a key that is to be changed.
    async fn known(&self, key: KeyHash, done: &'static str) -> Result<Known, StoreError> {
        let known = Known::look(&*self.store, key, done).await?;
        known.ok_or_else(|| {
            let text = format!(
                "key {key} cannot be {done}: nothing is recorded of it; nothing was changed; look at it again with `Operator::explain`"
            );
            StoreError::new(StoreErrorKind::Stale, text)
        })
    }

    /// Returns the place of the step that is parked, which is on record for as long as it is.
    async fn place(&self, known: &Known, step: Option<&str>) -> Result<Option<u32>, StoreError> {
        let Some(name) = step else { return Ok(None) };
        let entry = self.store.entry(known.row.hash).await?;
        let steps = entry.map(|entry| entry.steps).unwrap_or_default();
        match steps.iter().find(|step| step.name == name) {
            Some(step) => Ok(Some(step.seq)),
            None => Err(known.stale(format!("its step `{name}` is not on record any more"))),
        }
    }

    /// Returns the number of the key's job, which is known: nothing is written.
    async fn number(&self, known: &Known) -> Result<JobId, StoreError> {
        self.store.enrol(&known.row.namespace, &known.row.job).await
    }
}

/// What is known of a key that a person is about to change.
pub(crate) struct Known {
    pub(crate) row: KeyRow,
    /// What the person does, as an error says it.
    done: &'static str,
}

impl Known {
    /// Looks at a key; `None` if nothing is recorded of it.
    pub(crate) async fn look<D: Database>(
        store: &dyn Store<D>,
        key: KeyHash,
        done: &'static str,
    ) -> Result<Option<Known>, StoreError> {
        let filter = KeyFilter { key: Some(key), ..ALL_KEYS };
        Ok(store.keys(&filter).await?.pop().map(|row| Known { row, done }))
    }

    /// The error of a key that is not as the person believes.
    fn stale(&self, what: String) -> StoreError {
        let key = format!("`{}` ({})", self.row.key, self.row.hash);
        stale(&key, &self.row.job, self.done, what)
    }

    fn ended(&self, was_so: bool, epoch: Epoch, action: &str) -> Result<(), StoreError> {
        if !was_so {
            return Err(self.stale(String::from("it has changed in this moment")));
        }
        info!(job = self.row.job, hash = %self.row.hash, %epoch, action, "{} by a person", self.done);
        Ok(())
    }
}

/// The error of a key of a job that is not as the caller believes.
pub(crate) fn stale(key: &str, job: &str, done: &str, what: String) -> StoreError {
    StoreError::new(
        StoreErrorKind::Stale,
        format!(
            "key {key} of job `{job}` cannot be {done}: {what}; nothing was changed; look at it again with `explain`"
        ),
    )
}
