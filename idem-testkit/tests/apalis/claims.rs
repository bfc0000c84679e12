//! How claims end, and how they do not: rollbacks, dead workers, hands in the tables, retries, twins.

use std::time::Duration;

use idem_runtime::engine::{Engine, Enqueue, Enqueued, PushError, TaskId};
use idem_runtime::{Idem, Job};
use sqlx::Connection as _;

use super::world::{Running, Runs, World, config};
use super::{AN_HOUR_AGO, EXPIRE_CLAIMS, NOW, TASKS, WORKERS, wait_for_a_push};
use crate::desk::{Act, What};
use crate::jobs::*;

#[tokio::test]
async fn a_window_that_lapses_in_the_backlog_drops_nothing() {
    let Some(world) = World::new().await else { return };
    let first = world.push(InAnHour { id: 1, note: 1 }).await;
    assert_eq!(world.sql(EXPIRE_CLAIMS).await, 1);
    let second = world.push(InAnHour { id: 1, note: 2 }).await;
    assert_eq!(world.claims().await, [second]);
    let worker = world.work::<InAnHour>("w1");
    world.until_status(first, "Done").await;
    world.until_status(second, "Done").await;
    let mut notes = world.desk.notes(1);
    notes.sort_unstable();
    assert_eq!(notes, [1, 2]);
    drop(worker);
}

#[tokio::test]
async fn a_retry_is_not_rejected_by_its_own_claim() {
    let Some(world) = World::new().await else { return };
    world.desk.next(1, [Act::Fail, Act::Fail]);
    world.desk.next(2, [Act::Fail, Act::Fail]);
    let plain = world.push(UntilEnd { id: 1, note: 1 }).await;
    // One that takes its claim only as it starts has it by its second attempt.
    let first = world.push(UntilEndOrLater { id: 2, note: 1 }).await;
    let later = world.queue.push(UntilEndOrLater { id: 2, note: 2 }).await.unwrap().task().unwrap();
    assert_eq!(world.sql(format!("DELETE FROM {TASKS} WHERE id = '{first}'")).await, 1);
    let workers = (world.work::<UntilEnd>("w1"), world.work::<UntilEndOrLater>("w2"));
    for task in [plain, later] {
        assert_eq!(world.until_status(task, "Done").await.attempts, 3);
    }
    assert_eq!(world.claims().await, []);
    drop(workers);
}

#[tokio::test]
async fn a_rollback_leaves_neither_task_nor_claim() {
    let Some(world) = World::new().await else { return };
    world.idem.enrol::<UntilEnd>().await.unwrap();
    let mut connection = world.place.connect().await;
    let mut tx = connection.begin().await.unwrap();
    let enqueued = world.queue.push_in(&mut tx, UntilEnd { id: 1, note: 1 }).await.unwrap();
    assert!(matches!(enqueued, Enqueued::New(_)));
    tx.rollback().await.unwrap();
    assert_eq!((world.tasks().await, world.claims().await), (vec![], vec![]));
    world.push(UntilEnd { id: 1, note: 1 }).await;
}

#[tokio::test]
async fn a_push_that_waited_for_a_transaction_wins_when_that_is_rolled_back() {
    let Some(world) = World::new().await else { return };
    world.idem.enrol::<UntilEnd>().await.unwrap();
    let mut connection = world.place.connect().await;
    let mut tx = connection.begin().await.unwrap();
    let lost = world.queue.push_in(&mut tx, UntilEnd { id: 1, note: 1 }).await.unwrap().task().unwrap();
    let queue = world.queue.clone();
    let racing = tokio::spawn(async move { queue.push(UntilEnd { id: 1, note: 2 }).await });
    wait_for_a_push(&world.place).await;
    assert!(!racing.is_finished());
    tx.rollback().await.unwrap();
    let Enqueued::New(won) = racing.await.unwrap().unwrap() else { panic!("it has lost against nobody") };
    assert_ne!(lost, won);
    assert_eq!(world.claims().await, [won]);
    assert_eq!(world.tasks().await.len(), 1);
}

#[tokio::test]
async fn a_push_that_waited_for_a_transaction_names_the_winner_when_that_commits() {
    let Some(world) = World::new().await else { return };
    world.idem.enrol::<UntilEnd>().await.unwrap();
    let mut connection = world.place.connect().await;
    let mut tx = connection.begin().await.unwrap();
    let won = world.queue.push_in(&mut tx, UntilEnd { id: 1, note: 1 }).await.unwrap().task().unwrap();
    let queue = world.queue.clone();
    let racing = tokio::spawn(async move { queue.push(UntilEnd { id: 1, note: 2 }).await });
    wait_for_a_push(&world.place).await;
    tx.commit().await.unwrap();
    let answer = racing.await.unwrap().unwrap();
    assert!(matches!(answer, Enqueued::Duplicate { of, .. } if of == won), "{answer:?}");
    assert_eq!(world.claims().await, [won]);
}

