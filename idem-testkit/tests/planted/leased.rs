//! Bugs of leased jobs: calls, steps, and what is in doubt.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use idem_runtime::prelude::*;
use idem_testkit::Scenario;
use serde::{Deserialize, Serialize};

use crate::harness::gateway::Gateway;
use crate::harness::shop::{self, Ledger};
use crate::harness::tables;

bugs! {
    a_call_outside_of_a_step {
        what: "the provider is called before the first step, without a key: whoever resumes calls again",
        origin: "triggerdotdev/trigger.dev#4627: payments in the body of a task are not protected, only its trigger is",
        plan: Crash, at: "of the body", hint: "`run.step(..)`",
        scenario: charged(CallOutside { id: 42 }),
    }
    a_mail_between_two_steps {
        what: "a mail goes out between two steps, and again with every run that resumes",
        origin: "dbos-inc/dbos-transact-py#770: an exactly-once call duplicates; acidic_job#79, #82: first run or retry?",
        plan: Crash, at: "crashed at", hint: "`run.step(..)`",
        scenario: charged(MailBetween { id: 42 }),
    }
    a_step_that_makes_a_key_of_its_own {
        what: "the call of a step leaves the key that it is given, and makes one from the clock",
        origin: "Brandur's rule 7: the key of a foreign call comes from a row, not from the call (records-and-steps 4.1)",
        plan: Crash, at: "of the body", hint: "the key that its step is given",
        scenario: charged(StepByClock { id: 42 }),
    }
    a_step_with_a_key_for_every_attempt {
        what: "the number of the attempt is a part of the key that the callee gets",
        origin: "triggerdotdev/trigger.dev 4.3.1: the default scope of a key is the run",
        plan: Crash, at: "of the body", hint: "the key that its step is given",
        scenario: charged(StepByAttempt { id: 42 }),
    }
    a_blind_call_that_is_run_again {
        what: "the callee takes no key, and the step says `rerun` all the same",
        origin: "acidic_job rc7: killed between the effect and its record, the effect is there twice (records-and-steps 3.1)",
        plan: Crash, at: "of the body", hint: "`.park()`",
        scenario: charged(BlindStep { id: 42 }),
    }
    a_blind_job_that_is_run_again {
        what: "the callee of a job without steps takes no key, and the job says `in_doubt = rerun` all the same",
        origin: "aws-powertools/powertools-lambda-python#8049: after a timeout a payment silently runs again",
        plan: Crash, at: "of the body", hint: "`in_doubt = park`",
        scenario: charged(BlindJob { id: 42 }),
    }
    a_refusal_that_a_step_swallows {
        what: "the callee refuses a key that it is still at work on, and the step records that as done",
        origin: "Stripe and the IETF draft answer 409 while a first request is under way; rocket-rides stores it as final",
        plan: Crash, at: "of the body", hint: "answer the errors of a callee with `?`",
        scenario: charged(StepAndHope { id: 42 }),
    }
    a_call_of_a_step_in_a_task {
        what: "a step starts its call in a task of its own, which goes on when the run is gone",
        origin: "sidekiq/sidekiq#3662: what a transaction starts elsewhere is not undone with it",
        plan: Crash, at: "of the body", hint: "`.park()`",
        scenario: charged(StepInATask { id: 42 }),
    }
    a_mail_from_drop_of_a_leased_run {
        what: "a guard in the body sends a mail when it is dropped, also when the run is",
        origin: "zoolutions/sidekiq-unique-jobs#890, #812: `ensure` does its work on failure and on shutdown too",
        plan: Crash, at: "crashed at", hint: "`run.step(..)`",
        scenario: charged(MailOnDrop { id: 42 }),
    }
    a_row_through_another_pool {
        what: "a step writes its row through a pool of its own, so row and record commit apart",
        origin: "spring idempotency starter issue 1: the annotation is outside of the transaction, at least once for exactly once",
        plan: Crash, at: "crashed at", hint: "`run.tx_step(..)`",
        scenario: shop::writing(PostPastTheRun { id: 42 }),
    }
    a_push_past_the_run {
        what: "the next job is put on a queue in the body, not with `run.enqueue`",
        origin: "MassTransit PR#3543, #3791: published twice; laravel/framework#45488, #47761: the dispatch stays, its work does not",
        plan: Crash, at: "crashed at", hint: "`run.enqueue(..)`",
        scenario: charged(PushTheNext { id: 42 }),
    }
    a_probe_that_finds_nothing {
        what: "the probe of the job looks in the wrong place and always answers that nothing has happened",
        origin: "aws-powertools/powertools-lambda-python#801: did the write land before the crash? nobody looks",
        plan: Crash, at: "of the body", hint: "a probe must find",
        scenario: charged(ProbeNothing { id: 42 }),
    }
    a_probe_that_finds_everything {
        what: "the probe of a step takes for done what the callee has never heard of",
        origin: "zoolutions/sidekiq-unique-jobs#749, #628: work that nobody has done is dropped as a success",
        plan: Crash, at: "crashed at", hint: "a probe must find",
        scenario: charged(ProbeEverything { id: 42 }),
    }
    a_probe_before_a_paused_call {
        what: "the callee takes no key; the probe finds nothing, since the paused worker has yet to call",
        origin: "tensorzero/durable PR#68: a worker goes on after its lease is over",
        plan: Zombie, at: "its lease passed", hint: "a worker that stood still goes on with its call",
        scenario: charged(ProbeBlind { id: 42 }),
    }
    a_mark_of_a_paused_worker {
        what: "the body marks its progress through a pool of its own; a paused worker marks over who took its place",
        origin: "riverqueue/river#1302: a late worker overwrites a completed job; oban-bg/oban#532: a late attempt moves a job back",
        plan: Zombie, at: "its lease passed", hint: "`run.tx_step(..)`",
        scenario: shop::writing(MarkProgress { id: 42 }),
    }
    a_check_of_a_mark_before_the_work {
        what: "`check` takes for done what was marked before the work began",
        origin: "aws-powertools/powertools-lambda-python#738: what is kept before the work refuses every retry",
        plan: Crash, at: "crashed at", hint: "`check`",
        scenario: shop::writing(MarkFirst { id: 42 }).observe("charges", |shop| shop.gateway.charges()),
    }
    a_result_that_stays_in_a_variable {
        what: "a step leaves what it found in a variable, which whoever skips the step finds empty",
        origin: "acidic_job: state between steps is kept in the job, and what is set past it is gone (records-and-steps 3.1)",
        plan: Crash, at: "crashed at", hint: "what a step returns",
        scenario: charged(KeepInAVariable { id: 42 }),
    }
    a_result_of_a_step_that_serde_cuts {
        what: "a step returns a field that is not serialised, which whoever resumes does not get",
        origin: "aws-powertools/powertools-lambda-typescript#5705: completion writes the value anew and loses a part of it",
        plan: Crash, at: "crashed at", hint: "what a step returns",
        scenario: charged(CutAResult { id: 42 }),
    }
    a_task_made_of_a_variable {
        what: "a step leaves what it found in a variable; whoever skips the step enqueues a task that lacks it",
        origin: "acidic_job: state between steps is kept in the job, and what is set past it is gone (records-and-steps 3.1)",
        plan: Crash, at: "crashed at", hint: "what a step returns",
        scenario: charged(EnqueueAVariable { id: 42 }),
    }
    an_answer_made_of_a_variable {
        what: "a step leaves its result in a variable; whoever skips the step answers without it",
        origin: "acidic_job: state between steps is kept in the job, and what is set past it is gone (records-and-steps 3.1)",
        plan: Crash, at: "crashed at", hint: "leave nothing in a variable",
        scenario: charged(AnswerAVariable { id: 42 }),
    }
    a_guard_against_poison_that_says_done {
        what: "the third attempt is taken for one that will never succeed, and answered as if the work were done",
        origin: "sidekiq's poison pill, que-rb's maximum of retries: a job that two deploys cut off is dropped as done",
        plan: Crash, at: "crashed twice", hint: "takes for done what is not",
        scenario: charged(GiveUpAsDone { id: 42 }),
    }
    a_step_that_depends_on_the_world {
        what: "a step is taken only if the provider has no charge yet, so whoever resumes comes to other steps",
        origin: "airbyte#13973, PostHog PR#60956: one call that is not there any more, and the workflow is stuck",
        plan: Crash, at: "crashed at", hint: "ask it in a step of its own",
        scenario: charged(ChargeIfNone { id: 42 }),
    }
    a_question_before_the_steps {
        what: "the body asks the provider first, and ends if there is a charge, which is also so when the rest is missing",
        origin: "acidic_job#79, #82: was this the first run or a retry, and did the outside write land?",
        plan: Crash, at: "crashed at", hint: "never before the steps",
        scenario: charged(AskBeforeTheSteps { id: 42 }),
    }
    an_entry_that_depends_on_the_world {
        what: "the body asks the provider first, and a step writes the answer, which is another one when the job resumes",
        origin: "acidic_job#79, #82: was this the first run or a retry, and did the outside write land?",
        plan: Crash, at: "crashed at", hint: "ask the world in a step",
        scenario: charged(EntryByTheWorld { id: 42 }),
    }
    an_answer_that_depends_on_the_world {
        what: "the body asks the provider first, and answers what it has heard",
        origin: "acidic_job#79, #82: was this the first run or a retry, and did the outside write land?",
        plan: Crash, at: "crashed at", hint: "ask the world in a step",
        scenario: charged(AnswerByTheWorld { id: 42 }),
    }
    an_id_that_is_drawn_before_the_steps {
        what: "a random id is drawn before the first step and written by two; whoever resumes draws another one for the second",
        origin: "dbos-inc/dbos-transact-py#770: chance in a workflow that is not in a step is another one in every attempt",
        plan: Crash, at: "crashed at", hint: "draw it in a step",
        scenario: charged(DrawBeforeTheSteps { id: 42 }),
    }
    a_step_with_another_name_in_every_attempt {
        what: "the number of the attempt is a part of the step's name, so nobody finds what is recorded",
        origin: "acidic_job#87, #90: steps are told by their names alone, and a new name is a new step",
        plan: Crash, at: "crashed at", hint: "same steps in the same order",
        scenario: charged(NameByAttempt { id: 42 }),
    }
    a_leased_job_without_a_record {
        what: "`retain = none` on a job whose effect is not harmless twice",
        origin: "hexpm/hexpm PR 1825: a rescued job ran two or three times a night for a week",
        plan: Repeat, at: "2 times", hint: "leave `retain` out",
        scenario: charged(ChargeUnrecorded { id: 42 }),
    }
}

