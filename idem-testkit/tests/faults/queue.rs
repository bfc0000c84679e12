//! What the broken stores do wrong with tasks and their unique claims, one mistake each.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use idem_runtime::engine::TaskId;
use idem_runtime::key::{Key, KeyHash, KeyParts};
use idem_runtime::record::{JobId, Latest, Moment};
use idem_runtime::store::{Database, Engine, Holder, OutboxRow, Push, Pushed, TaskRow, UniqueClaim};
use idem_runtime::{StoreError, StoreErrorKind};

use super::{Fault, Good};

faults! {
    /// Enqueues tasks and takes no claim for them.
    TakesNoClaim;
    /// Takes every claim for one that was just taken.
    ForgetsSinceWhen;
    /// Takes a claim by the key of a task that has none.
    ClaimsUnasked;
    /// Does not look whether the task is done.
    EnqueuesTheDone;
    /// Takes a key that anything is recorded of for done.
    TakesEveryRecordForAnOutcome;
    /// Keeps claims for ever that are for a time.
    ClaimsForEver;
    /// Ends no claim, and says that it did.
    ReleasesNothing;
    /// Gives a claim to everybody who acquires it.
    AcquiresForEverybody;
    /// Replaces the task that has the claim, whichever it is.
    ReplacesAnyHolder;
    /// Takes a claim over from the task that has it, whichever it is.
    SupersedesAnyHolder;
    /// Lets every task begin, and ends its claim.
    KeepsNoLatest;
    /// Forgets which task was the last to begin.
    ForgetsWhoBegan;
    /// Lets a task wait again, and gives it no claim.
    WaitsWithoutItsClaim;
    /// Enqueues a task, and takes it out of the outbox afterwards.
    MovesThenDeletes;
    /// Moves a row of the outbox by its number, whatever it has become.
    MovesByNumber;
    /// Takes a task of the outbox for a relay, and lets it be replaced afterwards.
    TakesAndLetsReplace;
    /// Keeps a row of the outbox whose task is held.
    KeepsTheRowsOfDuplicates;
    /// Refuses a claim to the task that has it.
    HoldsClaimsAgainstTheirTasks;
    /// Enqueues on a connection of its own where it was given the caller's.
    PushesOnItsOwn;
    /// Reports a duplicate in the caller's transaction as an error.
    DuplicatesAreErrors;
    /// Looks, enqueues and claims, each by itself.
    LooksThenEnqueues;
    /// Answers a batch from its end.
    AnswersBackwards;
    /// Takes what is shown of a key for the key.
    ClaimsByTheReadableKey;
    /// Sweeps claims without a limit.
    SweepsAllClaims;
    /// Shows tasks before their time has come.
    TasksAreDueAtOnce;
    /// Loses how urgent a task is.
    ForgetsThePriority;
}

