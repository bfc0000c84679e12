//! One trial: a fresh database, a state, and workers on them.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use idem_runtime::Idem;
use idem_runtime::key::Key;
use idem_runtime::record::Record;
use sqlx::Pool;
use sqlx::pool::PoolOptions;
use tokio::sync::{MappedMutexGuard, Mutex, MutexGuard};

use crate::check::Trouble;
use crate::lab::{Lab, LabDatabase, OptionsOf};
use crate::subject::{Run, Runner, State, Subject};
use crate::tables::Tables;
use crate::trial::Trial;
use crate::watch::{Ack, Ran, Step, Stop, Timeline, Watch};
use crate::watched::WatchedStore;

/// What idem's own tables begin with, and those of the testkit.
pub(crate) const OWN_TABLES: &str = "idem_";

/// The table of tasks, of which what they are is compared.
const OUTBOX: &str = "idem_outbox";

/// What a task is: not where in the queue it stands, and when it got there.
const OF_A_TASK: [&str; 3] = ["job", "key", "payload"];

/// How long effects that a run left behind in a task of its own may take to show.
const SETTLING: Duration = Duration::from_secs(3);

/// The same once a run has left a task behind that went on for longer, and most likely goes on for good.
const SETTLING_AMONG_TASKS: Duration = Duration::from_millis(400);

/// One trial.
pub(crate) struct World<'s, D: LabDatabase> {
    pub(crate) subject: &'s dyn Subject<D>,
    /// The connection on which this looks at the database, once it has. No worker has it.
    outside: Mutex<Option<<D as sqlx::Database>::Connection>>,
    pub(crate) lab: Lab<D>,
    state: State,
    pub(crate) timeline: Timeline,
    pub(crate) trial: Trial<D>,
    /// How many tasks there are without anybody working.
    tasks: usize,
}

/// What a trial left.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Left {
    /// The job's, and the tasks in the outbox, if there are any.
    pub(crate) tables: Tables,
    /// By observer.
    pub(crate) effects: Vec<u64>,
    /// How many records there are.
    pub(crate) records: usize,
    /// How many tasks are in the outbox.
    pub(crate) tasks: usize,
}

/// How a run answers that ends with an error which `replay(...)` declares final, the first time and in a replay.
pub(crate) const REJECTED: &str = "rejected";

/// How a run answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) how: &'static str,
    /// The value, encoded without loss.
    pub(crate) bytes: Vec<u8>,
    /// The value as JSON, as far as it can be written so.
    pub(crate) text: String,
}

/// How a run ended that did not crash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ended {
    Answered(Answer),
    /// Another run holds the key, or the store had a temporary trouble.
    Again(String),
    Failed(String),
    /// The steps that are recorded are not those that it came to.
    Drifted(String),
    /// It does not know whether an effect has happened, and waits for a person.
    Parked(String),
    Panicked(String),
    /// It went over its limit, at this window.
    Hung(String),
}

impl<'s, D: LabDatabase> World<'s, D> {
    /// Makes a fresh trial; `None` if its server is not there.
    pub(crate) async fn new(subject: &'s dyn Subject<D>) -> Result<Option<Self>, Trouble> {
        let Some(lab) = D::prepared(tables::<D>).await? else { return Ok(None) };
        if let Some(set_up) = &subject.settings().set_up {
            set_up.run(&lab).await.map_err(|error| Trouble::SetUp(error.to_string()))?;
        }
        let trial = Trial::new(lab.options());
        let mut world = Self::on(subject, lab, trial);
        world.tasks = resting_tasks().await;
        Ok(Some(world))
    }

    /// Works on a database that is prepared already.
    pub(crate) fn on(subject: &'s dyn Subject<D>, lab: Lab<D>, trial: Trial<D>) -> Self {
        let state = subject.state(&trial);
        let tasks = alive_tasks();
        World { subject, outside: Mutex::new(None), lab, state, timeline: Timeline::new(), trial, tasks }
    }

    /// Makes a worker with connections of its own, as another process would have.
    pub(crate) fn worker(&self, name: char, stop: Stop, ack: Ack) -> Result<Worker<D>, Trouble> {
        let watch = Arc::new(Watch::new(name, self.timeline.clone(), stop, ack));
        let turn = Arc::clone(&watch.turn);
        let pool = PoolOptions::new().max_connections(2).after_connect(move |connection, _| {
            let turn = Arc::clone(&turn);
            D::hold_answers(connection, Arc::new(move || turn.wait()))
        });
        self.worker_on(pool.connect_lazy_with(self.lab.options()), watch)
    }

