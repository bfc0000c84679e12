//! Bugs behind an error that passes, and jobs that are right behind one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use idem_runtime::prelude::*;
use idem_testkit::{Scenario, check_outage};
use serde::{Deserialize, Serialize};

use crate::harness::gateway::{Gateway, NoAnswer, Outage};
use crate::harness::tables;

bugs! {
    an_error_that_is_swallowed {
        what: "the error of one write is not looked at, and the job says that it is done",
        origin: "aws-powertools: catch and return a value to make a failure stick (records-and-steps 2.4)",
        plan: Outage, at: "refuses every write to `entries`", hint: "hand it on with `?`",
        scenario: Scenario::new(SwallowAnError { id: 42 }).setup(tables::set_up),
    }
    an_error_of_an_update_that_is_swallowed {
        what: "the error of an update is not looked at: the row is as it was, and the job says that it is done",
        origin: "aws-powertools: catch and return a value to make a failure stick (records-and-steps 2.4)",
        plan: Outage, at: "refuses every write to `balances`", hint: "hand it on with `?`",
        scenario: Scenario::new(SwallowAnErrorOfAnUpdate { id: 42 }).setup(tables::set_up),
    }
    an_error_that_is_taken_for_final {
        what: "every error of the database becomes one that `replay(…)` names",
        origin: "acidic_job#91, PR#140: a serialization failure failed the job for good",
        plan: Outage, at: "refuses every write to", hint: "name errors that stay",
        scenario: Scenario::new(DeclineForGood { id: 42 }).setup(tables::set_up),
    }
    an_error_that_is_taken_for_a_duplicate {
        what: "every error of an insert is taken for a row that is there already, and adopted",
        origin: "zoolutions/sidekiq-unique-jobs#788, #862: the job is dropped without an error",
        plan: Outage, at: "refuses every write to", hint: "name errors that stay",
        scenario: Scenario::new(AdoptEveryError { id: 42 }).setup(tables::set_up),
    }
    a_flag_that_an_error_leaves {
        what: "a flag in memory says that the work is under way, and an error leaves it there",
        origin: "zoolutions/sidekiq-unique-jobs#890, #812: what is to be given back on every way out is not, or too often",
        plan: Outage, at: "the same worker", hint: "is in the way of the next one",
        scenario: Scenario::new(FlagTheWork { id: 42 })
            .setup(tables::set_up)
            .state(Process::default)
            .worker_state(|_| Process::default()),
    }
    a_count_of_what_an_error_undid {
        what: "the process remembers that it has worked before the error that undoes the work",
        origin: "zoolutions/sidekiq-unique-jobs#546: a lock of a killed run lets later runs start and do nothing",
        plan: Outage, at: "the same worker", hint: "remember nothing that the error undoes",
        scenario: Scenario::new(RememberTheWork { id: 42 })
            .setup(tables::set_up)
            .state(Process::default)
            .worker_state(|_| Process::default()),
    }
    a_refund_behind_a_recorded_charge {
        what: "a step behind the charge fails, and the charge is refunded; whoever resumes finds it recorded, and skips it",
        origin: "aws-powertools/powertools-lambda-typescript#2944: the effect is done, and saving the result fails",
        plan: Outage, at: "refuses every write to", hint: "undo nothing that a step has recorded",
        scenario: Scenario::new(RefundOnError { id: 42 })
            .setup(tables::set_up)
            .state(Gateway::default)
            .observe("charges that stand", |gateway: &Gateway| gateway.charges() - gateway.refunds()),
    }
    a_new_key_for_every_try {
        what: "a loop calls again with a new key when no answer comes, and the first call was done",
        origin: "Brandur's rule 7: the key of a foreign call comes from a row, not from the call (records-and-steps 4.1)",
        plan: Outage, at: "the bank, after it has charged, fails", hint: "takes the same key",
        scenario: out(KeyPerTry { id: 42 }),
    }
    another_bank_when_the_first_is_silent {
        what: "no answer is taken for a refusal, and another provider charges as well",
        origin: "aws-powertools/powertools-lambda-python#8049: a withdrawal that may have happened is made again",
        plan: Outage, at: "the bank, after it has charged, fails", hint: "whatever is done in its place",
        scenario: out(TryAnotherBank { id: 42 }),
    }
    an_error_that_is_too_certain {
        what: "`not_done_if` takes a missing answer for a call that was not done",
        origin: "aws-powertools/powertools-lambda-python#801: a crash after the call and before the return is not covered",
        plan: Outage, at: "the bank, after it has charged, fails", hint: "`not_done_if(..)`",
        scenario: out(TooCertain { id: 42 }),
    }
    a_call_without_a_key_that_fails {
        what: "the callee takes no key, is called in a step, and once does not answer",
        origin: "aws-powertools/powertools-lambda-python#8049: a withdrawal that may have happened is made again",
        plan: Crash, at: "crashed at", hint: "`.park()`",
        scenario: out(CallWithoutKey { id: 42 }),
    }
}

