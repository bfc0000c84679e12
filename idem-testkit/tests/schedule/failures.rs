//! What becomes of a tick whose job fails.

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use idem_runtime::Run;
use idem_runtime::job::{Missed, Schedule};
use idem_runtime::prelude::*;
use idem_runtime::record::State;
use idem_runtime::schedule::{Scheduled, Tick};
use tokio::task::JoinSet;

use crate::world::{Answer, Desk, Failure, Report, World, at, hours, minutes};

const HOURLY: Schedule = Schedule::new("0 * * * *");
const NOT_NOW: Answer = Answer::Fail(Failure::NotNow);

fn start<J>(desk: &Desk, schedule: Schedule) -> JoinSet<std::convert::Infallible>
where
    J: Scheduled + idem_runtime::RunOn<Memory, World>,
{
    let mut running = JoinSet::new();
    let scheduler = desk.idem().scheduler().job_at::<J>(schedule).expect("the schedule is right");
    running.spawn(scheduler.run());
    running
}

#[tokio::test(start_paused = true)]
async fn a_tick_that_fails_is_tried_again_after_longer_and_longer_waits() {
    let desk = Desk::at(3, 59);
    desk.world.answer(at(4, 0), &[NOT_NOW; 3]);
    let _running = start::<Report>(&desk, HOURLY);
    minutes(5).await;
    assert_eq!(desk.world.effects(), hours([4]));
    let attempts = desk.world.attempts(at(4, 0));
    let waits: Vec<u64> = attempts.windows(2).map(|two| (two[1] - two[0]).as_secs()).collect();
    assert_eq!(waits, [1, 2, 4]);
    assert_eq!(desk.last_tick::<Report>().await, Some(at(4, 0)));
}

#[tokio::test(start_paused = true)]
async fn the_next_tick_takes_the_place_of_one_that_fails() {
    let desk = Desk::at(3, 59);
    desk.world.answer(at(4, 0), &[NOT_NOW; 1_000]);
    let _running = start::<Report>(&desk, HOURLY);
    minutes(59).await;
    let attempts = desk.world.attempts(at(4, 0)).len();
    assert!((50..70).contains(&attempts), "in an hour the tick was tried {attempts} times");
    assert_eq!(desk.last_tick::<Report>().await, Some(at(3, 0)));
    minutes(3).await;
    assert_eq!(desk.world.effects(), hours([5]));
    let since = desk.world.attempts(at(5, 0))[0] - desk.world.attempts(at(4, 0))[0];
    assert_eq!(since, Duration::from_secs(3_600), "the next tick waited for the last one");
    let attempts = desk.world.attempts(at(4, 0)).len();
    minutes(57).await;
    assert_eq!(desk.world.attempts(at(4, 0)).len(), attempts);
}

#[tokio::test(start_paused = true)]
async fn where_all_ticks_count_one_that_fails_is_waited_for() {
    let desk = Desk::at(3, 59);
    desk.world.answer(at(4, 0), &[NOT_NOW; 150]);
    let _running = start::<Report>(&desk, HOURLY.missed(Missed::All));
    minutes(60).await;
    assert_eq!(desk.world.effects(), []);
    minutes(120).await;
    assert_eq!(desk.world.effects(), hours([4, 5, 6]));
    assert_eq!(desk.world.attempts(at(4, 0)).len(), 151);
}

#[tokio::test(start_paused = true)]
async fn a_final_error_is_the_end_of_a_tick() {
    let desk = Desk::at(3, 59);
    desk.world.answer(at(4, 0), &[NOT_NOW, Answer::Fail(Failure::Never)]);
    let _running = start::<Report>(&desk, HOURLY);
    minutes(30).await;
    assert_eq!(desk.world.attempts(at(4, 0)).len(), 2);
    assert_eq!(desk.last_tick::<Report>().await, Some(at(4, 0)));
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_a_failure_like_others() {
    let desk = Desk::at(3, 59);
    desk.world.answer(at(4, 0), &[Answer::Panic, Answer::Panic]);
    let _running = start::<Report>(&desk, HOURLY);
    minutes(62).await;
    assert_eq!(desk.world.effects(), hours([4, 5]));
    assert_eq!(desk.world.attempts(at(4, 0)).len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_parked_tick_is_the_end_of_it() {
    let desk = Desk::at(3, 59);
    desk.world.answer(at(4, 0), &[NOT_NOW]);
    let _running = start::<SendMail>(&desk, HOURLY);
    minutes(30).await;
    assert_eq!(desk.world.attempts(at(4, 0)).len(), 1, "an effect in doubt was had again");
    assert_eq!(desk.last_tick::<SendMail>().await, Some(at(4, 0)));
    let explained = desk.idem().explain(&SendMail::at(at(4, 0))).await.expect("it can be read");
    assert_eq!(explained.expect("it is recorded").state, State::Parked);
    minutes(60).await;
    assert_eq!(desk.world.effects(), hours([5]));
}

#[tokio::test(start_paused = true)]
async fn a_tick_that_ran_with_other_arguments_is_the_end_of_it() {
    let desk = Desk::at(3, 59);
    desk.idem().run(Flavoured { tick: at(4, 0), flavour: 1 }).await.expect("it runs");
    FLAVOUR.store(2, Ordering::Relaxed);
    let _running = start::<Flavoured>(&desk, HOURLY);
    minutes(30).await;
    assert_eq!(desk.world.effects(), hours([4]));
    assert_eq!(desk.last_tick::<Flavoured>().await, Some(at(4, 0)));
    minutes(60).await;
    assert_eq!(desk.world.effects(), hours([4, 5]));
}

/// A call to somebody who takes no key.
#[idempotent(key = tick, in_doubt = park)]
async fn send_mail(run: &mut Run<'_, Memory>, tick: Tick, #[state] world: &World) -> Result<(), Failure> {
    run.step("send", async |_| world.act(tick).await).await
}

impl Scheduled for SendMail {
    fn at(tick: Tick) -> Self {
        SendMail { tick }
    }
}

/// What the next code makes of a tick.
static FLAVOUR: AtomicU8 = AtomicU8::new(0);

#[idempotent(key = tick)]
async fn flavoured(
    tx: &mut Tx<'_, Memory>,
    tick: Tick,
    flavour: u8,
    #[state] world: &World,
) -> Result<(), Failure> {
    tx.set("flavour", flavour.to_string());
    world.act(tick).await
}

impl Scheduled for Flavoured {
    fn at(tick: Tick) -> Self {
        Flavoured { tick, flavour: FLAVOUR.load(Ordering::Relaxed) }
    }
}
