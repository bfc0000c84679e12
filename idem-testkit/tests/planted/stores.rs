//! Broken stores under jobs that are right. The conformance suite finds them too; here a user's own check does.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use idem_runtime::fingerprint::Fingerprint;
use idem_runtime::job::Retain;
use idem_runtime::key::{Key, KeyHash, KeyParts};
use idem_runtime::prelude::*;
use idem_runtime::record::{JobId, NewRecord, Outcome, Record};
use idem_runtime::store::{Begun, Claim, Committed, Found, KeyLock, StoreTx};
use idem_runtime::{RunOn, StoreError, codec};
use idem_testkit::Scenario;

use crate::faults::{self, BrokenStore, Fault, Good, WithLock};
use crate::harness::gateway::{Gateway, lock};
use crate::harness::tables;

bugs! {
    a_store_that_forgets_the_record {
        what: "the effect commits, the record does not",
        origin: "aws-powertools/powertools-lambda-typescript#2944: saving the result fails after the effect",
        plan: Repeat, at: "2 times", hint: "the record of a run does not answer the next one",
        scenario: on(Post { id: 42 }, faults::ForgetsTheRecord),
    }
    a_store_that_records_afterwards {
        what: "the record is written in a second transaction, after the one of the effect",
        origin: "acidic_job rc7: killed between COMMIT and the succeeded entry, the effect is there twice",
        plan: Crash or Concurrent, at: "COMMIT", hint: "do all writes through `tx`",
        scenario: on(Post { id: 42 }, faults::RecordsAfterwards),
    }
    a_store_whose_rollback_commits {
        what: "what is rolled back is committed",
        origin: "powertools: an error deletes the record and keeps what was done until then (records-and-steps 2.4)",
        plan: LostAck, at: "before COMMIT", hint: "do all writes through `tx`",
        scenario: on(Post { id: 42 }, faults::RollbackCommits),
    }
    a_store_whose_dropped_transaction_commits {
        what: "what is dropped is committed, so half an effect stays",
        origin: "powertools: a run that is cancelled is not undone (records-and-steps 2.4)",
        plan: Crash, at: "crashed", hint: "do all writes through `tx`",
        scenario: on(Post { id: 42 }, faults::DropCommits),
    }
    a_store_whose_dropped_transaction_stays_open {
        what: "a transaction that is dropped keeps its lock",
        origin: "zoolutions/sidekiq-unique-jobs#546, #691: the lock of a killed run stays until somebody reaps it",
        plan: Crash, at: "crashed", hint: "a transaction that is dropped must end",
        scenario: on(Post { id: 42 }, faults::DropKeepsTheLock).limit(Duration::from_secs(3)),
    }
    a_store_that_drops_empty_results {
        what: "a record with the result `()`, `None` or `false` reads as no record",
        origin: "aws-powertools/powertools-lambda-python#8090, #8176: 0, False and \"\" are lost",
        plan: Repeat, at: "2 times", hint: "the record of a run does not answer the next one",
        scenario: on(Post { id: 42 }, LosesEmptyResults),
    }
    a_store_that_cuts_results {
        what: "a result is cut off at 64 KiB",
        origin: "aws-powertools/powertools-lambda-python: a result over 400 KB fails after the effect (records-and-steps 2.4)",
        plan: Repeat, at: "2 times", hint: "a later run answers otherwise",
        scenario: on(PostAndPrint { id: 42 }, faults::CutsResults),
    }
    a_store_that_alters_results {
        what: "a result comes back in small letters",
        origin: "aws-powertools/powertools-lambda-typescript#5705: completion writes the value anew and loses a part of it",
        plan: Repeat, at: "2 times", hint: "a later run answers otherwise",
        scenario: on(PostAndName { id: 42 }, LowersResults),
    }
    a_store_that_trusts_its_cache {
        what: "a cache says that the key is recorded before the commit has made it so",
        origin: "zoolutions/sidekiq-unique-jobs#788, #862: the job is dropped without an error",
        plan: Crash, at: "COMMIT", hint: "decide by `tx` and the record alone",
        scenario: on(Post { id: 42 }, CachesBeforeCommit::default()),
    }
    a_store_that_overwrites_records {
        what: "nobody looks for a record, and the new one replaces the old one",
        origin: "aws-powertools/powertools-lambda-python: update and delete carry no condition (records-and-steps 2.4)",
        plan: Repeat, at: "2 times", hint: "a live record is neither lost, replaced nor swept",
        scenario: on(Post { id: 42 }, Overwrites),
    }
    a_store_with_a_clock_in_the_wrong_unit {
        what: "the end of a record's time is written in another unit than it is compared in",
        origin: "aws-powertools/powertools-lambda-java#1285, sidekiq-unique-jobs#964: seconds and milliseconds",
        plan: Repeat, at: "2 times", hint: "is `retain` shorter than deliveries are apart?",
        scenario: on(Post { id: 42 }, ExpiresAtOnce),
    }
    a_store_that_records_a_recovery_for_no_time {
        what: "a run that takes over after a crash gives its record the time of the claim, which is over",
        origin: "benhendayoussef/idempotency-spring-boot-starter PR#11: one time to live for claim and record",
        plan: Crash, at: "crashed at", hint: "is `retain` shorter than deliveries are apart?",
        scenario: on(Post { id: 42 }, ExpiresAfterRecovery::default()),
    }
    a_store_that_sweeps_live_records {
        what: "a sweep at the beginning of every run deletes records that are live",
        origin: "zoolutions/sidekiq-unique-jobs#488, #498, #517: seven reports of a reaper that deletes live locks",
        plan: Repeat, at: "2 times", hint: "neither lost, replaced nor swept",
        scenario: on(Post { id: 42 }, SweepsAtBegin),
    }
    a_store_that_forgets_on_replay {
        what: "a record is deleted by the run that it answers",
        origin: "aws-powertools/powertools-lambda-python: a late run deletes the record of the one that finished [R]",
        plan: Repeat, at: "2 times", hint: "the record of a run does not answer the next one",
        scenario: on(Post { id: 42 }, ForgetsOnReplay),
    }
    a_store_that_records_first {
        what: "the record is durable as the run begins, so a crash leaves a record without an effect",
        origin: "timgit/pg-boss with elmohq/elmo PR 557: a slot is held by work that is not there",
        plan: Crash, at: "crashed", hint: "decide by `tx` and the record alone",
        scenario: on(Post { id: 42 }, RecordsFirst),
    }
    a_store_that_takes_busy_for_done {
        what: "a run whose key is held is answered as if it were done",
        origin: "zoolutions/sidekiq-unique-jobs#749, #628: the loser of `while_executing` is dropped as a success",
        plan: Concurrent, at: "at once", hint: "a later run answers otherwise",
        scenario: on(PostAndCount { id: 42 }, TakesBusyForDone::default()),
    }
    a_store_without_a_lock {
        what: "no lock is held while the body runs, so two runs look before one has acted",
        origin: "acidic_job rc7: the lock check is commented out, 2 workers make 2 effects [R]",
        plan: Interleavings or Concurrent, at: "two runs at once", hint: "`lock = row(table.column = arg)`",
        scenario: Scenario::new(ChargeUnlessCharged { id: 42 })
            .setup(tables::set_up)
            .state(Gateway::default)
            .observe("charges", Gateway::charges)
            .store(|good| Arc::new(BrokenStore { good, fault: Arc::new(LocksNothing) })),
    }
    a_store_that_undoes_nothing {
        what: "what the body did before it was adopted stays",
        origin: "Particular/NServiceBus.Persistence.Sql#37: both handlers run, and their effects are doubled",
        plan: Repeat, at: "2 times", hint: "harmless twice",
        scenario: on(JoinOnce { id: 42 }, UndoesNothing),
    }
}

