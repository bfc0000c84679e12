//! Tasks on their way from the outbox to apalis.

use std::future::Future;
use std::task::Poll;

use idem_runtime::StoreError;
use idem_runtime::engine::{Engine, Enqueued, Relayed, TaskId};
use idem_runtime::job::Job;
use idem_runtime::prelude::*;
use tokio::sync::Notify;

use super::Db;
use super::world::World;
use crate::desk::{Desk, Refusal, What};
use crate::jobs::*;

/// Enqueues jobs of every mode as it ends.
#[idempotent(key = id, fingerprint = none, in_doubt = rerun)]
async fn parent(run: &mut Run<'_, Db>, id: i64, note: i64, #[state] desk: &Desk) -> Result<i64, Refusal> {
    run.enqueue(AnyNumber { id, note }).await;
    run.enqueue(UntilEnd { id, note }).await;
    run.enqueue(UntilEndOrError { id, note }).await;
    run.enqueue(UntilEndOrReplace { id, note }).await;
    run.enqueue(UntilEndOrLater { id, note }).await;
    run.enqueue(Latest { id, note }).await;
    desk.work(100 + id, note).await
}

/// Returns how many rows the outbox has.
async fn outbox(world: &World) -> i64 {
    let mut connection = world.place.connect().await;
    sqlx::query_scalar("SELECT count(*) FROM idem_outbox").fetch_one(&mut connection).await.unwrap()
}

async fn relay(world: &World) -> idem_runtime::engine::Relay<Db, Desk> {
    let relay = world.queue.relay().route::<AnyNumber>().await.unwrap();
    let relay = relay.route::<UntilEnd>().await.unwrap().route::<UntilEndOrError>().await.unwrap();
    let relay = relay.route::<UntilEndOrReplace>().await.unwrap().route::<UntilEndOrLater>().await.unwrap();
    relay.route::<Latest>().await.unwrap()
}

fn counts(relayed: &Relayed) -> (u64, u64, u64) {
    (relayed.moved, relayed.duplicates, relayed.left.values().sum())
}

#[tokio::test]
async fn what_a_leased_job_enqueues_comes_to_its_queue_with_its_claim() {
    let Some(world) = World::new().await else { return };
    let relay = relay(&world).await;
    parent(&world.idem, 1, 7).await.unwrap();
    assert_eq!((outbox(&world).await, world.tasks().await.len()), (6, 0));
    assert_eq!(counts(&relay.run_once().await.unwrap()), (6, 0, 0));
    assert_eq!((outbox(&world).await, world.tasks().await.len()), (0, 6));
    assert_eq!(world.claims().await.len(), 5);
    assert_eq!(counts(&relay.run_once().await.unwrap()), (0, 0, 0));
    // A replay enqueues nothing.
    parent(&world.idem, 1, 7).await.unwrap();
    assert_eq!(outbox(&world).await, 0);
    let workers = (world.work::<AnyNumber>("w1"), world.work::<UntilEnd>("w2"), world.work::<Latest>("w3"));
    world.desk.until(What::Succeeded, 1, 3).await;
    world.until_any(|row| row.status == "Done").await;
    assert_eq!(world.desk.notes(1), [7, 7, 7]);
    drop(workers);
}

