use idem_runtime::job::{JobSpec, Missed, Schedule, Unique};
use idem_runtime::prelude::*;
use idem_runtime::schedule::{Scheduled, Tick};

#[idempotent(key = tick, schedule = "0 3 * * *")]
async fn nightly(_: &mut Tx<'_, Memory>, tick: Tick) -> Result<i64, String> {
    Ok(tick.unix())
}

#[idempotent(
    key = tick,
    schedule("*/15 8-18 * JAN-jun,12 Mon-FRI", time_zone = "America/Argentina/Buenos_Aires", missed = all),
    in_doubt = rerun,
)]
async fn quarterly(run: &mut Run<'_, Memory>, tick: idem_runtime::schedule::Tick) -> Result<i64, String> {
    run.step("report", async |_| Ok(tick.unix())).await
}

#[idempotent(key = tick.date(), schedule("0 0 29 2 *", missed = latest), in_doubt = rerun)]
async fn leap_days(tick: Tick) -> Result<i64, String> {
    Ok(tick.unix())
}

#[idempotent(key = ("report", _tick), schedule("0 0 * * 7",), unique = keep_latest, unique_by = global, retain = "1h")]
async fn sundays(_: &mut Tx<'_, Memory>, mut _tick: Tick, #[state] offset: &i64) -> Result<i64, String> {
    _tick = Tick::from_unix(_tick.unix() + offset);
    Ok(_tick.unix())
}

fn scheduled<J: Scheduled>() -> (Option<Schedule>, String) {
    (J::SPEC.schedule, J::at(Tick::from_unix(60)).key().unwrap().readable().to_owned())
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    assert_eq!(Nightly::SPEC, JobSpec::new("nightly").schedule(Schedule::new("0 3 * * *")));
    assert_eq!(scheduled::<Nightly>().1, "1970-01-01T00:01:00Z");

    let schedule = Schedule::new("*/15 8-18 * JAN-jun,12 Mon-FRI")
        .time_zone("America/Argentina/Buenos_Aires")
        .missed(Missed::All);
    assert_eq!(scheduled::<Quarterly>().0, Some(schedule));
    assert_eq!(scheduled::<LeapDays>().0, Some(Schedule::new("0 0 29 2 *")));
    assert_eq!(scheduled::<Sundays>().0, Some(Schedule::new("0 0 * * 7")));
    assert_eq!(Sundays::SPEC.unique, Some(Unique::KeepLatest));

    let idem = Idem::memory().state(7_i64).build().unwrap();
    let tick = Tick::from_unix(60);
    assert!(nightly(&idem, tick).await.unwrap().is_executed());
    assert!(idem.run(Nightly::at(tick)).await.unwrap().is_replayed());
    assert_eq!(*idem.run(Quarterly::at(tick)).await.unwrap(), 60);
    assert_eq!(*idem.run(LeapDays::at(tick)).await.unwrap(), 60);
    assert_eq!(*idem.run(Sundays::at(tick)).await.unwrap(), 67);
}
