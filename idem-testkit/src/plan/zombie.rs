//! A worker that stands still in its transaction, loses its connection without noticing, and wakes up after
//! another worker has done the job: a paused container, a laptop lid, a long collection of garbage.
//!
//! The windows are those between BEGIN and COMMIT. An atomic job holds its key as long as its session lives,
//! so the session is what is lost: a proxy between worker and server breaks the connection.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use sqlx::pool::PoolOptions;

use super::{Went, did_it, judge_in_doubt, law, wrong};
use crate::check::Trouble;
use crate::lab::LabDatabase;
use crate::oracle::Oracle;
use crate::report::Difference;
use crate::subject::{Run, Subject};
use crate::watch::{Ack, Stop, Watch, slug};
use crate::world::{Ended, Stood, Worker, World};

/// How many windows there may be.
const MOST: usize = 1_000;

/// The first and the last window in the transaction.
const FIRST: &str = "after BEGIN";
const LAST: &str = "before COMMIT";

/// The window from which on a leased run has the key.
pub(super) const CLAIMED: &str = "after the key is claimed";

/// The window from which on a leased run has done the job.
const SETTLED: &str = "after the outcome is written";

/// The window from which on a run has the key that takes it over.
pub(super) const TAKEN_OVER: &str = "after the key is taken over";

pub(crate) async fn run<D: LabDatabase>(
    subject: &dyn Subject<D>,
    oracle: &Oracle,
    only: Option<&str>,
) -> Result<Went, Trouble> {
    if subject.is_leased() {
        return leased(subject, oracle, only).await;
    }
    let mut went = Went::default();
    // The awaits of a run are not the same each time, so windows go by their names: each trial takes a new one.
    let mut hit = BTreeSet::new();
    while hit.len() < MOST {
        let Some(world) = World::new(subject).await? else { break };
        let Some((proxy, options)) = D::proxy(&world.lab.options(), Duration::ZERO).await else {
            let why = "there is no server to lose the connection to: the lock lasts exactly as long as the \
                       process, see `kill`";
            return Ok(Went { skipped: Some(String::from(why)), ..Went::default() });
        };
        let pool = PoolOptions::new().max_connections(2).connect_lazy_with(options);
        let watch = Watch::new('A', world.timeline.clone(), Stop::Everywhere, Ack::Heard);
        let worker = world.worker_on(pool, Arc::new(watch))?;
        let mut run = worker.start();
        let is_wanted = |at: &str| match only {
            Some(only) => only == slug(at),
            None => !hit.contains(at),
        };
        let mut is_open = false;
        let stood = worker.step_to(&mut run, |at| {
            is_open |= at == FIRST;
            at == LAST || (is_open && is_wanted(at))
        });
        let at = match stood.await {
            Stood::At(at) if is_wanted(&at) => at,
            Stood::At(_) => {
                // All windows are hit. A run that is dropped here would hold its tables for a while.
                worker.watch.set_free();
                let _ = tokio::time::timeout(subject.settings().limit, worker.watch.run(&mut run)).await;
                break;
            }
            Stood::Ended(Ended::Hung(at)) => return Err(hung(&world, at)),
            Stood::Ended(_) => break,
        };
        hit.insert(at.clone());
        (went.hit, went.windows) = (hit.len(), hit.len());
        worker.watch.note(format!("stands still {at}"));
        proxy.cut();
        world.timeline.note('-', "cuts the connection of A");
        let successor = world.recover('B').await?;
        let zombie = wake_up(&worker, &mut run, subject.settings().limit).await?;
        drop(run);
        drop(worker);
        // What it still holds goes with its last connections.
        proxy.cut();
        // A worker whose COMMIT was done all the same has done the job: its successor replays.
        let was_done = matches!(&successor, Ended::Answered(answer) if answer.how == "replayed");
        let met = Met { successor, zombie };
        let differences = judge_zombie(&world, oracle, met, was_done).await?;
        if !differences.is_empty() {
            let what = format!(
                "the worker stood still {at}, lost its connection and woke up after another one had done the job"
            );
            went.wrong = Some(wrong(world, slug(&at), what, differences));
            break;
        }
        if only.is_some() {
            break;
        }
    }
    Ok(went)
}

/// The same for a leased job: what passes is the lease, and the worker keeps its connection.
async fn leased<D: LabDatabase>(
    subject: &dyn Subject<D>,
    oracle: &Oracle,
    only: Option<&str>,
) -> Result<Went, Trouble> {
    let mut went = Went::default();
    for successor in [Successor::IsDone, Successor::HasTheKey] {
        let only = match only {
            None => None,
            Some(only) => match successor.window_of(only) {
                Some(window) => Some(window),
                None => continue,
            },
        };
        let mut hit = BTreeSet::new();
        while hit.len() < MOST {
            let Some(world) = World::new(subject).await? else { return Ok(went) };
            let worker = world.worker('A', Stop::Everywhere, Ack::Heard)?;
            let mut run = worker.start();
            let wanted = |at: &str| match only {
                Some(only) => only == slug(at),
                None => !hit.contains(at),
            };
            let in_tx = successor.leaves_transactions_alone() && D::MANY_WRITERS;
            let at = match stand_still(&worker, &mut run, in_tx, wanted).await {
                Stood::At(at) => at,
                Stood::Ended(Ended::Hung(at)) => return Err(hung(&world, at)),
                Stood::Ended(_) => break,
            };
            hit.insert(at.clone());
            (went.hit, went.windows) = (went.hit + 1, went.windows + 1);
            worker.watch.note(format!("stands still {at}"));
            worker.watch.freeze();
            let was_done = worker.watch.windows().iter().any(|window| window == SETTLED);
            world.timeline.note('-', "lets the lease of A pass");
            let met = match successor {
                Successor::IsDone => {
                    let ended = world.recover_after_a_death('B').await?;
                    let zombie = wake_up(&worker, &mut run, subject.settings().limit).await?;
                    Met { successor: ended, zombie }
                }
                Successor::HasTheKey => beside(&world, &worker, &mut run).await?,
            };
            drop(run);
            drop(worker);
            let differences = judge_zombie(&world, oracle, met, was_done).await?;
            if !differences.is_empty() {
                let what =
                    format!("the worker stood still {at}, its lease passed, and it woke up {successor}");
                went.wrong = Some(wrong(world, successor.schedule(&at), what, differences));
                return Ok(went);
            }
            if only.is_some() {
                return Ok(went);
            }
        }
    }
    Ok(went)
}

