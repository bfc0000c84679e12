//! Leased jobs that are right: no check of them may raise an alarm.

use std::time::Duration;

use idem_runtime::prelude::*;
use idem_testkit::plan::Plan;
use idem_testkit::{Scenario, examine};
use serde::{Deserialize, Serialize};

use crate::harness::gateway::{Gateway, Taken};
use crate::harness::shop::{self, Ledger};
use crate::harness::tables;
use crate::leased::{charge, charged, draw};

correct! {
    a_leased_call_with_a_key { "a leased job without steps; its callee takes a key", charged(CallWithKey { id: 42 }) }
    steps_of_both_kinds {
        "`run.step(..)` with the key that it is given, `run.tx_step(..)`, `run.enqueue(..)`",
        charged(BothKinds { id: 42 })
    }
    steps_in_a_loop { "`run.step((\"line\", i), ..)` in a loop", charged(StepsInALoop { id: 42 }) }
    a_step_that_parks { "a callee without keys, and `.park()`", charged(StepParks { id: 42 }) }
    a_step_that_probes {
        "a callee that refuses a reference that it knows, and `.probe(..)` for its answer",
        charged(StepProbes { id: 42 })
    }
    a_leased_job_that_parks { "a callee without keys, and `in_doubt = park`", charged(JobParks { id: 42 }) }
    a_leased_job_that_probes { "`in_doubt = probe(..)` without steps", charged(JobProbes { id: 42 }) }
    a_leased_sync { "`retain = none` and an effect that is harmless twice", shop::writing(LeasedSync { id: 42 }) }
    a_leased_check { "`check = …` that finds what the callee has", charged(LeasedCheck { id: 42 }) }
    a_leased_check_that_adopts { "`check = …` of work that was done before the job", shop::writing(FindsItsWork { id: 41 }) }
    a_leased_adopted_error { "`adopt(pattern)` of a callee that has done it already", charged(AdoptsTaken { id: 42 }) }
    a_leased_final_error { "`replay(…)` of an error that a clean run does not meet", charged(LeasedFinal { id: 42 }) }
    a_leased_refusal { "a final error in every run, behind a step that is kept", charged(LeasedFinal { id: -42 }) }
    a_tolerated_error { "a body that goes on behind the error of a step", charged(Tolerates { id: 42 }) }
    a_tx_step_that_fails { "a `tx_step` that fails and is undone, and the body goes on", charged(TxStepFails { id: 42 }) }
    resumed_drift {
        "`drift = resume`, and a step that is left out if the work is there",
        charged(DriftResumes { id: 42 })
    }
    a_leased_timeout { "`timeout = \"1m\"`", charged(LeasedInTime { id: 42 }) }
    a_leased_wait_of_a_moment { "`on_busy = wait(\"50ms\")` on a leased job", charged(LeasedWaitsAMoment { id: 42 }) }
    a_leased_job_that_skips { "`on_busy = skip` on a leased job", charged(LeasedSkips { id: 42 }) }
    a_step_with_a_result { "a step whose result later steps write", charged(StepWithResult { id: 42 }) }
    an_upsert_past_the_run { "a step that upserts through a pool, under its key", shop::writing(UpsertPastTheRun { id: 42 }) }
    an_id_that_a_step_draws { "an id that one step draws and writes, and another one writes", charged(StepDraws { id: 42 }) }
    a_short_lease { "`lock = lease(\"300ms\")`", charged(ShortLease { id: 42 }) }
}

#[derive(Debug, Serialize, Deserialize)]
enum ShipError {
    Database(String),
    Taken,
    Declined,
}

impl From<sqlx::Error> for ShipError {
    fn from(error: sqlx::Error) -> Self {
        ShipError::Database(error.to_string())
    }
}

impl From<Taken> for ShipError {
    fn from(_: Taken) -> Self {
        ShipError::Taken
    }
}

#[idempotent(key = id, in_doubt = rerun, job = CallWithKey)]
async fn call_with_key_job(id: i64, #[state] gateway: &Gateway) -> Result<i64, sqlx::Error> {
    charge(gateway, format!("payment-{id}")).await?;
    Ok(id)
}

#[idempotent(key = id, in_doubt = rerun, job = BothKinds)]
async fn both_kinds_job(
    run: &mut Run<'_, Sqlite>,
    id: i64,
    #[state] gateway: &Gateway,
) -> Result<String, sqlx::Error> {
    run.step("charge", async |key| charge(gateway, key).await).await?;
    run.tx_step("post", async |tx| tables::post(tx, id).await).await?;
    run.enqueue(CallWithKey { id }).await;
    Ok(format!("CH_{id}"))
}

#[idempotent(key = id, in_doubt = rerun, job = StepsInALoop)]
async fn steps_in_a_loop_job(
    run: &mut Run<'_, Sqlite>,
    id: i64,
    #[state] gateway: &Gateway,
) -> Result<(), sqlx::Error> {
    for i in 0..3 {
        run.step(("line", i), async |key| charge(gateway, key).await).await?;
        run.tx_step(("entry", i), async |tx| tables::entry(tx, id, &format!("line {i}")).await).await?;
    }
    Ok(())
}

