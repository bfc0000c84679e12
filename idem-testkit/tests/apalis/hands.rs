//! Tasks that are not in the hands any more in which they were: a worker that apalis has not heard of for a while, be it
//! since it has a full buffer, comes to them when others have done them.

use idem_runtime::Idem;
use idem_runtime::engine::{Engine, Enqueue, Enqueued, PushError, TaskId};
use idem_runtime::key::{Key, KeyParts};
use idem_runtime::record::{self, Moment};
use idem_runtime::store::{Attempt, UniqueClaim};

use super::world::{Running, Runs, World};
use super::{AN_HOUR_AGO, TASKS};
use crate::desk::{Desk, What};
use crate::jobs::*;

/// The id at whose gate the worker stands.
const BUSY: i64 = 9;

/// A worker that is at work, with a task in its buffer and another one behind that.
struct Buffered {
    worker: Running,
    busy: TaskId,
    task: TaskId,
    behind: TaskId,
}

impl World {
    /// Enqueues what the worker is to be busy with; SQLite hands tasks out as they came.
    async fn push_busy<J: Runs>(&self, busy: J) -> TaskId {
        self.desk.close(BUSY);
        self.push(Enqueue::new(busy).priority(9)).await
    }

    /// Lets the worker `w1` have a task in its buffer.
    async fn buffer<J: Runs>(&self, busy: TaskId, task: TaskId, behind: J) -> Buffered {
        let behind = self.push(behind).await;
        self.due().await;
        self.sql(format!("UPDATE {TASKS} SET priority = 5 WHERE id = '{task}'")).await;
        let worker = self.work::<J>("w1");
        self.desk.until(What::Began, BUSY, 1).await;
        for task in [task, behind] {
            self.until(task, |row| row.status == "Queued" && row.lock_by.as_deref() == Some("w1")).await;
        }
        Buffered { worker, busy, task, behind }
    }

    /// Lets the worker go on, until it has come to the task in its buffer and the one behind it.
    async fn empty_the_buffer(&self, buffered: Buffered) {
        self.desk.open(BUSY);
        for task in [buffered.busy, buffered.behind] {
            self.until_status(task, "Done").await;
        }
        drop(buffered.worker);
    }

    async fn due(&self) {
        self.sql(format!("UPDATE {TASKS} SET run_at = {AN_HOUR_AGO} WHERE status = 'Pending'")).await;
    }

    /// Lets another worker have done a task that was taken for an orphan.
    async fn done_elsewhere(&self, task: TaskId) {
        assert_eq!(self.rescue_one(task).await, 1);
        self.take(task, "w2").await;
        assert!(self.say_ended(task, "w2", "Done").await);
    }

    async fn delete(&self, task: TaskId) {
        assert_eq!(self.sql(format!("DELETE FROM {TASKS} WHERE id = '{task}'")).await, 1);
    }
}

#[tokio::test]
async fn a_task_that_is_over_takes_no_claim_again() {
    for deleted in [false, true] {
        let Some(world) = World::new().await else { return };
        let job = |id, note| UntilStartOfAKey { id, note };
        let busy = world.push_busy(job(BUSY, 1)).await;
        let task = world.push(job(1, 1)).await;
        let buffered = world.buffer(busy, task, job(2, 1)).await;
        // The worker comes to a key that is held.
        world.desk.close(1);
        let idem = world.idem.clone();
        let holder = tokio::spawn(async move { until_start_of_a_key(&idem, 1, 7).await.map(drop) });
        world.desk.until(What::Began, 1, 1).await;
        match deleted {
            false => world.done_elsewhere(buffered.task).await,
            true => world.delete(buffered.task).await,
        }
        world.empty_the_buffer(buffered).await;
        assert_eq!(world.claims().await, [], "deleted: {deleted}");
        world.desk.open(1);
        holder.await.unwrap().unwrap();
        world.push(job(1, 2)).await;
    }
}

