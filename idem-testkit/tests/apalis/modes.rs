//! Which tasks may be enqueued beside which: the modes of `unique`, what becomes of a duplicate, and by which key.

use std::time::Duration;

use idem_runtime::engine::{Enqueue, Enqueued, PushError};

use super::world::World;
use super::{EXPIRE_CLAIMS, TASKS};
use crate::desk::{Act, What};
use crate::jobs::*;

#[tokio::test]
async fn until_executing_admits_another_one_as_soon_as_the_body_starts() {
    let Some(world) = World::new().await else { return };
    world.desk.close(1);
    let first = world.push(UntilStart { id: 1, note: 1 }).await;
    assert_eq!(world.push_duplicate(UntilStart { id: 1, note: 2 }).await, first);

    let worker = world.work_many::<UntilStart>("w1");
    world.desk.until(What::Began, 1, 1).await;
    worker.kill().await;
    let second = world.push(UntilStart { id: 1, note: 3 }).await;
    assert_eq!(world.push_duplicate(UntilStart { id: 1, note: 4 }).await, second);
    assert_eq!(world.claims().await, [second]);
}

#[tokio::test]
async fn until_executing_retries_beside_the_one_that_waits() {
    let Some(world) = World::new().await else { return };
    world.desk.next(1, [Act::Fail]);
    world.desk.close(1);
    let first = world.push(UntilStart { id: 1, note: 1 }).await;
    let worker = world.work_many::<UntilStart>("w1");
    world.desk.until(What::Began, 1, 1).await;
    let second = world.push(UntilStart { id: 1, note: 2 }).await;
    world.desk.pass(1);
    world.desk.until(What::Broke, 1, 1).await;
    world.desk.open(1);
    world.until_status(first, "Done").await;
    world.until_status(second, "Done").await;
    assert_eq!(world.task(first).await.attempts, 2);
    let mut notes = world.desk.notes(1);
    notes.sort_unstable();
    assert_eq!(notes, [1, 2]);
    assert_eq!(world.claims().await, []);
    drop(worker);
}

#[tokio::test]
async fn until_executing_admits_nobody_beside_one_that_finds_its_key_held() {
    let Some(world) = World::new().await else { return };
    world.desk.close(1);
    let first = world.push(UntilStartOfAKey { id: 1, note: 1 }).await;
    let worker = world.work_many::<UntilStartOfAKey>("w1");
    world.desk.until(What::Began, 1, 1).await;
    let second = world.push(UntilStartOfAKey { id: 1, note: 1 }).await;
    // It waits in its queue, with its claim, and in no worker, where others would come beside it.
    let put_back = world.until(second, |row| row.status == "Pending" && row.due_in > 0);
    // A run that is called waits for ten seconds.
    let put_back = tokio::time::timeout(Duration::from_secs(9), put_back).await;
    assert!(put_back.is_ok(), "it waits in the worker: {:?}", world.task(second).await);
    assert_eq!(world.claims().await, [second]);
    assert_eq!(world.push_duplicate(UntilStartOfAKey { id: 1, note: 1 }).await, second);
    world.desk.open(1);
    for task in [first, second] {
        assert_eq!(world.until_status(task, "Done").await.attempts, 1);
    }
    assert_eq!(world.desk.notes(1), [1, 1]);
    drop(worker);
}

#[tokio::test]
async fn until_executed_admits_nobody_while_one_waits_runs_or_is_to_be_retried() {
    let Some(world) = World::new().await else { return };
    world.desk.close(1);
    world.desk.next(1, [Act::Fail, Act::Succeed]);
    let first = world.push(UntilEnd { id: 1, note: 1 }).await;
    assert_eq!(world.push_duplicate(UntilEnd { id: 1, note: 2 }).await, first);

    let worker = world.work::<UntilEnd>("w1");
    world.desk.until(What::Began, 1, 1).await;
    assert_eq!(world.push_duplicate(UntilEnd { id: 1, note: 2 }).await, first);

    world.desk.pass(1);
    world.desk.until(What::Began, 1, 2).await;
    assert_eq!(world.task(first).await.attempts, 1);
    assert_eq!(world.push_duplicate(UntilEnd { id: 1, note: 2 }).await, first);

    world.desk.open(1);
    world.until_status(first, "Done").await;
    assert_eq!(world.claims().await, []);
    let second = world.push(UntilEnd { id: 1, note: 5 }).await;
    world.until_status(second, "Done").await;
    assert_eq!(world.desk.notes(1), [1, 5]);
    drop(worker);
}

