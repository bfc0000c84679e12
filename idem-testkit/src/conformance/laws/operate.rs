//! Keys without an outcome: how they are listed, and how a person resolves them.

use std::time::Duration;

use idem_runtime::job::Retain;
use idem_runtime::key::Key;
use idem_runtime::record::{Epoch, Hold, JobId, State, StepRecord};
use idem_runtime::store::{Change, Claimed, Database, LeaseClaim, Resolve, UnfinishedFilter};

use super::lease::{change, claim_first, entry, lease_claim};
use super::{Outcome, law};
use crate::conformance::BoxError;
use crate::conformance::suite::Law;
use crate::conformance::trial::{RETAINED, Trial, ensure, ensure_eq};

pub(super) fn laws<D: Database>() -> Vec<Law<D>> {
    vec![
        law!(
            keys_without_an_outcome_are_listed,
            "Running, lapsed, failed and parked keys are listed by their state, namespace and job, the longest \
             unchanged first, up to a limit."
        ),
        law!(
            a_parked_key_is_resolved_by_its_epoch_alone,
            "A parked key is resolved once, under the epoch that parked it, and under no other; no run takes it over."
        ),
        law!(
            a_resolved_key_is_as_the_person_said,
            "A key resolved as failed keeps its steps and can be taken over; one resolved as completed answers for its \
             retention and has no steps."
        ),
        law!(
            a_resolved_step_is_done_or_gone,
            "A step that a person knows the result of has it; one that did not happen is gone; other steps stay."
        ),
        law!(
            a_resolution_is_in_the_audit,
            "Every resolution, and nothing else, is noted in the audit of its key."
        ),
    ]
}

/// A resolution of the suite: the key may go on.
fn release(key: &Key, epoch: i64) -> Resolve<'_> {
    Resolve {
        key: key.hash(),
        epoch: Epoch(epoch),
        state: State::Failed,
        payload: b"resolved",
        retain: Retain::For(RETAINED),
        step: None,
        action: "rerun",
        why: "it's known",
    }
}

async fn park<D: Database>(trial: &Trial<D>, key: &Key) -> Result<Hold, BoxError> {
    let hold = claim_first(trial, key, 1).await?;
    change(trial, &hold, &Change::EndStep { seq: 0, name: "a", result: b"r" }).await?;
    change(trial, &hold, &Change::BeginStep { seq: 1, name: "b" }).await?;
    change(trial, &hold, &Change::Park { parked: b"parked" }).await?;
    Ok(hold)
}

async fn keys_without_an_outcome_are_listed<D: Database>(trial: Trial<D>) -> Outcome {
    let namespace = trial.namespace();
    let job = trial.one.enrol(namespace, "listed").await?;
    let other = trial.one.enrol(namespace, "other").await?;
    let elsewhere = trial.one.enrol("elsewhere", "listed").await?;
    let claim = async |name: &str, job: JobId| -> Result<Hold, BoxError> {
        let key = trial.key(name);
        let claim = LeaseClaim { job, ..lease_claim(&key, 1, 1) };
        ensure_eq!(trial.one.claim(&claim).await?, Claimed::New, "a first claim ended with");
        Ok(claim.hold())
    };
    let (failed, parked) = (claim("failed", job).await?, claim("parked", job).await?);
    claim("lapsed", job).await?;
    change(&trial, &failed, &Change::Fail { trouble: b"t" }).await?;
    change(&trial, &parked, &Change::Park { parked: b"p" }).await?;
    trial.fixture.let_pass(Duration::from_secs(24 * 60 * 60)).await?;
    claim("running", job).await?;
    claim("other", other).await?;
    claim("elsewhere", elsewhere).await?;
    trial.complete(&trial.key("done"), "e", b"r").await?;

    let all = [State::Running, State::Lapsed, State::Failed, State::Parked];
    let listed = async |states: &[State], job: Option<&str>, limit| -> Result<Vec<_>, BoxError> {
        let filter = UnfinishedFilter { namespace, job, states, limit };
        Ok(trial.two.unfinished(&filter).await?)
    };
    for (state, name) in all.into_iter().zip(["running", "lapsed", "failed", "parked"]) {
        let rows = listed(&[state], Some("listed"), 10).await?;
        let hashes: Vec<_> = rows.iter().map(|row| row.hash).collect();
        ensure_eq!(hashes, vec![trial.key(name).hash()], "the keys that are {state:?} are");
        let (row, key) = (&rows[0], trial.key(name));
        ensure_eq!((row.entry.state, &*row.job, &*row.key), (state, "listed", key.readable()), "listed is");
        let is_old = row.since >= Duration::from_secs(12 * 60 * 60);
        ensure_eq!(is_old, state != State::Running, "{state:?} for {:?}, which is long", row.since);
    }
    ensure_eq!(listed(&all, Some("listed"), 10).await?.len(), 4, "the keys of the job number");
    ensure_eq!(listed(&all, None, 10).await?.len(), 5, "the keys of the namespace number");
    let first = listed(&all, Some("listed"), 3).await?;
    ensure!(
        first.len() == 3 && first.iter().all(|row| row.entry.state != State::Running),
        "the three longest unchanged are {first:?}"
    );
    ensure_eq!(listed(&[], None, 10).await?.len(), 0, "of no state there are");
    Ok(())
}

