//! What is tried on a job.

mod concurrent;
mod crash;
mod interleavings;
pub(crate) mod kill;
mod lost_ack;
mod outage;
mod repeat;
mod rival;
mod zombie;

use std::fmt;
use std::str::FromStr;
use std::time::Instant;

use idem_runtime::job::Retain;
use serde::Serialize;

use crate::check::Trouble;
use crate::hint;
use crate::lab::{AnyLab, LabDatabase};
use crate::oracle::Oracle;
use crate::report::{Difference, Failure, PlanReport};
use crate::subject::Subject;
use crate::world::{Answer, Ended, World};

/// One way to run a job more than once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Plan {
    /// The same run again and again.
    Repeat,
    /// Many runs at once.
    Concurrent,
    /// A crash at every window, then recovery; at one window two crashes.
    Crash,
    /// The answer to COMMIT is lost.
    LostAck,
    /// Somebody else's record appears while the job runs. Skipped for leased jobs, which claim their key first, for jobs that
    /// leave no record, and on SQLite, where nobody can write while a run is open.
    Rival,
    /// Two runs, step by step, in every order with at most two changes of turn.
    Interleavings,
    /// A worker that stands still, loses its claim and wakes up.
    Zombie,
    /// Something fails once and works the next time.
    Outage,
    /// A process that is killed at every window, then recovery.
    Kill,
}

impl Plan {
    /// Every plan, in the order in which a full check runs them.
    pub const ALL: [Plan; 9] = [
        Plan::Repeat,
        Plan::Concurrent,
        Plan::Crash,
        Plan::LostAck,
        Plan::Rival,
        Plan::Interleavings,
        Plan::Zombie,
        Plan::Outage,
        Plan::Kill,
    ];

