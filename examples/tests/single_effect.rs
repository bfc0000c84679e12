//! Every job of the examples has a single effect: repeated, at once, through crashes and lost answers.

use std::process::Command;
use std::sync::Arc;

use idem_examples::gateway::{Gateway, GatewayProcess};
use idem_runtime::Provides;
use idem_testkit::{Scenario, Trial, check_all_jobs_covered, check_single_effect};

/// What the payment job depends on: a gateway in a process of its own, with empty books.
#[derive(Clone, Provides)]
struct Payments {
    gateway: Gateway,
    /// Where the test started it; a process that is killed only knows its address.
    _process: Option<Arc<GatewayProcess>>,
}

impl Payments {
    fn of(trial: &Trial) -> Self {
        let mut process = None;
        let address = trial.share("gateway", || {
            let mut command = Command::new(env!("CARGO_BIN_EXE_gateway"));
            command.arg("--until-stdin-ends");
            let started = GatewayProcess::start(command).expect("the gateway starts");
            let address = started.client().address().to_string();
            process = Some(Arc::new(started));
            address
        });
        let gateway = Gateway::new(address.parse().expect("the gateway shares its address"));
        Payments { gateway, _process: process }
    }

    async fn charges(&self) -> u64 {
        let books = self.gateway.books().await.expect("the gateway answers");
        books.charges.len() as u64
    }
}

macro_rules! jobs_on {
    ($db:ident) => {
        mod $db {
            use idem_examples::$db::jobs::{inventory, order, payment, subscription};

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
                        .state_with(Payments::of)
                        .observe_async("charges", Payments::charges),
                )
                .await;
            }
        }
    };
}

jobs_on!(sqlite);
jobs_on!(postgres);

#[test]
fn no_job_is_left_out() {
    check_all_jobs_covered!();
}
