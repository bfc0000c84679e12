use std::time::Duration;

use idem_runtime::job::{JobSpec, Lock, OnBusy, OnDuplicate, Unique};
use idem_runtime::key::KeyParts;
use idem_runtime::prelude::*;

const LATER: OnBusy = OnBusy::Reschedule(Duration::from_secs(5));

#[idempotent(key = id, unique = until_executing)]
async fn one_waits(_: &mut Tx<'_, Memory>, id: i64, user: i64) -> Result<i64, String> {
    Ok(id + user)
}

#[idempotent(key = id, unique = until_executed, on_duplicate = skip)]
async fn one_is_there(_: &mut Tx<'_, Memory>, id: i64, user: i64) -> Result<i64, String> {
    Ok(id + user)
}

#[idempotent(key = id, unique = until_expired("1h30m"), on_duplicate = reschedule("5s"), unique_by = user)]
async fn one_in_a_window(_: &mut Tx<'_, Memory>, id: i64, user: i64) -> Result<i64, String> {
    Ok(id + user)
}

#[idempotent(key = id, unique = while_executing)]
async fn one_runs(_: &mut Tx<'_, Memory>, id: i64, user: i64) -> Result<i64, String> {
    Ok(id + user)
}

#[idempotent(key = id, unique = until_and_while_executing, on_duplicate = replace, on_busy = wait("1s"))]
async fn one_each(_: &mut Tx<'_, Memory>, id: i64, user: i64) -> Result<i64, String> {
    Ok(id + user)
}

#[idempotent(key = (id, user), unique = keep_latest, in_doubt = rerun)]
async fn the_newest(id: i64, user: i64) -> Result<i64, String> {
    Ok(id + user)
}

#[idempotent(key = id, unique = until_and_while_executing, unique_by = (user, "x"), in_doubt = rerun)]
async fn of_both(_: &mut Run<'_, Memory>, id: i64, user: i64) -> Result<i64, String> {
    Ok(id + user)
}

#[idempotent(key = id, unique = until_and_while_executing, unique_by(queue = (id, user), run = user), on_duplicate = error)]
async fn of_each(_: &mut Tx<'_, Memory>, id: i64, user: i64) -> Result<i64, String> {
    Ok(id + user)
}

#[idempotent(key = id, unique = keep_latest, unique_by(queue = user % 2))]
async fn of_the_queue(_: &mut Tx<'_, Memory>, id: i64, user: i64) -> Result<i64, String> {
    Ok(id + user)
}

#[idempotent(key = id, unique = while_executing, unique_by(run = global), lock = none, on_busy = error)]
async fn of_the_run(_: &mut Tx<'_, Memory>, id: i64, user: i64) -> Result<i64, String> {
    Ok(id + user)
}

#[idempotent(key = id, unique = while_executing, unique_by = user, lock = none)]
async fn without_lock(_: &mut Tx<'_, Memory>, id: i64, user: i64) -> Result<i64, String> {
    Ok(id + user)
}

#[idempotent(key = id, unique = until_executed, lock = none)]
async fn without_lock_or_run_phase(_: &mut Tx<'_, Memory>, id: i64, user: i64) -> Result<i64, String> {
    Ok(id + user)
}

#[idempotent(key = (id, user), unique = until_executed, unique_by = (id, user))]
async fn like_the_key(_: &mut Tx<'_, Memory>, id: i64, user: i64) -> Result<i64, String> {
    Ok(id + user)
}

#[idempotent(key = id, unique = until_executing, unique_by = global)]
async fn only_one(_: &mut Tx<'_, Memory>, id: i64, user: i64) -> Result<i64, String> {
    Ok(id + user)
}

fn parts(part: impl KeyPart) -> KeyParts {
    KeyParts::of(&part).unwrap()
}

fn main() {
    assert_eq!(OneWaits::SPEC, JobSpec::new("one_waits").unique(Unique::UntilExecuting).on_busy(LATER));
    let job = OneWaits { id: 1, user: 2 };
    assert_eq!((job.queue_key(), job.run_key()), (Ok(parts(1_i64)), Ok(None)));

    let spec = JobSpec::new("one_is_there").unique(Unique::UntilExecuted).on_duplicate(OnDuplicate::Skip);
    assert_eq!(OneIsThere::SPEC, spec);

    let spec = JobSpec::new("one_in_a_window")
        .unique(Unique::UntilExpired(Duration::from_secs(5_400)))
        .on_duplicate(OnDuplicate::Reschedule(Duration::from_secs(5)));
    assert_eq!(OneInAWindow::SPEC, spec);
    let job = OneInAWindow { id: 1, user: 2 };
    assert_eq!(job.key(), Ok(parts(1_i64)));
    assert_eq!((job.queue_key(), job.run_key()), (Ok(parts(2_i64)), Ok(None)));

    assert_eq!(OneRuns::SPEC, JobSpec::new("one_runs").unique(Unique::WhileExecuting).on_busy(LATER));
    assert_eq!(OneRuns { id: 1, user: 2 }.run_key(), Ok(None));

    let spec = JobSpec::new("one_each")
        .unique(Unique::UntilAndWhileExecuting)
        .on_duplicate(OnDuplicate::Replace)
        .on_busy(OnBusy::Wait(Duration::from_secs(1)));
    assert_eq!(OneEach::SPEC, spec);

    assert_eq!(TheNewest::SPEC, JobSpec::leased("the_newest").unique(Unique::KeepLatest).on_busy(LATER));

    let spec = JobSpec::leased("of_both").steps().unique(Unique::UntilAndWhileExecuting).on_busy(LATER);
    assert_eq!(OfBoth::SPEC, spec);
    let job = OfBoth { id: 1, user: 2 };
    assert_eq!((job.queue_key(), job.run_key()), (Ok(parts((2_i64, "x"))), Ok(Some(parts((2_i64, "x"))))));

    assert_eq!(OfEach::SPEC.on_duplicate, OnDuplicate::Error);
    let job = OfEach { id: 1, user: 2 };
    assert_eq!((job.queue_key(), job.run_key()), (Ok(parts((1_i64, 2_i64))), Ok(Some(parts(2_i64)))));

    let job = OfTheQueue { id: 1, user: 3 };
    assert_eq!((job.queue_key(), job.run_key()), (Ok(parts(1_i64)), Ok(None)));

    let spec =
        JobSpec::new("of_the_run").lock(Lock::None).unique(Unique::WhileExecuting).on_busy(OnBusy::Error);
    assert_eq!(OfTheRun::SPEC, spec);
    let job = OfTheRun { id: 1, user: 2 };
    // It has no claim in the queue, so nothing is generated for that.
    assert_eq!((job.queue_key(), job.run_key()), (Ok(parts(1_i64)), Ok(Some(KeyParts::global()))));

    assert_eq!(WithoutLock { id: 1, user: 2 }.run_key(), Ok(Some(parts(2_i64))));
    assert_eq!(WithoutLockOrRunPhase::SPEC.lock, Lock::None);

    let job = LikeTheKey { id: 1, user: 2 };
    assert_eq!(job.key(), job.queue_key());

    assert_eq!(OnlyOne { id: 1, user: 2 }.queue_key(), Ok(KeyParts::global()));
    // An empty part is refused like that of a key.
    assert!(Named { id: 1, name: String::from(" ") }.queue_key().is_err());
    assert!(Named { id: 1, name: String::from(" ") }.run_key().is_err());
}

#[idempotent(key = id, unique = keep_latest, unique_by = name)]
async fn named(_: &mut Tx<'_, Memory>, id: i64, name: String) -> Result<i64, String> {
    drop(name);
    Ok(id)
}