/// A job that is right, on a store that is not.
fn on<J>(job: J, fault: impl Fault<Sqlite>) -> Scenario<J, Sqlite, ()>
where
    J: RunOn<Sqlite, ()>,
{
    let fault: Arc<dyn Fault<Sqlite>> = Arc::new(fault);
    Scenario::new(job)
        .setup(tables::set_up)
        .store(move |good| Arc::new(BrokenStore { good, fault: Arc::clone(&fault) }))
}

#[idempotent(key = id)]
async fn post(tx: &mut Tx<'_, Sqlite>, id: i64) -> Result<(), sqlx::Error> {
    tables::post(tx, id).await
}

#[idempotent(key = id)]
async fn post_and_print(tx: &mut Tx<'_, Sqlite>, id: i64) -> Result<String, sqlx::Error> {
    tables::post(tx, id).await?;
    Ok("line\n".repeat(20_000))
}

#[idempotent(key = id)]
async fn post_and_name(tx: &mut Tx<'_, Sqlite>, id: i64) -> Result<String, sqlx::Error> {
    tables::post(tx, id).await?;
    Ok(format!("CH_{id}"))
}

#[idempotent(key = id, fingerprint = none)]
async fn post_and_count(tx: &mut Tx<'_, Sqlite>, id: i64) -> Result<i64, sqlx::Error> {
    tables::post(tx, id).await?;
    sqlx::query_scalar("SELECT count(*) FROM entries").fetch_one(&mut **tx).await
}

