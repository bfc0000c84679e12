//! One report a day, whoever builds it and however often it fails.
//!
//! Reports are counted on a connection of its own, requests at the printer.

mod common;

use std::convert::Infallible;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use idem_examples::provider::{Fault, Printer, ProviderError, ProviderProcess};
use idem_runtime::schedule::Tick;
use idem_testkit::lab::{Lab, LabDatabase as _};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use common::provider;

/// The day that the reports are about.
const DAY: &str = "2026-03-01";

/// Three in the morning in Berlin, after that day; the ticks before and after it, all in winter.
const TICK: Tick = Tick::from_unix(1_772_416_800);
const BEFORE: Tick = Tick::from_unix(TICK.unix() - 24 * 60 * 60);
const NEXT: Tick = Tick::from_unix(TICK.unix() + 24 * 60 * 60);

/// How many workers there are.
const WORKERS: usize = 16;

/// The lease of the job.
const LEASE: Duration = Duration::from_secs(3);

/// How often a test looks for what is to come, and for how long.
const LOOK: Duration = Duration::from_millis(10);
const LOOK_MAX: Duration = Duration::from_secs(60);

/// Looks until there is what is looked for.
async fn look_for<T>(what: &str, look: impl AsyncFn() -> Option<T>) -> T {
    let looking = async {
        loop {
            match look().await {
                Some(found) => return found,
                None => tokio::time::sleep(LOOK).await,
            }
        }
    };
    tokio::time::timeout(LOOK_MAX, looking).await.unwrap_or_else(|_| panic!("{what} does not come"))
}

