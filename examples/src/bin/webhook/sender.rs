//! The sender: delivers every share to a worker process, kills it where the plan says so, and starts
//! again from the beginning of the share, as a queue does that heard no acknowledgement.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::bail;
use idem_examples::process::Worker;
use idem_examples::progress::Progress;
use tokio::task::JoinSet;

use crate::events::Event;
use crate::plan::{Plan, Share};
use crate::protocol::{Hello, How, Reply, Said, Stage};

/// How often a delivery is sent again at once when the database gave it up for another one.
const RETRIES_MAX: u32 = 10;

/// What the sender saw.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) deliveries: u64,
    pub(crate) runs: u64,
    pub(crate) replays: u64,
    pub(crate) acknowledged: u64,
    pub(crate) refused: u64,
    pub(crate) failed: u64,
    pub(crate) killed_in_the_job: u64,
    pub(crate) killed_before_the_answer: u64,
    pub(crate) times: Vec<Duration>,
}

impl Tally {
    pub(crate) fn kills(&self) -> u64 {
        self.killed_in_the_job + self.killed_before_the_answer
    }

    fn add(&mut self, other: Tally) {
        self.deliveries += other.deliveries;
        self.runs += other.runs;
        self.replays += other.replays;
        self.acknowledged += other.acknowledged;
        self.refused += other.refused;
        self.failed += other.failed;
        self.killed_in_the_job += other.killed_in_the_job;
        self.killed_before_the_answer += other.killed_before_the_answer;
        self.times.extend(other.times);
    }
}

/// Delivers everything that is planned.
///
/// # Errors
///
/// A worker cannot be started, dies by itself or loses its database. All workers are killed then.
pub(crate) async fn deliver(
    plan: &Plan,
    events: &[Event],
    hello: &Hello,
    progress: &Arc<Progress>,
) -> anyhow::Result<Tally> {
    progress.expect(plan.deliveries());
    let parcels: Arc<[Parcel]> = events.iter().map(Parcel::new).collect::<Result<_, _>>()?;
    let mut couriers = JoinSet::new();
    for (worker, share) in (1..).zip(&plan.shares) {
        let Share { deliveries, kills } = share;
        let courier = Courier {
            hello: Hello { worker, ..hello.clone() },
            parcels: Arc::clone(&parcels),
            half_way: share.half_way(),
            deliveries: deliveries.clone(),
            kills: kills.clone(),
            progress: Arc::clone(progress),
            tally: Tally::default(),
        };
        couriers.spawn(courier.deliver());
    }
    let mut tally = Tally::default();
    while let Some(delivered) = couriers.join_next().await {
        tally.add(delivered??);
    }
    Ok(tally)
}

/// An event as it goes to a worker.
struct Parcel {
    line: usize,
    webhook: String,
}

impl Parcel {
    fn new(event: &Event) -> serde_json::Result<Parcel> {
        Ok(Parcel { line: event.line, webhook: serde_json::to_string(&event.webhook)? })
    }

    /// Returns a [`Delivery`](crate::protocol::Delivery) without packing the event again.
    fn delivery(&self, hold: Option<Stage>) -> serde_json::Result<String> {
        Ok(format!("{{\"hold\":{},\"webhook\":{}}}", serde_json::to_string(&hold)?, self.webhook))
    }
}

/// Delivers one share.
struct Courier {
    hello: Hello,
    parcels: Arc<[Parcel]>,
    half_way: usize,
    deliveries: Vec<usize>,
    kills: Vec<Stage>,
    progress: Arc<Progress>,
    tally: Tally,
}

/// How a pass over a share ended.
enum Pass {
    Complete,
    /// The worker was killed after so many deliveries.
    Killed(usize),
}

impl Courier {
    async fn deliver(mut self) -> anyhow::Result<Tally> {
        let kills: Vec<Option<Stage>> = std::mem::take(&mut self.kills).into_iter().map(Some).collect();
        for kill in kills.into_iter().chain([None]) {
            match self.pass(kill).await? {
                Pass::Complete => break,
                Pass::Killed(lost) => self.progress.expect(lost as u64),
            }
        }
        Ok(self.tally)
    }

    /// Starts a worker and delivers the share from its beginning.
    async fn pass(&mut self, kill: Option<Stage>) -> anyhow::Result<Pass> {
        let mut worker = Worker::start(self.hello.worker, &self.hello).await?;
        match worker.hear::<Said>().await?.reply {
            Reply::Ready => {}
            reply => bail!("worker {} began with {reply:?}", self.hello.worker),
        }
        for at in 0..self.deliveries.len() {
            let parcel = &self.parcels[self.deliveries[at]];
            // A delivery that is refused stops nowhere; then the next one does.
            let hold = kill.filter(|_| at >= self.half_way);
            let mut tries = 0;
            loop {
                let sent = Instant::now();
                worker.send(&parcel.delivery(hold)?).await?;
                let Said { runs, reply } = worker.hear().await?;
                self.tally.deliveries += 1;
                self.tally.runs += u64::from(runs);
                self.tally.replays += match reply {
                    Reply::Answered(How::Replayed) | Reply::HeldBeforeTheAnswer(How::Replayed) => 1,
                    _ => 0,
                };
                self.progress.done(reply_is_run(&reply));
                match reply {
                    Reply::Answered(_) => {
                        self.tally.acknowledged += 1;
                        self.tally.times.push(sent.elapsed());
                    }
                    Reply::Refused { why } => {
                        self.tally.refused += 1;
                        self.progress.problem(parcel.line, &format!("refused: {why}"));
                    }
                    Reply::Failed { retry: true, why, .. } if tries < RETRIES_MAX => {
                        tries += 1;
                        self.tally.failed += 1;
                        self.progress.problem(parcel.line, &format!("delivered again, since {why}"));
                        self.progress.expect(1);
                        continue;
                    }
                    Reply::Failed { fatal: true, why, .. } => bail!("worker {}: {why}", self.hello.worker),
                    Reply::Failed { why, .. } => {
                        self.tally.failed += 1;
                        self.progress.problem(parcel.line, &format!("failed: {why}"));
                    }
                    Reply::HeldInTheJob => {
                        self.tally.killed_in_the_job += 1;
                        self.kill(worker, at, "inside the job, its effect not committed").await?;
                        return Ok(Pass::Killed(at + 1));
                    }
                    Reply::HeldBeforeTheAnswer(how) => {
                        self.tally.killed_before_the_answer += 1;
                        let place = match how {
                            How::Ran => "between its commit and its answer",
                            How::Replayed => "before its answer to a duplicate",
                        };
                        self.kill(worker, at, place).await?;
                        return Ok(Pass::Killed(at + 1));
                    }
                    Reply::Ready => bail!("worker {} is ready for the second time", self.hello.worker),
                }
                break;
            }
        }
        worker.dismiss::<Said>().await?;
        Ok(Pass::Complete)
    }

    async fn kill(&self, worker: Worker, answered: usize, place: &str) -> anyhow::Result<()> {
        let number = self.hello.worker;
        let (process, _) = worker.kill::<Said>().await?;
        self.progress.say(&format!(
            "worker {number} (process {process}) killed at {answered} of {}, {place}; started again",
            self.deliveries.len(),
        ));
        Ok(())
    }
}

fn reply_is_run(reply: &Reply) -> bool {
    matches!(reply, Reply::Answered(How::Ran) | Reply::HeldBeforeTheAnswer(How::Ran))
}
