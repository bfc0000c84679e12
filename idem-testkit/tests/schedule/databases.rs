//! Schedulers of several processes on one database.

/// Starts the same tick in several processes at once, each with a pool of its own, and counts its effects.
macro_rules! one_tick_of_many_processes {
    ($database:ident, $test:ident) => {
        mod $test {
            use std::sync::Arc;
            use std::time::Duration;

            use idem_runtime::job::Schedule;
            use idem_runtime::prelude::*;
            use idem_runtime::record::JobId;
            use idem_runtime::schedule::{Scheduled, Tick};
            use idem_testkit::lab::LabDatabase;
            use tokio::sync::Barrier;
            use tokio::task::JoinSet;

            use crate::world::{Clock, at, with_clock_and_others};

            const PROCESSES: u32 = 4;

            #[idempotent(key = tick, on_busy = wait("20s"))]
            async fn report(tx: &mut Tx<'_, $database>, tick: Tick) -> Result<(), sqlx::Error> {
                // Twice in the table is an error of the second.
                let sql = format!("INSERT INTO reports (tick) VALUES ({})", tick.unix());
                sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut **tx).await.map(|_| ())
            }

            impl Scheduled for Report {
                fn at(tick: Tick) -> Self {
                    Report { tick }
                }
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn one_tick_of_many_processes_is_one_effect() {
                let Some(lab) = <$database as LabDatabase>::lab().await else { return };
                let create = "CREATE TABLE reports (tick BIGINT NOT NULL)";
                sqlx::raw_sql(create).execute(&lab.pool(1)).await.unwrap();
                let clock = Clock::at(at(4, 30));
                let together = Arc::new(Barrier::new(PROCESSES as usize));
                let mut running = JoinSet::new();
                for number in 0..PROCESSES {
                    let idem = Idem::<$database>::builder(lab.pool(4)).build().unwrap();
                    if number == 0 {
                        idem.migrate().await.unwrap();
                        let job: JobId = idem.store().enrol("default", "report").await.unwrap();
                        assert!(idem.store().advance_tick(job, None, at(2, 0)).await.unwrap());
                    }
                    let store = with_clock_and_others(Arc::clone(idem.store()), &clock, &together);
                    let idem = Idem::with_store(store).build().unwrap();
                    let scheduler = idem.scheduler().job_at::<Report>(Schedule::new("0 * * * *")).unwrap();
                    running.spawn(scheduler.run());
                }
                // All have seen that the tick is due before one has run it, so each runs it or finds it done, and notes it.
                let noted = clock.advances.acquire_many(PROCESSES);
                let noted = tokio::time::timeout(Duration::from_secs(60), noted).await;
                drop(noted.expect("some process has not come through the tick").unwrap());
                running.shutdown().await;
                let count: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM reports WHERE tick > 0")
                    .fetch_one(&lab.pool(1))
                    .await
                    .unwrap();
                assert_eq!(count, 1);
                let idem = Idem::<$database>::builder(lab.pool(1)).build().unwrap();
                let job = idem.store().enrol("default", "report").await.unwrap();
                assert_eq!(idem.store().last_tick(job).await.unwrap(), Some(at(4, 0)));
            }
        }
    };
}

#[cfg(feature = "sqlite")]
one_tick_of_many_processes!(Sqlite, sqlite);
#[cfg(feature = "postgres")]
one_tick_of_many_processes!(Postgres, postgres);
#[cfg(feature = "mysql")]
one_tick_of_many_processes!(MySql, mysql);