/// How far the worker is that takes a key over when the one that stood still wakes up.
#[derive(Debug, Clone, Copy)]
enum Successor {
    IsDone,
    HasTheKey,
}

impl Successor {
    fn schedule(self, window: &str) -> String {
        match self {
            Successor::IsDone => slug(window),
            Successor::HasTheKey => format!("{}{BESIDE}", slug(window)),
        }
    }

    /// Returns the window of a schedule, if it is one of these.
    fn window_of(self, schedule: &str) -> Option<&str> {
        match (self, schedule.strip_suffix(BESIDE)) {
            (Successor::IsDone, None) => Some(schedule),
            (Successor::HasTheKey, window) => window,
            (Successor::IsDone, Some(_)) => None,
        }
    }

    /// Tells whether it comes to its stand past what another run has locked in the transaction of a step.
    fn leaves_transactions_alone(self) -> bool {
        match self {
            Successor::IsDone => false,
            Successor::HasTheKey => true,
        }
    }
}

/// What ends a schedule whose worker wakes up beside the one that has its key.
const BESIDE: &str = "/beside";

impl fmt::Display for Successor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Successor::IsDone => "after another one had done the job",
            Successor::HasTheKey => "after another one had taken the key over",
        })
    }
}

/// Lets a leased run go on to the first window that is wanted, from its claim on.
async fn stand_still<D: LabDatabase>(
    worker: &Worker<D>,
    run: &mut Run,
    in_tx_too: bool,
    wanted: impl Fn(&str) -> bool,
) -> Stood {
    let (mut has_the_key, mut is_in_tx) = (false, false);
    let stood = worker.step_to(run, |at| {
        has_the_key |= at == CLAIMED;
        if at.starts_with(FIRST) {
            is_in_tx = true;
        } else if at.starts_with("after a step's COMMIT") || at.starts_with("after ROLLBACK") {
            is_in_tx = false;
        }
        has_the_key && (in_tx_too || !is_in_tx) && wanted(at)
    });
    stood.await
}

/// Says where a run hangs that was to stand still.
fn hung<D: LabDatabase>(world: &World<'_, D>, at: String) -> Trouble {
    Trouble::Hung { at, timeline: world.timeline.moments() }
}

/// Lets B take the key over, then A wake up and go on to its end, and then B. Returns how B and A ended.
async fn beside<D: LabDatabase>(
    world: &World<'_, D>,
    worker: &Worker<D>,
    run: &mut Run,
) -> Result<Met, Trouble> {
    let limit = world.subject.settings().limit;
    world.let_leases_lapse().await;
    let successor = world.worker('B', Stop::Everywhere, Ack::Heard)?;
    let mut second = successor.start();
    let stood = successor.step_to(&mut second, |at| at == TAKEN_OVER).await;
    let zombie = wake_up(worker, run, limit).await?;
    if let Stood::Ended(successor) = stood {
        return Ok(Met { successor, zombie });
    }
    let successor = match wake_up(&successor, &mut second, limit).await? {
        Ended::Again(_) => world.recover_after_a_death('R').await?,
        ended => ended,
    };
    Ok(Met { successor, zombie })
}

/// Lets a worker that stood still go on to its end.
async fn wake_up<D: LabDatabase>(
    worker: &Worker<D>,
    run: &mut Run,
    limit: Duration,
) -> Result<Ended, Trouble> {
    worker.watch.note("wakes up");
    worker.watch.set_free();
    match tokio::time::timeout(limit, worker.watch.run(run)).await {
        Ok(Some(ran)) => Ok(worker.ended(ran)),
        Ok(None) => Err(Trouble::Store(String::from("a worker that was set free crashed"))),
        Err(_) => Ok(worker.hung()),
    }
}

/// How a worker that stood still ended, and the one that came after it.
struct Met {
    successor: Ended,
    zombie: Ended,
}

/// `was_done` tells that the outcome was written before the worker stood still.
async fn judge_zombie<D: LabDatabase>(
    world: &World<'_, D>,
    oracle: &Oracle,
    Met { successor, zombie }: Met,
    was_done: bool,
) -> Result<Vec<Difference>, Trouble> {
    let mut differences: Vec<Difference> =
        not_as_a_zombie(&zombie).filter(|_| !was_done).into_iter().collect();
    let mut ended = vec![successor];
    // An error is the right answer of a worker that has lost its claim, so it is not compared.
    if !matches!(zombie, Ended::Again(_) | Ended::Failed(_) | Ended::Drifted(_) | Ended::Parked(_)) {
        ended.push(zombie);
    }
    differences.extend(judge_in_doubt(world, oracle, &ended).await?);
    Ok(differences)
}

/// Tells what is wrong with the answer of a worker that has lost its claim.
fn not_as_a_zombie(zombie: &Ended) -> Option<Difference> {
    match zombie {
        Ended::Answered(answer) if did_it(zombie) => Some(Difference::Law {
            law: String::from(law::FENCED),
            found: format!("it says that it {} the job", answer.how),
        }),
        _ => None,
    }
}
