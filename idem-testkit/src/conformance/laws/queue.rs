//! Tasks on their way to a worker, and the unique claims that admit them.

use std::sync::Arc;
use std::time::Duration;

use idem_runtime::engine::TaskId;
use idem_runtime::fingerprint::Fingerprint;
use idem_runtime::job::Retain;
use idem_runtime::key::{Key, KeyParts};
use idem_runtime::record::{JobId, Latest, Moment, NewRecord, Outcome as Ended};
use idem_runtime::store::{
    Change, Claim, Committed, Database, Engine, Holder, NewTask, OutboxRow, Push, Pushed, Store, StoreTx,
    TaskRow, UniqueClaim,
};
use tokio::sync::Barrier;
use tokio::task::{JoinHandle, JoinSet};

use super::lease::{change, claim_first};
use super::{Outcome, law};
use crate::conformance::BoxError;
use crate::conformance::suite::Law;
use crate::conformance::trial::{RETAINED, Trial, begin, drop_after, ensure, ensure_eq, record, unlocked};

pub(super) fn laws<D: Database>() -> Vec<Law<D>> {
    vec![
        law!(
            a_first_push_has_the_claim,
            "A task whose claim is free is enqueued with all that it names, and has the claim."
        ),
        law!(
            a_second_push_is_told_the_holder,
            "A task whose claim another one has is told which and for how long, and leaves nothing."
        ),
        law!(
            without_a_claim_every_task_is_enqueued,
            "Tasks without a claim are enqueued, whatever their keys."
        ),
        law!(
            a_done_task_is_not_enqueued,
            "A task whose key is completed or rejected is told the recorded fingerprint, and leaves nothing; one that \
             records do not concern is enqueued."
        ),
        law!(
            a_task_without_an_outcome_is_enqueued,
            "A task whose record has expired, or is of a run that has no outcome, is enqueued."
        ),
        law!(
            a_claim_for_a_time_ends_with_it,
            "A claim for a time is held until that has passed by the store's clock, and is free to any task then."
        ),
        law!(
            a_claim_ends_by_its_task_alone,
            "A claim is released by its task and no other one, once, and is free to any task then."
        ),
        law!(a_claim_for_a_time_is_not_released, "A claim for a time outlasts its task."),
        law!(
            a_claim_is_acquired_by_one_task,
            "A task acquires a claim that is free, or that it has; any other is told who has it."
        ),
        law!(
            a_task_that_waits_is_replaced_in_its_place,
            "A task that has the claim and waits gets another's arguments, and keeps its id and place; one that has no \
             claim, or waits no more, stays as it was."
        ),
        law!(
            a_claim_is_handed_over_by_its_holder_alone,
            "A claim goes over to a task that is enqueued with it only if the one that is named has it."
        ),
        law!(
            a_task_that_was_taken_before_a_newer_one_came_does_not_begin,
            "Of a job that only keeps the latest a task whose claim was handed over does not begin, even when the newer one \
             has ended."
        ),
        law!(
            a_task_begins_again_until_a_newer_one_has_begun,
            "Of a job that only keeps the latest a task begins as often as it comes, until a newer one has begun."
        ),
        law!(
            a_task_that_waits_again_has_its_claim_unless_a_newer_one_waits,
            "Of a job that only keeps the latest a task that is to wait again has its claim again; a newer one that waits \
             supersedes it."
        ),
        law!(
            a_task_that_begins_and_a_newer_one_that_comes_take_turns,
            "Of a job that only keeps the latest a task whose claim is handed over as it begins either has begun or does not."
        ),
        law!(
            a_row_of_the_outbox_is_moved_once,
            "Of two relays that take one row of the outbox at once one enqueues its task, and the other finds it gone."
        ),
        law!(
            a_row_of_the_outbox_that_has_changed_is_not_moved,
            "A row of the outbox whose task has got other arguments since a relay has read it is not there for that relay."
        ),
        law!(
            a_task_that_a_relay_has_taken_is_not_replaced,
            "A relay that takes a task of the outbox is told the arguments that it has by then, and nobody replaces them \
             any more; it stays, and is taken again, until it is deleted."
        ),
        law!(
            a_row_of_the_outbox_ends_with_its_task,
            "A row of the outbox ends if its task is done, or held where it is to end so, and stays otherwise."
        ),
        law!(a_claim_that_the_task_has_is_free_to_it, "A task is enqueued with a claim that it has already."),
        law!(
            a_push_rolled_back_leaves_nothing,
            "A push in the caller's transaction leaves task and claim if that commits, and neither if not.",
            needs TasksInTransactions
        ),
        law!(
            a_duplicate_leaves_the_transaction_usable,
            "After a duplicate the caller's transaction goes on and commits all that is the caller's.",
            needs TasksInTransactions
        ),
        law!(
            of_pushes_at_once_one_has_the_claim,
            "Of many pushes with one claim at once exactly one is enqueued, and all others name it."
        ),
        law!(
            a_push_is_held_once_the_one_before_commits,
            "A push that meets one that is not committed waits, and is told of it when it commits.",
            needs ConcurrentTransactions TasksInTransactions
        ),
        law!(
            a_push_goes_on_once_the_one_before_is_undone,
            "A push that meets one that is not committed waits, and is enqueued when that is rolled back.",
            needs ConcurrentTransactions TasksInTransactions
        ),
        law!(
            a_claim_that_a_caller_was_told_of_stays_until_that_commits,
            "A claim that a caller was told of in a transaction, and that is to be kept, does not end before the transaction.",
            needs ConcurrentTransactions TasksInTransactions
        ),
        law!(
            each_task_of_a_batch_has_its_own_answer,
            "Tasks pushed together are answered in their order, each as if it came alone behind those before it."
        ),
        law!(
            overlapping_batches_all_come_to_their_end,
            "Batches at once with the same claims in any order are all answered, and each claim has one task."
        ),
        law!(
            claims_of_different_jobs_do_not_meet,
            "Two jobs, or two namespaces, with the same key do not share a claim."
        ),
        law!(
            a_sweep_of_claims_spares_the_live,
            "A sweep of claims deletes those that have expired, no more than it was told to, and no others."
        ),
        law!(
            a_task_comes_out_of_the_outbox_as_it_went_in,
            "A task in the outbox shows once its time has come, with id, priority, attempts and the claim that it has yet \
             to take."
        ),
        law!(
            a_push_dropped_anywhere_is_whole_or_none,
            "A push that is dropped at any point leaves task and claim, or neither."
        ),
        law!(
            a_push_dropped_in_a_callers_transaction_is_whole_or_none,
            "A push that is dropped at any point in a transaction that commits leaves task and claim, or neither, and all \
             that is the caller's.",
            needs TasksInTransactions
        ),
    ]
}

/// How long the claims for a time last: much longer than any law takes.
const WINDOW: Duration = Duration::from_secs(600);

const LATER: Duration = Duration::from_secs(60);

/// A task of the suite, with a claim by its key.
pub(super) fn task<'a>(namespace: &'a str, id: TaskId, key: &'a Key) -> Push<'a> {
    Push {
        id,
        namespace,
        name: "law",
        queue: "law",
        job: JobId(1),
        key,
        records: true,
        payload: b"payload",
        claim: Some(UniqueClaim { key, lasts: None }),
        unclaimed: None,
        after: Duration::ZERO,
        priority: 0,
        attempts: 25,
        outbox: None,
        ends_if_held: false,
        holds_back: false,
    }
}

