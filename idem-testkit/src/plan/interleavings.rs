//! Two runs on separate connections, step by step: A goes some windows far, then B, then A to its end, then B.
//!
//! That is every order with at most two changes of turn before one of them is done. More changes find
//! more, but hardly any real race needs them.

use std::time::Duration;

use idem_runtime::RunOn;

use super::{Went, judge, wrong};
use crate::check::Trouble;
use crate::lab::LabDatabase;
use crate::oracle::Oracle;
use crate::scenario::Scenario;
use crate::watch::{Ack, Step, Stop};
use crate::world::{Ended, World};

/// How long a step may take before it counts as waiting for the other run.
const PATIENCE: Duration = Duration::from_millis(15);

/// The most schedules that are tried on one job.
const MOST: usize = 400;

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
    let bound = String::from("every order with at most 2 changes of turn");
    let mut went = Went { bound: Some(bound), ..Went::default() };
    let only = match only.map(parse) {
        Some(None) => return Ok(went),
        Some(Some(turns)) => Some(turns),
        None => None,
    };
    let last = oracle.windows.len() + 1;
    for a in 0..=last {
        let mut a_is_over = false;
        for b in 1..=last {
            if only.is_some_and(|only| only != (a, b)) {
                continue;
            }
            if went.hit == MOST {
                went.windows = (last + 1) * last;
                went.skipped = Some(format!("stopped after {MOST} schedules"));
                return Ok(went);
            }
            let Some(mut world) = World::new(scenario).await? else { return Ok(went) };
            let took = take_turns(&world, a, b).await?;
            went.hit += 1;
            let differences = judge(&world, oracle, &took.ended).await?;
            if !differences.is_empty() {
                let what = format!(
                    "two runs at once: the first stood at {}, the second went to {}",
                    took.a_stood_at, took.b_stood_at
                );
                went.windows = went.hit;
                went.wrong = Some(wrong(&mut world, format!("A{a}B{b}"), what, differences));
                return Ok(went);
            }
            a_is_over = took.a_was_over;
            // B waits for A, or is done: going further is the same schedule.
            if took.b_got_no_further {
                break;
            }
        }
        if a_is_over {
            break;
        }
    }
    went.windows = went.hit;
    Ok(went)
}

struct Turns {
    ended: Vec<Ended>,
    a_stood_at: String,
    b_stood_at: String,
    a_was_over: bool,
    b_got_no_further: bool,
}

/// Lets A take `a` steps, B `b` steps, A all others, and then B.
async fn take_turns<J, D, S>(world: &World<'_, J, D, S>, a: usize, b: usize) -> Result<Turns, Trouble>
where
    J: RunOn<D, S>,
    D: LabDatabase,
    S: Clone + Send + Sync + 'static,
{
    let workers =
        [world.worker('A', Stop::Everywhere, Ack::Heard)?, world.worker('B', Stop::Everywhere, Ack::Heard)?];
    let mut runs = [Box::pin(workers[0].idem.run(world.job())), Box::pin(workers[1].idem.run(world.job()))];
    let mut ended: [Option<Ended>; 2] = [None, None];
    let mut stood_at = [String::new(), String::new()];
    let mut got_no_further = [false, false];
    for (n, steps) in [(0, a), (1, b)] {
        for _ in 0..steps {
            match workers[n].watch.step(&mut runs[n], PATIENCE).await {
                Step::Window(_) => {}
                Step::Blocked => {
                    workers[n].watch.note("waits");
                    got_no_further[n] = true;
                    break;
                }
                Step::Ended(ran) => {
                    ended[n] = Some(workers[n].ended::<J>(ran));
                    got_no_further[n] = true;
                    break;
                }
            }
        }
        stood_at[n] = workers[n].watch.last();
    }
    let a_was_over = ended[0].is_some();
    let b_got_no_further = got_no_further[1];
    let began = tokio::time::Instant::now();
    while let Some(n) = (0..2).find(|n| ended[*n].is_none()) {
        // Whoever waits lets the other one go on.
        for n in [n, 1 - n] {
            while ended[n].is_none() {
                match workers[n].watch.step(&mut runs[n], PATIENCE).await {
                    Step::Window(_) => {}
                    Step::Blocked if began.elapsed() > world.scenario.limit => {
                        ended[n] = Some(workers[n].hung())
                    }
                    Step::Blocked => break,
                    Step::Ended(ran) => ended[n] = Some(workers[n].ended::<J>(ran)),
                }
            }
        }
    }
    drop(runs);
    let mut answers = Vec::new();
    for ended in ended.into_iter().flatten() {
        answers.push(world.deliver_again(ended, 'R').await?);
    }
    let [a_stood_at, b_stood_at] = stood_at;
    Ok(Turns { ended: answers, a_stood_at, b_stood_at, a_was_over, b_got_no_further })
}

/// Reads a schedule such as `A3B2`.
fn parse(schedule: &str) -> Option<(usize, usize)> {
    let (a, b) = schedule.strip_prefix('A')?.split_once('B')?;
    Some((a.parse().ok()?, b.parse().ok()?))
}
