//! A store that tells a [`Watch`] what it is asked to do.

use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use idem_runtime::engine::TaskId;
use idem_runtime::key::{Key, KeyHash};
use idem_runtime::record::{Entry, Hold, JobId, Latest, Moment, NewRecord, Record, State, StepRecord};
use idem_runtime::schedule::Tick;
use idem_runtime::store::{
    Attempt, AuditRow, Begun, Change, Claim, ClaimRow, Claimed, Committed, Database, Engine, Forget, Found,
    Held, Holder, JobRow, KeyFilter, KeyRow, Lease, LeaseClaim, LeaseStore, NewTask, OperateStore, Push,
    Pushed, QueueStore, Resolve, ScheduleStore, Store, StoreTx, Swept, TaskRow, TxStep, UniqueClaim, Volume,
    Watch as KeyWatch,
};
use idem_runtime::{StoreError, StoreErrorKind};

use crate::watch::{Ack, BODY, Watch};

pub(crate) struct WatchedStore<D: Database> {
    pub(crate) inner: Arc<dyn Store<D>>,
    pub(crate) watch: Arc<Watch>,
}

#[async_trait]
impl<D: Database> Store<D> for WatchedStore<D> {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    async fn migrate(&self) -> Result<bool, StoreError> {
        self.inner.migrate().await
    }

    fn migration_sql(&self) -> String {
        self.inner.migration_sql()
    }

    async fn enrol(&self, namespace: &str, name: &str) -> Result<JobId, StoreError> {
        self.inner.enrol(namespace, name).await
    }

    async fn check_row(&self, table: &str, column: &str) -> Result<(), StoreError> {
        self.inner.check_row(table, column).await
    }

    async fn read(&self, key: KeyHash) -> Result<Option<Record>, StoreError> {
        self.watch.phase("reading the record");
        self.watch.window("before the record is read").await;
        let read = self.inner.read(key).await;
        match &read {
            Ok(Some(_)) => self.watch.note("reads the record: there is one"),
            Ok(None) => self.watch.note("reads the record: there is none"),
            Err(error) => self.watch.note(format!("reading the record fails: {error}")),
        }
        self.watch.window("after the record is read").await;
        read
    }

    async fn begin(&self, claim: &Claim<'_>) -> Result<Begun<D>, StoreError> {
        self.watch.phase("BEGIN");
        self.watch.window("before BEGIN").await;
        self.watch.note("BEGIN: locks the key and reads its record");
        let begun = self.inner.begin(claim).await;
        match &begun {
            Ok(Begun::Open { found: Found::Record(_), .. }) => self.watch.note("finds a record"),
            Ok(Begun::Open { found: Found::Absent, .. }) => self.watch.note("finds no record"),
            Ok(Begun::Open { found: Found::NoRow, .. }) => self.watch.note("finds no business row"),
            Ok(Begun::Busy) => self.watch.note("the key is held by another run"),
            Ok(Begun::RowBusy) => self.watch.note("the business row is held by another transaction"),
            Err(error) => self.watch.note(format!("BEGIN fails: {error}")),
        }
        // From here on the transaction is a local of this function: a run that ends at this window drops it.
        let begun = begun?;
        self.watch.window("after BEGIN").await;
        Ok(match begun {
            Begun::Open { tx, found } => {
                self.watch.phase(BODY);
                let watch = Arc::clone(&self.watch);
                Begun::Open { tx: Box::new(WatchedTx { inner: tx, watch }), found }
            }
            held @ (Begun::Busy | Begun::RowBusy) => held,
        })
    }

    async fn sweep(&self, cursor: Option<KeyHash>, limit: u32) -> Result<Swept, StoreError> {
        self.inner.sweep(cursor, limit).await
    }
}

/// Tells the claim by which a job that is unique while it runs excludes others from that of its key.
fn is_turn(claim: &LeaseClaim<'_>) -> bool {
    claim.key.readable().ends_with("(while executing)")
}

impl<D: Database> WatchedStore<D> {
    async fn claim_turn(&self, claim: &LeaseClaim<'_>) -> Result<Claimed, StoreError> {
        self.watch.window("before its turn to run is claimed").await;
        let claimed = self.inner.claim(claim).await;
        match &claimed {
            Ok(Claimed::New) => self.watch.note("claims its turn to run"),
            Ok(Claimed::Found(_)) => self.watch.note("finds that another run has its turn, or had it"),
            Err(error) => self.watch.note(format!("claiming its turn to run fails: {error}")),
        }
        self.watch.window("after its turn to run is claimed").await;
        if matches!(&claimed, Ok(Claimed::Found(entry)) if entry.state == State::Running) {
            self.watch.turned_away();
        }
        claimed
    }

