//! Jobs, what they are told to do, and a store whose clock is moved by hand.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use idem_runtime::prelude::*;
use idem_runtime::record::JobId;
use idem_runtime::schedule::{Scheduled, Tick};
use idem_runtime::store::memory::MemoryStore;
use idem_runtime::store::{Database, ScheduleStore, Store};
use idem_runtime::{Job, StoreError};
use serde::{Deserialize, Serialize};
use tokio::sync::{Barrier, Semaphore};
use tokio::time::Instant;

use crate::faults::{BrokenStore, Fault, Good};

/// The error of the jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Failure {
    /// It may go better the next time.
    NotNow,
    /// It never will.
    Never,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the job says {self:?}")
    }
}

/// What the bodies of jobs do, and when.
#[derive(Debug, Clone, Default)]
pub(crate) struct World(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    attempts: Vec<(Tick, Instant)>,
    effects: Vec<Tick>,
    answers: HashMap<Tick, Vec<Answer>>,
    gate: Option<Arc<Gate>>,
}

/// What a body does.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Answer {
    Fail(Failure),
    Panic,
}

impl World {
    /// The body of every job.
    pub(crate) async fn act(&self, tick: Tick) -> Result<(), Failure> {
        let gate = {
            let mut inner = self.inner();
            inner.attempts.push((tick, Instant::now()));
            inner.gate.clone()
        };
        if let Some(gate) = gate {
            gate.pass().await;
        }
        let answer = self.inner().answers.get_mut(&tick).and_then(Vec::pop);
        match answer {
            Some(Answer::Panic) => panic!("the job panics, as it was told to"),
            Some(Answer::Fail(failure)) => return Err(failure),
            None => {}
        }
        self.inner().effects.push(tick);
        Ok(())
    }

    /// Lets the next runs of a tick answer so.
    pub(crate) fn answer(&self, tick: Tick, answers: &[Answer]) {
        self.inner().answers.insert(tick, answers.iter().rev().copied().collect());
    }

    /// Holds every body that comes from now on.
    pub(crate) fn close(&self) -> Arc<Gate> {
        Arc::clone(self.inner().gate.insert(Arc::default()))
    }

    /// Returns the ticks that had their effect, in order.
    pub(crate) fn effects(&self) -> Vec<Tick> {
        self.inner().effects.clone()
    }