impl<D: Database> Trial<D> {
    fn task<'a>(&'a self, id: TaskId, key: &'a Key) -> Push<'a> {
        task(self.namespace(), id, key)
    }

    /// Pushes a task on the first handle.
    async fn push(&self, task: Push<'_>) -> Result<Pushed, BoxError> {
        push_on(&*self.one, task).await
    }

    /// Pushes a task on the second handle.
    async fn push_two(&self, task: Push<'_>) -> Result<Pushed, BoxError> {
        push_on(&*self.two, task).await
    }

    /// Returns the tasks in the outbox that are due, as the second handle sees them.
    async fn outbox(&self) -> Result<Vec<TaskRow>, BoxError> {
        Ok(self.two.tasks(self.namespace(), i64::MIN, 1000).await?)
    }

    /// Checks which tasks are in the outbox, in their order.
    async fn ensure_outbox(&self, expected: &[TaskId]) -> Result<(), BoxError> {
        let ids: Vec<Option<TaskId>> = self.outbox().await?.into_iter().map(|row| row.id).collect();
        let expected: Vec<Option<TaskId>> = expected.iter().copied().map(Some).collect();
        ensure_eq!(ids, expected, "the outbox has");
        Ok(())
    }

    /// Checks which task has a claim, on both handles.
    async fn ensure_holder(&self, claim: &Key, expected: Option<TaskId>) -> Result<(), BoxError> {
        for store in [&self.one, &self.two] {
            let holder = store.holder(claim.hash()).await?.map(|holder| holder.task);
            ensure_eq!(holder, expected, "the claim is held by");
        }
        Ok(())
    }

    /// Opens a transaction of a caller's.
    async fn callers(&self, key: &Key) -> Result<Box<dyn StoreTx<D>>, BoxError> {
        let claim = Claim { records: false, undo: false, wait: Duration::ZERO, ..unlocked(key) };
        Ok(begin(&self.one, claim).await?.0)
    }

    /// Puts a task into the outbox as a job does that settles, and returns the number of its row.
    async fn enqueue_by_job(&self, name: &str) -> Result<i64, BoxError> {
        let key = self.key(&format!("{name} enqueues"));
        let hold = claim_first(self, &key, 1).await?;
        let new = NewTask {
            namespace: self.namespace().to_owned(),
            id: self.key(name).hash(),
            job: String::from("law"),
            key: name.to_owned(),
            payload: ENQUEUED.to_vec(),
        };
        let tasks = [new];
        let settle = Change::Settle {
            outcome: Ended::Completed,
            result: b"",
            retain: Retain::For(RETAINED),
            tasks: &tasks,
        };
        change(self, &hold, &settle).await?;
        let rows = self.outbox().await?;
        let row =
            rows.iter().rfind(|row| row.id.is_none()).ok_or("a task that a job enqueued is not there")?;
        Ok(row.number)
    }
}

/// What a task has to say that a job enqueues.
const ENQUEUED: &[u8] = b"enqueued";

/// The row of such a task.
fn enqueued(number: i64) -> OutboxRow<'static> {
    OutboxRow { number, payload: ENQUEUED }
}

async fn push_on<D: Database>(store: &dyn Store<D>, task: Push<'_>) -> Result<Pushed, BoxError> {
    let mut answers = store.push(None, Engine::Outbox, &[task]).await?;
    ensure_eq!(answers.len(), 1, "the number of answers to one task is");
    Ok(answers.remove(0))
}

/// Checks that a task is held by another one.
fn ensure_held(pushed: &Pushed, by: TaskId) -> Result<Holder, BoxError> {
    match pushed {
        Pushed::Held(holder) if holder.task == by => Ok(*holder),
        other => Err(format!("a task whose claim {by} has was answered with {other:?}").into()),
    }
}

async fn a_first_push_has_the_claim<D: Database>(trial: Trial<D>) -> Outcome {
    let (key, id) = (trial.key("it's a key"), TaskId::new()?);
    let payload = [0, 255, b'\'', b'\\'];
    ensure_eq!(trial.push(Push { payload: &payload, ..trial.task(id, &key) }).await?, Pushed::New, "it was");
    trial.ensure_holder(&key, Some(id)).await?;
    let rows = trial.outbox().await?;
    let expected = NewTask {
        namespace: trial.namespace().to_owned(),
        id: key.hash(),
        job: String::from("law"),
        key: key.readable().to_owned(),
        payload: payload.to_vec(),
    };
    ensure_eq!(rows.iter().map(|row| &row.task).collect::<Vec<_>>(), vec![&expected], "the outbox has");
    ensure_eq!(rows[0].id, Some(id), "its id is");
    ensure_eq!(trial.one.holder(key.hash()).await?.map(|holder| holder.left), Some(None), "it lasts");
    Ok(())
}

async fn a_second_push_is_told_the_holder<D: Database>(trial: Trial<D>) -> Outcome {
    let (key, first, second) = (trial.key("k"), TaskId::new()?, TaskId::new()?);
    ensure_eq!(trial.push(trial.task(first, &key)).await?, Pushed::New, "the first was");
    trial.fixture.let_pass(LATER).await?;
    for _ in 0..2 {
        let holder = ensure_held(&trial.push_two(trial.task(second, &key)).await?, first)?;
        ensure!(
            holder.since >= LATER && holder.since < LATER * 2,
            "a claim of {LATER:?} ago has been held for {:?}",
            holder.since
        );
        ensure_eq!(holder.left, None, "a claim that is not for a time lasts for another");
    }
    trial.ensure_outbox(&[first]).await?;
    ensure!(!trial.one.release(second, None).await?, "a task that was not enqueued had a claim");
    trial.ensure_holder(&key, Some(first)).await
}

async fn without_a_claim_every_task_is_enqueued<D: Database>(trial: Trial<D>) -> Outcome {
    let (key, first, second) = (trial.key("k"), TaskId::new()?, TaskId::new()?);
    for id in [first, second] {
        let unclaimed = Push { claim: None, ..trial.task(id, &key) };
        ensure_eq!(trial.push(unclaimed).await?, Pushed::New, "a task without a claim was");
    }
    trial.ensure_outbox(&[first, second]).await?;
    trial.ensure_holder(&key, None).await
}

async fn a_done_task_is_not_enqueued<D: Database>(trial: Trial<D>) -> Outcome {
    let mut enqueued = Vec::new();
    for (number, outcome) in [Ended::Completed, Ended::Rejected].into_iter().enumerate() {
        let key = trial.key(&format!("k{number}"));
        let (tx, _) = trial.begin(&key).await?;
        let recorded = tx.commit(Some(&NewRecord { outcome, ..record(&key, b"r") })).await?;
        ensure_eq!(recorded, Committed::Yes, "recording ended with");
        let pushed = trial.push_two(trial.task(TaskId::new()?, &key)).await?;
        ensure_eq!(pushed, Pushed::Done(Fingerprint::from_bits(42)), "a task that is {outcome:?} was");
        trial.ensure_holder(&key, None).await?;
        trial.ensure_outbox(&enqueued).await?;
        let id = TaskId::new()?;
        let pushed = trial.push(Push { records: false, ..trial.task(id, &key) }).await?;
        ensure_eq!(pushed, Pushed::New, "a task that records do not concern was");
        enqueued.push(id);
    }
    Ok(())
}