#[tokio::test]
async fn a_task_that_has_yet_to_take_its_claim_takes_none_when_it_is_gone() {
    let Some(world) = World::new().await else { return };
    let job = |id, note| UntilEndOrLater { id, note };
    let busy = world.push_busy(job(BUSY, 1)).await;
    let first = world.push(job(1, 1)).await;
    let later = world.queue.push(job(1, 2)).await.unwrap();
    let Enqueued::Deferred { id: task, .. } = later else { panic!("{later:?}") };
    world.delete(first).await;
    let buffered = world.buffer(busy, task, job(2, 1)).await;
    world.delete(task).await;
    world.empty_the_buffer(buffered).await;
    assert_eq!(world.claims().await, []);
    assert_eq!(world.desk.count(What::Began, 1), 0, "a task that is deleted is not run");
}

#[tokio::test]
async fn an_older_task_that_ended_elsewhere_does_not_begin_after_a_newer_one() {
    let Some(world) = World::new().await else { return };
    let job = |id, note| Latest { id, note };
    let busy = world.push_busy(job(BUSY, 1)).await;
    let task = world.push(job(1, 1)).await;
    let buffered = world.buffer(busy, task, job(2, 1)).await;
    let newer = world.push(job(1, 2)).await;
    world.done_elsewhere(task).await;
    world.due().await;
    let other = world.work::<Latest>("w3");
    world.until_status(newer, "Done").await;
    world.empty_the_buffer(buffered).await;
    assert_eq!(world.desk.notes(1), [2]);
    assert_eq!(world.claim_rows().await, 0);
    drop(other);
}

#[tokio::test]
async fn a_task_that_is_back_in_its_queue_keeps_its_claim_there() {
    let Some(world) = World::new().await else { return };
    let job = |id, note| UntilStartOfAKey { id, note };
    let busy = world.push_busy(job(BUSY, 1)).await;
    let task = world.push(job(1, 1)).await;
    let buffered = world.buffer(busy, task, job(2, 1)).await;
    assert_eq!(world.rescue_one(task).await, 1);
    world.take(task, "w2").await;
    world.empty_the_buffer(buffered).await;
    assert_eq!(world.claims().await, [task]);
    assert_eq!(world.push_duplicate(job(1, 2)).await, task);
}

