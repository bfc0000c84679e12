//! Many runs at once: two workers that are handed the same job, a user who clicks twice.

use std::sync::Arc;

use super::{Went, judge, wrong};
use crate::check::Trouble;
use crate::lab::LabDatabase;
use crate::oracle::Oracle;
use crate::subject::Subject;
use crate::watch::{Ack, Stop};
use crate::world::World;

/// How many runs there are at once, and whether they are in one process.
const CROWDS: [(usize, bool, &str); 4] =
    [(2, false, "2"), (8, false, "8"), (2, true, "2-in-one-process"), (8, true, "8-in-one-process")];

pub(crate) async fn run<D: LabDatabase>(
    subject: &dyn Subject<D>,
    oracle: &Oracle,
    only: Option<&str>,
) -> Result<Went, Trouble> {
    let mut went = Went { windows: CROWDS.len(), ..Went::default() };
    for (runs, together, schedule) in CROWDS {
        if only.is_some_and(|only| only != schedule) {
            continue;
        }
        let Some(world) = World::new(subject).await? else { return Ok(went) };
        went.hit += 1;
        let start = Arc::new(tokio::sync::Barrier::new(runs));
        let shared = Arc::new(world.worker('A', Stop::Never, Ack::Heard)?);
        let mut tasks = Vec::new();
        for name in ('A'..).take(runs) {
            let worker = match together {
                true => Arc::clone(&shared),
                false => Arc::new(world.worker(name, Stop::Never, Ack::Heard)?),
            };
            let start = Arc::clone(&start);
            tasks.push(tokio::spawn(async move {
                start.wait().await;
                worker.run_through().await
            }));
        }
        drop(shared);
        let mut ended = Vec::new();
        for task in tasks {
            ended.push(task.await.map_err(|error| Trouble::Store(error.to_string()))?);
        }
        let mut answers = Vec::new();
        for ended in ended {
            answers.push(world.deliver_again(ended, 'R').await?);
        }
        let differences = judge(&world, oracle, &answers).await?;
        if !differences.is_empty() {
            let place = if together { "in one process" } else { "in different processes" };
            let what = format!("the job ran {runs} times at once, {place}");
            went.wrong = Some(wrong(world, schedule.to_owned(), what, differences));
            break;
        }
    }
    Ok(went)
}
