//! The answer to COMMIT is lost: the connection breaks before or after the server has committed.

use super::{Went, judge_in_doubt, wrong};
use crate::check::Trouble;
use crate::lab::LabDatabase;
use crate::oracle::Oracle;
use crate::subject::Subject;
use crate::watch::{Ack, Stop};
use crate::world::World;

pub(crate) async fn run<D: LabDatabase>(
    subject: &dyn Subject<D>,
    oracle: &Oracle,
    only: Option<&str>,
) -> Result<Went, Trouble> {
    let mut went = Went::default();
    // A leased job commits several times, its claim first; the last answer that can be lost is that of the last commit.
    for number in 1..=MOST {
        let mut commits = 0;
        for (ack, schedule, what) in losses(number) {
            if only.is_some_and(|only| only != schedule) {
                continue;
            }
            let Some(world) = World::new(subject).await? else { return Ok(went) };
            let worker = world.worker('A', Stop::Never, ack)?;
            let ended = worker.run_through().await;
            commits = worker.watch.commits();
            drop(worker);
            if commits < number {
                break;
            }
            (went.windows, went.hit) = (went.windows + 1, went.hit + 1);
            let ended = world.deliver_again(ended, 'B').await?;
            let differences = judge_in_doubt(&world, oracle, &[ended]).await?;
            if !differences.is_empty() {
                went.wrong = Some(wrong(world, schedule, what.to_owned(), differences));
                return Ok(went);
            }
        }
        // A run whose claim got no answer commits nothing more, so the next number is tried all the same.
        if commits < number && only.is_none() {
            break;
        }
    }
    Ok(went)
}

/// How many commits of a run there may be.
const MOST: usize = 100;

fn losses(number: usize) -> [(Ack, String, &'static str); 2] {
    let name = |name: &str| if number == 1 { name.to_owned() } else { format!("{name}-{number}") };
    [
        (Ack::LostAfterCommit(number), name("committed"), "COMMIT was done, but its answer was lost"),
        (Ack::LostBeforeCommit(number), name("not-committed"), "the connection broke before COMMIT was done"),
    ]
}
