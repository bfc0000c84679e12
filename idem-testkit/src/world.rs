//! One trial: a fresh database, a state, and workers on them.

use std::sync::Arc;
use std::time::Duration;

use idem_runtime::job::{JobOutput, Lock};
use idem_runtime::record::Record;
use idem_runtime::{Done, Error, Idem, Job, RunOn, codec, key::Key};
use sqlx::Pool;
use sqlx::pool::PoolOptions;

use crate::check::Trouble;
use crate::lab::{Lab, LabDatabase};
use crate::scenario::Scenario;
use crate::tables::Tables;
use crate::trial::Trial;
use crate::watch::{Ack, Ran, Stop, Timeline, Watch};
use crate::watched::WatchedStore;

/// What idem's own tables begin with, and those of the testkit.
pub(crate) const OWN_TABLES: &str = "idem_";

/// How long effects that a run left behind in a task of its own may take to show.
const SETTLING: Duration = Duration::from_millis(100);

/// One trial.
pub(crate) struct World<'s, J, D: LabDatabase, S> {
    pub(crate) scenario: &'s Scenario<J, D, S>,
    pub(crate) lab: Lab<D>,
    pub(crate) state: S,
    pub(crate) timeline: Timeline,
    pub(crate) trial: Trial,
    /// How many tasks there are without anybody working.
    tasks: usize,
}

/// What a trial left.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Left {
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

