//! How a person resolves a parked key, and forgets one.

use idem_runtime::fingerprint::Fingerprint;
use idem_runtime::job::Retain;
use idem_runtime::key::Key;
use idem_runtime::record::{Epoch, Hold, JobId, Outcome as Settled, State, StepRecord};
use idem_runtime::store::{Change, Database, Forget, Found, LeaseClaim, Resolve, ResolvedStep};

use super::lease::{change, claim_first, entry, lease_claim};
use super::{Outcome, law};
use crate::conformance::BoxError;
use crate::conformance::suite::Law;
use crate::conformance::trial::{RETAINED, Trial, ensure, ensure_eq};

pub(super) fn laws<D: Database>() -> Vec<Law<D>> {
    vec![
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
            a_resolution_is_corrected_until_the_next_run,
            "What a person has said of a parked key by mistake is corrected, step and all, while the key is failed under that \
             epoch; once a run has begun it is not."
        ),
        law!(
            a_resolution_is_in_the_audit,
            "Every resolution, and nothing else, is noted in the audit of its key."
        ),
        law!(
            a_key_is_resolved_for_its_own_job_alone,
            "A parked key is resolved for the job that it is recorded of, and for no other."
        ),
        law!(
            a_key_is_forgotten_as_it_was_found_alone,
            "A failed, parked, completed or rejected key is forgotten for its job, in its state and under its epoch, and \
             otherwise not; a running one never is."
        ),
        law!(
            a_forgotten_key_begins_as_absent,
            "A key that is forgotten has no steps and no result; a run with other arguments takes it, under the next epoch, \
             and who has seen the old record forgets no new one."
        ),
        law!(a_forgotten_key_is_swept, "What is forgotten is deleted by the next sweep."),
        law!(
            forgetting_is_in_the_audit,
            "Every key that was forgotten, and no other, has a note of it in its audit."
        ),
    ]
}

/// A resolution of the suite: the key may go on.
fn release(key: &Key, epoch: i64) -> Resolve<'_> {
    Resolve {
        key: key.hash(),
        job: JobId(1),
        epoch: Epoch(epoch),
        from: State::Parked,
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
    let known = ResolvedStep { seq: 1, name: "b", result: Some(b"known") };
    let done = Resolve { step: Some(known), ..release(&key, 1) };
    ensure!(trial.two.resolve(&done).await?, "a parked key was not resolved");
    let second = StepRecord { seq: 1, name: String::from("b"), result: Some(b"known".to_vec()) };
    ensure_eq!(entry(&trial, &key).await?.steps, vec![first.clone(), second], "the steps are");

    let key = trial.key("gone");
    park(&trial, &key).await?;
    let gone = Resolve { step: Some(ResolvedStep { result: None, ..known }), ..release(&key, 1) };
    ensure!(!trial.two.resolve(&Resolve { epoch: Epoch(2), ..gone }).await?, "a stale epoch resolved a key");
    ensure_eq!(entry(&trial, &key).await?.steps.len(), 2, "after it the steps number");
    ensure!(trial.two.resolve(&gone).await?, "a parked key was not resolved");
    ensure_eq!(entry(&trial, &key).await?.steps, vec![first], "the steps are");
    Ok(())
}