macro_rules! reports_on {
    ($db:ident) => {
        mod $db {
            use idem_examples::$db::Db;
            use idem_examples::$db::jobs::daily_report::{
                DailyReport, Report, ReportError, create_tables, daily_report, day_before, scheduler, sell,
            };
            use idem_runtime::record::State;
            use idem_runtime::{Done, Error, Explanation, Idem};

            use super::*;

            /// A shop with two sales on a day.
            struct World {
                lab: Lab<Db>,
                process: ProviderProcess,
            }

            impl World {
                async fn new() -> Option<World> {
                    let world = World { lab: Db::lab().await?, process: provider() };
                    world.worker().migrate().await.unwrap();
                    create_tables(&world.lab.pool(1)).await.unwrap();
                    world.sell(4_200).await;
                    world.sell(800).await;
                    Some(world)
                }

                /// A handle with connections of its own, as in another process.
                fn worker(&self) -> Idem<Db, Printer> {
                    Idem::builder(self.lab.pool(2)).namespace("test").state(self.printer()).build().unwrap()
                }

                fn printer(&self) -> Printer {
                    self.process.client()
                }

                async fn sell(&self, cents: i64) {
                    sell(&self.lab.pool(1), DAY, cents).await.unwrap();
                }

                async fn explain(&self) -> Option<Explanation> {
                    self.worker().explain(&DailyReport { tick: TICK }).await.unwrap()
                }

                async fn state(&self) -> Option<(State, u32)> {
                    self.explain().await.map(|found| (found.state, found.attempts))
                }

                /// Starts a worker that stands in the middle of its work.
                async fn start(&self) -> tokio::task::JoinHandle<Result<Done<Report>, Error<ReportError>>> {
                    self.printer().inject(DAY, Fault::HoldAnswer).await.unwrap();
                    let worker = self.worker();
                    let run = tokio::spawn(async move { build(&worker).await });
                    self.printer().watch(DAY).await.unwrap();
                    run
                }

                async fn last_tick(&self) -> Option<Tick> {
                    let idem = self.worker();
                    let job = idem.store().enrol("test", "daily_report").await.unwrap();
                    idem.store().last_tick(job).await.unwrap()
                }

                /// Says that a tick was the last one that a scheduler was through with, whatever was.
                async fn set_last_tick(&self, tick: Tick) {
                    let idem = self.worker();
                    let job = idem.store().enrol("test", "daily_report").await.unwrap();
                    let store = idem.store();
                    // A scheduler that was just dropped may still have a last word.
                    while !store.advance_tick(job, store.last_tick(job).await.unwrap(), tick).await.unwrap() {
                    }
                }

                /// Starts the schedulers of two processes. They go on until they are dropped.
                fn start_schedulers(&self) -> JoinSet<Infallible> {
                    let mut running = JoinSet::new();
                    for _ in 0..2 {
                        running.spawn(scheduler(&self.worker()).unwrap().run());
                    }
                    running
                }

                async fn execute(&self, sql: &'static str) {
                    sqlx::query(sql).execute(&self.lab.pool(1)).await.unwrap();
                }

                async fn reports_of(&self, day: &str) -> i64 {
                    let count = sqlx::query_scalar("SELECT count(*) FROM reports WHERE day = $1").bind(day);
                    count.fetch_one(&mut self.lab.connect().await).await.unwrap()
                }

                async fn reports(&self) -> i64 {
                    let mut connection = self.lab.connect().await;
                    sqlx::query_scalar("SELECT count(*) FROM reports")
                        .fetch_one(&mut connection)
                        .await
                        .unwrap()
                }
            }

            async fn build(worker: &Idem<Db, Printer>) -> Result<Done<Report>, Error<ReportError>> {
                daily_report(worker, TICK).await
            }

            #[tokio::test]
            async fn a_report_goes_from_pending_over_processing_and_failed_to_completed() {
                let Some(world) = World::new().await else { return };
                assert_eq!(world.state().await, None);

                world.printer().inject(DAY, Fault::FailBefore).await.unwrap();
                let failed = build(&world.worker()).await;
                let Err(Error::Job(ReportError::Printer(ProviderError::Refused { status: 500, .. }))) =
                    failed
                else {
                    panic!("{failed:?}");
                };
                assert_eq!(world.state().await, Some((State::Failed, 1)));
                let listed = world.worker().unfinished(&[State::Failed], 10).await.unwrap();
                let [failed] = &*listed else { panic!("{listed:?}") };
                let key = "2026-03-02T02:00:00Z";
                assert_eq!((&*failed.job, &*failed.key, failed.attempts), ("daily_report", key, 1));
                assert!(failed.error.as_ref().unwrap().starts_with("printing failed: "), "{failed:?}");
                assert_eq!(world.reports().await, 0);

                let run = world.start().await;
                assert_eq!(world.state().await, Some((State::Running, 2)));
                assert!(world.worker().unfinished(&[State::Failed], 10).await.unwrap().is_empty());
                world.printer().release().await.unwrap();
                assert!(run.await.unwrap().unwrap().is_executed());
                assert_eq!(world.state().await, Some((State::Completed, 2)));
                assert!(build(&world.worker()).await.unwrap().is_replayed());
                assert_eq!(world.reports().await, 1);
            }

            #[tokio::test]
            async fn a_report_that_is_built_again_has_the_figures_of_the_first_attempt() {
                let Some(world) = World::new().await else { return };
                world.printer().inject(DAY, Fault::FailBefore).await.unwrap();
                build(&world.worker()).await.unwrap_err();
                world.sell(99_900).await;
                let report = build(&world.worker()).await.unwrap();
                assert_eq!(report.text, "2026-03-01: 2 sales, 5000 cents");
            }

            #[tokio::test]
            async fn of_many_workers_one_builds_and_the_others_leave_it_to_that_one() {
                let Some(world) = World::new().await else { return };
                let first = world.start().await;
                let start = Arc::new(Barrier::new(WORKERS - 1));
                let others: Vec<_> = (1..WORKERS)
                    .map(|_| {
                        let (worker, start) = (world.worker(), Arc::clone(&start));
                        tokio::spawn(async move {
                            start.wait().await;
                            build(&worker).await
                        })
                    })
                    .collect();
                for other in others {
                    let skipped = other.await.unwrap();
                    let Err(Error::Busy(busy)) = skipped else { panic!("{skipped:?}") };
                    assert!(busy.skipped && busy.again_in.is_none(), "{busy:?}");
                }
                world.printer().release().await.unwrap();
                assert!(first.await.unwrap().unwrap().is_executed());
                assert!(build(&world.worker()).await.unwrap().is_replayed());
                assert_eq!(world.reports().await, 1);
                assert_eq!(world.printer().books().await.unwrap().requests, 1);
            }

            #[tokio::test]
            async fn a_report_that_takes_longer_than_its_lease_keeps_its_worker() {
                let Some(world) = World::new().await else { return };
                let run = world.start().await;
                // Time that passes, not a race that is won: without a heartbeat the lease would be over.
                tokio::time::sleep(LEASE * 4 / 3).await;
                assert_eq!(world.state().await, Some((State::Running, 1)));
                assert!(matches!(build(&world.worker()).await, Err(Error::Busy(_))));
                world.printer().release().await.unwrap();
                assert!(run.await.unwrap().unwrap().is_executed());
                assert_eq!(world.state().await, Some((State::Completed, 1)));
                assert_eq!(world.reports().await, 1);
            }

            #[tokio::test]
            async fn a_worker_that_is_gone_leaves_the_report_to_the_next() {
                let Some(world) = World::new().await else { return };
                let run = world.start().await;
                run.abort();
                assert!(run.await.unwrap_err().is_cancelled());
                // It says that it is gone in a task of its own.
                let report = loop {
                    match build(&world.worker()).await {
                        Err(Error::Busy(_)) => tokio::task::yield_now().await,
                        ended => break ended.unwrap(),
                    }
                };
                assert!(report.is_executed());
                assert_eq!(world.state().await, Some((State::Completed, 2)));
                assert_eq!(world.reports().await, 1);
            }

            #[tokio::test]
            async fn each_day_has_its_report() {
                let Some(world) = World::new().await else { return };
                let worker = world.worker();
                let first = build(&worker).await.unwrap();
                let next = daily_report(&worker, NEXT).await.unwrap();
                assert_ne!(first.number, next.number);
                assert_eq!(next.text, "2026-03-02: 0 sales, 0 cents");
                assert_eq!(world.reports().await, 2);
            }

            #[tokio::test]
            async fn two_schedulers_build_one_report_of_a_day() {
                let Some(world) = World::new().await else { return };
                world.set_last_tick(BEFORE).await;
                // The second time it is as if a process had died between its reports and its note that they are there.
                for _ in 0..2 {
                    let mut schedulers = world.start_schedulers();
                    look_for("the next tick", async || (world.last_tick().await >= Some(NEXT)).then_some(()))
                        .await;
                    schedulers.shutdown().await;
                    assert_eq!(world.reports_of(DAY).await, 1);
                    assert_eq!(world.reports_of(&day_before(NEXT)).await, 1);
                    world.set_last_tick(BEFORE).await;
                }
                assert!(build(&world.worker()).await.unwrap().is_replayed());
            }

            #[tokio::test]
            async fn the_clock_tries_a_report_again_that_is_shown_failed_meanwhile() {
                let Some(world) = World::new().await else { return };
                world.set_last_tick(BEFORE).await;
                assert_eq!(world.state().await, None);
                // Nobody can publish, and the printer takes its time.
                world.execute("ALTER TABLE reports RENAME TO mislaid").await;
                world.printer().inject(DAY, Fault::HoldAnswer).await.unwrap();
                let mut schedulers = world.start_schedulers();
                world.printer().watch(DAY).await.unwrap();
                assert_eq!(world.state().await, Some((State::Running, 1)));

                world.printer().release().await.unwrap();
                let failed = look_for("a second attempt that fails", async || {
                    let found = world.explain().await?;
                    (found.state == State::Failed && found.attempts >= 2).then_some(found)
                })
                .await;
                assert!(failed.error.as_ref().is_some_and(|error| error.contains("reports")), "{failed:?}");
                let done: Vec<_> = failed.steps.iter().map(|step| (&*step.name, step.is_done)).collect();
                assert_eq!(done, [("figures", true), ("print", true)]);
                assert_eq!(world.last_tick().await, Some(BEFORE));

                world.execute("ALTER TABLE mislaid RENAME TO reports").await;
                look_for("the report", async || {
                    world.state().await.filter(|(state, _)| *state == State::Completed)
                })
                .await;
                schedulers.shutdown().await;
                assert_eq!(world.reports_of(DAY).await, 1);
                assert_eq!(world.printer().books().await.unwrap().of(DAY).len(), 1);
            }
        }
    };
}

reports_on!(sqlite);
reports_on!(postgres);

#[test]
fn the_program_shows_every_state_and_one_report() {
    let output = Command::new(env!("CARGO_BIN_EXE_daily_report")).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    let shown = [
        "  pending: ",
        "  failed, attempt 1: ",
        "  processing, attempt 2, ",
        "  skipped: ",
        "  executed: report 1, ",
        "  completed, attempt 2\n",
        "  replayed: report 1, ",
        "Of 2026-01-02T02:00:00Z the report is\n  completed, attempt 2\n  reports of 2026-01-01 in the database: 1\n",
        "Of 2026-01-03T02:00:00Z the report is\n  completed, ",
        "  reports of 2026-01-02 in the database: 1\n",
    ];
    let mut rest = said.as_str();
    for part in shown {
        let at = rest.find(part).unwrap_or_else(|| panic!("{part:?} does not come in its turn:\n{said}"));
        rest = &rest[at + part.len()..];
    }
}