#[tokio::test]
async fn until_executed_keeps_the_claim_while_a_failed_task_lies_in_its_queue() {
    let Some(world) = World::new().await else { return };
    let first = world.push(UntilEnd { id: 1, note: 1 }).await;
    world.take(first, "w1").await;
    assert!(world.say_ended(first, "w1", "Failed").await);
    assert_eq!(world.push_duplicate(UntilEnd { id: 1, note: 2 }).await, first);
    assert_eq!(world.claims().await, [first]);
}

#[tokio::test]
async fn until_executed_admits_another_one_when_a_task_is_out_of_attempts() {
    let Some(world) = World::new().await else { return };
    world.desk.next(1, [Act::Fail, Act::Fail]);
    let first = world.push(Enqueue::new(UntilEnd { id: 1, note: 1 }).attempts(2)).await;
    let worker = world.work::<UntilEnd>("w1");
    let dead = world.until(first, |row| row.status == "Failed" && row.attempts == 2).await;
    assert_eq!(dead.max_attempts, 2);
    assert_eq!(world.claims().await, []);
    let second = world.push(UntilEnd { id: 1, note: 2 }).await;
    world.until_status(second, "Done").await;
    assert_eq!(world.desk.count(What::Began, 1), 3);
    let still = world.task(first).await;
    assert_eq!((still.status, still.attempts), (dead.status, dead.attempts), "it is not tried again");
    drop(worker);
}

#[tokio::test]
async fn until_expired_admits_nobody_in_its_time_whatever_becomes_of_the_task() {
    let Some(world) = World::new().await else { return };
    world.desk.next(2, [Act::Fail]);
    let done = world.push(InAnHour { id: 1, note: 1 }).await;
    let dead = world.push(Enqueue::new(InAnHour { id: 2, note: 1 }).attempts(1)).await;
    let gone = world.push(Enqueue::new(InAnHour { id: 3, note: 1 }).after(Duration::from_secs(1000))).await;
    assert_eq!(world.push_duplicate(InAnHour { id: 1, note: 2 }).await, done);
    let worker = world.work::<InAnHour>("w1");
    world.until_status(done, "Done").await;
    world.until_status(dead, "Failed").await;
    worker.kill().await;
    assert_eq!(world.sql(format!("DELETE FROM {TASKS} WHERE id = '{gone}'")).await, 1);
    for (id, task) in [(1, done), (2, dead), (3, gone)] {
        assert_eq!(world.push_duplicate(InAnHour { id, note: 2 }).await, task);
        assert!(!world.queue.release(task).await.unwrap(), "a claim for a time stays");
    }
}

#[tokio::test]
async fn the_time_of_until_expired_passes_by_the_clock_of_the_store() {
    let Some(world) = World::new().await else { return };
    let first = world.push(InAnHour { id: 1, note: 1 }).await;
    let holder = world.queue.holder(&InAnHour { id: 1, note: 2 }).await.unwrap().unwrap();
    assert_eq!(holder.task, first);
    let left = holder.left.unwrap();
    assert!(left <= Duration::from_secs(3600) && left > Duration::from_secs(3500), "{left:?}");
    // The process has seen a moment pass, the store an hour.
    assert_eq!(world.sql(EXPIRE_CLAIMS).await, 1);
    assert_eq!(world.queue.holder(&InAnHour { id: 1, note: 2 }).await.unwrap(), None);
    let second = world.push(InAnHour { id: 1, note: 2 }).await;
    assert_eq!(world.push_duplicate(InAnHour { id: 1, note: 3 }).await, second);
    assert_eq!(world.claims().await, [second]);
}

#[tokio::test]
async fn while_executing_admits_any_number_and_runs_one_at_a_time() {
    let Some(world) = World::new().await else { return };
    let mut tasks = Vec::new();
    for note in 0..4 {
        tasks.push(world.push(OneAtATime { id: 1, note }).await);
    }
    assert_eq!(world.claims().await, []);
    let worker = world.work_many::<OneAtATime>("w1");
    for task in tasks {
        let row = world.until_status(task, "Done").await;
        assert_eq!(row.attempts, 1, "waiting costs no attempt: {row:?}");
    }
    let mut notes = world.desk.notes(1);
    notes.sort_unstable();
    assert_eq!(notes, [0, 1, 2, 3]);
    assert_eq!(world.desk.most_at_once(1), 1);
    drop(worker);
}

