//! The workers, and who kills them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use idem_examples::database_url::DatabaseUrl;
use idem_examples::fleet::{Hello, Said, Site, Stage};
use idem_examples::process::Worker;
use idem_examples::progress::Progress;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::LOOK;
use crate::clients::Pushes;

/// How long a worker may take to come to where it is to be killed, the start of its process included. Then it is killed
/// where it is.
const HOLD_MAX: Duration = Duration::from_secs(60);

/// How long nothing may be left to do until such a worker is killed without a task: clients that wait for the kill push none.
const IDLE_MAX: Duration = Duration::from_secs(2);

/// Worker processes, each with a keeper that starts it again.
#[derive(Debug)]
pub(crate) struct Fleet {
    keepers: JoinSet<anyhow::Result<()>>,
    runs: Arc<AtomicU64>,
}

/// Orders to the keepers. They end when this is gone.
#[derive(Debug)]
pub(crate) struct Killer {
    orders: Vec<mpsc::Sender<Order>>,
}

/// A worker is to be killed; the answer is where it was.
#[derive(Debug)]
struct Order {
    stage: Stage,
    killed: oneshot::Sender<Place>,
}

/// Where a worker was killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Held(Stage),
    Elsewhere,
}

/// How many workers were killed, and where.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Killed {
    pub(crate) in_the_job: u64,
    pub(crate) before_the_answer: u64,
    /// They did not come to a task in time.
    pub(crate) elsewhere: u64,
}

impl Killed {
    pub(crate) fn all(&self) -> u64 {
        self.in_the_job + self.before_the_answer + self.elsewhere
    }
}

impl Fleet {
    /// Starts the workers.
    ///
    /// # Errors
    ///
    /// A process cannot be started.
    pub(crate) async fn start(
        url: &DatabaseUrl,
        site: &Arc<dyn Site>,
        workers: u32,
        without_idem: bool,
        progress: &Arc<Progress>,
    ) -> anyhow::Result<(Fleet, Killer)> {
        let batch = fastrand::u32(..);
        let mut fleet = Fleet { keepers: JoinSet::new(), runs: Arc::default() };
        let mut orders = Vec::new();
        for number in 1..=workers {
            let (sender, received) = mpsc::channel(1);
            orders.push(sender);
            let mut keeper = Keeper {
                number,
                batch,
                starts: 0,
                url: url.as_str().to_owned(),
                site: Arc::clone(site),
                without_idem,
                orders: received,
                runs: Arc::clone(&fleet.runs),
                progress: Arc::clone(progress),
            };
            let worker = keeper.start().await?;
            fleet.keepers.spawn(async move { keeper.keep(worker).await });
        }
        Ok((fleet, Killer { orders }))
    }

    /// Waits for a worker that ends by itself, which none may.
    pub(crate) async fn keep(&mut self) -> anyhow::Error {
        match self.keepers.join_next().await {
            Some(Ok(Err(error))) => error,
            Some(Err(error)) => error.into(),
            // A keeper without orders waits for the end of all.
            Some(Ok(Ok(()))) | None => std::future::pending().await,
        }
    }

    /// Lets all workers end, and returns how often the job's body has begun.
    ///
    /// # Errors
    ///
    /// One of them ends badly.
    pub(crate) async fn dismiss(mut self, killer: Killer) -> anyhow::Result<u64> {
        drop(killer);
        while let Some(ended) = self.keepers.join_next().await {
            ended??;
        }
        Ok(self.runs.load(Ordering::Relaxed))
    }
}

impl Killer {
    /// Kills a worker each time that it is due, in turn and by turns in two places.
    ///
    /// # Errors
    ///
    /// The keeper of a worker has given up.
    pub(crate) async fn kill(&self, pushes: &Pushes, kills: u64) -> anyhow::Result<Killed> {
        let mut done = Killed::default();
        let workers = self.orders.iter().cycle();
        for (kill, orders) in (0..kills).zip(workers) {
            // The places take turns, and each worker is killed in both: an even number of workers takes turns itself.
            let workers = self.orders.len() as u64;
            let round = if workers.is_multiple_of(2) { kill / workers } else { 0 };
            let stage = match (kill + round) % 2 {
                0 => Stage::InTheJob,
                _ => Stage::BeforeTheAnswer,
            };
            pushes.until_due(kill).await;
            let (killed, place) = oneshot::channel();
            orders.send(Order { stage, killed }).await.context("a worker is gone")?;
            match place.await.context("a worker is gone")? {
                Place::Held(Stage::InTheJob) => done.in_the_job += 1,
                Place::Held(Stage::BeforeTheAnswer) => done.before_the_answer += 1,
                Place::Elsewhere => done.elsewhere += 1,
            }
            pushes.killed(kill + 1);
        }
        Ok(done)
    }
}

/// Keeps one worker running.
struct Keeper {
    number: u32,
    batch: u32,
    starts: u32,
    url: String,
    site: Arc<dyn Site>,
    without_idem: bool,
    orders: mpsc::Receiver<Order>,
    runs: Arc<AtomicU64>,
    progress: Arc<Progress>,
}

impl Keeper {
    async fn start(&mut self) -> anyhow::Result<Worker> {
        self.starts += 1;
        let hello = Hello {
            database_url: self.url.clone(),
            name: format!("fleet-{:08x}-{}-{}", self.batch, self.number, self.starts),
            without_idem: self.without_idem,
        };
        Worker::start(self.number, &hello).await
    }

    async fn keep(mut self, mut worker: Worker) -> anyhow::Result<()> {
        loop {
            let order = tokio::select! {
                said = worker.hear() => {
                    self.hear(said?);
                    continue;
                }
                order = self.orders.recv() => order,
            };
            let Some(Order { stage, killed }) = order else {
                // The queue may be seen to be empty before the last runs are heard of.
                for said in worker.dismiss().await? {
                    self.hear(said);
                }
                return Ok(());
            };
            worker.send(&serde_json::to_string(&stage)?).await?;
            let held = async {
                loop {
                    if let Said::Held(stage) = self.hear(worker.hear().await?) {
                        return anyhow::Ok(Place::Held(stage));
                    }
                }
            };
            let place = tokio::select! {
                held = held => held?,
                idle = self.idle() => idle.map(|()| Place::Elsewhere)?,
                () = tokio::time::sleep(HOLD_MAX) => Place::Elsewhere,
            };
            let (process, unheard) = worker.kill().await?;
            for said in unheard {
                self.hear(said);
            }
            self.progress.say(&format!("worker {} (process {process}) killed {}", self.number, text(place)));
            worker = self.start().await?;
            // Nobody waits for it if the run is over.
            let _ = killed.send(place);
        }
    }

    /// Waits until nothing has been left to do for a while.
    async fn idle(&self) -> anyhow::Result<()> {
        let mut since = Instant::now();
        while since.elapsed() < IDLE_MAX {
            tokio::time::sleep(LOOK).await;
            let (left, _) = self.site.tasks().await.context("looking at the queue")?;
            if left > 0 {
                since = Instant::now();
            }
        }
        Ok(())
    }

    fn hear(&self, said: Said) -> Said {
        if said == Said::Runs {
            self.runs.fetch_add(1, Ordering::Relaxed);
            self.progress.note();
        }
        said
    }
}

fn text(place: Place) -> &'static str {
    match place {
        Place::Held(Stage::InTheJob) => "inside the job, its effect not committed",
        Place::Held(Stage::BeforeTheAnswer) => "between its commit and its answer",
        Place::Elsewhere => "before it came to a task",
    }
}