    /// Makes a worker with connections that are given.
    pub(crate) fn worker_on(&self, pool: Pool<D>, watch: Arc<Watch>) -> Result<Worker<D>, Trouble> {
        let inner = Idem::builder(pool.clone()).build().map_err(Trouble::store)?.store().clone();
        let inner = match &self.subject.settings().store {
            Some(wrap) => wrap(inner),
            None => inner,
        };
        let store = WatchedStore { inner, watch: Arc::clone(&watch) };
        let runner = self.subject.runner(&self.state, Arc::new(store))?;
        Ok(Worker { pool, runner, watch, limit: self.subject.settings().limit })
    }

    /// Runs the job on a worker of its own.
    pub(crate) async fn run(&self, name: char) -> Result<Ended, Trouble> {
        let worker = self.worker(name, Stop::Never, Ack::Heard)?;
        Ok(worker.run_through().await)
    }

    /// Delivers the job again to whoever was turned away, as a queue would.
    pub(crate) async fn deliver_again(&self, ended: Ended, name: char) -> Result<Ended, Trouble> {
        match ended {
            Ended::Again(_) => self.recover(name).await,
            ended => Ok(ended),
        }
    }

    /// Runs the job on fresh workers until it answers, as a queue would that delivers again.
    pub(crate) async fn recover(&self, name: char) -> Result<Ended, Trouble> {
        self.deliver(name, async || {}).await
    }

    /// The same where whoever had the key is dead or stands still: the lease passes meanwhile.
    pub(crate) async fn recover_after_a_death(&self, name: char) -> Result<Ended, Trouble> {
        self.deliver(name, async || self.let_leases_lapse().await).await
    }

    /// Lets the time of all leases pass; of a job that has none, nothing is touched.
    pub(crate) async fn let_leases_lapse(&self) {
        if !self.subject.is_leased() {
            return;
        }
        let mut outside = self.outside().await;
        // Whatever holds the table holds up the next run as well, which is where it is judged.
        if let Err(error) = D::rows(&mut outside, D::LET_LEASES_LAPSE).await {
            self.timeline.note('-', format!("cannot let the leases pass: {error}"));
        }
    }

    async fn deliver(&self, name: char, beforehand: impl AsyncFn()) -> Result<Ended, Trouble> {
        let began = tokio::time::Instant::now();
        loop {
            beforehand().await;
            let ended = self.run(name).await?;
            match ended {
                Ended::Again(_) if began.elapsed() < self.subject.settings().limit => {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                ended => return Ok(ended),
            }
        }
    }

    /// Returns the key of the job.
    pub(crate) fn key(&self) -> Result<Key, Trouble> {
        Ok(Key::new("default", self.subject.spec().name, &self.subject.key()?))
    }

    /// Reads the record of the job's key.
    pub(crate) async fn record(&self) -> Result<Option<Record>, Trouble> {
        let pool = self.lab.pool(1);
        let store = Idem::builder(pool.clone()).build().map_err(Trouble::store)?.store().clone();
        let record = store.read(self.key()?.hash()).await.map_err(Trouble::store);
        // So that none of its tasks is taken for one of the next trial's.
        pool.close().await;
        record
    }

    /// Returns a connection that no worker has.
    pub(crate) async fn outside(&self) -> MappedMutexGuard<'_, <D as sqlx::Database>::Connection> {
        let mut outside = self.outside.lock().await;
        if outside.is_none() {
            *outside = Some(self.lab.connect().await);
        }
        MutexGuard::map(outside, |outside| outside.as_mut().expect("it is connected"))
    }

    /// Counts what there is, on a connection of its own, once nobody works any more.
    pub(crate) async fn left(&self) -> Result<Left, Trouble> {
        self.settle().await;
        let mut outside = self.outside().await;
        let mut tables = D::tables(&mut outside, OWN_TABLES).await.map_err(Trouble::database)?;
        let records = D::rows(&mut outside, "SELECT 1 FROM idem_records").await.map_err(Trouble::database)?;
        let tasks = D::rows(&mut outside, "SELECT 1 FROM idem_outbox").await.map_err(Trouble::database)?;
        if tasks > 0 {
            let own = D::tables(&mut outside, "").await.map_err(Trouble::database)?;
            tables.insert_of(&own, OUTBOX, &OF_A_TASK);
        }
        Ok(Left { tables, effects: self.effects().await, records, tasks })
    }

    /// Counts the effects outside the database, by observer.
    pub(crate) async fn effects(&self) -> Vec<u64> {
        self.subject.effects(&self.state).await
    }

