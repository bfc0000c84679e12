//! What apalis's own workers, layers and settings make of idem's answers.

use std::time::Duration;

use apalis::layers::retry::RetryPolicy;
use apalis::prelude::*;
use idem_runtime::engine::apalis::{Every, POLL, PayloadCodec};
use idem_runtime::engine::{Engine, Enqueue, Enqueued};
use idem_runtime::store::Attempt;
use tokio::time::Instant;

use super::world::{Running, World, config};
use super::{AN_HOUR_AGO, Config, IN_AN_HOUR, NOW, TAKES_AGAIN, TAKES_NO_MORE, TASKS, WORKERS};
use crate::desk::{Act, LIMIT, What};
use crate::jobs::*;
use crate::log::Log;

#[tokio::test]
async fn what_a_worker_says_of_a_task_that_was_put_back_has_no_effect() {
    let Some(world) = World::new().await else { return };
    world.desk.close(1);
    let holder = world.push(OneAtATime { id: 1, note: 1 }).await;
    let working = world.work::<OneAtATime>("w1");
    world.desk.until(What::Began, 1, 1).await;
    let other_worker = world.work::<OneAtATime>("w2");
    let task = world.push(OneAtATime { id: 1, note: 2 }).await;
    // It is due later, and then again, until it is seen in time to keep the worker from it.
    let keep = format!("UPDATE {TASKS} SET run_at = {IN_AN_HOUR} WHERE id = '{task}' AND status = 'Pending'");
    loop {
        world.until(task, |row| row.status == "Pending" && row.due_in > 0).await;
        if world.sql(keep.as_str()).await == 1 {
            break;
        }
    }
    other_worker.kill().await;
    // apalis writes that the task has begun, and how it ended, in this order and after it was put back.
    world.sql(format!("UPDATE {TASKS} SET run_at = {AN_HOUR_AGO} WHERE id = '{task}'")).await;
    assert_eq!(world.say_begun(task, "w2").await, 0);
    let row = world.task(task).await;
    assert_eq!((row.status.as_str(), row.lock_by.as_deref()), ("Pending", None));
    assert!(!world.say_ended(task, "w2", "Done").await);
    let row = world.task(task).await;
    assert_eq!((row.status.as_str(), row.attempts), ("Pending", 0));

    world.desk.open(1);
    world.until_status(holder, "Done").await;
    world.until_status(task, "Done").await;
    assert_eq!(world.desk.notes(1), [1, 2]);
    drop(working);
}

/// While a worker has tasks in its buffer, apalis writes nothing of those that it has ended: another worker may have
/// taken one that was put back by then.
#[tokio::test]
async fn what_a_worker_says_late_of_a_task_that_it_put_back_takes_it_from_nobody() {
    let Some(world) = World::new().await else { return };
    let due = async |task| {
        world.sql(format!("UPDATE {TASKS} SET run_at = {AN_HOUR_AGO} WHERE id = '{task}'")).await;
    };
    let says_nothing = async |task, status: &str, has: &str| {
        assert_eq!(world.say_begun(task, "w1").await, 0, "while it is {status}");
        assert!(!world.say_ended(task, "w1", "Done").await, "while it is {status}");
        let row = world.task(task).await;
        assert_eq!((row.status.as_str(), row.lock_by.as_deref()), (status, Some(has)));
        assert_eq!(world.claims().await, [task], "while it is {status}");
    };
    let task = world.push(UntilEnd { id: 1, note: 1 }).await;
    world.take(task, "w1").await;
    let put_back = world.idem.store().put_off(Engine::Apalis, task, "w1", Duration::ZERO, Attempt::Unspent);
    assert!(put_back.await.unwrap());
    due(task).await;

    world.take(task, "w2").await;
    says_nothing(task, "Queued", "w2").await;
    assert_eq!(world.say_begun(task, "w2").await, 1);
    says_nothing(task, "Running", "w2").await;
    assert!(world.say_ended(task, "w2", "Failed").await);
    says_nothing(task, "Failed", "w2").await;

    // Who takes it in its turn has it: after a failure, and after a rescue.
    world.take(task, "w3").await;
    assert_eq!(world.say_begun(task, "w3").await, 1);
    assert_eq!(world.rescue("w3").await, 1);
    world.take(task, "w4").await;
    assert_eq!(world.say_begun(task, "w4").await, 1);
    assert!(world.say_ended(task, "w4", "Done").await);
    assert_eq!(world.claims().await, []);
}