correct! {
    a_keyed_call_that_fails { "a step that hands its key on, and a `tx_step`", out(KeyedCall { id: 42 }) }
    a_call_that_is_tried_again { "a loop in a step that calls again with one key", out(TryAgain { id: 42 }) }
    a_call_that_parks { "a callee without keys that once does not answer, and `.park()`", out(CallParks { id: 42 }) }
    a_fallback_in_a_step {
        "another provider in a step of its own, when the first has done nothing for certain",
        refusing(FallBack { id: 42 })
    }
    an_atomic_call_that_fails { "`tx.idempotency_key()` and an error that is handed on", out(AtomicCall { id: 42 }) }
    a_refund_in_a_step {
        "what was charged is refunded in a step, and the error is final",
        refusing(RefundInAStep { id: 42 })
    }
    a_panic_at_an_error { "`unwrap` on a write that fails once", Scenario::new(PanicAtAnError { id: 42 }).setup(tables::set_up) }
}

#[tokio::test]
async fn a_step_whose_call_never_fails_is_named() {
    let shop = || {
        Scenario::new(PayAndMail { id: 42 })
            .setup(tables::set_up)
            .state(Shop::default)
            .observe("charges", |shop: &Shop| shop.bank.charges())
            .observe("mails", |shop: &Shop| shop.post.charges())
    };
    let bank = || shop().outage("the bank", async |shop: &Shop| shop.bank.fail_once(Outage::BeforeItIsDone));
    let both = bank().outage("the post", async |shop: &Shop| shop.post.fail_once(Outage::BeforeItIsDone));

    assert_eq!(spared(shop()).await.as_deref(), Some("`charge`, `mail`"));
    assert_eq!(spared(bank()).await.as_deref(), Some("`mail`"));
    assert_eq!(spared(both).await, None);
    // The call is tried again in its step, so that nothing tells which one has failed.
    assert_eq!(spared(out(TryAgain { id: 42 })).await, None);
}

/// Returns the steps of which the report says that no call in them has failed.
async fn spared<J, S>(scenario: Scenario<J, Sqlite, S>) -> Option<String>
where
    J: idem_runtime::RunOn<Sqlite, S>,
    S: Clone + Send + Sync + 'static,
{
    let report = check_outage(scenario).await.expect("SQLite is always there");
    assert_eq!(report.test.as_deref(), Some("errors::a_step_whose_call_never_fails_is_named"));
    let said = report.plans[0].bound.as_deref()?.split_once("no call failed in ")?.1;
    Some(said.split_once(": name what can fail there").expect("it says what to do").0.to_owned())
}

/// A bank that once does not answer: before it has charged, and after.
fn out<J: idem_runtime::RunOn<Sqlite, Gateway>>(job: J) -> Scenario<J, Sqlite, Gateway> {
    refusing(job).outage("the bank, after it has charged,", async |gateway: &Gateway| {
        gateway.fail_once(Outage::AfterItIsDone)
    })
}

/// A bank that once refuses to do anything.
fn refusing<J: idem_runtime::RunOn<Sqlite, Gateway>>(job: J) -> Scenario<J, Sqlite, Gateway> {
    Scenario::new(job)
        .setup(tables::set_up)
        .state(Gateway::default)
        .observe("charges", Gateway::charges)
        .outage("the bank", async |gateway: &Gateway| gateway.fail_once(Outage::BeforeItIsDone))
}