#[tokio::test]
async fn pushes_at_once_enqueue_one_task_and_name_it() {
    let Some(world) = World::new().await else { return };
    world.idem.enrol::<UntilEnd>().await.unwrap();
    let barrier = std::sync::Arc::new(tokio::sync::Barrier::new(16));
    let pushes: Vec<_> = (0..16)
        .map(|note| {
            let (queue, barrier) = (world.queue.clone(), barrier.clone());
            tokio::spawn(async move {
                barrier.wait().await;
                queue.push(UntilEnd { id: 1, note }).await.unwrap()
            })
        })
        .collect();
    let mut new = 0;
    let mut named = Vec::new();
    for push in pushes {
        let answer = push.await.unwrap();
        new += usize::from(matches!(answer, Enqueued::New(_)));
        named.push(answer.task().unwrap());
    }
    assert_eq!(new, 1);
    let [row] = &world.tasks().await[..] else { panic!("one task is enqueued") };
    assert!(named.iter().all(|task| *task == row.id), "{named:?}");
}

#[tokio::test]
async fn a_duplicate_in_the_callers_transaction_leaves_it_usable() {
    let Some(world) = World::new().await else { return };
    world.sql("CREATE TABLE orders (id BIGINT)").await;
    let held = world.push(UntilEnd { id: 1, note: 1 }).await;
    world.push(UntilEndOrError { id: 1, note: 1 }).await;
    world.push(UntilEndOrReplace { id: 1, note: 1 }).await;
    world.push(UntilEndOrLater { id: 1, note: 1 }).await;
    world.push(Latest { id: 1, note: 1 }).await;

    let mut connection = world.place.connect().await;
    let mut tx = connection.begin().await.unwrap();
    sqlx::raw_sql("INSERT INTO orders VALUES (1)").execute(&mut *tx).await.unwrap();
    let queue = &world.queue;
    let answer = queue.push_in(&mut tx, UntilEnd { id: 1, note: 2 }).await.unwrap();
    assert!(matches!(answer, Enqueued::Duplicate { of, .. } if of == held), "{answer:?}");
    let answer = queue.push_in(&mut tx, UntilEndOrError { id: 1, note: 2 }).await;
    assert!(matches!(answer, Err(PushError::Duplicate { .. })), "{answer:?}");
    let answer = queue.push_in(&mut tx, UntilEndOrReplace { id: 1, note: 2 }).await.unwrap();
    assert!(matches!(answer, Enqueued::Replaced(_)), "{answer:?}");
    let answer = queue.push_in(&mut tx, UntilEndOrLater { id: 1, note: 2 }).await.unwrap();
    assert!(matches!(answer, Enqueued::Deferred { .. }), "{answer:?}");
    let answer = queue.push_in(&mut tx, Latest { id: 1, note: 2 }).await.unwrap();
    assert!(matches!(answer, Enqueued::Coalesced(_)), "{answer:?}");
    sqlx::raw_sql("INSERT INTO orders VALUES (2)").execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
    let orders: (i64,) =
        sqlx::query_as("SELECT count(*) FROM orders").fetch_one(&mut connection).await.unwrap();
    assert_eq!(orders, (2,));
    assert_eq!(world.tasks().await.len(), 6);
}

#[tokio::test]
async fn a_batch_with_duplicates_enqueues_the_others() {
    let Some(world) = World::new().await else { return };
    let held = world.push(UntilEnd { id: 2, note: 1 }).await;
    let ids = [1, 2, 3, 1, 4];
    let answers = world.queue.push_all(ids.map(|id| UntilEnd { id, note: 5 })).await.unwrap();
    let answers: Vec<Enqueued> = answers.into_iter().map(Result::unwrap).collect();
    let [Enqueued::New(first), second, Enqueued::New(third), fourth, Enqueued::New(fifth)] = answers[..]
    else {
        panic!("{answers:?}")
    };
    assert!(matches!(second, Enqueued::Duplicate { of, .. } if of == held), "{second:?}");
    assert!(matches!(fourth, Enqueued::Duplicate { of, .. } if of == first), "{fourth:?}");
    let mut tasks: Vec<TaskId> = world.tasks().await.into_iter().map(|row| row.id).collect();
    let mut expected = [held, first, third, fifth];
    expected.sort_by_key(TaskId::to_string);
    tasks.sort_by_key(TaskId::to_string);
    assert_eq!(tasks, expected);
    assert_eq!(world.claims().await, expected);
}

