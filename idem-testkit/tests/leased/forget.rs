//! What a person may have forgotten, and for which job they may speak.

use std::convert::Infallible;

use idem_runtime::prelude::*;
use idem_runtime::record::{Epoch, State};
use idem_runtime::{Resolution, Run, StoreErrorKind};

use crate::world::{Desk, Failure, World};

#[idempotent(key = id, in_doubt = park)]
async fn pay(
    run: &mut Run<'_, Memory>,
    id: i64,
    cents: i64,
    #[state] world: &World,
) -> Result<String, Failure> {
    let before = run.step("quote", async |key| world.call("quote", key).await).rerun().await?;
    let paid = run.step("pay", async |key| world.call("pay", key).await).await?;
    Ok(format!("{before}, {paid}, {cents} cents for {id}"))
}

#[idempotent(key = id, in_doubt = park)]
async fn refund(run: &mut Run<'_, Memory>, id: i64, #[state] world: &World) -> Result<String, Failure> {
    run.step("refund", async |key| world.call(&format!("refund {id}"), key).await).await
}

#[idempotent(key = id)]
async fn note(tx: &mut Tx<'_, Memory>, id: i64, text: String) -> Result<String, Infallible> {
    tx.set(format!("note {id}"), text.clone());
    Ok(text)
}

/// Runs `pay` so that it is parked at its second step, and returns the error.
async fn parked(desk: &Desk) -> idem_runtime::Parked {
    desk.world.answer("pay", &[Err(Failure::TimedOut)]);
    pay(&desk.idem, 1, 100).await.expect_err("the answer is lost");
    match pay(&desk.idem, 1, 100).await {
        Err(Error::Parked(parked)) => parked,
        other => panic!("it is not parked: {other:?}"),
    }
}

#[tokio::test]
async fn the_error_of_a_parked_key_has_all_that_resolves_it() {
    let desk = Desk::new();
    let parked = parked(&desk).await;
    assert!(parked.to_string().contains(&parked.hash.to_string()), "{parked}");
    let known = Resolution::done(&"paid by hand").expect("a text can be encoded");
    desk.idem.resolve::<Pay>(parked.hash, parked.epoch, known, "asked the bank").await.expect("it is parked");
    assert_eq!(*pay(&desk.idem, 1, 100).await.expect("it goes on"), "quote 1, paid by hand, 100 cents for 1");
}

#[tokio::test]
async fn a_key_is_resolved_and_forgotten_for_its_own_job_alone() {
    let desk = Desk::new();
    let parked = parked(&desk).await;
    let wrong = [
        desk.idem.resolve::<Refund>(parked.hash, parked.epoch, Resolution::rerun(), "by mistake").await,
        desk.idem.forget::<Refund>(parked.hash, parked.epoch, "by mistake").await,
        desk.idem.forget::<Note>(parked.hash, parked.epoch, "by mistake").await,
    ];
    for error in wrong.map(|done| done.expect_err("it is another job's")) {
        assert_eq!(error.kind(), StoreErrorKind::Stale, "{error}");
        assert!(error.to_string().contains("a key of job `pay` of namespace `default`"), "{error}");
    }
    let explained = desk.idem.explain(&Pay { id: 1, cents: 100 }).await.expect("it can be read");
    let explained = explained.expect("it is recorded");
    assert_eq!((explained.state, explained.audit.len()), (State::Parked, 0));
}

#[tokio::test]
async fn a_forgotten_key_takes_other_arguments_and_all_its_steps_again() {
    let desk = Desk::new();
    let parked = parked(&desk).await;
    assert!(matches!(pay(&desk.idem, 1, 250).await, Err(Error::KeyReused(_))));
    let stale = desk.idem.forget::<Pay>(parked.hash, parked.epoch.next(), "void").await;
    assert_eq!(stale.expect_err("the epoch is another").kind(), StoreErrorKind::Stale);
    desk.idem.forget::<Pay>(parked.hash, parked.epoch, "void").await.expect("it is parked");
    let explained = desk.idem.explain(&Pay { id: 1, cents: 100 }).await.expect("it can be read");
    let explained = explained.expect("its audit is known");
    assert_eq!((explained.state, &*explained.audit[0].why), (State::Absent, "void"));
    assert_eq!(*pay(&desk.idem, 1, 250).await.expect("it is free"), "quote 2, pay 2, 250 cents for 1");
    assert!(pay(&desk.idem, 1, 250).await.expect("it is recorded").is_replayed());

    let twice = desk.idem.forget::<Pay>(parked.hash, parked.epoch, "void").await;
    assert!(twice.expect_err("it is another run's").to_string().contains("its epoch is"));
}

#[tokio::test]
async fn the_record_of_an_atomic_job_can_be_forgotten() {
    let desk = Desk::new();
    note(&desk.idem, 1, String::from("first")).await.expect("it runs");
    let known = desk.idem.explain(&Note { id: 1, text: String::new() }).await.expect("it can be read");
    let known = known.expect("it is recorded");
    assert_eq!(known.epoch, Epoch::NONE);
    desk.idem.forget::<Note>(known.hash, known.epoch, "wrong text").await.expect("it is recorded");
    let again = note(&desk.idem, 1, String::from("second")).await.expect("it is free");
    assert_eq!(again, Done::Executed(String::from("second")));
}

#[tokio::test]
async fn a_key_that_a_run_has_is_not_forgotten() {
    let desk = Desk::new();
    desk.world.close("quote");
    let other = desk.other();
    let running = tokio::spawn(async move { pay(&other, 1, 100).await });
    desk.world.arrival().await;
    let known = desk.idem.explain(&Pay { id: 1, cents: 100 }).await.expect("it can be read");
    let known = known.expect("it is recorded");
    let refused = desk.idem.forget::<Pay>(known.hash, known.epoch, "by mistake").await;
    let refused = refused.expect_err("a run has it");
    assert_eq!(refused.kind(), StoreErrorKind::Stale);
    assert!(refused.to_string().contains("a run has it"), "{refused}");
    desk.world.open("quote");
    assert!(running.await.expect("it does not panic").expect("it runs").is_executed());

    let nothing = desk.idem.forget::<Refund>(known.hash, Epoch::NONE, "by mistake").await;
    assert!(nothing.expect_err("it is another job's").to_string().contains("job `pay`"));
}