    /// Returns the plan's name, as reports and schedules write it.
    pub const fn name(self) -> &'static str {
        match self {
            Plan::Repeat => "repeat",
            Plan::Concurrent => "concurrent",
            Plan::Crash => "crash",
            Plan::LostAck => "lost_ack",
            Plan::Rival => "rival",
            Plan::Interleavings => "interleavings",
            Plan::Zombie => "zombie",
            Plan::Outage => "outage",
            Plan::Kill => "kill",
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Plan {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Plan::ALL
            .into_iter()
            .find(|plan| plan.name() == name)
            .ok_or_else(|| format!("there is no plan `{name}`"))
    }
}

/// Reads `IDEM_SCHEDULE`: the one schedule that is to run.
pub(crate) fn only() -> Result<Option<(Plan, String)>, Trouble> {
    std::env::var("IDEM_SCHEDULE").ok().map(|named| parse(&named)).transpose()
}

/// Reads a schedule such as `crash/3`.
pub(crate) fn parse(named: &str) -> Result<(Plan, String), Trouble> {
    let wrong = |why: &str| {
        Trouble::Schedule(format!(
            "`IDEM_SCHEDULE` is {named:?}, which is no schedule: {why}; copy it from a report, such as `crash/3`"
        ))
    };
    let (plan, schedule) = named.split_once('/').ok_or_else(|| wrong("it has no `/`"))?;
    let plan = plan.parse().map_err(|why: String| wrong(&why))?;
    Ok((plan, schedule.to_owned()))
}

/// How far a plan came.
#[derive(Default)]
pub(crate) struct Went {
    /// How many windows, or schedules, exist.
    pub(crate) windows: usize,
    /// How many were hit.
    pub(crate) hit: usize,
    /// How far the plan goes, if not through everything.
    pub(crate) bound: Option<String>,
    /// Why the plan, or a part of it, does not apply.
    pub(crate) skipped: Option<String>,
    pub(crate) wrong: Option<Wrong>,
}

/// A schedule that had another effect than a clean run.
pub(crate) struct Wrong {
    /// The schedule, without the plan's name.
    pub(crate) schedule: String,
    pub(crate) what: String,
    pub(crate) differences: Vec<Difference>,
    pub(crate) timeline: Vec<crate::report::Moment>,
    /// Where its database is.
    pub(crate) address: String,
    pub(crate) lab: Box<dyn AnyLab>,
}

/// idem's own laws, as differences name them.
pub(crate) mod law {
    pub(crate) const ONE_EXECUTES: &str = "of all runs of a key one executes";
    pub(crate) const ANSWERED_FROM_THE_RECORD: &str =
        "a run after a completed one is answered from the record";
    pub(crate) const ONE_KEY: &str = "all runs of a job with the same arguments have one key";
    pub(crate) const KEPT: &str = "what a clean run records stays recorded";
    pub(crate) const DRAWN_ONCE: &str =
        "what a clean run draws once, and writes in two places, is the same in both";
    pub(crate) const ENQUEUED: &str = "what a clean run enqueues is enqueued as often";
    pub(crate) const FENCED: &str = "a worker that has lost its claim fails, or answers with the record";
    pub(crate) const STAYS_PARKED: &str = "what waits for a person waits until a person has looked";
    pub(crate) const UNRELATED_WORK: &str =
        "after a crash or an error an unrelated write on the worker's pool is done and lasts";
}

/// A failure, unless more clean runs explain it, and the database that is kept then.
pub(crate) type Suspicion = (Failure, Box<dyn AnyLab>);

/// Runs one plan, or one schedule of it.
pub(crate) async fn run<D: LabDatabase>(
    plan: Plan,
    subject: &dyn Subject<D>,
    oracle: &Oracle,
    call: &kill::Call,
    only: Option<&str>,
) -> Result<(PlanReport, Option<Suspicion>), Trouble> {
    let began = Instant::now();
    let mut went = match plan {
        Plan::Repeat => repeat::run(subject, oracle, only).await?,
        Plan::Concurrent => concurrent::run(subject, oracle, only).await?,
        Plan::Crash => crash::run(subject, oracle, only).await?,
        Plan::LostAck => lost_ack::run(subject, oracle, only).await?,
        Plan::Rival => rival::run(subject, oracle, only).await?,
        Plan::Interleavings => interleavings::run(subject, oracle, only).await?,
        Plan::Zombie => zombie::run(subject, oracle, only).await?,
        Plan::Outage => outage::run(subject, oracle, only).await?,
        Plan::Kill => kill::run(subject, oracle, call, only).await?,
    };
    if let (Some(schedule), 0) = (only, went.hit) {
        return Err(Trouble::Schedule(format!(
            "`IDEM_SCHEDULE`: {plan} has no schedule `{schedule}` on this job; copy it from a report, or leave the variable unset"
        )));
    }
    let failure = went.wrong.take().map(|wrong| {
        let schedule = format!("{plan}/{}", wrong.schedule);
        let failure = Failure {
            plan,
            replay: replay(&schedule, call.test()),
            schedule,
            hint: hint::of(plan, &subject.spec(), &wrong.differences),
            what: wrong.what,
            differences: wrong.differences,
            timeline: wrong.timeline,
            kept: Some(wrong.address),
        };
        (failure, wrong.lab)
    });
    let Went { windows, hit, bound, skipped, .. } = went;
    Ok((PlanReport { plan, windows, hit, took: began.elapsed(), bound, skipped }, failure))
}

/// Writes the line that runs a schedule of the test that calls.
fn replay(schedule: &str, test: Option<&str>) -> String {
    let package = std::env::var("CARGO_PKG_NAME").map(|name| format!(" -p {name}")).unwrap_or_default();
    let test = test.map(|name| format!(" {name} -- --exact")).unwrap_or_default();
    // A window may be called after something with an apostrophe.
    let is_plain = schedule.chars().all(|c| c.is_ascii_alphanumeric() || "/-_.,:".contains(c));
    let schedule = if is_plain { schedule.to_owned() } else { format!("\"{schedule}\"") };
    format!("IDEM_SCHEDULE={schedule} cargo test{package}{test}")
}

/// Judges runs of which one was cut off, so that nobody may know what has become of an effect: they may wait for a
/// person then.
pub(crate) async fn judge_in_doubt<D: LabDatabase>(
    world: &World<'_, D>,
    oracle: &Oracle,
    ended: &[Ended],
) -> Result<Vec<Difference>, Trouble> {
    if !ended.iter().any(is_parked) {
        return judge(world, oracle, ended).await;
    }
    let again = world.run('R').await?;
    // Whoever parks does not know, so what is missing is missing rightly. What is there twice is not.
    let mut differences = oracle.too_much(&world.left().await?);
    if !is_parked(&again) {
        let law = String::from(law::STAYS_PARKED);
        differences.push(Difference::Law { law, found: String::from("the next run did not wait") });
    }
    Ok(differences)
}

/// Compares what a trial left with a clean run, asks for a replay, and compares again.
pub(crate) async fn judge<D: LabDatabase>(
    world: &World<'_, D>,
    oracle: &Oracle,
    ended: &[Ended],
) -> Result<Vec<Difference>, Trouble> {
    let first = ended.iter().find_map(|ended| match ended {
        Ended::Answered(answer) => Some(answer),
        _ => None,
    });
    let mut differences: Vec<_> = ended.iter().filter_map(|ended| oracle.answer(first, ended)).collect();
    let executed = ended.iter().filter(|ended| executed(ended)).count();
    if world.subject.spec().retain != Retain::None && executed > 1 {
        differences.push(Difference::Law {
            law: String::from(law::ONE_EXECUTES),
            found: format!("{executed} runs say that they executed"),
        });
    }
    differences.extend(oracle.differences(&world.left().await?));
    if differences.is_empty() && world.subject.spec().retain != Retain::None {
        let again = world.run('R').await?;
        differences.extend(oracle.answer(first, &again));
        if did_it(&again) {
            differences.push(Difference::Law {
                law: String::from(law::ANSWERED_FROM_THE_RECORD),
                found: String::from("it executed"),
            });
        }
        differences.extend(oracle.differences(&world.left().await?));
    }
    Ok(differences)
}

fn is_parked(ended: &Ended) -> bool {
    matches!(ended, Ended::Parked(_))
}

fn executed(ended: &Ended) -> bool {
    matches!(ended, Ended::Answered(Answer { how: "executed", .. }))
}

/// Tells whether a run says that it did the work, or found it done, itself; of an error nobody can tell.
fn did_it(ended: &Ended) -> bool {
    matches!(ended, Ended::Answered(Answer { how: "executed" | "adopted", .. }))
}

/// Reports a trial that went wrong. Its database stays until it is known whether that is to be kept.
pub(crate) fn wrong<D: LabDatabase>(
    world: World<'_, D>,
    schedule: String,
    what: String,
    differences: Vec<Difference>,
) -> Wrong {
    let World { lab, timeline, .. } = world;
    let (timeline, address) = (timeline.moments(), lab.address());
    Wrong { schedule, what, differences, timeline, address, lab: Box::new(lab) }
}

#[cfg(test)]
mod tests {
    use super::replay;

    #[test]
    fn a_shell_can_read_the_line_that_runs_a_schedule_again() {
        assert!(replay("crash/3", None).starts_with("IDEM_SCHEDULE=crash/3 cargo test -p idem-testkit"));
        let line = replay("crash/after-a-step's-COMMIT", Some("a_test"));
        assert!(line.starts_with("IDEM_SCHEDULE=\"crash/after-a-step's-COMMIT\" cargo test"), "{line}");
    }
}
