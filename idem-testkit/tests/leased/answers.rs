//! What a leased job answers.

use std::time::Duration;

use idem_runtime::prelude::*;
use idem_runtime::record::{Epoch, State};
use idem_runtime::store::memory::Memory;

use super::world::{Desk, Failure, World};

#[idempotent(key = id, in_doubt = rerun, adopt(Failure::Twice => String::from("before")), replay(Failure::Never))]
async fn send_mail(id: i64, text: String, #[state] world: &World) -> Result<String, Failure> {
    world.call("mail", format!("{id} {text}")).await
}

#[tokio::test]
async fn a_second_run_is_answered_from_the_record() {
    let desk = Desk::new();
    assert_eq!(send_mail(&desk.idem, 1, "a".into()).await.unwrap(), Done::Executed("mail 1".into()));
    assert_eq!(send_mail(&desk.idem, 1, "a".into()).await.unwrap(), Done::Replayed("mail 1".into()));
    assert_eq!(send_mail(&desk.other(), 1, "a".into()).await.unwrap(), Done::Replayed("mail 1".into()));
    assert_eq!(desk.world.count("mail"), 1);
}

#[tokio::test]
async fn other_arguments_are_refused_while_it_runs_and_afterwards() {
    let desk = Desk::new();
    desk.world.close("mail");
    let (idem, other) = (desk.idem.clone(), desk.other());
    let run = tokio::spawn(async move { send_mail(&idem, 1, "a".into()).await });
    desk.world.arrival().await;
    assert!(matches!(send_mail(&other, 1, "b".into()).await, Err(Error::KeyReused(_))));
    desk.world.open("mail");
    run.await.unwrap().unwrap();
    assert!(matches!(send_mail(&other, 1, "b".into()).await, Err(Error::KeyReused(_))));
    assert_eq!(desk.world.count("mail"), 1);
}