/// Pushes tasks that are not as they were given.
async fn push_changed<D: Database>(
    good: &Good<D>,
    connection: Option<&mut D::Connection>,
    engine: Engine,
    tasks: &[Push<'_>],
    change: impl Fn(&mut Push<'_>) + Send + Sync,
) -> Result<Vec<Pushed>, StoreError> {
    let mut tasks = tasks.to_vec();
    tasks.iter_mut().for_each(change);
    good.push(connection, engine, &tasks).await
}

/// Declares faults whose only mistake is what they do to the tasks that are pushed.
macro_rules! changes_tasks {
    ($($name:ident: $change:expr;)+) => {
        $(#[async_trait]
        impl<D: Database> Fault<D> for $name {
            async fn push(
                &self,
                good: &Good<D>,
                connection: Option<&mut D::Connection>,
                engine: Engine,
                tasks: &[Push<'_>],
            ) -> Result<Vec<Pushed>, StoreError> {
                push_changed(good, connection, engine, tasks, $change).await
            }
        })+
    };
}

changes_tasks! {
    TakesNoClaim: |task| task.claim = None;
    ClaimsUnasked: |task| {
        task.claim.get_or_insert(UniqueClaim { key: task.key, lasts: None });
    };
    EnqueuesTheDone: |task| task.records = false;
    ClaimsForEver: |task| {
        if let Some(claim) = &mut task.claim {
            claim.lasts = None;
        }
    };
    KeepsTheRowsOfDuplicates: |task| task.ends_if_held = false;
    TasksAreDueAtOnce: |task| task.after = Duration::ZERO;
}

#[async_trait]
impl<D: Database> Fault<D> for ForgetsSinceWhen {
    async fn push(
        &self,
        good: &Good<D>,
        connection: Option<&mut D::Connection>,
        engine: Engine,
        tasks: &[Push<'_>],
    ) -> Result<Vec<Pushed>, StoreError> {
        let mut answers = good.push(connection, engine, tasks).await?;
        for answer in &mut answers {
            if let Pushed::Held(holder) = answer {
                holder.since = Duration::ZERO;
            }
        }
        Ok(answers)
    }
}

#[async_trait]
impl<D: Database> Fault<D> for TakesEveryRecordForAnOutcome {
    async fn push(
        &self,
        good: &Good<D>,
        connection: Option<&mut D::Connection>,
        engine: Engine,
        tasks: &[Push<'_>],
    ) -> Result<Vec<Pushed>, StoreError> {
        if let [task] = tasks
            && task.records
            && let Some(entry) = good.entry(task.key.hash()).await?
        {
            return Ok(vec![Pushed::Done(entry.fingerprint)]);
        }
        good.push(connection, engine, tasks).await
    }
}

#[async_trait]
impl<D: Database> Fault<D> for ReleasesNothing {
    async fn release(&self, _: &Good<D>, _: TaskId, _: Option<&str>) -> Result<bool, StoreError> {
        Ok(true)
    }
}

#[async_trait]
impl<D: Database> Fault<D> for AcquiresForEverybody {
    async fn acquire(
        &self,
        good: &Good<D>,
        job: JobId,
        claim: &UniqueClaim<'_>,
        task: TaskId,
        worker: Option<&str>,
    ) -> Result<Option<Holder>, StoreError> {
        let holder = good.acquire(job, claim, task, worker).await?;
        Ok(holder.map(|holder| Holder { task, ..holder }))
    }
}

/// Returns the task that has the claim of another one.
async fn any_holder<D: Database>(
    good: &Good<D>,
    task: &Push<'_>,
    named: TaskId,
) -> Result<TaskId, StoreError> {
    let Some(claim) = task.claim else { return Ok(named) };
    Ok(good.holder(claim.key.hash()).await?.map_or(named, |holder| holder.task))
}

#[async_trait]
impl<D: Database> Fault<D> for ReplacesAnyHolder {
    async fn replace(
        &self,
        good: &Good<D>,
        connection: Option<&mut D::Connection>,
        engine: Engine,
        task: &Push<'_>,
        holder: TaskId,
    ) -> Result<bool, StoreError> {
        let holder = any_holder(good, task, holder).await?;
        good.replace(connection, engine, task, holder).await
    }
}

#[async_trait]
impl<D: Database> Fault<D> for SupersedesAnyHolder {
    async fn supersede(
        &self,
        good: &Good<D>,
        connection: Option<&mut D::Connection>,
        engine: Engine,
        task: &Push<'_>,
        holder: TaskId,
    ) -> Result<bool, StoreError> {
        let holder = any_holder(good, task, holder).await?;
        good.supersede(connection, engine, task, holder).await
    }
}

#[async_trait]
impl<D: Database> Fault<D> for KeepsNoLatest {
    async fn keep_latest(
        &self,
        good: &Good<D>,
        moment: Moment,
        _: &Key,
        task: TaskId,
        worker: Option<&str>,
    ) -> Result<Latest, StoreError> {
        if moment == Moment::Begins {
            good.release(task, worker).await?;
        }
        Ok(Latest::Goes)
    }
}

#[async_trait]
impl<D: Database> Fault<D> for ForgetsWhoBegan {
    async fn keep_latest(
        &self,
        good: &Good<D>,
        moment: Moment,
        claim: &Key,
        task: TaskId,
        worker: Option<&str>,
    ) -> Result<Latest, StoreError> {
        let latest = good.keep_latest(moment, claim, task, worker).await?;
        if moment == Moment::Begins && latest == Latest::Goes {
            good.release(task, None).await?;
        }
        Ok(latest)
    }
}

#[async_trait]
impl<D: Database> Fault<D> for WaitsWithoutItsClaim {
    async fn keep_latest(
        &self,
        good: &Good<D>,
        moment: Moment,
        claim: &Key,
        task: TaskId,
        worker: Option<&str>,
    ) -> Result<Latest, StoreError> {
        match moment {
            Moment::Begins => good.keep_latest(moment, claim, task, worker).await,
            Moment::Waits => Ok(Latest::Goes),
        }
    }
}

#[async_trait]
impl<D: Database> Fault<D> for MovesThenDeletes {
    async fn push(
        &self,
        good: &Good<D>,
        connection: Option<&mut D::Connection>,
        engine: Engine,
        tasks: &[Push<'_>],
    ) -> Result<Vec<Pushed>, StoreError> {
        let answers = push_changed(good, connection, engine, tasks, |task| task.outbox = None).await?;
        for number in tasks.iter().filter_map(|task| task.outbox).map(|row| row.number) {
            good.delete_task(number).await?;
        }
        Ok(answers)
    }
}

#[async_trait]
impl<D: Database> Fault<D> for MovesByNumber {
    async fn push(
        &self,
        good: &Good<D>,
        connection: Option<&mut D::Connection>,
        engine: Engine,
        tasks: &[Push<'_>],
    ) -> Result<Vec<Pushed>, StoreError> {
        let [task @ Push { outbox: Some(read), .. }] = tasks else {
            return good.push(connection, engine, tasks).await;
        };
        let rows = good.tasks(task.namespace, i64::MIN, 1000).await?;
        let row = rows.iter().find(|row| row.number == read.number);
        let payload = row.map_or(read.payload, |row| &row.task.payload);
        let now = OutboxRow { payload, ..*read };
        good.push(connection, engine, &[Push { outbox: Some(now), ..*task }]).await
    }
}

#[async_trait]
impl<D: Database> Fault<D> for TakesAndLetsReplace {
    async fn take_task(
        &self,
        good: &Good<D>,
        namespace: &str,
        number: i64,
    ) -> Result<Option<TaskRow>, StoreError> {
        let rows = good.tasks(namespace, number - 1, 1).await?;
        Ok(rows.into_iter().find(|row| row.number == number))
    }
}

#[async_trait]
impl<D: Database> Fault<D> for HoldsClaimsAgainstTheirTasks {
    async fn push(
        &self,
        good: &Good<D>,
        connection: Option<&mut D::Connection>,
        engine: Engine,
        tasks: &[Push<'_>],
    ) -> Result<Vec<Pushed>, StoreError> {
        if let [Push { id, claim: Some(claim), .. }] = tasks
            && let Some(holder) = good.holder(claim.key.hash()).await?
            && holder.task == *id
        {
            return Ok(vec![Pushed::Held(holder)]);
        }
        good.push(connection, engine, tasks).await
    }
}

#[async_trait]
impl<D: Database> Fault<D> for PushesOnItsOwn {
    async fn push(
        &self,
        good: &Good<D>,
        _: Option<&mut D::Connection>,
        engine: Engine,
        tasks: &[Push<'_>],
    ) -> Result<Vec<Pushed>, StoreError> {
        good.push(None, engine, tasks).await
    }
}

#[async_trait]
impl<D: Database> Fault<D> for DuplicatesAreErrors {
    async fn push(
        &self,
        good: &Good<D>,
        connection: Option<&mut D::Connection>,
        engine: Engine,
        tasks: &[Push<'_>],
    ) -> Result<Vec<Pushed>, StoreError> {
        let is_callers = connection.is_some();
        let answers = good.push(connection, engine, tasks).await?;
        match answers.iter().any(|answer| matches!(answer, Pushed::Held(_))) && is_callers {
            true => Err(StoreError::new(StoreErrorKind::Conflict, "duplicate key")),
            false => Ok(answers),
        }
    }
}

#[async_trait]
impl<D: Database> Fault<D> for LooksThenEnqueues {
    async fn push(
        &self,
        good: &Good<D>,
        connection: Option<&mut D::Connection>,
        engine: Engine,
        tasks: &[Push<'_>],
    ) -> Result<Vec<Pushed>, StoreError> {
        let [Push { id, job, claim: Some(claim), .. }] = tasks else {
            return good.push(connection, engine, tasks).await;
        };
        if let Some(holder) = good.holder(claim.key.hash()).await? {
            return Ok(vec![Pushed::Held(holder)]);
        }
        tokio::task::yield_now().await;
        let answers = push_changed(good, connection, engine, tasks, |task| task.claim = None).await?;
        super::linger().await;
        good.acquire(*job, claim, *id, None).await?;
        Ok(answers)
    }
}

#[async_trait]
impl<D: Database> Fault<D> for AnswersBackwards {
    async fn push(
        &self,
        good: &Good<D>,
        connection: Option<&mut D::Connection>,
        engine: Engine,
        tasks: &[Push<'_>],
    ) -> Result<Vec<Pushed>, StoreError> {
        let mut answers = good.push(connection, engine, tasks).await?;
        answers.reverse();
        Ok(answers)
    }
}

#[async_trait]
impl<D: Database> Fault<D> for ClaimsByTheReadableKey {
    async fn push(
        &self,
        good: &Good<D>,
        connection: Option<&mut D::Connection>,
        engine: Engine,
        tasks: &[Push<'_>],
    ) -> Result<Vec<Pushed>, StoreError> {
        let keys: Vec<Key> = tasks
            .iter()
            .map(|task| Key::new("", "", &KeyParts::of(task.key.readable()).expect("a key is not blank")))
            .collect();
        let claimed: Vec<Push<'_>> = tasks
            .iter()
            .zip(&keys)
            .map(|(task, key)| Push { claim: task.claim.map(|claim| UniqueClaim { key, ..claim }), ..*task })
            .collect();
        good.push(connection, engine, &claimed).await
    }
}

#[async_trait]
impl<D: Database> Fault<D> for SweepsAllClaims {
    async fn sweep_claims(&self, good: &Good<D>, _: u32) -> Result<u64, StoreError> {
        good.sweep_claims(u32::MAX).await
    }
}

/// Locks the claims of a batch in the order in which they come.
#[derive(Default)]
pub(crate) struct LocksInGivenOrder {
    locks: Mutex<HashMap<KeyHash, Arc<tokio::sync::Mutex<()>>>>,
}

impl LocksInGivenOrder {
    fn lock(&self, claim: KeyHash) -> Arc<tokio::sync::Mutex<()>> {
        let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(locks.entry(claim).or_default())
    }
}

#[async_trait]
impl<D: Database> Fault<D> for LocksInGivenOrder {
    async fn push(
        &self,
        good: &Good<D>,
        connection: Option<&mut D::Connection>,
        engine: Engine,
        tasks: &[Push<'_>],
    ) -> Result<Vec<Pushed>, StoreError> {
        let mut turns = Vec::new();
        let mut locked = HashSet::new();
        for claim in tasks.iter().filter_map(|task| task.claim).map(|claim| claim.key.hash()) {
            if locked.insert(claim) {
                let lock = self.lock(claim);
                turns.push(lock.lock_owned().await);
                tokio::task::yield_now().await;
            }
        }
        good.push(connection, engine, tasks).await
    }
}

#[async_trait]
impl<D: Database> Fault<D> for ForgetsThePriority {
    async fn tasks(
        &self,
        good: &Good<D>,
        namespace: &str,
        after: i64,
        limit: u32,
    ) -> Result<Vec<TaskRow>, StoreError> {
        let mut rows = good.tasks(namespace, after, limit).await?;
        rows.iter_mut().for_each(|row| row.priority = 0);
        Ok(rows)
    }
}
