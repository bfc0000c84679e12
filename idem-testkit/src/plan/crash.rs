//! A crash at every window of a run: a deploy, a dropped future, an aborted task.

use std::time::Duration;

use idem_runtime::AtomicJob;

use super::{Went, judge, law, wrong};
use crate::check::Trouble;
use crate::lab::LabDatabase;
use crate::oracle::Oracle;
use crate::report::Difference;
use crate::scenario::Scenario;
use crate::watch::{Ack, Stop};
use crate::world::World;

/// How long unrelated work may take after a crash.
const UNRELATED: Duration = Duration::from_secs(6);

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
    let only = match only {
        Some(schedule) => match schedule.parse() {
            Ok(window) => Some(window),
            Err(_) => return Ok(Went::default()),
        },
        None => None,
    };
    let mut went = Went::default();
    // How many windows there are depends on how fast answers come, so the sweep goes on until a run gets through.
    for window in only.unwrap_or(0).. {
        let Some(mut world) = World::new(scenario).await? else { break };
        let worker = world.worker('A', Stop::At(window), Ack::Heard)?;
        let crashed = worker.run(world.job()).await.is_none();
        let at = worker.watch.last();
        if !crashed {
            went.windows = worker.watch.windows();
            break;
        }
        went.hit += 1;
        went.windows = window + 1;
        let mut differences: Vec<Difference> =
            unrelated_work(&world, &worker.pool).await?.into_iter().collect();
        drop(worker);
        let recovered = world.recover('B').await?;
        differences.extend(judge(&world, oracle, &[recovered]).await?);
        if !differences.is_empty() {
            let what = format!("the worker crashed at {at}, and the job ran again");
            went.wrong = Some(wrong(&mut world, window.to_string(), what, differences));
            break;
        }
        if only.is_some() {
            break;
        }
    }
    Ok(went)
}

/// Does unrelated work on the connections that the crash left behind, and looks from outside whether it is done.
pub(super) async fn unrelated_work<J, D, S>(
    world: &World<'_, J, D, S>,
    pool: &sqlx::Pool<D>,
) -> Result<Option<Difference>, Trouble>
where
    J: AtomicJob<S, Db = D>,
    D: LabDatabase,
    S: Clone + Send + Sync + 'static,
{
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
            let mut outside = world.lab.connect().await;
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
