//! Somebody else's record appears while the job runs: another version of the program, a job without a lock.

use std::time::Duration;

use idem_runtime::Idem;
use idem_runtime::job::Retain;
use idem_runtime::record::{NewRecord, Outcome};
use idem_runtime::store::{Begun, Claim, Committed, KeyLock};

use super::{Went, did_it, wrong};
use crate::check::Trouble;
use crate::lab::LabDatabase;
use crate::oracle::Oracle;
use crate::report::Difference;
use crate::subject::Subject;
use crate::watch::{Ack, Stop};
use crate::world::{REJECTED, Stood, World};

/// How long a rival waits for the store.
const PATIENCE: Duration = Duration::from_secs(2);

const WINDOWS: [&str; 2] = ["after BEGIN", "before COMMIT"];

pub(crate) async fn run<D: LabDatabase>(
    subject: &dyn Subject<D>,
    oracle: &Oracle,
    only: Option<&str>,
) -> Result<Went, Trouble> {
    let mut went = Went { windows: WINDOWS.len(), ..Went::default() };
    let Some(result) = oracle.record.as_ref().filter(|_| subject.spec().retain != Retain::None) else {
        went = Went {
            skipped: Some(String::from("a clean run leaves no record of its key")),
            ..Went::default()
        };
        return Ok(went);
    };
    if subject.is_leased() {
        let why = "the key of a leased job is claimed on record before its body begins; see `zombie`";
        return Ok(Went { skipped: Some(String::from(why)), ..Went::default() });
    }
    if !D::MANY_WRITERS {
        let why = "this database has one writer at a time, so nobody can write while a run is open";
        return Ok(Went { skipped: Some(String::from(why)), ..Went::default() });
    }
    let outcome = if oracle.answer.how == REJECTED { Outcome::Rejected } else { Outcome::Completed };
    for window in WINDOWS {
        let schedule = window.to_lowercase().replace(' ', "-");
        if only.is_some_and(|only| only != schedule) {
            continue;
        }
        let Some(world) = World::new(subject).await? else { break };
        let worker = world.worker('A', Stop::Everywhere, Ack::Heard)?;
        let mut run = worker.start();
        let Stood::At(_) = worker.step_to(&mut run, |at| at == window).await else { continue };
        plant(&world, outcome, result).await?;
        let ended = match worker.step_to(&mut run, |_| false).await {
            Stood::Ended(ended) => ended,
            Stood::At(_) => worker.hung(),
        };
        went.hit += 1;
        drop(run);
        drop(worker);
        let mut differences = oracle.answer(Some(&oracle.answer), &ended).into_iter().collect::<Vec<_>>();
        if did_it(&ended) {
            differences.push(Difference::Law {
                law: String::from("a run that loses a race answers with the winner's record"),
                found: String::from("it says that it did the work itself"),
            });
        }
        // What the rival did stands in its record alone here, so nothing of this run may be left.
        let mut expected = oracle.before.clone();
        expected.records += 1;
        let mut left = world.left().await?;
        left.effects.clone_from(&expected.effects);
        differences.extend(oracle.differences_from(&expected, &left));
        if !differences.is_empty() {
            let what = format!("somebody else recorded the key {window}");
            went.wrong = Some(wrong(world, schedule, what, differences));
            break;
        }
    }
    Ok(went)
}

/// Records the key, past every lock.
async fn plant<D: LabDatabase>(world: &World<'_, D>, outcome: Outcome, result: &[u8]) -> Result<(), Trouble> {
    let store = Idem::builder(world.lab.pool(1)).build().map_err(Trouble::store)?.store().clone();
    let key = world.key()?;
    let job = store.enrol("default", world.subject.spec().name).await.map_err(Trouble::store)?;
    let fingerprint = world.subject.fingerprint()?;
    let lock = KeyLock::None;
    let claim = Claim { key: &key, lock, wait: PATIENCE, records: true, row: None, undo: false };
    let Begun::Open { tx, .. } = store.begin(&claim).await.map_err(Trouble::store)? else {
        return Err(Trouble::Store(String::from("a rival's record cannot be planted: the store is busy")));
    };
    let retain = world.subject.spec().retain;
    let new = NewRecord { key: &key, job, outcome, fingerprint, result, retain };
    match tx.commit(Some(&new)).await.map_err(Trouble::store)? {
        Committed::Yes => {
            world.timeline.note('-', "a rival records the key");
            Ok(())
        }
        other => Err(Trouble::Store(format!("a rival's record cannot be planted: {other:?}"))),
    }
}