#[tokio::test]
async fn a_task_that_may_have_begun_is_not_replaced() {
    let Some(world) = World::new().await else { return };
    let job = |note| UntilEndOrReplace { id: 1, note };
    let task = world.push(job(1)).await;
    let put_back = async |attempt| {
        world.take(task, "w1").await;
        assert_eq!(world.say_begun(task, "w1").await, 1);
        let after = std::time::Duration::ZERO;
        assert!(world.idem.store().put_off(Engine::Apalis, task, "w1", after, attempt).await.unwrap());
        world.due().await;
    };
    world.due().await;
    put_back(Attempt::Unspent).await;
    assert_eq!(world.queue.push(job(2)).await.unwrap(), Enqueued::Replaced(task));
    put_back(Attempt::Interrupted).await;
    assert_eq!(world.push_duplicate(job(3)).await, task);

    world.delete(task).await;
    let task = world.push(job(4)).await;
    world.due().await;
    world.take(task, "w1").await;
    assert_eq!(world.rescue("w1").await, 1);
    assert_eq!(world.push_duplicate(job(5)).await, task);
    let row = world.task(task).await;
    assert!(String::from_utf8(row.job).unwrap().contains(r#""note":4"#));
}

#[tokio::test]
async fn a_task_that_was_taken_without_a_name_is_in_the_hands_of_whoever_runs_it() {
    let Some(world) = World::new().await else { return };
    let task = world.push(UntilStart { id: 1, note: 1 }).await;
    world.take(task, "w1").await;
    world.sql(format!("UPDATE {TASKS} SET lock_by = NULL WHERE id = '{task}'")).await;
    let store = world.idem.store();
    assert!(store.release(task, Some("w1")).await.unwrap());
    assert_eq!(world.claims().await, []);
    let job = store.enrol("default", "until_start").await.unwrap();
    let key = Key::new("default", "until_start", &KeyParts::of(&1_i64).unwrap());
    let claim = UniqueClaim { key: &key, lasts: None };
    let holder = store.acquire(job, &claim, task, Some("w1")).await.unwrap();
    assert_eq!(holder.map(|holder| holder.task), Some(task));
    let latest = store.keep_latest(Moment::Begins, &key, task, Some("w1")).await.unwrap();
    assert_eq!(latest, record::Latest::Goes);
    let put_back = store.put_off(Engine::Apalis, task, "w1", std::time::Duration::ZERO, Attempt::Unspent);
    assert!(put_back.await.unwrap());
    // Nobody has it then.
    assert_eq!(store.acquire(job, &claim, task, Some("w1")).await.unwrap(), None);
    let latest = store.keep_latest(Moment::Begins, &key, task, Some("w1")).await.unwrap();
    assert_eq!(latest, record::Latest::Gone);
}

/// Runs a job on a direct call that stands at its gate.
fn hold(world: &World, desk: &Desk, id: i64) -> tokio::task::JoinHandle<()> {
    desk.close(id);
    let idem = world.idem.clone();
    tokio::spawn(async move { skipping(&idem, id, 7).await.map(drop).unwrap() })
}

#[tokio::test]
async fn a_task_that_may_skip_does_so_for_another_run_and_not_for_its_own() {
    let Some(world) = World::new().await else { return };
    let holder = hold(&world, &world.desk, 1);
    world.desk.until(What::Began, 1, 1).await;
    let skips = world.push(Skipping { id: 1, note: 1 }).await;
    world.due().await;
    let worker = world.work::<Skipping>("w1");
    assert!(world.until_status(skips, "Done").await.last_result.contains("skipped"));
    world.desk.open(1);
    holder.await.unwrap();

    // The run is its own: its worker died, or is taken for dead, and the key is held still.
    world.desk.close(2);
    let task = world.push(Skipping { id: 2, note: 1 }).await;
    world.due().await;
    world.desk.until(What::Began, 2, 1).await;
    assert_eq!(world.rescue("w1").await, 1);
    world.due().await;
    let other = world.work::<Skipping>("w2");
    world.until(task, |row| row.status == "Pending" && row.due_in > 0).await;
    assert_eq!(world.claims().await, [task]);
    world.desk.open(2);
    world.desk.until(What::Succeeded, 2, 1).await;
    world.due().await;
    let row = world.until_status(task, "Done").await;
    assert!(row.last_result.contains("replayed") || row.last_result.contains("executed"), "{row:?}");
    assert_eq!((world.desk.notes(2), world.claims().await), (vec![1], vec![]));
    drop((worker, other));
}

#[tokio::test]
async fn a_push_compares_arguments_as_a_run_does() {
    let Some(world) = World::new().await else { return };
    priced(&world.idem, 1, 1).await.unwrap();
    let answer = world.queue.push(Priced { id: 1, note: 2 }).await;
    assert!(matches!(answer, Err(PushError::KeyReused(_))), "{answer:?}");
    let next = Idem::builder(world.pool.clone()).state(world.desk.clone()).build().unwrap();
    assert!(priced_anyhow(&next, 1, 2).await.unwrap().is_replayed());
    let answer = next.queue(Engine::Apalis).push(PricedAnyhow { id: 1, note: 2 }).await;
    assert_eq!(answer.unwrap(), Enqueued::AlreadyDone);
}

#[tokio::test]
async fn a_task_that_has_begun_and_was_put_back_does_not_skip() {
    let Some(world) = World::new().await else { return };
    let task = world.push(Skipping { id: 1, note: 1 }).await;
    world.take(task, "w1").await;
    let after = std::time::Duration::ZERO;
    let put_back = world.idem.store().put_off(Engine::Apalis, task, "w1", after, Attempt::Interrupted);
    assert!(put_back.await.unwrap());
    let holder = hold(&world, &world.desk, 1);
    world.desk.until(What::Began, 1, 1).await;
    world.due().await;
    let worker = world.work::<Skipping>("w2");
    world.until(task, |row| row.status == "Pending" && row.due_in > 0).await;
    assert_eq!(world.claims().await, [task]);
    world.desk.open(1);
    holder.await.unwrap();
    drop(worker);
}