pub(crate) fn charged<J>(job: J) -> Scenario<J, Sqlite, Gateway>
where
    J: idem_runtime::RunOn<Sqlite, Gateway>,
{
    Scenario::new(job).setup(tables::set_up).state(Gateway::default).observe("charges", Gateway::charges)
}

/// Charges, whatever was charged before.
async fn charge_blindly(gateway: &Gateway) -> Result<(), sqlx::Error> {
    gateway.charge().await;
    Ok(())
}

/// Charges once for every key.
pub(crate) async fn charge(gateway: &Gateway, key: String) -> Result<(), sqlx::Error> {
    gateway.charge_once(key).await;
    Ok(())
}

#[idempotent(key = id, in_doubt = rerun)]
async fn call_outside(
    run: &mut Run<'_, Sqlite>,
    id: i64,
    #[state] gateway: &Gateway,
) -> Result<(), sqlx::Error> {
    charge_blindly(gateway).await?;
    run.tx_step("post", async |tx| tables::post(tx, id).await).await
}

#[idempotent(key = id, in_doubt = rerun)]
async fn mail_between(
    run: &mut Run<'_, Sqlite>,
    id: i64,
    #[state] mailer: &Gateway,
) -> Result<(), sqlx::Error> {
    run.tx_step("order", async |tx| tables::entry(tx, id, "ordered").await).await?;
    mailer.charge().await;
    run.tx_step("post", async |tx| tables::post(tx, id).await).await
}

