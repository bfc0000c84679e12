//! A delivery is booked once, even by runs that no record connects.
//!
//! Movements and stock are counted on a connection of its own.

use std::process::Command;
use std::sync::Arc;

use idem_runtime::Error;
use idem_testkit::lab::{Lab, LabDatabase as _};
use tokio::sync::Barrier;

/// How many runs there are at once.
const RUNS: usize = 16;

macro_rules! deliveries_on {
    ($db:ident) => {
        mod $db {
            use idem_examples::$db::Db;
            use idem_examples::$db::jobs::inventory::{Received, create_tables, receive_goods};
            use idem_runtime::{Done, Idem};
            use sqlx::Executor as _;

            use super::*;

            struct Store {
                lab: Lab<Db>,
            }

            impl Store {
                async fn new() -> Option<Store> {
                    let store = Store { lab: Db::lab().await? };
                    store.worker().migrate().await.unwrap();
                    create_tables(&store.lab.pool(1)).await.unwrap();
                    Some(store)
                }

                /// A handle with connections of its own, as in another process.
                fn worker(&self) -> Idem<Db> {
                    Idem::builder(self.lab.pool(2)).namespace("test").build().unwrap()
                }

                async fn sql(&self, sql: &'static str) {
                    self.lab.connect().await.execute(sql).await.unwrap();
                }

                /// Movements, and bolts in stock.
                async fn count(&self) -> (i64, i64) {
                    let sql =
                        "SELECT count(*), CAST(coalesce(sum(quantity), 0) AS BIGINT) FROM stock_movements";
                    sqlx::query_as(sql).fetch_one(&mut self.lab.connect().await).await.unwrap()
                }
            }

            async fn receive(
                worker: &Idem<Db>,
                note: &str,
                bolts: i64,
            ) -> Result<Done<Received>, Error<sqlx::Error>> {
                receive_goods(worker, note.to_owned(), String::from("bolt"), bolts).await
            }

            #[tokio::test]
            async fn a_delivery_that_is_booked_again_counts_once() {
                let Some(store) = Store::new().await else { return };
                let first = receive(&store.worker(), "note-1", 100).await.unwrap();
                assert!(first.is_executed());
                for _ in 0..5 {
                    let again = receive(&store.worker(), "note-1", 100).await.unwrap();
                    assert!(again.is_replayed());
                    assert_eq!(*again, *first);
                }
                assert_eq!(store.count().await, (1, 100));
            }

            #[tokio::test]
            async fn another_delivery_counts_too() {
                let Some(store) = Store::new().await else { return };
                let worker = store.worker();
                receive(&worker, "note-1", 100).await.unwrap();
                let second = receive(&worker, "note-2", 50).await.unwrap();
                assert_eq!(second.in_stock, 150);
                assert_eq!(store.count().await, (2, 150));
            }

            #[tokio::test]
            async fn a_delivery_whose_record_is_forgotten_counts_once() {
                let Some(store) = Store::new().await else { return };
                let first = receive(&store.worker(), "note-1", 100).await.unwrap();
                for _ in 0..3 {
                    store.sql("DELETE FROM idem_records").await;
                    let again = receive(&store.worker(), "note-1", 100).await.unwrap();
                    assert!(again.is_executed(), "{again:?}");
                    assert_eq!(*again, *first);
                }
                assert_eq!(store.count().await, (1, 100));
            }

            #[tokio::test]
            async fn a_delivery_whose_record_has_expired_counts_once() {
                let Some(store) = Store::new().await else { return };
                let first = receive(&store.worker(), "note-1", 100).await.unwrap();
                // First with the expired record in place, then with nothing in its place.
                for swept in [0, 1] {
                    store.sql("UPDATE idem_records SET expires_at = completed_at").await;
                    if swept == 1 {
                        assert_eq!(store.worker().sweep().await.unwrap(), 1);
                    }
                    let again = receive(&store.worker(), "note-1", 100).await.unwrap();
                    assert!(again.is_executed(), "{again:?}");
                    assert_eq!(*again, *first);
                }
                assert_eq!(store.count().await, (1, 100));
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn runs_at_once_count_once_even_if_records_vanish() {
                let Some(store) = Store::new().await else { return };
                let start = Arc::new(Barrier::new(RUNS + 1));
                let runs: Vec<_> = (0..RUNS)
                    .map(|_| {
                        let (worker, start) = (store.worker(), Arc::clone(&start));
                        tokio::spawn(async move {
                            start.wait().await;
                            receive(&worker, "note-1", 100).await
                        })
                    })
                    .collect();
                start.wait().await;
                for _ in 0..RUNS {
                    store.sql("DELETE FROM idem_records").await;
                }
                for run in runs {
                    assert_eq!(run.await.unwrap().unwrap().in_stock, 100);
                }
                assert_eq!(store.count().await, (1, 100));
            }

            #[tokio::test]
            async fn a_delivery_that_fails_after_its_movement_leaves_none() {
                let Some(store) = Store::new().await else { return };
                receive(&store.worker(), "note-1", 100).await.unwrap();
                // The movement goes in; then the stock is more than fits.
                let failed = receive(&store.worker(), "note-2", i64::MAX).await;
                assert!(matches!(failed, Err(Error::Job(_))), "{failed:?}");
                assert_eq!(store.count().await, (1, 100));

                let again = receive(&store.worker(), "note-2", 50).await.unwrap();
                assert!(again.is_executed());
                assert_eq!(store.count().await, (2, 150));
            }
        }
    };
}

deliveries_on!(sqlite);
deliveries_on!(postgres);

#[test]
fn the_program_shows_one_delivery() {
    let output = Command::new(env!("CARGO_BIN_EXE_inventory")).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(said.matches("executed: ").count(), 2, "{said}");
    assert!(said.ends_with("Bolts in stock: 100\n"), "{said}");
}
