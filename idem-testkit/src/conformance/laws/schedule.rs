//! The clock of a store, and the last ticks of its jobs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use idem_runtime::record::JobId;
use idem_runtime::schedule::Tick;
use idem_runtime::store::Database;
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use super::{Outcome, law};
use crate::conformance::suite::Law;
use crate::conformance::trial::{Trial, ensure, ensure_eq};

pub(super) fn laws<D: Database>() -> Vec<Law<D>> {
    vec![
        law!(
            the_clock_counts_from_1970,
            "The clock says how long ago 1970 began, and both handles read the same one."
        ),
        law!(the_clock_goes_on, "The clock of a store goes on by itself, in steps of less than a second."),
        law!(
            a_tick_advances_only_from_where_it_was,
            "The last tick of a job is replaced only from what it is, whichever way; nobody else's changes."
        ),
        law!(
            of_advances_at_once_one_succeeds,
            "Of many schedulers that advance one tick at once exactly one is told that it did."
        ),
    ]
}

async fn the_clock_counts_from_1970<D: Database>(trial: Trial<D>) -> Outcome {
    let year = Duration::from_secs(365 * 24 * 60 * 60);
    let (one, two) = (trial.one.now().await?, trial.two.now().await?);
    for now in [one, two] {
        ensure!(now > year * 54 && now < year * 200, "the clock says that 1970 began {now:?} ago");
    }
    ensure!(one.abs_diff(two) < Duration::from_secs(60), "one handle reads {one:?}, the other {two:?}");
    Ok(())
}

async fn the_clock_goes_on<D: Database>(trial: Trial<D>) -> Outcome {
    let mut asked = Instant::now();
    let first = trial.one.now().await?;
    loop {
        let before = std::mem::replace(&mut asked, Instant::now());
        let now = trial.one.now().await?;
        if now > first {
            // It goes on also while whoever asks is held up.
            let most = Duration::from_secs(1) + before.elapsed();
            ensure!(now - first < most, "the clock goes from {first:?} to {now:?} at once");
            return Ok(());
        }
        // A store within the process never waits.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn a_tick_advances_only_from_where_it_was<D: Database>(trial: Trial<D>) -> Outcome {
    let namespace = trial.namespace();
    let job = trial.one.enrol(namespace, "ticks").await?;
    let other = trial.one.enrol(namespace, "other").await?;
    let [first, second, third] = [1_795_575_600, 1_795_579_200, 1_795_582_800].map(Tick::from_unix);
    ensure_eq!(trial.two.last_tick(job).await?, None, "at first the last tick is");
    ensure!(!trial.one.advance_tick(job, Some(first), second).await?, "a tick that never was is replaced");
    ensure!(trial.one.advance_tick(job, None, first).await?, "a first tick is not taken");
    ensure!(!trial.two.advance_tick(job, None, second).await?, "a tick is taken for the first one again");
    ensure!(!trial.two.advance_tick(job, Some(second), third).await?, "another tick is replaced");
    ensure_eq!(trial.two.last_tick(job).await?, Some(first), "the last tick is");
    ensure!(trial.two.advance_tick(job, Some(first), third).await?, "the last tick is not replaced");
    ensure!(trial.one.advance_tick(job, Some(third), second).await?, "the last tick does not go back");
    ensure_eq!(trial.one.last_tick(job).await?, Some(second), "the last tick is");
    ensure_eq!(trial.one.last_tick(other).await?, None, "of another job the last tick is");

    let unknown = JobId(i32::MAX);
    ensure!(!trial.one.advance_tick(unknown, None, first).await?, "a job that is not there has a tick");
    ensure_eq!(trial.one.last_tick(unknown).await?, None, "of a job that is not there the last tick is");
    Ok(())
}

async fn of_advances_at_once_one_succeeds<D: Database>(trial: Trial<D>) -> Outcome {
    let job = trial.one.enrol(trial.namespace(), "ticks").await?;
    let mut from = None;
    for round in 1..=3 {
        let to = Tick::from_unix(round * 60);
        let barrier = Arc::new(Barrier::new(12));
        let mut advances = JoinSet::new();
        for number in 0..12 {
            let store = Arc::clone(if number % 2 == 0 { &trial.one } else { &trial.two });
            let barrier = Arc::clone(&barrier);
            advances.spawn(async move {
                barrier.wait().await;
                store.advance_tick(job, from, to).await
            });
        }
        let mut advanced = 0;
        while let Some(one) = advances.join_next().await {
            advanced += u32::from(one??);
        }
        ensure_eq!(advanced, 1, "the number that advanced is");
        from = Some(to);
    }
    ensure_eq!(trial.two.last_tick(job).await?, from, "the last tick is");
    Ok(())
}
