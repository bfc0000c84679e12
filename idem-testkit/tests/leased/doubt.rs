//! Effects whose outcome nobody knows: had again, asked for, or left to a person.

use idem_runtime::prelude::*;
use idem_runtime::record::{Epoch, State};
use idem_runtime::store::memory::Memory;
use idem_runtime::{Resolution, StoreErrorKind};

use super::world::{Desk, Failure, World};

#[idempotent(key = id, in_doubt = park)]
async fn parking(id: i64, #[state] world: &World) -> Result<String, Failure> {
    world.call("callee", id.to_string()).await
}

#[idempotent(key = id, in_doubt = probe(find))]
async fn probing(id: i64, #[state] world: &World) -> Result<String, Failure> {
    world.call("callee", id.to_string()).await
}

async fn find(job: &Probing, world: &World) -> Result<Option<String>, Failure> {
    world.call("probe", job.id.to_string()).await?;
    Ok(world.keys("callee").contains(&job.id.to_string()).then(|| String::from("found")))
}

fn parked<T: std::fmt::Debug>(answer: Result<Done<T>, Error<Failure>>) -> idem_runtime::Parked {
    match answer {
        Err(Error::Parked(parked)) => parked,
        other => panic!("what is in doubt answered {other:?}"),
    }
}

/// Starts a run, and drops it as it stands in its call, after the call has had its effect or before.
macro_rules! cut_off {
    ($desk:ident, $job:ident) => {{
        $desk.world.close("callee");
        let idem = $desk.idem.clone();
        let run = tokio::spawn(async move {
            let _ = $job(&idem, 1).await;
        });
        drop_in_call(&$desk, run).await;
    }};
}

