//! A good store with one method replaced.

use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use idem_runtime::StoreError;
use idem_runtime::engine::TaskId;
use idem_runtime::key::{Key, KeyHash};
use idem_runtime::record::{Entry, Hold, JobId, Latest, Moment, NewRecord, Record, StepRecord};
use idem_runtime::schedule::Tick;
use idem_runtime::store::{
    Attempt, AuditRow, Begun, Change, Claim, ClaimRow, Claimed, Committed, Database, Engine, Forget, Held,
    Holder, JobRow, KeyFilter, KeyRow, Lease, LeaseClaim, LeaseStore, NewTask, OperateStore, Push, Pushed,
    QueueStore, Resolve, ScheduleStore, Store, StoreTx, Swept, TaskRow, TxStep, UniqueClaim, Volume, Watch,
};
use idem_testkit::conformance::{BoxError, Fixture, NestedEnd};

/// What a store does wrong. Every default does it right.
#[async_trait]
pub(crate) trait Fault<D: Database>: Send + Sync + 'static {
    async fn migrate(&self, good: &Good<D>) -> Result<bool, StoreError> {
        good.migrate().await
    }

    async fn enrol(&self, good: &Good<D>, namespace: &str, name: &str) -> Result<JobId, StoreError> {
        good.enrol(namespace, name).await
    }

    async fn check_row(&self, good: &Good<D>, table: &str, column: &str) -> Result<(), StoreError> {
        good.check_row(table, column).await
    }

    async fn read(&self, good: &Good<D>, key: KeyHash) -> Result<Option<Record>, StoreError> {
        good.read(key).await
    }

    async fn begin(&self, good: &Good<D>, claim: &Claim<'_>) -> Result<Begun<D>, StoreError> {
        good.begin(claim).await
    }

    async fn sweep(&self, good: &Good<D>, cursor: Option<KeyHash>, limit: u32) -> Result<Swept, StoreError> {
        good.sweep(cursor, limit).await
    }

    async fn undo(&self, tx: &mut dyn StoreTx<D>) -> Result<(), StoreError> {
        tx.undo().await
    }

    async fn enqueue(
        &self,
        _: &Good<D>,
        tx: &mut dyn StoreTx<D>,
        tasks: &[NewTask],
    ) -> Result<(), StoreError> {
        tx.enqueue(tasks).await
    }

    async fn undo_violation(
        &self,
        tx: &mut dyn StoreTx<D>,
        error: &(dyn StdError + Send + Sync + 'static),
        name: &str,
    ) -> Result<bool, StoreError> {
        tx.undo_violation(error, name).await
    }

    async fn commit(
        &self,
        good: &Good<D>,
        tx: Box<dyn StoreTx<D>>,
        record: Option<&NewRecord<'_>>,
    ) -> Result<Committed, StoreError> {
        let _ = good;
        tx.commit(record).await
    }

    async fn rollback(&self, tx: Box<dyn StoreTx<D>>) -> Result<(), StoreError> {
        tx.rollback().await
    }

    fn dropped(&self, tx: Box<dyn StoreTx<D>>) {
        drop(tx);
    }

    async fn claim(&self, good: &Good<D>, claim: &LeaseClaim<'_>) -> Result<Claimed, StoreError> {
        good.claim(claim).await
    }

    async fn take_over(
        &self,
        good: &Good<D>,
        claim: &LeaseClaim<'_>,
        found: &Entry,
    ) -> Result<Option<Vec<StepRecord>>, StoreError> {
        good.take_over(claim, found).await
    }

    async fn entry(&self, good: &Good<D>, key: KeyHash) -> Result<Option<Entry>, StoreError> {
        good.entry(key).await
    }

    async fn renew(&self, good: &Good<D>, leases: &[Lease]) -> Result<Vec<Hold>, StoreError> {
        good.renew(leases).await
    }

    async fn change(&self, good: &Good<D>, hold: &Hold, change: &Change<'_>) -> Result<Held, StoreError> {
        good.change(hold, change).await
    }

    async fn commit_step(
        &self,
        good: &Good<D>,
        tx: Box<dyn StoreTx<D>>,
        hold: &Hold,
        step: &TxStep<'_>,
    ) -> Result<Held, StoreError> {
        let _ = good;
        tx.commit_step(hold, step).await
    }

    async fn resolve(&self, good: &Good<D>, resolve: &Resolve<'_>) -> Result<bool, StoreError> {
        good.resolve(resolve).await
    }

    async fn now(&self, good: &Good<D>) -> Result<Duration, StoreError> {
        good.now().await
    }

    async fn last_tick(&self, good: &Good<D>, job: JobId) -> Result<Option<Tick>, StoreError> {
        good.last_tick(job).await
    }

    async fn advance_tick(
        &self,
        good: &Good<D>,
        job: JobId,
        from: Option<Tick>,
        to: Tick,
    ) -> Result<bool, StoreError> {
        good.advance_tick(job, from, to).await
    }

    async fn keys(&self, good: &Good<D>, filter: &KeyFilter<'_>) -> Result<Vec<KeyRow>, StoreError> {
        good.keys(filter).await
    }

    async fn jobs(&self, good: &Good<D>) -> Result<Vec<JobRow>, StoreError> {
        good.jobs().await
    }

    async fn claims(&self, good: &Good<D>, filter: &KeyFilter<'_>) -> Result<Vec<ClaimRow>, StoreError> {
        good.claims(filter).await
    }

    async fn release_claims(
        &self,
        good: &Good<D>,
        task: TaskId,
        action: &str,
        why: &str,
    ) -> Result<u64, StoreError> {
        good.release_claims(task, action, why).await
    }

    async fn volume(&self, good: &Good<D>) -> Result<Volume, StoreError> {
        good.volume().await
    }

    async fn forget(&self, good: &Good<D>, forget: &Forget<'_>) -> Result<bool, StoreError> {
        good.forget(forget).await
    }

    async fn audit(&self, good: &Good<D>, key: KeyHash) -> Result<Vec<AuditRow>, StoreError> {
        good.audit(key).await
    }

    async fn tasks(
        &self,
        good: &Good<D>,
        namespace: &str,
        after: i64,
        limit: u32,
    ) -> Result<Vec<TaskRow>, StoreError> {
        good.tasks(namespace, after, limit).await
    }

    async fn take_task(
        &self,
        good: &Good<D>,
        namespace: &str,
        number: i64,
    ) -> Result<Option<TaskRow>, StoreError> {
        good.take_task(namespace, number).await
    }

    async fn watch(&self, good: &Good<D>, key: KeyHash) -> Result<Option<Box<dyn Watch>>, StoreError> {
        good.watch(key).await
    }

    async fn push(
        &self,
        good: &Good<D>,
        connection: Option<&mut D::Connection>,
        engine: Engine,
        tasks: &[Push<'_>],
    ) -> Result<Vec<Pushed>, StoreError> {
        good.push(connection, engine, tasks).await
    }

    async fn replace(
        &self,
        good: &Good<D>,
        connection: Option<&mut D::Connection>,
        engine: Engine,
        task: &Push<'_>,
        holder: TaskId,
    ) -> Result<bool, StoreError> {
        good.replace(connection, engine, task, holder).await
    }

    async fn supersede(
        &self,
        good: &Good<D>,
        connection: Option<&mut D::Connection>,
        engine: Engine,
        task: &Push<'_>,
        holder: TaskId,
    ) -> Result<bool, StoreError> {
        good.supersede(connection, engine, task, holder).await
    }

    async fn acquire(
        &self,
        good: &Good<D>,
        job: JobId,
        claim: &UniqueClaim<'_>,
        task: TaskId,
        worker: Option<&str>,
    ) -> Result<Option<Holder>, StoreError> {
        good.acquire(job, claim, task, worker).await
    }

    async fn keep_latest(
        &self,
        good: &Good<D>,
        moment: Moment,
        claim: &Key,
        task: TaskId,
        worker: Option<&str>,
    ) -> Result<Latest, StoreError> {
        good.keep_latest(moment, claim, task, worker).await
    }

    async fn holder(&self, good: &Good<D>, claim: KeyHash) -> Result<Option<Holder>, StoreError> {
        good.holder(claim).await
    }

    async fn release(&self, good: &Good<D>, task: TaskId, worker: Option<&str>) -> Result<bool, StoreError> {
        good.release(task, worker).await
    }

    async fn sweep_claims(&self, good: &Good<D>, limit: u32) -> Result<u64, StoreError> {
        good.sweep_claims(limit).await
    }

    /// The prefix of the tables that a store takes which was given `prefix`.
    fn prefix<'a>(&self, prefix: &'a str) -> &'a str {
        prefix
    }

    /// What a nested transaction on the store's connection does.
    async fn insert_nested(
        &self,
        good: &dyn Fixture<D>,
        connection: &mut D::Connection,
        effect: &str,
        end: NestedEnd,
    ) -> Result<(), BoxError> {
        good.insert_nested(connection, effect, end).await
    }

    /// The store's connections have been killed.
    fn killed(&self) {}
}