async fn a_task_without_an_outcome_is_enqueued<D: Database>(trial: Trial<D>) -> Outcome {
    let expired = trial.key("expired");
    trial.complete(&expired, "e", b"r").await?;
    trial.fixture.let_pass(RETAINED * 2).await?;
    let (running, failed) = (trial.key("running"), trial.key("failed"));
    claim_first(&trial, &running, 1).await?;
    let hold = claim_first(&trial, &failed, 2).await?;
    change(&trial, &hold, &Change::Fail { trouble: b"t" }).await?;
    for key in [expired, running, failed] {
        let pushed = trial.push_two(trial.task(TaskId::new()?, &key)).await?;
        ensure_eq!(pushed, Pushed::New, "a task `{}` was", key.readable());
    }
    Ok(())
}

async fn a_claim_for_a_time_ends_with_it<D: Database>(trial: Trial<D>) -> Outcome {
    let (key, first, second) = (trial.key("k"), TaskId::new()?, TaskId::new()?);
    let window =
        |id| Push { claim: Some(UniqueClaim { key: &key, lasts: Some(WINDOW) }), ..trial.task(id, &key) };
    ensure_eq!(trial.push(window(first)).await?, Pushed::New, "the first was");
    trial.fixture.let_pass(WINDOW / 2).await?;
    let holder = ensure_held(&trial.push_two(window(second)).await?, first)?;
    let left = holder.left.unwrap_or_default();
    ensure!(left > Duration::ZERO && left <= WINDOW / 2, "half of {WINDOW:?} later {left:?} are left");
    trial.fixture.let_pass(WINDOW).await?;
    trial.ensure_holder(&key, None).await?;
    ensure_eq!(trial.push_two(window(second)).await?, Pushed::New, "when its time was over the next was");
    trial.ensure_holder(&key, Some(second)).await?;
    ensure_held(&trial.push(window(first)).await?, second)?;
    let since = trial.one.holder(key.hash()).await?.map(|holder| holder.since).unwrap_or(WINDOW);
    ensure!(since < WINDOW / 2, "a claim that was just taken has been held for {since:?}");
    Ok(())
}

async fn a_claim_ends_by_its_task_alone<D: Database>(trial: Trial<D>) -> Outcome {
    let (key, other) = (trial.key("k"), trial.key("other"));
    let [first, second, third] = [TaskId::new()?, TaskId::new()?, TaskId::new()?];
    ensure_eq!(trial.push(trial.task(first, &key)).await?, Pushed::New, "the first was");
    ensure_eq!(trial.push(trial.task(second, &other)).await?, Pushed::New, "one of another key was");
    ensure!(!trial.two.release(third, None).await?, "a task without a claim has released one");
    ensure!(trial.two.release(second, None).await?, "a claim was not released by its task");
    trial.ensure_holder(&key, Some(first)).await?;
    ensure!(trial.two.release(first, None).await?, "a claim was not released by its task");
    ensure!(!trial.one.release(first, None).await?, "a claim was released twice");
    trial.ensure_holder(&key, None).await?;
    ensure_eq!(trial.push_two(trial.task(third, &key)).await?, Pushed::New, "the next was");
    trial.ensure_holder(&key, Some(third)).await
}

async fn a_claim_for_a_time_is_not_released<D: Database>(trial: Trial<D>) -> Outcome {
    let (key, id) = (trial.key("k"), TaskId::new()?);
    let claim = Some(UniqueClaim { key: &key, lasts: Some(WINDOW) });
    ensure_eq!(trial.push(Push { claim, ..trial.task(id, &key) }).await?, Pushed::New, "the first was");
    ensure!(!trial.two.release(id, None).await?, "a claim for a time was released");
    trial.ensure_holder(&key, Some(id)).await
}

async fn a_claim_is_acquired_by_one_task<D: Database>(trial: Trial<D>) -> Outcome {
    let (key, first, second) = (trial.key("k"), TaskId::new()?, TaskId::new()?);
    let claim = UniqueClaim { key: &key, lasts: None };
    for _ in 0..2 {
        ensure_eq!(
            trial.one.acquire(JobId(1), &claim, first, None).await?.map(|holder| holder.task),
            Some(first),
            "a free claim is had by"
        );
    }
    ensure_eq!(
        trial.two.acquire(JobId(1), &claim, second, None).await?.map(|holder| holder.task),
        Some(first),
        "a held claim is had by"
    );
    trial.ensure_holder(&key, Some(first)).await?;
    ensure_held(&trial.push_two(trial.task(second, &key)).await?, first)?;
    trial.one.release(first, None).await?;
    ensure_eq!(
        trial.two.acquire(JobId(1), &claim, second, None).await?.map(|holder| holder.task),
        Some(second),
        "it is then had by"
    );
    // One whose time is over is free.
    let window = trial.key("window");
    let claim = UniqueClaim { key: &window, lasts: Some(WINDOW) };
    trial.one.acquire(JobId(1), &claim, first, None).await?;
    trial.fixture.let_pass(WINDOW * 2).await?;
    ensure_eq!(
        trial.two.acquire(JobId(1), &claim, second, None).await?.map(|holder| holder.task),
        Some(second),
        "an expired claim is had by"
    );
    trial.ensure_holder(&window, Some(second)).await
}

async fn a_task_that_waits_is_replaced_in_its_place<D: Database>(trial: Trial<D>) -> Outcome {
    let [key, one, other] = ["k", "one", "other"].map(|name| trial.key(name));
    let [first, second, third] = [TaskId::new()?, TaskId::new()?, TaskId::new()?];
    let claim = Some(UniqueClaim { key: &key, lasts: None });
    ensure_eq!(trial.push(Push { claim, ..trial.task(first, &one) }).await?, Pushed::New, "the first was");
    let unclaimed = Push { claim: None, ..trial.task(third, &one) };
    ensure_eq!(trial.push(unclaimed).await?, Pushed::New, "one without a claim was");
    let before = trial.outbox().await?;
    let new = Push { claim, payload: b"new", ..trial.task(second, &other) };
    for wrong in [second, third] {
        ensure!(
            !trial.two.replace(None, Engine::Outbox, &new, wrong).await?,
            "a task was replaced that has no claim"
        );
    }
    ensure_eq!(trial.outbox().await?, before, "the outbox has");
    ensure!(trial.two.replace(None, Engine::Outbox, &new, first).await?, "the task was not replaced");
    // It may be said again.
    ensure!(trial.two.replace(None, Engine::Outbox, &new, first).await?, "it was not replaced by the same");
    let rows = trial.outbox().await?;
    let mut expected = before.clone();
    let replaced = &mut expected[0].task;
    (replaced.id, replaced.key) = (other.hash(), other.readable().to_owned());
    replaced.payload = b"new".to_vec();
    ensure_eq!(rows, expected, "the outbox has");
    trial.ensure_holder(&key, Some(first)).await?;
    // A worker has it.
    trial.one.delete_task(rows[0].number).await?;
    ensure!(
        !trial.two.replace(None, Engine::Outbox, &new, first).await?,
        "a task was replaced that waits no more"
    );
    trial.ensure_outbox(&[third]).await
}

