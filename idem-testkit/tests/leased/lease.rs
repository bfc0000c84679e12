//! Who has the key: heartbeats, lost claims, and stores that are in trouble.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use async_trait::async_trait;
use idem_runtime::key::KeyHash;
use idem_runtime::prelude::*;
use idem_runtime::record::{Entry, Hold, NewRecord, State, StepRecord};
use idem_runtime::store::memory::{Memory, MemoryStore};
use idem_runtime::store::{
    Change, Claimed, Committed, Database, Held, Lease, LeaseClaim, Store, StoreTx, TxStep,
};
use idem_runtime::{StoreError, StoreErrorKind};

use super::faults::{BrokenStore, Fault, Good};
use super::world::{Desk, Failure, World};

#[idempotent(key = id, in_doubt = rerun, lock = lease("30s"), on_busy = error)]
async fn work(id: i64, #[state] world: &World) -> Result<String, Failure> {
    let _dropped = OnDrop(world);
    world.call("work", id.to_string()).await
}

/// Tells the world that a body is gone.
struct OnDrop<'w>(&'w World);

impl Drop for OnDrop<'_> {
    fn drop(&mut self) {
        self.0.note("a body is gone");
    }
}

/// A store in memory whose trouble is made by hand.
#[derive(Default)]
struct Troubles {
    renewals: AtomicUsize,
    renewed: AtomicUsize,
    /// Renewals fail.
    renews_nothing: AtomicBool,
    /// Renewals never come back.
    hangs: AtomicBool,
    /// Renewals are refused because others write.
    is_busy: AtomicBool,
    /// Renewals are refused because no connection is free, or this is no primary any more.
    refuses: std::sync::Mutex<Option<StoreErrorKind>>,
    /// The write with this number, or each, never comes back.
    silent: std::sync::Mutex<Option<Silent>>,
    /// How many writes are made to look lost.
    lost_answers: AtomicUsize,
    /// Those writes are made all the same.
    though_made: AtomicBool,
    /// How many writes fail for now.
    temporary: AtomicUsize,
    writes: AtomicUsize,
    /// How long a claim takes to be answered.
    slow_claims: std::sync::Mutex<Duration>,
    /// Questions for what is recorded that fail for now.
    unanswered: AtomicUsize,
    /// Take-overs whose answers are lost.
    lost_take_overs: AtomicUsize,
    /// Refused for good: that a key is parked.
    parks_nothing: AtomicUsize,
    /// How long the ends of transactions take.
    slow_ends: std::sync::Mutex<Duration>,
    /// Ends of transactions that are never answered.
    silent_ends: AtomicUsize,
}

