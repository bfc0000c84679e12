//! A worker that stands still in its transaction, loses its connection without noticing, and wakes up after
//! another worker has done the job: a paused container, a laptop lid, a long collection of garbage.
//!
//! The windows are those between BEGIN and COMMIT. An atomic job holds its key as long as its session lives,
//! so the session is what is lost: a proxy between worker and server breaks the connection.

use std::collections::BTreeSet;
use std::future::Future;
use std::time::Duration;

use idem_runtime::RunOn;
use idem_runtime::job::Lock;
use sqlx::pool::PoolOptions;

use super::{Went, judge, wrong};
use crate::check::Trouble;
use crate::lab::LabDatabase;
use crate::oracle::Oracle;
use crate::report::Difference;
use crate::scenario::Scenario;
use crate::watch::{Ack, Step, Stop, slug};
use crate::world::{Ended, Returned, Worker, World};

/// How long a step may take before it counts as waiting for somebody.
const PATIENCE: Duration = Duration::from_secs(2);

/// How many windows there may be.
const MOST: usize = 1_000;

/// The first and the last window in the transaction.
const FIRST: &str = "after BEGIN";
const LAST: &str = "before COMMIT";

/// The window from which on a leased run has the key, and that from which on it has done the job.
const CLAIMED: &str = "after the key is claimed";
const SETTLED: &str = "after the outcome is written";

pub(crate) async fn run<J, D, S>(
    scenario: &Scenario<J, D, S>,
    oracle: &Oracle,
    only: Option<&str>,
) -> Result<Went, Trouble>
where
    J: RunOn<D, S>,
    D: LabDatabase,
    S: Clone + Send + Sync + 'static,
{
    if let Lock::Lease(_) = J::SPEC.lock {
        return leased(scenario, oracle, only).await;
    }
    let mut went = Went::default();
    // The awaits of a run are not the same each time, so windows go by their names: each trial takes a new one.
    let mut hit = BTreeSet::new();
    while hit.len() < MOST {
        let Some(mut world) = World::new(scenario).await? else { break };
        let Some((proxy, options)) = D::proxy(&world.lab.options(), Duration::ZERO).await else {
            let why = "there is no server to lose the connection to: the lock lasts exactly as long as the \
                       process, see `kill`";
            return Ok(Went { skipped: Some(String::from(why)), ..Went::default() });
        };
        let pool = PoolOptions::new().max_connections(2).connect_lazy_with(options);
        let worker = world.worker_on(pool, 'A', Stop::Everywhere, Ack::Heard)?;
        let mut run = Box::pin(worker.idem.run(world.job()));
        let began = tokio::time::Instant::now();
        let mut is_open = false;
        let at = loop {
            match worker.watch.step(&mut run, PATIENCE).await {
                Step::Window(at) => {
                    is_open |= at == FIRST;
                    let is_wanted = match &only {
                        Some(only) => *only == slug(&at),
                        None => !hit.contains(&at),
                    };
                    if is_open && is_wanted {
                        break Some(at);
                    }
                    if at == LAST {
                        // All windows are hit. A run that is dropped here would hold its tables for a while.
                        worker.watch.set_free();
                        let _ = tokio::time::timeout(scenario.limit, worker.watch.run(&mut run)).await;
                        break None;
                    }
                }
                Step::Blocked if began.elapsed() < scenario.limit => {}
                Step::Blocked => {
                    let (at, timeline) = (worker.watch.last(), world.timeline.moments());
                    return Err(Trouble::Hung { at, timeline });
                }
                Step::Ended(_) => break None,
            }
        };
        let Some(at) = at else { break };
        hit.insert(at.clone());
        (went.hit, went.windows) = (hit.len(), hit.len());
        worker.watch.note(format!("stands still {at}"));
        proxy.cut();
        world.timeline.note('-', "cuts the connection of A");
        let successor = world.recover('B').await?;
        let zombie = wake_up::<_, _, J>(&worker, &mut run, scenario.limit).await?;
        drop(run);
        // What it still holds goes with its last connections.
        proxy.cut();
        let differences = judge_zombie(&world, oracle, false, successor, zombie).await?;
        if !differences.is_empty() {
            let what = format!(
                "the worker stood still {at}, lost its connection and woke up after another one had done the job"
            );
            went.wrong = Some(wrong(&mut world, slug(&at), what, differences));
            break;
        }
        if only.is_some() {
            break;
        }
    }
    Ok(went)
}