#[tokio::test]
async fn a_task_that_is_relayed_onto_a_held_claim_does_what_its_job_says() {
    let Some(world) = World::new().await else { return };
    let relay = relay(&world).await;
    let skip = world.push(UntilEnd { id: 1, note: 1 }).await;
    let error = world.push(UntilEndOrError { id: 1, note: 1 }).await;
    let replace = world.push(UntilEndOrReplace { id: 1, note: 1 }).await;
    let later = world.push(UntilEndOrLater { id: 1, note: 1 }).await;
    let latest = world.push(Latest { id: 1, note: 1 }).await;
    let claims = world.claims().await;
    parent(&world.idem, 1, 9).await.unwrap();
    // The task without a claim, the replaced, the rescheduled and the latest one come; the others are duplicates.
    assert_eq!(counts(&relay.run_once().await.unwrap()), (4, 2, 0));
    assert_eq!(outbox(&world).await, 0);
    assert_eq!(world.claims().await, claims);
    for (task, note) in [(skip, 1), (error, 1), (replace, 9), (later, 1), (latest, 9)] {
        let payload = String::from_utf8(world.task(task).await.job).unwrap();
        assert!(payload.contains(&format!(r#""note":{note}"#)), "{payload}");
    }
    assert_eq!(world.tasks().await.len(), 7);
}

#[tokio::test]
async fn a_latest_task_is_relayed_behind_one_that_a_worker_has() {
    let Some(world) = World::new().await else { return };
    let relay = relay(&world).await;
    let first = world.push(Latest { id: 1, note: 1 }).await;
    world.take(first, "w1").await;
    parent(&world.idem, 1, 9).await.unwrap();
    assert_eq!(counts(&relay.run_once().await.unwrap()), (6, 0, 0));
    let holder = world.queue.holder(&Latest { id: 1, note: 0 }).await.unwrap().unwrap();
    assert_ne!(holder.task, first);
    let payload = String::from_utf8(world.task(holder.task).await.job).unwrap();
    assert!(payload.contains(r#""note":9"#), "{payload}");
    assert_eq!(outbox(&world).await, 0);
}

#[tokio::test]
async fn a_task_of_the_outbox_keeps_its_id_and_claim_on_its_way() {
    let Some(world) = World::new().await else { return };
    let relay = relay(&world).await;
    let outbox_queue = world.idem.queue(Engine::Outbox);
    let Enqueued::New(id) = outbox_queue.push(UntilEnd { id: 1, note: 1 }).await.unwrap() else { panic!() };
    assert_eq!(world.push_duplicate(UntilEnd { id: 1, note: 2 }).await, id);
    assert_eq!(counts(&relay.run_once().await.unwrap()), (1, 0, 0));
    assert_eq!(world.task(id).await.status, "Pending");
    assert_eq!(world.push_duplicate(UntilEnd { id: 1, note: 2 }).await, id);
    let worker = world.work::<UntilEnd>("w1");
    world.until_status(id, "Done").await;
    assert_eq!(world.claims().await, []);
    drop(worker);
}

#[tokio::test]
async fn a_job_that_no_route_is_known_for_stays_and_holds_nobody_up() {
    let Some(world) = World::new().await else { return };
    let relay = world.queue.relay().route::<UntilEnd>().await.unwrap();
    let queue = world.idem.queue(Engine::Outbox);
    for id in 0..3 {
        let _ = queue.push(AnyNumber { id, note: 1 }).await.unwrap();
        let _ = queue.push(UntilEnd { id, note: 1 }).await.unwrap();
    }
    for moved in [3, 0] {
        let relayed = relay.run_once().await.unwrap();
        assert_eq!(counts(&relayed), (moved, 0, 3));
        assert_eq!(relayed.left["any_number"], 3);
    }
    assert_eq!((outbox(&world).await, world.tasks().await.len()), (3, 3));
    // One that knows it takes it.
    let relay = relay.route::<AnyNumber>().await.unwrap();
    assert_eq!(counts(&relay.run_once().await.unwrap()), (3, 0, 0));
}

#[tokio::test]
async fn a_task_of_the_outbox_that_cannot_be_read_stays_and_holds_nobody_up() {
    let Some(world) = World::new().await else { return };
    let relay = relay(&world).await;
    let queue = world.idem.queue(Engine::Outbox);
    let bad = queue.push(UntilEnd { id: 1, note: 1 }).await.unwrap().task().unwrap();
    let _ = queue.push(UntilEnd { id: 2, note: 1 }).await.unwrap();
    let broken = super::bytes("00");
    world.sql(format!("UPDATE idem_outbox SET payload = {broken} WHERE task = '{bad}'")).await;
    assert_eq!(counts(&relay.run_once().await.unwrap()), (1, 0, 1));
    assert_eq!((outbox(&world).await, world.tasks().await.len()), (1, 1));
}

/// Delivers the tasks of the outbox elsewhere, and pushes others as it delivers the first; returns what was delivered, and
/// the answers to the pushes.
async fn deliver<J: Job>(
    world: &World,
    during: Vec<J>,
    note: impl Fn(J) -> i64,
) -> (Vec<(TaskId, i64)>, Vec<Enqueued>) {
    let queue = world.idem.queue(Engine::Outbox);
    let (mut delivered, mut during, mut answers) = (Vec::new(), Some(during), Vec::new());
    let relayed = world.idem.relay(async |task| {
        delivered.push((task.id(), note(task.decode()?)));
        for job in during.take().into_iter().flatten() {
            answers.push(queue.push(job).await.unwrap());
        }
        Ok::<_, StoreError>(())
    });
    assert_eq!(relayed.await.unwrap(), u64::try_from(delivered.len()).unwrap());
    assert_eq!(outbox(world).await, 0);
    (delivered, answers)
}

#[tokio::test]
async fn the_latest_arguments_are_delivered_whenever_they_come() {
    let Some(world) = World::new().await else { return };
    let queue = world.idem.queue(Engine::Outbox);
    let [first, second] = [1, 2].map(|id| Latest { id, note: 1 });
    let first = queue.push(first).await.unwrap().task().unwrap();
    let second = queue.push(second).await.unwrap().task().unwrap();
    let during = [1, 2].map(|id| Latest { id, note: 9 });
    let (delivered, answers) = deliver(&world, during.into(), |job: Latest| job.note).await;
    // The one that is on its way is left behind, that which waits has the new arguments.
    let [Enqueued::New(third), Enqueued::Coalesced(coalesced)] = answers[..] else { panic!("{answers:?}") };
    assert_eq!(coalesced, second);
    assert_eq!(delivered, [(first, 1), (second, 9), (third, 9)]);
    let mut claims = [second, third];
    claims.sort_by_key(TaskId::to_string);
    assert_eq!(world.claims().await, claims);
}

#[tokio::test]
async fn a_task_that_is_on_its_way_elsewhere_is_not_replaced() {
    let Some(world) = World::new().await else { return };
    let queue = world.idem.queue(Engine::Outbox);
    let first = queue.push(UntilEndOrReplace { id: 1, note: 1 }).await.unwrap().task().unwrap();
    let during = vec![UntilEndOrReplace { id: 1, note: 9 }];
    let (delivered, answers) = deliver(&world, during, |job| job.note).await;
    assert!(matches!(answers[..], [Enqueued::Duplicate { of, .. }] if of == first), "{answers:?}");
    assert_eq!(delivered, [(first, 1)]);
}

/// Runs two futures at once, the second from when the first has waited `n` times.
async fn beside_at<F: Future, G: Future>(first: F, n: usize, second: G) -> (F::Output, G::Output) {
    let (mut first, mut waited, gate) = (Box::pin(first), 0, Notify::new());
    let polled = std::future::poll_fn(|context| {
        let polled = first.as_mut().poll(context);
        if waited == n || polled.is_ready() {
            gate.notify_one();
        }
        waited += 1;
        polled
    });
    let behind = async {
        gate.notified().await;
        second.await
    };
    tokio::join!(polled, behind)
}

#[tokio::test]
async fn a_task_that_is_replaced_as_it_is_relayed_has_the_arguments_that_its_caller_was_told() {
    let Some(world) = World::new().await else { return };
    let relay = relay(&world).await;
    let queue = world.idem.queue(Engine::Outbox);
    let (mut replaced, mut late) = (0, 0);
    // The push may come too late on a busy machine, so a few rounds more are made where too few were in time.
    for round in 0..60 {
        if round >= 12 && replaced > 3 {
            break;
        }
        let (id, n) = (i64::try_from(round).unwrap(), round % 12);
        // It waits its turn behind others.
        let _ = queue.push_all((0..20).map(|note| AnyNumber { id, note })).await.unwrap();
        let task = queue.push(UntilEndOrReplace { id, note: 1 }).await.unwrap().task().unwrap();
        let push = queue.push(UntilEndOrReplace { id, note: 9 });
        let (relayed, pushed) = beside_at(relay.run_once(), n, push).await;
        assert_eq!(counts(&relayed.unwrap()), (21, 0, 0), "at await {n}");
        let note = match pushed.unwrap() {
            Enqueued::Replaced(of) if of == task => 9,
            Enqueued::Duplicate { of, .. } if of == task => 1,
            other => panic!("{other:?}"),
        };
        match note {
            9 => replaced += 1,
            _ => late += 1,
        }
        let payload = String::from_utf8(world.task(task).await.job).unwrap();
        assert!(payload.contains(&format!(r#""note":{note}"#)), "at await {n}: {payload}");
        assert_eq!(outbox(&world).await, 0);
    }
    assert!(replaced > 3, "{replaced} replaced, {late} late");
}

/// Polls a future so often that it comes to the `n`th await that waits, and drops it there; tells whether it ended before.
pub(super) async fn drop_at<F: Future>(future: F, n: usize) -> Option<F::Output> {
    let mut future = Box::pin(future);
    let mut waited = 0;
    std::future::poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending if waited == n => Poll::Ready(None),
        Poll::Pending => {
            waited += 1;
            Poll::Pending
        }
    })
    .await
}

#[tokio::test]
async fn relays_at_once_of_which_one_is_dropped_anywhere_take_each_task_once_and_in_order() {
    let Some(world) = World::new().await else { return };
    let (one, other) = (relay(&world).await, relay(&world).await);
    let queue = world.idem.queue(Engine::Outbox);
    let mut expected: Vec<TaskId> = Vec::new();
    let mut n = 0;
    for round in 0.. {
        assert!(round < 500, "it never ends, or never waits");
        for id in 0..3 {
            let job = AnyNumber { id, note: round };
            expected.push(queue.push(job).await.unwrap().task().unwrap());
        }
        let (dropped, whole) = tokio::join!(drop_at(one.run_once(), n), other.run_once());
        whole.unwrap();
        // What the dropped one had begun is undone, or done.
        other.run_once().await.unwrap();
        assert_eq!(outbox(&world).await, 0, "at await {n}");
        match dropped {
            None => n += 1,
            Some(ended) => {
                ended.unwrap();
                // Before that the answers were there when they were read, and nothing waited.
                if n > 1 {
                    break;
                }
            }
        }
    }
    let mut tasks: Vec<TaskId> = world.tasks().await.into_iter().map(|row| row.id).collect();
    tasks.sort_by_key(TaskId::to_string);
    let mut all = expected.clone();
    all.sort_by_key(TaskId::to_string);
    assert_eq!(tasks, all, "each once");
}

#[tokio::test]
async fn a_relay_takes_the_oldest_first() {
    let Some(world) = World::new().await else { return };
    let relay = relay(&world).await;
    let queue = world.idem.queue(Engine::Outbox);
    let mut expected = Vec::new();
    for note in 0..5 {
        expected.push(queue.push(AnyNumber { id: 1, note }).await.unwrap().task().unwrap().to_string());
    }
    assert_eq!(counts(&relay.run_once().await.unwrap()), (5, 0, 0));
    let mut connection = world.place.connect().await;
    let taken: Vec<(String,)> = sqlx::query_as(super::IN_ORDER).fetch_all(&mut connection).await.unwrap();
    assert_eq!(taken.into_iter().map(|(id,)| id).collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn a_relay_that_runs_on_takes_what_comes() {
    let Some(world) = World::new().await else { return };
    let running = tokio::spawn(relay(&world).await.run());
    let worker = world.work::<UntilEnd>("w1");
    parent(&world.idem, 1, 3).await.unwrap();
    world.desk.until(What::Succeeded, 1, 1).await;
    world.until_any(|row| row.status == "Done").await;
    assert_eq!(world.desk.notes(1), [3]);
    running.abort();
    drop(worker);
}