impl Troubles {
    /// Holds the end of a transaction up for as long as it takes.
    async fn end<T>(&self, ending: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        let slow = *self.slow_ends.lock().unwrap();
        tokio::time::sleep(slow).await;
        if take_one(&self.silent_ends) {
            if self.though_made.load(Ordering::SeqCst) {
                ending.await?;
            }
            return std::future::pending().await;
        }
        ending.await
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Silent {
    Write(usize),
    All,
}

fn take_one(counter: &AtomicUsize) -> bool {
    counter.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
}

#[async_trait]
impl<D: Database> Fault<D> for Arc<Troubles> {
    async fn renew(&self, good: &Good<D>, leases: &[Lease]) -> Result<Vec<Hold>, StoreError> {
        self.renewals.fetch_add(1, Ordering::SeqCst);
        if self.hangs.load(Ordering::SeqCst) {
            std::future::pending().await
        }
        if self.is_busy.load(Ordering::SeqCst) {
            return Err(StoreError::new(StoreErrorKind::Conflict, "others write").temporary());
        }
        if let Some(kind) = *self.refuses.lock().unwrap() {
            return Err(StoreError::new(kind, "no"));
        }
        if self.renews_nothing.load(Ordering::SeqCst) {
            return Err(StoreError::new(StoreErrorKind::Unavailable, "no route to host").temporary());
        }
        self.renewed.fetch_add(leases.len(), Ordering::SeqCst);
        good.renew(leases).await
    }

    async fn claim(&self, good: &Good<D>, claim: &LeaseClaim<'_>) -> Result<Claimed, StoreError> {
        let slow = *self.slow_claims.lock().unwrap();
        tokio::time::sleep(slow).await;
        good.claim(claim).await
    }

    async fn take_over(
        &self,
        good: &Good<D>,
        claim: &LeaseClaim<'_>,
        found: &Entry,
    ) -> Result<Option<Vec<StepRecord>>, StoreError> {
        let taken = good.take_over(claim, found).await?;
        match take_one(&self.lost_take_overs) {
            true => Err(StoreError::new(StoreErrorKind::Unavailable, "connection reset").temporary()),
            false => Ok(taken),
        }
    }

    async fn entry(&self, good: &Good<D>, key: KeyHash) -> Result<Option<Entry>, StoreError> {
        match take_one(&self.unanswered) {
            true => Err(StoreError::new(StoreErrorKind::Unavailable, "connection reset").temporary()),
            false => good.entry(key).await,
        }
    }

    async fn commit(
        &self,
        _: &Good<D>,
        tx: Box<dyn StoreTx<D>>,
        record: Option<&NewRecord<'_>>,
    ) -> Result<Committed, StoreError> {
        self.end(tx.commit(record)).await
    }

    async fn commit_step(
        &self,
        _: &Good<D>,
        tx: Box<dyn StoreTx<D>>,
        hold: &Hold,
        step: &TxStep<'_>,
    ) -> Result<Held, StoreError> {
        self.end(tx.commit_step(hold, step)).await
    }

    async fn rollback(&self, tx: Box<dyn StoreTx<D>>) -> Result<(), StoreError> {
        self.end(tx.rollback()).await
    }

    async fn change(&self, good: &Good<D>, hold: &Hold, change: &Change<'_>) -> Result<Held, StoreError> {
        let number = self.writes.fetch_add(1, Ordering::SeqCst);
        if matches!(change, Change::Park { .. }) && take_one(&self.parks_nothing) {
            return Err(StoreError::new(StoreErrorKind::Refused, "no"));
        }
        let silent = *self.silent.lock().unwrap();
        if silent.is_some_and(|silent| [Silent::Write(number), Silent::All].contains(&silent)) {
            if self.though_made.load(Ordering::SeqCst) {
                good.change(hold, change).await?;
            }
            std::future::pending::<()>().await;
        }
        if take_one(&self.temporary) {
            return Err(StoreError::new(StoreErrorKind::Conflict, "database is locked").temporary());
        }
        if take_one(&self.lost_answers) {
            if self.though_made.load(Ordering::SeqCst) {
                good.change(hold, change).await?;
            }
            return Ok(Held::Unknown);
        }
        good.change(hold, change).await
    }
}

struct Troubled {
    store: MemoryStore,
    world: World,
    troubles: Arc<Troubles>,
    idem: Idem<Memory, World>,
}

impl Troubled {
    fn new() -> Self {
        let (store, world, troubles) = (MemoryStore::new(), World::default(), Arc::new(Troubles::default()));
        let broken = BrokenStore { good: Arc::new(store.clone()), fault: Arc::new(Arc::clone(&troubles)) };
        let idem = Idem::with_store(Arc::new(broken)).state(world.clone()).build().unwrap();
        Troubled { store, world, troubles, idem }
    }

    /// Starts a run and returns when it stands in its call.
    async fn start(&self, id: i64) -> tokio::task::JoinHandle<Result<Done<String>, Error<Failure>>> {
        self.world.close("work");
        let idem = self.idem.clone();
        let run = tokio::spawn(async move { work(&idem, id).await });
        self.world.arrival().await;
        run
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_renewed_at_each_third_of_it_and_no_longer_than_the_run() {
    let desk = Troubled::new();
    let run = desk.start(1).await;
    tokio::time::sleep(Duration::from_secs(95)).await;
    assert_eq!(desk.troubles.renewals.load(Ordering::SeqCst), 9);
    desk.world.open("work");
    run.await.unwrap().unwrap();
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_eq!(desk.troubles.renewals.load(Ordering::SeqCst), 9, "nobody is left to be renewed");
    // The task has ended with its last run; another run starts it again.
    let run = desk.start(2).await;
    tokio::time::sleep(Duration::from_secs(25)).await;
    assert_eq!(desk.troubles.renewals.load(Ordering::SeqCst), 11);
    run.abort();
}

#[tokio::test(start_paused = true)]
async fn a_thousand_runs_are_renewed_in_a_handful_of_statements() {
    let desk = Troubled::new();
    desk.world.close("work");
    let mut runs = tokio::task::JoinSet::new();
    for id in 0..1_000 {
        let idem = desk.idem.clone();
        runs.spawn(async move { work(&idem, id).await });
        // Not all at once: they begin over six seconds.
        if id % 100 == 0 {
            tokio::time::sleep(Duration::from_millis(600)).await;
        }
    }
    for _ in 0..1_000 {
        desk.world.arrival().await;
    }
    let (before, renewed) =
        (desk.troubles.renewals.load(Ordering::SeqCst), desk.troubles.renewed.load(Ordering::SeqCst));
    tokio::time::sleep(Duration::from_secs(30)).await;
    let renewals = desk.troubles.renewals.load(Ordering::SeqCst) - before;
    let renewed = desk.troubles.renewed.load(Ordering::SeqCst) - renewed;
    println!("1,000 leases over 30 s: {renewals} statements, {renewed} renewals");
    assert!(renewals <= 15, "{renewals} statements in 30 s");
    assert!(renewed >= 3_000, "{renewed} renewals in 30 s");
    desk.world.open("work");
    assert_eq!(runs.join_all().await.iter().filter(|run| run.is_ok()).count(), 1_000);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_overtaken_is_cancelled_and_says_so() {
    let desk = Desk::new();
    desk.world.close("work");
    let idem = desk.idem.clone();
    let run = tokio::spawn(async move { work(&idem, 1).await });
    desk.world.arrival().await;
    assert!(matches!(work(&desk.other(), 1).await, Err(Error::Busy(_))), "a live lease is not taken over");
    desk.store.advance(Duration::from_secs(31));
    let other = desk.other();
    let successor = tokio::spawn(async move { work(&other, 1).await });
    desk.world.arrival().await;
    match run.await.unwrap() {
        Err(Error::LostClaim(lost)) => assert_eq!((lost.job, &*lost.key, lost.epoch.0), ("work", "1", 1)),
        other => panic!("a run that was overtaken answered {other:?}"),
    }
    assert_eq!(desk.world.count("a body is gone"), 1, "the body was not dropped");
    desk.world.open("work");
    assert!(successor.await.unwrap().unwrap().is_executed());
    assert!(work(&desk.idem, 1).await.unwrap().is_replayed());
    assert_eq!(desk.world.count("work"), 1);
}

#[idempotent(key = id, in_doubt = rerun, lock = lease("1s"))]
async fn blocking(run: &mut Run<'_, Memory>, id: i64, #[state] gate: &Blockade) -> Result<i64, Failure> {
    if gate.blocks.swap(false, Ordering::SeqCst) {
        gate.stands.lock().unwrap().send(()).unwrap();
        // No await: nothing else of this thread goes on, the heartbeat included.
        gate.goes_on.lock().unwrap().recv().unwrap();
    }
    run.tx_step("effect", async |tx| {
        tx.set(format!("by epoch {}", if gate.blocks.load(Ordering::SeqCst) { 0 } else { 1 }), "");
        Ok::<_, Failure>(())
    })
    .await?;
    gate.effects.fetch_add(1, Ordering::SeqCst);
    Ok(id)
}

#[idempotent(key = id, in_doubt = park, lock = lease("1s"))]
async fn frozen(run: &mut Run<'_, Memory>, id: i64, #[state] world: &World) -> Result<i64, Failure> {
    run.step("unkeyed", async |_| world.call("unkeyed", id.to_string()).await).await?;
    Ok(id)
}

/// Stands still, with its whole thread, once it has written that a step begins.
struct Freezes {
    once: AtomicBool,
    stands: std::sync::Mutex<mpsc::Sender<()>>,
    goes_on: std::sync::Mutex<mpsc::Receiver<()>>,
}

#[async_trait]
impl<D: Database> Fault<D> for Freezes {
    async fn change(&self, good: &Good<D>, hold: &Hold, change: &Change<'_>) -> Result<Held, StoreError> {
        let held = good.change(hold, change).await;
        if matches!(change, Change::BeginStep { .. }) && self.once.swap(false, Ordering::SeqCst) {
            self.stands.lock().unwrap().send(()).unwrap();
            self.goes_on.lock().unwrap().recv().unwrap();
        }
        held
    }
}

#[test]
fn a_process_that_stood_still_for_a_lease_asks_before_it_calls() {
    let (store, world) = (MemoryStore::new(), World::default());
    let (stands, has_stood) = mpsc::channel();
    let (go_on, goes_on) = mpsc::channel();
    let (stands, goes_on) = (std::sync::Mutex::new(stands), std::sync::Mutex::new(goes_on));
    let freezes = Freezes { once: AtomicBool::new(true), stands, goes_on };
    let broken = BrokenStore { good: Arc::new(store.clone()), fault: Arc::new(freezes) };
    let run_on_a_thread = |store: Arc<dyn Store<Memory>>, world: World| {
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let idem = Idem::with_store(store).state(world).build().unwrap();
                frozen(&idem, 1).await
            })
        })
    };
    let stood = run_on_a_thread(Arc::new(broken), world.clone());
    has_stood.recv().unwrap();
    // It has made its claim before.
    let began = std::time::Instant::now();
    store.advance(Duration::from_secs(2));
    let successor = run_on_a_thread(Arc::new(store.clone()), world.clone()).join().unwrap();
    assert!(matches!(successor, Err(Error::Parked(_))), "it answered {successor:?}");
    // The lease is over by the clock of the process, too.
    std::thread::sleep(Duration::from_millis(1_100).saturating_sub(began.elapsed()));
    go_on.send(()).unwrap();
    let woken = stood.join().unwrap();
    assert!(matches!(woken, Err(Error::LostClaim(_))), "it answered {woken:?}");
    assert_eq!(world.count("unkeyed"), 0, "it called although the key was parked");
}

struct Blockade {
    blocks: AtomicBool,
    stands: std::sync::Mutex<mpsc::Sender<()>>,
    goes_on: std::sync::Mutex<mpsc::Receiver<()>>,
    effects: AtomicUsize,
}

#[test]
fn a_body_that_blocks_its_thread_past_its_lease_changes_nothing_when_it_wakes() {
    let store = MemoryStore::new();
    let (stands, has_stood) = mpsc::channel();
    let (go_on, goes_on) = mpsc::channel();
    let gate = Arc::new(Blockade {
        blocks: AtomicBool::new(true),
        stands: std::sync::Mutex::new(stands),
        goes_on: std::sync::Mutex::new(goes_on),
        effects: AtomicUsize::new(0),
    });
    let run_on_a_thread = |store: MemoryStore, gate: Arc<Blockade>| {
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let idem = Idem::with_store(Arc::new(store)).state(App { gate }).build().unwrap();
                blocking(&idem, 1).await
            })
        })
    };
    let blocked = run_on_a_thread(store.clone(), Arc::clone(&gate));
    has_stood.recv().unwrap();
    store.advance(Duration::from_secs(2));
    let successor = run_on_a_thread(store.clone(), Arc::clone(&gate)).join().unwrap();
    assert!(successor.unwrap().is_executed());
    go_on.send(()).unwrap();
    let woken = blocked.join().unwrap();
    assert!(matches!(woken, Err(Error::LostClaim(_))), "a run that woke up too late answered {woken:?}");
    assert_eq!(store.effects().len(), 1);
    assert_eq!(gate.effects.load(Ordering::SeqCst), 1);
}