/// Starts a worker that looks for dead ones every second.
fn rescuer<J: Runs>(world: &World, name: &str) -> Running {
    let config = config::<J>().heartbeat_interval(Duration::from_secs(1)).missed_heartbeats(5);
    world.work_on::<J>(name, 100, config)
}

#[tokio::test]
async fn a_task_whose_worker_died_is_rescued_with_its_claim() {
    let Some(world) = World::new().await else { return };
    world.desk.close(1);
    let task = world.push(UntilEnd { id: 1, note: 1 }).await;
    let worker = world.work::<UntilEnd>("w1");
    world.desk.until(What::Began, 1, 1).await;
    worker.kill().await;
    assert_eq!(world.desk.count(What::Broke, 1), 1);
    assert_eq!(world.push_duplicate(UntilEnd { id: 1, note: 2 }).await, task);

    world.sql(format!("UPDATE {WORKERS} SET last_seen = {AN_HOUR_AGO} WHERE id = 'w1'")).await;
    let worker = rescuer::<UntilEnd>(&world, "w2");
    world.desk.until(What::Began, 1, 2).await;
    assert_eq!(world.push_duplicate(UntilEnd { id: 1, note: 2 }).await, task);
    assert_eq!(world.claims().await, [task]);
    world.desk.open(1);
    world.until_status(task, "Done").await;
    assert_eq!(world.claims().await, []);
    assert_eq!(world.desk.notes(1), [1]);
    drop(worker);
}

#[tokio::test]
async fn a_deleted_task_ends_its_claim_in_the_transaction_that_deletes_it() {
    let Some(world) = World::new().await else { return };
    let task = world.push(UntilEnd { id: 1, note: 1 }).await;
    let other = world.push(UntilEnd { id: 2, note: 1 }).await;
    for commits in [false, true] {
        let mut connection = world.place.connect().await;
        let mut tx = connection.begin().await.unwrap();
        let delete = sqlx::AssertSqlSafe(format!("DELETE FROM {TASKS} WHERE id = '{task}'"));
        sqlx::raw_sql(delete).execute(&mut *tx).await.unwrap();
        assert_eq!(world.queue.holder(&UntilEnd { id: 1, note: 1 }).await.unwrap().unwrap().task, task);
        match commits {
            true => tx.commit().await.unwrap(),
            false => tx.rollback().await.unwrap(),
        }
        let holder = world.queue.holder(&UntilEnd { id: 1, note: 1 }).await.unwrap();
        assert_eq!(holder.is_none(), commits);
    }
    assert_eq!(world.claims().await, [other]);
}

#[tokio::test]
async fn a_task_that_is_killed_by_hand_ends_its_claim() {
    let Some(world) = World::new().await else { return };
    let waits = world.push(UntilEnd { id: 1, note: 1 }).await;
    let runs = world.push(UntilEnd { id: 2, note: 1 }).await;
    let stays = world.push(UntilEnd { id: 3, note: 1 }).await;
    world.take(runs, "w1").await;
    let kill = format!("UPDATE {TASKS} SET status = 'Killed' WHERE id IN ('{waits}', '{runs}')");
    assert_eq!(world.sql(kill).await, 2);
    assert_eq!(world.claims().await, [stays]);
}

#[tokio::test]
async fn a_vacuum_ends_no_claim_of_a_task_that_lives() {
    let Some(world) = World::new().await else { return };
    let done = world.push(UntilEnd { id: 1, note: 1 }).await;
    world.take(done, "w1").await;
    assert!(world.say_ended(done, "w1", "Done").await);
    let again = world.push(UntilEnd { id: 1, note: 2 }).await;
    let failed = world.push(UntilEnd { id: 2, note: 1 }).await;
    world.take(failed, "w1").await;
    assert!(world.say_ended(failed, "w1", "Failed").await);
    let mut expected = [again, failed];
    expected.sort_by_key(TaskId::to_string);
    assert_eq!(world.claims().await, expected);
    // What apalis's vacuum deletes.
    let vacuum = format!(
        "DELETE FROM {TASKS} WHERE status = 'Done' OR status = 'Killed' OR status = 'Failed' AND max_attempts <= attempts"
    );
    assert_eq!(world.sql(vacuum).await, 1);
    assert_eq!(world.claims().await, expected);
}

