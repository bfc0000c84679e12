//! A payment is charged once and marked paid, whatever happens on the way.
//!
//! The gateway is a process of its own; charges are counted in its books, and what is paid is read
//! on a connection of its own.

mod common;
#[path = "common/urls.rs"]
mod urls;

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use idem_examples::provider::{Fault, Gateway, ProviderError, ProviderProcess};
use idem_runtime::Error;
use idem_testkit::lab::{Lab, LabDatabase as _};
use tokio::sync::Barrier;

use common::provider;

const PAYMENT: i64 = 42;
const AMOUNT_CENTS: i64 = 4_200;

/// How many runs there are at once.
const RUNS: usize = 16;

/// How long a run waits for another one that has its key.
const ON_BUSY: Duration = Duration::from_secs(10);

macro_rules! payments_on {
    ($db:ident, $url:path, $pool:path, $waiting:path) => {
        mod $db {
            use idem_examples::$db::Db;
            use idem_examples::$db::demos::payment::set_up;
            use idem_examples::$db::jobs::payment::{PaymentError, add_payment, process_payment, reference};
            use idem_runtime::Idem;
            use sqlx::Executor as _;

            use super::*;

            /// A database with one payment that is due, and a gateway.
            struct World {
                lab: Lab<Db>,
                url: String,
                process: ProviderProcess,
            }

            impl World {
                async fn new() -> Option<World> {
                    let lab = Db::lab().await?;
                    let process = provider();
                    let url = $url(&lab);
                    let (_idem, pool) = set_up(&url, &process.client()).await.unwrap();
                    add_payment(&pool, PAYMENT, AMOUNT_CENTS).await.unwrap();
                    Some(World { lab, url, process })
                }

                fn gateway(&self) -> Gateway {
                    self.process.client()
                }

                /// A handle with connections of its own, as in another process.
                fn worker(&self) -> Idem<Db, Gateway> {
                    let builder = Idem::builder($pool(&self.lab)).namespace("examples");
                    builder.state(self.gateway()).build().unwrap()
                }

                async fn sql(&self, sql: &'static str) {
                    self.lab.connect().await.execute(sql).await.unwrap();
                }

                /// The charge that the business row names.
                async fn paid_with(&self) -> Option<String> {
                    let mut connection = self.lab.connect().await;
                    sqlx::query_scalar("SELECT charge_id FROM payments WHERE id = $1")
                        .bind(PAYMENT)
                        .fetch_one(&mut connection)
                        .await
                        .unwrap()
                }

                async fn requests(&self) -> u64 {
                    self.gateway().books().await.unwrap().requests
                }

                /// Checks that the gateway charged once, and that the row names that charge.
                async fn check_charged_once(&self) -> String {
                    let books = self.gateway().books().await.unwrap();
                    let [charge] = books.of(&reference(PAYMENT))[..] else {
                        panic!("not charged once: {books:?}");
                    };
                    assert_eq!(charge.what.amount_cents, AMOUNT_CENTS);
                    assert_eq!(self.paid_with().await.as_ref(), Some(&charge.id));
                    charge.id.clone()
                }

                async fn check_still_open(&self) {
                    assert_eq!(self.paid_with().await, None);
                }
            }

            #[tokio::test]
            async fn a_payment_that_runs_again_is_charged_once() {
                let Some(world) = World::new().await else { return };
                let first = process_payment(&world.worker(), PAYMENT).await.unwrap();
                assert!(first.is_executed());
                for _ in 0..5 {
                    let again = process_payment(&world.worker(), PAYMENT).await.unwrap();
                    assert!(again.is_replayed());
                    assert_eq!(*again, *first);
                }
                assert_eq!(world.check_charged_once().await, first.charge_id);
                assert_eq!(world.requests().await, 1);
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn runs_at_once_charge_once() {
                let Some(world) = World::new().await else { return };
                // The first run stands in the middle of its transaction when the others start.
                world.gateway().inject(&reference(PAYMENT), Fault::HoldAnswer).await.unwrap();
                let worker = world.worker();
                let first = tokio::spawn(async move { process_payment(&worker, PAYMENT).await });
                world.gateway().watch(&reference(PAYMENT)).await.unwrap();

                let start = Arc::new(Barrier::new(RUNS));
                let mut runs = vec![first];
                for _ in 1..RUNS {
                    let (worker, start) = (world.worker(), Arc::clone(&start));
                    runs.push(tokio::spawn(async move {
                        start.wait().await;
                        loop {
                            match process_payment(&worker, PAYMENT).await {
                                // It has waited its time out before the last of them came.
                                Err(Error::Busy(busy)) if busy.waited >= ON_BUSY => {}
                                done => break done,
                            }
                        }
                    }));
                }
                start.wait().await;
                $waiting(&world.lab, RUNS - 1).await;
                world.gateway().release().await.unwrap();

                let mut executed = 0;
                let mut answers = Vec::new();
                for run in runs {
                    let done = run.await.unwrap().unwrap();
                    executed += usize::from(done.is_executed());
                    answers.push(done.into_inner().charge_id);
                }
                let charge = world.check_charged_once().await;
                assert_eq!(answers, vec![charge; RUNS]);
                assert_eq!(executed, 1);
                // Not even asked twice: it is not the gateway alone that keeps the second charge out.
                assert_eq!(world.requests().await, 1);
            }

            #[tokio::test]
            async fn a_lost_answer_is_asked_for_again_and_not_charged_again() {
                let Some(world) = World::new().await else { return };
                world.gateway().inject(&reference(PAYMENT), Fault::LoseAnswer).await.unwrap();
                let lost = process_payment(&world.worker(), PAYMENT).await;
                assert!(
                    matches!(lost, Err(Error::Job(PaymentError::Gateway(ProviderError::NoAnswer(_))))),
                    "{lost:?}"
                );
                world.check_still_open().await;

                let again = process_payment(&world.worker(), PAYMENT).await.unwrap();
                assert!(again.is_executed());
                world.check_charged_once().await;
                assert_eq!(world.requests().await, 2);
            }

            #[tokio::test]
            async fn a_gateway_that_fails_leaves_the_payment_open() {
                let Some(world) = World::new().await else { return };
                world.gateway().inject(&reference(PAYMENT), Fault::FailBefore).await.unwrap();
                let failed = process_payment(&world.worker(), PAYMENT).await;
                let Err(Error::Job(PaymentError::Gateway(ProviderError::Refused { status: 500, .. }))) =
                    failed
                else {
                    panic!("{failed:?}");
                };
                world.check_still_open().await;
                assert_eq!(world.gateway().books().await.unwrap().entries, []);

                process_payment(&world.worker(), PAYMENT).await.unwrap();
                world.check_charged_once().await;
            }

            #[tokio::test]
            async fn a_run_that_fails_after_its_charge_is_run_again_without_a_second() {
                let Some(world) = World::new().await else { return };
                // The charge will be `ch_1`, and marking the payment paid with it violates the index.
                world.sql("CREATE UNIQUE INDEX one_payment_a_charge ON payments (charge_id)").await;
                world.sql("INSERT INTO payments (id, amount_cents, charge_id) VALUES (1, 1, 'ch_1')").await;
                let failed = process_payment(&world.worker(), PAYMENT).await;
                assert!(matches!(failed, Err(Error::Job(PaymentError::Database(_)))), "{failed:?}");
                world.check_still_open().await;

                world.sql("DELETE FROM payments WHERE id = 1").await;
                let again = process_payment(&world.worker(), PAYMENT).await.unwrap();
                assert!(again.is_executed());
                assert_eq!(world.check_charged_once().await, "ch_1");
            }

            #[tokio::test]
            async fn a_charge_under_another_key_is_adopted() {
                let Some(world) = World::new().await else { return };
                let by_hand =
                    world.gateway().charge("by-hand", &reference(PAYMENT), AMOUNT_CENTS).await.unwrap();
                let adopted = process_payment(&world.worker(), PAYMENT).await.unwrap();
                assert!(adopted.is_adopted());
                assert_eq!(adopted.charge_id, by_hand.id);
                assert_eq!(world.check_charged_once().await, by_hand.id);

                let again = process_payment(&world.worker(), PAYMENT).await.unwrap();
                assert!(again.is_replayed());
                assert_eq!(again.charge_id, by_hand.id);
            }

            #[tokio::test]
            async fn a_payment_that_was_paid_elsewhere_is_not_charged() {
                let Some(world) = World::new().await else { return };
                world.sql("UPDATE payments SET charge_id = 'transfer' WHERE id = 42").await;
                let adopted = process_payment(&world.worker(), PAYMENT).await.unwrap();
                assert!(adopted.is_adopted());
                assert_eq!(adopted.charge_id, "transfer");
                assert_eq!(world.paid_with().await.as_deref(), Some("transfer"));
                assert_eq!(world.requests().await, 0);
            }

            #[tokio::test]
            async fn a_payment_that_does_not_exist_is_not_charged() {
                let Some(world) = World::new().await else { return };
                let missing = process_payment(&world.worker(), PAYMENT + 1).await;
                assert!(matches!(missing, Err(Error::RowNotFound(_))), "{missing:?}");
                assert_eq!(world.requests().await, 0);
            }

            #[tokio::test]
            async fn a_worker_starts_while_another_one_is_at_work() {
                let Some(world) = World::new().await else { return };
                let gateway = world.gateway();
                gateway.inject(&reference(PAYMENT), Fault::HoldAnswer).await.unwrap();
                let worker = world.worker();
                let first = tokio::spawn(async move { process_payment(&worker, PAYMENT).await });
                gateway.watch(&reference(PAYMENT)).await.unwrap();

                set_up(&world.url, &gateway).await.unwrap();

                gateway.release().await.unwrap();
                assert!(first.await.unwrap().unwrap().is_executed());
                world.check_charged_once().await;
            }

            #[tokio::test]
            async fn a_worker_killed_between_charge_and_commit_leaves_one_charge() {
                let Some(world) = World::new().await else { return };
                let gateway = world.gateway();
                gateway.inject(&reference(PAYMENT), Fault::HoldAnswer).await.unwrap();
                let mut worker = Command::new(env!("CARGO_BIN_EXE_payment"));
                worker.args(["--database-url", &world.url, "--provider", &gateway.address().to_string()]);
                worker.arg(PAYMENT.to_string());
                let mut victim = worker.stdout(Stdio::null()).spawn().unwrap();
                // The money is taken, and the worker waits for the answer.
                let charge = gateway.watch(&reference(PAYMENT)).await.unwrap();
                assert_eq!(victim.try_wait().unwrap(), None, "the worker has ended by itself");
                victim.kill().unwrap(); // SIGKILL
                victim.wait().unwrap();
                world.check_still_open().await;

                // The gateway is still at it, so that a second worker is told to come again.
                let early = process_payment(&world.worker(), PAYMENT).await;
                let Err(Error::Job(PaymentError::Gateway(ProviderError::Refused { status: 409, error }))) =
                    early
                else {
                    panic!("{early:?}");
                };
                assert_eq!(error, "key_in_use");
                world.check_still_open().await;
                gateway.release().await.unwrap();

                let output = worker.stdout(Stdio::piped()).output().unwrap();
                assert!(output.status.success(), "{output:?}");
                let said = String::from_utf8(output.stdout).unwrap();
                assert_eq!(said, format!("payment {PAYMENT} executed: {}\n", charge.id));
                assert_eq!(world.check_charged_once().await, charge.id);
                assert_eq!(world.requests().await, 3);
            }
        }
    };
}

payments_on!(sqlite, urls::sqlite, sqlite_pool, sqlite_waits);
payments_on!(postgres, urls::postgres, postgres_pool, postgres_waits);

fn sqlite_pool(lab: &Lab<sqlx::Sqlite>) -> sqlx::SqlitePool {
    lab.pool(2)
}

/// A pool whose connections can be told from those of other tests.
fn postgres_pool(lab: &Lab<sqlx::Postgres>) -> sqlx::PgPool {
    let options = lab.options();
    let name = options.get_options().unwrap().to_owned();
    sqlx::PgPool::connect_lazy_with(options.application_name(&name))
}

/// SQLite does not tell who waits for its one writer.
async fn sqlite_waits(_: &Lab<sqlx::Sqlite>, _: usize) {}

/// Waits until so many runs stand at a lock.
async fn postgres_waits(lab: &Lab<sqlx::Postgres>, runs: usize) {
    let name = lab.options().get_options().unwrap().to_owned();
    let mut connection = lab.connect().await;
    let runs = i64::try_from(runs).unwrap();
    let all_wait = async {
        let mut waiting = 0_i64;
        while waiting < runs {
            waiting = sqlx::query_scalar(
                "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1 AND wait_event_type = 'Lock'",
            )
            .bind(&name)
            .fetch_one(&mut connection)
            .await
            .unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(20), all_wait).await.expect("every other run waits for a lock");
}

#[tokio::test]
async fn the_gateway_treats_keys_as_the_big_ones_do() {
    let process = provider();
    let gateway: Gateway = process.client();
    let first = gateway.charge("k1", "r1", 100).await.unwrap();
    assert_eq!(gateway.charge("k1", "r1", 100).await.unwrap(), first);

    let refused = gateway.charge("k1", "r1", 200).await.unwrap_err();
    assert!(
        matches!(&refused, ProviderError::Refused { status: 422, error } if error == "key_reused"),
        "{refused:?}"
    );

    let duplicate = gateway.charge("k2", "r1", 100).await.unwrap_err();
    let ProviderError::Already { id } = &duplicate else { panic!("{duplicate:?}") };
    assert_eq!(*id, first.id);

    gateway.inject("r2", Fault::HoldAnswer).await.unwrap();
    let held = tokio::spawn({
        let gateway = gateway.clone();
        async move { gateway.charge("k3", "r2", 100).await }
    });
    let charge = gateway.watch("r2").await.unwrap();
    let in_use = gateway.charge("k3", "r2", 100).await.unwrap_err();
    assert!(
        matches!(&in_use, ProviderError::Refused { status: 409, error } if error == "key_in_use"),
        "{in_use:?}"
    );
    gateway.release().await.unwrap();
    assert_eq!(held.await.unwrap().unwrap(), charge);

    let books = gateway.books().await.unwrap();
    assert_eq!(books.entries, [first, charge]);
}

#[test]
fn the_program_shows_one_charge_for_each_payment() {
    let output = Command::new(env!("CARGO_BIN_EXE_payment")).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(said.matches(": 1 charge(s) there, `ch_").count(), 3, "{said}");
    assert_eq!(said.matches(": 0 charge(s) there, `transfer` here").count(), 1, "{said}");
}