/// The same for a leased job: what passes is the lease, and the worker keeps its connection.
///
/// Inside a transaction of a step it holds locks as well, which only a death frees; see `crash` and `kill`.
async fn leased<J, D, S>(
    scenario: &Scenario<J, D, S>,
    oracle: &Oracle,
    only: Option<&str>,
) -> Result<Went, Trouble>
where
    J: RunOn<D, S>,
    D: LabDatabase,
    S: Clone + Send + Sync + 'static,
{
    let mut went = Went::default();
    let mut hit = BTreeSet::new();
    while hit.len() < MOST {
        let Some(mut world) = World::new(scenario).await? else { break };
        let worker = world.worker('A', Stop::Everywhere, Ack::Heard)?;
        let mut run = Box::pin(worker.idem.run(world.job()));
        let began = tokio::time::Instant::now();
        let (mut has_the_key, mut is_in_tx, mut is_done) = (false, false, false);
        let at = loop {
            match worker.watch.step(&mut run, PATIENCE).await {
                Step::Window(at) => {
                    has_the_key |= at == CLAIMED;
                    is_done |= at.starts_with(SETTLED);
                    is_in_tx = match at.as_str() {
                        at if at.starts_with("after BEGIN") => true,
                        at if at.starts_with("after a step's COMMIT") || at.starts_with("after ROLLBACK") => {
                            false
                        }
                        _ => is_in_tx,
                    };
                    let is_wanted = match &only {
                        Some(only) => *only == slug(&at),
                        None => !hit.contains(&at),
                    };
                    if has_the_key && !is_in_tx && is_wanted {
                        break Some(at);
                    }
                }
                Step::Blocked if began.elapsed() < scenario.limit => {}
                Step::Blocked => {
                    let (at, timeline) = (worker.watch.last(), world.timeline.moments());
                    return Err(Trouble::Hung { at, timeline });
                }
                Step::Ended(_) => break None,
            }
        };
        let Some(at) = at else { break };
        hit.insert(at.clone());
        (went.hit, went.windows) = (hit.len(), hit.len());
        worker.watch.note(format!("stands still {at}"));
        worker.watch.freeze();
        world.timeline.note('-', "lets the lease of A pass");
        let successor = world.recover_after_a_death('B').await?;
        let zombie = wake_up::<_, _, J>(&worker, &mut run, scenario.limit).await?;
        drop(run);
        let differences = judge_zombie(&world, oracle, is_done, successor, zombie).await?;
        if !differences.is_empty() {
            let what = format!(
                "the worker stood still {at}, its lease passed, and it woke up after another one had done the job"
            );
            went.wrong = Some(wrong(&mut world, slug(&at), what, differences));
            break;
        }
        if only.is_some() {
            break;
        }
    }
    Ok(went)
}

/// Lets a worker that stood still go on to its end.
async fn wake_up<D, S, J>(
    worker: &Worker<D, S>,
    run: &mut (impl Future<Output = Returned<J>> + Unpin),
    limit: Duration,
) -> Result<Ended, Trouble>
where
    J: RunOn<D, S>,
    D: LabDatabase,
    S: Clone + Send + Sync + 'static,
{
    worker.watch.note("wakes up");
    worker.watch.set_free();
    match tokio::time::timeout(limit, worker.watch.run(run)).await {
        Ok(Some(ran)) => Ok(worker.ended::<J>(ran)),
        Ok(None) => Err(Trouble::Store(String::from("a worker that was set free crashed"))),
        Err(_) => Ok(worker.hung()),
    }
}

/// `was_done` says that the worker had written its outcome before it stood still.
async fn judge_zombie<J, D, S>(
    world: &World<'_, J, D, S>,
    oracle: &Oracle,
    was_done: bool,
    successor: Ended,
    zombie: Ended,
) -> Result<Vec<Difference>, Trouble>
where
    J: RunOn<D, S>,
    D: LabDatabase,
    S: Clone + Send + Sync + 'static,
{
    // A worker that stood still after its outcome was written has done the job: its successor replays, or, if
    // nothing is kept, does it once more.
    let had_done_it = was_done || matches!(&successor, Ended::Answered(answer) if answer.how == "replayed");
    let mut differences: Vec<Difference> =
        not_as_a_zombie(&zombie).filter(|_| !had_done_it).into_iter().collect();
    let mut ended = vec![successor];
    // An error is the right answer of a worker that has lost its claim, so it is not compared.
    if !matches!(zombie, Ended::Again(_) | Ended::Failed(_) | Ended::Parked(_)) {
        ended.push(zombie);
    }
    differences.extend(judge(world, oracle, &ended).await?);
    Ok(differences)
}

/// Tells what is wrong with the answer of a worker that has lost its claim.
fn not_as_a_zombie(zombie: &Ended) -> Option<Difference> {
    match zombie {
        Ended::Answered(answer) if answer.how != "replayed" => Some(Difference::Law {
            law: String::from("a worker that has lost its claim fails, or answers with the record"),
            found: format!("it says that it {} the job", answer.how),
        }),
        _ => None,
    }
}