#[tokio::test]
async fn until_and_while_executing_admits_one_that_waits_beside_one_that_runs() {
    let Some(world) = World::new().await else { return };
    world.desk.close(1);
    let first = world.push(OneEach { id: 1, note: 1 }).await;
    assert_eq!(world.push_duplicate(OneEach { id: 1, note: 2 }).await, first);
    let worker = world.work_many::<OneEach>("w1");
    world.desk.until(What::Began, 1, 1).await;
    let second = world.push(OneEach { id: 1, note: 2 }).await;
    assert_eq!(world.push_duplicate(OneEach { id: 1, note: 3 }).await, second);
    // The second one comes to the worker, has to wait, and keeps its claim.
    world.until(second, |row| row.status == "Pending" && row.due_in > 0).await;
    assert_eq!(world.push_duplicate(OneEach { id: 1, note: 3 }).await, second);
    assert_eq!(world.desk.count(What::Began, 1), 1);
    world.desk.open(1);
    let row = world.until_status(second, "Done").await;
    assert_eq!(row.attempts, 1);
    assert_eq!(world.desk.notes(1), [1, 2]);
    assert_eq!(world.desk.most_at_once(1), 1);
    assert_eq!(world.claims().await, []);
    drop(worker);
}

#[tokio::test]
async fn keep_latest_runs_one_and_lets_the_newest_wait() {
    let Some(world) = World::new().await else { return };
    world.desk.close(1);
    let first = world.push(Latest { id: 1, note: 1 }).await;
    assert_eq!(world.queue.push(Latest { id: 1, note: 2 }).await.unwrap(), Enqueued::Coalesced(first));
    let worker = world.work_many::<Latest>("w1");
    world.desk.until(What::Began, 1, 1).await;
    let second = world.push(Latest { id: 1, note: 3 }).await;
    for note in 4..7 {
        // It may be in the hands of the worker for a moment, as it is put back; then the newest is a task of its own.
        let newest = world.queue.push(Latest { id: 1, note }).await.unwrap();
        assert!(matches!(newest, Enqueued::Coalesced(_) | Enqueued::New(_)), "{newest:?}");
    }
    assert!(world.claims().await.len() == 1 && second != first);
    world.desk.open(1);
    world.until_claims(&[]).await;
    for row in world.tasks().await {
        let row = world.until_status(row.id, "Done").await;
        assert!(!row.last_result.contains("put_back"), "{row:?}");
    }
    assert_eq!(world.desk.notes(1), [2, 6], "one that the worker had in its hands is superseded");
    assert_eq!(world.desk.most_at_once(1), 1);
    drop(worker);
}

