//! The answer to COMMIT is lost: the connection breaks before or after the server has committed.

use idem_runtime::AtomicJob;

use super::{Went, judge, wrong};
use crate::check::Trouble;
use crate::lab::LabDatabase;
use crate::oracle::Oracle;
use crate::scenario::Scenario;
use crate::watch::{Ack, Stop};
use crate::world::World;

const LOSSES: [(Ack, &str, &str); 2] = [
    (Ack::LostAfterCommit, "committed", "COMMIT was done, but its answer was lost"),
    (Ack::LostBeforeCommit, "not-committed", "the connection broke before COMMIT was done"),
];

pub(crate) async fn run<J, D, S>(
    scenario: &Scenario<J, D, S>,
    oracle: &Oracle,
    only: Option<&str>,
) -> Result<Went, Trouble>
where
    J: AtomicJob<S, Db = D>,
    D: LabDatabase,
    S: Clone + Send + Sync + 'static,
{
    let mut went = Went { windows: LOSSES.len(), ..Went::default() };
    for (ack, schedule, what) in LOSSES {
        if only.is_some_and(|only| only != schedule) {
            continue;
        }
        let Some(mut world) = World::new(scenario).await? else { break };
        went.hit += 1;
        let worker = world.worker('A', Stop::Never, ack)?;
        let ended = worker.run_through(world.job()).await;
        drop(worker);
        let ended = world.deliver_again(ended, 'B').await?;
        let differences = judge(&world, oracle, &[ended]).await?;
        if !differences.is_empty() {
            went.wrong = Some(wrong(&mut world, schedule.to_owned(), what.to_owned(), differences));
            break;
        }
    }
    Ok(went)
}
