//! Dropping a job's future at any await leaves no open transaction, no lock, no lost write, and the
//! next run finishes the work exactly once.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Drops a future after it was polled `left` times and was still not ready.
struct CrashAfter<F> {
    future: Pin<Box<F>>,
    left: usize,
}

impl<F: Future> Future for CrashAfter<F> {
    /// `None` is a crash.
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.future.as_mut().poll(context) {
            Poll::Ready(value) => Poll::Ready(Some(value)),
            Poll::Pending if self.left == 0 => Poll::Ready(None),
            Poll::Pending => {
                self.left -= 1;
                Poll::Pending
            }
        }
    }
}

fn crash_after<F: Future>(future: F, polls: usize) -> CrashAfter<F> {
    CrashAfter { future: Box::pin(future), left: polls }
}

macro_rules! tests {
    () => {
        use std::sync::Arc;
        use std::time::Duration;

        use idem_runtime::{Done, Error, Idem};
        use idem_testkit::lab::LabDatabase;

        use super::crash_after;
        use crate::jobs::World;

        /// Sweeps a job over every poll. `run` starts it, `effects_of_one_run` is what it leaves.
        async fn sweep<T, E: std::fmt::Debug>(
            run: impl AsyncFn(&Idem<Db, State>) -> Result<Done<T>, Error<E>>,
            effects_of_one_run: i64,
        ) {
            let Some(lab) = lab().await else { return };
            // With some network in between no answer is there before it is waited for, so that every
            // round trip is a point to be dropped at.
            let (_proxy, options) = match Db::proxy(&lab.options(), Duration::from_millis(2)).await {
                Some((proxy, options)) => (Some(proxy), options),
                None => (None, lab.options()),
            };
            let (mut polls, mut early) = (0, 0);
            loop {
                let mut admin = lab.connect().await;
                for sql in
                    ["DELETE FROM charges", "DELETE FROM subscriptions", "UPDATE payments SET charge = NULL"]
                {
                    sqlx::query(sql).execute(&mut admin).await.unwrap();
                }
                // A new process each time: its own pool, and nothing known about the job yet.
                let world = Arc::new(World::default());
                let pool =
                    sqlx::pool::PoolOptions::new().max_connections(3).connect_lazy_with(options.clone());
                let idem = idem_on(pool.clone(), &world).await;
                sqlx::query("DELETE FROM idem_records").execute(&mut admin).await.unwrap();
                let ended = crash_after(run(&idem), polls).await.is_some();

                // A write of somebody else through the same pool is durable when it says so.
                let sql = "INSERT INTO charges (payment, note) VALUES (-1, 'unrelated')";
                sqlx::query(sql).execute(&pool).await.unwrap();
                let unrelated = "SELECT count(*) FROM charges WHERE note = 'unrelated'";
                assert_eq!(count(&lab, unrelated).await, 1, "lost after {polls} polls");

                // Another process finishes the work, soon: nothing is locked for good.
                let other = idem_on(lab.pool(2), &Arc::new(World::default())).await;
                let done = tokio::time::timeout(Duration::from_secs(30), run(&other)).await;
                done.unwrap_or_else(|_| panic!("locked after {polls} polls")).unwrap();
                let work = "SELECT count(*) FROM charges WHERE note = 'effect'";
                assert_eq!(count(&lab, work).await, effects_of_one_run, "after {polls} polls");
                // And so does the one that was interrupted.
                assert!(run(&idem).await.unwrap().is_replayed());
                match ended {
                    false => polls += 1,
                    true if polls >= 5 => break,
                    // Without a network an answer may be there before it is waited for; another run has more points.
                    true => early += 1,
                }
                assert!(early < 100, "only {polls} points were reached");
            }
        }

        #[tokio::test]
        async fn a_job_can_be_dropped_at_any_await() {
            sweep(async |idem| charge(idem, 42, 5).await, 1).await;
        }

        #[tokio::test]
        async fn a_job_that_locks_a_row_can_be_dropped_at_any_await() {
            sweep(async |idem| pay(idem, 42).await, 1).await;
        }

        #[tokio::test]
        async fn a_job_with_savepoints_can_be_dropped_at_any_await() {
            sweep(async |idem| nest(idem, 42).await, 1).await;
        }

        #[tokio::test]
        async fn a_replay_can_be_dropped_at_any_await() {
            let Some(lab) = lab().await else { return };
            let first = idem(&lab, &Arc::new(World::default())).await;
            let _ = charge(&first, 42, 5).await.unwrap();
            for polls in 0.. {
                let pool = lab.pool(3);
                let idem = idem_on(pool.clone(), &Arc::new(World::default())).await;
                let ended = crash_after(charge(&idem, 42, 5), polls).await.is_some();
                let sql = "INSERT INTO charges (payment, note) VALUES (-1, 'unrelated')";
                sqlx::query(sql).execute(&pool).await.unwrap();
                let unrelated = "SELECT count(*) FROM charges WHERE note = 'unrelated'";
                assert_eq!(count(&lab, unrelated).await, i64::try_from(polls).unwrap() + 1);
                assert!(charge(&idem, 42, 5).await.unwrap().is_replayed());
                if ended {
                    break;
                }
            }
        }

        /// A run that waits for a key is dropped: it must not keep anybody waiting when its turn comes.
        #[tokio::test]
        async fn a_run_that_waits_can_be_dropped() {
            let Some(lab) = lab().await else { return };
            let world = Arc::new(World::gated());
            let holder = idem(&lab, &world).await;
            let waiting = idem(&lab, &world).await;
            waiting.enrol::<Charge>().await.unwrap();
            let (held, ()) = tokio::join!(charge(&holder, 42, 5), async {
                world.reached().await;
                for millis in [1, 20, 60] {
                    let run = charge(&waiting, 42, 5);
                    let ended = tokio::time::timeout(Duration::from_millis(millis), run).await;
                    assert!(ended.is_err(), "a run went past the lock of another: {ended:?}");
                }
                world.open_gate();
            });
            assert!(held.unwrap().is_executed());
            let third = idem(&lab, &world).await;
            let done = tokio::time::timeout(Duration::from_secs(30), charge(&third, 42, 5)).await;
            assert!(done.expect("nothing is locked").unwrap().is_replayed());
            assert!(charge(&waiting, 43, 5).await.unwrap().is_executed());
            assert_eq!(effects(&lab).await, 2);
        }
    };
}

on_each_database!(tests);

/// Nothing that was dropped stays in a transaction on the server.
#[cfg(feature = "postgres")]
mod sessions {
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use super::crash_after;
    use crate::jobs::World;
    use crate::jobs::postgres::*;

    #[tokio::test]
    async fn a_dropped_run_keeps_no_session_open() {
        let Some(lab) = lab().await else { return };
        let options = lab.options().application_name("idem_dropped_runs");
        let world = Arc::new(World::default());
        for polls in 0.. {
            let pool =
                sqlx::postgres::PgPoolOptions::new().max_connections(3).connect_lazy_with(options.clone());
            let idem = idem_on(pool, &world).await;
            if crash_after(pay(&idem, 42), polls).await.is_some() {
                break;
            }
            let begun = Instant::now();
            let open = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'idem_dropped_runs' \
                        AND xact_start IS NOT NULL";
            let locks = "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid) \
                         WHERE a.application_name = 'idem_dropped_runs' AND l.locktype = 'advisory'";
            while count(&lab, open).await + count(&lab, locks).await > 0 {
                assert!(begun.elapsed() < Duration::from_secs(30), "open after {polls} polls");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }
}
