//! A user has one active subscription and one welcome mail, whoever asks and how often.
//!
//! Rows are counted on a connection of its own.

use std::io::Write;
use std::process::Command;
use std::sync::{Arc, Mutex};

use idem_runtime::Error;
use idem_testkit::lab::{Lab, LabDatabase as _};
use tokio::sync::Barrier;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::util::SubscriberInitExt as _;

const USER: i64 = 7;

/// How many runs there are at once.
const RUNS: usize = 16;

macro_rules! subscriptions_on {
    ($db:ident) => {
        mod $db {
            use idem_examples::$db::Db;
            use idem_examples::$db::jobs::subscription::{
                Subscription, SubscriptionError, cancel, create_tables, subscribe,
            };
            use idem_runtime::{Done, Idem};
            use sqlx::Executor as _;

            use super::*;

            struct World {
                lab: Lab<Db>,
            }

            impl World {
                async fn new() -> Option<World> {
                    let world = World { lab: Db::lab().await? };
                    world.worker().migrate().await.unwrap();
                    create_tables(&world.lab.pool(1)).await.unwrap();
                    Some(world)
                }

                /// A handle with connections of its own, as in another process.
                fn worker(&self) -> Idem<Db> {
                    Idem::builder(self.lab.pool(2)).namespace("test").build().unwrap()
                }

                /// Active subscriptions, subscriptions and welcome mails.
                async fn count(&self) -> (i64, i64, i64) {
                    let sql = "SELECT (SELECT count(*) FROM subscriptions WHERE active), \
                               (SELECT count(*) FROM subscriptions), (SELECT count(*) FROM welcome_mails)";
                    sqlx::query_as(sql).fetch_one(&mut self.lab.connect().await).await.unwrap()
                }
            }

            async fn request(
                worker: &Idem<Db>,
                request: &str,
                plan: &str,
            ) -> Result<Done<Subscription>, Error<SubscriptionError>> {
                subscribe(worker, request.to_owned(), USER, plan.to_owned()).await
            }

            #[tokio::test]
            async fn a_request_that_is_repeated_subscribes_once() {
                let Some(world) = World::new().await else { return };
                let first = request(&world.worker(), "phone", "basic").await.unwrap();
                assert!(first.is_executed());
                for _ in 0..5 {
                    let again = request(&world.worker(), "phone", "basic").await.unwrap();
                    assert!(again.is_replayed());
                    assert_eq!(*again, *first);
                }
                assert_eq!(world.count().await, (1, 1, 1));
            }

            #[tokio::test]
            async fn a_second_request_adopts_the_subscription_that_is_there() {
                let Some(world) = World::new().await else { return };
                let first = request(&world.worker(), "phone", "basic").await.unwrap();

                let log = Log::default();
                let logging = log.listen();
                let second = request(&world.worker(), "laptop", "pro").await.unwrap();
                drop(logging);
                assert!(second.is_adopted());
                assert_eq!(*second, *first);
                // The body wrote a mail before it met the constraint; that is undone.
                assert_eq!(world.count().await, (1, 1, 1));
                let adopted = log.lines_with("adopted");
                assert_eq!(adopted.len(), 1, "{adopted:?}");
                for part in [" INFO ", "job=\"subscribe\"", "key=\"laptop\""] {
                    assert!(adopted[0].contains(part), "{adopted:?}");
                }

                let again = request(&world.worker(), "laptop", "pro").await.unwrap();
                assert!(again.is_replayed());
                assert_eq!(*again, *first);
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn requests_at_once_subscribe_once_and_none_fails() {
                let Some(world) = World::new().await else { return };
                let start = Arc::new(Barrier::new(RUNS));
                let runs: Vec<_> = (0..RUNS)
                    .map(|device| {
                        let (worker, start) = (world.worker(), Arc::clone(&start));
                        tokio::spawn(async move {
                            start.wait().await;
                            request(&worker, &format!("device-{device}"), "basic").await
                        })
                    })
                    .collect();
                let mut answers = Vec::new();
                for run in runs {
                    answers.push(run.await.unwrap().unwrap());
                }
                assert_eq!(world.count().await, (1, 1, 1));
                assert_eq!(answers.iter().filter(|done| done.is_executed()).count(), 1);
                assert_eq!(answers.iter().filter(|done| done.is_adopted()).count(), RUNS - 1);
                assert!(answers.iter().all(|done| **done == *answers[0]), "{answers:?}");
            }

            #[tokio::test]
            async fn after_a_cancellation_a_request_subscribes_again() {
                let Some(world) = World::new().await else { return };
                request(&world.worker(), "phone", "basic").await.unwrap();
                cancel(&world.lab.pool(1), USER).await.unwrap();
                let next = request(&world.worker(), "laptop", "pro").await.unwrap();
                assert!(next.is_executed());
                assert_eq!(next.plan, "pro");
                assert_eq!(world.count().await, (1, 2, 2));
            }

            #[tokio::test]
            async fn a_violation_of_another_constraint_is_an_error() {
                let Some(world) = World::new().await else { return };
                request(&world.worker(), "phone", "basic").await.unwrap();
                cancel(&world.lab.pool(1), USER).await.unwrap();
                // Without its record the request runs again, and `request_id` is unique.
                world.lab.connect().await.execute("DELETE FROM idem_records").await.unwrap();
                let failed = request(&world.worker(), "phone", "basic").await;
                let Err(Error::Job(SubscriptionError::Database(sqlx::Error::Database(error)))) = failed else {
                    panic!("{failed:?}");
                };
                assert!(error.is_unique_violation() && error.message().contains("request_id"), "{error:?}");
                assert_eq!(world.count().await, (0, 1, 1));
            }
        }
    };
}

subscriptions_on!(sqlite);
subscriptions_on!(postgres);

/// What was logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Collects what this thread logs, at `info` and above.
    fn listen(&self) -> impl Drop {
        // While one subscriber is all there is, tracing asks the thread that comes to a line first whether anybody wants it,
        // and remembers the answer for all threads; so another one is there, which wants nothing.
        let _ = tracing_subscriber::fmt().with_max_level(LevelFilter::OFF).try_init();
        let log = self.clone();
        tracing_subscriber::fmt().with_writer(move || log.clone()).with_ansi(false).set_default()
    }

    fn lines_with(&self, text: &str) -> Vec<String> {
        let log = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        log.lines().filter(|line| line.contains(text)).map(str::to_owned).collect()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn the_program_shows_one_subscription() {
    let output = Command::new(env!("CARGO_BIN_EXE_subscription")).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("adopted: subscription 1, plan basic"), "{said}");
    assert!(said.contains("`subscriptions`: 1\n") && said.contains("`welcome_mails`: 1\n"), "{said}");
}