#[idempotent(key = id, retain = none)]
async fn charge_unless_charged(
    tx: &mut Tx<'_, Sqlite>,
    id: i64,
    #[state] gateway: &Gateway,
) -> Result<(), sqlx::Error> {
    let _ = (tx, id);
    if !gateway.has_charged().await {
        gateway.charge().await;
    }
    Ok(())
}

#[idempotent(key = id, retain = none, adopt(constraint("one_membership") => ()))]
async fn join_once(tx: &mut Tx<'_, Sqlite>, id: i64) -> Result<(), sqlx::Error> {
    tables::entry(tx, id, "joins").await?;
    sqlx::query("INSERT INTO members (id) VALUES (?)").bind(id).execute(&mut **tx).await?;
    Ok(())
}

/// Takes a result of nothing, which is one byte long, for no result.
struct LosesEmptyResults;

#[async_trait]
impl Fault<Sqlite> for LosesEmptyResults {
    async fn begin(&self, good: &Good<Sqlite>, claim: &Claim<'_>) -> Result<Begun<Sqlite>, StoreError> {
        Ok(match good.begin(claim).await? {
            Begun::Open { tx, found: Found::Record(record) } if record.result.len() == 1 => {
                Begun::Open { tx, found: Found::Absent }
            }
            begun => begun,
        })
    }

    async fn commit(
        &self,
        _: &Good<Sqlite>,
        tx: Box<dyn StoreTx<Sqlite>>,
        record: Option<&NewRecord<'_>>,
    ) -> Result<Committed, StoreError> {
        replace(tx, record).await
    }
}

/// Takes any error for the violation, and undoes nothing.
struct UndoesNothing;

#[async_trait]
impl Fault<Sqlite> for UndoesNothing {
    async fn undo_violation(
        &self,
        _: &mut dyn StoreTx<Sqlite>,
        _: &(dyn std::error::Error + Send + Sync + 'static),
        _: &str,
    ) -> Result<bool, StoreError> {
        Ok(true)
    }
}

struct LowersResults;

#[async_trait]
impl Fault<Sqlite> for LowersResults {
    async fn begin(&self, good: &Good<Sqlite>, claim: &Claim<'_>) -> Result<Begun<Sqlite>, StoreError> {
        Ok(match good.begin(claim).await? {
            Begun::Open { tx, found: Found::Record(mut record) } => {
                record.result.make_ascii_lowercase();
                Begun::Open { tx, found: Found::Record(record) }
            }
            begun => begun,
        })
    }
}

/// What is recorded, by the file of the database and the key.
#[derive(Default)]
struct CachesBeforeCommit(Mutex<HashMap<(String, KeyHash), Record>>);

#[async_trait]
impl Fault<Sqlite> for CachesBeforeCommit {
    async fn begin(&self, good: &Good<Sqlite>, claim: &Claim<'_>) -> Result<Begun<Sqlite>, StoreError> {
        let Begun::Open { mut tx, found } = good.begin(claim).await? else { return Ok(Begun::Busy) };
        let file = tables::file(tx.connection()).await.expect("a database has a file");
        let cached = lock(&self.0).get(&(file, claim.key.hash())).cloned();
        Ok(Begun::Open { tx, found: cached.map_or(found, Found::Record) })
    }