/// The answer to putting it back may come late, and the worker may have taken it again by then.
#[tokio::test]
async fn a_task_that_its_own_worker_takes_again_is_not_done_by_having_been_put_back() {
    let Some(world) = World::new().await else { return };
    world.desk.close(1);
    let holder = world.push(OneAtATime { id: 1, note: 1 }).await;
    let working = world.work::<OneAtATime>("w1");
    world.desk.until(What::Began, 1, 1).await;
    world.sql(TAKES_AGAIN).await;
    let task = world.push(OneAtATime { id: 1, note: 2 }).await;
    let other_worker = world.work::<OneAtATime>("w2");
    world.until(task, |row| row.due_in > 0).await;
    // apalis has said all of that task when it says that the next one is done.
    let next = world.push(OneAtATime { id: 2, note: 1 }).await;
    world.until_status(next, "Done").await;
    let row = world.task(task).await;
    assert!(row.status != "Done" && row.lock_by.as_deref() == Some("w2"), "{row:?}");

    world.sql(TAKES_NO_MORE).await;
    world.desk.open(1);
    world.until_status(holder, "Done").await;
    assert_eq!(world.rescue_one(task).await, 1);
    world.sql(format!("UPDATE {TASKS} SET run_at = {AN_HOUR_AGO} WHERE id = '{task}'")).await;
    world.until_status(task, "Done").await;
    assert_eq!(world.desk.notes(1), [1, 2]);
    drop((working, other_worker));
}

#[tokio::test]
async fn a_task_that_a_worker_has_taken_can_begin() {
    let Some(world) = World::new().await else { return };
    let task = world.push(UntilEnd { id: 1, note: 1 }).await;
    world.sql(format!("UPDATE {TASKS} SET run_at = {AN_HOUR_AGO} WHERE id = '{task}'")).await;
    world.take(task, "w1").await;
    assert_eq!(world.say_begun(task, "w1").await, 1);
    assert_eq!(world.task(task).await.status, "Running");
}

#[tokio::test]
async fn a_task_that_was_taken_without_a_name_can_begin() {
    let Some(world) = World::new().await else { return };
    let task = world.push(UntilEnd { id: 1, note: 1 }).await;
    world.take(task, "w1").await;
    let taken = format!("UPDATE {TASKS} SET lock_by = NULL, run_at = {AN_HOUR_AGO} WHERE id = '{task}'");
    world.sql(taken).await;
    assert_eq!(world.say_begun(task, "w1").await, 1);
    assert_eq!(world.task(task).await.lock_by.as_deref(), Some("w1"));
}

#[tokio::test]
async fn many_short_tasks_that_keep_each_other_out_are_all_run_once() {
    let Some(world) = World::new().await else { return };
    let mut tasks = Vec::new();
    for note in 0..6 {
        for id in 0..5 {
            tasks.push(world.push(OneAtATime { id, note }).await);
        }
    }
    let workers = [world.work_many::<OneAtATime>("w1"), world.work_many::<OneAtATime>("w2")];
    for task in tasks {
        let row = world.until_status(task, "Done").await;
        assert!(row.last_result.contains("executed"), "{row:?}");
        assert_eq!(row.attempts, 1, "{row:?}");
    }
    for id in 0..5 {
        let mut notes = world.desk.notes(id);
        notes.sort_unstable();
        assert_eq!(notes, [0, 1, 2, 3, 4, 5]);
        assert_eq!(world.desk.most_at_once(id), 1);
    }
    drop(workers);
}

#[tokio::test]
async fn tasks_that_apalis_does_not_lock_are_put_back_and_run_all_the_same() {
    let Some(world) = World::new().await else { return };
    let mut tasks = Vec::new();
    for note in 0..4 {
        tasks.push(world.push(OneAtATime { id: 1, note }).await);
    }
    let worker = world.work_on::<OneAtATime>("w1", 100, config::<OneAtATime>().lock_tasks(false));
    for task in tasks {
        assert_eq!(world.until_status(task, "Done").await.attempts, 1);
    }
    assert_eq!(world.desk.notes(1).len(), 4);
    assert_eq!(world.desk.most_at_once(1), 1);
    drop(worker);
}