pub(crate) type Good<D> = Arc<dyn Store<D>>;

pub(crate) struct BrokenStore<D: Database> {
    pub(crate) good: Good<D>,
    pub(crate) fault: Arc<dyn Fault<D>>,
}

#[async_trait]
impl<D: Database> Store<D> for BrokenStore<D> {
    fn name(&self) -> &'static str {
        self.good.name()
    }

    async fn migrate(&self) -> Result<bool, StoreError> {
        self.fault.migrate(&self.good).await
    }

    fn migration_sql(&self) -> String {
        self.good.migration_sql()
    }

    async fn enrol(&self, namespace: &str, name: &str) -> Result<JobId, StoreError> {
        self.fault.enrol(&self.good, namespace, name).await
    }

    async fn check_row(&self, table: &str, column: &str) -> Result<(), StoreError> {
        self.fault.check_row(&self.good, table, column).await
    }

    async fn read(&self, key: KeyHash) -> Result<Option<Record>, StoreError> {
        self.fault.read(&self.good, key).await
    }

    async fn begin(&self, claim: &Claim<'_>) -> Result<Begun<D>, StoreError> {
        Ok(match self.fault.begin(&self.good, claim).await? {
            held @ (Begun::Busy | Begun::RowBusy) => held,
            Begun::Open { tx, found } => {
                let (good, fault) = (Arc::clone(&self.good), Arc::clone(&self.fault));
                Begun::Open { tx: Box::new(BrokenTx { tx: Some(tx), good, fault }), found }
            }
        })
    }

    async fn sweep(&self, cursor: Option<KeyHash>, limit: u32) -> Result<Swept, StoreError> {
        self.fault.sweep(&self.good, cursor, limit).await
    }
}

