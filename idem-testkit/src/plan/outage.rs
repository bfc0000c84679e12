//! Something fails once and works the next time: the database refuses to write to a table, or a service does not answer.
//!
//! Unlike after a crash, the run goes on to its end with the error in hand, its process lives on with all that it
//! remembers, and it is the same worker that runs the job again.

use std::fmt;

use sqlx::AssertSqlSafe;

use super::crash::{UNRELATED, unrelated_work};
use super::{Went, judge_in_doubt, law, wrong};
use crate::check::Trouble;
use crate::lab::LabDatabase;
use crate::oracle::Oracle;
use crate::report::Difference;
use crate::subject::Subject;
use crate::watch::{Ack, Stop, slug};
use crate::world::{Ended, World};

pub(crate) async fn run<D: LabDatabase>(
    subject: &dyn Subject<D>,
    oracle: &Oracle,
    only: Option<&str>,
) -> Result<Went, Trouble> {
    let tables = oracle.written().into_iter().map(Outage::Table);
    let services = subject.outages().into_iter().enumerate().map(|(n, name)| Outage::Service(n, name));
    let outages: Vec<Outage> = tables.chain(services).collect();
    if outages.is_empty() {
        let why = "a clean run writes to no table, and no service is named that can fail: name one with `Scenario::outage`";
        return Ok(Went { skipped: Some(String::from(why)), ..Went::default() });
    }
    let mut went = Went::default();
    let (mut harmless, mut impossible, mut failed) = (Vec::new(), Vec::new(), Vec::new());
    for outage in outages {
        if only.is_some_and(|only| only != outage.schedule()) {
            continue;
        }
        let Some(world) = World::new(subject).await? else { break };
        went.windows += 1;
        if let Err(why) = outage.begin(&world).await {
            impossible.push(format!("{outage}: {why}"));
            continue;
        }
        went.hit += 1;
        let worker = world.worker('A', Stop::Never, Ack::Heard)?;
        let first = worker.run_through().await;
        if let Outage::Service(..) = outage {
            // The run ended in the first step that it has not recorded, or did without it. If all of them are there, one has
            // got over the failure by itself, and which one cannot be told.
            let recorded = worker.watch.steps();
            failed.push(oracle.steps.iter().find(|step| !recorded.contains(step)));
        }
        let mut differences: Vec<Difference> =
            unrelated_work(&world, &worker.pool).await?.into_iter().collect();
        differences.extend(outage.end(&world).await);
        let mut ended = Vec::new();
        match first {
            // A job that can do without what failed has done its work.
            Ended::Answered(_) => {
                harmless.push(outage.to_string());
                ended.push(first);
            }
            // It may try until it succeeds; here it was dropped at its limit.
            Ended::Hung(_) => world.let_leases_lapse().await,
            Ended::Again(_)
            | Ended::Failed(_)
            | Ended::Drifted(_)
            | Ended::Parked(_)
            | Ended::Panicked(_) => {}
        }
        if differences.is_empty() {
            ended.push(world.deliver_again(worker.run_through().await, 'B').await?);
            drop(worker);
            differences.extend(judge_in_doubt(&world, oracle, &ended).await?);
        }
        if !differences.is_empty() {
            let what = format!("{outage}, and the same worker ran the job again when that was over");
            went.wrong = Some(wrong(world, outage.schedule(), what, differences));
            break;
        }
    }
    let mut bounds = Vec::new();
    if !harmless.is_empty() {
        bounds.push(format!("no run failed for this: {}", harmless.join(", ")));
    }
    let calls = oracle.steps.iter().filter(|step| step.is_call);
    let spared = calls.filter(|step| !failed.contains(&Some(*step)));
    let spared: Vec<String> = spared.map(|step| format!("`{}`", step.name)).collect();
    if only.is_none() && went.wrong.is_none() && !spared.is_empty() && !failed.contains(&None) {
        let steps = spared.join(", ");
        bounds.push(format!("no call failed in {steps}: name what can fail there with `Scenario::outage`"));
    }
    went.bound = (!bounds.is_empty()).then(|| bounds.join("; "));
    went.skipped = (!impossible.is_empty()).then(|| impossible.join(", "));
    Ok(went)
}

/// What fails.
enum Outage {
    /// Every write to a table.
    Table(String),
    /// A service of the scenario, by number and name.
    Service(usize, String),
}

impl Outage {
    fn schedule(&self) -> String {
        let (Outage::Table(name) | Outage::Service(_, name)) = self;
        let name = slug(name);
        match self {
            Outage::Table(_) => format!("table-{name}"),
            Outage::Service(..) => format!("service-{name}"),
        }
    }

    async fn begin<D: LabDatabase>(&self, world: &World<'_, D>) -> Result<(), sqlx::Error> {
        match self {
            Outage::Table(table) => {
                let refuse = AssertSqlSafe(D::refuse_writes(table));
                D::rows(&mut *world.outside().await, refuse).await?;
            }
            Outage::Service(n, _) => world.fail_once(*n).await,
        }
        world.timeline.note('-', self.to_string());
        Ok(())
    }

    /// Lets all work again that does not do so by itself. What a run has left behind may be in the way.
    async fn end<D: LabDatabase>(&self, world: &World<'_, D>) -> Option<Difference> {
        let Outage::Table(_) = self else { return None };
        let mut outside = world.outside().await;
        let accepted = D::rows(&mut outside, AssertSqlSafe(D::accept_writes()));
        let found = match tokio::time::timeout(UNRELATED, accepted).await {
            Ok(Ok(_)) => {
                world.timeline.note('-', "the database accepts all writes again");
                return None;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("nobody else can change the table within {UNRELATED:?}"),
        };
        Some(Difference::Law { law: String::from(law::UNRELATED_WORK), found })
    }
}

impl fmt::Display for Outage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outage::Table(name) => write!(f, "the database refuses every write to `{name}`"),
            Outage::Service(_, name) => write!(f, "{name} fails once"),
        }
    }
}
