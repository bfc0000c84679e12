//! Broken stores under leased jobs that are right.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use idem_runtime::key::{Key, KeyParts};
use idem_runtime::prelude::*;
use idem_runtime::record::{Entry, Hold, State, StepRecord, Trouble};
use idem_runtime::store::{Change, Claimed, Held, KeyLock, LeaseClaim, NewTask, StoreTx, TxStep};
use idem_runtime::{RunOn, StoreError, codec};
use idem_testkit::Scenario;
use sqlx::Sqlite;

use crate::faults::{self, BrokenStore, Fault, Good};
use crate::harness::gateway::Gateway;
use crate::harness::tables;
use crate::leased::{charge, charged};

bugs! {
    a_store_that_forgets_a_step {
        what: "the effect of a step commits, its record does not",
        origin: "aws-powertools/powertools-lambda-typescript#2944: the effect is done, and saving the result fails",
        plan: Crash, at: "crashed at", hint: "`run.tx_step(..)`",
        scenario: on(Fulfil { id: 42 }, faults::ForgetsTheStep),
    }
    a_store_that_records_a_step_afterwards {
        what: "the step is recorded in a second transaction, after the one of its effect",
        origin: "acidic_job rc7: killed between COMMIT and the succeeded entry, the effect is there twice",
        plan: Crash, at: "of COMMIT", hint: "`run.tx_step(..)`",
        scenario: on(Fulfil { id: 42 }, faults::StepsAfterwards),
    }
    a_store_that_takes_over_without_steps {
        what: "whoever takes a key over gets none of its steps",
        origin: "dbos-inc/dbos-transact-py#769: steps are lost apart from their workflow, and are done again or skipped",
        plan: Crash, at: "crashed at", hint: "`run.tx_step(..)`",
        scenario: on(Fulfil { id: 42 }, faults::TakesOverWithoutSteps),
    }
    a_store_whose_failed_runs_lose_their_steps {
        what: "a run that fails takes its steps with it",
        origin: "powertools: an error deletes the record and keeps what was done until then (records-and-steps 2.4)",
        plan: Crash, at: "crashed at", hint: "`run.tx_step(..)`",
        scenario: on(Fulfil { id: 42 }, faults::FailureLosesSteps),
    }
    a_store_that_intends_nothing {
        what: "that a call is about to be made is not written before it is made",
        origin: "acidic_job#79, #82: was this the first run or a retry, and did the outside write land?",
        plan: Crash, at: "of the body", hint: "`.park()`",
        scenario: on(Ship { id: 42 }, IntendsNothing),
    }
    a_store_that_forgets_a_doubt {
        what: "a run that is cut off is recorded as one that did nothing",
        origin: "aws-powertools/powertools-lambda-python#8049: after a timeout a payment silently runs again",
        plan: Crash, at: "of the body", hint: "`in_doubt = park`",
        scenario: on(ShipAlone { id: 42 }, ForgetsADoubt),
    }
    a_store_that_wakes_what_is_parked {
        what: "a key that waits for a person is given to the next run",
        origin: "oban-bg/oban#532: a late attempt moves a discarded job back among those that are run",
        plan: Crash, at: "crashed at", hint: "waits until a person has looked",
        scenario: on(Ship { id: 42 }, WakesTheParked),
    }
    a_store_that_frees_nothing {
        what: "that a run failed is not written, so its key stays taken until the lease has passed",
        origin: "zoolutions/sidekiq-unique-jobs#546, cameronmaske/celery-once#147, #103: a killed worker leaves its lock",
        plan: LostAck, at: "its answer was lost", hint: "a run that is gone keeps its key",
        scenario: on(Fulfil { id: 42 }, FreesNothing).limit(Duration::from_secs(2)),
    }
    a_store_that_enqueues_first {
        what: "the tasks of a run are enqueued in a transaction of their own, before its outcome is written",
        origin: "MassTransit PR#3543, #3791: what is published before the commit is published twice",
        plan: LostAck or Crash, at: "its answer was lost", hint: "`run.enqueue(..)`",
        scenario: on(Fulfil { id: 42 }, EnqueuesFirst),
    }
    a_store_that_looks_and_then_claims {
        what: "whether a key is free is looked at first, and claimed afterwards",
        origin: "dbos-inc/dbos-transact-py#544, java#226: the same id is started at once, and the body runs twice",
        plan: Concurrent, at: "at once", hint: "two runs had the key at once",
        scenario: on(ShipAlone { id: 42 }, faults::LooksThenClaims),
    }
    a_store_that_takes_over_the_living {
        what: "a key that was seen lapsed is taken over, also from a run that has it by now",
        origin: "zoolutions/sidekiq-unique-jobs#488, #498, #517, #557: seven reports of a reaper that frees running jobs",
        plan: Interleavings, at: "after a third one had been cut off", hint: "two runs had the key at once",
        scenario: on(ShipAlone { id: 42 }, faults::TakesOverTheLiving),
    }
    a_store_that_gives_a_key_to_everybody {
        what: "two runs that recover at once are both told that they have the key",
        origin: "dbos-inc/dbos-transact-java#491: recovery at launch runs the body twice",
        plan: Interleavings, at: "after a third one had been cut off", hint: "two runs had the key at once",
        scenario: on(ShipAlone { id: 42 }, faults::TakesOverForEverybody),
    }
    a_store_whose_leases_are_over_at_once {
        what: "the end of a lease is written in seconds and read in milliseconds, so it is over when it begins",
        origin: "aws-powertools/powertools-lambda-java#1285: the lease is stored in seconds and compared in milliseconds",
        plan: Interleavings or Concurrent, at: "at once", hint: "two runs had the key at once",
        scenario: on(Ship { id: 42 }, LeasesNothing),
    }
    a_store_that_renews_nothing {
        what: "the heartbeat is answered and the lease stays as it is, so a job that takes longer is started beside itself",
        origin: "hexpm PR 1825, HangfireIO/Hangfire#1960: a long job is rescued while it runs",
        plan: Concurrent, at: "at once", hint: "leases are renewed",
        scenario: on(TakeLong { id: 42 }, faults::RenewsNothing),
    }
    a_store_that_trusts_whoever_writes {
        what: "a write is made for whoever has the key, whoever sends it",
        origin: "tensorzero/durable PR#68: checkpoints were accepted after the lease had expired; wavect/semaprax#192: a stale number matched",
        plan: Zombie, at: "had taken the key over", hint: "its epoch and its token",
        scenario: on(Fulfil { id: 42 }, TrustsWhoeverWrites),
    }
    a_store_that_commits_the_steps_of_the_lost {
        what: "the COMMIT of a step does not ask whether the run still has the key",
        origin: "tensorzero/durable PR#68: checkpoints were accepted after the lease had expired",
        plan: Zombie, at: "its lease passed", hint: "`run.tx_step(..)`",
        scenario: on(Fulfil { id: 42 }, CommitsStepsOfTheLost),
    }
    a_store_that_says_yes_to_the_lost {
        what: "a write that changes nothing, since the run has lost its key, is answered with yes",
        origin: "riverqueue/river#1302, PR 1373: a late worker completes what is not its own any more",
        plan: Zombie, at: "its lease passed", hint: "its epoch and its token",
        scenario: on(Fulfil { id: 42 }, SaysYesToTheLost),
    }
}

