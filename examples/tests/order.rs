//! A request is one order, and everybody who asks gets that order.
//!
//! Nothing in the table `orders` keeps a second one out; it is counted on a connection of its own.

use std::process::Command;
use std::sync::Arc;

use idem_examples::postgres::jobs::order::{PlacedOrder, create_tables, place_order, stock};
use idem_runtime::prelude::*;
use idem_testkit::lab::{Lab, LabDatabase as _};
use sqlx::Connection as _;
use tokio::sync::Barrier;

/// How many runs there are at once.
const RUNS: usize = 16;

macro_rules! orders_on {
    ($db:ident) => {
        mod $db {
            use idem_examples::$db::Db;
            use idem_examples::$db::jobs::order::{
                OrderError, PlacedOrder, create_tables, place_order, stock,
            };
            use idem_runtime::{Done, Idem};

            use super::*;

            /// A shop with five lamps.
            struct Shop {
                lab: Lab<Db>,
            }

            impl Shop {
                async fn new() -> Option<Shop> {
                    let shop = Shop { lab: Db::lab().await? };
                    shop.worker().migrate().await.unwrap();
                    create_tables(&shop.lab.pool(1)).await.unwrap();
                    shop.stock(5).await;
                    Some(shop)
                }

                /// A handle with connections of its own, as in another process.
                fn worker(&self) -> Idem<Db> {
                    Idem::builder(self.lab.pool(2)).namespace("test").build().unwrap()
                }

                async fn stock(&self, lamps: i64) {
                    stock(&self.lab.pool(1), "lamp", lamps).await.unwrap();
                }

                /// How many orders there are, and how many lamps.
                async fn count(&self) -> (i64, i64) {
                    let sql = "SELECT (SELECT count(*) FROM orders), in_stock FROM items WHERE name = 'lamp'";
                    sqlx::query_as(sql).fetch_one(&mut self.lab.connect().await).await.unwrap()
                }
            }

            async fn order(
                worker: &Idem<Db>,
                request: &str,
                lamps: i64,
            ) -> Result<Done<PlacedOrder>, Error<OrderError>> {
                place_order(worker, request.to_owned(), String::from("lamp"), lamps).await
            }

            #[tokio::test]
            async fn a_request_that_is_repeated_gets_the_recorded_order() {
                let Some(shop) = Shop::new().await else { return };
                let first = order(&shop.worker(), "r1", 2).await.unwrap();
                assert!(first.is_executed());
                assert_eq!(first.left, 3);
                // The answer is the one that was given, not one that is worked out anew.
                shop.stock(100).await;
                for _ in 0..5 {
                    let again = order(&shop.worker(), "r1", 2).await.unwrap();
                    assert!(again.is_replayed());
                    assert_eq!(*again, *first);
                }
                assert_eq!(shop.count().await, (1, 100));
            }

            #[tokio::test]
            async fn another_request_is_another_order() {
                let Some(shop) = Shop::new().await else { return };
                let worker = shop.worker();
                let first = order(&worker, "r1", 2).await.unwrap();
                let second = order(&worker, "r2", 2).await.unwrap();
                assert!(second.is_executed());
                assert_ne!(first.order_id, second.order_id);
                assert_eq!(shop.count().await, (2, 1));
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn runs_at_once_place_one_order_and_all_return_it() {
                let Some(shop) = Shop::new().await else { return };
                // Enough for one order: a second body would find the shop empty.
                shop.stock(2).await;
                let start = Arc::new(Barrier::new(RUNS));
                let runs: Vec<_> = (0..RUNS)
                    .map(|_| {
                        let (worker, start) = (shop.worker(), Arc::clone(&start));
                        tokio::spawn(async move {
                            start.wait().await;
                            order(&worker, "r1", 2).await
                        })
                    })
                    .collect();
                let mut answers = Vec::new();
                for run in runs {
                    answers.push(run.await.unwrap().unwrap());
                }
                assert_eq!(shop.count().await, (1, 0));
                assert_eq!(answers.iter().filter(|done| done.is_executed()).count(), 1);
                assert!(answers.iter().all(|done| **done == *answers[0]), "{answers:?}");
            }

            #[tokio::test]
            async fn a_request_with_other_arguments_is_refused() {
                let Some(shop) = Shop::new().await else { return };
                order(&shop.worker(), "r1", 2).await.unwrap();
                let reused = order(&shop.worker(), "r1", 3).await;
                let Err(Error::KeyReused(refused)) = reused else { panic!("{reused:?}") };
                assert_eq!((refused.job, refused.key.as_str()), ("place_order", "r1"));
                assert_ne!(refused.recorded, refused.given);
                assert_eq!(shop.count().await, (1, 3));
            }

            #[tokio::test]
            async fn an_order_that_fails_half_way_leaves_nothing_and_may_run_again() {
                let Some(shop) = Shop::new().await else { return };
                let failed = order(&shop.worker(), "r1", 6).await;
                assert!(matches!(failed, Err(Error::Job(OrderError::OutOfStock { .. }))), "{failed:?}");
                assert_eq!(shop.count().await, (0, 5));

                shop.stock(6).await;
                let again = order(&shop.worker(), "r1", 6).await.unwrap();
                assert!(again.is_executed());
                assert_eq!(shop.count().await, (1, 0));
            }
        }
    };
}

orders_on!(sqlite);
orders_on!(postgres);

/// Another version of the program, which takes no lock. The stock is none of its business.
#[idempotent(key = request_id, name = "place_order", lock = none)]
async fn place_order_unlocked(
    tx: &mut Tx<'_, Postgres>,
    request_id: String,
    item: String,
    quantity: i64,
) -> Result<PlacedOrder, sqlx::Error> {
    let sql = "INSERT INTO orders (request_id, item, quantity) VALUES ($1, $2, $3) RETURNING id";
    let insert = sqlx::query_scalar(sql).bind(request_id).bind(item).bind(quantity);
    Ok(PlacedOrder { order_id: insert.fetch_one(&mut **tx).await?, left: 0 })
}

/// Somebody comes past the lock of the key while a run is in the middle of its work, and commits first. In SQLite there
/// is no such race: nobody can commit while a run is open.
#[tokio::test]
async fn a_run_that_loses_by_the_primary_key_is_undone_and_returns_the_winners_order() {
    let Some(lab) = Postgres::lab().await else { return };
    let worker = || Idem::builder(lab.pool(2)).namespace("test").build().unwrap();
    worker().migrate().await.unwrap();
    create_tables(&lab.pool(1)).await.unwrap();
    stock(&lab.pool(1), "lamp", 5).await.unwrap();

    // The run writes its order, and then waits for the item.
    let mut holder = lab.connect().await;
    let pid: i32 = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut holder).await.unwrap();
    let mut item = holder.begin().await.unwrap();
    let held = sqlx::query("SELECT FROM items WHERE name = 'lamp' FOR UPDATE").execute(&mut *item).await;
    assert_eq!(held.unwrap().rows_affected(), 1);
    let (request, lamp) = (String::from("r1"), String::from("lamp"));
    let loser = tokio::spawn({
        let (worker, request, lamp) = (worker(), request.clone(), lamp.clone());
        async move { place_order(&worker, request, lamp, 2).await }
    });
    let mut watcher = lab.connect().await;
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE $1 = ANY(pg_blocking_pids(pid))";
    while sqlx::query_scalar::<_, i64>(waits).bind(pid).fetch_one(&mut watcher).await.unwrap() == 0 {
        assert!(!loser.is_finished(), "{:?}", loser.await);
    }

    let winner = place_order_unlocked(&worker(), request, lamp, 2).await.unwrap();
    assert!(winner.is_executed());
    item.rollback().await.unwrap();
    let lost = loser.await.unwrap().unwrap();
    assert_eq!(lost, Done::Replayed(winner.into_inner()));
    let left = "SELECT (SELECT count(*) FROM orders), in_stock FROM items WHERE name = 'lamp'";
    let left: (i64, i64) = sqlx::query_as(left).fetch_one(&mut watcher).await.unwrap();
    assert_eq!(left, (1, 5), "orders, and lamps in stock");
}

#[test]
fn the_program_shows_one_order_for_each_request() {
    let output = Command::new(env!("CARGO_BIN_EXE_order")).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.ends_with("Orders of these two requests in the database: 2\n"), "{said}");
    assert_eq!(said.matches("executed: ").count(), 2, "{said}");
}
