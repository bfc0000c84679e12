//! Steps: taken once, skipped afterwards, and refused where the code has changed.

use idem_runtime::prelude::*;
use idem_runtime::record::State;
use idem_runtime::store::memory::Memory;
use idem_runtime::{KnownKey, StoreErrorKind};

use super::world::{Desk, Failure, World};

#[idempotent(key = id, in_doubt = rerun)]
async fn fulfil(run: &mut Run<'_, Memory>, id: i64, #[state] world: &World) -> Result<String, Failure> {
    let charge = run.step("charge", async |key| world.call("charge", key).await).await?;
    run.tx_step("order", async |tx| {
        let key = tx.idempotency_key();
        tx.set(format!("order {id}"), format!("{charge}, ordered under {key}"));
        Ok::<_, Failure>(())
    })
    .await?;
    for line in 0..2 {
        run.step(("line", line), async |key| world.call("line", key).await).await?;
    }
    let mail = run.step("mail", async |key| world.call("mail", key).await).await?;
    run.enqueue(Notify { id }).await;
    Ok(format!("{charge}, {mail}"))
}

#[idempotent(key = id)]
async fn notify(tx: &mut Tx<'_, Memory>, id: i64) -> Result<(), Failure> {
    tx.set(format!("notified {id}"), "yes");
    Ok(())
}

#[tokio::test]
async fn a_run_that_failed_goes_on_behind_its_last_step() {
    let desk = Desk::new();
    desk.world.answer("mail", &[Err(Failure::Refused), Err(Failure::Refused)]);
    for _ in 0..2 {
        assert!(matches!(fulfil(&desk.idem, 1).await, Err(Error::Job(Failure::Refused))));
        assert_eq!(desk.store.effects().len(), 1, "the order is there");
    }
    let explained = desk.idem.explain(&Fulfil { id: 1 }).await.unwrap().expect("it is on record");
    let steps: Vec<_> = explained.steps.iter().map(|step| (&*step.name, step.is_done)).collect();
    assert_eq!(steps, [("charge", true), ("order", true), ("line[0]", true), ("line[1]", true)]);

    assert_eq!(fulfil(&desk.idem, 1).await.unwrap(), Done::Executed("charge 1, mail 1".into()));
    assert_eq!(fulfil(&desk.idem, 1).await.unwrap(), Done::Replayed("charge 1, mail 1".into()));
    assert_eq!((desk.world.count("charge"), desk.world.count("line"), desk.world.count("mail")), (1, 2, 1));
    let explained = desk.idem.explain(&Fulfil { id: 1 }).await.unwrap().expect("it is on record");
    assert_eq!((explained.state, explained.steps.len(), explained.attempts), (State::Completed, 0, 3));
}

#[tokio::test]
async fn the_keys_handed_out_depend_on_job_key_and_step_alone() {
    let (one, two) = (Desk::new(), Desk::new());
    fulfil(&one.idem, 1).await.unwrap();
    fulfil(&two.idem, 1).await.unwrap();
    assert_eq!(one.world.keys("charge"), two.world.keys("charge"));
    assert_eq!(one.world.keys("line"), two.world.keys("line"));
    assert_eq!(one.store.effects(), two.store.effects());
    fulfil(&one.idem, 2).await.unwrap();
    let mut keys = [one.world.keys("charge"), one.world.keys("line"), one.world.keys("mail")].concat();
    let all = keys.len();
    keys.sort();
    keys.dedup();
    assert_eq!((keys.len(), all), (8, 8), "every step of every key has a key of its own");
}

#[tokio::test]
async fn a_call_that_failed_gets_the_same_key_again() {
    let desk = Desk::new();
    desk.world.answer("charge", &[Err(Failure::TimedOut)]);
    assert!(fulfil(&desk.idem, 1).await.is_err());
    fulfil(&desk.idem, 1).await.unwrap();
    let keys = desk.world.keys("charge");
    assert_eq!((keys.len(), &keys[0]), (2, &keys[1]));
}

