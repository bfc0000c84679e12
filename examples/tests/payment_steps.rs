//! A cart is one order, one charge and one mail, wherever its worker stops.
//!
//! Orders are counted on a connection of its own, charges and mails in the provider's books.

mod common;
#[path = "common/urls.rs"]
mod urls;

use std::process::{Command, Stdio};

use idem_examples::provider::{Fault, Gateway, Mailer, ProviderError, ProviderProcess};
use idem_testkit::lab::{Lab, LabDatabase as _};

use common::provider;

const CART: i64 = 42;

macro_rules! check_outs_on {
    ($db:ident) => {
        mod $db {
            use idem_examples::$db::Db;
            use idem_examples::$db::demos::payment_steps::{Shop, deliver, job};
            use idem_examples::$db::jobs::email::SendEmail;
            use idem_examples::$db::jobs::payment_steps::{
                CheckOutError, Receipt, create_tables, reference,
            };
            use idem_runtime::record::State;
            use idem_runtime::{Done, Error, Idem};
            use sqlx::Executor as _;

            use super::*;

            struct World {
                lab: Lab<Db>,
                process: ProviderProcess,
            }

            impl World {
                async fn new() -> Option<World> {
                    let world = World { lab: Db::lab().await?, process: provider() };
                    world.worker().migrate().await.unwrap();
                    create_tables(&world.lab.pool(1)).await.unwrap();
                    Some(world)
                }

                /// A handle with connections of its own, as in another process.
                fn worker(&self) -> Idem<Db, Shop> {
                    let shop = Shop::new(self.process.address());
                    Idem::builder(self.lab.pool(2)).namespace("examples").state(shop).build().unwrap()
                }

                fn gateway(&self) -> Gateway {
                    self.process.client()
                }

                async fn check_out(&self) -> Result<Done<Receipt>, Error<CheckOutError>> {
                    self.worker().run(job(CART)).await
                }

                async fn sql(&self, sql: &'static str) {
                    self.lab.connect().await.execute(sql).await.unwrap();
                }

                /// The state, the attempts, and the steps on record.
                async fn standing(&self) -> (State, u32, Vec<String>) {
                    let found = self.worker().explain(&job(CART)).await.unwrap().unwrap();
                    (found.state, found.attempts, found.steps.into_iter().map(|step| step.name).collect())
                }

                /// The number of the cart's one order, and the charge that it was paid with.
                async fn order(&self) -> (i64, Option<String>) {
                    sqlx::query_as("SELECT id, charge_id FROM cart_orders WHERE cart_id = $1")
                        .bind(CART)
                        .fetch_one(&mut self.lab.connect().await)
                        .await
                        .unwrap()
                }

                /// Checks that the cart is one order, one charge and, once it is delivered, one mail.
                async fn check_paid_once(&self, receipt: &Receipt) {
                    let orders: i64 = sqlx::query_scalar("SELECT count(*) FROM cart_orders WHERE cart_id = $1")
                        .bind(CART)
                        .fetch_one(&mut self.lab.connect().await)
                        .await
                        .unwrap();
                    assert_eq!(orders, 1);
                    assert_eq!(self.order().await, (receipt.order_id, Some(receipt.charge_id.clone())));
                    let books = self.gateway().books().await.unwrap();
                    let [charge] = books.of(&reference(CART))[..] else { panic!("not charged once: {books:?}") };
                    assert_eq!(charge.id, receipt.charge_id);

                    let mailer: Mailer = self.process.client();
                    deliver(&self.worker()).await.unwrap();
                    assert_eq!(deliver(&self.worker()).await.unwrap(), 0);
                    let mails = mailer.books().await.unwrap();
                    assert_eq!(mails.of(&format!("order-{}", receipt.order_id)).len(), 1, "{mails:?}");
                    assert_eq!(mails.entries.len(), 1);
                }
            }

            #[tokio::test]
            async fn a_cart_that_is_checked_out_again_is_paid_once() {
                let Some(world) = World::new().await else { return };
                let first = world.check_out().await.unwrap();
                assert!(first.is_executed());
                for _ in 0..3 {
                    let again = world.check_out().await.unwrap();
                    assert!(again.is_replayed());
                    assert_eq!(*again, *first);
                }
                assert_eq!(world.gateway().books().await.unwrap().requests, 1);
                world.check_paid_once(&first).await;
            }

            #[tokio::test]
            async fn a_charge_whose_answer_is_lost_is_asked_for_again_and_not_made_again() {
                let Some(world) = World::new().await else { return };
                world.gateway().inject(&reference(CART), Fault::LoseAnswer).await.unwrap();
                let lost = world.check_out().await;
                let Err(Error::Job(CheckOutError::Gateway(ProviderError::NoAnswer(_)))) = lost else {
                    panic!("{lost:?}");
                };
                assert_eq!(world.standing().await, (State::Failed, 1, vec![String::from("order")]));

                let done = world.check_out().await.unwrap();
                assert!(done.is_executed());
                assert_eq!(world.gateway().books().await.unwrap().requests, 2);
                world.check_paid_once(&done).await;
            }

            #[tokio::test]
            async fn a_run_that_fails_behind_its_charge_goes_on_behind_it() {
                let Some(world) = World::new().await else { return };
                // The charge will be `ch_1`, and marking the order paid with it violates the index.
                world.sql("CREATE UNIQUE INDEX one_order_a_charge ON cart_orders (charge_id)").await;
                world
                    .sql("INSERT INTO cart_orders (id, cart_id, amount_cents, charge_id) VALUES (1000, 1, 1, 'ch_1')")
                    .await;
                let failed = world.check_out().await;
                assert!(matches!(failed, Err(Error::Job(CheckOutError::Database(_)))), "{failed:?}");
                let (order_id, open) = world.order().await;
                assert_eq!(open, None);
                let steps = ["order", "charge"].map(String::from);
                assert_eq!(world.standing().await, (State::Failed, 1, steps.to_vec()));
                // What a run enqueues goes with its result, and there is none.
                assert_eq!(deliver(&world.worker()).await.unwrap(), 0);

                world.sql("DELETE FROM cart_orders WHERE cart_id = 1").await;
                let done = world.check_out().await.unwrap();
                assert!(done.is_executed());
                assert_eq!((done.order_id, &*done.charge_id), (order_id, "ch_1"));
                // Not even asked again.
                assert_eq!(world.gateway().books().await.unwrap().requests, 1);
                world.check_paid_once(&done).await;
            }

            #[tokio::test]
            async fn a_worker_killed_in_its_charge_leaves_the_order_to_the_next() {
                let Some(world) = World::new().await else { return };
                let gateway = world.gateway();
                gateway.inject(&reference(CART), Fault::HoldAnswer).await.unwrap();
                let mut worker = Command::new(env!("CARGO_BIN_EXE_payment_steps"));
                worker.args(["--database-url", &urls::$db(&world.lab)]);
                worker.args(["--provider", &world.process.address().to_string(), &CART.to_string()]);
                let mut victim = worker.stdout(Stdio::null()).spawn().unwrap();
                // The money is taken, and the worker waits for the answer.
                let charge = gateway.watch(&reference(CART)).await.unwrap();
                assert_eq!(victim.try_wait().unwrap(), None, "the worker has ended by itself");
                victim.kill().unwrap(); // SIGKILL
                victim.wait().unwrap();
                gateway.release().await.unwrap();
                let (order_id, open) = world.order().await;
                assert_eq!(open, None);

                // It waits until the lease of the dead worker has passed.
                let done = world.check_out().await.unwrap();
                assert!(done.is_executed());
                assert_eq!(done.into_inner(), Receipt { order_id, charge_id: charge.id });
                assert_eq!(world.standing().await.1, 2);
                let receipt = world.check_out().await.unwrap();
                world.check_paid_once(&receipt).await;
            }

            #[tokio::test]
            async fn a_mail_that_is_delivered_twice_is_sent_once() {
                let Some(world) = World::new().await else { return };
                let done = world.check_out().await.unwrap();
                let worker = world.worker();
                let mut ids = Vec::new();
                for _ in 0..2 {
                    // The relay is gone before it has said that it delivered.
                    let died: anyhow::Result<u64> = worker
                        .relay(async |task| {
                            ids.push(task.id());
                            worker.run(task.decode::<SendEmail>()?).await?;
                            anyhow::bail!("the relay is gone")
                        })
                        .await;
                    assert_eq!(died.unwrap_err().to_string(), "the relay is gone");
                }
                assert_eq!(ids.len(), 2);
                assert_eq!(ids[0], ids[1]);
                world.check_paid_once(&done).await;
            }
        }
    };
}

check_outs_on!(sqlite);
check_outs_on!(postgres);

#[test]
fn the_program_shows_one_order_one_charge_and_one_mail() {
    let output = Command::new(env!("CARGO_BIN_EXE_payment_steps")).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    // Whether its lease has passed by then is the machine's business.
    let stands = |state| said.contains(&format!("{state}, attempt 1, steps on record: [order]"));
    assert!(stands("Running") || stands("Lapsed"), "{said}");
    assert!(said.contains("Completed, attempt 2"), "{said}");
    assert!(said.contains("replayed: mail_1") && said.contains("delivered 1; then 0"), "{said}");
    assert!(said.contains("1 order(s), 1 charge(s), 1 mail(s)"), "{said}");
}
