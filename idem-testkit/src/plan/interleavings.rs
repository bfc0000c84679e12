//! Two runs on separate connections, step by step: A goes some windows far, then B, then A to its end, then B.
//!
//! That is every order with at most two changes of turn before one of them is done. More changes find
//! more, but hardly any real race needs them.
//!
//! The key of a leased job is also taken over: so both runs also come to one whose run was cut off, until either has it.

use std::fmt;
use std::time::Duration;

use super::zombie::{CLAIMED, TAKEN_OVER};
use super::{Went, judge, wrong};
use crate::check::Trouble;
use crate::lab::LabDatabase;
use crate::oracle::Oracle;
use crate::subject::Subject;
use crate::watch::{Ack, Step, Stop};
use crate::world::{Ended, World};

/// How long a step may take at least before it counts as waiting for the other run.
const PATIENCE: Duration = Duration::from_millis(15);

/// The same for leased runs, which say that another run has their key, so that a slow one is not taken for one that
/// waits.
const LEASED_PATIENCE: Duration = Duration::from_millis(500);

/// The same while the other run has not begun or is over, so that there is nothing to wait for.
const PATIENCE_ALONE: Duration = Duration::from_secs(2);

/// How many times as long as the slowest step of a clean run it may take at least.
const PATIENCE_STEPS: u32 = 2;

/// The most schedules that are tried on one job.
const MOST: usize = 400;

pub(crate) async fn run<D: LabDatabase>(
    subject: &dyn Subject<D>,
    oracle: &Oracle,
    only: Option<&str>,
) -> Result<Went, Trouble> {
    let mut went = Went { bound: Some(bound(0)), ..Went::default() };
    let only = match only.map(parse) {
        Some(None) => return Ok(went),
        Some(Some(schedule)) => Some(schedule),
        None => None,
    };
    let before: &[Before] = match subject.is_leased() {
        true => &[Before::Nothing, Before::AThird],
        false => &[Before::Nothing],
    };
    let last = oracle.windows.len() + 2;
    let mut waits = 0;
    for &before in before {
        for a in 0..=last {
            let mut a_is_far_enough = false;
            for b in 1..=last {
                if only.is_some_and(|only| only != (before, a, b)) {
                    continue;
                }
                if went.hit == MOST {
                    went.windows = (last + 1) * last;
                    went.skipped = Some(format!("stopped after {MOST} schedules"));
                    return Ok(went);
                }
                let Some(world) = World::new(subject).await? else { return Ok(went) };
                let took = match before {
                    Before::Nothing => take_turns(&world, oracle, before, a, b).await?,
                    Before::AThird => after_a_third(&world, oracle, a, b).await?,
                };
                went.hit += 1;
                waits += usize::from(took.waits);
                went.bound = Some(bound(waits));
                // The third run has done nothing, so nobody is in doubt.
                let differences = judge(&world, oracle, &took.ended).await?;
                if !differences.is_empty() {
                    let [a_stood_at, b_stood_at] = took.stood_at;
                    let what = format!(
                        "two runs at once{before}: the first stood at {a_stood_at}, the second went to {b_stood_at}"
                    );
                    went.windows = went.hit;
                    went.wrong = Some(wrong(world, before.schedule(a, b), what, differences));
                    return Ok(went);
                }
                // Who has taken a key over is in the body, and that is what the other interleavings are about.
                let is_far_enough = |n: usize| {
                    took.got_no_further[n] || (before == Before::AThird && took.stood_at[n] == TAKEN_OVER)
                };
                a_is_far_enough = took.was_over[0] || (before == Before::AThird && is_far_enough(0));
                // B waits for A, or is done: going further is the same schedule.
                if is_far_enough(1) {
                    break;
                }
            }
            if a_is_far_enough {
                break;
            }
        }
    }
    went.windows = went.hit;
    Ok(went)
}

/// Says how far the plan goes, and where a turn was over early.
fn bound(waits: usize) -> String {
    let every = "every order with at most 2 changes of turn";
    match waits {
        0 => every.to_owned(),
        waits => format!("{every}, {waits} of them cut short where a run waited for the other"),
    }
}

/// What has happened before the two runs begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    Nothing,
    /// Another run has claimed the key of a leased job, and was cut off before its body began.
    AThird,
}