async fn charge_blindly(gateway: &Gateway) -> Result<(), sqlx::Error> {
    gateway.charge().await;
    Ok(())
}

#[idempotent(key = id, in_doubt = rerun, job = StepParks)]
async fn step_parks_job(
    run: &mut Run<'_, Sqlite>,
    id: i64,
    #[state] courier: &Gateway,
) -> Result<(), sqlx::Error> {
    run.step("parcel", async |_| charge_blindly(courier).await).park().await?;
    run.tx_step("post", async |tx| tables::post(tx, id).await).await
}

#[idempotent(key = id, in_doubt = rerun, job = StepProbes)]
async fn step_probes_job(
    run: &mut Run<'_, Sqlite>,
    id: i64,
    #[state] courier: &Gateway,
) -> Result<String, ShipError> {
    let parcel = run.step("parcel", async |key| {
        courier.charge_new(key).await?;
        Ok::<_, ShipError>(String::from("parcel 1"))
    });
    let parcel =
        parcel.probe(async |key| Ok(courier.find(key).await.then(|| String::from("parcel 1")))).await?;
    run.tx_step("post", async |tx| tables::entry(tx, id, &parcel).await).await?;
    Ok(parcel)
}

#[idempotent(key = id, in_doubt = park, job = JobParks)]
async fn job_parks_job(id: i64, #[state] courier: &Gateway) -> Result<i64, sqlx::Error> {
    charge_blindly(courier).await?;
    Ok(id)
}

#[idempotent(key = id, in_doubt = probe(find_parcel), job = JobProbes)]
async fn job_probes_job(id: i64, #[state] courier: &Gateway) -> Result<i64, ShipError> {
    courier.charge_new(format!("parcel-{id}")).await?;
    Ok(id)
}

async fn find_parcel(job: &JobProbes, courier: &Gateway) -> Result<Option<i64>, ShipError> {
    Ok(courier.find(format!("parcel-{}", job.id)).await.then_some(job.id))
}

#[idempotent(key = id, in_doubt = rerun, retain = none, job = LeasedSync)]
async fn leased_sync_job(id: i64, #[state] ledger: &Ledger) -> Result<(), sqlx::Error> {
    ledger.mark(id, "synchronised").await
}

#[idempotent(key = id, in_doubt = rerun, check = was_charged, job = LeasedCheck)]
async fn leased_check_job(id: i64, #[state] gateway: &Gateway) -> Result<i64, sqlx::Error> {
    charge(gateway, format!("payment-{id}")).await?;
    Ok(id)
}

async fn was_charged(job: &LeasedCheck, gateway: &Gateway) -> Result<Option<i64>, sqlx::Error> {
    Ok(gateway.find(format!("payment-{}", job.id)).await.then_some(job.id))
}

#[idempotent(key = id, in_doubt = rerun, check = is_new, job = FindsItsWork)]
async fn finds_its_work_job(
    run: &mut Run<'_, Sqlite>,
    id: i64,
    #[state] ledger: &Ledger,
) -> Result<String, sqlx::Error> {
    run.tx_step("post", async |tx| tables::post(tx, id).await).await?;
    ledger.status(id).await
}

/// Nothing but the marking of what was found.
async fn is_new(job: &FindsItsWork, ledger: &Ledger) -> Result<Option<String>, sqlx::Error> {
    ledger.mark(job.id, "seen").await?;
    ledger.status(job.id).await.map(Some)
}

#[idempotent(key = id, in_doubt = rerun, adopt(ShipError::Taken => id), job = AdoptsTaken)]
async fn adopts_taken_job(id: i64, #[state] courier: &Gateway) -> Result<i64, ShipError> {
    courier.charge_new(format!("parcel-{id}")).await?;
    Ok(id)
}

#[idempotent(key = id, in_doubt = rerun, replay(ShipError::Declined), job = LeasedFinal)]
async fn leased_final_job(
    run: &mut Run<'_, Sqlite>,
    id: i64,
    #[state] gateway: &Gateway,
) -> Result<i64, ShipError> {
    run.step("charge", async |key| charge(gateway, key).await).await?;
    if id < 0 {
        return Err(ShipError::Declined);
    }
    Ok(id)
}

#[idempotent(key = id, in_doubt = rerun, job = Tolerates)]
async fn tolerates_job(
    run: &mut Run<'_, Sqlite>,
    id: i64,
    #[state] gateway: &Gateway,
) -> Result<bool, sqlx::Error> {
    let greeted = run.step("greet", async |_| {
        tokio::task::yield_now().await;
        Err::<(), ShipError>(ShipError::Declined)
    });
    let greeted = greeted.await.is_ok();
    run.step("charge", async |key| charge(gateway, key).await).await?;
    run.tx_step("post", async |tx| tables::post(tx, id).await).await?;
    Ok(greeted)
}