    async fn commit(
        &self,
        _: &Good<Sqlite>,
        mut tx: Box<dyn StoreTx<Sqlite>>,
        record: Option<&NewRecord<'_>>,
    ) -> Result<Committed, StoreError> {
        if let Some(NewRecord { key, outcome, fingerprint, result, .. }) = record {
            let file = tables::file(tx.connection()).await.expect("a database has a file");
            let record = Record { outcome: *outcome, fingerprint: *fingerprint, result: result.to_vec() };
            lock(&self.0).insert((file, key.hash()), record);
            // A cache is another server, so its answer takes a moment.
            tokio::task::yield_now().await;
        }
        tx.commit(record).await
    }
}

struct Overwrites;

#[async_trait]
impl Fault<Sqlite> for Overwrites {
    async fn begin(&self, good: &Good<Sqlite>, claim: &Claim<'_>) -> Result<Begun<Sqlite>, StoreError> {
        Ok(match good.begin(claim).await? {
            Begun::Open { tx, .. } => Begun::Open { tx, found: Found::Absent },
            held @ (Begun::Busy | Begun::RowBusy) => held,
        })
    }

    async fn commit(
        &self,
        _: &Good<Sqlite>,
        tx: Box<dyn StoreTx<Sqlite>>,
        record: Option<&NewRecord<'_>>,
    ) -> Result<Committed, StoreError> {
        replace(tx, record).await
    }
}

struct ExpiresAtOnce;

#[async_trait]
impl Fault<Sqlite> for ExpiresAtOnce {
    async fn commit(
        &self,
        good: &Good<Sqlite>,
        tx: Box<dyn StoreTx<Sqlite>>,
        record: Option<&NewRecord<'_>>,
    ) -> Result<Committed, StoreError> {
        let committed = tx.commit(record).await?;
        on_the_side(good, "UPDATE idem_records SET expires_at = expires_at / 1000").await?;
        Ok(committed)
    }
}

/// How often a key was begun without a record, by the file of the database and the key.
#[derive(Default)]
struct ExpiresAfterRecovery(Mutex<HashMap<(String, KeyHash), u32>>);

#[async_trait]
impl Fault<Sqlite> for ExpiresAfterRecovery {
    async fn begin(&self, good: &Good<Sqlite>, claim: &Claim<'_>) -> Result<Begun<Sqlite>, StoreError> {
        let Begun::Open { mut tx, found } = good.begin(claim).await? else { return Ok(Begun::Busy) };
        if found == Found::Absent {
            let file = tables::file(tx.connection()).await.expect("a database has a file");
            *lock(&self.0).entry((file, claim.key.hash())).or_default() += 1;
        }
        Ok(Begun::Open { tx, found })
    }

    async fn commit(
        &self,
        good: &Good<Sqlite>,
        mut tx: Box<dyn StoreTx<Sqlite>>,
        record: Option<&NewRecord<'_>>,
    ) -> Result<Committed, StoreError> {
        let file = tables::file(tx.connection()).await.expect("a database has a file");
        let committed = tx.commit(record).await?;
        let begun = record.and_then(|record| lock(&self.0).get(&(file, record.key.hash())).copied());
        if begun > Some(1) {
            on_the_side(good, "UPDATE idem_records SET expires_at = completed_at").await?;
        }
        Ok(committed)
    }
}

struct SweepsAtBegin;

#[async_trait]
impl Fault<Sqlite> for SweepsAtBegin {
    async fn begin(&self, good: &Good<Sqlite>, claim: &Claim<'_>) -> Result<Begun<Sqlite>, StoreError> {
        on_the_side(good, "DELETE FROM idem_records WHERE completed_at <= unixepoch()").await?;
        good.begin(claim).await
    }
}

struct ForgetsOnReplay;

#[async_trait]
impl Fault<Sqlite> for ForgetsOnReplay {
    async fn begin(&self, good: &Good<Sqlite>, claim: &Claim<'_>) -> Result<Begun<Sqlite>, StoreError> {
        let begun = good.begin(claim).await?;
        if !matches!(begun, Begun::Open { found: Found::Record(_), .. }) {
            return Ok(begun);
        }
        drop(begun);
        on_the_side(good, "DELETE FROM idem_records").await?;
        good.begin(claim).await
    }
}

struct RecordsFirst;

#[async_trait]
impl Fault<Sqlite> for RecordsFirst {
    async fn begin(&self, good: &Good<Sqlite>, claim: &Claim<'_>) -> Result<Begun<Sqlite>, StoreError> {
        let (tx, found) = match good.begin(claim).await? {
            Begun::Open { tx, found } => (tx, found),
            held @ (Begun::Busy | Begun::RowBusy) => return Ok(held),
        };
        if found != Found::Absent {
            return Ok(Begun::Open { tx, found });
        }
        let key = claim.key.clone();
        // Once sent it is done, whatever becomes of the run.
        let recorded = tokio::spawn(async move {
            let record = NewRecord {
                key: &key,
                job: JobId(1),
                outcome: Outcome::Completed,
                fingerprint: Post { id: 42 }.fingerprint().expect("a number can be hashed"),
                result: &codec::encode(&()).expect("nothing can be encoded"),
                retain: Retain::Forever,
            };
            tx.commit(Some(&record)).await
        });
        recorded.await.expect("the task does not panic")?;
        Ok(match good.begin(claim).await? {
            Begun::Open { tx, .. } => Begun::Open { tx, found: Found::Absent },
            held @ (Begun::Busy | Begun::RowBusy) => held,
        })
    }