#[tokio::test]
async fn an_error_is_kept_and_the_key_is_free() {
    let desk = Desk::new();
    desk.world.answer("mail", &[Err(Failure::Refused), Err(Failure::Refused)]);
    for attempt in 1..=2 {
        assert!(matches!(send_mail(&desk.idem, 1, "a".into()).await, Err(Error::Job(Failure::Refused))));
        let job = SendMail { id: 1, text: "a".into() };
        let explained = desk.idem.explain(&job).await.unwrap().expect("the failure is on record");
        assert_eq!((explained.state, explained.attempts), (State::Failed, attempt));
        assert_eq!(explained.error.as_deref(), Some("the callee says Refused"));
    }
    let listed = desk.idem.unfinished(&[State::Failed], 10).await.unwrap();
    assert_eq!((listed.len(), &*listed[0].job, &*listed[0].key), (1, "send_mail", "1"));
    assert!(send_mail(&desk.idem, 1, "a".into()).await.unwrap().is_executed());
    assert!(desk.idem.unfinished(&[State::Failed], 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn an_error_that_means_done_is_adopted_and_recorded() {
    let desk = Desk::new();
    desk.world.answer("mail", &[Err(Failure::Twice)]);
    assert_eq!(send_mail(&desk.idem, 1, "a".into()).await.unwrap(), Done::Adopted("before".into()));
    assert_eq!(send_mail(&desk.idem, 1, "a".into()).await.unwrap(), Done::Replayed("before".into()));
}

#[tokio::test]
async fn a_final_error_is_replayed() {
    let desk = Desk::new();
    desk.world.answer("mail", &[Err(Failure::Never)]);
    for _ in 0..2 {
        assert!(matches!(send_mail(&desk.idem, 1, "a".into()).await, Err(Error::Job(Failure::Never))));
    }
    assert_eq!(desk.world.count("mail"), 0);
    let explained = desk.idem.explain(&SendMail { id: 1, text: "a".into() }).await.unwrap();
    assert_eq!(explained.map(|explained| explained.state), Some(State::Rejected));
}

#[tokio::test]
async fn runs_at_once_have_one_effect() {
    let desk = Desk::new();
    let mut runs = tokio::task::JoinSet::new();
    for n in 0..16 {
        let idem = if n % 2 == 0 { desk.idem.clone() } else { desk.other() };
        runs.spawn(async move { send_mail(&idem, 1, "a".into()).await.unwrap() });
    }
    let answers = runs.join_all().await;
    assert_eq!(answers.iter().filter(|done| done.is_executed()).count(), 1);
    assert!(answers.iter().all(|done| **done == "mail 1"));
    assert_eq!(desk.world.count("mail"), 1);
}

#[idempotent(key = id, in_doubt = rerun, check = has_been_sent)]
async fn checked(id: i64, #[state] world: &World) -> Result<String, Failure> {
    world.call("mail", id.to_string()).await
}

async fn has_been_sent(job: &Checked, world: &World) -> Result<Option<String>, Failure> {
    world.call("check", job.id.to_string()).await?;
    Ok((job.id == 7).then(|| String::from("seen")))
}

#[tokio::test]
async fn work_that_is_done_already_is_adopted_without_a_body() {
    let desk = Desk::new();
    assert_eq!(checked(&desk.idem, 7).await.unwrap(), Done::Adopted("seen".into()));
    assert_eq!(checked(&desk.idem, 7).await.unwrap(), Done::Replayed("seen".into()));
    assert_eq!(desk.world.count("mail"), 0);
    assert!(checked(&desk.idem, 8).await.unwrap().is_executed());
    assert_eq!((desk.world.count("mail"), desk.world.count("check")), (1, 2));
}

#[idempotent(key = user, in_doubt = rerun, retain = none)]
async fn sync_user(user: i64, #[state] world: &World) -> Result<i64, Failure> {
    world.call("sync", user.to_string()).await.map(|_| user)
}

#[tokio::test]
async fn what_is_not_kept_runs_again_under_the_next_epoch() {
    let desk = Desk::new();
    for n in 1..=3 {
        assert_eq!(sync_user(&desk.idem, 5).await.unwrap(), Done::Executed(5));
        let explained = desk.idem.explain(&SyncUser { user: 5 }).await.unwrap().expect("the epoch is kept");
        assert_eq!((explained.state, explained.epoch, explained.attempts), (State::Absent, Epoch(n), 1));
    }
    assert_eq!(desk.world.count("sync"), 3);
}

#[idempotent(key = user, in_doubt = rerun, retain = none)]
async fn sync_profile(user: i64, profile: String, #[state] world: &World) -> Result<i64, Failure> {
    world.call("profile", profile).await.map(|_| user)
}

#[tokio::test]
async fn what_is_not_kept_compares_no_arguments() {
    let desk = Desk::new();
    desk.world.answer("profile", &[Err(Failure::Refused)]);
    assert!(sync_profile(&desk.idem, 1, "old".into()).await.is_err());
    assert!(sync_profile(&desk.idem, 1, "new".into()).await.unwrap().is_executed());
    assert_eq!(desk.world.keys("profile"), ["new"]);
}

#[idempotent(key = id, in_doubt = rerun, timeout = "50ms")]
async fn hurried(id: i64, #[state] world: &World) -> Result<String, Failure> {
    world.call("slow", id.to_string()).await
}

#[tokio::test(start_paused = true)]
async fn a_body_that_takes_too_long_is_dropped_and_runs_again() {
    let desk = Desk::new();
    desk.world.close("slow");
    match hurried(&desk.idem, 1).await {
        Err(Error::Timeout(timeout)) => {
            let text = timeout.to_string();
            assert!(text.contains("its recorded steps stay, and the next run goes on from them"), "{text}");
        }
        other => panic!("a body over its limit answered {other:?}"),
    }
    let explained = desk.idem.explain(&Hurried { id: 1 }).await.unwrap().expect("it is on record");
    assert_eq!(explained.state, State::Failed);
    desk.world.open("slow");
    assert!(hurried(&desk.idem, 1).await.unwrap().is_executed());
    assert_eq!(desk.world.count("slow"), 1);
}

#[idempotent(key = id, in_doubt = rerun, on_busy = skip)]
async fn skipping(id: i64, #[state] world: &World) -> Result<String, Failure> {
    world.call("work", id.to_string()).await
}

#[idempotent(key = id, in_doubt = rerun, on_busy = reschedule("5s"))]
async fn rescheduling(id: i64, #[state] world: &World) -> Result<String, Failure> {
    world.call("work", id.to_string()).await
}

#[idempotent(key = id, in_doubt = rerun, on_busy = error)]
async fn erring(id: i64, #[state] world: &World) -> Result<String, Failure> {
    world.call("work", id.to_string()).await
}

#[idempotent(key = id, in_doubt = rerun, on_busy = wait("1h"))]
async fn waiting(id: i64, #[state] world: &World) -> Result<String, Failure> {
    world.call("work", id.to_string()).await
}

/// Runs a job up to its call and then a second time, in the same handle and in another.
macro_rules! busy {
    ($job:ident) => {{
        let desk = Desk::new();
        desk.world.close("work");
        let idem = desk.idem.clone();
        let run = tokio::spawn(async move { $job(&idem, 1).await });
        desk.world.arrival().await;
        let busy = [$job(&desk.idem, 1).await, $job(&desk.other(), 1).await].map(|ran| match ran {
            Err(Error::Busy(busy)) => busy,
            other => panic!("a run of a key that is held answered {other:?}"),
        });
        desk.world.open("work");
        assert!(run.await.unwrap().unwrap().is_executed());
        assert!($job(&desk.other(), 1).await.unwrap().is_replayed());
        assert_eq!(desk.world.count("work"), 1);
        busy
    }};
}

#[tokio::test]
async fn a_run_of_a_held_key_does_as_its_job_says() {
    for busy in busy!(skipping) {
        assert!(busy.skipped && busy.again_in.is_none());
    }
    for busy in busy!(erring) {
        assert!(!busy.skipped && busy.again_in.is_none());
        assert!(Error::<Failure>::Busy(busy).is_retryable());
    }
    for busy in busy!(rescheduling) {
        assert_eq!(busy.again_in, Some(Duration::from_secs(5)));
        assert!(busy.to_string().contains("deliver it again in 5s"), "{busy}");
    }
}

#[idempotent(
    key = id, in_doubt = rerun, unique = while_executing, unique_by(run = customer), on_busy = skip
)]
async fn one_a_customer(id: i64, customer: i64, #[state] world: &World) -> Result<String, Failure> {
    let _ = customer;
    world.call("work", id.to_string()).await
}

/// Who has the claim does other work.
#[tokio::test]
async fn a_run_that_meets_one_of_another_key_leaves_nothing_to_it() {
    let desk = Desk::new();
    desk.world.close("work");
    let idem = desk.idem.clone();
    let run = tokio::spawn(async move { one_a_customer(&idem, 1, 7).await });
    desk.world.arrival().await;
    for idem in [&desk.idem, &desk.other()] {
        match one_a_customer(idem, 2, 7).await {
            Err(Error::Busy(busy)) => {
                assert!(!busy.skipped, "its work is nobody's");
                assert!(Error::<Failure>::Busy(busy).is_retryable());
            }
            other => panic!("two runs of one customer met: {other:?}"),
        }
    }
    desk.world.open("work");
    assert!(run.await.unwrap().unwrap().is_executed());
    assert!(one_a_customer(&desk.idem, 2, 7).await.unwrap().is_executed());
}

#[tokio::test(start_paused = true)]
async fn a_run_that_waits_wakes_when_the_other_ends() {
    let desk = Desk::new();
    desk.world.close("work");
    let (idem, other) = (desk.idem.clone(), desk.other());
    let run = tokio::spawn(async move { waiting(&idem, 1).await });
    desk.world.arrival().await;
    let began = tokio::time::Instant::now();
    let twin = tokio::spawn(async move { waiting(&other, 1).await });
    // Every other task gets its turn before the clock moves.
    tokio::time::sleep(Duration::from_millis(1)).await;
    desk.world.open("work");
    assert!(run.await.unwrap().unwrap().is_executed());
    assert!(twin.await.unwrap().unwrap().is_replayed());
    assert!(
        began.elapsed() < Duration::from_millis(10),
        "it waited {:?} longer than it had to",
        began.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_run_does_not_wait_longer_than_it_says() {
    let desk = Desk::new();
    desk.world.close("mail");
    let idem = desk.idem.clone();
    let run = tokio::spawn(async move { send_mail(&idem, 1, "a".into()).await });
    desk.world.arrival().await;
    let began = tokio::time::Instant::now();
    assert!(matches!(send_mail(&desk.other(), 1, "a".into()).await, Err(Error::Busy(_))));
    let waited = began.elapsed();
    assert!(waited >= Duration::from_secs(10) && waited < Duration::from_secs(11), "it waited {waited:?}");
    run.abort();
}

#[idempotent(key = id, name = "two_kinds")]
async fn atomic(tx: &mut Tx<'_, Memory>, id: i64) -> Result<i64, Failure> {
    tx.set("atomic", "yes");
    Ok(id)
}

mod later {
    use super::*;

    #[idempotent(key = id, name = "two_kinds", in_doubt = rerun)]
    pub(crate) async fn leased(id: i64, #[state] world: &World) -> Result<i64, Failure> {
        world.call("leased", id.to_string()).await.map(|_| id)
    }
}

#[tokio::test]
async fn a_job_that_changes_its_kind_keeps_its_history() {
    let desk = Desk::new();
    assert!(atomic(&desk.idem, 1).await.unwrap().is_executed());
    assert!(later::leased(&desk.other(), 1).await.unwrap().is_replayed());
    assert!(later::leased(&desk.other(), 2).await.unwrap().is_executed());
    assert!(atomic(&desk.idem, 2).await.unwrap().is_replayed());
    desk.world.answer("leased", &[Err(Failure::Refused)]);
    assert!(later::leased(&desk.other(), 3).await.is_err());
    let refused = atomic(&desk.idem, 3).await.expect_err("a leased run has left the key unfinished");
    assert!(refused.to_string().contains("leased job"), "{refused}");
    assert_eq!(desk.world.count("leased"), 1);
}