#[tokio::test]
async fn what_is_enqueued_comes_once_and_only_with_the_outcome() {
    let desk = Desk::new();
    desk.world.answer("mail", &[Err(Failure::Refused)]);
    assert!(fulfil(&desk.idem, 1).await.is_err());
    let relay = async || {
        desk.idem
            .relay(async |task| {
                assert_eq!((task.job(), task.key()), ("notify", "1"));
                desk.idem.run(task.decode::<Notify>()?).await.map(|_| ())
            })
            .await
            .unwrap()
    };
    assert_eq!(relay().await, 0, "a run that failed enqueues nothing");
    fulfil(&desk.idem, 1).await.unwrap();
    fulfil(&desk.idem, 1).await.unwrap();
    assert_eq!(relay().await, 1);
    assert_eq!(relay().await, 0);
    assert_eq!(desk.store.effects().get("notified 1").map(String::as_str), Some("yes"));
}

#[tokio::test]
async fn a_task_stays_until_it_is_delivered_and_tells_what_it_is() {
    let desk = Desk::new();
    fulfil(&desk.idem, 1).await.unwrap();
    let failed = desk
        .idem
        .relay(async |task| {
            let wrong = task.decode::<Fulfil>().err().expect("the task is of another job");
            assert!(wrong.to_string().contains("it is of another job"), "{wrong}");
            Err(wrong)
        })
        .await;
    assert_eq!(failed.expect_err("nothing was delivered").kind(), StoreErrorKind::Unreadable);
    assert_eq!(desk.idem.relay(async |_| Ok::<_, idem_runtime::StoreError>(())).await.unwrap(), 1);
}

/// The same job in three versions of its code.
macro_rules! versions {
    ($($version:ident: [$($step:literal)*] $(, drift = $drift:ident)?;)+) => {$(
        mod $version {
            use super::*;

            #[idempotent(key = id, in_doubt = rerun, name = "versioned" $(, drift = $drift)?)]
            pub(super) async fn go(run: &mut Run<'_, Memory>, id: i64, #[state] world: &World) -> Result<i64, Failure> {
                $(run.step($step, async |key| world.call($step, key).await).await?;)*
                world.call("end", id.to_string()).await.map(|_| id)
            }
        }
    )+};
}

versions! {
    first: ["a" "b"];
    longer: ["a" "b" "c"];
    reordered: ["b" "a"];
    shorter: ["a"];
    renamed: ["a" "x"];
    resuming: ["x" "b"], drift = resume;
    parking: ["a" "x"], drift = park;
}

/// Leaves a run of the first version unfinished, with both steps recorded.
async fn unfinished() -> Desk {
    let desk = Desk::new();
    desk.world.answer("end", &[Err(Failure::Refused)]);
    assert!(first::go(&desk.idem, 1).await.is_err());
    desk
}

fn drift<T: std::fmt::Debug>(answer: Result<T, Error<Failure>>) -> (String, Option<String>) {
    match answer {
        Err(Error::Drift(drift)) => {
            let text = drift.to_string();
            assert!(text.contains(&format!("`{}`", drift.recorded)), "{text}");
            (drift.recorded, drift.asked)
        }
        other => panic!("steps that have changed answered {other:?}"),
    }
}

#[tokio::test]
async fn code_with_more_steps_goes_on() {
    let desk = unfinished().await;
    longer::go(&desk.other(), 1).await.unwrap();
    assert_eq!(["a", "b", "c"].map(|step| desk.world.count(step)), [1, 1, 1]);
}

#[tokio::test]
async fn code_with_other_steps_is_refused_before_it_does_anything_and_the_old_code_ends_it() {
    let desk = unfinished().await;
    assert_eq!(drift(reordered::go(&desk.other(), 1).await), ("a".into(), Some("b".into())));
    assert_eq!(drift(renamed::go(&desk.other(), 1).await), ("b".into(), Some("x".into())));
    assert_eq!(drift(shorter::go(&desk.other(), 1).await), ("b".into(), None));
    assert_eq!(["a", "b", "x"].map(|step| desk.world.count(step)), [1, 1, 0]);
    let explained = desk.idem.explain(&first::Go { id: 1 }).await.unwrap().expect("it is on record");
    assert_eq!((explained.state, explained.steps.len()), (State::Failed, 2));
    first::go(&desk.other(), 1).await.unwrap();
    // What is completed is never compared with any code.
    assert!(renamed::go(&desk.other(), 1).await.unwrap().is_replayed());
}