#[tokio::test]
async fn a_worker_that_persists_no_results_keeps_its_tasks_and_their_claims() {
    let Some(world) = World::new().await else { return };
    let task = world.push(UntilEnd { id: 1, note: 1 }).await;
    let worker = world.work_on::<UntilEnd>("w1", 1, config::<UntilEnd>().persist_results(false));
    world.desk.until(What::Succeeded, 1, 1).await;
    // apalis never says that it is done, so for everybody else it is not.
    let row = world.task(task).await;
    assert!(row.status == "Queued" || row.status == "Running", "{row:?}");
    assert_eq!(world.claims().await, [task]);
    assert_eq!(world.push_duplicate(UntilEnd { id: 1, note: 2 }).await, task);
    drop(worker);
}

#[tokio::test]
async fn a_retry_layer_does_not_run_a_task_that_was_put_back() {
    let Some(world) = World::new().await else { return };
    world.desk.close(1);
    let holder = world.push(OneAtATime { id: 1, note: 1 }).await;
    let first = world.work::<OneAtATime>("w1");
    world.desk.until(What::Began, 1, 1).await;
    let task = world.push(OneAtATime { id: 1, note: 2 }).await;
    let backend = world.storage::<OneAtATime>(config::<OneAtATime>()).poll_with_strategy(Every::new(POLL));
    let worker = WorkerBuilder::new("w2")
        .backend(backend)
        .retry(RetryPolicy::retries(5))
        .concurrency(10)
        .build(world.queue.handler::<OneAtATime>());
    let second = Running(tokio::spawn(worker.run()));
    let row = world.until(task, |row| row.status == "Pending" && row.due_in > 0).await;
    assert_eq!((row.attempts, row.lock_by), (0, None));
    world.desk.open(1);
    let row = world.until_status(task, "Done").await;
    assert_eq!(row.attempts, 1);
    world.until_status(holder, "Done").await;
    assert_eq!(world.desk.notes(1), [1, 2]);
    drop((first, second));
}

/// A task whose first attempt breaks waits for its next one, and then succeeds.
async fn check_wait(act: Act) {
    let Some(mut world) = World::new().await else { return };
    world.queue = world.queue.backoff(|attempt| Duration::from_secs(3600) * attempt);
    world.desk.next(1, [act, act]);
    let task = world.push(UntilEnd { id: 1, note: 1 }).await;
    let worker = world.work::<UntilEnd>("w1");
    for attempt in 1..=2 {
        let hour = 3600 * attempt;
        let row = world.until(task, |row| row.status == "Failed" && row.attempts == attempt).await;
        assert!((hour - 20..=hour + 1).contains(&row.due_in), "{row:?}");
        assert_eq!(world.claims().await, [task], "it keeps its claim");
        // It could be taken: the worker does others.
        let other = world.push(UntilEnd { id: 1 + attempt, note: 1 }).await;
        world.until_status(other, "Done").await;
        assert_eq!(i64::try_from(world.desk.count(What::Began, 1)).unwrap(), attempt);
        // The hour passes.
        world.sql(format!("UPDATE {TASKS} SET run_at = {AN_HOUR_AGO} WHERE id = '{task}'")).await;
    }
    let row = world.until_status(task, "Done").await;
    assert_eq!(row.attempts, 3);
    drop(worker);
}

#[tokio::test]
async fn a_task_that_failed_waits_before_it_is_tried_again() {
    check_wait(Act::Fail).await;
}