/// A job that is right, on a store that is not.
fn on<J>(job: J, fault: impl Fault<Sqlite>) -> Scenario<J, Sqlite, Gateway>
where
    J: RunOn<Sqlite, Gateway>,
{
    let fault: Arc<dyn Fault<Sqlite>> = Arc::new(fault);
    charged(job).store(move |good| Arc::new(BrokenStore { good, fault: Arc::clone(&fault) }))
}

#[idempotent(key = id, in_doubt = rerun)]
async fn fulfil(run: &mut Run<'_, Sqlite>, id: i64, #[state] gateway: &Gateway) -> Result<i64, sqlx::Error> {
    run.tx_step("post", async |tx| tables::post(tx, id).await).await?;
    run.step("charge", async |key| charge(gateway, key).await).await?;
    run.enqueue(Notify { id }).await;
    Ok(id)
}

#[idempotent(key = id)]
async fn notify(tx: &mut Tx<'_, Sqlite>, id: i64) -> Result<(), sqlx::Error> {
    tables::entry(tx, id, "notified").await
}

/// The callee takes no key.
#[idempotent(key = id, in_doubt = park)]
async fn ship(run: &mut Run<'_, Sqlite>, id: i64, #[state] courier: &Gateway) -> Result<(), sqlx::Error> {
    run.step("parcel", async |_| {
        courier.charge().await;
        Ok::<_, sqlx::Error>(())
    })
    .await?;
    run.tx_step("post", async |tx| tables::post(tx, id).await).await
}

#[idempotent(key = id, in_doubt = park)]
async fn ship_alone(id: i64, #[state] courier: &Gateway) -> Result<i64, sqlx::Error> {
    courier.charge().await;
    Ok(id)
}

#[idempotent(key = id, in_doubt = park, lock = lease("300ms"))]
async fn take_long(id: i64, #[state] courier: &Gateway) -> Result<i64, sqlx::Error> {
    courier.charge().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    Ok(id)
}

struct IntendsNothing;

#[async_trait]
impl Fault<Sqlite> for IntendsNothing {
    async fn change(
        &self,
        good: &Good<Sqlite>,
        hold: &Hold,
        change: &Change<'_>,
    ) -> Result<Held, StoreError> {
        match change {
            Change::BeginStep { .. } => Ok(Held::Yes),
            change => good.change(hold, change).await,
        }
    }
}

struct FreesNothing;

#[async_trait]
impl Fault<Sqlite> for FreesNothing {
    async fn change(
        &self,
        good: &Good<Sqlite>,
        hold: &Hold,
        change: &Change<'_>,
    ) -> Result<Held, StoreError> {
        match change {
            Change::Fail { .. } => Ok(Held::Yes),
            change => good.change(hold, change).await,
        }
    }
}