#[tokio::test]
async fn code_that_resumes_finds_steps_by_name() {
    let desk = unfinished().await;
    resuming::go(&desk.other(), 1).await.unwrap();
    assert_eq!(["a", "b", "x"].map(|step| desk.world.count(step)), [1, 1, 1]);
}

#[tokio::test]
async fn code_that_parks_waits_for_a_person() {
    let desk = unfinished().await;
    assert!(matches!(parking::go(&desk.other(), 1).await, Err(Error::Parked(_))));
    assert!(matches!(first::go(&desk.other(), 1).await, Err(Error::Parked(_))), "parked for every code");
    let parked: Vec<KnownKey> = desk.idem.parked(10).await.unwrap();
    let idem_runtime::record::Parked { reason, drifted, .. } =
        parked[0].parked.as_ref().expect("it is parked");
    assert!(drifted, "for the steps, and for no doubt");
    assert!(reason.contains("`b`") && reason.contains("`x`"), "{reason}");
    let rerun = idem_runtime::Resolution::rerun();
    desk.idem.resolve::<first::Go>(parked[0].hash, parked[0].epoch, rerun, "rolled back").await.unwrap();
    first::go(&desk.other(), 1).await.unwrap();
    assert_eq!(["a", "b", "x"].map(|step| desk.world.count(step)), [1, 1, 0]);
}

#[idempotent(key = id, in_doubt = rerun)]
async fn misnamed(
    run: &mut Run<'_, Memory>,
    id: i64,
    names: Vec<u8>,
    #[state] world: &World,
) -> Result<i64, Failure> {
    for name in names {
        run.step(("step", name), async |key| world.call("misnamed", key).await).await?;
    }
    Ok(id)
}

#[tokio::test]
async fn two_steps_of_one_name_are_refused_before_the_second_is_taken() {
    let desk = Desk::new();
    match misnamed(&desk.idem, 1, vec![1, 1]).await {
        Err(Error::Store(error)) => {
            assert_eq!(error.kind(), StoreErrorKind::StepName);
            assert!(error.to_string().contains("step[1]"), "{error}");
        }
        other => panic!("two steps of one name answered {other:?}"),
    }
    assert_eq!(desk.world.count("misnamed"), 1);
    assert!(misnamed(&desk.idem, 2, vec![1, 2]).await.is_ok());
}

#[idempotent(key = _id, in_doubt = rerun)]
async fn swollen(run: &mut Run<'_, Memory>, _id: i64, #[state] world: &World) -> Result<usize, Failure> {
    let step =
        run.step("step", async |key| world.call("swollen", key).await.map(|_| "x".repeat(2_000_000))).await?;
    Ok(step.len())
}

#[tokio::test]
async fn a_step_result_that_cannot_be_kept_is_a_typed_error_and_the_step_is_taken_again() {
    let desk = Desk::new();
    for _ in 0..2 {
        match swollen(&desk.idem, 1).await {
            Err(Error::Store(error)) => {
                assert_eq!(error.kind(), StoreErrorKind::Unrecordable);
                assert!(error.to_string().contains("step `step` of job `swollen`"), "{error}");
            }
            other => panic!("a result of 2 MB answered {other:?}"),
        }
    }
    assert_eq!(desk.world.count("swollen"), 2);
}

mod narrow {
    use super::*;

    #[idempotent(key = id, in_doubt = rerun, name = "typed")]
    pub(super) async fn go(
        run: &mut Run<'_, Memory>,
        id: i64,
        #[state] world: &World,
    ) -> Result<i64, Failure> {
        let step = run.step("step", async |key| world.call("typed", key).await).await?;
        world.call("end", step).await.map(|_| id)
    }
}

mod wide {
    use super::*;

    #[idempotent(key = id, in_doubt = rerun, name = "typed")]
    pub(super) async fn go(
        run: &mut Run<'_, Memory>,
        id: i64,
        #[state] world: &World,
    ) -> Result<i64, Failure> {
        let step: u64 = run.step("step", async |key| world.call("typed", key).await.map(|_| 7)).await?;
        world.call("end", step.to_string()).await.map(|_| id)
    }
}

