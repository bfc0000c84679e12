//! What people look at who know no job's type, and what they do about runs and tasks that are dead.

use std::time::Duration;

use idem_runtime::engine::TaskId;
use idem_runtime::job::Retain;
use idem_runtime::key::{Key, KeyHash};
use idem_runtime::record::{Epoch, Hold, JobId, NewRecord, Outcome as Settled, State};
use idem_runtime::store::{
    Change, Claimed, Committed, Database, Engine, Held, KeyFilter, KeyOrder, LeaseClaim, Push, Pushed,
    Resolve, StateCounts, UniqueClaim,
};

use super::lease::{change, entry, lease_claim};
use super::queue::task;
use super::{Outcome, law};
use crate::conformance::BoxError;
use crate::conformance::suite::Law;
use crate::conformance::trial::{RETAINED, Trial, ensure, ensure_eq, record};

pub(super) fn laws<D: Database>() -> Vec<Law<D>> {
    vec![
        law!(
            keys_of_any_state_are_listed,
            "Keys are listed by their state, whichever it is, with all that is recorded of them but the result."
        ),
        law!(
            keys_are_listed_by_job_and_text,
            "Keys are listed by namespace, by job, by a text that they contain, and by themselves."
        ),
        law!(
            keys_are_listed_page_by_page,
            "Keys are listed in the order of their hashes, up to a limit, from behind a key."
        ),
        law!(
            the_longest_unchanged_keys_are_listed_first,
            "Keys are listed in the order in which their states changed, up to a limit."
        ),
        law!(
            keys_are_counted_by_job_and_state,
            "Every job is told with the number of its keys in each state, one without keys too."
        ),
        law!(
            a_run_is_released_by_its_epoch_alone,
            "The claim of a running or lapsed key is ended under its epoch, for its job, and under no other; a key that no \
             run has is left alone."
        ),
        law!(
            a_released_run_writes_nothing,
            "A run whose claim was ended by hand writes nothing more; its steps stay, and the next run takes the key under \
             the next epoch."
        ),
        law!(
            a_release_is_in_the_audit,
            "Every claim that was ended by hand is noted in the audit of its key."
        ),
        law!(
            claims_are_listed_with_their_tasks,
            "Unique claims that are held are listed with their tasks, by namespace, job and text; one whose time is over is not."
        ),
        law!(
            a_claim_released_by_hand_leaves_a_note,
            "The claims of a task are ended by hand, with a note in the audit of each; one for a time, or of another task, \
             is left alone."
        ),
        law!(
            the_volume_is_told,
            "The number of claims, and the number and the age of the tasks in the outbox, are told."
        ),
    ]
}

/// A store that counts in seconds rounds up.
const ROUNDED: Duration = Duration::from_secs(2);

/// Every key.
fn everything() -> KeyFilter<'static> {
    KeyFilter {
        namespace: None,
        job: None,
        states: &State::ALL,
        containing: None,
        key: None,
        after: None,
        order: KeyOrder::Hash,
        limit: 100,
    }
}

async fn claimed<D: Database>(trial: &Trial<D>, key: &Key, job: JobId) -> Result<Hold, BoxError> {
    let claim = LeaseClaim { job, ..lease_claim(key, 1, 1) };
    ensure_eq!(trial.one.claim(&claim).await?, Claimed::New, "a first claim ended with");
    Ok(claim.hold())
}

/// Makes a key of this job in every state, and returns them in the order of [`State::ALL`].
async fn one_of_each<D: Database>(trial: &Trial<D>, job: JobId) -> Result<[Key; 7], BoxError> {
    let keys = ["it's running", "lapsed", "failed", "parked", "completed", "rejected", "expired"]
        .map(|name| trial.key(name));
    let [running, lapsed, failed, parked, completed, rejected, expired] = &keys;
    claimed(trial, lapsed, job).await?;
    let hold = claimed(trial, expired, job).await?;
    let settle = |outcome, retain| Change::Settle { outcome, result: b"four", retain, tasks: &[] };
    change(trial, &hold, &settle(Settled::Completed, Retain::For(Duration::from_secs(60)))).await?;
    trial.fixture.let_pass(Duration::from_secs(24 * 60 * 60)).await?;
    claimed(trial, running, job).await?;
    let hold = claimed(trial, failed, job).await?;
    change(trial, &hold, &Change::Fail { trouble: b"trouble" }).await?;
    let hold = claimed(trial, parked, job).await?;
    change(trial, &hold, &Change::Park { parked: b"parked" }).await?;
    let hold = claimed(trial, rejected, job).await?;
    change(trial, &hold, &settle(Settled::Rejected, Retain::For(RETAINED))).await?;
    // An atomic job has no claim.
    let (tx, _) = trial.begin(completed).await?;
    let written = NewRecord { job, retain: Retain::Forever, ..record(completed, b"four") };
    ensure_eq!(tx.commit(Some(&written)).await?, Committed::Yes, "a commit ended with");
    Ok(keys)
}