#[async_trait]
impl<D: Database> OperateStore for BrokenStore<D> {
    async fn keys(&self, filter: &KeyFilter<'_>) -> Result<Vec<KeyRow>, StoreError> {
        self.fault.keys(&self.good, filter).await
    }

    async fn jobs(&self) -> Result<Vec<JobRow>, StoreError> {
        self.fault.jobs(&self.good).await
    }

    async fn claims(&self, filter: &KeyFilter<'_>) -> Result<Vec<ClaimRow>, StoreError> {
        self.fault.claims(&self.good, filter).await
    }

    async fn release_claims(&self, task: TaskId, action: &str, why: &str) -> Result<u64, StoreError> {
        self.fault.release_claims(&self.good, task, action, why).await
    }

    async fn volume(&self) -> Result<Volume, StoreError> {
        self.fault.volume(&self.good).await
    }
}

#[async_trait]
impl<D: Database> LeaseStore for BrokenStore<D> {
    async fn claim(&self, claim: &LeaseClaim<'_>) -> Result<Claimed, StoreError> {
        self.fault.claim(&self.good, claim).await
    }

    async fn take_over(
        &self,
        claim: &LeaseClaim<'_>,
        found: &Entry,
    ) -> Result<Option<Vec<StepRecord>>, StoreError> {
        self.fault.take_over(&self.good, claim, found).await
    }

