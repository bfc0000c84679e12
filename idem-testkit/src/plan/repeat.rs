//! The same run again and again: delivered twice, retried by hand.

use super::{Went, judge, wrong};
use crate::check::Trouble;
use crate::lab::LabDatabase;
use crate::oracle::Oracle;
use crate::subject::Subject;
use crate::world::World;

/// How often the job runs.
const TIMES: usize = 5;

pub(crate) async fn run<D: LabDatabase>(
    subject: &dyn Subject<D>,
    oracle: &Oracle,
    only: Option<&str>,
) -> Result<Went, Trouble> {
    let mut went = Went { windows: TIMES - 1, ..Went::default() };
    let Some(world) = World::new(subject).await? else { return Ok(went) };
    let times = match only {
        Some(schedule) => schedule.parse().ok().filter(|times| (2..=TIMES).contains(times)).unwrap_or(0),
        None => TIMES,
    };
    let mut ended = Vec::new();
    for time in 1..=times {
        ended.push(world.run('A').await?);
        if time == 1 {
            continue;
        }
        went.hit += 1;
        let differences = judge(&world, oracle, &ended).await?;
        if !differences.is_empty() {
            let what = format!("the job ran {time} times, one after the other");
            went.wrong = Some(wrong(world, time.to_string(), what, differences));
            break;
        }
    }
    Ok(went)
}