#[tokio::test]
async fn keep_latest_puts_the_newest_behind_a_task_that_a_worker_has_taken() {
    let Some(world) = World::new().await else { return };
    let first = world.push(Latest { id: 1, note: 1 }).await;
    world.take(first, "w1").await;
    let second = world.push(Latest { id: 1, note: 2 }).await;
    assert_ne!(first, second);
    assert_eq!(world.claims().await, [second]);
    assert_eq!(world.queue.push(Latest { id: 1, note: 3 }).await.unwrap(), Enqueued::Coalesced(second));
    let payload = |row: super::Row| String::from_utf8(row.job).unwrap();
    assert!(payload(world.task(first).await).contains(r#""note":1"#));
    assert!(payload(world.task(second).await).contains(r#""note":3"#));
}

#[tokio::test]
async fn keep_latest_drops_a_task_that_a_newer_one_has_overtaken() {
    let Some(world) = World::new().await else { return };
    let older = world.push(Latest { id: 1, note: 1 }).await;
    world.take(older, "w1").await;
    let newer = world.push(Latest { id: 1, note: 2 }).await;
    let worker = world.work::<Latest>("w2");
    world.until_status(newer, "Done").await;
    assert_eq!(world.rescue("w1").await, 1);
    let row = world.until_status(older, "Done").await;
    assert!(row.last_result.contains("superseded"), "{row:?}");
    assert_eq!(world.desk.notes(1), [2], "the newest is the last");
    assert_eq!(world.claim_rows().await, 0);
    drop(worker);
}

#[tokio::test]
async fn keep_latest_does_not_begin_again_behind_a_newer_one() {
    let Some(world) = World::new().await else { return };
    world.desk.close(1);
    let older = world.push(Latest { id: 1, note: 1 }).await;
    let worker = world.work::<Latest>("w1");
    world.desk.until(What::Began, 1, 1).await;
    worker.kill().await;
    world.desk.open(1);
    let newer = world.push(Latest { id: 1, note: 2 }).await;
    let worker = world.work::<Latest>("w2");
    world.until_status(newer, "Done").await;
    assert_eq!(world.rescue("w1").await, 1);
    let row = world.until_status(older, "Done").await;
    assert!(row.last_result.contains("superseded"), "{row:?}");
    assert_eq!(world.desk.notes(1), [2], "the newest is the last");
    assert_eq!(world.claim_rows().await, 0);
    drop(worker);
}

#[tokio::test]
async fn keep_latest_retries_what_nothing_newer_has_overtaken() {
    let Some(world) = World::new().await else { return };
    world.desk.next(1, [Act::Fail, Act::Fail]);
    let task = world.push(Latest { id: 1, note: 1 }).await;
    let worker = world.work::<Latest>("w1");
    let row = world.until_status(task, "Done").await;
    assert_eq!(row.attempts, 3);
    assert!(row.last_result.contains("executed"), "{row:?}");
    assert_eq!(world.claim_rows().await, 0);
    drop(worker);
}

#[tokio::test]
async fn keep_latest_runs_a_task_whose_claim_was_ended_by_hand() {
    let Some(world) = World::new().await else { return };
    let task = world.push(Latest { id: 1, note: 1 }).await;
    assert!(world.queue.release(task).await.unwrap());
    let worker = world.work::<Latest>("w1");
    world.until_status(task, "Done").await;
    assert_eq!(world.desk.notes(1), [1]);
    drop(worker);
}

#[tokio::test]
async fn on_duplicate_error_names_the_task_and_the_claim() {
    let Some(world) = World::new().await else { return };
    let first = world.push(UntilEndOrError { id: 42, note: 1 }).await;
    let error = world.queue.push(UntilEndOrError { id: 42, note: 2 }).await.unwrap_err();
    let PushError::Duplicate { job: "until_end_or_error", of, .. } = error else { panic!("{error}") };
    assert_eq!(of, first);
    let text = error.to_string();
    assert!(text.contains("42") && text.contains(&first.to_string()), "{text}");
    assert!(!error.is_temporary());
    assert_eq!(world.tasks().await.len(), 1);
}

#[tokio::test]
async fn on_duplicate_replace_gives_a_waiting_task_the_new_arguments() {
    let Some(world) = World::new().await else { return };
    world.desk.close(1);
    let task = Enqueue::new(UntilEndOrReplace { id: 1, note: 1 }).priority(3).attempts(7);
    let first = world.push(task).await;
    let again = world.queue.push(UntilEndOrReplace { id: 1, note: 2 }).await.unwrap();
    assert_eq!(again, Enqueued::Replaced(first));
    assert_eq!(world.task(first).await.max_attempts, 7, "it keeps its place");
    let worker = world.work::<UntilEndOrReplace>("w1");
    world.desk.until(What::Began, 1, 1).await;
    // One that runs has the arguments that it has.
    assert_eq!(world.push_duplicate(UntilEndOrReplace { id: 1, note: 3 }).await, first);
    world.desk.open(1);
    world.until_status(first, "Done").await;
    assert_eq!(world.desk.notes(1), [2]);
    assert_eq!(world.tasks().await.len(), 1);
    drop(worker);
}

#[tokio::test]
async fn on_duplicate_reschedule_enqueues_a_task_that_takes_the_claim_when_it_can() {
    let Some(world) = World::new().await else { return };
    world.desk.close(1);
    let first = world.push(UntilEndOrLater { id: 1, note: 1 }).await;
    let later = world.queue.push(UntilEndOrLater { id: 1, note: 2 }).await.unwrap();
    let Enqueued::Deferred { id: second, after } = later else { panic!("{later:?}") };
    assert_eq!(after, Duration::from_secs(1));
    assert_ne!(first, second);
    assert_eq!(world.claims().await, [first]);
    let worker = world.work_many::<UntilEndOrLater>("w1");
    world.desk.until(What::Began, 1, 1).await;
    // Its time comes, it finds the claim held, and waits on; no attempt is spent.
    world.until(second, |row| row.due_in <= 0).await;
    world.until(second, |row| row.status == "Pending" && row.due_in > 0).await;
    assert_eq!(world.desk.count(What::Began, 1), 1);
    world.desk.open(1);
    let row = world.until_status(second, "Done").await;
    assert_eq!(row.attempts, 1);
    assert_eq!(world.desk.most_at_once(1), 1);
    assert_eq!(world.desk.notes(1), [1, 2]);
    assert_eq!(world.claims().await, []);
    drop(worker);
}

#[tokio::test]
async fn unique_by_is_coarser_than_the_key() {
    let Some(world) = World::new().await else { return };
    let first = world.push(UntilStart { id: 7, note: 1 }).await;
    let (one, other) = (UntilStart { id: 7, note: 1 }, UntilStart { id: 7, note: 2 });
    assert_ne!(idem_runtime::Job::key(&one).unwrap(), idem_runtime::Job::key(&other).unwrap());
    assert_eq!(world.push_duplicate(other).await, first);
    world.push(UntilStart { id: 8, note: 1 }).await;
}

#[tokio::test]
async fn queue_and_run_may_be_unique_by_keys_of_their_own() {
    let Some(world) = World::new().await else { return };
    world.desk.close(1);
    let first = world.push(EachByItsOwn { id: 1, note: 1 }).await;
    let second = world.push(EachByItsOwn { id: 1, note: 2 }).await;
    assert_eq!(world.push_duplicate(EachByItsOwn { id: 1, note: 2 }).await, second);
    let worker = world.work_many::<EachByItsOwn>("w1");
    world.desk.until(What::Began, 1, 1).await;
    world.until_any(|row| row.status == "Pending" && row.due_in > 0).await;
    assert_eq!(world.desk.count(What::Began, 1), 1);
    world.desk.open(1);
    for task in [first, second] {
        world.until_status(task, "Done").await;
    }
    assert_eq!(world.desk.most_at_once(1), 1);
    drop(worker);
}

#[tokio::test]
async fn a_recorded_key_is_not_enqueued_again() {
    let Some(world) = World::new().await else { return };
    let first = world.push(Recorded { id: 1, note: 1 }).await;
    let worker = world.work::<Recorded>("w1");
    world.until_status(first, "Done").await;
    assert_eq!(world.queue.push(Recorded { id: 1, note: 2 }).await.unwrap(), Enqueued::AlreadyDone);
    assert_eq!(world.tasks().await.len(), 1);
    assert_eq!(world.claims().await, []);
    drop(worker);
}

#[tokio::test]
async fn a_key_that_was_recorded_with_other_arguments_is_an_error() {
    let Some(world) = World::new().await else { return };
    compared(&world.idem, 1, 1).await.unwrap();
    assert_eq!(world.queue.push(Compared { id: 1, note: 1 }).await.unwrap(), Enqueued::AlreadyDone);
    let error = world.queue.push(Compared { id: 1, note: 2 }).await.unwrap_err();
    assert!(matches!(error, PushError::KeyReused(_)), "{error}");
    assert_eq!((world.tasks().await, world.claims().await), (vec![], vec![]));
}

#[tokio::test]
async fn every_answer_names_a_task_that_is_there() {
    let Some(world) = World::new().await else { return };
    let mut named = Vec::new();
    for note in 1..3 {
        named.push(world.queue.push(UntilEnd { id: 1, note }).await.unwrap());
        named.push(world.queue.push(UntilEndOrReplace { id: 1, note }).await.unwrap());
        named.push(world.queue.push(UntilEndOrLater { id: 1, note }).await.unwrap());
        named.push(world.queue.push(Latest { id: 1, note }).await.unwrap());
    }
    let tasks: Vec<_> = world.tasks().await.into_iter().map(|row| row.id).collect();
    assert_eq!(tasks.len(), 5);
    for answer in named {
        assert!(tasks.contains(&answer.task().unwrap()), "{answer:?}");
    }
    let holder = world.queue.holder(&UntilEnd { id: 1, note: 9 }).await.unwrap().unwrap();
    assert!(tasks.contains(&holder.task));
    assert_eq!(holder.left, None);
}