#[idempotent(key = id, in_doubt = rerun)]
async fn step_by_clock(
    run: &mut Run<'_, Sqlite>,
    id: i64,
    #[state] gateway: &Gateway,
) -> Result<(), sqlx::Error> {
    run.step("charge", async |_| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        charge(gateway, format!("charge-{id}-{}", now.as_nanos())).await
    })
    .await?;
    run.tx_step("post", async |tx| tables::post(tx, id).await).await
}

#[idempotent(key = id, in_doubt = rerun)]
async fn step_by_attempt(
    run: &mut Run<'_, Sqlite>,
    id: i64,
    #[state] gateway: &Gateway,
) -> Result<(), sqlx::Error> {
    let attempt = run.attempt();
    run.step("charge", async |key| charge(gateway, format!("{key}-{attempt}")).await).await?;
    run.tx_step("post", async |tx| tables::post(tx, id).await).await
}

#[idempotent(key = id, in_doubt = rerun)]
async fn blind_step(
    run: &mut Run<'_, Sqlite>,
    id: i64,
    #[state] gateway: &Gateway,
) -> Result<(), sqlx::Error> {
    run.step("charge", async |_| charge_blindly(gateway).await).await?;
    run.tx_step("post", async |tx| tables::post(tx, id).await).await
}