struct App {
    gate: Arc<Blockade>,
}

impl Provides<Blockade> for App {
    fn provide(&self) -> &Blockade {
        &self.gate
    }
}

#[idempotent(key = id, in_doubt = rerun)]
async fn panicking(id: i64, #[state] world: &World) -> Result<String, Failure> {
    if world.call("panics", "").await.is_err() {
        panic!("a bug");
    }
    Ok(id.to_string())
}

#[tokio::test]
async fn a_body_that_panics_leaves_the_key_free() {
    let desk = Desk::new();
    desk.world.answer("panics", &[Err(Failure::Refused)]);
    let idem = desk.idem.clone();
    let run = tokio::spawn(async move { panicking(&idem, 1).await });
    assert!(run.await.expect_err("the body panics").is_panic());
    // The key is freed in a task of its own.
    while !desk.idem.unfinished(&[State::Running], 1).await.unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    let failed = desk.idem.unfinished(&[State::Failed], 1).await.unwrap();
    assert_eq!(failed[0].error.as_deref(), Some("the run panicked"));
    assert!(panicking(&desk.idem, 1).await.unwrap().is_executed());
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_for_a_moment_costs_nothing() {
    let desk = Troubled::new();
    let run = desk.start(1).await;
    desk.troubles.renews_nothing.store(true, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert!(desk.troubles.renewals.load(Ordering::SeqCst) >= 4, "it is tried again soon");
    desk.troubles.renews_nothing.store(false, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(600)).await;
    desk.world.open("work");
    assert!(run.await.unwrap().unwrap().is_executed());
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_took_longer_than_its_lease_is_renewed_and_good() {
    let desk = Troubled::new();
    *desk.troubles.slow_claims.lock().unwrap() = Duration::from_secs(45);
    let run = desk.start(1).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    desk.world.open("work");
    assert!(run.await.unwrap().unwrap().is_executed());
}

#[tokio::test(start_paused = true)]
async fn a_renewal_without_an_answer_is_tried_again_in_time() {
    let desk = Troubled::new();
    let run = desk.start(1).await;
    desk.troubles.hangs.store(true, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(19)).await;
    desk.troubles.hangs.store(false, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(60)).await;
    desk.world.open("work");
    assert!(run.await.unwrap().unwrap().is_executed());
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_only_busy_takes_no_claim_away() {
    let desk = Troubled::new();
    let run = desk.start(1).await;
    desk.troubles.is_busy.store(true, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(300)).await;
    desk.world.open("work");
    assert!(run.await.unwrap().unwrap().is_executed());
}

/// Whoever cannot reach the store cannot know what others are doing there.
#[tokio::test(start_paused = true)]
async fn a_run_that_gets_no_connection_for_a_whole_lease_gives_up() {
    for kind in [StoreErrorKind::Exhausted, StoreErrorKind::ReadOnly, StoreErrorKind::Misconfigured] {
        let desk = Troubled::new();
        let began = tokio::time::Instant::now();
        let run = desk.start(1).await;
        *desk.troubles.refuses.lock().unwrap() = Some(kind);
        let answer = tokio::time::timeout(Duration::from_secs(600), run).await.expect("it gives up").unwrap();
        assert!(matches!(answer, Err(Error::LostClaim(_))), "{kind:?}: it answered {answer:?}");
        let took = began.elapsed();
        assert!(took >= Duration::from_secs(30) && took < Duration::from_secs(41), "{kind:?}: {took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_whose_store_is_away_for_a_whole_lease_gives_up() {
    for hangs in [false, true] {
        let desk = Troubled::new();
        let began = tokio::time::Instant::now();
        let run = desk.start(1).await;
        desk.troubles.renews_nothing.store(!hangs, Ordering::SeqCst);
        desk.troubles.hangs.store(hangs, Ordering::SeqCst);
        let answer = run.await.unwrap();
        assert!(matches!(answer, Err(Error::LostClaim(_))), "it answered {answer:?}");
        let took = began.elapsed();
        assert!(
            took >= Duration::from_secs(30) && took < Duration::from_secs(41),
            "it gave up after {took:?}"
        );
        // By the store's clock nothing has passed, so the claim is live until the store says otherwise.
        desk.troubles.hangs.store(false, Ordering::SeqCst);
        assert!(matches!(work(&desk.idem, 1).await, Err(Error::Busy(_))));
        desk.store.advance(Duration::from_secs(31));
        desk.world.open("work");
        assert!(work(&desk.idem, 1).await.unwrap().is_executed());
    }
}

#[idempotent(key = id, in_doubt = park)]
async fn writing(run: &mut Run<'_, Memory>, id: i64, #[state] world: &World) -> Result<i64, Failure> {
    run.step("keyed", async |key| world.call("keyed", key).await).rerun().await?;
    run.step("unkeyed", async |key| world.call("unkeyed", key).await).await?;
    Ok(id)
}

/// The writes of [`writing`]: a step, the beginning and the end of another, the outcome.
const WRITES: usize = 4;

#[tokio::test(start_paused = true)]
async fn a_write_whose_answer_was_lost_is_made_once() {
    for though_made in [false, true] {
        for lost in 1..=3 {
            let desk = Troubled::new();
            desk.troubles.though_made.store(though_made, Ordering::SeqCst);
            desk.troubles.lost_answers.store(lost, Ordering::SeqCst);
            assert!(writing(&desk.idem, 1).await.unwrap().is_executed());
            assert!(writing(&desk.idem, 1).await.unwrap().is_replayed());
            assert_eq!((desk.world.count("keyed"), desk.world.count("unkeyed")), (1, 1));
            assert_eq!(desk.troubles.writes.load(Ordering::SeqCst), WRITES + lost);
        }
    }
}

/// A connection whose other end has gone without a word.
#[tokio::test(start_paused = true)]
async fn a_write_that_is_never_answered_is_made_on_another_connection() {
    for though_made in [false, true] {
        for at in 0..WRITES {
            let desk = Troubled::new();
            desk.troubles.though_made.store(though_made, Ordering::SeqCst);
            *desk.troubles.silent.lock().unwrap() = Some(Silent::Write(at));
            let run = tokio::time::timeout(Duration::from_secs(600), writing(&desk.idem, 1));
            assert!(run.await.expect("it goes on").unwrap().is_executed());
            assert!(writing(&desk.idem, 1).await.unwrap().is_replayed());
            assert_eq!((desk.world.count("keyed"), desk.world.count("unkeyed")), (1, 1));
            assert_eq!(desk.troubles.writes.load(Ordering::SeqCst), WRITES + 1);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_answers_no_write_ends_the_run_in_minutes() {
    let desk = Troubled::new();
    let run = desk.start(1).await;
    *desk.troubles.silent.lock().unwrap() = Some(Silent::All);
    desk.world.open("work");
    let began = tokio::time::Instant::now();
    let answer = tokio::time::timeout(Duration::from_secs(600), run).await.expect("it ends").unwrap();
    assert!(
        matches!(&answer, Err(Error::Store(error)) if error.kind() == StoreErrorKind::OutcomeUnknown),
        "it answered {answer:?}"
    );
    // The outcome twice, and that the run has failed.
    assert!(began.elapsed() < Duration::from_secs(130), "{:?}", began.elapsed());
}

/// Takes a step in a transaction that lasts as long as it is told.
#[idempotent(key = id, in_doubt = rerun)]
async fn order(run: &mut Run<'_, Memory>, id: i64, seconds: u64) -> Result<i64, Failure> {
    run.tx_step("order", async |tx| {
        tx.set(format!("order {id}"), "made");
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        Ok::<_, Failure>(id)
    })
    .await
}

/// The same in a transaction of its own, which fails if it is told to.
#[idempotent(key = id)]
async fn note(
    tx: &mut Tx<'_, Memory>,
    id: i64,
    seconds: u64,
    #[state] world: &World,
) -> Result<i64, Failure> {
    tx.set(format!("note {id}"), "made");
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    world.call("note", id.to_string()).await.map(|_| id)
}

/// The same with a limit.
#[idempotent(key = id, timeout = "5m")]
async fn limited(tx: &mut Tx<'_, Memory>, id: i64) -> Result<i64, Failure> {
    tx.set(format!("limited {id}"), "made");
    Ok(id)
}

/// Longer than anybody waits.
const FOR_EVER: Duration = Duration::from_secs(3600);

#[tokio::test(start_paused = true)]
async fn a_transaction_whose_end_is_never_answered_is_looked_up() {
    for though_made in [false, true] {
        let desk = Troubled::new();
        desk.troubles.though_made.store(though_made, Ordering::SeqCst);
        desk.troubles.silent_ends.store(1, Ordering::SeqCst);
        let first = tokio::time::timeout(FOR_EVER, order(&desk.idem, 1, 0)).await.expect("it is given up");
        match first {
            Ok(done) => assert!(though_made && done.is_executed(), "{done:?}"),
            Err(Error::Store(error)) => {
                assert!(!though_made && error.kind() == StoreErrorKind::OutcomeUnknown, "{error}");
                assert!(order(&desk.idem, 1, 0).await.unwrap().is_executed());
            }
            Err(error) => panic!("{error}"),
        }

        desk.troubles.silent_ends.store(1, Ordering::SeqCst);
        let first = tokio::time::timeout(FOR_EVER, note(&desk.idem, 1, 0)).await.expect("it is given up");
        match first {
            Ok(done) => assert!(though_made && done.is_replayed(), "{done:?}"),
            Err(error) => {
                assert!(!though_made && error.is_retryable(), "{error}");
                assert!(note(&desk.idem, 1, 0).await.unwrap().is_executed());
            }
        }
        assert_eq!(desk.store.effects().len(), 2);

        // An error of the body comes back, whatever the rollback says.
        desk.world.answer("note", &[Err(Failure::Refused)]);
        desk.troubles.silent_ends.store(1, Ordering::SeqCst);
        let failed = tokio::time::timeout(FOR_EVER, note(&desk.idem, 2, 0)).await.expect("it is given up");
        assert!(matches!(failed, Err(Error::Job(Failure::Refused))), "{failed:?}");
        assert!(note(&desk.idem, 2, 0).await.unwrap().is_executed());
    }
}

/// What takes long to do may take long to commit.
#[tokio::test(start_paused = true)]
async fn a_commit_may_take_as_long_as_its_transaction() {
    let desk = Troubled::new();
    let commits_take = |seconds| *desk.troubles.slow_ends.lock().unwrap() = Duration::from_secs(seconds);
    commits_take(50);
    assert!(order(&desk.idem, 1, 0).await.unwrap().is_executed());
    assert!(note(&desk.idem, 1, 0).await.unwrap().is_executed());
    commits_take(280);
    assert!(order(&desk.idem, 2, 300).await.unwrap().is_executed());
    assert!(note(&desk.idem, 2, 300).await.unwrap().is_executed());
    assert!(limited(&desk.idem, 1).await.unwrap().is_executed());
    assert_eq!(desk.store.effects().len(), 5);
}

#[tokio::test(start_paused = true)]
async fn the_last_answer_may_be_lost_as_well() {
    for though_made in [false, true] {
        let desk = Troubled::new();
        desk.troubles.though_made.store(though_made, Ordering::SeqCst);
        let run = desk.start(1).await;
        desk.troubles.lost_answers.store(1, Ordering::SeqCst);
        desk.world.open("work");
        assert!(run.await.unwrap().unwrap().is_executed());
        assert!(work(&desk.idem, 1).await.unwrap().is_replayed());
        assert_eq!(desk.world.count("work"), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_that_cannot_ask_whether_it_is_done_asks_again() {
    let desk = Troubled::new();
    desk.troubles.though_made.store(true, Ordering::SeqCst);
    let run = desk.start(1).await;
    desk.troubles.lost_answers.store(1, Ordering::SeqCst);
    desk.troubles.unanswered.store(3, Ordering::SeqCst);
    desk.world.open("work");
    assert!(run.await.unwrap().unwrap().is_executed());
    assert_eq!(desk.troubles.unanswered.load(Ordering::SeqCst), 0);
}

#[idempotent(key = id, in_doubt = park)]
async fn unkeyed(id: i64, #[state] world: &World) -> Result<String, Failure> {
    world.call("unkeyed", id.to_string()).await
}

#[tokio::test(start_paused = true)]
async fn a_doubt_outlives_a_take_over_whose_answer_is_lost_and_a_park_that_is_refused() {
    let desk = Troubled::new();
    desk.world.answer("unkeyed", &[Err(Failure::TimedOut)]);
    assert!(unkeyed(&desk.idem, 1).await.is_err());
    desk.troubles.lost_take_overs.store(1, Ordering::SeqCst);
    assert!(matches!(unkeyed(&desk.idem, 1).await, Err(Error::Store(_))));
    desk.troubles.parks_nothing.store(1, Ordering::SeqCst);
    assert!(matches!(unkeyed(&desk.idem, 1).await, Err(Error::Store(_) | Error::Busy(_))));
    desk.troubles.parks_nothing.store(0, Ordering::SeqCst);
    for _ in 0..3 {
        desk.store.advance(Duration::from_secs(60));
        assert!(matches!(unkeyed(&desk.idem, 1).await, Err(Error::Parked(_))));
    }
    assert_eq!(desk.world.count("unkeyed"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_busy_gets_the_write_again() {
    let desk = Troubled::new();
    desk.troubles.temporary.store(5, Ordering::SeqCst);
    assert!(writing(&desk.idem, 1).await.unwrap().is_executed());
    assert_eq!(desk.troubles.writes.load(Ordering::SeqCst), WRITES + 5);
    assert_eq!((desk.world.count("keyed"), desk.world.count("unkeyed")), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_stays_busy_is_told_to_the_caller() {
    let desk = Troubled::new();
    desk.troubles.temporary.store(usize::MAX, Ordering::SeqCst);
    match writing(&desk.idem, 1).await {
        Err(Error::Store(error)) => assert!(error.is_temporary(), "{error}"),
        other => panic!("a store that takes no write answered {other:?}"),
    }
    desk.troubles.temporary.store(0, Ordering::SeqCst);
    desk.store.advance(Duration::from_secs(60));
    assert!(writing(&desk.idem, 1).await.unwrap().is_executed());
    assert_eq!((desk.world.count("keyed"), desk.world.count("unkeyed")), (2, 1));
}

#[cfg(feature = "sqlite")]
mod sqlite {
    use super::*;

    #[idempotent(key = id, in_doubt = rerun, lock = lease("3s"), on_busy = error)]
    async fn brief(id: i64, #[state] world: &World) -> Result<String, Failure> {
        world.call("work", id.to_string()).await
    }

    #[tokio::test]
    async fn a_lease_in_a_database_is_renewed_for_as_long_as_the_run_takes() {
        use idem_testkit::lab::LabDatabase;

        let lab = Sqlite::lab().await.expect("SQLite is always there");
        let world = World::default();
        let handle = || Idem::builder(lab.pool(2)).state(world.clone()).build().unwrap();
        let (idem, other) = (handle(), handle());
        idem.migrate().await.unwrap();
        world.close("work");
        let run = tokio::spawn(async move { brief(&idem, 1).await });
        world.arrival().await;
        let began = std::time::Instant::now();
        while began.elapsed() < Duration::from_secs(4) {
            // Who takes the lease over stands at the closed gate.
            let answer = tokio::time::timeout(Duration::from_secs(20), brief(&other, 1)).await;
            assert!(matches!(answer, Ok(Err(Error::Busy(_)))), "a live lease was taken over: {answer:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        world.open("work");
        assert!(run.await.unwrap().unwrap().is_executed());
        assert!(brief(&other, 1).await.unwrap().is_replayed());
    }

    /// Who leaves the queue of the writers has to begin at its end again, and behind many runs never gets through.
    #[tokio::test]
    async fn a_renewal_waits_for_its_turn_to_write_for_a_share_of_its_lease() {
        use idem_runtime::fingerprint::Fingerprint;
        use idem_runtime::key::{Key, KeyParts};
        use idem_runtime::record::{Epoch, JobId, Token};
        use idem_runtime::store::{Begun, Claim, KeyLock};
        use idem_testkit::lab::LabDatabase;

        let lab = Sqlite::lab().await.expect("SQLite is always there");
        let idem = Idem::builder(lab.pool(2)).build().unwrap();
        idem.migrate().await.unwrap();
        let store = idem.store();
        let key = |name: &str| Key::new("default", "job", &KeyParts::of(name).unwrap());
        let (leased, other) = (key("leased"), key("other"));
        let claim = LeaseClaim {
            key: &leased,
            job: JobId(1),
            fingerprint: Fingerprint::NONE,
            epoch: Epoch(1),
            token: Token(1),
            attempts: 1,
            lease: Duration::from_secs(30),
        };
        assert_eq!(store.claim(&claim).await.unwrap(), Claimed::New);
        let body = Claim {
            key: &other,
            lock: KeyLock::None,
            wait: Duration::ZERO,
            records: false,
            row: None,
            undo: false,
        };
        let Begun::Open { tx, .. } = store.begin(&body).await.unwrap() else { panic!("nobody else writes") };
        let lease = |length| [Lease { hold: claim.hold(), length }];
        let refused = store.renew(&lease(Duration::from_secs(1))).await.unwrap_err();
        assert_eq!(refused.kind(), StoreErrorKind::Conflict, "{refused}");
        let leases = lease(Duration::from_secs(30));
        let mut renewal = store.renew(&leases);
        let early = tokio::time::timeout(Duration::from_secs(1), &mut renewal).await;
        assert!(early.is_err(), "it gave its place up: {early:?}");
        drop(tx);
        assert_eq!(renewal.await.unwrap(), vec![]);
    }
}