impl Answer {
    fn of<T: JobOutput>(done: &Done<T>) -> Self {
        let value = (**done).itself();
        let how = match done {
            Done::Executed(_) => "executed",
            Done::Replayed(_) => "replayed",
            Done::Adopted(_) => "adopted",
        };
        Answer {
            how,
            // Equal values have equal bytes, maps included.
            bytes: codec::encode_canonical(value).unwrap_or_else(|error| error.to_string().into_bytes()),
            text: serde_json::to_string(value)
                .unwrap_or_else(|_| String::from("a value that JSON cannot write")),
        }
    }
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

impl<'s, J, D, S> World<'s, J, D, S>
where
    J: RunOn<D, S>,
    D: LabDatabase,
    S: Clone + Send + Sync + 'static,
{
    /// Makes a fresh trial; `None` if its server is not there.
    pub(crate) async fn new(scenario: &'s Scenario<J, D, S>) -> Result<Option<Self>, Trouble> {
        let Some(lab) = D::prepared(|lab| Box::pin(prepare(lab))).await? else { return Ok(None) };
        if let Some(set_up) = &scenario.set_up {
            set_up.run(&lab).await.map_err(|error| Trouble::SetUp(error.to_string()))?;
        }
        let mut world = Self::on(scenario, lab, Trial::default());
        world.tasks = resting_tasks().await;
        Ok(Some(world))
    }

    /// Works on a database that is prepared already.
    pub(crate) fn on(scenario: &'s Scenario<J, D, S>, lab: Lab<D>, trial: Trial) -> Self {
        let state = (scenario.state)(&trial);
        let tasks = alive_tasks();
        World { scenario, lab, state, timeline: Timeline::new(), trial, tasks }
    }

    /// Makes a worker with connections of its own, as another process would have.
    pub(crate) fn worker(&self, name: char, stop: Stop, ack: Ack) -> Result<Worker<D, S>, Trouble> {
        let watch = Arc::new(Watch::new(name, self.timeline.clone(), stop, ack));
        let turn = Arc::clone(&watch.turn);
        let pool = PoolOptions::new().max_connections(2).after_connect(move |connection, _| {
            let turn = Arc::clone(&turn);
            D::hold_answers(connection, Arc::new(move || turn.wait()))
        });
        self.worker_on(pool.connect_lazy_with(self.lab.options()), watch)
    }

    /// Makes a worker with connections that are given.
    pub(crate) fn worker_on(&self, pool: Pool<D>, watch: Arc<Watch>) -> Result<Worker<D, S>, Trouble> {
        let inner = Idem::builder(pool.clone()).build().map_err(Trouble::store)?.store().clone();
        let inner = match &self.scenario.store {
            Some(wrap) => wrap(inner),
            None => inner,
        };
        let store = WatchedStore { inner, watch: Arc::clone(&watch) };
        let state = match &self.scenario.worker_state {
            Some(make) => make(&self.state),
            None => self.state.clone(),
        };
        let idem = Idem::with_store(Arc::new(store)).state(state).build().map_err(Trouble::store)?;
        Ok(Worker { pool, idem, watch, limit: self.scenario.limit })
    }

    /// Runs the job on a worker of its own.
    pub(crate) async fn run(&self, name: char) -> Result<Ended, Trouble> {
        let worker = self.worker(name, Stop::Never, Ack::Heard)?;
        Ok(worker.run_through(self.job()).await)
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
        if !is_leased::<J>() {
            return;
        }
        let mut admin = self.lab.connect().await;
        // Whatever holds the table holds up the next run as well, which is where it is judged.
        if let Err(error) = D::rows(&mut admin, D::LET_LEASES_LAPSE).await {
            self.timeline.note('-', format!("cannot let the leases pass: {error}"));
        }
    }

    async fn deliver(&self, name: char, beforehand: impl AsyncFn()) -> Result<Ended, Trouble> {
        let began = tokio::time::Instant::now();
        loop {
            beforehand().await;
            let ended = self.run(name).await?;
            match ended {
                Ended::Again(_) if began.elapsed() < self.scenario.limit => {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                ended => return Ok(ended),
            }
        }
    }

    pub(crate) fn job(&self) -> J {
        (self.scenario.make)()
    }

    /// Returns the key of the job.
    pub(crate) fn key(&self) -> Result<Key, Trouble> {
        let parts = self.job().key().map_err(|error| Trouble::CleanRun(error.to_string()))?;
        Ok(Key::new("default", J::SPEC.name, &parts))
    }

    /// Reads the record of the job's key.
    pub(crate) async fn record(&self) -> Result<Option<Record>, Trouble> {
        let store = Idem::builder(self.lab.pool(1)).build().map_err(Trouble::store)?.store().clone();
        store.read(self.key()?.hash()).await.map_err(Trouble::store)
    }

    /// Counts what there is, on a connection of its own, once nobody works any more.
    pub(crate) async fn left(&self) -> Result<Left, Trouble> {
        self.settle().await;
        let mut admin = self.lab.connect().await;
        let tables = D::tables(&mut admin, OWN_TABLES).await.map_err(Trouble::database)?;
        let records = D::rows(&mut admin, "SELECT 1 FROM idem_records").await.map_err(Trouble::database)?;
        let tasks = D::rows(&mut admin, "SELECT 1 FROM idem_outbox").await.map_err(Trouble::database)?;
        Ok(Left { tables, effects: self.effects().await, records, tasks })
    }

    /// Counts the effects outside the database, by observer.
    pub(crate) async fn effects(&self) -> Vec<u64> {
        let mut effects = Vec::new();
        for observer in &self.scenario.observers {
            effects.push((observer.count)(&self.state).await);
        }
        effects
    }

    /// Waits until the tasks that a run has left behind are over, for a moment at most.
    pub(crate) async fn settle(&self) {
        let began = tokio::time::Instant::now();
        while alive_tasks() > self.tasks && began.elapsed() < SETTLING {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// Makes the tables of idem and of the testkit.
async fn prepare<D: LabDatabase>(lab: &Lab<D>) -> Result<(), Trouble> {
    let idem = Idem::builder(lab.pool(1)).build().map_err(Trouble::store)?;
    idem.migrate().await.map_err(Trouble::store)?;
    let mut admin = lab.connect().await;
    let probe = "CREATE TABLE idem_testkit_probe (n INTEGER)";
    D::rows(&mut admin, probe).await.map(drop).map_err(Trouble::database)
}

/// Tells whether runs of a job hold their key by a lease.
pub(crate) fn is_leased<J: Job>() -> bool {
    matches!(J::SPEC.lock, Lock::Lease(_))
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

/// What a run of a job returns.
pub(crate) type Returned<J> = Result<Done<<J as Job>::Output>, Error<<J as Job>::Error>>;

/// Somebody who runs the job.
pub(crate) struct Worker<D: LabDatabase, S> {
    /// What the worker does other work with.
    pub(crate) pool: Pool<D>,
    pub(crate) idem: Idem<D, S>,
    pub(crate) watch: Arc<Watch>,
    limit: Duration,
}

impl<D, S> Worker<D, S>
where
    D: LabDatabase,
    S: Clone + Send + Sync + 'static,
{
    /// Runs a job; `None` if it crashed where it was told to.
    pub(crate) async fn run<J: RunOn<D, S>>(&self, job: J) -> Option<Ended> {
        let run = self.watch.run(Box::pin(self.idem.run(job)));
        match tokio::time::timeout(self.limit, run).await {
            Err(_) => Some(self.hung()),
            Ok(None) => None,
            Ok(Some(ran)) => Some(self.ended::<J>(ran)),
        }
    }

    /// Runs a job on a worker that no window ends.
    pub(crate) async fn run_through<J: RunOn<D, S>>(&self, job: J) -> Ended {
        self.run(job).await.expect("only a window ends a run before its time")
    }

    pub(crate) fn hung(&self) -> Ended {
        let last = self.watch.last();
        self.watch.note(format!("still runs after {:?}: {last}", self.limit));
        Ended::Hung(last)
    }

    pub(crate) fn ended<J: RunOn<D, S>>(&self, ran: Ran<Returned<J>>) -> Ended {
        let ended = match ran {
            Ran::Panicked(message) => Ended::Panicked(message),
            Ran::Returned(Ok(done)) => Ended::Answered(Answer::of(&done)),
            Ran::Returned(Err(error)) => match &error {
                Error::Busy(busy) => Ended::Again(busy.to_string()),
                Error::Drift(drift) => Ended::Drifted(drift.to_string()),
                Error::Parked(parked) => Ended::Parked(parked.to_string()),
                Error::Job(own) => match J::final_error(own) {
                    Some(Ok(bytes)) => {
                        Ended::Answered(Answer { how: REJECTED, bytes, text: J::describe_error(own) })
                    }
                    Some(Err(why)) => Ended::Failed(why.to_string()),
                    None => Ended::Failed(J::describe_error(own)),
                },
                error if error.is_retryable() => Ended::Again(error.text(J::describe_error)),
                error => Ended::Failed(error.text(J::describe_error)),
            },
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