struct ForgetsADoubt;

#[async_trait]
impl Fault<Sqlite> for ForgetsADoubt {
    async fn change(
        &self,
        good: &Good<Sqlite>,
        hold: &Hold,
        change: &Change<'_>,
    ) -> Result<Held, StoreError> {
        let trouble = Trouble::of(String::from("it failed"), false);
        let trouble = codec::encode(&trouble).expect("a text can be encoded");
        match change {
            Change::Fail { .. } => good.change(hold, &Change::Fail { trouble: &trouble }).await,
            change => good.change(hold, change).await,
        }
    }
}

struct WakesTheParked;

#[async_trait]
impl Fault<Sqlite> for WakesTheParked {
    async fn change(
        &self,
        good: &Good<Sqlite>,
        hold: &Hold,
        change: &Change<'_>,
    ) -> Result<Held, StoreError> {
        match change {
            Change::Park { .. } => {
                good.change(hold, &Change::ForgetStep { seq: 0 }).await?;
                let woken = Trouble::of(String::from("woken"), false);
                let trouble = codec::encode(&woken).expect("a text can be encoded");
                good.change(hold, &Change::Fail { trouble: &trouble }).await
            }
            change => good.change(hold, change).await,
        }
    }
}

struct EnqueuesFirst;

#[async_trait]
impl Fault<Sqlite> for EnqueuesFirst {
    async fn change(
        &self,
        good: &Good<Sqlite>,
        hold: &Hold,
        change: &Change<'_>,
    ) -> Result<Held, StoreError> {
        let Change::Settle { outcome, result, retain, tasks } = *change else {
            return good.change(hold, change).await;
        };
        for NewTask { namespace, id, job, key, payload } in tasks {
            let parts = KeyParts::of("side").expect("it is not blank");
            let mut tx = faults::open(good, &Key::new("side", "side", &parts), KeyLock::Key).await?;
            let insert = sqlx::query(
                "INSERT INTO idem_outbox (namespace, id, job, key, payload, at) VALUES (?, ?, ?, ?, ?, unixepoch())",
            );
            let insert =
                insert.bind(namespace).bind(&id.as_bytes()[..]).bind(job).bind(key).bind(&payload[..]);
            insert.execute(tx.connection()).await.expect("the outbox takes a task");
            tx.commit(None).await?;
        }
        good.change(hold, &Change::Settle { outcome, result, retain, tasks: &[] }).await
    }
}

/// Claims for no time at all.
struct LeasesNothing;

#[async_trait]
impl Fault<Sqlite> for LeasesNothing {
    async fn claim(&self, good: &Good<Sqlite>, claim: &LeaseClaim<'_>) -> Result<Claimed, StoreError> {
        good.claim(&LeaseClaim { lease: Duration::ZERO, ..*claim }).await
    }

    async fn take_over(
        &self,
        good: &Good<Sqlite>,
        claim: &LeaseClaim<'_>,
        found: &Entry,
    ) -> Result<Option<Vec<StepRecord>>, StoreError> {
        good.take_over(&LeaseClaim { lease: Duration::ZERO, ..*claim }, found).await
    }
}

struct TrustsWhoeverWrites;

#[async_trait]
impl Fault<Sqlite> for TrustsWhoeverWrites {
    async fn change(
        &self,
        good: &Good<Sqlite>,
        hold: &Hold,
        change: &Change<'_>,
    ) -> Result<Held, StoreError> {
        let holder = match good.entry(hold.key).await? {
            Some(entry) if entry.state == State::Running => {
                Hold { epoch: entry.epoch, token: entry.token, ..*hold }
            }
            _ => *hold,
        };
        good.change(&holder, change).await
    }
}

struct CommitsStepsOfTheLost;

#[async_trait]
impl Fault<Sqlite> for CommitsStepsOfTheLost {
    async fn commit_step(
        &self,
        good: &Good<Sqlite>,
        tx: Box<dyn StoreTx<Sqlite>>,
        hold: &Hold,
        step: &TxStep<'_>,
    ) -> Result<Held, StoreError> {
        let is_its_own = good
            .entry(hold.key)
            .await?
            .is_some_and(|entry| (entry.epoch, entry.token) == (hold.epoch, hold.token));
        match is_its_own {
            true => tx.commit_step(hold, step).await,
            false => tx.commit(None).await.map(|_| Held::Lost),
        }
    }
}

struct SaysYesToTheLost;

#[async_trait]
impl Fault<Sqlite> for SaysYesToTheLost {
    async fn change(
        &self,
        good: &Good<Sqlite>,
        hold: &Hold,
        change: &Change<'_>,
    ) -> Result<Held, StoreError> {
        match good.change(hold, change).await? {
            Held::Lost => Ok(Held::Yes),
            held => Ok(held),
        }
    }
}
