//! What the broken stores do wrong, one mistake each.

mod broken;

/// Declares faults without a state.
macro_rules! faults {
    ($($(#[$doc:meta])+ $name:ident;)+) => {
        $($(#[$doc])+ #[derive(Default)] pub(crate) struct $name;)+
    };
}

mod lease;
mod operate;
mod queue;
mod schedule;

use std::collections::{HashMap, HashSet};
use std::error::Error as StdError;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use idem_runtime::fingerprint::Fingerprint;
use idem_runtime::job::Retain;
use idem_runtime::key::{Key, KeyHash, KeyParts};
use idem_runtime::record::{Hold, JobId, NewRecord, Outcome, Record};
use idem_runtime::store::{
    Begun, Claim, Committed, Database, Found, Held, KeyLock, NewTask, RowValue, StoreTx, Swept, TxStep,
};
use idem_runtime::{StoreError, StoreErrorKind};
use idem_testkit::conformance::{BoxError, Fixture, NestedEnd, TransactionEnd};
use sqlx::Sqlite;

pub(crate) use self::broken::{BrokenStore, Fault, Good};
pub(crate) use self::lease::*;
pub(crate) use self::operate::*;
pub(crate) use self::queue::*;
pub(crate) use self::schedule::*;

/// Stays where it is for some polls: a sweep that drops at each of them cannot miss it, however fast the database answers.
async fn linger() {
    for _ in 0..16 {
        tokio::task::yield_now().await;
    }
}

faults! {
    /// Commits the effect and forgets the record.
    ForgetsTheRecord;
    /// Writes the record in a second transaction, after the commit of the effect.
    RecordsAfterwards;
    /// Deletes whatever record there is before it writes its own.
    ReplacesALiveRecord;
    /// Rolls back where there is no record to commit.
    BareCommitRollsBack;
    /// Commits where it should roll back.
    RollbackCommits;
    /// Commits what is dropped.
    DropCommits;
    /// Never ends a transaction that is dropped.
    DropKeepsTheLock;
    /// Locks no key.
    TakesNoLock;
    /// Has one lock for all keys.
    LocksEverything;
    /// Waits for a lock even where it may not.
    AlwaysWaits;
    /// Reports a key that is held as an error.
    BusyIsAnError;
    /// Begins in a task that nobody ends.
    BeginsDetached;
    /// Makes the record durable as the run begins.
    RecordsAtBegin;
    /// Loses a result of no bytes.
    DropsAnEmptyResult;
    /// Keeps no more than 64 KiB of a result.
    CutsResults;
    /// Does not keep the fingerprint.
    DropsTheFingerprint;
    /// Keeps every outcome as completed.
    RejectsAsCompleted;
    /// Builds its SQL without escaping.
    RefusesQuotes;
    /// Compares all bits of a key but the last.
    ReadsNeighbours;
    /// Keeps every record for ever.
    KeepsForEver;
    /// Keeps every record for half its time.
    HalvesTheRetention;
    /// Takes "for ever" for an hour.
    ForgetsForEver;
    /// Deletes records that are live.
    SweepsLiveRecords;
    /// Gives a sweep up that meets a run.
    SweepForgetsToRetry;
    /// Never comes to the end of a sweep.
    SweepNeverEnds;
    /// Ends a sweep after its first batch.
    SweepStopsEarly;
    /// Sweeps everything in one batch.
    SweepIgnoresItsLimit;
    /// Undoes nothing.
    UndoDoesNothing;
    /// Drops what a body enqueues.
    EnqueuesNothing;
    /// Enqueues in a transaction of its own.
    EnqueuesAside;
    /// Enqueues in a transaction of its own where the body has ended the other one.
    EnqueuesAfterTheEnd;
    /// Takes every error for a violation of the named constraint.
    TakesAnyErrorForTheViolation;
    /// Takes no error for a violation.
    KnowsNoViolation;
    /// Begins behind the driver's back, so that a nested transaction ends the outer one.
    HidesTheTransactionFromTheDriver;
    /// Answers a commit that failed with yes.
    TakesErrorsForCommits;
    /// Runs without the business row.
    IgnoresAMissingRow;
    /// Looks for the business row before it looks for the record.
    AsksForTheRowFirst;
    /// Does not lock the business row.
    LocksNoRow;
    /// Locks the key whether it is asked to or not.
    LocksKeysUnasked;
    /// Does not look whether the table of the business row is there.
    ChecksNoRow;
    /// Gives every job the same number.
    NumbersAllJobsOne;
    /// Makes up for missing tables with an error of no use.
    HidesMissingTables;
    /// Uses the default prefix, whatever it is told.
    IgnoresThePrefix;
}

#[async_trait]
impl<D: Database> Fault<D> for ForgetsTheRecord {
    async fn commit(
        &self,
        _: &Good<D>,
        tx: Box<dyn StoreTx<D>>,
        _: Option<&NewRecord<'_>>,
    ) -> Result<Committed, StoreError> {
        tx.commit(None).await
    }
}

#[async_trait]
impl<D: Database> Fault<D> for RecordsAfterwards {
    async fn commit(
        &self,
        good: &Good<D>,
        tx: Box<dyn StoreTx<D>>,
        record: Option<&NewRecord<'_>>,
    ) -> Result<Committed, StoreError> {
        let committed = tx.commit(None).await?;
        let Some(record) = record else { return Ok(committed) };
        linger().await;
        let tx = open(good, record.key, KeyLock::None).await?;
        tx.commit(Some(record)).await
    }
}

#[async_trait]
impl Fault<Sqlite> for ReplacesALiveRecord {
    async fn commit(
        &self,
        _: &Good<Sqlite>,
        mut tx: Box<dyn StoreTx<Sqlite>>,
        record: Option<&NewRecord<'_>>,
    ) -> Result<Committed, StoreError> {
        if let Some(record) = record {
            let key = record.key.hash();
            let delete = sqlx::query("DELETE FROM idem_records WHERE key = ?1").bind(&key.as_bytes()[..]);
            // Without the table the commit says so.
            let _ = delete.execute(tx.connection()).await;
        }
        tx.commit(record).await
    }
}

#[async_trait]
impl<D: Database> Fault<D> for BareCommitRollsBack {
    async fn commit(
        &self,
        _: &Good<D>,
        tx: Box<dyn StoreTx<D>>,
        record: Option<&NewRecord<'_>>,
    ) -> Result<Committed, StoreError> {
        match record {
            Some(record) => tx.commit(Some(record)).await,
            None => tx.rollback().await.map(|()| Committed::Yes),
        }
    }
}

#[async_trait]
impl<D: Database> Fault<D> for RollbackCommits {
    async fn rollback(&self, tx: Box<dyn StoreTx<D>>) -> Result<(), StoreError> {
        tx.commit(None).await.map(|_| ())
    }
}

impl<D: Database> Fault<D> for DropCommits {
    fn dropped(&self, tx: Box<dyn StoreTx<D>>) {
        tokio::spawn(tx.commit(None));
    }
}

impl<D: Database> Fault<D> for DropKeepsTheLock {
    fn dropped(&self, tx: Box<dyn StoreTx<D>>) {
        std::mem::forget(tx);
    }
}

#[async_trait]
impl<D: Database> Fault<D> for TakesNoLock {
    async fn begin(&self, good: &Good<D>, claim: &Claim<'_>) -> Result<Begun<D>, StoreError> {
        good.begin(&Claim { lock: KeyLock::None, ..*claim }).await
    }
}

#[async_trait]
impl<D: Database> Fault<D> for LocksEverything {
    async fn begin(&self, good: &Good<D>, claim: &Claim<'_>) -> Result<Begun<D>, StoreError> {
        let parts = KeyParts::of("the one lock").expect("it is not blank");
        let all = Key::new("all", "all", &parts);
        Ok(match good.begin(&Claim { key: &all, row: None, ..*claim }).await? {
            held @ (Begun::Busy | Begun::RowBusy) => held,
            Begun::Open { tx: lock, .. } => match good.begin(claim).await? {
                held @ (Begun::Busy | Begun::RowBusy) => held,
                Begun::Open { tx, found } => {
                    Begun::Open { tx: Box::new(WithLock { tx, _lock: lock }), found }
                }
            },
        })
    }
}

/// A transaction that holds something else until it ends.
pub(super) struct WithLock<D: Database, L> {
    pub(super) tx: Box<dyn StoreTx<D>>,
    pub(super) _lock: L,
}

#[async_trait]
impl<D: Database, L: Send> StoreTx<D> for WithLock<D, L> {
    fn connection(&mut self) -> &mut D::Connection {
        self.tx.connection()
    }

    fn connection_ref(&self) -> &D::Connection {
        self.tx.connection_ref()
    }

    async fn undo(&mut self) -> Result<(), StoreError> {
        self.tx.undo().await
    }

    async fn undo_violation(
        &mut self,
        error: &(dyn StdError + Send + Sync + 'static),
        name: &str,
    ) -> Result<bool, StoreError> {
        self.tx.undo_violation(error, name).await
    }

    async fn enqueue(&mut self, tasks: &[NewTask]) -> Result<(), StoreError> {
        self.tx.enqueue(tasks).await
    }

    async fn commit(self: Box<Self>, record: Option<&NewRecord<'_>>) -> Result<Committed, StoreError> {
        self.tx.commit(record).await
    }

    async fn commit_step(self: Box<Self>, hold: &Hold, step: &TxStep<'_>) -> Result<Held, StoreError> {
        self.tx.commit_step(hold, step).await
    }

    async fn rollback(self: Box<Self>) -> Result<(), StoreError> {
        self.tx.rollback().await
    }
}

#[async_trait]
impl<D: Database> Fault<D> for AlwaysWaits {
    async fn begin(&self, good: &Good<D>, claim: &Claim<'_>) -> Result<Begun<D>, StoreError> {
        good.begin(&Claim { wait: Duration::from_secs(3600), ..*claim }).await
    }
}

#[async_trait]
impl<D: Database> Fault<D> for BusyIsAnError {
    async fn begin(&self, good: &Good<D>, claim: &Claim<'_>) -> Result<Begun<D>, StoreError> {
        match good.begin(claim).await? {
            Begun::Busy => Err(StoreError::new(StoreErrorKind::Conflict, "the key is locked").temporary()),
            open => Ok(open),
        }
    }
}

#[async_trait]
impl<D: Database> Fault<D> for BeginsDetached {
    async fn begin(&self, good: &Good<D>, claim: &Claim<'_>) -> Result<Begun<D>, StoreError> {
        let (good, key) = (Arc::clone(good), claim.key.clone());
        let (lock, wait, undo) = (claim.lock, claim.wait, claim.undo);
        let (answer, answered) = tokio::sync::oneshot::channel();
        tokio::spawn(async move {
            let claim = Claim { key: &key, lock, wait, records: true, undo, row: None };
            if let Err(unwanted) = answer.send(good.begin(&claim).await) {
                std::mem::forget(unwanted);
            }
        });
        answered.await.expect("the task answers")
    }
}

#[async_trait]
impl<D: Database> Fault<D> for RecordsAtBegin {
    async fn begin(&self, good: &Good<D>, claim: &Claim<'_>) -> Result<Begun<D>, StoreError> {
        let begun = good.begin(claim).await?;
        if let Begun::Open { found: Found::Absent, .. } = begun {
            let record = NewRecord {
                key: claim.key,
                job: JobId(1),
                outcome: Outcome::Completed,
                fingerprint: Fingerprint::NONE,
                result: b"soon",
                retain: Retain::Forever,
            };
            open(good, claim.key, KeyLock::None).await?.commit(Some(&record)).await?;
        }
        Ok(begun)
    }
}

#[async_trait]
impl<D: Database> Fault<D> for DropsAnEmptyResult {
    async fn read(&self, good: &Good<D>, key: KeyHash) -> Result<Option<Record>, StoreError> {
        Ok(good.read(key).await?.filter(|record| !record.result.is_empty()))
    }
}

/// Declares faults that write another record than they were given.
macro_rules! writes_another_record {
    ($($fault:ident: |$record:ident| $other:expr;)+) => {$(
        #[async_trait]
        impl<D: Database> Fault<D> for $fault {
            async fn commit(
                &self,
                _: &Good<D>,
                tx: Box<dyn StoreTx<D>>,
                record: Option<&NewRecord<'_>>,
            ) -> Result<Committed, StoreError> {
                let other = record.map(|$record| $other);
                tx.commit(other.as_ref()).await
            }
        }
    )+};
}

writes_another_record! {
    CutsResults: |record| NewRecord { result: &record.result[..record.result.len().min(65_535)], ..*record };
    DropsTheFingerprint: |record| NewRecord { fingerprint: Fingerprint::NONE, ..*record };
    RejectsAsCompleted: |record| NewRecord { outcome: Outcome::Completed, ..*record };
    KeepsForEver: |record| NewRecord { retain: Retain::Forever, ..*record };
    HalvesTheRetention: |record| match record.retain {
        Retain::For(time) => NewRecord { retain: Retain::For(time / 2), ..*record },
        _ => *record,
    };
    ForgetsForEver: |record| match record.retain {
        Retain::Forever => NewRecord { retain: Retain::For(Duration::from_secs(3600)), ..*record },
        _ => *record,
    };
}

#[async_trait]
impl<D: Database> Fault<D> for RefusesQuotes {
    async fn commit(
        &self,
        _: &Good<D>,
        tx: Box<dyn StoreTx<D>>,
        record: Option<&NewRecord<'_>>,
    ) -> Result<Committed, StoreError> {
        match record {
            Some(record) if record.key.readable().contains('\'') => {
                Err(StoreError::new(StoreErrorKind::Refused, "syntax error at or near \"s\""))
            }
            record => tx.commit(record).await,
        }
    }
}

#[async_trait]
impl<D: Database> Fault<D> for ReadsNeighbours {
    async fn read(&self, good: &Good<D>, key: KeyHash) -> Result<Option<Record>, StoreError> {
        let mut neighbour = *key.as_bytes();
        neighbour[15] ^= 1;
        match good.read(key).await? {
            None => good.read(KeyHash::from_bytes(neighbour)).await,
            record => Ok(record),
        }
    }
}

#[async_trait]
impl Fault<Sqlite> for SweepsLiveRecords {
    async fn sweep(
        &self,
        good: &Good<Sqlite>,
        cursor: Option<KeyHash>,
        limit: u32,
    ) -> Result<Swept, StoreError> {
        let parts = KeyParts::of("sweep").expect("it is not blank");
        let mut tx = open(good, &Key::new("sweep", "sweep", &parts), KeyLock::Key).await?;
        let delete = sqlx::query("DELETE FROM idem_records").execute(tx.connection()).await;
        let deleted = delete.map_or(0, |done| done.rows_affected());
        tx.commit(None).await?;
        let swept = good.sweep(cursor, limit).await?;
        Ok(Swept { deleted, ..swept })
    }
}

#[async_trait]
impl<D: Database> Fault<D> for SweepForgetsToRetry {
    async fn sweep(&self, good: &Good<D>, cursor: Option<KeyHash>, limit: u32) -> Result<Swept, StoreError> {
        let swept = good.sweep(cursor, limit).await?;
        match swept.cursor {
            Some(_) if swept.deleted > 0 => {
                Err(StoreError::new(StoreErrorKind::Conflict, "deadlock").temporary())
            }
            _ => Ok(swept),
        }
    }
}

#[async_trait]
impl<D: Database> Fault<D> for SweepNeverEnds {
    async fn sweep(&self, good: &Good<D>, cursor: Option<KeyHash>, limit: u32) -> Result<Swept, StoreError> {
        let swept = good.sweep(cursor, limit).await?;
        Ok(Swept { cursor: swept.cursor.or(cursor), ..swept })
    }
}

#[async_trait]
impl<D: Database> Fault<D> for SweepStopsEarly {
    async fn sweep(&self, good: &Good<D>, cursor: Option<KeyHash>, limit: u32) -> Result<Swept, StoreError> {
        Ok(Swept { cursor: None, ..good.sweep(cursor, limit).await? })
    }
}

#[async_trait]
impl<D: Database> Fault<D> for SweepIgnoresItsLimit {
    async fn sweep(&self, good: &Good<D>, cursor: Option<KeyHash>, _: u32) -> Result<Swept, StoreError> {
        good.sweep(cursor, 1_000_000).await
    }
}

#[async_trait]
impl<D: Database> Fault<D> for UndoDoesNothing {
    async fn undo(&self, _: &mut dyn StoreTx<D>) -> Result<(), StoreError> {
        Ok(())
    }
}

#[async_trait]
impl<D: Database> Fault<D> for EnqueuesNothing {
    async fn enqueue(&self, _: &Good<D>, _: &mut dyn StoreTx<D>, _: &[NewTask]) -> Result<(), StoreError> {
        Ok(())
    }
}

#[async_trait]
impl<D: Database> Fault<D> for EnqueuesAside {
    async fn enqueue(
        &self,
        good: &Good<D>,
        _: &mut dyn StoreTx<D>,
        tasks: &[NewTask],
    ) -> Result<(), StoreError> {
        enqueue_aside(good, tasks).await
    }
}

#[async_trait]
impl<D: Database> Fault<D> for EnqueuesAfterTheEnd {
    async fn enqueue(
        &self,
        good: &Good<D>,
        tx: &mut dyn StoreTx<D>,
        tasks: &[NewTask],
    ) -> Result<(), StoreError> {
        match tx.enqueue(tasks).await {
            Ok(()) => Ok(()),
            Err(_) => enqueue_aside(good, tasks).await,
        }
    }
}

async fn enqueue_aside<D: Database>(good: &Good<D>, tasks: &[NewTask]) -> Result<(), StoreError> {
    let key = Key::new("default", "aside", &KeyParts::of("aside").expect("it is not empty"));
    let mut own = open(good, &key, KeyLock::None).await?;
    own.enqueue(tasks).await?;
    own.commit(None).await.map(drop)
}

#[async_trait]
impl<D: Database> Fault<D> for TakesAnyErrorForTheViolation {
    async fn undo_violation(
        &self,
        tx: &mut dyn StoreTx<D>,
        _: &(dyn StdError + Send + Sync + 'static),
        _: &str,
    ) -> Result<bool, StoreError> {
        tx.undo().await.map(|()| true)
    }
}

#[async_trait]
impl<D: Database> Fault<D> for KnowsNoViolation {
    async fn undo_violation(
        &self,
        _: &mut dyn StoreTx<D>,
        _: &(dyn StdError + Send + Sync + 'static),
        _: &str,
    ) -> Result<bool, StoreError> {
        Ok(false)
    }
}

#[async_trait]
impl<D: Database> Fault<D> for HidesTheTransactionFromTheDriver {
    async fn insert_nested(
        &self,
        good: &dyn Fixture<D>,
        connection: &mut D::Connection,
        effect: &str,
        end: NestedEnd,
    ) -> Result<(), BoxError> {
        // The driver's BEGIN does nothing inside a transaction; its COMMIT and ROLLBACK do.
        good.insert(connection, effect).await?;
        let end = match end {
            NestedEnd::Commit => TransactionEnd::Commit,
            NestedEnd::Rollback | NestedEnd::Drop => TransactionEnd::Rollback,
        };
        good.end_transaction(connection, end).await
    }
}

#[async_trait]
impl<D: Database> Fault<D> for TakesErrorsForCommits {
    async fn commit(
        &self,
        _: &Good<D>,
        tx: Box<dyn StoreTx<D>>,
        record: Option<&NewRecord<'_>>,
    ) -> Result<Committed, StoreError> {
        match tx.commit(record).await {
            Ok(Committed::LostRace) => Ok(Committed::LostRace),
            _ => Ok(Committed::Yes),
        }
    }
}

#[async_trait]
impl<D: Database> Fault<D> for IgnoresAMissingRow {
    async fn begin(&self, good: &Good<D>, claim: &Claim<'_>) -> Result<Begun<D>, StoreError> {
        Ok(match good.begin(claim).await? {
            Begun::Open { tx, found: Found::NoRow } => Begun::Open { tx, found: Found::Absent },
            begun => begun,
        })
    }
}

#[async_trait]
impl<D: Database> Fault<D> for AsksForTheRowFirst {
    async fn begin(&self, good: &Good<D>, claim: &Claim<'_>) -> Result<Begun<D>, StoreError> {
        // The fixtures have no row with 3.
        let missing = claim.row.is_some_and(|row| *row.value == RowValue::Int(3));
        Ok(match good.begin(claim).await? {
            Begun::Open { tx, .. } if missing => Begun::Open { tx, found: Found::NoRow },
            begun => begun,
        })
    }
}

#[async_trait]
impl<D: Database> Fault<D> for LocksNoRow {
    async fn begin(&self, good: &Good<D>, claim: &Claim<'_>) -> Result<Begun<D>, StoreError> {
        good.begin(&Claim { row: None, ..*claim }).await
    }
}

#[async_trait]
impl<D: Database> Fault<D> for LocksKeysUnasked {
    async fn begin(&self, good: &Good<D>, claim: &Claim<'_>) -> Result<Begun<D>, StoreError> {
        good.begin(&Claim { lock: KeyLock::Key, ..*claim }).await
    }
}

#[async_trait]
impl<D: Database> Fault<D> for ChecksNoRow {
    async fn check_row(&self, _: &Good<D>, _: &str, _: &str) -> Result<(), StoreError> {
        Ok(())
    }
}

#[async_trait]
impl<D: Database> Fault<D> for NumbersAllJobsOne {
    async fn enrol(&self, _: &Good<D>, _: &str, _: &str) -> Result<JobId, StoreError> {
        Ok(JobId(1))
    }
}

#[async_trait]
impl<D: Database> Fault<D> for HidesMissingTables {
    async fn begin(&self, good: &Good<D>, claim: &Claim<'_>) -> Result<Begun<D>, StoreError> {
        let useless = |error| StoreError::new(StoreErrorKind::Refused, "error 42").caused_by(error);
        good.begin(claim).await.map_err(useless)
    }
}

impl<D: Database> Fault<D> for IgnoresThePrefix {
    fn prefix<'a>(&self, _: &'a str) -> &'a str {
        "idem_"
    }
}

/// Forgets a record once it has been read.
#[derive(Default)]
pub(super) struct AnswersOnce(Mutex<HashSet<KeyHash>>);

#[async_trait]
impl<D: Database> Fault<D> for AnswersOnce {
    async fn read(&self, good: &Good<D>, key: KeyHash) -> Result<Option<Record>, StoreError> {
        let read = good.read(key).await?;
        let first = lock(&self.0).insert(key);
        Ok(read.filter(|_| first))
    }
}

/// Begins with records that have expired.
#[derive(Default)]
pub(super) struct BeginIgnoresExpiry(Mutex<HashMap<KeyHash, Record>>);

#[async_trait]
impl<D: Database> Fault<D> for BeginIgnoresExpiry {
    async fn begin(&self, good: &Good<D>, claim: &Claim<'_>) -> Result<Begun<D>, StoreError> {
        Ok(match good.begin(claim).await? {
            Begun::Open { tx, found: Found::Absent } => {
                let known = lock(&self.0).get(&claim.key.hash()).cloned();
                Begun::Open { tx, found: known.map_or(Found::Absent, Found::Record) }
            }
            begun => begun,
        })
    }

    async fn commit(
        &self,
        _: &Good<D>,
        tx: Box<dyn StoreTx<D>>,
        record: Option<&NewRecord<'_>>,
    ) -> Result<Committed, StoreError> {
        remember(&self.0, record);
        tx.commit(record).await
    }
}

/// Reads records that have expired.
#[derive(Default)]
pub(super) struct ReadIgnoresExpiry(Mutex<HashMap<KeyHash, Record>>);

#[async_trait]
impl<D: Database> Fault<D> for ReadIgnoresExpiry {
    async fn read(&self, good: &Good<D>, key: KeyHash) -> Result<Option<Record>, StoreError> {
        let read = good.read(key).await?;
        Ok(read.or_else(|| lock(&self.0).get(&key).cloned()))
    }

    async fn commit(
        &self,
        _: &Good<D>,
        tx: Box<dyn StoreTx<D>>,
        record: Option<&NewRecord<'_>>,
    ) -> Result<Committed, StoreError> {
        remember(&self.0, record);
        tx.commit(record).await
    }
}

/// Finds out who was first only where the key was never recorded before.
#[derive(Default)]
pub(super) struct RacesOverExpiredRecords(Mutex<HashMap<KeyHash, Record>>);

#[async_trait]
impl<D: Database> Fault<D> for RacesOverExpiredRecords {
    async fn commit(
        &self,
        good: &Good<D>,
        tx: Box<dyn StoreTx<D>>,
        record: Option<&NewRecord<'_>>,
    ) -> Result<Committed, StoreError> {
        let Some(new) = record else { return tx.commit(None).await };
        let live = good.read(new.key.hash()).await?.is_some();
        let known = lock(&self.0).contains_key(&new.key.hash());
        remember(&self.0, record);
        match known && live {
            true => tx.commit(None).await,
            false => tx.commit(record).await,
        }
    }
}

/// Gives a job another number every time.
#[derive(Default)]
pub(super) struct NumbersJobsAnew(AtomicI32);

#[async_trait]
impl<D: Database> Fault<D> for NumbersJobsAnew {
    async fn enrol(&self, _: &Good<D>, _: &str, _: &str) -> Result<JobId, StoreError> {
        Ok(JobId(self.0.fetch_add(1, Ordering::Relaxed)))
    }
}

/// Fails when the tables are there already.
#[derive(Default)]
pub(super) struct MigratesOnlyOnce(AtomicBool);

#[async_trait]
impl<D: Database> Fault<D> for MigratesOnlyOnce {
    async fn migrate(&self, good: &Good<D>) -> Result<bool, StoreError> {
        match self.0.swap(true, Ordering::Relaxed) {
            true => Err(StoreError::new(StoreErrorKind::Refused, "table already exists")),
            false => good.migrate().await,
        }
    }
}

/// Hands the error of a dead idle connection to the run that finds it.
#[derive(Default)]
pub(super) struct FailsOnDeadConnections(AtomicBool);

#[async_trait]
impl<D: Database> Fault<D> for FailsOnDeadConnections {
    async fn begin(&self, good: &Good<D>, claim: &Claim<'_>) -> Result<Begun<D>, StoreError> {
        match self.0.swap(false, Ordering::Relaxed) {
            true => Err(StoreError::new(StoreErrorKind::Unavailable, "broken pipe").temporary()),
            false => good.begin(claim).await,
        }
    }

    async fn enrol(&self, good: &Good<D>, namespace: &str, name: &str) -> Result<JobId, StoreError> {
        match self.0.swap(false, Ordering::Relaxed) {
            true => Err(StoreError::new(StoreErrorKind::Unavailable, "broken pipe").temporary()),
            false => good.enrol(namespace, name).await,
        }
    }

    fn killed(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Opens a transaction on a good store.
pub(super) async fn open<D: Database>(
    good: &Good<D>,
    key: &Key,
    lock: KeyLock,
) -> Result<Box<dyn StoreTx<D>>, StoreError> {
    let claim = Claim { key, lock, wait: Duration::from_secs(5), records: true, row: None, undo: false };
    match good.begin(&claim).await? {
        Begun::Open { tx, .. } => Ok(tx),
        Begun::Busy | Begun::RowBusy => {
            Err(StoreError::new(StoreErrorKind::Conflict, "the key is busy").temporary())
        }
    }
}

fn remember(known: &Mutex<HashMap<KeyHash, Record>>, record: Option<&NewRecord<'_>>) {
    if let Some(NewRecord { key, outcome, fingerprint, result, .. }) = record {
        let record = Record { outcome: *outcome, fingerprint: *fingerprint, result: result.to_vec() };
        lock(known).insert(key.hash(), record);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