async fn keys_of_any_state_are_listed<D: Database>(trial: Trial<D>) -> Outcome {
    let job = trial.one.enrol(trial.namespace(), "it's_ü").await?;
    let keys = one_of_each(&trial, job).await?;
    for (state, key) in State::ALL.into_iter().zip(&keys) {
        let rows = trial.two.keys(&KeyFilter { states: &[state], ..everything() }).await?;
        ensure_eq!(rows.len(), 1, "of {state:?} keys there are");
        let row = &rows[0];
        ensure_eq!((row.hash, &*row.key), (key.hash(), key.readable()), "the {state:?} key is");
        ensure_eq!((&*row.namespace, &*row.job), (trial.namespace(), "it's_ü"), "its job is");
        let is_leased = state != State::Completed;
        let epoch = if is_leased { Epoch(1) } else { Epoch::NONE };
        ensure_eq!((row.entry.state, row.entry.epoch), (state, epoch), "it is");
        ensure_eq!(row.entry.attempts, u32::from(is_leased), "its attempts are");
        ensure_eq!(row.entry.lease_left.is_zero(), state != State::Running, "that its lease is over is");
        let payload: &[u8] = match state {
            State::Failed => b"trouble",
            State::Parked => b"parked",
            _ => b"",
        };
        ensure_eq!(&*row.entry.payload, payload, "kept with a {state:?} key is");
        let has_outcome = matches!(state, State::Completed | State::Rejected | State::Absent);
        ensure_eq!(row.result_bytes, if has_outcome { 4 } else { 0 }, "the bytes of its result are");
        match (state, row.expires_in) {
            (State::Rejected, Some(left)) => {
                ensure!(
                    left <= RETAINED + ROUNDED && left + Duration::from_secs(600) > RETAINED,
                    "it answers for {left:?}"
                )
            }
            (State::Absent, left) => ensure_eq!(left, Some(Duration::ZERO), "an expired key answers for"),
            (_, left) => ensure_eq!(left, None, "a {state:?} key answers for"),
        }
        let is_old = row.since >= Duration::from_secs(12 * 60 * 60);
        ensure_eq!(
            is_old,
            matches!(state, State::Lapsed | State::Absent),
            "{state:?} for {:?}, which is long",
            row.since
        );
    }
    ensure_eq!(trial.two.keys(&everything()).await?.len(), 7, "of keys there are");
    ensure_eq!(
        trial.two.keys(&KeyFilter { states: &[], ..everything() }).await?.len(),
        0,
        "of no state there are"
    );
    Ok(())
}

async fn keys_are_listed_by_job_and_text<D: Database>(trial: Trial<D>) -> Outcome {
    let namespace = trial.namespace();
    for (namespace, job) in [(namespace, "first"), (namespace, "second"), ("elsewhere", "first")] {
        let id = trial.one.enrol(namespace, job).await?;
        for name in ["O'Neil 100%", "\\ 100_"] {
            claimed(&trial, &trial.key(&format!("{namespace} {job} {name}")), id).await?;
        }
    }
    let all = everything();
    let here = Some(namespace);
    let cases = [
        (KeyFilter { namespace: here, ..all }, 4),
        (KeyFilter { job: Some("first"), ..all }, 4),
        (KeyFilter { namespace: here, job: Some("second"), ..all }, 2),
        (KeyFilter { job: Some("third"), ..all }, 0),
        (KeyFilter { containing: Some("O'Neil"), ..all }, 3),
        (KeyFilter { containing: Some("o'neil"), ..all }, 0),
        (KeyFilter { containing: Some("100%"), ..all }, 3),
        (KeyFilter { containing: Some("\\ 100_"), job: Some("first"), ..all }, 2),
        (KeyFilter { key: Some(trial.key("elsewhere first O'Neil 100%").hash()), ..all }, 1),
        (KeyFilter { key: Some(trial.key("nobody's").hash()), ..all }, 0),
    ];
    for (filter, number) in cases {
        ensure_eq!(trial.two.keys(&filter).await?.len(), number, "of {filter:?} there are");
    }
    Ok(())
}