    async fn commit(
        &self,
        _: &Good<Sqlite>,
        tx: Box<dyn StoreTx<Sqlite>>,
        _: Option<&NewRecord<'_>>,
    ) -> Result<Committed, StoreError> {
        tx.commit(None).await
    }
}

/// The keys that are held.
#[derive(Default)]
struct TakesBusyForDone(Arc<Mutex<HashSet<KeyHash>>>);

/// Holds a key until it is dropped.
struct Held(Arc<Mutex<HashSet<KeyHash>>>, KeyHash);

impl Drop for Held {
    fn drop(&mut self) {
        lock(&self.0).remove(&self.1);
    }
}

#[async_trait]
impl Fault<Sqlite> for TakesBusyForDone {
    async fn begin(&self, good: &Good<Sqlite>, claim: &Claim<'_>) -> Result<Begun<Sqlite>, StoreError> {
        let key = claim.key.hash();
        let held = lock(&self.0).insert(key).then(|| Held(Arc::clone(&self.0), key));
        let Begun::Open { tx, found } = good.begin(claim).await? else { return Ok(Begun::Busy) };
        Ok(match held {
            Some(held) => Begun::Open { tx: Box::new(WithLock { tx, _lock: held }), found },
            None => {
                let result = codec::encode(&0_i64).expect("a number can be encoded");
                let record = Record { outcome: Outcome::Completed, fingerprint: Fingerprint::NONE, result };
                Begun::Open { tx, found: Found::Record(record) }
            }
        })
    }
}

struct LocksNothing;

#[async_trait]
impl Fault<Sqlite> for LocksNothing {
    async fn begin(&self, good: &Good<Sqlite>, claim: &Claim<'_>) -> Result<Begun<Sqlite>, StoreError> {
        let mut begun = good.begin(claim).await?;
        if let Begun::Open { tx, .. } = &mut begun {
            // The lock of SQLite is the turn to write; a transaction that has only read has none.
            sqlx::raw_sql("COMMIT; BEGIN; SAVEPOINT idem_body")
                .execute(tx.connection())
                .await
                .expect("a transaction that did nothing commits");
        }
        Ok(begun)
    }
}

/// Commits a record in place of the one that is there.
async fn replace(
    mut tx: Box<dyn StoreTx<Sqlite>>,
    record: Option<&NewRecord<'_>>,
) -> Result<Committed, StoreError> {
    sqlx::query("DELETE FROM idem_records").execute(tx.connection()).await.expect("records can be deleted");
    tx.commit(record).await
}

/// Runs a statement in a transaction of its own.
async fn on_the_side(good: &Good<Sqlite>, sql: &'static str) -> Result<(), StoreError> {
    let parts = KeyParts::of("side").expect("it is not blank");
    let mut tx = faults::open(good, &Key::new("side", "side", &parts), KeyLock::Key).await?;
    sqlx::query(sql).execute(tx.connection()).await.expect("the tables are there");
    tx.commit(None).await.map(drop)
}