    async fn take_turn_over(
        &self,
        claim: &LeaseClaim<'_>,
        found: &Entry,
    ) -> Result<Option<Vec<StepRecord>>, StoreError> {
        self.watch.window("before its turn to run is taken over").await;
        let taken = self.inner.take_over(claim, found).await;
        match &taken {
            Ok(Some(_)) => self.watch.note("takes the turn of another run over"),
            Ok(None) => self.watch.note("does not take the turn over: it has changed"),
            Err(error) => self.watch.note(format!("taking the turn over fails: {error}")),
        }
        self.watch.window("after its turn to run is taken over").await;
        taken
    }
}

#[async_trait]
impl<D: Database> LeaseStore for WatchedStore<D> {
    async fn claim(&self, claim: &LeaseClaim<'_>) -> Result<Claimed, StoreError> {
        if is_turn(claim) {
            return self.claim_turn(claim).await;
        }
        self.watch.phase("claiming the key");
        self.watch.window("before the key is claimed").await;
        let claimed = match self.watch.next_ack() {
            Ack::LostBeforeCommit(_) => Err(no_answer()),
            ack => match (ack, self.inner.claim(claim).await) {
                (Ack::LostAfterCommit(_), Ok(Claimed::New)) => {
                    self.watch.note(format!("claims the key, epoch {}, but the answer is lost", claim.epoch));
                    Err(no_answer())
                }
                (_, claimed) => claimed,
            },
        };
        match &claimed {
            Ok(Claimed::New) => self.watch.note(format!("claims the key, epoch {}", claim.epoch)),
            Ok(Claimed::Found(entry)) => self.watch.note(match entry.state {
                State::Running => String::from("the key is held by another run"),
                State::Lapsed => format!("finds a claim whose lease is over, epoch {}", entry.epoch),
                State::Failed => format!("finds a failed run, epoch {}", entry.epoch),
                State::Parked => String::from("finds the key parked"),
                State::Completed | State::Rejected => String::from("finds a record"),
                State::Absent => String::from("finds a record that has expired"),
            }),
            Err(error) => self.watch.note(format!("claiming the key fails: {error}")),
        }
        self.watch.window("after the key is claimed").await;
        match &claimed {
            Ok(Claimed::New) => self.watch.phase(BODY),
            Ok(Claimed::Found(entry)) if entry.state == State::Running => self.watch.turned_away(),
            Ok(Claimed::Found(_)) | Err(_) => {}
        }
        claimed
    }

    async fn take_over(
        &self,
        claim: &LeaseClaim<'_>,
        found: &Entry,
    ) -> Result<Option<Vec<StepRecord>>, StoreError> {
        if is_turn(claim) {
            return self.take_turn_over(claim, found).await;
        }
        self.watch.phase("taking the key over");
        self.watch.window("before the key is taken over").await;
        let taken = self.inner.take_over(claim, found).await;
        match &taken {
            Ok(Some(steps)) => {
                self.watch.note(format!("takes the key over, epoch {}, {} steps", claim.epoch, steps.len()));
            }
            Ok(None) => self.watch.note("does not take the key over: it has changed"),
            Err(error) => self.watch.note(format!("taking the key over fails: {error}")),
        }
        self.watch.window("after the key is taken over").await;
        self.watch.phase(BODY);
        taken
    }

    async fn entry(&self, key: KeyHash) -> Result<Option<Entry>, StoreError> {
        self.inner.entry(key).await
    }

    async fn renew(&self, leases: &[Lease]) -> Result<Vec<Hold>, StoreError> {
        // The heart of a worker that stands still does not beat.
        self.watch.awake().await;
        let lost = self.inner.renew(leases).await;
        if let Ok(lost) = &lost
            && !lost.is_empty()
        {
            self.watch.note("is told that it has lost its claim");
        }
        lost
    }

