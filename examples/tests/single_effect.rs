//! Every job of the examples has a single effect: repeated, at once, through crashes and lost answers.

mod common;
#[path = "common/world.rs"]
mod world;

use idem_examples::fleet::Desk;
use idem_examples::user_sync::{ExportUser, SyncList, SyncUser};
use idem_runtime::schedule::Tick;
use idem_testkit::lab::LabDatabase;
use idem_testkit::{Scenario, check_all_jobs_covered, check_single_effect};

use world::{World, done};

macro_rules! jobs_on {
    ($db:ident) => {
        mod $db {
            use idem_examples::$db::jobs::{
                cleanup, daily_report, email, inventory, order, payment, payment_steps, subscription,
                sync_profile,
            };

            use super::*;

            #[tokio::test]
            async fn an_order_is_placed_once() {
                let (request_id, item) = (String::from("r1"), String::from("lamp"));
                check_single_effect(
                    Scenario::new(order::PlaceOrder { request_id, item, quantity: 2 }).setup(async |lab| {
                        let pool = lab.pool(1);
                        order::create_tables(&pool).await?;
                        Ok(order::stock(&pool, "lamp", 5).await?)
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
                            let pool = lab.pool(1);
                            payment::create_tables(&pool).await?;
                            Ok(payment::add_payment(&pool, 42, 4_200).await?)
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
                // Three in the morning in Berlin.
                let tick = Tick::from_unix(1_772_416_800);
                check_single_effect(
                    Scenario::new(daily_report::DailyReport { tick })
                        .setup(async |lab| {
                            let pool = lab.pool(1);
                            daily_report::create_tables(&pool).await?;
                            Ok(daily_report::sell(&pool, "2026-03-01", 4_200).await?)
                        })
                        .state_with(World::of),
                )
                .await;
            }

            #[tokio::test]
            async fn a_profile_is_synced_once() {
                check_single_effect(
                    Scenario::new(sync_profile::SyncProfile { user_id: 42, version: 1 })
                        .setup(async |lab| {
                            let mut connection = lab.connect().await;
                            sync_profile::create_tables(&mut connection).await?;
                            sqlx::query(
                                "INSERT INTO profiles (id, version, email) VALUES (42, 1, 'ada@example.org')",
                            )
                            .execute(&mut connection)
                            .await?;
                            Ok(())
                        })
                        .state(Desk::default),
                )
                .await;
            }

            #[tokio::test]
            async fn old_sessions_are_deleted_once_a_tick() {
                let tick = Tick::from_unix(1_795_575_600);
                check_single_effect(Scenario::new(cleanup::ExpireSessions { tick }).setup(async |lab| {
                    let mut connection = lab.connect().await;
                    cleanup::set_up(&mut connection).await?;
                    sqlx::query("INSERT INTO sessions (id, begun) VALUES ('old', 0), ('young', 1795575600)")
                        .execute(&mut connection)
                        .await?;
                    Ok(())
                }))
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

#[tokio::test]
async fn a_user_has_one_export() {
    check_single_effect(
        Scenario::<_, sqlx::Sqlite>::new(ExportUser { user_id: 42 })
            .state_with(World::of)
            .observe_async("contacts", async |world| done(&world.contacts).await),
    )
    .await;
}

#[tokio::test]
async fn a_change_is_one_entry_of_a_list() {
    let list = String::from("weekly");
    check_single_effect(
        Scenario::<_, sqlx::Sqlite>::new(SyncList { change: 1, user_id: 42, list })
            .state_with(World::of)
            .observe_async("contacts", async |world| done(&world.contacts).await),
    )
    .await;
}

#[test]
fn no_job_is_left_out() {
    check_all_jobs_covered!();
}