async fn drop_in_call(desk: &Desk, run: tokio::task::JoinHandle<()>) {
    desk.world.arrival().await;
    run.abort();
    let _ = run.await;
    desk.world.open("callee");
    // The drop frees the key in a task of its own.
    while desk.idem.unfinished(&[State::Running], 1).await.unwrap().len() == 1 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_job_that_was_cut_off_is_parked_and_never_runs_by_itself() {
    let desk = Desk::new();
    cut_off!(desk, parking);
    for _ in 0..3 {
        let parked = parked(parking(&desk.idem, 1).await);
        assert_eq!((parked.step, parked.epoch), (None, Epoch(2)));
    }
    assert_eq!(desk.world.count("callee"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_lapsed_lease_is_a_doubt_too() {
    let desk = Desk::new();
    desk.world.close("callee");
    let idem = desk.idem.clone();
    let run = tokio::spawn(async move { parking(&idem, 1).await });
    desk.world.arrival().await;
    desk.store.advance(std::time::Duration::from_secs(3_600));
    parked(parking(&desk.other(), 1).await);
    desk.world.open("callee");
    assert!(matches!(run.await.unwrap(), Err(Error::LostClaim(_))));
    assert_eq!(desk.world.count("callee"), 1);
    parked(parking(&desk.other(), 1).await);
}

#[tokio::test]
async fn an_error_leaves_the_doubt_unless_it_is_final() {
    let desk = Desk::new();
    desk.world.answer("callee", &[Err(Failure::TimedOut)]);
    assert!(matches!(parking(&desk.idem, 1).await, Err(Error::Job(Failure::TimedOut))));
    parked(parking(&desk.idem, 1).await);
    assert_eq!(desk.world.count("callee"), 1);
}

#[tokio::test]
async fn a_person_says_that_it_is_done_and_everybody_gets_that_result() {
    let desk = Desk::new();
    desk.world.answer("callee", &[Err(Failure::TimedOut)]);
    assert!(parking(&desk.idem, 1).await.is_err());
    parked(parking(&desk.idem, 1).await);
    let listed = desk.idem.parked(10).await.unwrap();
    assert_eq!((listed.len(), &*listed[0].job, &*listed[0].key), (1, "parking", "1"));
    let (key, epoch) = (listed[0].hash, listed[0].epoch);

    let wrong = Resolution::done(&7).unwrap();
    let refused =
        desk.idem.resolve::<Parking>(key, epoch, wrong, "ada").await.expect_err("a number is no text");
    assert_eq!(refused.kind(), StoreErrorKind::Unreadable);
    let done = || Resolution::done(&String::from("receipt 9")).unwrap();
    let stale =
        desk.idem.resolve::<Parking>(key, Epoch(1), done(), "ada").await.expect_err("the epoch is stale");
    assert_eq!(stale.kind(), StoreErrorKind::Stale);
    assert!(stale.to_string().contains("epoch 2, not 1"), "{stale}");
    parked(parking(&desk.idem, 1).await);

    desk.idem.resolve::<Parking>(key, epoch, done(), "ada saw it in the callee's log").await.unwrap();
    assert_eq!(parking(&desk.idem, 1).await.unwrap(), Done::Replayed("receipt 9".into()));
    let again = desk.idem.resolve::<Parking>(key, epoch, done(), "ada").await.expect_err("it is resolved");
    assert_eq!(again.kind(), StoreErrorKind::Stale);
    let explained = desk.idem.explain(&Parking { id: 1 }).await.unwrap().expect("it is on record");
    let audit: Vec<_> = explained.audit.iter().map(|note| (&*note.action, &*note.why)).collect();
    assert_eq!(audit, [("done", "ada saw it in the callee's log")]);
    assert_eq!(desk.world.count("callee"), 1);
}

#[tokio::test]
async fn a_person_says_that_it_did_not_happen_and_it_runs_once_more() {
    let desk = Desk::new();
    cut_off!(desk, parking);
    let parked = parked(parking(&desk.idem, 1).await);
    let listed = desk.idem.parked(10).await.unwrap();
    desk.idem.resolve::<Parking>(listed[0].hash, parked.epoch, Resolution::rerun(), "ada").await.unwrap();
    assert!(parking(&desk.idem, 1).await.unwrap().is_executed());
    assert_eq!(desk.world.count("callee"), 1);
}

#[tokio::test]
async fn a_probe_that_finds_the_effect_adopts_it() {
    let desk = Desk::new();
    desk.world.answer("callee", &[Err(Failure::TimedOut)]);
    assert!(probing(&desk.idem, 1).await.is_err());
    assert_eq!(desk.world.count("probe"), 0, "a first run has nothing to ask for");
    assert_eq!(probing(&desk.idem, 1).await.unwrap(), Done::Adopted("found".into()));
    assert_eq!(probing(&desk.idem, 1).await.unwrap(), Done::Replayed("found".into()));
    assert_eq!((desk.world.count("callee"), desk.world.count("probe")), (1, 1));
}

#[tokio::test]
async fn a_probe_that_finds_nothing_lets_the_job_run() {
    let desk = Desk::new();
    cut_off!(desk, probing);
    assert!(probing(&desk.idem, 1).await.unwrap().is_executed());
    assert_eq!((desk.world.count("callee"), desk.world.count("probe")), (1, 1));
}

#[tokio::test]
async fn a_probe_that_fails_leaves_the_doubt() {
    let desk = Desk::new();
    desk.world.answer("callee", &[Err(Failure::TimedOut)]);
    desk.world.answer("probe", &[Err(Failure::Refused), Err(Failure::Refused)]);
    assert!(probing(&desk.idem, 1).await.is_err());
    for _ in 0..2 {
        assert!(matches!(probing(&desk.idem, 1).await, Err(Error::Job(Failure::Refused))));
    }
    assert!(probing(&desk.idem, 1).await.unwrap().is_adopted());
    assert_eq!(desk.world.count("callee"), 1);
}

#[idempotent(key = id, in_doubt = rerun)]
async fn stepping(run: &mut Run<'_, Memory>, id: i64, #[state] world: &World) -> Result<String, Failure> {
    run.step("before", async |key| world.call("before", key).await).await?;
    let sure = |error: &Failure| *error == Failure::Refused;
    let parcel =
        run.step("parcel", async |_| world.call("callee", id.to_string()).await).park().not_done_if(sure);
    let parcel = parcel.await?;
    world.call("end", parcel.clone()).await?;
    Ok(parcel)
}

#[tokio::test]
async fn a_step_in_doubt_parks_and_a_person_gives_its_result() {
    let desk = Desk::new();
    desk.world.answer("callee", &[Err(Failure::TimedOut)]);
    assert!(stepping(&desk.idem, 1).await.is_err());
    let parked = parked(stepping(&desk.idem, 1).await);
    assert_eq!(parked.step.as_deref(), Some("parcel"));
    assert!(parked.to_string().contains("step `parcel`"), "{parked}");
    let explained = desk.idem.explain(&Stepping { id: 1 }).await.unwrap().expect("it is on record");
    let steps: Vec<_> = explained.steps.iter().map(|step| (&*step.name, step.is_done)).collect();
    assert_eq!(steps, [("before", true), ("parcel", false)]);

    let done = Resolution::done(&String::from("parcel 9")).unwrap();
    desk.idem.resolve::<Stepping>(explained.hash, explained.epoch, done, "ada").await.unwrap();
    assert_eq!(stepping(&desk.idem, 1).await.unwrap(), Done::Executed("parcel 9".into()));
    assert_eq!((desk.world.count("before"), desk.world.count("callee")), (1, 1));
}

/// Leaves a step with a result of a wrong type, and returns how the next run parks.
async fn mistaken(desk: &Desk) -> idem_runtime::Parked {
    desk.world.answer("callee", &[Err(Failure::TimedOut)]);
    assert!(stepping(&desk.idem, 1).await.is_err());
    let first = parked(stepping(&desk.idem, 1).await);
    let wrong = Resolution::done(&7_654).unwrap();
    desk.idem.resolve::<Stepping>(first.hash, first.epoch, wrong, "ada").await.unwrap();
    let again = parked(stepping(&desk.idem, 1).await);
    assert_eq!((again.step.as_deref(), again.epoch), (Some("parcel"), Epoch(3)));
    assert!(
        again.reason.contains("`alloc::string::String`") && again.reason.contains("expected a string"),
        "{again}"
    );
    assert!(!again.reason.contains("7654"), "{again}");
    // It waits, whoever comes.
    assert_eq!(parked(stepping(&desk.other(), 1).await), again);
    let explained = desk.idem.explain(&Stepping { id: 1 }).await.unwrap().expect("it is on record");
    let steps: Vec<_> =
        explained.steps.iter().map(|step| (&*step.name, step.is_done, step.is_given)).collect();
    assert_eq!(steps, [("before", true, false), ("parcel", true, true)]);
    again
}

#[tokio::test]
async fn a_step_that_was_given_a_wrong_type_is_parked_again_and_takes_another_result() {
    let desk = Desk::new();
    let again = mistaken(&desk).await;
    let done = Resolution::done(&String::from("parcel 9")).unwrap();
    desk.idem.resolve::<Stepping>(again.hash, again.epoch, done, "ada").await.unwrap();
    assert_eq!(stepping(&desk.idem, 1).await.unwrap(), Done::Executed("parcel 9".into()));
    assert_eq!((desk.world.count("before"), desk.world.count("callee")), (1, 1));
}

#[tokio::test]
async fn a_step_that_was_given_a_wrong_type_is_taken_once_more_only_if_a_person_says_so() {
    let desk = Desk::new();
    let again = mistaken(&desk).await;
    assert_eq!(desk.world.count("callee"), 1);
    desk.idem.resolve::<Stepping>(again.hash, again.epoch, Resolution::rerun(), "ada").await.unwrap();
    assert_eq!(stepping(&desk.idem, 1).await.unwrap(), Done::Executed("callee 2".into()));
    assert_eq!((desk.world.count("before"), desk.world.count("callee")), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn a_parked_key_tells_what_the_run_before_ended_with() {
    let desk = Desk::new();
    desk.world.answer("callee", &[Err(Failure::TimedOut)]);
    for failed in 0..2 {
        let _ = match failed {
            0 => stepping(&desk.idem, 1).await,
            _ => parking(&desk.idem, 2).await,
        };
        desk.world.answer("callee", &[Err(Failure::TimedOut)]);
    }
    let failed = desk.idem.unfinished(&[State::Failed], 10).await.unwrap();
    let said = Failure::TimedOut.to_string();
    assert_eq!(failed.iter().filter(|key| key.error.as_deref() == Some(&*said)).count(), 2, "{failed:?}");
    parked(stepping(&desk.idem, 1).await);
    parked(parking(&desk.idem, 2).await);
    for key in desk.idem.parked(10).await.unwrap() {
        assert_eq!(key.error.as_deref(), Some(&*said), "{key:?}");
    }
    let explained = desk.idem.explain(&Stepping { id: 1 }).await.unwrap().expect("it is on record");
    assert_eq!(explained.error, Some(said));

    // Of a run that has died there is no error.
    desk.world.close("callee");
    let idem = desk.idem.clone();
    let run = tokio::spawn(async move { parking(&idem, 3).await });
    desk.world.arrival().await;
    desk.store.advance(std::time::Duration::from_secs(3_600));
    parked(parking(&desk.other(), 3).await);
    let explained = desk.idem.explain(&Parking { id: 3 }).await.unwrap().expect("it is on record");
    assert_eq!(explained.error, None);
    desk.world.open("callee");
    let _ = run.await;
}

#[tokio::test]
async fn a_step_that_a_person_found_undone_is_taken_once_more() {
    let desk = Desk::new();
    cut_off!(desk, stepping);
    let parked = parked(stepping(&desk.idem, 1).await);
    let listed = desk.idem.parked(10).await.unwrap();
    desk.idem.resolve::<Stepping>(listed[0].hash, parked.epoch, Resolution::rerun(), "ada").await.unwrap();
    assert!(stepping(&desk.idem, 1).await.unwrap().is_executed());
    assert_eq!((desk.world.count("before"), desk.world.count("callee")), (1, 1));
}

#[tokio::test]
async fn what_was_said_is_corrected_only_by_who_means_to_and_under_its_epoch() {
    let desk = Desk::new();
    cut_off!(desk, stepping);
    let parked = parked(stepping(&desk.idem, 1).await);
    let say = async |epoch, found| desk.idem.resolve::<Stepping>(parked.hash, epoch, found, "ada").await;
    say(parked.epoch, Resolution::rerun()).await.unwrap();
    let again = say(parked.epoch, Resolution::rerun()).await.unwrap_err();
    assert_eq!(again.kind(), StoreErrorKind::Stale);
    assert!(
        again.to_string().contains("it waits for its next run since it was resolved as rerun: ada"),
        "{again}"
    );
    let late = say(parked.epoch.next(), Resolution::rerun().correcting()).await.unwrap_err();
    assert_eq!(late.kind(), StoreErrorKind::Stale);
    assert!(late.to_string().contains("it was resolved under epoch 2, not 3"), "{late}");
    say(parked.epoch, Resolution::rerun().correcting()).await.unwrap();
    assert!(stepping(&desk.idem, 1).await.unwrap().is_executed());
    assert_eq!(desk.world.count("callee"), 1);
    // A run has gone by what was said.
    let gone = say(parked.epoch, Resolution::rerun().correcting()).await.unwrap_err();
    assert!(gone.to_string().contains("it is Completed, not parked"), "{gone}");
}

#[tokio::test]
async fn an_error_that_is_certain_leaves_no_doubt() {
    let desk = Desk::new();
    desk.world.answer("callee", &[Err(Failure::Refused), Err(Failure::Refused)]);
    assert!(matches!(stepping(&desk.idem, 1).await, Err(Error::Job(Failure::Refused))));
    assert!(matches!(stepping(&desk.idem, 1).await, Err(Error::Job(Failure::Refused))));
    assert!(stepping(&desk.idem, 1).await.unwrap().is_executed());
    assert_eq!(desk.world.count("callee"), 1);
}

#[tokio::test]
async fn a_step_that_is_done_is_in_no_doubt_however_the_run_ends() {
    let desk = Desk::new();
    desk.world.answer("end", &[Err(Failure::TimedOut)]);
    assert!(stepping(&desk.idem, 1).await.is_err());
    assert!(stepping(&desk.idem, 1).await.unwrap().is_executed());
    assert_eq!(desk.world.count("callee"), 1);
}

#[tokio::test]
async fn a_body_that_goes_on_beside_a_step_in_doubt_has_not_ended_well() {
    let desk = Desk::new();
    desk.world.answer("callee", &[Err(Failure::TimedOut)]);
    assert!(stepping(&desk.idem, 3).await.is_err());
    assert!(matches!(later::racing_later(&desk.other(), 3).await, Err(Error::Parked(_))));
}

mod later {
    use super::*;

    /// The code of `stepping`, with a way around its step.
    #[idempotent(key = id, in_doubt = rerun, name = "stepping", drift = resume)]
    pub(super) async fn racing_later(
        run: &mut Run<'_, Memory>,
        id: i64,
        #[state] world: &World,
    ) -> Result<String, Failure> {
        let mut step = IntoFuture::into_future(
            run.step("parcel", async |_| world.call("callee", id.to_string()).await).park(),
        );
        std::future::poll_fn(|cx| match step.as_mut().poll(cx) {
            std::task::Poll::Pending => std::task::Poll::Ready(Ok(String::from("without the parcel"))),
            ready => ready,
        })
        .await
    }

    /// The code of `parking`, with steps.
    #[idempotent(key = id, in_doubt = park, name = "parking")]
    pub(super) async fn parking_in_steps(
        run: &mut Run<'_, Memory>,
        id: i64,
        #[state] world: &World,
    ) -> Result<String, Failure> {
        run.step("call", async |_| world.call("callee", id.to_string()).await).await
    }

    /// The code of `stepping`, without steps.
    #[idempotent(key = id, in_doubt = rerun, name = "stepping")]
    pub(super) async fn without_steps(id: i64, #[state] world: &World) -> Result<String, Failure> {
        world.call("callee", id.to_string()).await
    }
}

#[tokio::test]
async fn a_job_that_gets_or_loses_its_steps_forgets_no_doubt() {
    let desk = Desk::new();
    desk.world.answer("callee", &[Err(Failure::TimedOut)]);
    assert!(parking(&desk.idem, 1).await.is_err());
    parked(later::parking_in_steps(&desk.other(), 1).await);
    assert_eq!(desk.world.count("callee"), 1);

    desk.world.answer("end", &[Err(Failure::Refused)]);
    assert!(stepping(&desk.idem, 2).await.is_err());
    for _ in 0..2 {
        assert!(matches!(later::without_steps(&desk.other(), 2).await, Err(Error::Drift(_))));
    }
    assert_eq!(desk.world.count("callee"), 2);
}

#[idempotent(key = id, in_doubt = park)]
async fn asking(run: &mut Run<'_, Memory>, id: i64, #[state] world: &World) -> Result<String, Failure> {
    let found = || world.keys("callee").first().map(|_| String::from("found"));
    let asked = run.step("mail", async |_| world.call("callee", id.to_string()).await).probe(async |key| {
        world.call("probe", key).await?;
        Ok(found())
    });
    let mail = asked.await?;
    world.call("end", "").await?;
    run.step("keyed", async |key| world.call("keyed", key).await).rerun().await?;
    Ok(mail)
}

#[tokio::test]
async fn a_step_is_probed_with_the_key_of_its_call() {
    let desk = Desk::new();
    desk.world.answer("callee", &[Err(Failure::TimedOut)]);
    desk.world.answer("keyed", &[Err(Failure::TimedOut)]);
    assert!(asking(&desk.idem, 1).await.is_err());
    assert!(asking(&desk.idem, 1).await.is_err(), "the keyed call fails");
    assert_eq!(*asking(&desk.idem, 1).await.unwrap(), "found");
    assert_eq!((desk.world.count("callee"), desk.world.count("probe"), desk.world.count("keyed")), (1, 1, 2));
    assert!(desk.world.keys("probe")[0].starts_with("idem_"));
}