    async fn change(&self, hold: &Hold, change: &Change<'_>) -> Result<Held, StoreError> {
        let (window, what) = match change {
            Change::BeginStep { name, .. } => {
                ("a step is begun", format!("writes that step `{name}` begins"))
            }
            Change::EndStep { name, .. } => ("a step is recorded", format!("records step `{name}`")),
            Change::ForgetStep { .. } => {
                ("a step is forgotten", String::from("forgets a step that did not happen"))
            }
            Change::Settle { .. } => ("the outcome is written", String::from("writes the outcome")),
            Change::Fail { .. } => ("the failure is written", String::from("writes that the run failed")),
            Change::Park { .. } => ("the key is parked", String::from("parks the key")),
        };
        self.watch.phase("writing");
        self.watch.window(&format!("before {window}")).await;
        let held = match self.watch.next_ack() {
            Ack::LostBeforeCommit(_) => {
                self.watch.note(format!("{what}, but the connection breaks before; no answer comes"));
                Ok(Held::Unknown)
            }
            ack => {
                self.watch.note(what);
                let held = self.inner.change(hold, change).await;
                if let (Change::EndStep { name, .. }, Ok(Held::Yes)) = (change, &held) {
                    self.watch.recorded(name, true);
                }
                match (ack, held) {
                    (Ack::LostAfterCommit(_), Ok(Held::Yes)) => {
                        self.watch.note("the answer is lost");
                        Ok(Held::Unknown)
                    }
                    (_, held) => held,
                }
            }
        };
        match &held {
            Ok(Held::Yes) => {}
            Ok(Held::Lost) => self.watch.note("has lost its claim; nothing is written"),
            Ok(Held::Unknown) => self.watch.note("nobody knows whether it is written"),
            Err(error) => self.watch.note(format!("writing fails: {error}")),
        }
        self.watch.window(&format!("after {window}")).await;
        self.watch.phase(BODY);
        held
    }

    async fn resolve(&self, resolve: &Resolve<'_>) -> Result<bool, StoreError> {
        self.inner.resolve(resolve).await
    }

    async fn forget(&self, forget: &Forget<'_>) -> Result<bool, StoreError> {
        self.inner.forget(forget).await
    }

    async fn audit(&self, key: KeyHash) -> Result<Vec<AuditRow>, StoreError> {
        self.inner.audit(key).await
    }

    async fn tasks(&self, namespace: &str, after: i64, limit: u32) -> Result<Vec<TaskRow>, StoreError> {
        self.inner.tasks(namespace, after, limit).await
    }

    async fn take_task(&self, namespace: &str, number: i64) -> Result<Option<TaskRow>, StoreError> {
        self.inner.take_task(namespace, number).await
    }

    async fn watch(&self, key: KeyHash) -> Result<Option<Box<dyn KeyWatch>>, StoreError> {
        self.inner.watch(key).await
    }

    async fn delete_task(&self, number: i64) -> Result<bool, StoreError> {
        self.inner.delete_task(number).await
    }
}

#[async_trait]
impl<D: Database> ScheduleStore for WatchedStore<D> {
    async fn now(&self) -> Result<Duration, StoreError> {
        self.inner.now().await
    }

    async fn last_tick(&self, job: JobId) -> Result<Option<Tick>, StoreError> {
        self.inner.last_tick(job).await
    }

    async fn advance_tick(&self, job: JobId, from: Option<Tick>, to: Tick) -> Result<bool, StoreError> {
        self.inner.advance_tick(job, from, to).await
    }
}

#[async_trait]
impl<D: Database> OperateStore for WatchedStore<D> {
    async fn keys(&self, filter: &KeyFilter<'_>) -> Result<Vec<KeyRow>, StoreError> {
        self.inner.keys(filter).await
    }

    async fn jobs(&self) -> Result<Vec<JobRow>, StoreError> {
        self.inner.jobs().await
    }

    async fn claims(&self, filter: &KeyFilter<'_>) -> Result<Vec<ClaimRow>, StoreError> {
        self.inner.claims(filter).await
    }

    async fn release_claims(&self, task: TaskId, action: &str, why: &str) -> Result<u64, StoreError> {
        self.inner.release_claims(task, action, why).await
    }

    async fn volume(&self) -> Result<Volume, StoreError> {
        self.inner.volume().await
    }
}

impl<D: Database> WatchedStore<D> {
    /// Lets a call of the queue's part be stopped at both of its sides, and notes what came of it.
    async fn between<T>(
        &self,
        window: &str,
        call: impl Future<Output = Result<T, StoreError>>,
        note: impl FnOnce(&T) -> String,
    ) -> Result<T, StoreError> {
        self.watch.phase("the queue");
        self.watch.window(&format!("before {window}")).await;
        let answer = call.await;
        match &answer {
            Ok(answer) => self.watch.note(note(answer)),
            Err(error) => self.watch.note(format!("the queue fails: {error}")),
        }
        self.watch.window(&format!("after {window}")).await;
        self.watch.phase(BODY);
        answer
    }
}

