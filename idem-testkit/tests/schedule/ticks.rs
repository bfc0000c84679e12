//! Which ticks start a job.

use std::convert::Infallible;

use idem_runtime::job::{Missed, Schedule};
use idem_runtime::prelude::*;
use idem_runtime::schedule::{ScheduleError, Scheduled, Tick};
use tokio::task::JoinSet;

use crate::world::{Clock, Desk, Report, World, at, hours, minutes};

const HOURLY: Schedule = Schedule::new("0 * * * *");

/// Runs the hourly report in as many processes.
fn start(desk: &Desk, processes: usize, schedule: Schedule) -> JoinSet<Infallible> {
    let mut running = JoinSet::new();
    for _ in 0..processes {
        let scheduler = desk.idem().scheduler().job_at::<Report>(schedule).expect("the schedule is right");
        running.spawn(scheduler.run());
    }
    running
}

#[tokio::test(start_paused = true)]
async fn a_new_job_begins_with_the_next_tick() {
    let desk = Desk::at(3, 30);
    let _running = start(&desk, 1, HOURLY);
    minutes(1).await;
    assert_eq!(desk.last_tick::<Report>().await, Some(at(3, 0)));
    assert_eq!(desk.world.effects(), []);
    minutes(28).await;
    assert_eq!(desk.world.effects(), [], "at 03:59");
    minutes(2).await;
    assert_eq!(desk.world.effects(), hours([4]), "at 04:01");
    minutes(120).await;
    assert_eq!(desk.world.effects(), hours([4, 5, 6]));
    assert_eq!(desk.last_tick::<Report>().await, Some(at(6, 0)));
}

