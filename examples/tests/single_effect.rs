//! Every job of the examples has a single effect: repeated, at once, through crashes and lost answers.

mod common;

use std::sync::Arc;

use idem_examples::provider::{
    Client, Contacts, Directory, Gateway, Mailer, PlainMailer, Printer, Profile, ProviderProcess, Service,
};
use idem_examples::user_sync::{self, SyncUser};
use idem_runtime::Provides;
use idem_testkit::lab::LabDatabase;
use idem_testkit::{Scenario, Trial, check_all_jobs_covered, check_single_effect};

/// What the jobs depend on: a provider in a process of its own, with empty books.
#[derive(Clone, Provides)]
struct World {
    gateway: Gateway,
    mailer: Mailer,
    plain: PlainMailer,
    printer: Printer,
    directory: Directory,
    contacts: Contacts,
    /// Where the test started it; a process that is killed only knows its address.
    _process: Option<Arc<ProviderProcess>>,
}

impl World {
    fn of(trial: &Trial) -> Self {
        let mut process = None;
        let address = trial.share("provider", || {
            let started = common::provider();
            let address = started.address();
            introduce(Client::new(address));
            process = Some(Arc::new(started));
            address.to_string()
        });
        let address = address.parse().expect("the provider shares its address");
        World {
            gateway: Client::new(address),
            mailer: Client::new(address),
            plain: Client::new(address),
            printer: Client::new(address),
            directory: Client::new(address),
            contacts: Client::new(address),
            _process: process,
        }
    }
}

/// Tells the directory who the user is that is to be synced.
fn introduce(directory: Directory) {
    let ada = Profile { name: String::from("Ada"), email: String::from("ada@example.org") };
    let put = async move { directory.put(&user_sync::reference(42), &ada).await };
    // A state is made outside of what is async, so on a thread of its own.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let told = std::thread::spawn(move || runtime.expect("a thread has a runtime").block_on(put));
    told.join().expect("the thread ends").expect("the directory is there");
}

/// Counts what the provider has done for a client.
async fn done<T: Service>(client: &Client<T>) -> u64 {
    client.books().await.expect("the provider answers").entries.len() as u64
}

macro_rules! jobs_on {
    ($db:ident) => {
        mod $db {
            use idem_examples::$db::jobs::{
                daily_report, email, inventory, order, payment, payment_steps, subscription,
            };

            use super::*;

            #[tokio::test]
            async fn an_order_is_placed_once() {
                let (request_id, item) = (String::from("r1"), String::from("lamp"));
                check_single_effect(
                    Scenario::new(order::PlaceOrder { request_id, item, quantity: 2 }).setup(async |lab| {
                        order::create_tables(&lab.pool(1)).await?;
                        Ok(order::stock(&lab.pool(1), "lamp", 5).await?)
                    }),
                )
                .await;
            }

            #[tokio::test]
            async fn goods_are_received_once() {
                let (delivery_note, sku) = (String::from("d1"), String::from("lamp"));
                check_single_effect(
                    Scenario::new(inventory::ReceiveGoods { delivery_note, sku, quantity: 20 })
                        .setup(async |lab| Ok(inventory::create_tables(&lab.pool(1)).await?)),
                )
                .await;
            }

            #[tokio::test]
            async fn a_user_is_subscribed_once() {
                let (request_id, plan) = (String::from("r1"), String::from("gold"));
                check_single_effect(
                    Scenario::new(subscription::Subscribe { request_id, user_id: 42, plan })
                        .setup(async |lab| Ok(subscription::create_tables(&lab.pool(1)).await?)),
                )
                .await;
            }

            #[tokio::test]
            async fn a_payment_is_charged_once() {
                check_single_effect(
                    Scenario::new(payment::ProcessPayment { payment_id: 42 })
                        .setup(async |lab| {
                            payment::create_tables(&lab.pool(1)).await?;
                            Ok(payment::add_payment(&lab.pool(1), 42, 4_200).await?)
                        })
                        .state_with(World::of)
                        .observe_async("charges", async |world| done(&world.gateway).await),
                )
                .await;
            }

            #[tokio::test]
            async fn a_cart_is_checked_out_once() {
                let customer = String::from("ada@example.org");
                check_single_effect(
                    Scenario::new(payment_steps::CheckOut { cart_id: 42, amount_cents: 4_200, customer })
                        .setup(async |lab| Ok(payment_steps::create_tables(&lab.pool(1)).await?))
                        .state_with(World::of)
                        .observe_async("charges", async |world| done(&world.gateway).await),
                )
                .await;
            }

            #[tokio::test]
            async fn a_mail_is_sent_once() {
                let [mail, to, subject] = ["m1", "ada@example.org", "Hello"].map(String::from);
                check_single_effect(
                    Scenario::new(email::SendEmail { mail, to, subject })
                        .state_with(World::of)
                        .observe_async("mails", async |world| done(&world.mailer).await),
                )
                .await;
            }

            #[tokio::test]
            async fn a_mail_without_a_key_is_sent_once_or_a_person_is_asked() {
                let [mail, to, subject] = ["m1", "ada@example.org", "Hello"].map(String::from);
                check_single_effect(
                    Scenario::new(email::SendPlainEmail { mail, to, subject })
                        .state_with(World::of)
                        .observe_async("mails", async |world| done(&world.plain).await),
                )
                .await;
            }

            #[tokio::test]
            async fn a_report_is_published_once() {
                let date = String::from("2026-03-01");
                check_single_effect(
                    Scenario::new(daily_report::DailyReport { date })
                        .setup(async |lab| {
                            daily_report::create_tables(&lab.pool(1)).await?;
                            Ok(daily_report::sell(&lab.pool(1), "2026-03-01", 4_200).await?)
                        })
                        .state_with(World::of),
                )
                .await;
            }

            #[tokio::test]
            async fn a_user_is_one_contact() {
                check_sync::<idem_examples::$db::Db>().await;
            }
        }
    };
}

jobs_on!(sqlite);
jobs_on!(postgres);

/// The job is the same on every database, and so is its check.
async fn check_sync<D: LabDatabase>() {
    check_single_effect(
        Scenario::<_, D>::new(SyncUser { user_id: 42 })
            .state_with(World::of)
            .observe_async("contacts", async |world| done(&world.contacts).await),
    )
    .await;
}

#[tokio::test]
async fn a_user_is_one_contact_on_mysql_too() {
    check_sync::<sqlx::MySql>().await;
}

#[test]
fn no_job_is_left_out() {
    check_all_jobs_covered!();
}