#[async_trait]
impl<D: Database> QueueStore<D> for WatchedStore<D> {
    async fn push(
        &self,
        connection: Option<&mut D::Connection>,
        engine: Engine,
        tasks: &[Push<'_>],
    ) -> Result<Vec<Pushed>, StoreError> {
        let note = |pushed: &Vec<Pushed>| match &pushed[..] {
            [Pushed::New] => String::from("enqueues a task"),
            [Pushed::Done(_)] => String::from("enqueues nothing: the work is done"),
            [Pushed::Held(holder)] => format!("enqueues nothing: task {} has the claim", holder.task),
            [Pushed::Gone] => String::from("enqueues nothing: the row of the outbox is gone"),
            many => {
                let new = many.iter().filter(|pushed| **pushed == Pushed::New).count();
                format!("enqueues {new} of {} tasks", many.len())
            }
        };
        self.between("tasks are enqueued", self.inner.push(connection, engine, tasks), note).await
    }

    async fn replace(
        &self,
        connection: Option<&mut D::Connection>,
        engine: Engine,
        task: &Push<'_>,
        holder: TaskId,
    ) -> Result<bool, StoreError> {
        let note = |replaced: &bool| match replaced {
            true => format!("replaces task {holder}"),
            false => format!("does not replace task {holder}: it waits no more, or has no claim"),
        };
        let call = self.inner.replace(connection, engine, task, holder);
        self.between("a task is replaced", call, note).await
    }

    async fn supersede(
        &self,
        connection: Option<&mut D::Connection>,
        engine: Engine,
        task: &Push<'_>,
        holder: TaskId,
    ) -> Result<bool, StoreError> {
        let note = |handed: &bool| match handed {
            true => format!("takes the claim of task {holder} over"),
            false => format!("does not take a claim over: task {holder} has it no more"),
        };
        let call = self.inner.supersede(connection, engine, task, holder);
        self.between("a claim is handed over", call, note).await
    }

    async fn acquire(
        &self,
        job: JobId,
        claim: &UniqueClaim<'_>,
        task: TaskId,
        worker: Option<&str>,
    ) -> Result<Option<Holder>, StoreError> {
        let note = |holder: &Option<Holder>| match holder {
            Some(holder) if holder.task == task => String::from("has the unique claim"),
            Some(holder) => format!("finds that task {} has the unique claim", holder.task),
            None => String::from("takes no unique claim: its worker has the task no more"),
        };
        self.between("a unique claim is taken", self.inner.acquire(job, claim, task, worker), note).await
    }

    async fn keep_latest(
        &self,
        moment: Moment,
        claim: &Key,
        task: TaskId,
        worker: Option<&str>,
    ) -> Result<Latest, StoreError> {
        let note = |latest: &Latest| match latest {
            Latest::Goes => String::from("is the latest"),
            Latest::Superseded(Some(by)) => format!("is superseded by task {by}"),
            Latest::Superseded(None) => String::from("is superseded by a task that has ended"),
            Latest::Gone => String::from("is left alone: its worker has it no more"),
        };
        let call = self.inner.keep_latest(moment, claim, task, worker);
        self.between("a task is compared with newer ones", call, note).await
    }

    async fn holder(&self, claim: KeyHash) -> Result<Option<Holder>, StoreError> {
        self.inner.holder(claim).await
    }

    async fn release(&self, task: TaskId, worker: Option<&str>) -> Result<bool, StoreError> {
        let note = |released: &bool| match released {
            true => String::from("ends its unique claim"),
            false => String::from("has no unique claim to end"),
        };
        self.between("a unique claim ends", self.inner.release(task, worker), note).await
    }

    async fn put_off(
        &self,
        engine: Engine,
        task: TaskId,
        worker: &str,
        after: Duration,
        attempt: Attempt,
    ) -> Result<bool, StoreError> {
        let note = |put_off: &bool| match put_off {
            true => format!("puts the task off for {after:?}"),
            false => String::from("does not put the task off: its worker has it no more"),
        };
        let call = self.inner.put_off(engine, task, worker, after, attempt);
        self.between("a task is put off", call, note).await
    }

    async fn queue_of(&self, engine: Engine, worker: &str) -> Result<Option<String>, StoreError> {
        self.inner.queue_of(engine, worker).await
    }

    async fn is_prepared(&self, engine: Engine) -> Result<bool, StoreError> {
        self.inner.is_prepared(engine).await
    }

    async fn prepare(&self, engine: Engine) -> Result<(), StoreError> {
        self.inner.prepare(engine).await
    }

    async fn sweep_claims(&self, limit: u32) -> Result<u64, StoreError> {
        self.inner.sweep_claims(limit).await
    }
}

fn no_answer() -> StoreError {
    let text = "the connection broke, and nobody knows whether the key was claimed";
    StoreError::new(StoreErrorKind::OutcomeUnknown, text).temporary()
}

struct WatchedTx<D: Database> {
    inner: Box<dyn StoreTx<D>>,
    watch: Arc<Watch>,
}

#[async_trait]
impl<D: Database> StoreTx<D> for WatchedTx<D> {
    fn connection(&mut self) -> &mut D::Connection {
        self.inner.connection()
    }