#[idempotent(key = id, in_doubt = rerun)]
async fn blind_job(id: i64, #[state] gateway: &Gateway) -> Result<i64, sqlx::Error> {
    charge_blindly(gateway).await?;
    Ok(id)
}

#[idempotent(key = id, in_doubt = rerun)]
async fn step_and_hope(
    run: &mut Run<'_, Sqlite>,
    id: i64,
    #[state] gateway: &Gateway,
) -> Result<(), sqlx::Error> {
    run.step("charge", async |key| {
        let _ = gateway.charge_or_refuse(key).await;
        Ok::<_, sqlx::Error>(())
    })
    .await?;
    run.tx_step("post", async |tx| tables::post(tx, id).await).await
}

#[idempotent(key = id, in_doubt = rerun)]
async fn step_in_a_task(
    run: &mut Run<'_, Sqlite>,
    id: i64,
    #[state] gateway: &Gateway,
) -> Result<(), sqlx::Error> {
    run.step("charge", async |_| {
        let gateway = gateway.clone();
        let called = tokio::spawn(async move { gateway.charge().await });
        called.await.map_err(|_| sqlx::Error::WorkerCrashed)
    })
    .await?;
    run.tx_step("post", async |tx| tables::post(tx, id).await).await
}

#[idempotent(key = id, in_doubt = rerun)]
async fn mail_on_drop(
    run: &mut Run<'_, Sqlite>,
    id: i64,
    #[state] mailer: &Gateway,
) -> Result<(), sqlx::Error> {
    struct Mails<'a>(&'a Gateway);
    impl Drop for Mails<'_> {
        fn drop(&mut self) {
            self.0.charge_now();
        }
    }
    let _mails = Mails(mailer);
    run.tx_step("post", async |tx| tables::post(tx, id).await).await
}

#[idempotent(key = id, in_doubt = rerun)]
async fn post_past_the_run(
    run: &mut Run<'_, Sqlite>,
    id: i64,
    #[state] ledger: &Ledger,
) -> Result<(), sqlx::Error> {
    run.step("post", async |_| ledger.entry(id, "posted").await).await
}

/// A queue, which takes whatever it is given.
#[idempotent(key = id, in_doubt = rerun)]
async fn push_the_next(
    run: &mut Run<'_, Sqlite>,
    id: i64,
    #[state] queue: &Gateway,
) -> Result<(), sqlx::Error> {
    run.tx_step("post", async |tx| tables::post(tx, id).await).await?;
    queue.charge().await;
    Ok(())
}

#[idempotent(key = id, in_doubt = probe(find_nothing))]
async fn probe_nothing(id: i64, #[state] gateway: &Gateway) -> Result<i64, sqlx::Error> {
    charge_blindly(gateway).await?;
    Ok(id)
}

async fn find_nothing(job: &ProbeNothing, gateway: &Gateway) -> Result<Option<i64>, sqlx::Error> {
    // It charges without a reference, and looks for one.
    let found = gateway.find(format!("payment-{}", job.id)).await;
    Ok(found.then_some(job.id))
}