    async fn entry(&self, key: KeyHash) -> Result<Option<Entry>, StoreError> {
        self.fault.entry(&self.good, key).await
    }

    async fn renew(&self, leases: &[Lease]) -> Result<Vec<Hold>, StoreError> {
        self.fault.renew(&self.good, leases).await
    }

    async fn change(&self, hold: &Hold, change: &Change<'_>) -> Result<Held, StoreError> {
        self.fault.change(&self.good, hold, change).await
    }

    async fn resolve(&self, resolve: &Resolve<'_>) -> Result<bool, StoreError> {
        self.fault.resolve(&self.good, resolve).await
    }

    async fn forget(&self, forget: &Forget<'_>) -> Result<bool, StoreError> {
        self.fault.forget(&self.good, forget).await
    }

    async fn audit(&self, key: KeyHash) -> Result<Vec<AuditRow>, StoreError> {
        self.fault.audit(&self.good, key).await
    }

    async fn tasks(&self, namespace: &str, after: i64, limit: u32) -> Result<Vec<TaskRow>, StoreError> {
        self.fault.tasks(&self.good, namespace, after, limit).await
    }

    async fn take_task(&self, namespace: &str, number: i64) -> Result<Option<TaskRow>, StoreError> {
        self.fault.take_task(&self.good, namespace, number).await
    }

    async fn delete_task(&self, number: i64) -> Result<bool, StoreError> {
        self.good.delete_task(number).await
    }

    async fn watch(&self, key: KeyHash) -> Result<Option<Box<dyn Watch>>, StoreError> {
        self.fault.watch(&self.good, key).await
    }
}

#[async_trait]
impl<D: Database> ScheduleStore for BrokenStore<D> {
    async fn now(&self) -> Result<Duration, StoreError> {
        self.fault.now(&self.good).await
    }

    async fn last_tick(&self, job: JobId) -> Result<Option<Tick>, StoreError> {
        self.fault.last_tick(&self.good, job).await
    }

    async fn advance_tick(&self, job: JobId, from: Option<Tick>, to: Tick) -> Result<bool, StoreError> {
        self.fault.advance_tick(&self.good, job, from, to).await
    }
}