    fn connection_ref(&self) -> &D::Connection {
        self.inner.connection_ref()
    }

    async fn undo(&mut self) -> Result<(), StoreError> {
        self.watch.phase("undoing the body");
        self.watch.window("before the body is undone").await;
        self.watch.note("undoes the body");
        self.inner.undo().await?;
        self.watch.window("after the body was undone").await;
        self.watch.phase(BODY);
        Ok(())
    }

    async fn undo_violation(
        &mut self,
        error: &(dyn StdError + Send + Sync + 'static),
        name: &str,
    ) -> Result<bool, StoreError> {
        self.watch.phase("undoing the body");
        self.watch.window("before the body is undone").await;
        let undone = self.inner.undo_violation(error, name).await?;
        if undone {
            self.watch.note(format!("undoes the body: `{name}` was violated"));
        }
        self.watch.window("after the body was undone").await;
        self.watch.phase(BODY);
        Ok(undone)
    }

    async fn enqueue(&mut self, tasks: &[NewTask]) -> Result<(), StoreError> {
        self.watch.phase("enqueueing");
        self.watch.window("before tasks are enqueued").await;
        self.watch.note("puts tasks into the outbox");
        self.inner.enqueue(tasks).await?;
        self.watch.window("after tasks are enqueued").await;
        Ok(())
    }

    async fn commit(self: Box<Self>, record: Option<&NewRecord<'_>>) -> Result<Committed, StoreError> {
        let WatchedTx { inner, watch } = *self;
        watch.phase("COMMIT");
        watch.window("before COMMIT").await;
        let ack = watch.next_ack();
        let committed = match ack {
            Ack::LostBeforeCommit(_) => {
                watch.note("the connection breaks before COMMIT; no answer comes");
                inner.rollback().await.map(|()| Committed::Unknown)
            }
            Ack::Heard | Ack::LostAfterCommit(_) => {
                watch.note(if record.is_some() {
                    "writes the record; COMMIT"
                } else {
                    "COMMIT, without a record"
                });
                inner.commit(record).await
            }
        };
        match &committed {
            Ok(Committed::Yes) => watch.note("committed"),
            Ok(Committed::LostRace) => watch.note("lost a race: the key is recorded; undone"),
            Ok(Committed::Unknown) => watch.note("nobody knows whether it committed"),
            Err(error) => watch.note(format!("COMMIT fails: {error}")),
        }
        watch.window("after COMMIT").await;
        match (ack, committed) {
            (Ack::LostAfterCommit(_), Ok(Committed::Yes)) => {
                watch.note("the answer to COMMIT is lost");
                Ok(Committed::Unknown)
            }
            (_, committed) => committed,
        }
    }

    async fn commit_step(self: Box<Self>, hold: &Hold, step: &TxStep<'_>) -> Result<Held, StoreError> {
        let WatchedTx { inner, watch } = *self;
        watch.phase("COMMIT");
        watch.window("before a step's COMMIT").await;
        let ack = watch.next_ack();
        let held = match ack {
            Ack::LostBeforeCommit(_) => {
                watch.note("the connection breaks before COMMIT; no answer comes");
                inner.rollback().await.map(|()| Held::Unknown)
            }
            Ack::Heard | Ack::LostAfterCommit(_) => {
                watch.note(format!("records step `{}`; COMMIT", step.name));
                inner.commit_step(hold, step).await
            }
        };
        match &held {
            Ok(Held::Yes) => {
                watch.recorded(step.name, false);
                watch.note("committed");
            }
            Ok(Held::Lost) => watch.note("has lost its claim; undone"),
            Ok(Held::Unknown) => watch.note("nobody knows whether it committed"),
            Err(error) => watch.note(format!("COMMIT fails: {error}")),
        }
        watch.window("after a step's COMMIT").await;
        watch.phase(BODY);
        match (ack, held) {
            (Ack::LostAfterCommit(_), Ok(Held::Yes)) => {
                watch.note("the answer to COMMIT is lost");
                Ok(Held::Unknown)
            }
            (_, held) => held,
        }
    }

    async fn rollback(self: Box<Self>) -> Result<(), StoreError> {
        let WatchedTx { inner, watch } = *self;
        watch.phase("ROLLBACK");
        watch.window("before ROLLBACK").await;
        watch.note("ROLLBACK");
        inner.rollback().await?;
        watch.window("after ROLLBACK").await;
        Ok(())
    }
}
