//! Bugs around effects outside the database: a charge, a mail, a message.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use idem_runtime::prelude::*;
use idem_testkit::Scenario;
use serde::{Deserialize, Serialize};

use crate::harness::gateway::{Gateway, lock};
use crate::harness::tables;

bugs! {
    a_charge_without_a_key {
        what: "the provider is called without a key, so a run after a crash charges again",
        origin: "aws-powertools/powertools-lambda-python#801: a crash after the call and before the return is not covered",
        plan: Crash, at: "of the body", hint: "`tx.idempotency_key()`",
        scenario: charged(ChargeWithoutKey { id: 42 }),
    }
    a_message_before_the_commit {
        what: "a message is published as the last thing in the body, before the transaction commits",
        origin: "laravel/framework#45488, #47761: the dispatching transaction rolls back, and what it did elsewhere stays",
        plan: Crash, at: "crashed at", hint: "`tx.idempotency_key()`",
        scenario: charged(PublishAtTheEnd { id: 42 }),
    }
    a_key_from_the_clock {
        what: "the provider gets a key that is made from the time of the call, another one for every run",
        origin: "Brandur's rule 7: the key of a foreign call comes from a row, not from the call (records-and-steps 4.1)",
        plan: Crash, at: "of the body", hint: "`tx.idempotency_key()`",
        scenario: charged(ChargeByClock { id: 42 }),
    }
    a_key_for_every_attempt {
        what: "the provider gets a key with the number of the attempt in it",
        origin: "triggerdotdev/trigger.dev 4.3.1: the default scope of a key is the run",
        plan: Crash, at: "of the body", hint: "`tx.idempotency_key()`",
        scenario: charged(ChargeByAttempt { id: 42 }),
    }
    a_charge_in_a_spawned_task {
        what: "the call is made in a task of its own, which goes on when the run is gone",
        origin: "sidekiq/sidekiq#3662: what a transaction starts elsewhere is not undone with it",
        plan: Crash, at: "of the body", hint: "`tx.idempotency_key()`",
        scenario: charged(ChargeInATask { id: 42 }),
    }
    a_mail_from_drop {
        what: "a guard sends a mail when it is dropped, also when the run is",
        origin: "zoolutions/sidekiq-unique-jobs#890, #812: `ensure` does its work on failure and on shutdown too",
        plan: Crash, at: "of the body", hint: "`tx.idempotency_key()`",
        scenario: charged(MailOnDrop { id: 42 }),
    }
    a_charge_in_check {
        what: "`check` calls the provider to find out, and the call charges",
        origin: "acidic_job#79, #82: was this the first run or a retry, and did the outside write land?",
        plan: Crash, at: "of the body", hint: "`tx.idempotency_key()`",
        scenario: Scenario::new(ChargeInCheck { id: 42 })
            .setup(tables::set_up)
            .state(|| {
                let gateway = Gateway::default();
                *lock(&THE_CLIENT) = gateway.clone();
                gateway
            })
            .observe("charges", Gateway::charges),
    }
    a_refund_that_does_not_cover_the_commit {
        what: "a guard refunds the charge if the body is dropped, but not if the commit never comes",
        origin: "aws-powertools/powertools-lambda-typescript#2944: the effect is done, and saving the result fails",
        plan: Crash, at: "COMMIT", hint: "`tx.idempotency_key()`",
        scenario: Scenario::new(ChargeWithRefund { id: 42 })
            .setup(tables::set_up)
            .state(Gateway::default)
            .observe("charges that stand", |gateway| gateway.charges() - gateway.refunds()),
    }
    calls_in_a_loop_from_the_start {
        what: "a loop of calls keeps in memory how far it came, so a new process begins from the start",
        origin: "acidic_job: cursor and effect are separate, at-least-once for each item (records-and-steps 3.1)",
        plan: Crash, at: "of the body", hint: "`tx.idempotency_key()`",
        scenario: Scenario::new(ChargeAll { id: 42 })
            .setup(tables::set_up)
            .state(Resumable::default)
            .worker_state(|state| Resumable { gateway: state.gateway.clone(), next: Next::default() })
            .observe("charges", |state| state.gateway.charges()),
    }
    a_charge_before_a_refusal {
        what: "the provider is called without a key, and then the job ends with a final error, which undoes the rest",
        origin: "rocket-rides-atomic stores a declined card as the final answer; what was called before it stays",
        plan: Crash, at: "of the body", hint: "`tx.idempotency_key()`",
        scenario: charged(ChargeAndDecline { id: 42 }),
    }
    a_refusal_that_is_swallowed {
        what: "the provider refuses a key that it is still at work on, and the job takes that for done",
        origin: "Stripe and the IETF draft answer 409 while a first request is under way; rocket-rides stores it as final",
        plan: Crash, at: "of the body", hint: "decide by `tx` and the record alone",
        scenario: charged(ChargeAndHope { id: 42 }),
    }
}

fn charged<J>(job: J) -> Scenario<J, Sqlite, Gateway>
where
    J: idem_runtime::RunOn<Sqlite, Gateway>,
{
    Scenario::new(job).setup(tables::set_up).state(Gateway::default).observe("charges", Gateway::charges)
}