async fn a_resolution_is_corrected_until_the_next_run<D: Database>(trial: Trial<D>) -> Outcome {
    let key = trial.key("k");
    park(&trial, &key).await?;
    let known = ResolvedStep { seq: 1, name: "b", result: Some(b"known") };
    let done = Resolve { step: Some(known), ..release(&key, 1) };
    let gone = Resolve { step: Some(ResolvedStep { result: None, ..known }), ..done };
    let corrected = |resolve| Resolve { from: State::Failed, why: "it's the other", ..resolve };
    ensure!(!trial.one.resolve(&corrected(gone)).await?, "a resolution was corrected that nobody has made");
    ensure!(trial.two.resolve(&gone).await?, "a parked key was not resolved");
    let wrong = Resolve { epoch: Epoch(2), ..corrected(done) };
    ensure!(!trial.one.resolve(&wrong).await?, "a resolution was corrected under another epoch");
    let first = StepRecord { seq: 0, name: String::from("a"), result: Some(b"r".to_vec()) };
    ensure_eq!(entry(&trial, &key).await?.steps, vec![first.clone()], "after it the steps are");
    // The step has no row any more, and gets one in its place.
    ensure!(trial.one.resolve(&corrected(done)).await?, "a resolution was not corrected");
    let second = StepRecord { seq: 1, name: String::from("b"), result: Some(b"known".to_vec()) };
    ensure_eq!(entry(&trial, &key).await?.steps, vec![first.clone(), second], "the corrected steps are");
    ensure!(trial.two.resolve(&corrected(gone)).await?, "a resolution was not corrected again");
    let found = entry(&trial, &key).await?;
    ensure_eq!((found.state, &found.steps), (State::Failed, &vec![first]), "what is corrected again is");
    ensure_eq!(trial.one.audit(key.hash()).await?.len(), 3, "the notes in the audit number");

    ensure!(
        trial.one.take_over(&lease_claim(&key, 2, 2), &found).await?.is_some(),
        "a resolved key was not taken over"
    );
    ensure!(!trial.one.resolve(&corrected(done)).await?, "a resolution was corrected that a run has gone by");
    ensure_eq!(entry(&trial, &key).await?.steps.len(), 1, "after it the steps number");
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

async fn a_key_is_resolved_for_its_own_job_alone<D: Database>(trial: Trial<D>) -> Outcome {
    let key = trial.key("k");
    park(&trial, &key).await?;
    let other = Resolve { job: JobId(2), ..release(&key, 1) };
    ensure!(!trial.two.resolve(&other).await?, "a key was resolved for another job");
    ensure_eq!(entry(&trial, &key).await?.state, State::Parked, "after it the key is");
    ensure!(trial.two.resolve(&release(&key, 1)).await?, "a parked key was not resolved");
    Ok(())
}

/// What the suite has forgotten: a key in this state under this epoch.
fn forget(key: &Key, state: State, epoch: i64) -> Forget<'_> {
    Forget { key: key.hash(), job: JobId(1), state, epoch: Epoch(epoch), action: "forget", why: "it's void" }
}

/// Makes a key of each state that can be forgotten, and returns their epochs.
async fn forgettable<D: Database>(trial: &Trial<D>) -> Result<Vec<(Key, State, i64)>, BoxError> {
    let [failed, parked, settled, rejected, atomic] =
        ["failed", "parked", "settled", "rejected", "atomic"].map(|name| trial.key(name));
    let hold = claim_first(trial, &failed, 1).await?;
    change(trial, &hold, &Change::EndStep { seq: 0, name: "a", result: b"r" }).await?;
    change(trial, &hold, &Change::Fail { trouble: b"t" }).await?;
    park(trial, &parked).await?;
    for (key, outcome) in [(&settled, Settled::Completed), (&rejected, Settled::Rejected)] {
        let hold = claim_first(trial, key, 1).await?;
        let retain = Retain::For(RETAINED);
        change(trial, &hold, &Change::Settle { outcome, result: b"r", retain, tasks: &[] }).await?;
    }
    trial.complete(&atomic, "e", b"r").await?;
    Ok(vec![
        (failed, State::Failed, 1),
        (parked, State::Parked, 1),
        (settled, State::Completed, 1),
        (rejected, State::Rejected, 1),
        (atomic, State::Completed, 0),
    ])
}

async fn a_key_is_forgotten_as_it_was_found_alone<D: Database>(trial: Trial<D>) -> Outcome {
    let running = trial.key("running");
    claim_first(&trial, &running, 1).await?;
    for (key, state, epoch) in forgettable(&trial).await? {
        let right = forget(&key, state, epoch);
        let other_state = if state == State::Failed { State::Parked } else { State::Failed };
        let wrong = [
            ("epoch", Forget { epoch: Epoch(epoch + 1), ..right }),
            ("state", Forget { state: other_state, ..right }),
            ("job", Forget { job: JobId(2), ..right }),
            ("key", Forget { key: trial.key("nobody's").hash(), ..right }),
        ];
        for (what, wrong) in wrong {
            ensure!(!trial.two.forget(&wrong).await?, "a {state:?} key was forgotten by another {what}");
            ensure_eq!(entry(&trial, &key).await?.state, state, "after it the key is");
        }
        ensure!(!trial.two.forget(&forget(&running, state, 1)).await?, "a running key was forgotten");
        ensure_eq!(entry(&trial, &running).await?.state, State::Running, "after it the key is");
        ensure!(trial.two.forget(&right).await?, "a {state:?} key was not forgotten");
        ensure!(
            state == State::Completed || !trial.one.forget(&right).await?,
            "a {state:?} key was forgotten twice"
        );
    }
    Ok(())
}