#[derive(Debug, Serialize, Deserialize)]
enum PayError {
    Database(String),
    NoAnswer,
    Declined,
    PaidAlready,
    UnderWay,
}

impl From<sqlx::Error> for PayError {
    fn from(error: sqlx::Error) -> Self {
        PayError::Database(error.to_string())
    }
}

impl From<NoAnswer> for PayError {
    fn from(_: NoAnswer) -> Self {
        PayError::NoAnswer
    }
}

#[derive(Debug, Clone, Default)]
struct Process {
    is_set: Arc<AtomicBool>,
}

#[idempotent(key = id)]
async fn swallow_an_error(tx: &mut Tx<'_, Sqlite>, id: i64) -> Result<(), sqlx::Error> {
    let _ = tables::entry(tx, id, "posted").await;
    sqlx::query("UPDATE balances SET cents = cents + 5").execute(&mut **tx).await.map(drop)
}

#[idempotent(key = id)]
async fn swallow_an_error_of_an_update(tx: &mut Tx<'_, Sqlite>, id: i64) -> Result<(), sqlx::Error> {
    tables::entry(tx, id, "posted").await?;
    let _ = sqlx::query("UPDATE balances SET cents = cents + 5").execute(&mut **tx).await;
    Ok(())
}

#[idempotent(key = id, replay(PayError::Declined))]
async fn decline_for_good(tx: &mut Tx<'_, Sqlite>, id: i64) -> Result<(), PayError> {
    tables::post(tx, id).await.map_err(|_| PayError::Declined)
}

#[idempotent(key = id, adopt(PayError::PaidAlready => ()))]
async fn adopt_every_error(tx: &mut Tx<'_, Sqlite>, id: i64) -> Result<(), PayError> {
    tables::post(tx, id).await.map_err(|_| PayError::PaidAlready)
}

#[idempotent(key = id)]
async fn flag_the_work(tx: &mut Tx<'_, Sqlite>, id: i64, #[state] process: &Process) -> Result<(), PayError> {
    if process.is_set.swap(true, Ordering::SeqCst) {
        return Err(PayError::UnderWay);
    }
    tables::post(tx, id).await?;
    process.is_set.store(false, Ordering::SeqCst);
    Ok(())
}

#[idempotent(key = id)]
async fn remember_the_work(
    tx: &mut Tx<'_, Sqlite>,
    id: i64,
    #[state] process: &Process,
) -> Result<(), sqlx::Error> {
    if !process.is_set.swap(true, Ordering::SeqCst) {
        tables::post(tx, id).await?;
    }
    Ok(())
}

#[idempotent(key = id, in_doubt = rerun)]
async fn refund_on_error(
    run: &mut Run<'_, Sqlite>,
    id: i64,
    #[state] gateway: &Gateway,
) -> Result<(), PayError> {
    run.step("charge", async |key| gateway.try_charge(Some(key)).await).await?;
    let posted = run.tx_step("post", async |tx| tables::post(tx, id).await).await;
    if posted.is_err() {
        gateway.refund();
    }
    Ok(posted?)
}

#[idempotent(key = id, in_doubt = rerun)]
async fn key_per_try(run: &mut Run<'_, Sqlite>, id: i64, #[state] gateway: &Gateway) -> Result<(), PayError> {
    run.step("charge", async |key| {
        let first = gateway.try_charge(Some(format!("{key}-1"))).await;
        if first.is_err() { gateway.try_charge(Some(format!("{key}-2"))).await } else { first }
    })
    .await?;
    Ok(run.tx_step("post", async |tx| tables::post(tx, id).await).await?)
}

#[idempotent(key = id, in_doubt = rerun)]
async fn try_another_bank(
    run: &mut Run<'_, Sqlite>,
    id: i64,
    #[state] gateway: &Gateway,
) -> Result<(), PayError> {
    let charged = run.step("charge", async |key| gateway.try_charge(Some(key)).await).await;
    if charged.is_err() {
        run.step("charge-elsewhere", async |key| gateway.try_charge(Some(key)).await).await?;
    }
    Ok(run.tx_step("post", async |tx| tables::post(tx, id).await).await?)
}