#[tokio::test]
async fn a_rescued_task_that_meets_a_newer_twin_wedges_nothing() {
    let Some(world) = World::new().await else { return };
    let old = world.push(UntilEnd { id: 1, note: 1 }).await;
    let other = world.push(UntilEnd { id: 2, note: 1 }).await;
    world.take(old, "w1").await;
    world.take(other, "w1").await;
    assert!(world.queue.release(old).await.unwrap());
    let new = world.push(UntilEnd { id: 1, note: 2 }).await;
    assert_eq!(world.rescue("w1").await, 2);
    let worker = world.work::<UntilEnd>("w2");
    for task in [old, new, other] {
        world.until_status(task, "Done").await;
    }
    let mut notes = world.desk.notes(1);
    notes.sort_unstable();
    assert_eq!(notes, [1, 2]);
    assert_eq!(world.claims().await, []);
    drop(worker);
}

#[tokio::test]
async fn two_jobs_may_have_one_key() {
    let Some(world) = World::new().await else { return };
    let tasks = [
        world.push(UntilEnd { id: 1, note: 1 }).await,
        world.push(UntilEndOrReplace { id: 1, note: 1 }).await,
        world.push(Recorded { id: 1, note: 1 }).await,
    ];
    assert_eq!(world.claims().await.len(), tasks.len());
    assert_eq!(world.push_duplicate(Recorded { id: 1, note: 2 }).await, tasks[2]);
}

#[tokio::test]
async fn two_namespaces_may_have_one_key() {
    let Some(world) = World::new().await else { return };
    let builder = Idem::builder(world.pool.clone()).namespace("elsewhere").state(world.desk.clone());
    let elsewhere = builder.build().unwrap().queue(Engine::Apalis);
    let here = world.push(UntilEnd { id: 1, note: 1 }).await;
    let there = elsewhere.push(UntilEnd { id: 1, note: 1 }).await.unwrap();
    assert!(matches!(there, Enqueued::New(id) if id != here), "{there:?}");
    // Nor do the workers of one take the tasks of the other.
    assert_eq!(world.queue.name::<UntilEnd>(), "until_end");
    assert_eq!(elsewhere.name::<UntilEnd>(), "elsewhere:until_end");
    let sql = format!("SELECT job_type FROM {TASKS} WHERE id = '{}'", there.task().unwrap());
    let queue: String = sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(&world.pool).await.unwrap();
    assert_eq!(queue, "elsewhere:until_end");
    assert_eq!(world.push_duplicate(UntilEnd { id: 1, note: 2 }).await, here);
    assert!(world.queue.release(here).await.unwrap());
    assert_eq!(world.claims().await, [there.task().unwrap()]);
}

#[tokio::test]
async fn what_a_worker_says_after_its_task_was_rescued_ends_no_claim() {
    let Some(world) = World::new().await else { return };
    let task = world.push(UntilEnd { id: 1, note: 1 }).await;
    world.take(task, "w1").await;
    assert_eq!(world.rescue("w1").await, 1);
    assert!(!world.say_ended(task, "w1", "Done").await);
    assert_eq!(world.claims().await, [task]);
    world.take(task, "w2").await;
    assert!(!world.say_ended(task, "w1", "Done").await);
    assert_eq!(world.claims().await, [task]);
    assert!(world.say_ended(task, "w2", "Done").await);
    assert_eq!(world.claims().await, []);
}

#[tokio::test]
async fn a_release_ends_the_claim_of_no_other_task() {
    let Some(world) = World::new().await else { return };
    let first = world.push(UntilEnd { id: 1, note: 1 }).await;
    let second = world.push(UntilEnd { id: 2, note: 1 }).await;
    assert!(!world.queue.release(TaskId::new().unwrap()).await.unwrap());
    assert!(world.queue.release(first).await.unwrap());
    assert!(!world.queue.release(first).await.unwrap());
    assert_eq!(world.claims().await, [second]);
    // A task without a claim that ends takes none with it.
    let twin = world.push(UntilEnd { id: 1, note: 2 }).await;
    world.take(first, "w1").await;
    assert!(world.say_ended(first, "w1", "Done").await);
    let mut expected = [second, twin];
    expected.sort_by_key(TaskId::to_string);
    assert_eq!(world.claims().await, expected);
}