#[idempotent(key = id, in_doubt = rerun, job = TxStepFails)]
async fn tx_step_fails_job(
    run: &mut Run<'_, Sqlite>,
    id: i64,
    #[state] gateway: &Gateway,
) -> Result<(), sqlx::Error> {
    let failed = run.tx_step("gift", async |tx| {
        tables::entry(tx, id, "a gift").await?;
        Err::<(), _>(sqlx::Error::RowNotFound)
    });
    if failed.await.is_err() {
        run.step("charge", async |key| charge(gateway, key).await).await?;
    }
    run.tx_step("post", async |tx| tables::post(tx, id).await).await
}

#[idempotent(key = id, in_doubt = rerun, drift = resume, job = DriftResumes)]
async fn drift_resumes_job(
    run: &mut Run<'_, Sqlite>,
    id: i64,
    #[state] gateway: &Gateway,
) -> Result<(), sqlx::Error> {
    if !gateway.has_charged().await {
        run.step("charge", async |key| charge(gateway, key).await).await?;
    }
    run.tx_step("post", async |tx| tables::post(tx, id).await).await
}

/// Declares jobs that differ only in their options.
macro_rules! charges {
    ($($name:ident($($option:tt)*);)+) => {$(
        #[idempotent(key = id, in_doubt = rerun $($option)*)]
        async fn $name(run: &mut Run<'_, Sqlite>, id: i64, #[state] gateway: &Gateway) -> Result<i64, sqlx::Error> {
            run.step("charge", async |key| charge(gateway, key).await).await?;
            Ok(id + 1)
        }
    )+};
}

charges! {
    leased_in_time_job(, timeout = "1m", job = LeasedInTime);
    leased_waits_a_moment_job(, on_busy = wait("50ms"), job = LeasedWaitsAMoment);
    leased_skips_job(, on_busy = skip, job = LeasedSkips);
    short_lease_job(, lock = lease("300ms"), job = ShortLease);
}

#[derive(Debug, Serialize, Deserialize)]
struct Receipt {
    charge: String,
    fee: Option<i64>,
}

#[idempotent(key = id, in_doubt = rerun, job = StepWithResult)]
async fn step_with_result_job(
    run: &mut Run<'_, Sqlite>,
    id: i64,
    #[state] gateway: &Gateway,
) -> Result<Receipt, sqlx::Error> {
    let receipt = run.step("charge", async |key| {
        charge(gateway, key.clone()).await?;
        Ok::<_, sqlx::Error>(Receipt { charge: key, fee: Some(3) })
    });
    let receipt = receipt.await?;
    let note = format!("{} {:?}", receipt.charge, receipt.fee);
    run.tx_step("post", async |tx| tables::entry(tx, id, &note).await).await?;
    Ok(receipt)
}

#[idempotent(key = id, in_doubt = rerun, job = UpsertPastTheRun)]
async fn upsert_past_the_run_job(
    run: &mut Run<'_, Sqlite>,
    id: i64,
    #[state] ledger: &Ledger,
) -> Result<(), sqlx::Error> {
    run.step("member", async |_| {
        let insert = sqlx::query("INSERT INTO members (id) VALUES (?) ON CONFLICT (id) DO NOTHING").bind(id);
        insert.execute(&mut ledger.connect().await?).await.map(drop)
    })
    .await
}

#[idempotent(key = id, in_doubt = rerun, job = StepDraws)]
async fn step_draws_job(
    run: &mut Run<'_, Sqlite>,
    id: i64,
    #[state] gateway: &Gateway,
) -> Result<(), sqlx::Error> {
    let order = run.tx_step("order", async |tx| {
        let order = draw();
        tables::entry(tx, id, &order).await?;
        Ok::<_, sqlx::Error>(order)
    });
    let order = order.await?;
    run.step("charge", async |key| charge(gateway, key).await).await?;
    run.tx_step("line", async |tx| tables::status(tx, id, &order).await).await
}

/// It takes longer than its lease, which is renewed meanwhile.
#[idempotent(key = id, in_doubt = park, lock = lease("1500ms"))]
async fn take_longer_than_the_lease(id: i64, #[state] courier: &Gateway) -> Result<i64, sqlx::Error> {
    charge_blindly(courier).await?;
    tokio::time::sleep(Duration::from_millis(1_800)).await;
    Ok(id)
}

#[tokio::test]
async fn a_job_that_takes_longer_than_its_lease_keeps_its_key() {
    let scenario: Scenario<_, Sqlite, Gateway> = charged(TakeLongerThanTheLease { id: 42 });
    let report = examine(&scenario, &[Plan::Concurrent]).await.expect("the scenario is sound");
    let report = report.expect("SQLite is there");
    assert!(report.failure.is_none(), "{report}");
}
