//! The full check on every database, with what differs between them: counted ids, times, locks.

#![cfg(all(feature = "sqlite", feature = "postgres", feature = "mysql"))]

#[allow(
    dead_code,
    unused_imports,
    reason = "the broken stores of the conformance suite, of which one kind is used"
)]
mod faults;
#[path = "common/kept.rs"]
mod kept;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use idem_runtime::StoreError;
use idem_runtime::prelude::*;
use idem_runtime::store::{Begun, Claim, Database};
use idem_testkit::lab::LabDatabase;
use idem_testkit::plan::Plan;
use idem_testkit::report::{Difference, Report};
use idem_testkit::{Lab, Scenario, SetUpError, check_single_effect, examine};
use serde::{Deserialize, Serialize};
use sqlx::AssertSqlSafe;

use self::faults::{BrokenStore, Fault, Good};
use self::kept::clean_up;

macro_rules! orders_on {
    ($module:ident, $db:ident, id: $id:literal, now: $now:literal, later: $later:literal, skipped: $skipped:expr) => {
        mod $module {
            use super::*;

            async fn tables(lab: &Lab<$db>) -> Result<(), SetUpError> {
                let sql = concat!(
                    "CREATE TABLE orders (id ",
                    $id,
                    ", customer BIGINT NOT NULL, at ",
                    $now,
                    ");",
                    "CREATE TABLE customers (id BIGINT PRIMARY KEY, orders BIGINT NOT NULL);",
                    "INSERT INTO customers VALUES (7, 0)"
                );
                sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut lab.connect().await).await?;
                Ok(())
            }

            #[idempotent(key = (customer, number))]
            async fn order(tx: &mut Tx<'_, $db>, customer: i64, number: i64) -> Result<i64, sqlx::Error> {
                let insert = format!("INSERT INTO orders (customer) VALUES ({customer})");
                sqlx::raw_sql(AssertSqlSafe(insert)).execute(&mut **tx).await?;
                let count = format!("UPDATE customers SET orders = orders + 1 WHERE id = {customer}");
                sqlx::raw_sql(AssertSqlSafe(count)).execute(&mut **tx).await?;
                tx.enqueue(Recount { customer });
                Ok(number)
            }

            #[idempotent(key = customer, lock = row(customers.id = customer), retain = none)]
            async fn recount(tx: &mut Tx<'_, $db>, customer: i64) -> Result<(), sqlx::Error> {
                let count = format!("UPDATE customers SET orders = 5 WHERE id = {customer}");
                sqlx::raw_sql(AssertSqlSafe(count)).execute(&mut **tx).await?;
                Ok(())
            }

            /// A charge elsewhere, an order with a counted id here, and another job when both are there.
            #[idempotent(key = (customer, number), in_doubt = rerun)]
            async fn fulfil(
                run: &mut Run<'_, $db>,
                customer: i64,
                number: i64,
                #[state] provider: &Provider,
            ) -> Result<i64, sqlx::Error> {
                run.step("charge", async |key| provider.charge(key).await).await?;
                run.tx_step("order", async |tx| {
                    let insert = format!("INSERT INTO orders (customer) VALUES ({customer})");
                    sqlx::raw_sql(AssertSqlSafe(insert)).execute(&mut **tx).await?;
                    let count = format!("UPDATE customers SET orders = orders + 1 WHERE id = {customer}");
                    sqlx::raw_sql(AssertSqlSafe(count)).execute(&mut **tx).await?;
                    tx.enqueue(Recount { customer });
                    Ok::<_, sqlx::Error>(())
                })
                .await?;
                run.enqueue(Recount { customer }).await;
                Ok(number)
            }

            /// A parcel from somebody who takes no key.
            #[idempotent(key = (customer, number), in_doubt = park)]
            async fn ship(
                run: &mut Run<'_, $db>,
                customer: i64,
                number: i64,
                #[state] provider: &Provider,
            ) -> Result<i64, sqlx::Error> {
                let _ = customer;
                run.step("parcel", async |_| provider.send().await).await?;
                Ok(number)
            }

            /// Charges unless that was done: who stands in between does not see who comes meanwhile.
            #[idempotent(key = customer, lock = none)]
            async fn charge_unseen(
                _: &mut Tx<'_, $db>,
                customer: i64,
                #[state] provider: &Provider,
            ) -> Result<i64, sqlx::Error> {
                if provider.charges() == 0 {
                    provider.send().await?;
                }
                Ok(customer)
            }

            #[tokio::test]
            async fn a_race_behind_a_slow_begin_is_found() {
                if !<$db as LabDatabase>::MANY_WRITERS {
                    return;
                }
                let scenario = Scenario::new(ChargeUnseen { customer: 7 })
                    .state(Provider::default)
                    .observe("charges", Provider::charges)
                    .store(|good| Arc::new(BrokenStore { good, fault: Arc::new(BeginsSlowly) }));
                let report = examine(&scenario, &[Plan::Interleavings]).await.expect("the scenario is sound");
                let Some(report) = report else { return };
                let failure = report.failure.as_ref().expect("both runs charge");
                let effects =
                    Difference::Effects { observer: String::from("charges"), expected: 1, found: 2 };
                assert!(failure.differences.contains(&effects), "{report}");
                println!("{report}");
            }

            /// An hour for the clock is an hour for what it is compared with.
            #[tokio::test]
            async fn what_is_not_kept_stays_gone_when_the_clock_is_set_back() {
                let Some(lab) = $db::lab().await else { return };
                let idem = Idem::builder(lab.pool(4)).build().unwrap();
                idem.migrate().await.unwrap();
                let mut by_hand = lab.connect().await;
                sqlx::raw_sql("CREATE TABLE looks (id BIGINT NOT NULL)").execute(&mut by_hand).await.unwrap();
                assert!(glance(&idem, 1).await.unwrap().is_executed());
                assert!(look(&idem, 1).await.unwrap().is_executed());
                let forgotten = idem.explain(&Look { id: 1 }).await.unwrap().unwrap();
                idem.forget::<Look>(forgotten.hash, forgotten.epoch, "a test").await.unwrap();
                let set_back = concat!("UPDATE idem_records SET expires_at = expires_at + ", $later);
                sqlx::raw_sql(set_back).execute(&mut by_hand).await.unwrap();
                assert!(glance(&idem, 1).await.unwrap().is_executed());
                assert!(look(&idem, 1).await.unwrap().is_executed());
                assert_eq!($db::rows(&mut by_hand, "SELECT id FROM looks").await.unwrap(), 4);
            }

            #[idempotent(key = name)]
            async fn greet(tx: &mut Tx<'_, $db>, name: String) -> Result<(), Refusal> {
                let _ = (tx, name);
                Ok(())
            }

            #[idempotent(key = name, replay(Refusal::Final), adopt(Refusal::Known => ()))]
            async fn book(
                tx: &mut Tx<'_, $db>,
                name: String,
                next: String,
                refuses: Option<Refusal>,
            ) -> Result<(), Refusal> {
                let insert = format!("INSERT INTO bookings VALUES ('{name}')");
                sqlx::raw_sql(AssertSqlSafe(insert)).execute(&mut **tx).await?;
                tx.enqueue(Greet { name: next });
                refuses.map_or(Ok(()), Err)
            }

            #[idempotent(key = name, in_doubt = rerun)]
            async fn book_in_a_step(
                run: &mut Run<'_, $db>,
                name: String,
                #[state] fails: &AtomicBool,
            ) -> Result<(), Refusal> {
                run.tx_step("book", async |tx| {
                    tx.enqueue(Greet { name });
                    Ok::<_, Refusal>(())
                })
                .await?;
                if fails.swap(false, Ordering::SeqCst) { Err(Refusal::Passing) } else { Ok(()) }
            }

            #[tokio::test]
            async fn what_a_transaction_enqueues_stands_and_falls_with_it() {
                let Some(lab) = $db::lab().await else { return };
                let idem = Idem::builder(lab.pool(4)).state(AtomicBool::new(true)).build().unwrap();
                idem.migrate().await.unwrap();
                let mut outside = lab.connect().await;
                let bookings = "CREATE TABLE bookings (name VARCHAR(20) NOT NULL)";
                sqlx::raw_sql(bookings).execute(&mut outside).await.unwrap();
                let book = async |name: &str, next: &str, refuses| {
                    book(&idem, name.to_owned(), next.to_owned(), refuses).await
                };
                let greeted = async || {
                    let mut greeted = Vec::new();
                    let deliver = async |task: &idem_runtime::Task| {
                        greeted.push(task.decode::<Greet>()?.name);
                        Ok::<_, StoreError>(())
                    };
                    idem.relay(deliver).await.unwrap();
                    greeted
                };

                assert!(book("Ada", "Ada's", None).await.unwrap().is_executed());
                assert!(book("Ada", "Ada's", None).await.unwrap().is_replayed());
                assert_eq!(greeted().await, ["Ada's"]);
                let passing = book("Bo", "Bo's", Some(Refusal::Passing)).await;
                assert!(matches!(passing, Err(Error::Job(Refusal::Passing))), "{passing:?}");
                let end = book("Cy", "Cy's", Some(Refusal::Final)).await;
                assert!(matches!(end, Err(Error::Job(Refusal::Final))), "{end:?}");
                assert!(book("Di", "Di's", Some(Refusal::Known)).await.unwrap().is_adopted());
                // A task without a key is none.
                let refused = book("Ed", " ", None).await;
                let Err(Error::Store(refused)) = refused else { panic!("{refused:?}") };
                assert!(refused.to_string().contains("nothing was enqueued"), "{refused}");
                let booked = $db::rows(&mut outside, "SELECT name FROM bookings").await.unwrap();
                assert_eq!((booked, greeted().await), (1, vec![]));

                // A step that is recorded enqueues nothing again.
                for _ in 0..2 {
                    let _ = book_in_a_step(&idem, String::from("Flo")).await;
                }
                assert_eq!(greeted().await, ["Flo"]);
            }

            #[idempotent(key = id, retain = none, in_doubt = rerun)]
            async fn glance(run: &mut Run<'_, $db>, id: i64) -> Result<i64, sqlx::Error> {
                run.tx_step("look", async |tx| note(tx, id).await).await?;
                Ok(id)
            }

            #[idempotent(key = id, in_doubt = rerun)]
            async fn look(run: &mut Run<'_, $db>, id: i64) -> Result<i64, sqlx::Error> {
                run.tx_step("look", async |tx| note(tx, id).await).await?;
                Ok(id)
            }

            async fn note(tx: &mut Tx<'_, $db>, id: i64) -> Result<(), sqlx::Error> {
                let insert = format!("INSERT INTO looks (id) VALUES ({id})");
                sqlx::raw_sql(AssertSqlSafe(insert)).execute(&mut **tx).await.map(drop)
            }

            #[tokio::test]
            async fn a_leased_job_passes_every_plan() {
                let scenario = Scenario::new(Fulfil { customer: 7, number: 1 })
                    .setup(tables)
                    .state(Provider::default)
                    .observe("charges", Provider::charges);
                let Some(report) = check_single_effect(scenario).await else { return };
                check_complete(&report, &[Plan::Rival, Plan::Kill]);
                println!("{report}");
            }

            #[tokio::test]
            async fn a_job_that_parks_passes_every_plan() {
                let scenario = Scenario::new(Ship { customer: 7, number: 1 })
                    .setup(tables)
                    .state(Provider::default)
                    .observe("parcels", Provider::charges);
                let Some(report) = check_single_effect(scenario).await else { return };
                check_complete(&report, &[Plan::Rival, Plan::Outage, Plan::Kill]);
                println!("{report}");
            }

            #[idempotent(key = customer, in_doubt = rerun)]
            async fn order_and_hope(run: &mut Run<'_, $db>, customer: i64) -> Result<i64, sqlx::Error> {
                let insert = format!("INSERT INTO orders (customer) VALUES ({customer})");
                let insert = AssertSqlSafe(insert);
                let ordered = run.tx_step("order", async |tx| {
                    sqlx::raw_sql(insert).execute(&mut **tx).await.map(drop)
                });
                let _ = ordered.await;
                Ok(customer)
            }

            #[tokio::test]
            async fn a_refused_write_shows_who_does_not_look_at_errors() {
                let scenario = Scenario::new(OrderAndHope { customer: 7 }).setup(tables);
                let report = examine(&scenario, &[Plan::Outage]).await.expect("it can be checked");
                let Some(report) = report else { return };
                let failure = report.failure.as_ref().unwrap_or_else(|| panic!("nothing was found: {report}"));
                clean_up(failure);
                assert_eq!(failure.schedule, "outage/table-orders", "{report}");
                let is_missing = |difference: &Difference| matches!(difference, Difference::Missing { table, .. } if table == "orders");
                assert!(failure.differences.iter().any(is_missing), "{report}");
            }

            #[tokio::test]
            async fn a_recorded_job_passes_every_plan() {
                let job = Order { customer: 7, number: 1 };
                let Some(report) = check_single_effect(Scenario::new(job).setup(tables)).await else {
                    return;
                };
                check_complete(&report, $skipped);
                let masked: Vec<_> = report.masked.iter().map(|mask| mask.column.as_str()).collect();
                assert!(masked.contains(&"at"), "{report}");
            }

            #[tokio::test]
            async fn a_job_without_records_passes_every_plan() {
                let job = Recount { customer: 7 };
                let Some(report) = check_single_effect(Scenario::new(job).setup(tables)).await else {
                    return;
                };
                check_complete(&report, &[Plan::Rival, Plan::Zombie]);
            }
        }
    };
}