#[tokio::test]
async fn a_wait_between_attempts_is_no_shorter_than_it_says() {
    let Some(mut world) = World::new().await else { return };
    let wait = Duration::from_secs(1);
    world.queue = world.queue.backoff(move |_| wait);
    let worker = world.work_many::<UntilEnd>("w1");
    // At other fractions of a second.
    for id in 1..4 {
        world.desk.next(id, [Act::Fail]);
        world.push(UntilEnd { id, note: 1 }).await;
        world.desk.until(What::Broke, id, 1).await;
        let broke = Instant::now();
        world.desk.until(What::Began, id, 2).await;
        assert!(broke.elapsed() >= wait, "{:?}", broke.elapsed());
        tokio::time::sleep(Duration::from_millis(350)).await;
    }
    drop(worker);
}

#[tokio::test]
async fn a_task_that_panicked_waits_before_it_is_tried_again() {
    check_wait(Act::Panic).await;
}

#[tokio::test]
async fn a_retry_layer_retries_what_failed() {
    let Some(world) = World::new().await else { return };
    world.desk.next(1, [Act::Fail, Act::Fail]);
    let task = world.push(UntilEnd { id: 1, note: 1 }).await;
    let backend = world.storage::<UntilEnd>(config::<UntilEnd>()).poll_with_strategy(Every::new(POLL));
    let worker = WorkerBuilder::new("w1")
        .backend(backend)
        .retry(RetryPolicy::retries(5))
        .build(world.queue.handler::<UntilEnd>());
    let worker = Running(tokio::spawn(worker.run()));
    world.until_status(task, "Done").await;
    assert_eq!(world.desk.count(What::Began, 1), 3);
    assert_eq!(world.claims().await, []);
    drop(worker);
}

#[tokio::test]
async fn a_monitor_runs_workers() {
    let Some(world) = World::new().await else { return };
    let mut tasks = Vec::new();
    for note in 0..3 {
        tasks.push(world.push(OneAtATime { id: 1, note }).await);
    }
    let (queue, pool) = (world.queue.clone(), world.pool.clone());
    let monitor = Monitor::new().register(move |run| {
        let storage = super::Storage::new(&pool)
            .with_config(config::<OneAtATime>())
            .poll_with_strategy(Every::new(POLL));
        WorkerBuilder::new(format!("w{run}"))
            .backend(storage)
            .concurrency(4)
            .build(queue.handler::<OneAtATime>())
    });
    let monitor = tokio::spawn(async move { monitor.run().await });
    for task in tasks {
        assert_eq!(world.until_status(task, "Done").await.attempts, 1);
    }
    assert_eq!(world.desk.most_at_once(1), 1);
    monitor.abort();
}

#[tokio::test]
async fn a_final_error_kills_the_task_after_one_attempt() {
    let Some(world) = World::new().await else { return };
    world.desk.next(1, [Act::FailForGood]);
    let task = world.push(Enqueue::new(FinalError { id: 1, note: 1 }).attempts(9)).await;
    let worker = world.work::<FinalError>("w1");
    let row = world.until_status(task, "Killed").await;
    assert_eq!((row.attempts, row.max_attempts), (1, 9));
    assert!(row.last_result.contains("Final"), "{row:?}");
    assert_eq!(world.desk.count(What::Began, 1), 1);
    assert_eq!(world.claims().await, []);
    assert_eq!(world.queue.push(FinalError { id: 1, note: 2 }).await.unwrap(), Enqueued::AlreadyDone);
    drop(worker);
}

#[tokio::test]
async fn a_final_error_is_not_retried_by_a_retry_layer() {
    let Some(world) = World::new().await else { return };
    world.desk.next(1, [Act::FailForGood]);
    let task = world.push(FinalError { id: 1, note: 1 }).await;
    let backend = world.storage::<FinalError>(config::<FinalError>()).poll_with_strategy(Every::new(POLL));
    let worker = WorkerBuilder::new("w1")
        .backend(backend)
        .retry(RetryPolicy::retries(5))
        .build(world.queue.handler::<FinalError>());
    let worker = Running(tokio::spawn(worker.run()));
    let row = world.until_status(task, "Killed").await;
    assert_eq!((row.attempts, world.desk.count(What::Began, 1)), (1, 1));
    drop(worker);
}