#[idempotent(key = id, in_doubt = rerun)]
async fn probe_everything(
    run: &mut Run<'_, Sqlite>,
    id: i64,
    #[state] gateway: &Gateway,
) -> Result<(), sqlx::Error> {
    let charged = run.step("charge", async |key| charge(gateway, key).await);
    charged.probe(async |_| Ok(Some(()))).await?;
    run.tx_step("post", async |tx| tables::post(tx, id).await).await
}

#[idempotent(key = id, in_doubt = rerun)]
async fn probe_blind(
    run: &mut Run<'_, Sqlite>,
    id: i64,
    #[state] gateway: &Gateway,
) -> Result<(), sqlx::Error> {
    let charged = run.step("charge", async |_| charge_blindly(gateway).await);
    charged.probe(async |_| Ok(gateway.has_charged().await.then_some(()))).await?;
    run.tx_step("post", async |tx| tables::post(tx, id).await).await
}

#[idempotent(key = id, in_doubt = rerun)]
async fn mark_progress(
    run: &mut Run<'_, Sqlite>,
    id: i64,
    #[state] ledger: &Ledger,
) -> Result<(), sqlx::Error> {
    ledger.mark(id, "under way").await?;
    run.tx_step("post", async |tx| tables::post(tx, id).await).await?;
    ledger.mark(id, "done").await
}

#[idempotent(key = id, in_doubt = rerun, check = is_marked)]
async fn mark_first(
    id: i64,
    #[state] gateway: &Gateway,
    #[state] ledger: &Ledger,
) -> Result<i64, sqlx::Error> {
    ledger.mark(id, "charged").await?;
    gateway.charge_once(format!("payment-{id}")).await;
    Ok(id)
}

async fn is_marked(job: &MarkFirst, _: &Gateway, ledger: &Ledger) -> Result<Option<i64>, sqlx::Error> {
    Ok((ledger.status(job.id).await? == "charged").then_some(job.id))
}

/// Charges, and returns what the step has left in a variable, which is nothing where it is skipped.
async fn charge_into_a_variable(run: &mut Run<'_, Sqlite>, gateway: &Gateway) -> Result<u32, sqlx::Error> {
    let receipt = AtomicU32::new(0);
    run.step("charge", async |key| {
        charge(gateway, key).await?;
        receipt.store(7, Ordering::SeqCst);
        Ok::<_, sqlx::Error>(())
    })
    .await?;
    Ok(receipt.load(Ordering::SeqCst))
}

#[idempotent(key = id, in_doubt = rerun)]
async fn keep_in_a_variable(
    run: &mut Run<'_, Sqlite>,
    id: i64,
    #[state] gateway: &Gateway,
) -> Result<(), sqlx::Error> {
    let receipt = charge_into_a_variable(run, gateway).await?;
    let note = format!("receipt {receipt}");
    run.tx_step("post", async |tx| tables::entry(tx, id, &note).await).await
}

#[idempotent(key = id, in_doubt = rerun)]
async fn enqueue_a_variable(
    run: &mut Run<'_, Sqlite>,
    id: i64,
    #[state] gateway: &Gateway,
) -> Result<(), sqlx::Error> {
    let receipt = charge_into_a_variable(run, gateway).await?;
    run.tx_step("post", async |tx| tables::post(tx, id).await).await?;
    run.enqueue(MailReceipt { id, receipt }).await;
    Ok(())
}

#[idempotent(key = id, in_doubt = rerun)]
async fn answer_a_variable(
    run: &mut Run<'_, Sqlite>,
    id: i64,
    #[state] gateway: &Gateway,
) -> Result<u32, sqlx::Error> {
    let receipt = charge_into_a_variable(run, gateway).await?;
    run.tx_step("post", async |tx| tables::post(tx, id).await).await?;
    Ok(receipt)
}

#[idempotent(key = id, in_doubt = rerun)]
async fn mail_receipt(id: i64, receipt: u32) -> Result<(), sqlx::Error> {
    let _ = (id, receipt);
    Ok(())
}