    /// Lets the next call to a service fail, by number.
    pub(crate) async fn fail_once(&self, outage: usize) {
        self.subject.fail_once(&self.state, outage).await;
    }

    /// Waits until the tasks that a run has left behind are over, for a moment at most.
    pub(crate) async fn settle(&self) {
        let began = tokio::time::Instant::now();
        let leaves_tasks = &self.subject.settings().leaves_tasks;
        let limit = match leaves_tasks.load(Ordering::Relaxed) {
            true => SETTLING_AMONG_TASKS,
            false => SETTLING,
        };
        while alive_tasks() > self.tasks {
            if began.elapsed() > limit {
                leaves_tasks.store(true, Ordering::Relaxed);
                break;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// Writes the statements that make the tables of idem and of the testkit.
fn tables<D: LabDatabase>(options: OptionsOf<D>) -> Result<String, Trouble> {
    let idem =
        Idem::builder(PoolOptions::<D>::new().connect_lazy_with(options)).build().map_err(Trouble::store)?;
    Ok(format!("{}\nCREATE TABLE idem_testkit_probe (n INTEGER)", idem.migration_sql()))
}

/// Counts the tasks when those are over that a set-up has left behind.
async fn resting_tasks() -> usize {
    let mut tasks = alive_tasks();
    loop {
        tokio::time::sleep(Duration::from_millis(1)).await;
        match alive_tasks() {
            fewer if fewer < tasks => tasks = fewer,
            _ => return tasks,
        }
    }
}

fn alive_tasks() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}

/// How long a step of a run that goes to a window may take before it counts as waiting for somebody.
const PATIENCE: Duration = Duration::from_secs(2);

/// Where a run is that was to go to a window.
pub(crate) enum Stood {
    /// At this one, which is wanted.
    At(String),
    /// It came to none.
    Ended(Ended),
}

/// Somebody who runs the job.
pub(crate) struct Worker<D: LabDatabase> {
    /// What the worker does other work with.
    pub(crate) pool: Pool<D>,
    runner: Box<dyn Runner>,
    pub(crate) watch: Arc<Watch>,
    limit: Duration,
}

impl<D: LabDatabase> Worker<D> {
    /// Makes a run of the job, which does nothing until it is polled.
    pub(crate) fn start(&self) -> Run {
        self.runner.start()
    }

    /// Runs the job; `None` if it crashed where it was told to.
    pub(crate) async fn run(&self) -> Option<Ended> {
        match tokio::time::timeout(self.limit, self.watch.run(self.start())).await {
            Err(_) => Some(self.hung()),
            Ok(None) => {
                self.watch.lose_statement();
                None
            }
            Ok(Some(ran)) => Some(self.ended(ran)),
        }
    }

    /// Runs the job on a worker that no window ends.
    pub(crate) async fn run_through(&self) -> Ended {
        self.run().await.expect("only a window ends a run before its time")
    }

    /// Lets a run go on, window by window, to the first one that is wanted.
    pub(crate) async fn step_to(&self, run: &mut Run, mut is_wanted: impl FnMut(&str) -> bool) -> Stood {
        let began = tokio::time::Instant::now();
        loop {
            match self.watch.step(run, PATIENCE).await {
                Step::Window(at) if is_wanted(&at) => return Stood::At(at),
                Step::Window(_) => {}
                Step::Blocked if began.elapsed() < self.limit => {}
                Step::Blocked => return Stood::Ended(self.hung()),
                Step::Ended(ran) => return Stood::Ended(self.ended(ran)),
            }
        }
    }

    pub(crate) fn hung(&self) -> Ended {
        let last = self.watch.last();
        self.watch.note(format!("still runs after {:?}: {last}", self.limit));
        Ended::Hung(last)
    }

    pub(crate) fn ended(&self, ran: Ran<Ended>) -> Ended {
        let ended = match ran {
            Ran::Panicked(message) => Ended::Panicked(message),
            Ran::Returned(ended) => ended,
        };
        self.watch.note(match &ended {
            Ended::Answered(answer) => format!("{}: {}", answer.how, answer.text),
            Ended::Again(why) => format!("gives up for now: {why}"),
            Ended::Failed(why) | Ended::Drifted(why) => format!("fails: {why}"),
            Ended::Parked(why) => format!("waits for a person: {why}"),
            Ended::Panicked(why) => format!("panics: {why}"),
            Ended::Hung(at) => format!("hangs: {at}"),
        });
        ended
    }
}