    /// Returns when each attempt of a tick began.
    pub(crate) fn attempts(&self, tick: Tick) -> Vec<Instant> {
        let inner = self.inner();
        inner.attempts.iter().filter(|(attempted, _)| *attempted == tick).map(|(_, at)| *at).collect()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place where somebody waits until they may go on.
#[derive(Debug)]
pub(crate) struct Gate {
    arrived: Semaphore,
    open: Semaphore,
}

impl Default for Gate {
    fn default() -> Self {
        Gate { arrived: Semaphore::new(0), open: Semaphore::new(0) }
    }
}

impl Gate {
    pub(crate) async fn pass(&self) {
        self.arrived.add_permits(1);
        self.open.acquire().await.expect("the gate is there").forget();
    }

    /// Waits until somebody has come to the gate.
    pub(crate) async fn arrival(&self) {
        self.arrived.acquire().await.expect("the gate is there").forget();
    }

    /// Lets all go on, those that wait and those that come.
    pub(crate) fn open(&self) {
        self.open.add_permits(10_000);
    }
}

/// A clock that is set by hand and goes on with tokio's.
#[derive(Debug)]
pub(crate) struct Clock {
    /// What it was set to, and when.
    set: Mutex<(Duration, Instant)>,
    /// Held when a tick is about to be advanced.
    pub(crate) advance: Mutex<Option<Arc<Gate>>>,
    /// How many advances were asked for, as permits.
    pub(crate) advances: Semaphore,
}

impl Clock {
    pub(crate) fn at(moment: Tick) -> Arc<Self> {
        Arc::new(Clock {
            set: Mutex::new((since_1970(moment), Instant::now())),
            advance: Mutex::default(),
            advances: Semaphore::new(0),
        })
    }

    pub(crate) fn set(&self, moment: Tick) {
        *self.set.lock().unwrap_or_else(PoisonError::into_inner) = (since_1970(moment), Instant::now());
    }

    fn now(&self) -> Duration {
        let (set, when) = *self.set.lock().unwrap_or_else(PoisonError::into_inner);
        set + when.elapsed()
    }
}

fn since_1970(moment: Tick) -> Duration {
    Duration::from_secs(u64::try_from(moment.unix()).expect("no test is about earlier times"))
}

#[derive(Debug)]
struct ByHand {
    clock: Arc<Clock>,
    /// Where the process waits once, when it has read the last tick.
    together: Mutex<Option<Arc<Barrier>>>,
}

#[async_trait]
impl<D: Database> Fault<D> for ByHand {
    async fn now(&self, _: &Good<D>) -> Result<Duration, StoreError> {
        Ok(self.clock.now())
    }

    async fn last_tick(&self, good: &Good<D>, job: JobId) -> Result<Option<Tick>, StoreError> {
        let last = good.last_tick(job).await;
        let together = self.together.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(together) = together {
            together.wait().await;
        }
        last
    }

    async fn advance_tick(
        &self,
        good: &Good<D>,
        job: JobId,
        from: Option<Tick>,
        to: Tick,
    ) -> Result<bool, StoreError> {
        let gate = self.clock.advance.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(gate) = gate {
            gate.pass().await;
        }
        let advanced = good.advance_tick(job, from, to).await;
        self.clock.advances.add_permits(1);
        advanced
    }
}

/// Puts a clock into a store.
pub(crate) fn with_clock<D: Database>(good: Arc<dyn Store<D>>, clock: &Arc<Clock>) -> Arc<dyn Store<D>> {
    Arc::new(BrokenStore {
        good,
        fault: Arc::new(ByHand { clock: Arc::clone(clock), together: Mutex::default() }),
    })
}

/// The same, where the process waits for others once it has read the last tick for the first time.
pub(crate) fn with_clock_and_others<D: Database>(
    good: Arc<dyn Store<D>>,
    clock: &Arc<Clock>,
    together: &Arc<Barrier>,
) -> Arc<dyn Store<D>> {
    let together = Mutex::new(Some(Arc::clone(together)));
    Arc::new(BrokenStore { good, fault: Arc::new(ByHand { clock: Arc::clone(clock), together }) })
}

/// A store in memory, with its world and its clock.
pub(crate) struct Desk {
    pub(crate) store: MemoryStore,
    pub(crate) world: World,
    pub(crate) clock: Arc<Clock>,
}

impl Desk {
    /// The clock begins at this time of the 25th of November 2026, in UTC.
    pub(crate) fn at(hour: i64, minute: i64) -> Self {
        Desk { store: MemoryStore::new(), world: World::default(), clock: Clock::at(at(hour, minute)) }
    }

    /// Returns a handle as another process has it.
    pub(crate) fn idem(&self) -> Idem<Memory, World> {
        let store = with_clock::<Memory>(Arc::new(self.store.clone()), &self.clock);
        Idem::with_store(store).state(self.world.clone()).build().expect("nothing is wrong with it")
    }

    pub(crate) async fn last_tick<J: Job>(&self) -> Option<Tick> {
        let job = self.store.enrol("default", J::SPEC.name).await.expect("memory fails nobody");
        self.store.last_tick(job).await.expect("memory fails nobody")
    }

    /// Lets a job be through with a tick.
    pub(crate) async fn begin<J: Job>(&self, tick: Tick) {
        let job = self.store.enrol("default", J::SPEC.name).await.expect("memory fails nobody");
        assert!(self.store.advance_tick(job, None, tick).await.expect("memory fails nobody"));
    }
}

/// A time of the 25th of November 2026, in UTC; more hours are days.
pub(crate) fn at(hour: i64, minute: i64) -> Tick {
    Tick::from_unix(1_795_564_800 + hour * 3_600 + minute * 60)
}

/// Full hours of that day.
pub(crate) fn hours(hours: impl IntoIterator<Item = i64>) -> Vec<Tick> {
    hours.into_iter().map(|hour| at(hour, 0)).collect()
}

/// Lets minutes of tokio's clock pass.
pub(crate) async fn minutes(minutes: u64) {
    tokio::time::sleep(Duration::from_secs(60 * minutes)).await;
}

#[idempotent(key = tick, replay(Failure::Never))]
pub(crate) async fn report(
    tx: &mut Tx<'_, Memory>,
    tick: Tick,
    #[state] world: &World,
) -> Result<(), Failure> {
    world.act(tick).await?;
    tx.set(format!("report of {tick}"), "written");
    Ok(())
}

impl Scheduled for Report {
    fn at(tick: Tick) -> Self {
        Report { tick }
    }
}

#[test]
fn the_hours_of_the_tests_are_hours() {
    assert_eq!(at(3, 30).to_string(), "2026-11-25T03:30:00Z");
}