#[idempotent(key = id, in_doubt = rerun)]
async fn give_up_as_done(
    run: &mut Run<'_, Sqlite>,
    id: i64,
    #[state] gateway: &Gateway,
) -> Result<(), sqlx::Error> {
    if run.attempt() > 2 {
        return Ok(());
    }
    run.step("charge", async |key| charge(gateway, key).await).await?;
    run.tx_step("post", async |tx| tables::post(tx, id).await).await
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Receipt {
    charge: i64,
    #[serde(skip)]
    fees: BTreeMap<String, i64>,
}

#[idempotent(key = id, in_doubt = rerun)]
async fn cut_a_result(
    run: &mut Run<'_, Sqlite>,
    id: i64,
    #[state] gateway: &Gateway,
) -> Result<(), sqlx::Error> {
    let receipt = run.step("charge", async |key| {
        charge(gateway, key).await?;
        Ok::<_, sqlx::Error>(Receipt { charge: id, fees: [(String::from("card"), 3)].into() })
    });
    let Receipt { charge, fees } = receipt.await?;
    for (what, cents) in fees {
        let note = format!("{what}: {cents}");
        run.tx_step(("fee", what), async |tx| tables::entry(tx, charge, &note).await).await?;
    }
    run.tx_step("post", async |tx| tables::post(tx, id).await).await
}

#[idempotent(key = id, in_doubt = rerun)]
async fn charge_if_none(
    run: &mut Run<'_, Sqlite>,
    id: i64,
    #[state] gateway: &Gateway,
) -> Result<(), sqlx::Error> {
    if !gateway.has_charged().await {
        run.step("charge", async |key| charge(gateway, key).await).await?;
    }
    run.tx_step("post", async |tx| tables::post(tx, id).await).await
}

#[idempotent(key = id, in_doubt = rerun)]
async fn ask_before_the_steps(
    run: &mut Run<'_, Sqlite>,
    id: i64,
    #[state] gateway: &Gateway,
) -> Result<(), sqlx::Error> {
    if gateway.has_charged().await {
        return Ok(());
    }
    run.step("charge", async |key| charge(gateway, key).await).await?;
    run.tx_step("post", async |tx| tables::post(tx, id).await).await
}

#[idempotent(key = id, in_doubt = rerun)]
async fn entry_by_the_world(
    run: &mut Run<'_, Sqlite>,
    id: i64,
    #[state] gateway: &Gateway,
) -> Result<(), sqlx::Error> {
    let note = if gateway.has_charged().await { "charged before" } else { "charged now" };
    run.step("charge", async |key| charge(gateway, key).await).await?;
    run.tx_step("post", async |tx| tables::entry(tx, id, note).await).await
}

#[idempotent(key = id, in_doubt = rerun)]
async fn answer_by_the_world(
    run: &mut Run<'_, Sqlite>,
    id: i64,
    #[state] gateway: &Gateway,
) -> Result<bool, sqlx::Error> {
    let is_new = !gateway.has_charged().await;
    run.step("charge", async |key| charge(gateway, key).await).await?;
    run.tx_step("post", async |tx| tables::post(tx, id).await).await?;
    Ok(is_new)
}

/// Draws an id, as a crate for that would.
pub(crate) fn draw() -> String {
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let random = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), nanos);
    format!("{random:016x}{:016x}", random.rotate_left(23))
}

#[idempotent(key = id, in_doubt = rerun)]
async fn draw_before_the_steps(
    run: &mut Run<'_, Sqlite>,
    id: i64,
    #[state] gateway: &Gateway,
) -> Result<(), sqlx::Error> {
    let order = draw();
    run.tx_step("order", async |tx| tables::entry(tx, id, &order).await).await?;
    run.step("charge", async |key| charge(gateway, key).await).await?;
    run.tx_step("line", async |tx| tables::status(tx, id, &order).await).await
}

#[idempotent(key = id, in_doubt = rerun)]
async fn name_by_attempt(
    run: &mut Run<'_, Sqlite>,
    id: i64,
    #[state] gateway: &Gateway,
) -> Result<(), sqlx::Error> {
    let attempt = run.attempt();
    run.tx_step(("post", attempt), async |tx| tables::post(tx, id).await).await?;
    run.step("charge", async |key| charge(gateway, key).await).await
}

#[idempotent(key = id, in_doubt = rerun, retain = none)]
async fn charge_unrecorded(id: i64, #[state] gateway: &Gateway) -> Result<(), sqlx::Error> {
    let _ = id;
    charge_blindly(gateway).await
}