async fn a_claim_is_handed_over_by_its_holder_alone<D: Database>(trial: Trial<D>) -> Outcome {
    let (key, [first, second, third]) = (trial.key("k"), [TaskId::new()?, TaskId::new()?, TaskId::new()?]);
    ensure_eq!(trial.push(trial.task(first, &key)).await?, Pushed::New, "the first was");
    trial.fixture.let_pass(LATER).await?;
    let handed = trial.two.supersede(None, Engine::Outbox, &trial.task(second, &key), third).await?;
    ensure!(!handed, "a claim was handed over by a task that does not have it");
    trial.ensure_outbox(&[first]).await?;
    trial.ensure_holder(&key, Some(first)).await?;
    let handed = trial.two.supersede(None, Engine::Outbox, &trial.task(second, &key), first).await?;
    ensure!(handed, "a claim was not handed over");
    trial.ensure_holder(&key, Some(second)).await?;
    trial.ensure_outbox(&[first, second]).await?;
    let since = trial.one.holder(key.hash()).await?.map(|holder| holder.since).unwrap_or(LATER);
    ensure!(since < LATER, "a claim that was just handed over has been held for {since:?}");
    let handed = trial.one.supersede(None, Engine::Outbox, &trial.task(third, &key), first).await?;
    ensure!(!handed, "a claim was handed over twice");
    trial.ensure_outbox(&[first, second]).await?;
    trial.one.release(first, None).await?;
    trial.ensure_holder(&key, Some(second)).await?;
    // A claim for a time goes on to its end.
    let (key, [first, second]) = (trial.key("for a time"), [TaskId::new()?, TaskId::new()?]);
    let claim = UniqueClaim { key: &key, lasts: Some(WINDOW) };
    let windowed = |id| Push { claim: Some(claim), ..trial.task(id, &key) };
    ensure_eq!(trial.push(windowed(first)).await?, Pushed::New, "one with a claim for a time was");
    trial.fixture.let_pass(LATER).await?;
    let handed = trial.two.supersede(None, Engine::Outbox, &windowed(second), first).await?;
    ensure!(handed, "a claim for a time was not handed over");
    let left = trial.one.holder(key.hash()).await?.and_then(|holder| holder.left).unwrap_or(WINDOW);
    ensure!(
        left <= WINDOW - LATER,
        "a claim for {WINDOW:?} that was handed over after {LATER:?} has {left:?} left"
    );
    Ok(())
}

async fn a_task_that_was_taken_before_a_newer_one_came_does_not_begin<D: Database>(
    trial: Trial<D>,
) -> Outcome {
    let (key, [old, new, newest]) = (trial.key("k"), [TaskId::new()?, TaskId::new()?, TaskId::new()?]);
    ensure_eq!(trial.push(trial.task(old, &key)).await?, Pushed::New, "the first was");
    let handed = trial.two.supersede(None, Engine::Outbox, &trial.task(new, &key), old).await?;
    ensure!(handed, "a claim was not handed over");
    let begin = |task| trial.two.keep_latest(Moment::Begins, &key, task, None);
    ensure_eq!(
        begin(old).await?,
        Latest::Superseded(Some(new)),
        "with a newer one waiting the older one was told"
    );
    trial.ensure_holder(&key, Some(new)).await?;
    ensure_eq!(begin(new).await?, Latest::Goes, "the newer one was told");
    trial.ensure_holder(&key, None).await?;
    ensure_eq!(
        begin(old).await?,
        Latest::Superseded(Some(new)),
        "with a newer one running the older one was told"
    );
    ensure!(trial.one.release(new, None).await?, "nothing was kept of a task that runs");
    ensure_eq!(begin(old).await?, Latest::Superseded(None), "after a newer one the older one was told");
    // What is said of one claim is said of no other.
    let other = trial.key("other");
    ensure_eq!(trial.push(trial.task(newest, &other)).await?, Pushed::New, "one with another claim was");
    ensure_eq!(
        trial.two.keep_latest(Moment::Begins, &other, newest, None).await?,
        Latest::Goes,
        "of another claim a task was told"
    );
    ensure!(trial.one.release(old, None).await?, "nothing was kept of a superseded task");
    ensure!(!trial.one.release(old, None).await?, "more was kept of a superseded task than one row");
    Ok(())
}

async fn a_task_begins_again_until_a_newer_one_has_begun<D: Database>(trial: Trial<D>) -> Outcome {
    let (key, [old, new]) = (trial.key("k"), [TaskId::new()?, TaskId::new()?]);
    let begin = |task| trial.two.keep_latest(Moment::Begins, &key, task, None);
    ensure_eq!(trial.push(trial.task(old, &key)).await?, Pushed::New, "the first was");
    for time in ["the first time", "the second time"] {
        ensure_eq!(begin(old).await?, Latest::Goes, "{time} the task was told");
        trial.ensure_holder(&key, None).await?;
    }
    ensure_eq!(
        trial.push(trial.task(new, &key)).await?,
        Pushed::New,
        "behind one that has begun another was"
    );
    ensure_eq!(begin(old).await?, Latest::Goes, "before the newer one has begun the older one was told");
    trial.ensure_holder(&key, Some(new)).await?;
    ensure_eq!(begin(new).await?, Latest::Goes, "the newer one was told");
    ensure_eq!(
        begin(old).await?,
        Latest::Superseded(Some(new)),
        "after the newer one has begun the older one was told"
    );
    ensure!(trial.one.release(new, None).await?, "nothing was kept of a task that runs");
    ensure_eq!(
        begin(old).await?,
        Latest::Superseded(None),
        "after the newer one has ended the older one was told"
    );
    ensure!(trial.one.release(old, None).await?, "nothing was kept of a superseded task");
    ensure!(!trial.one.release(old, None).await?, "more was kept of a superseded task than one row");
    Ok(())
}

async fn a_task_that_waits_again_has_its_claim_unless_a_newer_one_waits<D: Database>(
    trial: Trial<D>,
) -> Outcome {
    let (key, [old, new]) = (trial.key("k"), [TaskId::new()?, TaskId::new()?]);
    let tell = |moment, task| trial.two.keep_latest(moment, &key, task, None);
    ensure_eq!(trial.push(trial.task(old, &key)).await?, Pushed::New, "the first was");
    ensure_eq!(tell(Moment::Waits, old).await?, Latest::Goes, "before it has begun the task was told");
    trial.ensure_holder(&key, Some(old)).await?;
    ensure_eq!(tell(Moment::Begins, old).await?, Latest::Goes, "as it begins the task was told");
    ensure_eq!(tell(Moment::Waits, old).await?, Latest::Goes, "after it has begun the task was told");
    trial.ensure_holder(&key, Some(old)).await?;
    ensure_eq!(tell(Moment::Begins, old).await?, Latest::Goes, "as it begins again the task was told");
    ensure_eq!(
        trial.push(trial.task(new, &key)).await?,
        Pushed::New,
        "behind one that has begun another was"
    );
    ensure_eq!(
        tell(Moment::Waits, old).await?,
        Latest::Superseded(Some(new)),
        "with a newer one waiting the older one was told"
    );
    trial.ensure_holder(&key, Some(new)).await?;
    ensure_eq!(tell(Moment::Begins, new).await?, Latest::Goes, "the newer one was told");
    ensure_eq!(
        tell(Moment::Waits, old).await?,
        Latest::Superseded(Some(new)),
        "with a newer one running the older one was told"
    );
    trial.ensure_holder(&key, None).await
}