#[tokio::test]
async fn an_error_that_is_not_final_is_retried_up_to_the_limit() {
    let Some(world) = World::new().await else { return };
    world.desk.next(1, [Act::Fail; 5]);
    let task = world.push(Enqueue::new(FinalError { id: 1, note: 1 }).attempts(3)).await;
    let worker = world.work::<FinalError>("w1");
    let row = world.until(task, |row| row.status == "Failed" && row.attempts == 3).await;
    assert!(row.last_result.contains("Passing"), "{row:?}");
    assert_eq!(world.desk.count(What::Began, 1), 3);
    assert_eq!(world.claims().await, []);
    drop(worker);
}

/// Whoever reads the log learns of a task that is given up, and of which key it is.
#[tokio::test]
async fn every_attempt_that_fails_is_logged_and_the_last_one_as_a_warning() {
    let log = Log::default();
    let _listening = log.listen();
    let Some(world) = World::new().await else { return };
    world.desk.next(7, [Act::Fail, Act::Panic]);
    let task = world.push(Enqueue::new(FinalError { id: 7, note: 1 }).attempts(2)).await;
    let worker = world.work::<FinalError>("w1");
    world.until(task, |row| row.status == "Failed" && row.attempts == 2).await;
    drop(worker);
    let lines = log.of_task(&task.to_string());
    let [again, last] = &*lines else { panic!("{lines:#?}") };
    let of = format!(r#"job="final_error" key="7" task={task} attempt=1 after=0ns"#);
    assert!(again.starts_with("INFO ") && again.contains("failed, and is tried again"), "{again}");
    assert!(again.ends_with(&of), "{again}");
    assert!(last.starts_with("WARN ") && last.contains("its attempts are used up"), "{last}");
    for field in [r#"key="7" hash="#, "attempt=2 code=idem::panicked"] {
        assert!(last.contains(field), "{last}");
    }
}

/// The run has said at length what it has met.
#[tokio::test]
async fn a_task_that_is_put_back_is_logged_with_its_key_and_the_code() {
    let log = Log::default();
    let _listening = log.listen();
    let Some(world) = World::new().await else { return };
    world.desk.close(1);
    world.push(OneAtATime { id: 1, note: 1 }).await;
    let working = world.work::<OneAtATime>("w1");
    world.desk.until(What::Began, 1, 1).await;
    let other_worker = world.work::<OneAtATime>("w2");
    let task = world.push(OneAtATime { id: 1, note: 2 }).await;
    world.until(task, |row| row.status == "Pending" && row.due_in > 0).await;
    drop((working, other_worker));
    let lines = log.of_task(&task.to_string());
    let of = format!(r#"put back job="one_at_a_time" key="1, 2" task={task} after=1s code=idem::busy"#);
    assert!(lines.iter().any(|line| line.ends_with(&of)), "{lines:#?}");
}

#[tokio::test]
async fn a_reused_key_kills_the_task_after_one_attempt() {
    let Some(world) = World::new().await else { return };
    let task = world.push(Compared { id: 1, note: 1 }).await;
    compared(&world.idem, 1, 2).await.unwrap();
    let worker = world.work::<Compared>("w1");
    let row = world.until_status(task, "Killed").await;
    assert_eq!(row.attempts, 1);
    assert_eq!(world.desk.notes(1), [2]);
    assert_eq!(world.claims().await, []);
    drop(worker);
}

/// As another version has enqueued it, whose key it was not.
async fn check_empty_key<J: super::world::Runs>(job: J) {
    let Some(world) = World::new().await else { return };
    let task = world.push(job).await;
    let empty = super::bytes(&hex_of(r#"{"name":""}"#));
    world.sql(format!("UPDATE {TASKS} SET job = {empty} WHERE id = '{task}'")).await;
    let worker = world.work::<J>("w1");
    let row = world.until(task, |row| row.attempts > 0).await;
    assert_eq!((row.status.as_str(), row.attempts), ("Killed", 1), "{row:?}");
    assert!(row.last_result.contains("idem::empty_key"), "{row:?}");
    assert_eq!(world.claims().await, []);
    drop(worker);
}

#[tokio::test]
async fn an_empty_key_kills_the_task_after_one_attempt() {
    check_empty_key(Named { name: String::from("Ada") }).await;
    check_empty_key(NamedOnce { name: String::from("Ada") }).await;
}

#[tokio::test]
async fn a_panic_fails_the_task_and_ends_neither_the_worker_nor_other_bodies() {
    let Some(world) = World::new().await else { return };
    world.desk.next(1, [Act::Panic]);
    world.desk.close(1);
    world.desk.close(2);
    let task = world.push(UntilEnd { id: 1, note: 1 }).await;
    let other = world.push(UntilEnd { id: 2, note: 1 }).await;
    let worker = world.work_many::<UntilEnd>("w1");
    world.desk.until(What::Began, 1, 1).await;
    world.desk.until(What::Began, 2, 1).await;
    world.desk.pass(1);
    world.desk.until(What::Began, 1, 2).await;
    let row = world.task(task).await;
    assert!(row.last_result.contains("panics, as it was told"), "{row:?}");
    assert_eq!(row.attempts, 1);
    assert_eq!(world.push_duplicate(UntilEnd { id: 1, note: 2 }).await, task);
    world.desk.open(1);
    world.desk.open(2);
    for task in [task, other] {
        world.until_status(task, "Done").await;
    }
    assert_eq!(world.desk.count(What::Began, 2), 1);
    assert_eq!(world.claims().await, []);
    assert!(!worker.is_over());
}

#[tokio::test]
async fn a_task_that_panics_each_time_is_given_up_under_a_layer_that_catches_panics() {
    let Some(world) = World::new().await else { return };
    world.desk.next(1, [Act::Panic; 4]);
    let task = world.push(Enqueue::new(UntilEnd { id: 1, note: 1 }).attempts(2)).await;
    let backend = world.storage::<UntilEnd>(config::<UntilEnd>()).poll_with_strategy(Every::new(POLL));
    let worker = WorkerBuilder::new("w1")
        .backend(backend)
        .catch_panic()
        .concurrency(1)
        .build(world.queue.handler::<UntilEnd>());
    let worker = Running(tokio::spawn(worker.run()));
    world.until(task, |row| row.status == "Failed" && row.attempts == 2).await;
    assert_eq!(world.desk.count(What::Began, 1), 2);
    assert_eq!(world.claims().await, []);
    assert!(!worker.is_over());
}

#[tokio::test]
async fn a_payload_of_another_version_kills_the_task_and_not_the_worker() {
    let Some(world) = World::new().await else { return };
    check_unreadable(&world, r#"{"id":1,"remark":"of an older version"}"#).await;
}

#[tokio::test]
async fn a_payload_that_is_no_json_kills_the_task_and_not_the_worker() {
    let Some(world) = World::new().await else { return };
    check_unreadable(&world, "\u{1}no json").await;
}

#[tokio::test]
async fn without_the_codec_a_payload_that_is_no_json_ends_the_worker() {
    let Some(world) = World::new().await else { return };
    let bad = world.push(UntilEnd { id: 1, note: 1 }).await;
    world.sql(format!("UPDATE {TASKS} SET job = {} WHERE id = '{bad}'", super::bytes("01"))).await;
    let mut worker = world.work::<UntilEnd>("w1");
    let ended = tokio::time::timeout(LIMIT, &mut worker.0).await.expect("the worker ends");
    assert!(ended.unwrap().is_err());
    let row = world.task(bad).await;
    assert_eq!((row.status.as_str(), row.lock_by.as_deref()), ("Queued", Some("w1")));
}

async fn check_unreadable(world: &World, payload: &str) {
    let bad = world.push(Enqueue::new(UntilEnd { id: 1, note: 1 }).priority(5)).await;
    let good = world.push(UntilEnd { id: 2, note: 1 }).await;
    let hex: String = payload.bytes().map(|byte| format!("{byte:02x}")).collect();
    world.sql(format!("UPDATE {TASKS} SET job = {} WHERE id = '{bad}'", super::bytes(&hex))).await;
    let storage = world.storage::<UntilEnd>(config::<UntilEnd>());
    let worker = WorkerBuilder::new("w1")
        .backend(storage.with_codec(PayloadCodec).poll_with_strategy(Every::new(POLL)))
        .concurrency(1)
        .build(world.queue.handler::<UntilEnd>());
    let worker = Running(tokio::spawn(worker.run()));
    let row = world.until_status(bad, "Killed").await;
    assert_eq!(row.job, payload.as_bytes(), "the bytes stay");
    for part in [&bad.to_string(), "until_end", "serde(default)", "Pending"] {
        assert!(row.last_result.contains(part), "{part} in {}", row.last_result);
    }
    assert_eq!(row.attempts, 1);
    world.until_status(good, "Done").await;
    assert!(!worker.is_over());
    assert_eq!(world.claims().await, []);
    // As the message says: a job that reads it, and the task set to Pending.
    let (read, put) = (super::bytes(&hex_of(r#"{"id":1,"note":7}"#)), format!("WHERE id = '{bad}'"));
    world.sql(format!("UPDATE {TASKS} SET job = {read}, status = 'Pending', lock_by = NULL {put}")).await;
    world.until_status(bad, "Done").await;
    assert_eq!(world.desk.notes(1), [7]);
    drop(worker);
}

fn hex_of(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn an_idle_worker_begins_a_new_task_within_a_second() {
    let Some(world) = World::new().await else { return };
    let worker = world.work::<UntilEnd>("w1");
    // It has done one task and looked for others since.
    let first = world.push(UntilEnd { id: 1, note: 1 }).await;
    world.until_status(first, "Done").await;
    tokio::time::sleep(POLL).await;
    let mut took = Vec::new();
    // The machine may be busy with something else, once in a turn or for a whole one.
    for first in [2, 7, 12, 17, 22] {
        took.clear();
        for id in first..first + 5 {
            let started = Instant::now();
            world.push(UntilEnd { id, note: 1 }).await;
            world.desk.until(What::Began, id, 1).await;
            took.push(started.elapsed());
        }
        took.sort_unstable();
        if took[2] < Duration::from_secs(1) {
            break;
        }
    }
    assert!(took[2] < Duration::from_secs(1), "{took:?}");
    drop(worker);
}

#[tokio::test]
async fn a_worker_that_stands_still_and_wakes_up_ends_nothing_of_the_one_after_it() {
    let Some(world) = World::new().await else { return };
    world.desk.close(1);
    let task = world.push(UntilEnd { id: 1, note: 1 }).await;
    let old = world.work::<UntilEnd>("w1");
    world.desk.until(What::Began, 1, 1).await;
    // Others take it for dead, although it is at work: the key keeps the second run out, and the task waits.
    world.sql(format!("UPDATE {WORKERS} SET last_seen = {AN_HOUR_AGO} WHERE id = 'w1'")).await;
    assert_eq!(world.rescue("w1").await, 1);
    let new = world.work::<UntilEnd>("w2");
    world.until(task, |row| row.lock_by.as_deref() == Some("w2")).await;
    world.desk.open(1);
    world.until_status(task, "Done").await;
    world.sql(format!("UPDATE {WORKERS} SET last_seen = {NOW}")).await;
    assert_eq!(world.desk.most_at_once(1), 1);
    assert_eq!(world.claims().await, []);
    drop((old, new));
}

/// apalis counts an attempt for each task that a dead worker had, whether it had begun or waited its turn.
#[tokio::test]
async fn a_task_that_ends_its_workers_is_given_up() {
    let Some(world) = World::new().await else { return };
    world.desk.close(1);
    let task = world.push(Enqueue::new(UntilEnd { id: 1, note: 1 }).attempts(1)).await;
    // Its only attempt is spent without a run.
    world.take(task, "w1").await;
    assert_eq!(world.rescue("w1").await, 1);
    let worker = world.work::<UntilEnd>("w2");
    world.desk.until(What::Began, 1, 1).await;
    worker.kill().await;
    assert_eq!(world.rescue("w2").await, 1);
    assert_eq!(world.claims().await, [task]);

    let worker = world.work::<UntilEnd>("w3");
    let row = world.until_status(task, "Killed").await;
    assert!(row.last_result.contains("[idem::attempts_used_up]"), "{row:?}");
    assert_eq!(world.desk.count(What::Began, 1), 1);
    assert_eq!(world.claims().await, []);
    assert!(!worker.is_over());
    // As the message says.
    world.desk.open(1);
    let again = "status = 'Pending', attempts = 0, lock_by = NULL";
    world.sql(format!("UPDATE {TASKS} SET {again} WHERE id = '{task}'")).await;
    world.until_status(task, "Done").await;
    assert_eq!(world.desk.notes(1), [1]);
}

#[tokio::test]
async fn a_task_that_waits_is_not_given_up_before_it_has_begun() {
    let Some(world) = World::new().await else { return };
    world.desk.close(1);
    let holder = world.push(OneAtATime { id: 1, note: 1 }).await;
    let worker = world.work_many::<OneAtATime>("w1");
    world.desk.until(What::Began, 1, 1).await;
    let task = world.push(Enqueue::new(OneAtATime { id: 1, note: 2 }).attempts(1).after(LIMIT)).await;
    let spent = format!("UPDATE {TASKS} SET attempts = 3, run_at = {AN_HOUR_AGO} WHERE id = '{task}'");
    world.sql(spent).await;
    for _ in 0..2 {
        // It finds the key held, twice.
        world.until(task, |row| row.status == "Pending" && row.due_in > 0).await;
        world.sql(format!("UPDATE {TASKS} SET run_at = {AN_HOUR_AGO} WHERE id = '{task}'")).await;
    }
    world.desk.open(1);
    world.until_status(holder, "Done").await;
    world.until_status(task, "Done").await;
    assert_eq!(world.desk.notes(1), [1, 2]);
    drop(worker);
}

#[tokio::test]
async fn a_float_of_many_digits_comes_as_it_was_pushed() {
    let Some(world) = World::new().await else { return };
    let job = || Weighed { id: 1, weight: 95.367_292_978_973_07, limit: Some(Some(7)) };
    let task = world.push(job()).await;
    let worker = world.work::<Weighed>("w1");
    world.until_status(task, "Done").await;
    // The record has the fingerprint of the arguments that were pushed.
    assert_eq!(world.queue.push(job()).await.unwrap(), Enqueued::AlreadyDone);
    drop(worker);
}

#[tokio::test]
async fn arguments_that_json_does_not_carry_are_refused_as_they_are_pushed() {
    let Some(world) = World::new().await else { return };
    let plain = Weighed { id: 1, weight: 1.0, limit: None };
    for job in [
        Weighed { limit: Some(None), ..plain },
        Weighed { weight: f64::NAN, ..plain },
        Weighed { weight: f64::INFINITY, ..plain },
    ] {
        let text = world.queue.push(job).await.unwrap_err().to_string();
        assert!(text.contains("`weighed`") && text.contains("JSON"), "{text}");
        assert!(text.ends_with("[idem::unserializable]"), "{text}");
    }
    assert_eq!(world.tasks().await, []);
    world.push(plain).await;
    // One whose order is not kept is not changed by that.
    let tags = (0..50).map(|tag| tag.to_string()).collect();
    world.push(Tagged { id: 1, tags }).await;
}

#[tokio::test]
async fn a_worker_at_another_queue_ends_with_an_error_that_says_what_to_write() {
    let Some(world) = World::new().await else { return };
    let task = world.push(UntilEnd { id: 1, note: 1 }).await;
    // Without a name a storage is that of a type.
    let backend = world.storage::<UntilEnd>(Config::default()).poll_with_strategy(Every::new(POLL));
    let worker =
        WorkerBuilder::new("w1").backend(backend).concurrency(4).build(world.queue.handler::<UntilEnd>());
    let ended = tokio::time::timeout(LIMIT, worker.run()).await.expect("the worker ends");
    let error = format!("{:?}", ended.unwrap_err());
    assert!(error.contains("and the tasks of job `until_end` are in `until_end`"), "{error}");
    assert!(
        error.contains(
            "`.with_config(Config::default().queue(queue.name::<UntilEnd>()))`, and let no two workers share a name [idem::misconfigured]"
        ),
        "{error}"
    );
    assert_eq!((world.task(task).await.status.as_str(), world.desk.count(What::Began, 1)), ("Pending", 0));
    // Named as it should be, it takes what waits.
    let _worker = world.work::<UntilEnd>("w2");
    world.until_status(task, "Done").await;
}