#[idempotent(key = id, in_doubt = park)]
async fn too_certain(run: &mut Run<'_, Sqlite>, id: i64, #[state] gateway: &Gateway) -> Result<(), PayError> {
    let charged = run.step("charge", async |_| gateway.try_charge(None).await);
    charged.park().not_done_if(|_: &NoAnswer| true).await?;
    Ok(run.tx_step("post", async |tx| tables::post(tx, id).await).await?)
}

#[idempotent(key = id, in_doubt = rerun)]
async fn call_without_key(
    run: &mut Run<'_, Sqlite>,
    id: i64,
    #[state] gateway: &Gateway,
) -> Result<(), PayError> {
    run.step("charge", async |_| gateway.try_charge(None).await).await?;
    Ok(run.tx_step("post", async |tx| tables::post(tx, id).await).await?)
}

#[idempotent(key = id, in_doubt = rerun)]
async fn keyed_call(run: &mut Run<'_, Sqlite>, id: i64, #[state] gateway: &Gateway) -> Result<(), PayError> {
    run.step("charge", async |key| gateway.try_charge(Some(key)).await).await?;
    Ok(run.tx_step("post", async |tx| tables::post(tx, id).await).await?)
}

#[idempotent(key = id, in_doubt = rerun)]
async fn try_again(run: &mut Run<'_, Sqlite>, id: i64, #[state] gateway: &Gateway) -> Result<(), PayError> {
    run.step("charge", async |key| {
        let first = gateway.try_charge(Some(key.clone())).await;
        if first.is_err() { gateway.try_charge(Some(key)).await } else { first }
    })
    .await?;
    Ok(run.tx_step("post", async |tx| tables::post(tx, id).await).await?)
}

#[idempotent(key = id, in_doubt = rerun)]
async fn call_parks(run: &mut Run<'_, Sqlite>, id: i64, #[state] gateway: &Gateway) -> Result<(), PayError> {
    run.step("charge", async |_| gateway.try_charge(None).await).park().await?;
    Ok(run.tx_step("post", async |tx| tables::post(tx, id).await).await?)
}

#[idempotent(key = id, in_doubt = rerun)]
async fn fall_back(run: &mut Run<'_, Sqlite>, id: i64, #[state] gateway: &Gateway) -> Result<(), PayError> {
    // Whether the first bank was out is a step as well, so that whoever resumes goes the same way.
    let is_charged = run
        .step("charge", async |key| Ok::<_, PayError>(gateway.try_charge(Some(key)).await.is_ok()))
        .await?;
    if !is_charged {
        run.step("charge-elsewhere", async |key| gateway.try_charge(Some(key)).await).await?;
    }
    Ok(run.tx_step("post", async |tx| tables::post(tx, id).await).await?)
}

#[derive(Debug, Clone, Default)]
struct Shop {
    bank: Gateway,
    post: Gateway,
}

#[idempotent(key = id, in_doubt = rerun)]
async fn pay_and_mail(run: &mut Run<'_, Sqlite>, id: i64, #[state] shop: &Shop) -> Result<(), PayError> {
    run.step("charge", async |key| shop.bank.try_charge(Some(key)).await).await?;
    run.tx_step("post", async |tx| tables::post(tx, id).await).await?;
    Ok(run.step("mail", async |key| shop.post.try_charge(Some(key)).await).await?)
}

#[idempotent(key = id)]
async fn atomic_call(tx: &mut Tx<'_, Sqlite>, id: i64, #[state] gateway: &Gateway) -> Result<(), PayError> {
    tables::post(tx, id).await?;
    Ok(gateway.try_charge(Some(tx.idempotency_key())).await?)
}

#[idempotent(key = id, in_doubt = rerun, replay(PayError::Declined))]
async fn refund_in_a_step(
    run: &mut Run<'_, Sqlite>,
    id: i64,
    #[state] gateway: &Gateway,
) -> Result<(), PayError> {
    run.step("charge", async |key| gateway.try_charge(Some(key)).await).await?;
    run.step("refund", async |_| {
        gateway.refund();
        Ok::<_, PayError>(())
    })
    .await?;
    let _ = id;
    Err(PayError::Declined)
}

#[idempotent(key = id)]
async fn panic_at_an_error(tx: &mut Tx<'_, Sqlite>, id: i64) -> Result<(), sqlx::Error> {
    tables::post(tx, id).await.expect("it can be written");
    Ok(())
}
