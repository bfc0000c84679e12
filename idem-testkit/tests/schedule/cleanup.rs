//! The clean-up: what it deletes, what it leaves, and that the clock starts it.

use std::time::Duration;

use idem_runtime::Run;
use idem_runtime::cleanup::{Cleanup, Swept};
use idem_runtime::prelude::*;
use idem_runtime::record::State;
use idem_runtime::schedule::{Scheduled, Tick};
use tokio::task::JoinSet;

use crate::world::{Answer, Desk, Failure, World, at, minutes};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A handle that keeps failed keys of `call` for 90 days.
fn idem(desk: &Desk) -> Idem<Memory, World> {
    let store = std::sync::Arc::new(desk.store.clone());
    let builder = Idem::with_store(store).state(desk.world.clone());
    builder.keep_failed::<Call>(90 * DAY).build().expect("nothing is wrong with it")
}

/// Lets runs of these jobs fail, and others be parked and completed.
async fn leave_traces(desk: &Desk, idem: &Idem<Memory, World>) {
    desk.world.answer(at(1, 0), &[Answer::Fail(Failure::NotNow)]);
    call(idem, at(1, 0)).await.expect_err("it fails");
    desk.world.answer(at(2, 0), &[Answer::Fail(Failure::NotNow)]);
    other(idem, at(2, 0)).await.expect_err("it fails");
    desk.world.answer(at(3, 0), &[Answer::Fail(Failure::NotNow)]);
    doubt(idem, at(3, 0)).await.expect_err("it fails");
    doubt(idem, at(3, 0)).await.expect_err("it is parked");
    call(idem, at(4, 0)).await.expect("it runs");
}

async fn states(idem: &Idem<Memory, World>, states: &[State]) -> Vec<String> {
    let keys = idem.unfinished(states, 1_000).await.expect("memory fails nobody");
    keys.into_iter().map(|key| key.job).collect()
}

#[tokio::test(start_paused = true)]
async fn failed_keys_are_forgotten_after_their_time_and_no_others() {
    let desk = Desk::at(0, 0);
    let idem = idem(&desk);
    leave_traces(&desk, &idem).await;
    assert_eq!(idem.sweep().await.expect("memory fails nobody"), 0);
    desk.store.advance(89 * DAY);
    assert_eq!(idem.sweep().await.expect("memory fails nobody"), 1, "the completed key");
    assert_eq!(states(&idem, &[State::Failed]).await, ["call", "other"]);
    desk.store.advance(2 * DAY);
    let explained =
        idem.explain(&Call { tick: at(1, 0) }).await.expect("it can be read").expect("it is there");
    assert_eq!(idem.sweep().await.expect("memory fails nobody"), 1, "the failed key");
    assert_eq!(states(&idem, &[State::Failed]).await, ["other"]);
    assert_eq!(states(&idem, &[State::Parked]).await, ["doubt"]);
    let audit = idem_runtime::store::LeaseStore::audit(&desk.store, explained.hash).await;
    let audit = audit.expect("memory fails nobody");
    assert_eq!((audit.len(), &*audit[0].action), (1, "clean-up"));
    assert!(call(&idem, at(1, 0)).await.expect("nothing is in the way").is_executed());
}

#[tokio::test(start_paused = true)]
async fn more_failed_keys_than_a_batch_are_forgotten() {
    let desk = Desk::at(0, 0);
    let idem = idem(&desk);
    for minute in 0..250 {
        desk.world.answer(at(0, minute), &[Answer::Fail(Failure::NotNow)]);
        call(&idem, at(0, minute)).await.expect_err("it fails");
    }
    desk.store.advance(91 * DAY);
    for minute in 250..260 {
        desk.world.answer(at(0, minute), &[Answer::Fail(Failure::NotNow)]);
        call(&idem, at(0, minute)).await.expect_err("it fails");
    }
    let swept = idem.run(Cleanup::at(at(0, 0))).await.expect("memory fails nobody");
    assert_eq!((swept.forgotten, swept.deleted), (250, 250));
    assert_eq!(states(&idem, &[State::Failed]).await.len(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_replayed_clean_up_says_what_the_first_one_did() {
    let desk = Desk::at(0, 0);
    let idem = idem(&desk);
    leave_traces(&desk, &idem).await;
    desk.store.advance(91 * DAY);
    let first: Swept = *idem.run(Cleanup::at(at(0, 0))).await.expect("memory fails nobody");
    assert_eq!((first.forgotten, first.deleted), (1, 2));
    let again = idem.run(Cleanup::at(at(0, 0))).await.expect("memory fails nobody");
    assert_eq!(again, Done::Replayed(first));
}

#[tokio::test(start_paused = true)]
async fn the_clock_starts_the_clean_up_every_ten_minutes_in_one_process() {
    let desk = Desk::at(0, 5);
    leave_traces(&desk, &desk.idem()).await;
    desk.store.advance(8 * DAY);
    let mut running = JoinSet::new();
    for _ in 0..3 {
        let scheduler = desk.idem().scheduler().job::<Cleanup>().expect("it states its schedule");
        running.spawn(scheduler.run());
    }
    minutes(4).await;
    let completed = Call { tick: at(4, 0) };
    let recorded = async || desk.idem().explain(&completed).await.expect("it can be read");
    assert!(recorded().await.is_some(), "it was deleted before its time");
    minutes(2).await;
    assert_eq!(desk.last_tick::<Cleanup>().await, Some(at(0, 10)));
    assert!(recorded().await.is_none(), "it was not deleted");
    minutes(10).await;
    assert_eq!(desk.last_tick::<Cleanup>().await, Some(at(0, 20)));
}

#[idempotent(key = tick, in_doubt = rerun)]
async fn call(run: &mut Run<'_, Memory>, tick: Tick, #[state] world: &World) -> Result<(), Failure> {
    run.step("call", async |_| world.act(tick).await).await
}

#[idempotent(key = tick, in_doubt = rerun)]
async fn other(run: &mut Run<'_, Memory>, tick: Tick, #[state] world: &World) -> Result<(), Failure> {
    run.step("call", async |_| world.act(tick).await).await
}

#[idempotent(key = tick, in_doubt = park)]
async fn doubt(run: &mut Run<'_, Memory>, tick: Tick, #[state] world: &World) -> Result<(), Failure> {
    run.step("call", async |_| world.act(tick).await).await
}
