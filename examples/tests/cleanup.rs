//! Old sessions are deleted once a tick, whoever starts it; idem's own tables are cleaned up the same way.

#[path = "common/urls.rs"]
mod urls;

use std::process::Command;
use std::sync::Arc;

use idem_runtime::cleanup::Cleanup;
use idem_runtime::schedule::{Scheduled as _, Tick};
use idem_testkit::lab::{Lab, LabDatabase as _};
use tokio::sync::Barrier;

/// How many processes there are.
const PROCESSES: usize = 8;

/// Some hour.
const HOUR: i64 = 1_795_575_600;

macro_rules! cleans_up_on {
    ($db:ident) => {
        mod $db {
            use idem_examples::$db::Db;
            use idem_examples::$db::jobs::cleanup::{ExpireSessions, LIFE, expire_sessions, scheduler, set_up};
            use idem_runtime::{Done, Idem};

            use super::*;

            struct World {
                lab: Lab<Db>,
            }

            impl World {
                async fn new() -> Option<World> {
                    let world = World { lab: Db::lab().await? };
                    world.process().migrate().await.unwrap();
                    set_up(&mut *world.lab.pool(1).acquire().await.unwrap()).await.unwrap();
                    Some(world)
                }

                /// A handle with connections of its own, as in another process.
                fn process(&self) -> Idem<Db> {
                    Idem::builder(self.lab.pool(2)).namespace("test").build().unwrap()
                }

                async fn begin(&self, id: &str, at: i64) {
                    let insert = sqlx::query("INSERT INTO sessions (id, begun) VALUES ($1, $2)");
                    insert.bind(id).bind(at).execute(&self.lab.pool(1)).await.unwrap();
                }

                async fn sessions(&self) -> Vec<String> {
                    let ids = sqlx::query_scalar("SELECT id FROM sessions ORDER BY id");
                    ids.fetch_all(&self.lab.pool(1)).await.unwrap()
                }

                /// The runs of a tick, counted on a connection of its own.
                async fn runs(&self, tick: Tick) -> i64 {
                    let count = sqlx::query_scalar("SELECT count(*) FROM expirations WHERE tick = $1");
                    count.bind(tick.unix()).fetch_one(&self.lab.pool(1)).await.unwrap()
                }
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn of_processes_at_once_one_deletes_old_sessions() {
                let Some(world) = World::new().await else { return };
                let tick = Tick::from_unix(HOUR);
                world.begin("old", HOUR - LIFE - 1).await;
                world.begin("young", HOUR - LIFE).await;
                let barrier = Arc::new(Barrier::new(PROCESSES));
                let runs: Vec<_> = (0..PROCESSES)
                    .map(|_| {
                        let (idem, barrier) = (world.process(), Arc::clone(&barrier));
                        tokio::spawn(async move {
                            barrier.wait().await;
                            idem.run(ExpireSessions::at(tick)).await.unwrap()
                        })
                    })
                    .collect();
                let mut executed = 0;
                for run in runs {
                    let done = run.await.unwrap();
                    assert_eq!(done.sessions, 1, "{done:?}");
                    executed += usize::from(done.is_executed());
                }
                assert_eq!(executed, 1);
                assert_eq!(world.runs(tick).await, 1);
                assert_eq!(world.sessions().await, ["young"]);
            }

            #[tokio::test]
            async fn a_run_that_comes_late_deletes_what_was_old_at_its_tick() {
                let Some(world) = World::new().await else { return };
                let idem = world.process();
                world.begin("old at the second tick", HOUR - LIFE + 60).await;
                let first = expire_sessions(&idem, Tick::from_unix(HOUR)).await.unwrap();
                assert_eq!(first.sessions, 0, "{first:?}");
                let second = expire_sessions(&idem, Tick::from_unix(HOUR + 3_600)).await.unwrap();
                assert!(matches!(&second, Done::Executed(expired) if expired.sessions == 1), "{second:?}");
            }

            #[tokio::test]
            async fn a_scheduler_takes_both_jobs_and_stops_when_it_is_told() {
                let Some(world) = World::new().await else { return };
                let idem = world.process();
                scheduler(&idem).unwrap().run_until(std::future::ready(())).await;
                // A job that is new does not start for the past.
                assert_eq!(world.runs(Tick::from_unix(HOUR)).await, 0);
                assert!(idem.run(Cleanup::at(Tick::from_unix(HOUR))).await.unwrap().is_executed());
                assert!(idem.run(Cleanup::at(Tick::from_unix(HOUR))).await.unwrap().is_replayed());
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn the_program_shows_one_run() {
                let Some(world) = World::new().await else { return };
                let mut program = Command::new(env!("CARGO_BIN_EXE_cleanup"));
                program.args(["--database-url", &urls::$db(&world.lab)]);
                let output = tokio::task::spawn_blocking(move || program.output()).await.unwrap().unwrap();
                let told = String::from_utf8(output.stdout).unwrap();
                let error = String::from_utf8_lossy(&output.stderr);
                assert!(output.status.success(), "{told}\n{error}");
                assert!(told.contains("in the database: 1 run of that tick"), "{told}\n{error}");
                assert_eq!(world.sessions().await.len(), 1);
            }
        }
    };
}

cleans_up_on!(sqlite);
cleans_up_on!(postgres);