async fn keys_are_listed_page_by_page<D: Database>(trial: Trial<D>) -> Outcome {
    let job = trial.one.enrol(trial.namespace(), "listed").await?;
    let mut hashes = Vec::new();
    for number in 0..7 {
        let key = trial.key(&format!("key {number}"));
        claimed(&trial, &key, job).await?;
        hashes.push(key.hash());
    }
    hashes.sort();
    let (mut pages, mut after): (Vec<Vec<KeyHash>>, _) = (Vec::new(), None);
    loop {
        let rows = trial.two.keys(&KeyFilter { after, limit: 3, ..everything() }).await?;
        after = rows.last().map(|row| row.hash);
        if after.is_none() || pages.len() > 3 {
            break;
        }
        pages.push(rows.iter().map(|row| row.hash).collect());
    }
    ensure_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), vec![3, 3, 1], "the pages have");
    ensure_eq!(pages.concat(), hashes, "the keys are");
    Ok(())
}

async fn the_longest_unchanged_keys_are_listed_first<D: Database>(trial: Trial<D>) -> Outcome {
    let job = trial.one.enrol(trial.namespace(), "listed").await?;
    // What is called so has its hash in another order.
    let names = ["first", "second", "third", "fourth"];
    for name in names {
        let hold = claimed(&trial, &trial.key(name), job).await?;
        change(&trial, &hold, &Change::Fail { trouble: b"t" }).await?;
        trial.fixture.let_pass(Duration::from_secs(24 * 60 * 60)).await?;
    }
    let oldest = KeyFilter { order: KeyOrder::LongestUnchanged, states: &[State::Failed], ..everything() };
    for limit in [4_u32, 2] {
        let rows = trial.two.keys(&KeyFilter { limit, ..oldest }).await?;
        let listed: Vec<_> = rows.iter().map(|row| &*row.key).collect();
        ensure_eq!(listed, names[..limit as usize].to_vec(), "of {limit} the longest unchanged are");
    }
    let rows = trial.two.keys(&oldest).await?;
    ensure!(rows.iter().rev().is_sorted_by_key(|row| row.since), "they are {rows:?}");
    Ok(())
}

async fn keys_are_counted_by_job_and_state<D: Database>(trial: Trial<D>) -> Outcome {
    let namespace = trial.namespace();
    let job = trial.one.enrol(namespace, "b").await?;
    let other = trial.one.enrol(namespace, "c").await?;
    trial.one.enrol(namespace, "a").await?;
    one_of_each(&trial, job).await?;
    for name in ["one", "two"] {
        claimed(&trial, &trial.key(name), other).await?;
    }
    let mut rows = trial.two.jobs().await?;
    rows.retain(|row| row.namespace == namespace);
    let names: Vec<_> = rows.iter().map(|row| &*row.name).collect();
    ensure_eq!(names, vec!["a", "b", "c"], "the jobs are");
    let one =
        StateCounts { running: 1, lapsed: 1, failed: 1, parked: 1, completed: 1, rejected: 1, expired: 1 };
    let two = StateCounts { running: 2, ..StateCounts::default() };
    let counts: Vec<_> = rows.iter().map(|row| row.counts).collect();
    ensure_eq!(counts, vec![StateCounts::default(), one, two], "their keys are");
    Ok(())
}

/// What the suite releases: the claim of a running key.
fn release(key: &Key, job: JobId, epoch: i64) -> Resolve<'_> {
    Resolve {
        key: key.hash(),
        job,
        epoch: Epoch(epoch),
        from: State::Running,
        state: State::Failed,
        payload: b"released",
        retain: Retain::None,
        step: None,
        action: "release",
        why: "it's dead",
    }
}