#[tokio::test]
async fn expired_claims_are_swept_and_no_others() {
    let Some(world) = World::new().await else { return };
    world.push(InAnHour { id: 1, note: 1 }).await;
    let stays = world.push(UntilEnd { id: 1, note: 1 }).await;
    world.sql(EXPIRE_CLAIMS).await;
    let lasts = world.push(InAnHour { id: 2, note: 1 }).await;
    world.idem.sweep().await.unwrap();
    let mut expected = [stays, lasts];
    expected.sort_by_key(TaskId::to_string);
    assert_eq!(world.claims().await, expected);
}

/// A task that loses at run time goes back to its queue: no attempt is spent, the worker is free for others, and it runs
/// in the end.
async fn check_loser_is_put_back<J: Runs>(first: J, second: J, other: J) {
    let Some(world) = World::new().await else { return };
    world.desk.close(1);
    let holder = world.push(first).await;
    let workers = [world.work::<J>("w1"), world.work::<J>("w2")];
    world.desk.until(What::Began, 1, 1).await;
    let loser = world.push(second).await;
    let row = world.until(loser, |row| row.status == "Pending" && row.due_in > 0).await;
    assert_eq!((row.attempts, row.lock_by, row.last_result.as_str()), (0, None, ""));
    // Both workers have one slot, and the holder has one of them.
    let other = world.push(other).await;
    world.until_status(other, "Done").await;
    assert_eq!(world.desk.count(What::Began, 1), 1);
    let row = world.task(loser).await;
    assert!(row.status == "Pending" || row.status == "Queued" || row.status == "Running", "{row:?}");
    world.desk.open(1);
    let row = world.until_status(loser, "Done").await;
    assert_eq!(row.attempts, 1);
    assert!(row.last_result.contains("executed"), "{row:?}");
    world.until_status(holder, "Done").await;
    assert_eq!(world.desk.notes(1), [1, 2]);
    assert_eq!(world.desk.most_at_once(1), 1);
    world.until_claims(&[]).await;
    drop(workers);
}

#[tokio::test]
async fn a_loser_of_while_executing_is_put_back() {
    let job = |id, note| OneAtATime { id, note };
    check_loser_is_put_back(job(1, 1), job(1, 2), job(2, 1)).await;
}

#[tokio::test]
async fn a_loser_of_until_and_while_executing_is_put_back() {
    let job = |id, note| OneEach { id, note };
    check_loser_is_put_back(job(1, 1), job(1, 2), job(2, 1)).await;
}

#[tokio::test]
async fn a_loser_of_keep_latest_is_put_back() {
    let job = |id, note| Latest { id, note };
    check_loser_is_put_back(job(1, 1), job(1, 2), job(2, 1)).await;
}

#[tokio::test]
async fn a_run_outside_of_the_queue_excludes_a_task() {
    let Some(world) = World::new().await else { return };
    world.desk.close(1);
    let idem = world.idem.clone();
    let direct = tokio::spawn(async move { one_at_a_time(&idem, 1, 1).await });
    world.desk.until(What::Began, 1, 1).await;
    let task = world.push(OneAtATime { id: 1, note: 2 }).await;
    let worker = world.work::<OneAtATime>("w1");
    world.until(task, |row| row.status == "Pending" && row.due_in > 0).await;
    world.desk.open(1);
    direct.await.unwrap().unwrap();
    world.until_status(task, "Done").await;
    assert_eq!(world.desk.notes(1), [1, 2]);
    drop(worker);
}

#[tokio::test]
async fn a_task_may_be_put_off_and_go_before_others() {
    let Some(world) = World::new().await else { return };
    let off = world.push(Enqueue::new(UntilEnd { id: 1, note: 1 }).after(Duration::from_secs(600))).await;
    let low = world.push(UntilEnd { id: 2, note: 1 }).await;
    let high = world.push(Enqueue::new(UntilEnd { id: 3, note: 1 }).priority(9)).await;
    assert_eq!(UntilEnd::SPEC.name, "until_end");
    let due_in = world.task(off).await.due_in;
    assert!((590..=601).contains(&due_in), "{due_in}");
    // Of the tasks that apalis takes together, any may begin first.
    let worker = world.work_on::<UntilEnd>("w1", 1, config::<UntilEnd>().batch_size(1));
    world.until_status(low, "Done").await;
    world.until_status(high, "Done").await;
    let began: Vec<i64> =
        world.desk.log().iter().filter(|line| line.what == What::Began).map(|line| line.id).collect();
    assert_eq!(began, [3, 2]);
    assert_eq!(world.task(off).await.status, "Pending");
    // A person lets it go at once.
    world.sql(format!("UPDATE {TASKS} SET run_at = {NOW} WHERE id = '{off}'")).await;
    world.until_status(off, "Done").await;
    drop(worker);
}