#[async_trait]
impl<D: Database> QueueStore<D> for BrokenStore<D> {
    async fn push(
        &self,
        connection: Option<&mut D::Connection>,
        engine: Engine,
        tasks: &[Push<'_>],
    ) -> Result<Vec<Pushed>, StoreError> {
        self.fault.push(&self.good, connection, engine, tasks).await
    }

    async fn replace(
        &self,
        connection: Option<&mut D::Connection>,
        engine: Engine,
        task: &Push<'_>,
        holder: TaskId,
    ) -> Result<bool, StoreError> {
        self.fault.replace(&self.good, connection, engine, task, holder).await
    }

    async fn supersede(
        &self,
        connection: Option<&mut D::Connection>,
        engine: Engine,
        task: &Push<'_>,
        holder: TaskId,
    ) -> Result<bool, StoreError> {
        self.fault.supersede(&self.good, connection, engine, task, holder).await
    }

    async fn acquire(
        &self,
        job: JobId,
        claim: &UniqueClaim<'_>,
        task: TaskId,
        worker: Option<&str>,
    ) -> Result<Option<Holder>, StoreError> {
        self.fault.acquire(&self.good, job, claim, task, worker).await
    }

    async fn keep_latest(
        &self,
        moment: Moment,
        claim: &Key,
        task: TaskId,
        worker: Option<&str>,
    ) -> Result<Latest, StoreError> {
        self.fault.keep_latest(&self.good, moment, claim, task, worker).await
    }

    async fn holder(&self, claim: KeyHash) -> Result<Option<Holder>, StoreError> {
        self.fault.holder(&self.good, claim).await
    }

    async fn release(&self, task: TaskId, worker: Option<&str>) -> Result<bool, StoreError> {
        self.fault.release(&self.good, task, worker).await
    }

    async fn sweep_claims(&self, limit: u32) -> Result<u64, StoreError> {
        self.fault.sweep_claims(&self.good, limit).await
    }

    async fn put_off(
        &self,
        engine: Engine,
        task: TaskId,
        worker: &str,
        after: Duration,
        attempt: Attempt,
    ) -> Result<bool, StoreError> {
        self.good.put_off(engine, task, worker, after, attempt).await
    }

    async fn queue_of(&self, engine: Engine, worker: &str) -> Result<Option<String>, StoreError> {
        self.good.queue_of(engine, worker).await
    }

    async fn is_prepared(&self, engine: Engine) -> Result<bool, StoreError> {
        self.good.is_prepared(engine).await
    }

    async fn prepare(&self, engine: Engine) -> Result<(), StoreError> {
        self.good.prepare(engine).await
    }
}

struct BrokenTx<D: Database> {
    /// There until the transaction ends.
    tx: Option<Box<dyn StoreTx<D>>>,
    good: Good<D>,
    fault: Arc<dyn Fault<D>>,
}

impl<D: Database> BrokenTx<D> {
    fn open(&mut self) -> &mut dyn StoreTx<D> {
        &mut **self.tx.as_mut().expect("the transaction is open")
    }
}

#[async_trait]
impl<D: Database> StoreTx<D> for BrokenTx<D> {
    fn connection(&mut self) -> &mut D::Connection {
        self.open().connection()
    }

    fn connection_ref(&self) -> &D::Connection {
        self.tx.as_ref().expect("the transaction is open").connection_ref()
    }

    async fn undo(&mut self) -> Result<(), StoreError> {
        let fault = Arc::clone(&self.fault);
        fault.undo(self.open()).await
    }

    async fn undo_violation(
        &mut self,
        error: &(dyn StdError + Send + Sync + 'static),
        name: &str,
    ) -> Result<bool, StoreError> {
        let fault = Arc::clone(&self.fault);
        fault.undo_violation(self.open(), error, name).await
    }

    async fn enqueue(&mut self, tasks: &[NewTask]) -> Result<(), StoreError> {
        let (fault, good) = (Arc::clone(&self.fault), Arc::clone(&self.good));
        fault.enqueue(&good, self.open(), tasks).await
    }

    async fn commit(mut self: Box<Self>, record: Option<&NewRecord<'_>>) -> Result<Committed, StoreError> {
        let tx = self.tx.take().expect("the transaction is open");
        self.fault.commit(&self.good, tx, record).await
    }

    async fn commit_step(mut self: Box<Self>, hold: &Hold, step: &TxStep<'_>) -> Result<Held, StoreError> {
        let tx = self.tx.take().expect("the transaction is open");
        self.fault.commit_step(&self.good, tx, hold, step).await
    }

    async fn rollback(mut self: Box<Self>) -> Result<(), StoreError> {
        let tx = self.tx.take().expect("the transaction is open");
        self.fault.rollback(tx).await
    }
}

impl<D: Database> Drop for BrokenTx<D> {
    fn drop(&mut self) {
        if let Some(tx) = self.tx.take() {
            self.fault.dropped(tx);
        }
    }
}