async fn a_forgotten_key_begins_as_absent<D: Database>(trial: Trial<D>) -> Outcome {
    for (key, state, epoch) in forgettable(&trial).await? {
        ensure!(trial.two.forget(&forget(&key, state, epoch)).await?, "a {state:?} key was not forgotten");
        trial.ensure_recorded(&key, None).await?;
        let found = entry(&trial, &key).await?;
        ensure_eq!(found.state, State::Absent, "a key that was {state:?} and is forgotten is");
        ensure_eq!((found.epoch, &*found.payload), (Epoch(epoch), &b""[..]), "its epoch and its result are");
        ensure_eq!(found.steps, vec![], "its steps are");
        let next = lease_claim(&key, epoch + 1, 7);
        let claim = LeaseClaim { fingerprint: Fingerprint::from_bits(43), ..next };
        let steps = trial.one.take_over(&claim, &found).await?;
        ensure_eq!(steps, Some(vec![]), "over a key that was {state:?} other arguments are given");
    }
    // And an atomic job begins as well.
    let key = trial.key("again");
    trial.complete(&key, "e", b"r").await?;
    ensure!(trial.two.forget(&forget(&key, State::Completed, 0)).await?, "a record was not forgotten");
    let (tx, found) = trial.begin(&key).await?;
    ensure_eq!(found, Found::Absent, "of a forgotten record `begin` finds");
    tx.rollback().await?;
    trial.complete(&key, "e", b"again").await?;
    // Somebody else has looked at the first record as well, and says so only now.
    ensure!(
        !trial.one.forget(&forget(&key, State::Completed, 0)).await?,
        "a record was forgotten by who has seen the one before it"
    );
    trial.ensure_recorded(&key, Some(b"again")).await?;
    ensure_eq!(entry(&trial, &key).await?.epoch, Epoch(1), "the epoch of a record over a forgotten one is");
    ensure!(trial.two.forget(&forget(&key, State::Completed, 1)).await?, "a record was not forgotten");
    Ok(())
}

async fn a_forgotten_key_is_swept<D: Database>(trial: Trial<D>) -> Outcome {
    let keys = forgettable(&trial).await?;
    for (key, state, epoch) in &keys {
        ensure!(trial.two.forget(&forget(key, *state, *epoch)).await?, "a {state:?} key was not forgotten");
    }
    let swept = trial.one.sweep(None, 100).await?;
    ensure_eq!(swept.deleted, keys.len() as u64, "the number swept is");
    for (key, ..) in &keys {
        ensure_eq!(trial.two.entry(key.hash()).await?, None, "after it there is");
    }
    Ok(())
}

async fn forgetting_is_in_the_audit<D: Database>(trial: Trial<D>) -> Outcome {
    for (key, state, epoch) in forgettable(&trial).await? {
        let wrong = forget(&key, state, epoch + 1);
        ensure!(!trial.two.forget(&wrong).await?, "a stale epoch had a key forgotten");
        ensure!(trial.one.audit(key.hash()).await?.is_empty(), "what did not happen is in the audit");
        ensure!(trial.two.forget(&forget(&key, state, epoch)).await?, "a {state:?} key was not forgotten");
        let notes = trial.one.audit(key.hash()).await?;
        let notes: Vec<_> = notes.iter().map(|note| (note.epoch.0, &*note.action, &*note.why)).collect();
        ensure_eq!(notes, vec![(epoch, "forget", "it's void")], "the audit says");
    }
    Ok(())
}