#[tokio::test]
async fn a_step_that_cannot_be_read_back_is_a_typed_error_and_is_not_taken_again() {
    let desk = Desk::new();
    desk.world.answer("end", &[Err(Failure::Refused)]);
    assert!(narrow::go(&desk.idem, 1).await.is_err());
    match wide::go(&desk.other(), 1).await {
        Err(Error::Store(error)) => {
            assert_eq!(error.kind(), StoreErrorKind::Unreadable);
            assert!(error.to_string().contains("step `step` of job `typed`"), "{error}");
        }
        other => panic!("a step of another type answered {other:?}"),
    }
    assert_eq!(desk.world.count("typed"), 1);
    narrow::go(&desk.idem, 1).await.unwrap();
    assert_eq!(desk.world.count("typed"), 1);
}

#[idempotent(key = _id, in_doubt = rerun)]
async fn stubborn(run: &mut Run<'_, Memory>, _id: i64, #[state] world: &World) -> Result<String, Failure> {
    // A body that takes every error for one of the callee.
    match run.step("first", async |key| world.call("first", key).await).await {
        Ok(first) => Ok(first),
        Err(_) => run.step("second", async |key| world.call("second", key).await).await,
    }
}

#[tokio::test]
async fn an_error_of_a_step_is_the_bodys_to_judge() {
    let desk = Desk::new();
    desk.world.answer("first", &[Err(Failure::Refused)]);
    assert_eq!(*stubborn(&desk.idem, 1).await.unwrap(), "second 1");
}

#[idempotent(key = _id, in_doubt = rerun)]
async fn tolerant(run: &mut Run<'_, Memory>, _id: i64, #[state] world: &World) -> Result<String, Failure> {
    let _ = run.step("optional", async |key| world.call("optional", key).await).await;
    let needed = run.step("needed", async |key| world.call("needed", key).await).await?;
    world.call("end", needed.clone()).await?;
    Ok(needed)
}

#[tokio::test]
async fn a_step_whose_error_was_tolerated_leaves_the_others_in_their_places() {
    let desk = Desk::new();
    desk.world.answer("optional", &[Err(Failure::Refused), Err(Failure::Refused)]);
    desk.world.answer("end", &[Err(Failure::Refused), Err(Failure::Refused)]);
    for _ in 0..2 {
        assert!(matches!(tolerant(&desk.idem, 1).await, Err(Error::Job(Failure::Refused))));
    }
    assert!(tolerant(&desk.idem, 1).await.unwrap().is_executed());
    assert_eq!((desk.world.count("optional"), desk.world.count("needed")), (1, 1));
}

#[idempotent(key = id, in_doubt = rerun)]
async fn undoing(run: &mut Run<'_, Memory>, id: i64, #[state] world: &World) -> Result<i64, Failure> {
    run.tx_step("tx", async |tx| {
        tx.set("half", "done");
        world.call("in tx", "").await.map(|_| ())
    })
    .await?;
    Ok(id)
}

#[tokio::test]
async fn an_error_in_a_tx_step_undoes_its_effect() {
    let desk = Desk::new();
    desk.world.answer("in tx", &[Err(Failure::Refused)]);
    assert!(undoing(&desk.idem, 1).await.is_err());
    assert!(desk.store.effects().is_empty());
    undoing(&desk.idem, 1).await.unwrap();
    assert_eq!(desk.store.effects().len(), 1);
}

#[idempotent(key = _id, in_doubt = rerun)]
async fn numbered(
    run: &mut Run<'_, Memory>,
    _id: i64,
    #[state] world: &World,
) -> Result<(i64, u32), Failure> {
    world.call("numbered", run.idempotency_key()).await?;
    Ok((run.epoch().0, run.attempt()))
}

#[tokio::test]
async fn a_run_knows_its_epoch_and_attempt() {
    let desk = Desk::new();
    desk.world.answer("numbered", &[Err(Failure::Refused), Err(Failure::TimedOut)]);
    assert!(numbered(&desk.idem, 1).await.is_err());
    assert!(numbered(&desk.idem, 1).await.is_err());
    assert_eq!(*numbered(&desk.idem, 1).await.unwrap(), (3, 3));
    let keys = desk.world.keys("numbered");
    assert_eq!(keys[0], keys[1]);
}