async fn a_task_that_begins_and_a_newer_one_that_comes_take_turns<D: Database>(trial: Trial<D>) -> Outcome {
    for round in 0..8 {
        let (key, [old, new]) = (trial.key(&format!("k{round}")), [TaskId::new()?, TaskId::new()?]);
        ensure_eq!(trial.push(trial.task(old, &key)).await?, Pushed::New, "the first was");
        let barrier = Arc::new(Barrier::new(2));
        let begins = {
            let (store, barrier, key) = (Arc::clone(&trial.one), Arc::clone(&barrier), key.clone());
            tokio::spawn(async move {
                barrier.wait().await;
                store.keep_latest(Moment::Begins, &key, old, None).await
            })
        };
        barrier.wait().await;
        let handed = trial.two.supersede(None, Engine::Outbox, &trial.task(new, &key), old).await?;
        let latest = begins.await??;
        ensure!(
            handed == (latest != Latest::Goes),
            "of one that begins and one that is enqueued behind it at once, the older: {latest:?}, the newer took its claim: {handed}"
        );
        if !handed {
            ensure_eq!(
                trial.push(trial.task(new, &key)).await?,
                Pushed::New,
                "behind one that began another was"
            );
        }
        ensure_eq!(
            trial.one.keep_latest(Moment::Begins, &key, new, None).await?,
            Latest::Goes,
            "the newer one was told"
        );
        let latest = trial.two.keep_latest(Moment::Begins, &key, old, None).await?;
        ensure_eq!(
            latest,
            Latest::Superseded(Some(new)),
            "after the newer one has begun the older one was told"
        );
    }
    Ok(())
}

async fn a_row_of_the_outbox_is_moved_once<D: Database>(trial: Trial<D>) -> Outcome {
    for round in 0..8 {
        let key = trial.key(&format!("k{round}"));
        let number = trial.enqueue_by_job(&format!("k{round}")).await?;
        // All relays give it the same id.
        let id = TaskId::of_outbox(key.hash(), number);
        let barrier = Arc::new(Barrier::new(2));
        let relay = |store: &Arc<dyn Store<D>>| -> JoinHandle<Result<Pushed, BoxError>> {
            let (store, barrier, key) = (Arc::clone(store), Arc::clone(&barrier), key.clone());
            let namespace = trial.namespace().to_owned();
            tokio::spawn(async move {
                barrier.wait().await;
                let moved = Push { outbox: Some(enqueued(number)), ..task(&namespace, id, &key) };
                push_on(&*store, moved).await
            })
        };
        let (one, two) = (relay(&trial.one), relay(&trial.two));
        let answers = [one.await??, two.await??];
        let has = |pushed: &Pushed| answers.contains(pushed);
        ensure!(has(&Pushed::New) && has(&Pushed::Gone), "two relays at once were answered with {answers:?}");
        trial.ensure_holder(&key, Some(id)).await?;
        trial.ensure_outbox(&[id]).await?;
        let rows = trial.outbox().await?;
        ensure!(rows[0].number != number, "the row that the task was taken out of is still there");
        trial.one.delete_task(rows[0].number).await?;
    }
    Ok(())
}

async fn a_row_of_the_outbox_that_has_changed_is_not_moved<D: Database>(trial: Trial<D>) -> Outcome {
    let (key, other, [id, second]) = (trial.key("k"), trial.key("other"), [TaskId::new()?, TaskId::new()?]);
    ensure_eq!(trial.push(trial.task(id, &key)).await?, Pushed::New, "the first was");
    let read = trial.outbox().await?.remove(0);
    let row = OutboxRow { number: read.number, payload: &read.task.payload };
    let relayed = Push { outbox: Some(row), ..trial.task(id, &key) };
    let new = Push { payload: b"new", ..trial.task(second, &key) };
    ensure!(trial.two.replace(None, Engine::Outbox, &new, id).await?, "the task was not replaced");
    ensure_eq!(trial.push(relayed).await?, Pushed::Gone, "a task that has changed was");
    // Nor does it replace another one, or take its claim over.
    let waiting = TaskId::new()?;
    ensure_eq!(trial.push(trial.task(waiting, &other)).await?, Pushed::New, "another one was");
    let relayed = Push { outbox: Some(row), ..trial.task(id, &other) };
    ensure!(
        !trial.one.replace(None, Engine::Outbox, &relayed, waiting).await?,
        "a task was replaced by one that has changed"
    );
    ensure!(
        !trial.one.supersede(None, Engine::Outbox, &relayed, waiting).await?,
        "a claim was taken over by a task that has changed"
    );
    let rows = trial.outbox().await?;
    let payloads: Vec<&[u8]> = rows.iter().map(|row| &*row.task.payload).collect();
    ensure_eq!(payloads, vec![&b"new"[..], b"payload"], "the outbox has");
    let row = OutboxRow { payload: b"new", ..row };
    let relayed = Push { outbox: Some(row), ..relayed };
    ensure!(
        trial.one.replace(None, Engine::Outbox, &relayed, waiting).await?,
        "a task was not replaced by one as it is now"
    );
    trial.ensure_outbox(&[waiting]).await
}

async fn a_task_that_a_relay_has_taken_is_not_replaced<D: Database>(trial: Trial<D>) -> Outcome {
    let (key, [id, second, third]) = (trial.key("k"), [TaskId::new()?, TaskId::new()?, TaskId::new()?]);
    let (one, namespace) = (&trial.one, trial.namespace());
    ensure_eq!(trial.push(trial.task(id, &key)).await?, Pushed::New, "the first was");
    let number = trial.outbox().await?[0].number;
    let new = Push { payload: b"new", ..trial.task(second, &key) };
    ensure!(trial.two.replace(None, Engine::Outbox, &new, id).await?, "the task was not replaced");
    let newer = Push { payload: b"newer", ..trial.task(third, &key) };
    // The relay may die before it delivers it.
    for relay in [one, &trial.two] {
        let taken = relay.take_task(namespace, number).await?.ok_or("a task cannot be taken")?;
        ensure_eq!(taken.task.payload, b"new".to_vec(), "a relay is told");
        ensure!(
            !trial.two.replace(None, Engine::Outbox, &newer, id).await?,
            "a task was replaced that a relay has taken"
        );
        ensure_eq!(trial.outbox().await?, vec![taken], "the outbox has");
    }
    trial.ensure_holder(&key, Some(id)).await?;
    ensure!(one.take_task("another namespace", number).await?.is_none(), "it was taken in another namespace");
    one.delete_task(number).await?;
    ensure!(one.take_task(namespace, number).await?.is_none(), "a task was taken that is not there");
    Ok(())
}