impl Before {
    fn schedule(self, a: usize, b: usize) -> String {
        match self {
            Before::Nothing => format!("A{a}B{b}"),
            Before::AThird => format!("{THIRD}A{a}B{b}"),
        }
    }
}

impl fmt::Display for Before {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Before::Nothing => "",
            Before::AThird => " after a third one had been cut off with the key",
        })
    }
}

/// What a schedule begins with that has a third run before.
const THIRD: &str = "C-";

struct Turns {
    ended: Vec<Ended>,
    stood_at: [String; 2],
    got_no_further: [bool; 2],
    was_over: [bool; 2],
    /// A run waited for the other one before its turn was over.
    waits: bool,
}

/// The same when a run was cut off with the key, before its body began.
async fn after_a_third<D: LabDatabase>(
    world: &World<'_, D>,
    oracle: &Oracle,
    a: usize,
    b: usize,
) -> Result<Turns, Trouble> {
    let third = world.worker('C', Stop::At(String::from(CLAIMED)), Ack::Heard)?;
    if third.run().await.is_some() {
        return Err(Trouble::Store(String::from("a leased run ended without a claim")));
    }
    drop(third);
    // It frees the key in a task of its own.
    world.settle().await;
    take_turns(world, oracle, Before::AThird, a, b).await
}

/// Lets A take `a` steps, B `b` steps, A all others, and then B.
async fn take_turns<D: LabDatabase>(
    world: &World<'_, D>,
    oracle: &Oracle,
    before: Before,
    a: usize,
    b: usize,
) -> Result<Turns, Trouble> {
    let workers =
        [world.worker('A', Stop::Everywhere, Ack::Heard)?, world.worker('B', Stop::Everywhere, Ack::Heard)?];
    let mut runs = [workers[0].start(), workers[1].start()];
    let mut ended: [Option<Ended>; 2] = [None, None];
    let mut stood_at = [String::new(), String::new()];
    let mut got_no_further = [false, false];
    let mut waits = false;
    for (n, steps) in [(0, a), (1, b)] {
        let is_alone = before == Before::Nothing && (n == 0 || a == 0 || ended[0].is_some());
        let at_least = match world.subject.is_leased() {
            _ if is_alone => PATIENCE_ALONE,
            true => LEASED_PATIENCE,
            false => PATIENCE,
        };
        let patience = at_least.max(oracle.slowest_step * PATIENCE_STEPS);
        for _ in 0..steps {
            match workers[n].watch.step(&mut runs[n], patience).await {
                Step::Window(_) => {}
                Step::Blocked => {
                    workers[n].watch.note("waits");
                    (got_no_further[n], waits) = (true, true);
                    break;
                }
                Step::Ended(ran) => {
                    ended[n] = Some(workers[n].ended(ran));
                    got_no_further[n] = true;
                    break;
                }
            }
        }
        stood_at[n] = workers[n].watch.last();
    }
    let was_over = [ended[0].is_some(), ended[1].is_some()];
    let began = tokio::time::Instant::now();
    while let Some(n) = (0..2).find(|n| ended[*n].is_none()) {
        // Whoever waits lets the other one go on.
        for n in [n, 1 - n] {
            while ended[n].is_none() {
                match workers[n].watch.step(&mut runs[n], PATIENCE).await {
                    Step::Window(_) => {}
                    Step::Blocked if began.elapsed() > world.subject.settings().limit => {
                        ended[n] = Some(workers[n].hung())
                    }
                    Step::Blocked => break,
                    Step::Ended(ran) => ended[n] = Some(workers[n].ended(ran)),
                }
            }
        }
    }
    drop(runs);
    let mut answers = Vec::new();
    for ended in ended.into_iter().flatten() {
        answers.push(world.deliver_again(ended, 'R').await?);
    }
    Ok(Turns { ended: answers, stood_at, got_no_further, was_over, waits })
}

/// Reads a schedule such as `A3B2`.
fn parse(schedule: &str) -> Option<(Before, usize, usize)> {
    let (before, turns) = match schedule.strip_prefix(THIRD) {
        Some(turns) => (Before::AThird, turns),
        None => (Before::Nothing, schedule),
    };
    let (a, b) = turns.strip_prefix('A')?.split_once('B')?;
    Some((before, a.parse().ok()?, b.parse().ok()?))
}
