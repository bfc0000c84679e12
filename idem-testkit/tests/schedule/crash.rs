//! A process that dies.

use std::sync::PoisonError;

use idem_runtime::job::Schedule;
use tokio::task::JoinSet;

use crate::world::{Desk, Gate, Report, at, hours, minutes};

#[tokio::test(start_paused = true)]
async fn a_tick_whose_process_died_before_it_was_noted_is_replayed() {
    let desk = Desk::at(3, 59);
    desk.begin::<Report>(at(3, 0)).await;
    let gate = std::sync::Arc::new(Gate::default());
    let set = |to| *desk.clock.advance.lock().unwrap_or_else(PoisonError::into_inner) = to;
    let start = || {
        let scheduler = desk.idem().scheduler().job_at::<Report>(Schedule::new("0 * * * *"));
        let mut running = JoinSet::new();
        running.spawn(scheduler.expect("the schedule is right").run());
        running
    };
    set(Some(std::sync::Arc::clone(&gate)));
    let mut dies = start();
    gate.arrival().await;
    assert_eq!(desk.world.effects(), hours([4]));
    dies.shutdown().await;
    assert_eq!(desk.last_tick::<Report>().await, Some(at(3, 0)), "it was noted after all");

    set(None);
    let _running = start();
    minutes(1).await;
    assert_eq!(desk.last_tick::<Report>().await, Some(at(4, 0)));
    assert_eq!(desk.world.effects(), hours([4]), "the tick was run again");
    minutes(60).await;
    assert_eq!(desk.world.effects(), hours([4, 5]));
}