async fn a_row_of_the_outbox_ends_with_its_task<D: Database>(trial: Trial<D>) -> Outcome {
    let (key, holder) = (trial.key("held"), TaskId::new()?);
    let claim = UniqueClaim { key: &key, lasts: None };
    trial.one.acquire(JobId(1), &claim, holder, None).await?;
    let number = trial.enqueue_by_job("held").await?;
    let id = TaskId::of_outbox(key.hash(), number);
    let relayed = Push { outbox: Some(enqueued(number)), ..trial.task(id, &key) };
    ensure_held(&trial.push(relayed).await?, holder)?;
    let numbers = async || -> Result<Vec<i64>, BoxError> {
        Ok(trial.outbox().await?.iter().map(|row| row.number).collect())
    };
    ensure_eq!(numbers().await?, vec![number], "of a task that is held and stays the outbox has");
    ensure_held(&trial.push_two(Push { ends_if_held: true, ..relayed }).await?, holder)?;
    ensure_eq!(numbers().await?, Vec::<i64>::new(), "of a task that is held and ends the outbox has");
    ensure_eq!(trial.push(relayed).await?, Pushed::Gone, "a task whose row is not there was");
    trial.ensure_holder(&key, Some(holder)).await?;

    let done = trial.key("done");
    trial.complete(&done, "e", b"r").await?;
    let number = trial.enqueue_by_job("done").await?;
    let id = TaskId::of_outbox(done.hash(), number);
    let relayed = Push { outbox: Some(enqueued(number)), ..trial.task(id, &done) };
    let pushed = trial.push_two(relayed).await?;
    ensure_eq!(pushed, Pushed::Done(Fingerprint::from_bits(42)), "a task that is done was");
    ensure_eq!(numbers().await?, Vec::<i64>::new(), "of a task that is done the outbox has");

    // One that replaces another, or takes its claim over, ends as well.
    let (key, waiting) = (trial.key("replaced"), TaskId::new()?);
    ensure_eq!(trial.push(trial.task(waiting, &key)).await?, Pushed::New, "the first was");
    let number = trial.enqueue_by_job("replaced").await?;
    let id = TaskId::of_outbox(key.hash(), number);
    let relayed = Push { outbox: Some(enqueued(number)), ..trial.task(id, &key) };
    ensure!(trial.one.replace(None, Engine::Outbox, &relayed, waiting).await?, "the task was not replaced");
    trial.ensure_outbox(&[waiting]).await?;
    ensure!(
        !trial.one.replace(None, Engine::Outbox, &relayed, waiting).await?,
        "a task was replaced by one that is gone"
    );
    ensure!(
        !trial.two.supersede(None, Engine::Outbox, &relayed, waiting).await?,
        "a claim was taken over by a task that is gone"
    );
    let number = trial.enqueue_by_job("superseded").await?;
    let relayed = Push { outbox: Some(enqueued(number)), ..relayed };
    ensure!(
        trial.two.supersede(None, Engine::Outbox, &relayed, waiting).await?,
        "a claim was not handed over"
    );
    trial.ensure_outbox(&[waiting, relayed.id]).await
}

async fn a_claim_that_the_task_has_is_free_to_it<D: Database>(trial: Trial<D>) -> Outcome {
    let (key, id) = (trial.key("k"), TaskId::new()?);
    trial.one.acquire(JobId(1), &UniqueClaim { key: &key, lasts: None }, id, None).await?;
    ensure_eq!(trial.push_two(trial.task(id, &key)).await?, Pushed::New, "a task that has its claim was");
    trial.ensure_holder(&key, Some(id)).await?;
    trial.ensure_outbox(&[id]).await
}

async fn a_push_rolled_back_leaves_nothing<D: Database>(trial: Trial<D>) -> Outcome {
    let (key, first, second) = (trial.key("k"), TaskId::new()?, TaskId::new()?);
    let mut tx = trial.callers(&key).await?;
    trial.insert(&mut tx, "e").await?;
    let pushed = trial.one.push(Some(tx.connection()), Engine::Outbox, &[trial.task(first, &key)]).await?;
    ensure_eq!(pushed, vec![Pushed::New], "the task was");
    tx.rollback().await?;
    trial.ensure_holder(&key, None).await?;
    trial.ensure_outbox(&[]).await?;
    trial.ensure_count("e", 0).await?;

    let mut tx = trial.callers(&key).await?;
    trial.insert(&mut tx, "e").await?;
    let pushed = trial.one.push(Some(tx.connection()), Engine::Outbox, &[trial.task(second, &key)]).await?;
    ensure_eq!(pushed, vec![Pushed::New], "the next task was");
    ensure_eq!(tx.commit(None).await?, Committed::Yes, "the commit ended with");
    trial.ensure_holder(&key, Some(second)).await?;
    trial.ensure_outbox(&[second]).await?;
    trial.ensure_count("e", 1).await
}

async fn a_duplicate_leaves_the_transaction_usable<D: Database>(trial: Trial<D>) -> Outcome {
    let (key, own, [first, second, third]) =
        (trial.key("k"), trial.key("own"), [TaskId::new()?, TaskId::new()?, TaskId::new()?]);
    ensure_eq!(trial.push_two(trial.task(first, &key)).await?, Pushed::New, "the first was");
    let mut tx = trial.callers(&key).await?;
    trial.insert(&mut tx, "before").await?;
    for _ in 0..2 {
        let tasks = [trial.task(second, &key), trial.task(third, &own)];
        let pushed = trial.one.push(Some(tx.connection()), Engine::Outbox, &tasks[..1]).await?;
        ensure_held(&pushed[0], first)?;
        trial.insert(&mut tx, "between").await?;
    }
    // A claim that was taken in this very transaction is held, too.
    let pushed = trial.one.push(Some(tx.connection()), Engine::Outbox, &[trial.task(third, &own)]).await?;
    ensure_eq!(pushed, vec![Pushed::New], "a task with a free claim was");
    let pushed = trial.one.push(Some(tx.connection()), Engine::Outbox, &[trial.task(second, &own)]).await?;
    ensure_held(&pushed[0], third)?;
    trial.insert(&mut tx, "after").await?;
    ensure_eq!(tx.commit(None).await?, Committed::Yes, "the commit ended with");
    for (effect, count) in [("before", 1), ("between", 2), ("after", 1)] {
        trial.ensure_count(effect, count).await?;
    }
    trial.ensure_outbox(&[first, third]).await
}

async fn of_pushes_at_once_one_has_the_claim<D: Database>(trial: Trial<D>) -> Outcome {
    const PUSHES: usize = 8;
    let mut enqueued = Vec::new();
    for round in 0..4 {
        let key = trial.key(&format!("k{round}"));
        let barrier = Arc::new(Barrier::new(PUSHES));
        let mut pushes = JoinSet::new();
        for number in 0..PUSHES {
            let store = Arc::clone(if number % 2 == 0 { &trial.one } else { &trial.two });
            let (barrier, key, namespace) = (Arc::clone(&barrier), key.clone(), trial.namespace().to_owned());
            pushes.spawn(async move {
                let id = TaskId::new()?;
                barrier.wait().await;
                Ok::<_, BoxError>((id, push_on(&*store, task(&namespace, id, &key)).await?))
            });
        }
        let (mut new, mut holders) = (Vec::new(), Vec::new());
        while let Some(pushed) = pushes.join_next().await {
            match pushed?? {
                (id, Pushed::New) => new.push(id),
                (_, Pushed::Held(holder)) => holders.push(holder.task),
                (_, other) => return Err(format!("a push was answered with {other:?}").into()),
            }
        }
        ensure_eq!(new.len(), 1, "of {PUSHES} pushes at once those are enqueued:");
        ensure_eq!(holders, vec![new[0]; PUSHES - 1], "the others name");
        enqueued.push(new[0]);
        trial.ensure_holder(&key, Some(new[0])).await?;
    }
    trial.ensure_outbox(&enqueued).await
}

