//! A crash at every window of a run: a deploy, a dropped future, an aborted task.
//!
//! At the first await of the body the run after it crashes as well: what a job does in its third attempt shows nowhere
//! else.

use std::time::Duration;

use super::{Went, judge_in_doubt, law, wrong};
use crate::check::Trouble;
use crate::lab::LabDatabase;
use crate::oracle::Oracle;
use crate::report::Difference;
use crate::subject::Subject;
use crate::watch::{Ack, BODY, Stop, slug};
use crate::world::World;

/// How long unrelated work may take after a crash.
pub(super) const UNRELATED: Duration = Duration::from_secs(6);

pub(crate) async fn run<D: LabDatabase>(
    subject: &dyn Subject<D>,
    oracle: &Oracle,
    only: Option<&str>,
) -> Result<Went, Trouble> {
    let mut went = Went::default();
    if let Some(window) = only.and_then(|only| only.strip_prefix(TWICE)) {
        return twice(subject, oracle, window, went).await;
    }
    let mut windows = Windows::of(oracle);
    while let Some(window) = windows.next(only) {
        let Some(world) = World::new(subject).await? else { break };
        let worker = world.worker('A', Stop::At(window.clone()), Ack::Heard)?;
        let crashed = worker.run().await.is_none();
        windows.seen(worker.watch.windows());
        if !crashed {
            continue;
        }
        windows.hit();
        let mut differences: Vec<Difference> =
            unrelated_work(&world, &worker.pool).await?.into_iter().collect();
        drop(worker);
        if subject.is_leased() {
            // A run that is dropped frees its key in a task of its own. That it may not come to that is what `kill`
            // is about.
            world.settle().await;
        }
        let recovered = world.recover_after_a_death('B').await?;
        differences.extend(judge_in_doubt(&world, oracle, &[recovered]).await?);
        if !differences.is_empty() {
            let what = format!("the worker crashed at {window}, and the job ran again");
            went.wrong = Some(wrong(world, slug(&window), what, differences));
            break;
        }
    }
    (went.windows, went.hit) = windows.count();
    let body = format!("await 1 of {BODY}");
    if only.is_none() && went.wrong.is_none() && oracle.windows.contains(&body) {
        return twice(subject, oracle, &body, went).await;
    }
    Ok(went)
}

/// What a schedule begins with in which two runs crash.
const TWICE: &str = "twice-";

/// Lets two runs crash at a window, one after the other.
async fn twice<D: LabDatabase>(
    subject: &dyn Subject<D>,
    oracle: &Oracle,
    window: &str,
    mut went: Went,
) -> Result<Went, Trouble> {
    let Some(world) = World::new(subject).await? else { return Ok(went) };
    for name in ['A', 'B'] {
        let worker = world.worker(name, Stop::At(window.to_owned()), Ack::Heard)?;
        if worker.run().await.is_some() {
            // Whoever comes second may park, or have another way to go.
            return Ok(went);
        }
        drop(worker);
        if subject.is_leased() {
            world.settle().await;
            world.let_leases_lapse().await;
        }
    }
    (went.windows, went.hit) = (went.windows + 1, went.hit + 1);
    let recovered = world.recover_after_a_death('C').await?;
    let differences = judge_in_doubt(&world, oracle, &[recovered]).await?;
    if !differences.is_empty() {
        let what = format!("the worker crashed twice, at {window}, and the job ran again");
        let schedule = format!("{TWICE}{}", slug(window));
        went.wrong = Some(wrong(world, schedule, what, differences));
    }
    Ok(went)
}

/// How often a window is tried that a run does not come to.
const TRIES: usize = 2;

/// How often it is if it is the only one that is asked for.
const TRIES_OF_ONE: usize = 40;

/// The windows to crash at.
///
/// How many awaits a run has can depend on how fast answers come: over a network one may be there already, which is
/// no await, and on a busy machine one may come in parts. So every run may show new windows, and an await that does
/// not come again does not count. The sides of the store's calls always do.
pub(super) struct Windows {
    known: Vec<String>,
    /// The one to try now.
    now: usize,
    tries: usize,
    hits: usize,
    /// Those of the store's calls that no run came to again.
    missed: usize,
}

impl Windows {
    pub(super) fn of(oracle: &Oracle) -> Self {
        Windows { known: oracle.windows.clone(), now: 0, tries: 0, hits: 0, missed: 0 }
    }

    /// Returns the next window to try, or the one that is asked for, until a run comes to it.
    pub(super) fn next(&mut self, only: Option<&str>) -> Option<String> {
        if let Some(only) = only {
            self.tries += 1;
            let known = self.known.iter().find(|window| slug(window) == only);
            let window = known.cloned().unwrap_or_else(|| only.to_owned());
            return (self.hits == 0 && self.tries <= TRIES_OF_ONE).then_some(window);
        }
        if self.tries >= TRIES {
            let is_side = self.known.get(self.now).is_some_and(|window| !window.starts_with("await"));
            self.missed += usize::from(is_side && self.tries == TRIES);
            self.now += 1;
            self.tries = 0;
        }
        self.tries += 1;
        self.known.get(self.now).cloned()
    }

    pub(super) fn seen(&mut self, windows: Vec<String>) {
        for window in windows {
            if !self.known.contains(&window) {
                self.known.push(window);
            }
        }
    }

    pub(super) fn hit(&mut self) {
        self.hits += 1;
        self.tries = TRIES + 1;
    }

    /// Returns how many windows are known, and how many were hit.
    pub(super) fn count(&self) -> (usize, usize) {
        (self.hits + self.missed, self.hits)
    }
}

/// Does unrelated work on the connections that the crash left behind, and looks from outside whether it is done.
pub(super) async fn unrelated_work<D: LabDatabase>(
    world: &World<'_, D>,
    pool: &sqlx::Pool<D>,
) -> Result<Option<Difference>, Trouble> {
    let work = async {
        let mut connection = pool.acquire().await?;
        D::rows(&mut connection, "INSERT INTO idem_testkit_probe (n) VALUES (1)").await
    };
    let done = match tokio::time::timeout(UNRELATED, work).await {
        Ok(Ok(_)) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some(format!("no answer within {UNRELATED:?}")),
    };
    let found = match done {
        Some(why) => why,
        None => {
            let mut outside = world.outside().await;
            let rows = D::rows(&mut outside, "SELECT n FROM idem_testkit_probe").await;
            match rows.map_err(Trouble::database)? {
                0 => String::from("it said that it was done, and nothing is there"),
                _ => return Ok(None),
            }
        }
    };
    let law = String::from(law::UNRELATED_WORK);
    Ok(Some(Difference::Law { law, found }))
}