#[tokio::test(start_paused = true)]
async fn a_tick_starts_a_job_once_however_many_processes_there_are() {
    let desk = Desk::at(3, 30);
    let _running = start(&desk, 8, HOURLY);
    minutes(4 * 60).await;
    assert_eq!(desk.world.effects(), hours([4, 5, 6, 7]));
    assert_eq!(desk.store.effects().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn the_latest_missed_tick_is_made_up_for() {
    let desk = Desk::at(5, 30);
    desk.begin::<Report>(at(0, 0)).await;
    let _running = start(&desk, 2, HOURLY);
    minutes(1).await;
    assert_eq!(desk.world.effects(), hours([5]));
    minutes(60).await;
    assert_eq!(desk.world.effects(), hours([5, 6]));
}

#[tokio::test(start_paused = true)]
async fn all_missed_ticks_are_made_up_for_oldest_first() {
    let desk = Desk::at(5, 30);
    desk.begin::<Report>(at(0, 0)).await;
    let _running = start(&desk, 1, HOURLY.missed(Missed::All));
    minutes(1).await;
    assert_eq!(desk.world.effects(), hours(1..=5));
    minutes(60).await;
    assert_eq!(desk.world.effects(), hours(1..=6));
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_goes_back_starts_nothing_twice() {
    for missed in [Missed::Latest, Missed::All] {
        let desk = Desk::at(4, 30);
        let _running = start(&desk, 2, HOURLY.missed(missed));
        minutes(120).await;
        assert_eq!(desk.world.effects(), hours([5, 6]), "{missed:?}");
        desk.clock.set(at(2, 30));
        minutes(240).await;
        assert_eq!(desk.world.effects(), hours([5, 6]), "{missed:?}: 06:30 for the second time");
        minutes(60).await;
        assert_eq!(desk.world.effects(), hours([5, 6, 7]), "{missed:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_jumps_ahead_skips_to_the_latest_tick() {
    let desk = Desk::at(4, 30);
    let _running = start(&desk, 2, HOURLY);
    minutes(60).await;
    desk.clock.set(at(365 * 24, 30));
    minutes(2).await;
    assert_eq!(desk.world.effects(), hours([5, 365 * 24]));
}

#[tokio::test(start_paused = true)]
async fn a_year_of_missed_ticks_is_made_up_for_and_holds_up_no_other_job() {
    let desk = Desk::at(4, 30);
    let idem = desk.idem();
    let scheduler = idem.scheduler();
    let scheduler = scheduler.job_at::<Report>(HOURLY.missed(Missed::All)).expect("it is right");
    let scheduler = scheduler.job_at::<Minutely>(Schedule::new("* * * * *")).expect("it is right");
    let mut running = JoinSet::new();
    running.spawn(scheduler.run());
    minutes(60).await;
    // The next year's report waits until the other job has had its tick.
    let gate = desk.world.close();
    desk.clock.set(at(365 * 24, 30));
    gate.arrival().await;
    let before = last_minute(&desk);
    minutes(3).await;
    assert!(last_minute(&desk) > before, "the other job was held up at {before}");
    assert_eq!(desk.world.effects(), hours([5]));
    gate.open();
    minutes(1).await;
    assert_eq!(desk.world.effects(), hours(5..=365 * 24));
}

#[tokio::test(start_paused = true)]
async fn a_slow_job_holds_up_no_other_and_never_overlaps_itself() {
    let desk = Desk::at(4, 30);
    let scheduler = desk.idem().scheduler();
    let scheduler = scheduler.job_at::<Report>(HOURLY).expect("it is right");
    let scheduler = scheduler.job_at::<Minutely>(Schedule::new("* * * * *")).expect("it is right");
    let mut running = JoinSet::new();
    running.spawn(scheduler.run());
    let gate = desk.world.close();
    minutes(3 * 60 + 14).await;
    let before = last_minute(&desk);
    minutes(3).await;
    assert!(last_minute(&desk) > before, "the other job was held up at {before}");
    assert_eq!(desk.world.attempts(at(5, 0)).len(), 1);
    assert!(desk.world.attempts(at(6, 0)).is_empty() && desk.world.attempts(at(7, 0)).is_empty());
    gate.open();
    minutes(1).await;
    assert_eq!(desk.world.effects(), hours([5, 7]));
}

#[tokio::test(start_paused = true)]
async fn every_day_in_berlin_has_one_tick_also_when_the_clocks_change() {
    // 02:30 does not exist on the 29th of March, and comes twice on the 25th of October.
    for (noon, ticks) in [
        (1_774_612_800, ["2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]),
        (1_792_756_800, ["2026-10-24T00:30:00Z", "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]),
    ] {
        let desk = Desk { clock: Clock::at(Tick::from_unix(noon)), ..Desk::at(0, 0) };
        let nightly = Schedule::new("30 2 * * *").time_zone("Europe/Berlin");
        let _running = start(&desk, 3, nightly);
        minutes(3 * 24 * 60).await;
        let effects: Vec<String> = desk.world.effects().iter().map(Tick::to_string).collect();
        assert_eq!(effects, ticks);
    }
}

#[tokio::test(start_paused = true)]
async fn a_signal_ends_it_when_what_runs_has_ended() {
    let desk = Desk::at(3, 59);
    let gate = desk.world.close();
    let scheduler = desk.idem().scheduler().job_at::<Report>(HOURLY).expect("it is right");
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let running = tokio::spawn(scheduler.run_until(stopped));
    gate.arrival().await;
    stop.send("stop").expect("it is heard");
    minutes(300).await;
    assert!(!running.is_finished(), "a run was left behind");
    gate.open();
    assert_eq!(running.await.expect("it does not panic"), Ok("stop"));
    assert_eq!(desk.world.effects(), hours([4]));
    assert_eq!(desk.last_tick::<Report>().await, Some(at(4, 0)));
}

#[tokio::test(start_paused = true)]
async fn a_scheduler_that_is_dropped_ends_its_runs() {
    let desk = Desk::at(3, 59);
    let gate = desk.world.close();
    let mut running = start(&desk, 1, HOURLY);
    gate.arrival().await;
    running.shutdown().await;
    gate.open();
    minutes(300).await;
    assert_eq!(desk.world.effects(), []);
    assert_eq!(desk.last_tick::<Report>().await, Some(at(3, 0)));
    // The key is free.
    let done = desk.idem().run(Report::at(at(4, 0))).await;
    assert!(done.expect("nothing is in the way").is_executed());
}

#[test]
fn a_job_is_scheduled_once_and_by_something() {
    let scheduler = || Desk::at(0, 0).idem().scheduler();
    let missing = scheduler().job::<Report>().expect_err("there is no schedule");
    assert_eq!(missing, ScheduleError::Missing { job: "report" });
    assert!(missing.to_string().contains("write `schedule = "), "{missing}");
    let twice = scheduler().job_at::<Report>(HOURLY).expect("it is right").job_at::<Report>(HOURLY);
    assert_eq!(twice.expect_err("it is there already"), ScheduleError::Twice { job: "report" });
    let zone = scheduler().job_at::<Report>(HOURLY.time_zone("Berlin")).expect_err("there is no such zone");
    assert_eq!(zone, ScheduleError::TimeZone { job: "report", time_zone: "Berlin" });
    let cron = scheduler().job_at::<Report>(Schedule::new("0 25 * * *")).expect_err("there is no such hour");
    assert!(matches!(cron, ScheduleError::Cron { job: "report", cron: "0 25 * * *", .. }));
}

fn last_minute(desk: &Desk) -> String {
    desk.store.effects().get("minutes").cloned().expect("the other job has run")
}

/// Writes down its last tick.
#[idempotent(key = tick)]
async fn minutely(tx: &mut Tx<'_, Memory>, tick: Tick, #[state] _world: &World) -> Result<(), Infallible> {
    tx.set("minutes", tick.to_string());
    Ok(())
}

impl Scheduled for Minutely {
    fn at(tick: Tick) -> Self {
        Minutely { tick }
    }
}