async fn a_run_is_released_by_its_epoch_alone<D: Database>(trial: Trial<D>) -> Outcome {
    let job = trial.one.enrol(trial.namespace(), "released").await?;
    let keys = one_of_each(&trial, job).await?;
    for (state, key) in State::ALL.into_iter().zip(&keys) {
        let right = release(key, job, 1);
        for (what, wrong) in [
            ("epoch", Resolve { epoch: Epoch(2), ..right }),
            ("job", Resolve { job: JobId(job.0 + 1), ..right }),
        ] {
            ensure!(!trial.two.resolve(&wrong).await?, "a {state:?} key was released by another {what}");
        }
        let has_run = matches!(state, State::Running | State::Lapsed);
        ensure_eq!(trial.two.resolve(&right).await?, has_run, "that a {state:?} key was released is");
        let after = if has_run { State::Failed } else { state };
        ensure_eq!(entry(&trial, key).await?.state, after, "after it the key is");
        ensure!(!trial.one.resolve(&right).await?, "a key was released twice");
    }
    Ok(())
}

async fn a_released_run_writes_nothing<D: Database>(trial: Trial<D>) -> Outcome {
    let job = trial.one.enrol(trial.namespace(), "released").await?;
    let key = trial.key("k");
    let hold = claimed(&trial, &key, job).await?;
    change(&trial, &hold, &Change::EndStep { seq: 0, name: "a", result: b"r" }).await?;
    ensure!(trial.two.resolve(&release(&key, job, 1)).await?, "a running key was not released");
    let found = entry(&trial, &key).await?;
    ensure_eq!(
        (found.state, &*found.payload, found.steps.len(), found.lease_left),
        (State::Failed, &b"released"[..], 1, Duration::ZERO),
        "a released key is"
    );
    let late = trial.one.change(&hold, &Change::Fail { trouble: b"late" }).await?;
    ensure_eq!(late, Held::Lost, "a write of the run that was released ended with");
    let next = LeaseClaim { job, ..lease_claim(&key, 2, 2) };
    let steps = trial.one.take_over(&next, &found).await?;
    ensure_eq!(steps.map(|steps| steps.len()), Some(1), "the next run takes over with steps");
    let late = trial.one.change(&hold, &Change::Fail { trouble: b"late" }).await?;
    ensure_eq!(late, Held::Lost, "a write of the run that was overtaken ended with");
    Ok(())
}

async fn a_release_is_in_the_audit<D: Database>(trial: Trial<D>) -> Outcome {
    let job = trial.one.enrol(trial.namespace(), "released").await?;
    let key = trial.key("k");
    claimed(&trial, &key, job).await?;
    ensure!(!trial.two.resolve(&release(&key, job, 2)).await?, "a stale epoch released a key");
    ensure!(trial.one.audit(key.hash()).await?.is_empty(), "what did not happen is in the audit");
    ensure!(trial.two.resolve(&release(&key, job, 1)).await?, "a running key was not released");
    let notes = trial.one.audit(key.hash()).await?;
    let notes: Vec<_> = notes.iter().map(|note| (note.epoch, &*note.action, &*note.why)).collect();
    ensure_eq!(notes, vec![(Epoch(1), "release", "it's dead")], "the audit says");
    Ok(())
}

/// Puts a task into the outbox, with a claim.
async fn push<D: Database>(
    trial: &Trial<D>,
    job: JobId,
    key: &Key,
    lasts: Option<Duration>,
) -> Result<TaskId, BoxError> {
    let id = TaskId::new()?;
    let claim = Some(UniqueClaim { key, lasts });
    let task = Push { name: "claimed", queue: "claimed", job, claim, ..task(trial.namespace(), id, key) };
    ensure_eq!(trial.one.push(None, Engine::Outbox, &[task]).await?, vec![Pushed::New], "a first push is");
    Ok(id)
}