/// Why nothing is booked.
#[derive(Debug, Clone, Serialize, Deserialize)]
enum Refusal {
    Passing,
    Final,
    Known,
    #[serde(skip)]
    Db,
}

impl From<sqlx::Error> for Refusal {
    fn from(_: sqlx::Error) -> Self {
        Refusal::Db
    }
}

/// Takes longer to begin than a step of a quick job may that waits for another run, as a server far away does.
struct BeginsSlowly;

#[async_trait]
impl<D: Database> Fault<D> for BeginsSlowly {
    async fn begin(&self, good: &Good<D>, claim: &Claim<'_>) -> Result<Begun<D>, StoreError> {
        tokio::time::sleep(Duration::from_millis(40)).await;
        good.begin(claim).await
    }
}

/// Somebody elsewhere, who charges once for every key.
#[derive(Debug, Clone, Default)]
struct Provider(Arc<Mutex<Vec<String>>>);

impl Provider {
    async fn charge(&self, key: String) -> Result<(), sqlx::Error> {
        tokio::task::yield_now().await;
        let mut charges = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !charges.contains(&key) {
            charges.push(key);
        }
        Ok(())
    }

    /// Sends a parcel, whatever was sent before.
    async fn send(&self) -> Result<(), sqlx::Error> {
        tokio::task::yield_now().await;
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(String::from("a parcel"));
        tokio::task::yield_now().await;
        Ok(())
    }

    fn charges(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len() as u64
    }
}

/// Checks that every plan hit something, except for those that may say why they did not.
fn check_complete(report: &Report, may_skip: &[Plan]) {
    let plans: Vec<_> = report.plans.iter().map(|ran| ran.plan).collect();
    assert_eq!(plans, Plan::ALL, "{report}");
    for ran in &report.plans {
        let skipped = ran.skipped.is_some() && may_skip.contains(&ran.plan);
        assert!(skipped || ran.hit > 0 && ran.hit == ran.windows, "{}: {report}", ran.plan);
    }
}

orders_on!(
    sqlite, Sqlite,
    id: "INTEGER PRIMARY KEY AUTOINCREMENT",
    now: "TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP",
    later: "3600",
    skipped: &[Plan::Rival, Plan::Zombie]
);
orders_on!(
    postgres, Postgres,
    id: "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
    now: "TIMESTAMPTZ NOT NULL DEFAULT now()",
    later: "interval '1 hour'",
    skipped: &[]
);
orders_on!(
    mysql, MySql,
    id: "BIGINT AUTO_INCREMENT PRIMARY KEY",
    now: "DATETIME NOT NULL DEFAULT CURRENT_TIMESTAMP",
    later: "3600000",
    skipped: &[]
);