/// Pushes a task on the second handle in a task of its own, and returns when it waits in the database.
async fn waiting_push<D: Database>(
    trial: &Trial<D>,
    id: TaskId,
    key: &Key,
) -> Result<JoinHandle<Result<Pushed, BoxError>>, BoxError> {
    let (store, key, namespace) = (Arc::clone(&trial.two), key.clone(), trial.namespace().to_owned());
    let mut push = tokio::spawn(async move { push_on(&*store, task(&namespace, id, &key)).await });
    tokio::select! {
        biased;
        pushed = &mut push => Err(format!("a push did not wait, and was answered with {:?}", pushed??).into()),
        blocked = trial.fixture.until_blocked() => {
            blocked?;
            ensure!(!push.is_finished(), "a push did not wait");
            Ok(push)
        }
    }
}

async fn a_push_is_held_once_the_one_before_commits<D: Database>(trial: Trial<D>) -> Outcome {
    let (key, first, second) = (trial.key("k"), TaskId::new()?, TaskId::new()?);
    let mut tx = trial.callers(&key).await?;
    let pushed = trial.one.push(Some(tx.connection()), Engine::Outbox, &[trial.task(first, &key)]).await?;
    ensure_eq!(pushed, vec![Pushed::New], "the first was");
    let waiting = waiting_push(&trial, second, &key).await?;
    ensure_eq!(tx.commit(None).await?, Committed::Yes, "the commit ended with");
    ensure_held(&waiting.await??, first)?;
    trial.ensure_outbox(&[first]).await
}

async fn a_push_goes_on_once_the_one_before_is_undone<D: Database>(trial: Trial<D>) -> Outcome {
    let (key, first, second) = (trial.key("k"), TaskId::new()?, TaskId::new()?);
    let mut tx = trial.callers(&key).await?;
    let pushed = trial.one.push(Some(tx.connection()), Engine::Outbox, &[trial.task(first, &key)]).await?;
    ensure_eq!(pushed, vec![Pushed::New], "the first was");
    let waiting = waiting_push(&trial, second, &key).await?;
    tx.rollback().await?;
    ensure_eq!(waiting.await??, Pushed::New, "a push behind one that was rolled back was");
    trial.ensure_holder(&key, Some(second)).await?;
    trial.ensure_outbox(&[second]).await
}

async fn a_claim_that_a_caller_was_told_of_stays_until_that_commits<D: Database>(trial: Trial<D>) -> Outcome {
    let (key, first, second) = (trial.key("k"), TaskId::new()?, TaskId::new()?);
    ensure_eq!(trial.push_two(trial.task(first, &key)).await?, Pushed::New, "the first was");
    let mut tx = trial.callers(&key).await?;
    trial.insert(&mut tx, "e").await?;
    let task = Push { holds_back: true, ..trial.task(second, &key) };
    let pushed = trial.one.push(Some(tx.connection()), Engine::Outbox, &[task]).await?;
    ensure_held(&pushed[0], first)?;
    let store = Arc::clone(&trial.two);
    let mut release = tokio::spawn(async move { store.release(first, None).await });
    tokio::select! {
        biased;
        released = &mut release => {
            return Err(format!("a claim that is kept was released with {:?}", released?).into());
        }
        blocked = trial.fixture.until_blocked() => blocked?,
    }
    ensure_eq!(tx.commit(None).await?, Committed::Yes, "the commit ended with");
    ensure!(release.await??, "the claim was not released");
    trial.ensure_count("e", 1).await?;
    trial.ensure_holder(&key, None).await
}

async fn each_task_of_a_batch_has_its_own_answer<D: Database>(trial: Trial<D>) -> Outcome {
    let [held, free, done, coarse] = ["held", "free", "done", "coarse"].map(|name| trial.key(name));
    let holder = TaskId::new()?;
    ensure_eq!(trial.push(trial.task(holder, &held)).await?, Pushed::New, "the first was");
    trial.complete(&done, "e", b"r").await?;
    let others = ["a", "b", "c"].map(|name| trial.key(name));
    let mut ids = Vec::new();
    for _ in 0..11 {
        ids.push(TaskId::new()?);
    }
    // Keys that are different, and a claim that is the same.
    let coarsely =
        |id, key| Push { claim: Some(UniqueClaim { key: &coarse, lasts: None }), ..trial.task(id, key) };
    let tasks = [
        trial.task(ids[0], &held),
        trial.task(ids[1], &free),
        trial.task(ids[2], &held),
        trial.task(ids[3], &done),
        trial.task(ids[4], &free),
        trial.task(ids[5], &done),
        Push { claim: None, ..trial.task(ids[6], &others[0]) },
        // The first of these is done, so the claim is the next one's.
        coarsely(ids[7], &done),
        coarsely(ids[8], &others[1]),
        coarsely(ids[9], &done),
        coarsely(ids[10], &others[2]),
    ];
    let answers = trial.two.push(None, Engine::Outbox, &tasks).await?;
    let by = |pushed: &Pushed| match pushed {
        Pushed::Held(holder) => (3, Some(holder.task)),
        Pushed::New => (1, None),
        Pushed::Done(_) => (2, None),
        Pushed::Gone => (4, None),
    };
    let expected = [
        (3, Some(holder)),
        (1, None),
        (3, Some(holder)),
        (2, None),
        (3, Some(ids[1])),
        (2, None),
        (1, None),
        (2, None),
        (1, None),
        (2, None),
        (3, Some(ids[8])),
    ];
    ensure_eq!(
        answers.iter().map(by).collect::<Vec<_>>(),
        expected,
        "the batch was answered with {answers:?}"
    );
    let mut enqueued: Vec<Option<TaskId>> = trial.outbox().await?.into_iter().map(|row| row.id).collect();
    enqueued.sort();
    let mut expected = [holder, ids[1], ids[6], ids[8]].map(Some).to_vec();
    expected.sort();
    ensure_eq!(enqueued, expected, "the outbox has");
    ensure_eq!(
        trial.one.push(None, Engine::Outbox, &[]).await?,
        Vec::<Pushed>::new(),
        "no task was answered with"
    );
    Ok(())
}

async fn overlapping_batches_all_come_to_their_end<D: Database>(trial: Trial<D>) -> Outcome {
    const BATCHES: usize = 6;
    const CLAIMS: usize = 12;
    for round in 0..4 {
        let barrier = Arc::new(Barrier::new(BATCHES));
        let mut pushes = JoinSet::new();
        for number in 0..BATCHES {
            let store = Arc::clone(if number % 2 == 0 { &trial.one } else { &trial.two });
            let (barrier, namespace) = (Arc::clone(&barrier), trial.namespace().to_owned());
            let mut keys: Vec<Key> =
                (0..CLAIMS).map(|claim| trial.key(&format!("{round} {claim}"))).collect();
            // Every batch goes its own way.
            keys.rotate_left(number * 2);
            if number % 2 == 1 {
                keys.reverse();
            }
            pushes.spawn(async move {
                let mut tasks = Vec::new();
                for key in &keys {
                    tasks.push(task(&namespace, TaskId::new()?, key));
                }
                barrier.wait().await;
                let answers = store.push(None, Engine::Outbox, &tasks).await?;
                Ok::<_, BoxError>(answers.iter().filter(|pushed| **pushed == Pushed::New).count())
            });
        }
        let mut new = 0;
        while let Some(pushed) = pushes.join_next().await {
            new += pushed??;
        }
        ensure_eq!(new, CLAIMS, "of {BATCHES} batches with the same {CLAIMS} claims those are enqueued:");
    }
    ensure_eq!(trial.outbox().await?.len(), CLAIMS * 4, "the number of tasks in the outbox is");
    Ok(())
}