async fn claims_are_listed_with_their_tasks<D: Database>(trial: Trial<D>) -> Outcome {
    let namespace = trial.namespace();
    let job = trial.one.enrol(namespace, "claimed").await?;
    push(&trial, job, &trial.key("over"), Some(Duration::from_secs(60))).await?;
    trial.fixture.let_pass(Duration::from_secs(24 * 60 * 60)).await?;
    let hour = Duration::from_secs(60 * 60);
    let windowed = push(&trial, job, &trial.key("window"), Some(hour)).await?;
    let lasting = push(&trial, job, &trial.key("it's lasting"), None).await?;

    let all = everything();
    let rows = trial.two.claims(&all).await?;
    let mut tasks: Vec<_> = rows.iter().map(|row| (&*row.key, row.holder.task)).collect();
    tasks.sort();
    ensure_eq!(tasks, vec![("it's lasting", lasting), ("window", windowed)], "the claims are");
    for row in &rows {
        ensure_eq!((&*row.namespace, &*row.job), (namespace, "claimed"), "their job is");
        ensure!(row.holder.since < hour, "a claim is {:?} old", row.holder.since);
        let is_windowed = row.holder.task == windowed;
        ensure_eq!(row.holder.left.is_some(), is_windowed, "that a claim is for a time is");
        ensure!(row.holder.left.is_none_or(|left| left <= hour), "{:?} are left of an hour", row.holder.left);
    }
    for (filter, number) in [
        (KeyFilter { containing: Some("it's"), ..all }, 1),
        (KeyFilter { job: Some("other"), ..all }, 0),
        (KeyFilter { namespace: Some("other"), ..all }, 0),
        (KeyFilter { after: rows.first().map(|row| row.hash), ..all }, 1),
        (KeyFilter { limit: 1, ..all }, 1),
    ] {
        ensure_eq!(trial.two.claims(&filter).await?.len(), number, "of {filter:?} there are");
    }
    Ok(())
}

async fn a_claim_released_by_hand_leaves_a_note<D: Database>(trial: Trial<D>) -> Outcome {
    let job = trial.one.enrol(trial.namespace(), "claimed").await?;
    let [dead, window, other] = ["dead", "window", "other"].map(|name| trial.key(name));
    let task = push(&trial, job, &dead, None).await?;
    let windowed = push(&trial, job, &window, Some(Duration::from_secs(60 * 60))).await?;
    push(&trial, job, &other, None).await?;
    ensure_eq!(trial.two.release_claims(task, "release", "it's dead").await?, 1, "of claims were ended");
    ensure_eq!(
        trial.two.release_claims(task, "release", "it's dead").await?,
        0,
        "of claims were ended again"
    );
    ensure_eq!(
        trial.two.release_claims(windowed, "release", "w").await?,
        0,
        "of claims for a time were ended"
    );
    ensure_eq!(trial.one.holder(dead.hash()).await?, None, "the claim is held by");
    ensure!(trial.one.holder(window.hash()).await?.is_some(), "a claim for a time was ended");
    ensure!(trial.one.holder(other.hash()).await?.is_some(), "the claim of another task was ended");
    let notes = trial.one.audit(dead.hash()).await?;
    let notes: Vec<_> = notes.iter().map(|note| (note.epoch, &*note.action, &*note.why)).collect();
    ensure_eq!(notes, vec![(Epoch::NONE, "release", "it's dead")], "the audit says");
    for key in [&window, &other] {
        ensure!(trial.one.audit(key.hash()).await?.is_empty(), "what did not happen is in the audit");
    }
    Ok(())
}

async fn the_volume_is_told<D: Database>(trial: Trial<D>) -> Outcome {
    let job = trial.one.enrol(trial.namespace(), "claimed").await?;
    let before = trial.two.volume().await?;
    ensure_eq!((before.claims, before.outbox, before.outbox_oldest), (0, 0, None), "of nothing there is");
    let (minute, days) = (Duration::from_secs(60), Duration::from_secs(10 * 24 * 60 * 60));
    for (name, lasts) in [("over", minute), ("over too", minute), ("window", days)] {
        let claim = UniqueClaim { key: &trial.key(name), lasts: Some(lasts) };
        trial.one.acquire(job, &claim, TaskId::new()?, None).await?;
    }
    trial.fixture.let_pass(Duration::from_secs(24 * 60 * 60)).await?;
    push(&trial, job, &trial.key("old"), None).await?;
    push(&trial, job, &trial.key("new"), None).await?;
    let volume = trial.two.volume().await?;
    ensure_eq!((volume.claims, volume.outbox), (5, 2), "of claims and tasks there are");
    ensure_eq!(volume.expired_claims, 2, "of claims whose time is over there are");
    ensure_eq!(trial.one.sweep_claims(100).await?, 2, "of them a sweep deletes");
    ensure_eq!(trial.two.volume().await?.expired_claims, 0, "after a sweep there are");
    let age = volume.outbox_oldest;
    ensure!(age.is_some_and(|age| age < Duration::from_secs(600)), "the oldest task is {age:?} old");
    for (table, bytes) in &volume.tables {
        ensure!(!table.is_empty() && *bytes > 0, "table {table:?} takes {bytes} bytes");
    }
    Ok(())
}