#[idempotent(key = id)]
async fn charge_without_key(
    tx: &mut Tx<'_, Sqlite>,
    id: i64,
    #[state] gateway: &Gateway,
) -> Result<i64, sqlx::Error> {
    gateway.charge().await;
    tables::post(tx, id).await?;
    Ok(id)
}

#[idempotent(key = id)]
async fn publish_at_the_end(
    tx: &mut Tx<'_, Sqlite>,
    id: i64,
    #[state] broker: &Gateway,
) -> Result<(), sqlx::Error> {
    tables::post(tx, id).await?;
    broker.charge().await;
    Ok(())
}

#[derive(Debug, Serialize, Deserialize)]
enum PayError {
    Declined,
}

#[idempotent(key = id, replay(PayError::Declined))]
async fn charge_and_decline(
    _tx: &mut Tx<'_, Sqlite>,
    id: i64,
    #[state] gateway: &Gateway,
) -> Result<(), PayError> {
    gateway.charge().await;
    let _ = id;
    Err(PayError::Declined)
}

#[idempotent(key = id)]
async fn charge_by_clock(
    tx: &mut Tx<'_, Sqlite>,
    id: i64,
    #[state] gateway: &Gateway,
) -> Result<(), sqlx::Error> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    gateway.charge_once(format!("charge-{id}-{}", now.as_nanos())).await;
    tables::post(tx, id).await
}

#[idempotent(key = id)]
async fn charge_by_attempt(
    tx: &mut Tx<'_, Sqlite>,
    id: i64,
    #[state] gateway: &Gateway,
) -> Result<(), sqlx::Error> {
    static ATTEMPTS: AtomicU32 = AtomicU32::new(0);
    let attempt = ATTEMPTS.fetch_add(1, Ordering::SeqCst);
    gateway.charge_once(format!("charge-{id}-{attempt}")).await;
    tables::post(tx, id).await
}

#[idempotent(key = id)]
async fn charge_in_a_task(
    tx: &mut Tx<'_, Sqlite>,
    id: i64,
    #[state] gateway: &Gateway,
) -> Result<(), sqlx::Error> {
    let gateway = gateway.clone();
    tokio::spawn(async move { gateway.charge().await });
    tables::post(tx, id).await
}

#[idempotent(key = id)]
async fn mail_on_drop(
    tx: &mut Tx<'_, Sqlite>,
    id: i64,
    #[state] mailer: &Gateway,
) -> Result<(), sqlx::Error> {
    let _mails = OnDrop(|| mailer.charge_now());
    tables::post(tx, id).await
}

/// Does something when it is dropped.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// `check` sees no state, so its client is a global.
static THE_CLIENT: LazyLock<Mutex<Gateway>> = LazyLock::new(Mutex::default);

#[idempotent(key = id, check = was_charged)]
async fn charge_in_check(
    tx: &mut Tx<'_, Sqlite>,
    id: i64,
    #[state] gateway: &Gateway,
) -> Result<(), sqlx::Error> {
    let _ = gateway;
    tables::post(tx, id).await
}

async fn was_charged(tx: &mut Tx<'_, Sqlite>, job: &ChargeInCheck) -> Result<Option<()>, sqlx::Error> {
    let client = lock(&THE_CLIENT).clone();
    client.charge().await;
    let status: String = sqlx::query_scalar("SELECT status FROM payments WHERE id = ?")
        .bind(job.id)
        .fetch_one(&mut **tx)
        .await?;
    Ok((status == "charged").then_some(()))
}

#[idempotent(key = id)]
async fn charge_with_refund(
    tx: &mut Tx<'_, Sqlite>,
    id: i64,
    #[state] gateway: &Gateway,
) -> Result<(), sqlx::Error> {
    gateway.charge_now();
    let mut refunds = Refunds { gateway, armed: true };
    tables::post(tx, id).await?;
    refunds.armed = false;
    Ok(())
}

/// Refunds when it is dropped, while it is armed.
struct Refunds<'a> {
    gateway: &'a Gateway,
    armed: bool,
}

impl Drop for Refunds<'_> {
    fn drop(&mut self) {
        if self.armed {
            self.gateway.refund();
        }
    }
}

#[derive(Debug, Clone, Default, Provides)]
struct Resumable {
    gateway: Gateway,
    next: Next,
}

/// How far the loop came.
#[derive(Debug, Clone, Default)]
struct Next(Arc<AtomicU32>);

#[idempotent(key = id)]
async fn charge_all(
    tx: &mut Tx<'_, Sqlite>,
    id: i64,
    #[state] gateway: &Gateway,
    #[state] next: &Next,
) -> Result<(), sqlx::Error> {
    while next.0.load(Ordering::SeqCst) < 3 {
        gateway.charge().await;
        next.0.fetch_add(1, Ordering::SeqCst);
    }
    tables::post(tx, id).await
}

#[idempotent(key = id)]
async fn charge_and_hope(
    tx: &mut Tx<'_, Sqlite>,
    id: i64,
    #[state] gateway: &Gateway,
) -> Result<(), sqlx::Error> {
    let _ = gateway.charge_or_refuse(tx.idempotency_key()).await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    tables::post(tx, id).await
}