async fn claims_of_different_jobs_do_not_meet<D: Database>(trial: Trial<D>) -> Outcome {
    let parts = KeyParts::of("k")?;
    let namespace = trial.namespace();
    let keys = [
        Key::new(namespace, "law", &parts),
        Key::new(namespace, "other law", &parts),
        Key::new("another namespace", "law", &parts),
    ];
    for key in &keys {
        let id = TaskId::new()?;
        ensure_eq!(trial.push(trial.task(id, key)).await?, Pushed::New, "a task of another job was");
        trial.ensure_holder(key, Some(id)).await?;
    }
    Ok(())
}

async fn a_sweep_of_claims_spares_the_live<D: Database>(trial: Trial<D>) -> Outcome {
    let id = TaskId::new()?;
    let acquire = async |name: &str, lasts| -> Result<(), BoxError> {
        trial.one.acquire(JobId(1), &UniqueClaim { key: &trial.key(name), lasts }, id, None).await?;
        Ok(())
    };
    for name in ["e1", "e2", "e3"] {
        acquire(name, Some(WINDOW)).await?;
    }
    acquire("longer", Some(WINDOW * 10)).await?;
    acquire("tied", None).await?;
    ensure_eq!(trial.two.sweep_claims(100).await?, 0, "before any has expired a sweep deletes");
    trial.fixture.let_pass(WINDOW * 2).await?;
    for deleted in [2, 1, 0] {
        ensure_eq!(trial.two.sweep_claims(2).await?, deleted, "of a limit of 2 a sweep deletes");
    }
    for (name, holder) in [("e1", None), ("e3", None), ("longer", Some(id)), ("tied", Some(id))] {
        trial.ensure_holder(&trial.key(name), holder).await?;
    }
    Ok(())
}

async fn a_task_comes_out_of_the_outbox_as_it_went_in<D: Database>(trial: Trial<D>) -> Outcome {
    let (key, other, unclaimed) = (trial.key("k"), trial.key("other"), trial.key("unclaimed"));
    let (now, later) = (TaskId::new()?, TaskId::new()?);
    let hash = Some(unclaimed.hash());
    let delayed = Push {
        claim: None,
        unclaimed: hash,
        after: LATER,
        priority: -3,
        attempts: 7,
        ..trial.task(later, &key)
    };
    ensure_eq!(trial.push(delayed).await?, Pushed::New, "a task for later was");
    ensure_eq!(
        trial.push(Push { priority: 9, ..trial.task(now, &other) }).await?,
        Pushed::New,
        "one for now was"
    );
    let seen = |row: &TaskRow| (row.id, row.unclaimed, row.priority, row.attempts);
    let at_once = (Some(now), None, 9, Some(25));
    let rows = trial.outbox().await?;
    ensure_eq!(rows.iter().map(seen).collect::<Vec<_>>(), vec![at_once], "what is due is");
    trial.fixture.let_pass(LATER * 2).await?;
    let rows = trial.outbox().await?;
    let expected = vec![(Some(later), hash, -3, Some(7)), at_once];
    ensure_eq!(rows.iter().map(seen).collect::<Vec<_>>(), expected, "what is due later is");
    trial.ensure_holder(&unclaimed, None).await?;
    let number = trial.enqueue_by_job("by a job").await?;
    let rows = trial.outbox().await?;
    let row = rows.iter().find(|row| row.number == number);
    ensure_eq!(row.map(seen), Some((None, None, 0, None)), "what a job has enqueued is");
    Ok(())
}

async fn a_push_dropped_anywhere_is_whole_or_none<D: Database>(trial: Trial<D>) -> Outcome {
    for polls in 1..300 {
        let key = trial.key(&format!("k{polls}"));
        let (first, second) = (TaskId::new()?, TaskId::new()?);
        let ended = drop_after(polls, trial.push(trial.task(first, &key))).await;
        // It comes after whatever the dropped push still does.
        let has = match trial.push_two(trial.task(second, &key)).await? {
            Pushed::New => {
                ensure!(ended.is_none(), "a push that was not dropped is not there");
                second
            }
            Pushed::Held(holder) => holder.task,
            other => {
                return Err(format!("a push behind one that was dropped was answered with {other:?}").into());
            }
        };
        trial.ensure_outbox(&[has]).await?;
        trial.ensure_holder(&key, Some(has)).await?;
        for row in trial.outbox().await? {
            trial.one.delete_task(row.number).await?;
        }
        if ended.is_some() {
            ensure_eq!(has, first, "the claim is held by");
            return Ok(());
        }
    }
    Err("a push never comes to its end".into())
}

async fn a_push_dropped_in_a_callers_transaction_is_whole_or_none<D: Database>(trial: Trial<D>) -> Outcome {
    let (mut pushed, mut superseded) = (false, false);
    for polls in 1..300 {
        let [key, held] = ["k", "held"].map(|name| trial.key(&format!("{name}{polls}")));
        let [first, second, waiting] = [TaskId::new()?, TaskId::new()?, TaskId::new()?];
        ensure_eq!(trial.push_two(trial.task(waiting, &held)).await?, Pushed::New, "one that waits was");
        let mut tx = trial.callers(&key).await?;
        trial.insert(&mut tx, "before").await?;
        let tasks = [trial.task(first, &key)];
        let push = trial.one.push(Some(tx.connection()), Engine::Outbox, &tasks);
        let ended = drop_after(polls, push).await.transpose()?.is_some();
        trial.insert(&mut tx, "between").await?;
        let task = trial.task(second, &held);
        let supersede = trial.one.supersede(Some(tx.connection()), Engine::Outbox, &task, waiting);
        let handed = drop_after(polls, supersede).await.transpose()?.is_some();
        trial.insert(&mut tx, "after").await?;
        ensure_eq!(tx.commit(None).await?, Committed::Yes, "the commit ended with");
        for effect in ["before", "between", "after"] {
            trial.ensure_count(effect, polls as u64).await?;
        }
        let rows = trial.outbox().await?;
        let is_there = |id| rows.iter().any(|row| row.id == Some(id));
        trial.ensure_holder(&key, is_there(first).then_some(first)).await?;
        trial.ensure_holder(&held, Some(if is_there(second) { second } else { waiting })).await?;
        ensure!(!ended || is_there(first), "a push that was not dropped is not there");
        ensure!(!handed || is_there(second), "a claim that was handed over is not");
        for row in rows {
            trial.one.delete_task(row.number).await?;
        }
        (pushed, superseded) = (pushed || ended, superseded || handed);
        if pushed && superseded {
            return Ok(());
        }
    }
    Err("a push never comes to its end".into())
}