async fn a_parked_key_is_resolved_by_its_epoch_alone<D: Database>(trial: Trial<D>) -> Outcome {
    let key = trial.key("k");
    park(&trial, &key).await?;
    let taken = trial.two.take_over(&lease_claim(&key, 2, 2), &entry(&trial, &key).await?).await?;
    ensure_eq!(taken, None, "taking over a parked key returns");
    for epoch in [0, 2] {
        ensure!(
            !trial.two.resolve(&release(&key, epoch)).await?,
            "epoch {epoch} resolved a key that epoch 1 parked"
        );
        ensure_eq!(entry(&trial, &key).await?.state, State::Parked, "after it the key is");
    }
    ensure!(trial.two.resolve(&release(&key, 1)).await?, "a parked key was not resolved");
    ensure!(!trial.one.resolve(&release(&key, 1)).await?, "a key was resolved twice");

    let running = trial.key("running");
    claim_first(&trial, &running, 1).await?;
    ensure!(!trial.one.resolve(&release(&running, 1)).await?, "a running key was resolved");
    ensure_eq!(entry(&trial, &running).await?.state, State::Running, "after it the key is");
    Ok(())
}

async fn a_resolved_key_is_as_the_person_said<D: Database>(trial: Trial<D>) -> Outcome {
    let key = trial.key("failed");
    park(&trial, &key).await?;
    ensure!(trial.two.resolve(&release(&key, 1)).await?, "a parked key was not resolved");
    let found = entry(&trial, &key).await?;
    ensure_eq!(
        (found.state, &*found.payload, found.steps.len()),
        (State::Failed, &b"resolved"[..], 2),
        "a key resolved as failed is"
    );
    ensure!(
        trial.one.take_over(&lease_claim(&key, 2, 2), &found).await?.is_some(),
        "a key resolved as failed was not taken over"
    );

    let key = trial.key("completed");
    park(&trial, &key).await?;
    let done = Resolve { state: State::Completed, payload: b"result", action: "done", ..release(&key, 1) };
    ensure!(trial.two.resolve(&done).await?, "a parked key was not resolved");
    trial.ensure_recorded(&key, Some(b"result")).await?;
    ensure_eq!(entry(&trial, &key).await?.steps, vec![], "the steps of a key resolved as completed are");
    trial.fixture.let_pass(RETAINED * 2).await?;
    trial.ensure_recorded(&key, None).await
}

async fn a_resolved_step_is_done_or_gone<D: Database>(trial: Trial<D>) -> Outcome {
    let first = StepRecord { seq: 0, name: String::from("a"), result: Some(b"r".to_vec()) };
    let key = trial.key("done");
    park(&trial, &key).await?;
    let done = Resolve { step: Some(("b", Some(b"known"))), ..release(&key, 1) };
    ensure!(trial.two.resolve(&done).await?, "a parked key was not resolved");
    let second = StepRecord { seq: 1, name: String::from("b"), result: Some(b"known".to_vec()) };
    ensure_eq!(entry(&trial, &key).await?.steps, vec![first.clone(), second], "the steps are");

    let key = trial.key("gone");
    park(&trial, &key).await?;
    let gone = Resolve { step: Some(("b", None)), ..release(&key, 1) };
    ensure!(!trial.two.resolve(&Resolve { epoch: Epoch(2), ..gone }).await?, "a stale epoch resolved a key");
    ensure_eq!(entry(&trial, &key).await?.steps.len(), 2, "after it the steps number");
    ensure!(trial.two.resolve(&gone).await?, "a parked key was not resolved");
    ensure_eq!(entry(&trial, &key).await?.steps, vec![first], "the steps are");
    Ok(())
}

async fn a_resolution_is_in_the_audit<D: Database>(trial: Trial<D>) -> Outcome {
    let key = trial.key("k");
    let hold = park(&trial, &key).await?;
    ensure!(!trial.two.resolve(&release(&key, 2)).await?, "a stale epoch resolved a key");
    ensure!(trial.one.audit(key.hash()).await?.is_empty(), "what did not happen is in the audit");
    ensure!(trial.two.resolve(&release(&key, 1)).await?, "a parked key was not resolved");
    let notes = trial.one.audit(key.hash()).await?;
    let notes: Vec<_> = notes.iter().map(|note| (note.epoch, &*note.action, &*note.why)).collect();
    ensure_eq!(notes, vec![(hold.epoch, "rerun", "it's known")], "the audit says");
    ensure!(trial.one.audit(trial.key("other").hash()).await?.is_empty(), "another key has this key's audit");
    Ok(())
}
