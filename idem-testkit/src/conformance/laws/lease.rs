//! Claims of leased jobs: who has the key, for how long, and what a run that does not have it may do.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use idem_runtime::StoreError;
use idem_runtime::fingerprint::Fingerprint;
use idem_runtime::job::Retain;
use idem_runtime::key::{Key, KeyParts};
use idem_runtime::record::{Entry, Epoch, Hold, JobId, Outcome as Ended, State, StepRecord, Token};
use idem_runtime::store::{
    Change, Claim, Claimed, Committed, Database, Held, Lease, LeaseClaim, NewTask, Store, StoreTx, TxStep,
};
use tokio::task::JoinSet;

use super::{Outcome, law};
use crate::conformance::BoxError;
use crate::conformance::suite::Law;
use crate::conformance::trial::{
    RETAINED, Trial, begin, claim as atomic, drop_after, ensure, ensure_eq, record, unlocked,
};

pub(super) fn laws<D: Database>() -> Vec<Law<D>> {
    vec![
        law!(
            a_claim_is_running_with_all_that_it_names,
            "A key of which nothing is recorded is claimed, and running with the claim's epoch, token, attempt, \
             fingerprint and lease."
        ),
        law!(
            a_claimed_key_is_found_and_not_touched,
            "A claim of a key of which anything is recorded returns that, and changes nothing."
        ),
        law!(of_claims_at_once_one_has_the_key, "Of many claims of one key at once exactly one has it."),
        law!(
            a_live_claim_is_never_taken_over,
            "A claim whose lease is not over is not taken over, whatever the caller believes."
        ),
        law!(
            a_lapsed_claim_is_taken_over,
            "A claim whose lease is over can be taken over at once, with its steps, and belongs to the new run then."
        ),
        law!(
            of_take_overs_at_once_one_has_the_key,
            "Of many take-overs of one lapsed claim exactly one has it."
        ),
        law!(
            a_take_over_of_what_has_changed_fails,
            "A take-over of a key that is not as it was found, by state, epoch or token, changes nothing."
        ),
        law!(a_renewed_lease_lasts, "A lease that is renewed lasts for its whole length from then on."),
        law!(
            renewing_tells_what_is_lost,
            "Of many leases renewed together those that are lost are returned, and only the others are renewed."
        ),
        law!(
            a_stale_epoch_writes_nothing,
            "After a take-over the run that was overtaken changes nothing, whatever it writes."
        ),
        law!(
            a_stale_token_writes_nothing,
            "A run with the right epoch and another run's token changes nothing."
        ),
        law!(
            an_ended_run_writes_nothing,
            "A run that has failed, parked or settled changes nothing any more."
        ),
        law!(
            a_late_run_writes_until_it_is_overtaken,
            "A run whose lease is over still writes while nobody has taken the key over."
        ),
        law!(
            steps_come_back_as_they_were_written,
            "Steps come back in order, with their names and results bit by bit, by an entry and by a take-over."
        ),
        law!(
            a_step_written_again_changes_nothing,
            "A step that is begun or ended again, as after a lost answer, is there once, with its result."
        ),
        law!(
            only_a_step_without_result_is_forgotten,
            "A step that was begun is forgotten on request, one that has ended is not."
        ),
        law!(
            a_settled_run_is_a_record,
            "A run that settles leaves a record that answers runs of both kinds, no step, and its tasks in order."
        ),
        law!(
            an_outcome_that_is_not_kept_frees_the_key,
            "A run that settles without retention leaves the key absent, with its epoch and without its result."
        ),
        law!(
            an_epoch_outlives_its_record,
            "A key whose outcome has expired is taken over under the epoch that follows the recorded one."
        ),
        law!(
            a_failed_run_leaves_its_steps,
            "A run that fails leaves its trouble and its steps, and the key can be taken over at once."
        ),
        law!(a_tx_step_commits_with_its_effect, "A step in a transaction is durable with its effect."),
        law!(
            a_lost_tx_step_has_no_effect,
            "A step in a transaction whose run was overtaken or has failed commits neither effect nor step."
        ),
        law!(
            a_tx_step_overtaken_while_open_has_no_effect,
            "A step in a transaction whose run is overtaken while it is open commits neither effect nor step.",
            needs ConcurrentTransactions
        ),
        law!(
            a_tx_step_dropped_anywhere_is_all_or_nothing,
            "A step in a transaction whose commit is dropped at any point leaves effect and step, or neither."
        ),
        law!(
            an_atomic_record_answers_a_leased_run,
            "A record that an atomic job made is found by a claim, with its result and epoch 0."
        ),
        law!(
            an_atomic_job_leaves_a_claimed_key_alone,
            "An atomic run of a key that a leased run has neither begins nor records."
        ),
        law!(
            a_sweep_spares_what_has_no_outcome,
            "A sweep deletes no running, failed or parked key, and their steps stay."
        ),
        law!(
            a_claim_dropped_anywhere_is_whole_or_none,
            "A claim that is dropped at any point leaves nothing, or the whole claim."
        ),
        law!(
            a_watch_tells_that_a_claim_has_ended,
            "A watch that was begun before a claim ends wakes when it does, whichever way it ends."
        ),
    ]
}

/// How long the leases of the suite last: much longer than any law takes.
const LEASE: Duration = Duration::from_secs(600);

/// A claim of the suite.
pub(super) fn lease_claim(key: &Key, epoch: i64, token: i64) -> LeaseClaim<'_> {
    LeaseClaim {
        key,
        job: JobId(1),
        fingerprint: Fingerprint::from_bits(42),
        epoch: Epoch(epoch),
        token: Token(token),
        attempts: 1,
        lease: LEASE,
    }
}

/// Claims a fresh key on the first handle.
pub(super) async fn claim_first<D: Database>(
    trial: &Trial<D>,
    key: &Key,
    token: i64,
) -> Result<Hold, BoxError> {
    let claim = lease_claim(key, 1, token);
    ensure_eq!(trial.one.claim(&claim).await?, Claimed::New, "a first claim ended with");
    Ok(claim.hold())
}

/// Reads what is recorded, on the second handle.
pub(super) async fn entry<D: Database>(trial: &Trial<D>, key: &Key) -> Result<Entry, BoxError> {
    trial.two.entry(key.hash()).await?.ok_or_else(|| "nothing is recorded of the key".into())
}

/// Lets every lease lapse, and takes the key over on the second handle under the next epoch.
pub(super) async fn overtake<D: Database>(trial: &Trial<D>, key: &Key, token: i64) -> Result<Hold, BoxError> {
    trial.fixture.let_pass(LEASE * 2).await?;
    let found = entry(trial, key).await?;
    let claim = lease_claim(key, found.epoch.next().0, token);
    let steps = trial.two.take_over(&claim, &found).await?;
    ensure!(steps.is_some(), "a lapsed claim was not taken over");
    Ok(claim.hold())
}

/// Makes a change on the first handle that must be durable.
pub(super) async fn change<D: Database>(
    trial: &Trial<D>,
    hold: &Hold,
    change: &Change<'_>,
) -> Result<(), BoxError> {
    ensure_eq!(
        trial.one.change(hold, change).await?,
        Held::Yes,
        "{change:?} by the run that has the key ended with"
    );
    Ok(())
}

/// Returns every change that ends a run.
fn ends() -> [Change<'static>; 4] {
    [
        Change::Fail { trouble: b"t" },
        Change::Park { parked: b"p" },
        settle(b"r", Retain::For(RETAINED), &[]),
        settle(b"r", Retain::None, &[]),
    ]
}

/// An outcome of the suite.
fn settle<'a>(result: &'a [u8], retain: Retain, tasks: &'a [NewTask]) -> Change<'a> {
    Change::Settle { outcome: Ended::Completed, result, retain, tasks }
}

/// One change of each kind.
fn all_changes(tasks: &[NewTask]) -> [Change<'_>; 6] {
    [
        Change::BeginStep { seq: 7, name: "stale" },
        Change::EndStep { seq: 7, name: "stale", result: b"stale" },
        Change::ForgetStep { seq: 0 },
        Change::Fail { trouble: b"stale" },
        Change::Park { parked: b"stale" },
        settle(b"stale", Retain::For(RETAINED), tasks),
    ]
}

fn task(name: &str) -> NewTask {
    let key = Key::new("task", name, &KeyParts::of(name).expect("the name is not blank"));
    NewTask {
        namespace: String::from("task"),
        id: key.hash(),
        job: name.to_owned(),
        key: String::from("k"),
        payload: name.as_bytes().to_vec(),
    }
}

fn done(seq: u32, name: &str, result: &[u8]) -> StepRecord {
    StepRecord { seq, name: name.to_owned(), result: Some(result.to_vec()) }
}

async fn a_claim_is_running_with_all_that_it_names<D: Database>(trial: Trial<D>) -> Outcome {
    let key = trial.key("k");
    let claim = LeaseClaim { attempts: 3, ..lease_claim(&key, 5, -7) };
    ensure_eq!(trial.one.entry(key.hash()).await?, None, "of an unknown key `entry` returns");
    ensure_eq!(trial.one.claim(&claim).await?, Claimed::New, "the claim ended with");
    for store in [&trial.one, &trial.two] {
        let entry = store.entry(key.hash()).await?.ok_or("the claim is not there")?;
        ensure!(
            !entry.lease_left.is_zero() && entry.lease_left <= LEASE,
            "the lease of {LEASE:?} has {:?} left",
            entry.lease_left
        );
        let expected = Entry {
            state: State::Running,
            epoch: Epoch(5),
            token: Token(-7),
            attempts: 3,
            fingerprint: Fingerprint::from_bits(42),
            lease_left: entry.lease_left,
            payload: vec![],
            steps: vec![],
        };
        ensure_eq!(entry, expected, "the claimed key is");
    }
    Ok(())
}

async fn a_claimed_key_is_found_and_not_touched<D: Database>(trial: Trial<D>) -> Outcome {
    let key = trial.key("k");
    let hold = claim_first(&trial, &key, 1).await?;
    change(&trial, &hold, &Change::EndStep { seq: 0, name: "a", result: b"r" }).await?;
    for store in [&trial.one, &trial.two] {
        match store.claim(&lease_claim(&key, 1, 2)).await? {
            Claimed::New => return Err("a second run has the key too".into()),
            Claimed::Found(found) => {
                ensure_eq!(
                    (found.state, found.epoch, found.token, found.steps),
                    (State::Running, Epoch(1), Token(1), vec![done(0, "a", b"r")]),
                    "a claim of a key that is running finds"
                );
            }
        }
    }
    ensure_eq!(entry(&trial, &key).await?.token, Token(1), "after it the key belongs to");
    trial.fixture.let_pass(LEASE * 2).await?;
    match trial.two.claim(&lease_claim(&key, 1, 2)).await? {
        Claimed::New => Err("a claim took a lapsed key over without asking".into()),
        Claimed::Found(found) => {
            ensure_eq!(found.state, State::Lapsed, "a claim of a lapsed key finds");
            Ok(())
        }
    }
}

async fn of_claims_at_once_one_has_the_key<D: Database>(trial: Trial<D>) -> Outcome {
    for round in 0..8 {
        let key = trial.key(&format!("k{round}"));
        ensure_one_gets_it(&trial, &key, |store, key, token| async move {
            Ok(store.claim(&lease_claim(&key, 1, token)).await? == Claimed::New)
        })
        .await?;
    }
    Ok(())
}

/// Checks that one of many runs that try to get a key at once gets it.
async fn ensure_one_gets_it<D, T, F>(trial: &Trial<D>, key: &Key, get: T) -> Outcome
where
    D: Database,
    T: Fn(Arc<dyn Store<D>>, Key, i64) -> F,
    F: Future<Output = Result<bool, StoreError>> + Send + 'static,
{
    let mut runs = JoinSet::new();
    for token in 1..=8 {
        let store = if token % 2 == 0 { &trial.one } else { &trial.two };
        let got = get(Arc::clone(store), key.clone(), token);
        runs.spawn(async move { got.await.map(|got| (token, got)) });
    }
    let mut winners = Vec::new();
    while let Some(run) = runs.join_next().await {
        if let (token, true) = run?? {
            winners.push(token);
        }
    }
    ensure_eq!(winners.len(), 1, "the number of runs that have the key is");
    ensure_eq!(entry(trial, key).await?.token, Token(winners[0]), "the key belongs to");
    Ok(())
}

async fn a_live_claim_is_never_taken_over<D: Database>(trial: Trial<D>) -> Outcome {
    let key = trial.key("k");
    claim_first(&trial, &key, 1).await?;
    let found = entry(&trial, &key).await?;
    for state in [State::Running, State::Lapsed, State::Failed, State::Absent] {
        let believed = Entry { state, ..found.clone() };
        let taken = trial.two.take_over(&lease_claim(&key, 2, 2), &believed).await?;
        ensure_eq!(taken, None, "taking over a live claim that is believed {state:?} returns");
    }
    ensure_eq!(entry(&trial, &key).await?.token, Token(1), "after it the key belongs to");
    Ok(())
}

async fn a_lapsed_claim_is_taken_over<D: Database>(trial: Trial<D>) -> Outcome {
    let key = trial.key("k");
    let hold = claim_first(&trial, &key, 1).await?;
    change(&trial, &hold, &Change::EndStep { seq: 0, name: "a", result: b"r" }).await?;
    trial.fixture.let_pass(LEASE * 2).await?;
    let found = entry(&trial, &key).await?;
    ensure_eq!(
        (found.state, found.lease_left),
        (State::Lapsed, Duration::ZERO),
        "after its lease a claim is"
    );
    let claim = LeaseClaim { attempts: 2, ..lease_claim(&key, 2, 2) };
    let steps = trial.two.take_over(&claim, &found).await?;
    ensure_eq!(steps, Some(vec![done(0, "a", b"r")]), "taking a lapsed claim over returns the steps");
    let now = entry(&trial, &key).await?;
    ensure_eq!(
        (now.state, now.epoch, now.token, now.attempts),
        (State::Running, Epoch(2), Token(2), 2),
        "the key is then"
    );
    ensure!(!now.lease_left.is_zero(), "the new claim has no lease");
    Ok(())
}

async fn of_take_overs_at_once_one_has_the_key<D: Database>(trial: Trial<D>) -> Outcome {
    for round in 0..8 {
        let key = trial.key(&format!("k{round}"));
        claim_first(&trial, &key, 100).await?;
        trial.fixture.let_pass(LEASE * 2).await?;
        let found = entry(&trial, &key).await?;
        ensure_one_gets_it(&trial, &key, |store, key, token| {
            let found = found.clone();
            async move { Ok(store.take_over(&lease_claim(&key, 2, token), &found).await?.is_some()) }
        })
        .await?;
    }
    Ok(())
}

async fn a_take_over_of_what_has_changed_fails<D: Database>(trial: Trial<D>) -> Outcome {
    let key = trial.key("k");
    let hold = claim_first(&trial, &key, 1).await?;
    change(&trial, &hold, &Change::Fail { trouble: b"t" }).await?;
    let found = entry(&trial, &key).await?;
    let others = [
        Entry { epoch: Epoch(2), ..found.clone() },
        Entry { token: Token(2), ..found.clone() },
        Entry { state: State::Lapsed, ..found.clone() },
        Entry { state: State::Absent, ..found.clone() },
    ];
    for other in others {
        let taken = trial.two.take_over(&lease_claim(&key, 3, 3), &other).await?;
        ensure_eq!(taken, None, "taking over a key that is not as it was found ({other:?}) returns");
    }
    ensure_eq!(entry(&trial, &key).await?, found, "after it the key is");
    ensure!(
        trial.two.take_over(&lease_claim(&key, 2, 2), &found).await?.is_some(),
        "a failed key that is as it was found was not taken over"
    );
    Ok(())
}

async fn a_renewed_lease_lasts<D: Database>(trial: Trial<D>) -> Outcome {
    let key = trial.key("k");
    let hold = claim_first(&trial, &key, 1).await?;
    for _ in 0..3 {
        trial.fixture.let_pass(LEASE * 3 / 4).await?;
        ensure_eq!(entry(&trial, &key).await?.state, State::Running, "before its lease is over a key is");
        ensure_eq!(trial.one.renew(&[Lease { hold, length: LEASE }]).await?, vec![], "renewing loses");
    }
    trial.fixture.let_pass(LEASE * 2).await?;
    ensure_eq!(entry(&trial, &key).await?.state, State::Lapsed, "after its lease a key is");
    // Nobody has taken it over, so the run still has it.
    ensure_eq!(trial.one.renew(&[Lease { hold, length: LEASE }]).await?, vec![], "renewing late loses");
    ensure_eq!(entry(&trial, &key).await?.state, State::Running, "renewed late a key is");
    Ok(())
}

async fn renewing_tells_what_is_lost<D: Database>(trial: Trial<D>) -> Outcome {
    let keys: Vec<Key> = (0..7).map(|n| trial.key(&format!("k{n}"))).collect();
    let mut holds = Vec::new();
    for (token, key) in (1..).zip(&keys[..6]) {
        holds.push(claim_first(&trial, key, token).await?);
    }
    change(&trial, &holds[2], &Change::Fail { trouble: b"t" }).await?;
    change(&trial, &holds[3], &settle(b"r", Retain::For(RETAINED), &[])).await?;
    holds[4].epoch = Epoch(9);
    holds[5].token = Token(99);
    // Of this one nothing is recorded.
    holds.push(Hold { key: keys[6].hash(), epoch: Epoch(1), token: Token(7) });
    trial.fixture.let_pass(LEASE / 2).await?;
    let leases: Vec<Lease> = holds.iter().map(|hold| Lease { hold: *hold, length: LEASE }).collect();
    let lost = trial.one.renew(&leases).await?;
    let numbers = |holds: &[Hold]| holds.iter().map(|hold| hold.token.0).collect::<BTreeSet<_>>();
    ensure_eq!(numbers(&lost), numbers(&holds[2..]), "the tokens of the lost leases are");
    for key in &keys[..2] {
        let left = entry(&trial, key).await?.lease_left;
        ensure!(left > LEASE * 3 / 4, "a lease that was renewed has {left:?} left");
    }
    for key in &keys[4..6] {
        let left = entry(&trial, key).await?.lease_left;
        ensure!(left <= LEASE * 3 / 4, "a lease of somebody else was renewed: it has {left:?} left");
    }
    ensure_eq!(entry(&trial, &keys[2]).await?.state, State::Failed, "renewing a failed key leaves it");
    Ok(())
}

/// Lets a run that does not have the key write everything, and checks that nothing comes of it.
async fn ensure_writes_nothing<D: Database>(trial: &Trial<D>, key: &Key, stale: &Hold) -> Outcome {
    let before = entry(trial, key).await?;
    let tasks = [task("stale")];
    for change in all_changes(&tasks) {
        for store in [&trial.one, &trial.two] {
            ensure_eq!(
                store.change(stale, &change).await?,
                Held::Lost,
                "{change:?} by a stale run ended with"
            );
        }
    }
    let lost = trial.one.renew(&[Lease { hold: *stale, length: LEASE * 9 }]).await?;
    ensure_eq!(lost, vec![*stale], "renewing the lease of a stale run loses");
    let after = entry(trial, key).await?;
    // Only the time may have changed.
    let expected = Entry { lease_left: after.lease_left, ..before.clone() };
    ensure_eq!(after, expected, "a stale run has changed the key: it is");
    ensure!(after.lease_left <= before.lease_left, "a stale run has renewed the lease");
    ensure_eq!(trial.one.tasks("task", 0, 10).await?, vec![], "a stale run has put into the outbox");
    Ok(())
}

async fn a_stale_epoch_writes_nothing<D: Database>(trial: Trial<D>) -> Outcome {
    let key = trial.key("k");
    let stale = claim_first(&trial, &key, 1).await?;
    change(&trial, &stale, &Change::BeginStep { seq: 0, name: "a" }).await?;
    overtake(&trial, &key, 2).await?;
    ensure_writes_nothing(&trial, &key, &stale).await?;
    // Even if the tokens were the same, the epoch is not.
    ensure_writes_nothing(&trial, &key, &Hold { token: Token(2), ..stale }).await
}

async fn a_stale_token_writes_nothing<D: Database>(trial: Trial<D>) -> Outcome {
    let key = trial.key("k");
    let hold = claim_first(&trial, &key, 1).await?;
    change(&trial, &hold, &Change::BeginStep { seq: 0, name: "a" }).await?;
    ensure_writes_nothing(&trial, &key, &Hold { token: Token(2), ..hold }).await
}

async fn an_ended_run_writes_nothing<D: Database>(trial: Trial<D>) -> Outcome {
    for (number, end) in ends().iter().enumerate() {
        let key = trial.key(&format!("k{number}"));
        let hold = claim_first(&trial, &key, 1).await?;
        change(&trial, &hold, &Change::BeginStep { seq: 0, name: "a" }).await?;
        change(&trial, &hold, end).await?;
        ensure_writes_nothing(&trial, &key, &hold).await?;
    }
    Ok(())
}

async fn a_late_run_writes_until_it_is_overtaken<D: Database>(trial: Trial<D>) -> Outcome {
    let key = trial.key("k");
    let hold = claim_first(&trial, &key, 1).await?;
    trial.fixture.let_pass(LEASE * 2).await?;
    change(&trial, &hold, &Change::EndStep { seq: 0, name: "a", result: b"r" }).await?;
    change(&trial, &hold, &settle(b"late", Retain::For(RETAINED), &[])).await?;
    trial.ensure_recorded(&key, Some(b"late")).await
}

async fn steps_come_back_as_they_were_written<D: Database>(trial: Trial<D>) -> Outcome {
    let key = trial.key("k");
    let other = trial.key("other");
    let hold = claim_first(&trial, &key, 1).await?;
    let others = claim_first(&trial, &other, 2).await?;
    change(&trial, &others, &Change::EndStep { seq: 0, name: "of another key", result: b"x" }).await?;
    let every_byte: Vec<u8> = (0..=u8::MAX).collect();
    let results: [&[u8]; 4] = [b"", b"'\\", &every_byte, &[0]];
    let mut expected = Vec::new();
    // Written from the last to the first, so that the order is theirs and not that of writing.
    for (seq, result) in (0..4).zip(results).rev() {
        let name = format!("it's [{seq}]");
        change(&trial, &hold, &Change::EndStep { seq, name: &name, result }).await?;
        expected.insert(0, done(seq, &name, result));
    }
    change(&trial, &hold, &Change::BeginStep { seq: 12, name: "begun" }).await?;
    expected.push(StepRecord { seq: 12, name: String::from("begun"), result: None });
    ensure_eq!(entry(&trial, &key).await?.steps, expected, "the steps of the entry are");
    match trial.two.claim(&lease_claim(&key, 1, 3)).await? {
        Claimed::New => return Err("a second run has the key too".into()),
        Claimed::Found(found) => ensure_eq!(found.steps, expected, "the steps that a claim finds are"),
    }
    trial.fixture.let_pass(LEASE * 2).await?;
    let found = entry(&trial, &key).await?;
    let steps = trial.two.take_over(&lease_claim(&key, 2, 4), &found).await?;
    ensure_eq!(steps, Some(expected), "the steps of the take-over are");
    Ok(())
}

async fn a_step_written_again_changes_nothing<D: Database>(trial: Trial<D>) -> Outcome {
    let key = trial.key("k");
    let hold = claim_first(&trial, &key, 1).await?;
    for _ in 0..2 {
        change(&trial, &hold, &Change::BeginStep { seq: 0, name: "a" }).await?;
    }
    for _ in 0..2 {
        change(&trial, &hold, &Change::EndStep { seq: 0, name: "a", result: b"r" }).await?;
    }
    ensure_eq!(entry(&trial, &key).await?.steps, vec![done(0, "a", b"r")], "the steps are");
    // A late repetition of the beginning does not undo the end.
    change(&trial, &hold, &Change::BeginStep { seq: 0, name: "a" }).await?;
    ensure_eq!(entry(&trial, &key).await?.steps, vec![done(0, "a", b"r")], "begun again, the steps are");
    Ok(())
}

async fn only_a_step_without_result_is_forgotten<D: Database>(trial: Trial<D>) -> Outcome {
    let key = trial.key("k");
    let hold = claim_first(&trial, &key, 1).await?;
    change(&trial, &hold, &Change::EndStep { seq: 0, name: "a", result: b"" }).await?;
    change(&trial, &hold, &Change::BeginStep { seq: 1, name: "b" }).await?;
    for _ in 0..2 {
        change(&trial, &hold, &Change::ForgetStep { seq: 1 }).await?;
        change(&trial, &hold, &Change::ForgetStep { seq: 0 }).await?;
    }
    ensure_eq!(entry(&trial, &key).await?.steps, vec![done(0, "a", b"")], "the steps are");
    Ok(())
}

async fn a_settled_run_is_a_record<D: Database>(trial: Trial<D>) -> Outcome {
    for (number, outcome) in [Ended::Completed, Ended::Rejected].into_iter().enumerate() {
        let key = trial.key(&format!("k{number}"));
        let hold = claim_first(&trial, &key, 1).await?;
        change(&trial, &hold, &Change::EndStep { seq: 0, name: "a", result: b"s" }).await?;
        let tasks = [task("first"), task("second"), task("it's the third")];
        let settle = Change::Settle { outcome, result: b"r", retain: Retain::For(RETAINED), tasks: &tasks };
        change(&trial, &hold, &settle).await?;
        let now = entry(&trial, &key).await?;
        ensure_eq!(
            (now.state, now.payload, now.steps),
            (outcome.state(), b"r".to_vec(), vec![]),
            "a settled key is"
        );
        let read = trial.two.read(key.hash()).await?.map(|record| (record.outcome, record.result));
        ensure_eq!(read, Some((outcome, b"r".to_vec())), "`read` returns");
        trial.ensure_recorded(&key, Some(b"r")).await?;
        let outbox: Vec<NewTask> =
            trial.two.tasks("task", 0, 10).await?.into_iter().map(|row| row.task).collect();
        ensure_eq!(outbox, tasks, "the outbox has");
        ensure_eq!(trial.two.tasks("other", 0, 10).await?, vec![], "the outbox of another namespace has");
        let rows = trial.one.tasks("task", 0, 2).await?;
        ensure_eq!(rows.len(), 2, "of a limit of 2 there come");
        ensure_eq!(
            trial.one.tasks("task", rows[1].number, 10).await?.len(),
            1,
            "behind the second task there are"
        );
        for row in trial.one.tasks("task", 0, 10).await? {
            ensure!(trial.one.delete_task(row.number).await?, "a task that was there could not be deleted");
            ensure!(!trial.two.delete_task(row.number).await?, "a task was deleted twice");
        }
        trial.fixture.let_pass(RETAINED * 2).await?;
        ensure_eq!(entry(&trial, &key).await?.state, State::Absent, "after its retention a settled key is");
    }
    Ok(())
}

async fn an_outcome_that_is_not_kept_frees_the_key<D: Database>(trial: Trial<D>) -> Outcome {
    let key = trial.key("k");
    let hold = claim_first(&trial, &key, 1).await?;
    change(&trial, &hold, &settle(b"r", Retain::None, &[])).await?;
    let found = entry(&trial, &key).await?;
    ensure_eq!(
        (found.state, found.epoch, &*found.payload),
        (State::Absent, Epoch(1), &b""[..]),
        "a key whose outcome is not kept is"
    );
    ensure!(
        trial.two.take_over(&lease_claim(&key, 2, 2), &found).await?.is_some(),
        "a key whose outcome is not kept was not to be had"
    );
    Ok(())
}

async fn an_epoch_outlives_its_record<D: Database>(trial: Trial<D>) -> Outcome {
    let key = trial.key("k");
    claim_first(&trial, &key, 1).await?;
    let hold = overtake(&trial, &key, 2).await?;
    ensure_eq!(
        trial.two.change(&hold, &settle(b"r", Retain::For(RETAINED), &[])).await?,
        Held::Yes,
        "settling ended with"
    );
    let found = entry(&trial, &key).await?;
    let taken =
        trial.one.take_over(&lease_claim(&key, 3, 3), &Entry { state: State::Absent, ..found }).await?;
    ensure_eq!(taken, None, "a record that is live was taken over");
    trial.fixture.let_pass(RETAINED * 2).await?;
    let found = entry(&trial, &key).await?;
    ensure_eq!((found.state, found.epoch), (State::Absent, Epoch(2)), "an expired key is");
    let taken = trial.one.take_over(&lease_claim(&key, 3, 3), &found).await?;
    ensure_eq!(taken, Some(vec![]), "the take-over of an expired key returns");
    ensure_eq!(entry(&trial, &key).await?.epoch, Epoch(3), "the epoch is then");
    Ok(())
}

async fn a_failed_run_leaves_its_steps<D: Database>(trial: Trial<D>) -> Outcome {
    let key = trial.key("k");
    let hold = claim_first(&trial, &key, 1).await?;
    change(&trial, &hold, &Change::EndStep { seq: 0, name: "a", result: b"r" }).await?;
    change(&trial, &hold, &Change::Fail { trouble: b"trouble" }).await?;
    let found = entry(&trial, &key).await?;
    let expected = (State::Failed, b"trouble".to_vec(), vec![done(0, "a", b"r")], Duration::ZERO);
    ensure_eq!(
        (found.state, found.payload.clone(), found.steps.clone(), found.lease_left),
        expected,
        "a failed key is"
    );
    let steps = trial.two.take_over(&lease_claim(&key, 2, 2), &found).await?;
    ensure_eq!(steps, Some(vec![done(0, "a", b"r")]), "the take-over of a failed key returns");
    Ok(())
}

/// Opens a transaction as a step does.
async fn step_tx<D: Database>(trial: &Trial<D>, key: &Key) -> Result<Box<dyn StoreTx<D>>, BoxError> {
    let claim = Claim { records: false, undo: false, wait: Duration::ZERO, ..unlocked(key) };
    Ok(begin(&trial.one, claim).await?.0)
}

async fn a_tx_step_commits_with_its_effect<D: Database>(trial: Trial<D>) -> Outcome {
    let key = trial.key("k");
    let hold = claim_first(&trial, &key, 1).await?;
    let mut tx = step_tx(&trial, &key).await?;
    trial.insert(&mut tx, "e").await?;
    let step = TxStep { seq: 0, name: "it's a", result: b"r" };
    ensure_eq!(tx.commit_step(&hold, &step).await?, Held::Yes, "the step ended with");
    trial.ensure_count("e", 1).await?;
    let now = entry(&trial, &key).await?;
    ensure_eq!(now.steps, vec![done(0, "it's a", b"r")], "the steps are");
    ensure_eq!((now.state, now.token), (State::Running, Token(1)), "the key is");
    Ok(())
}

async fn a_lost_tx_step_has_no_effect<D: Database>(trial: Trial<D>) -> Outcome {
    let key = trial.key("before");
    let stale = claim_first(&trial, &key, 1).await?;
    overtake(&trial, &key, 2).await?;
    let step = TxStep { seq: 0, name: "a", result: b"r" };
    let mut tx = step_tx(&trial, &key).await?;
    trial.insert(&mut tx, "e").await?;
    ensure_eq!(tx.commit_step(&stale, &step).await?, Held::Lost, "the step of a stale run ended with");
    let mut tx = step_tx(&trial, &key).await?;
    trial.insert(&mut tx, "e").await?;
    let stale = Hold { epoch: Epoch(2), ..stale };
    ensure_eq!(
        tx.commit_step(&stale, &step).await?,
        Held::Lost,
        "the step of a run with another's epoch ended with"
    );
    ensure_eq!(entry(&trial, &key).await?.steps, vec![], "the steps are");
    trial.ensure_count("e", 0).await?;

    // Failing the run fences off a step that is under way.
    let key = trial.key("failed");
    let hold = claim_first(&trial, &key, 1).await?;
    change(&trial, &hold, &Change::Fail { trouble: b"t" }).await?;
    let mut tx = step_tx(&trial, &key).await?;
    trial.insert(&mut tx, "e").await?;
    ensure_eq!(tx.commit_step(&hold, &step).await?, Held::Lost, "the step of a failed run ended with");
    trial.ensure_count("e", 0).await
}

async fn a_tx_step_overtaken_while_open_has_no_effect<D: Database>(trial: Trial<D>) -> Outcome {
    let key = trial.key("k");
    let stale = claim_first(&trial, &key, 1).await?;
    let mut tx = step_tx(&trial, &key).await?;
    trial.insert(&mut tx, "e").await?;
    overtake(&trial, &key, 2).await?;
    let step = TxStep { seq: 0, name: "a", result: b"r" };
    ensure_eq!(tx.commit_step(&stale, &step).await?, Held::Lost, "the step of an overtaken run ended with");
    ensure_eq!(entry(&trial, &key).await?.steps, vec![], "the steps are");
    trial.ensure_count("e", 0).await
}

async fn a_tx_step_dropped_anywhere_is_all_or_nothing<D: Database>(trial: Trial<D>) -> Outcome {
    for polls in 1..200 {
        let key = trial.key(&format!("k{polls}"));
        let effect = format!("e{polls}");
        let hold = claim_first(&trial, &key, 1).await?;
        let mut tx = step_tx(&trial, &key).await?;
        trial.insert(&mut tx, &effect).await?;
        let step = TxStep { seq: 0, name: "a", result: b"r" };
        let ended = drop_after(polls, tx.commit_step(&hold, &step)).await;
        // The take-over comes after whatever the dropped commit still does.
        overtake(&trial, &key, 2).await?;
        let recorded = !entry(&trial, &key).await?.steps.is_empty();
        trial.ensure_count(&effect, u64::from(recorded)).await?;
        if ended.is_some() {
            ensure!(recorded, "a step that was not dropped is not there");
            return Ok(());
        }
    }
    Err("committing a step never comes to its end".into())
}

async fn an_atomic_record_answers_a_leased_run<D: Database>(trial: Trial<D>) -> Outcome {
    let key = trial.key("k");
    trial.complete(&key, "e", b"atomic").await?;
    match trial.two.claim(&lease_claim(&key, 1, 1)).await? {
        Claimed::New => return Err("a leased run has a key that is recorded".into()),
        Claimed::Found(found) => ensure_eq!(
            (found.state, found.epoch, found.payload, found.fingerprint),
            (State::Completed, Epoch::NONE, b"atomic".to_vec(), Fingerprint::from_bits(42)),
            "a claim of a key that an atomic job has recorded finds"
        ),
    }
    trial.fixture.let_pass(RETAINED * 2).await?;
    let found = entry(&trial, &key).await?;
    ensure_eq!(found.state, State::Absent, "expired it is");
    ensure!(
        trial.one.take_over(&lease_claim(&key, 1, 1), &found).await?.is_some(),
        "an expired record of an atomic job was not taken over"
    );
    Ok(())
}

async fn an_atomic_job_leaves_a_claimed_key_alone<D: Database>(trial: Trial<D>) -> Outcome {
    for (number, end) in
        [None, Some(Change::Fail { trouble: b"t" }), Some(Change::Park { parked: b"p" })].iter().enumerate()
    {
        let key = trial.key(&format!("k{number}"));
        let hold = claim_first(&trial, &key, 1).await?;
        if let Some(end) = end {
            change(&trial, &hold, end).await?;
        }
        let before = entry(&trial, &key).await?;
        if let Ok((tx, found)) = begin(&trial.two, atomic(&key)).await {
            tx.rollback().await?;
            return Err(format!("an atomic run began and found {found:?}").into());
        }
        ensure!(trial.two.read(key.hash()).await.is_err(), "`read` takes a claim for a record, or for none");
        // A run that does not look first is stopped as it commits.
        let mut tx = step_tx(&trial, &key).await?;
        trial.insert(&mut tx, "e").await?;
        let committed = tx.commit(Some(&record(&key, b"atomic"))).await;
        ensure!(
            !matches!(committed, Ok(Committed::Yes)),
            "an atomic run has recorded a key that a leased run has"
        );
        trial.ensure_count("e", 0).await?;
        let after = entry(&trial, &key).await?;
        ensure_eq!((after.state, after.token), (before.state, before.token), "after it the key is");
    }
    Ok(())
}

async fn a_sweep_spares_what_has_no_outcome<D: Database>(trial: Trial<D>) -> Outcome {
    let ends = [None, Some(Change::Fail { trouble: b"t" }), Some(Change::Park { parked: b"p" })];
    for (number, end) in ends.iter().enumerate() {
        let hold = claim_first(&trial, &trial.key(&format!("k{number}")), 1).await?;
        change(&trial, &hold, &Change::EndStep { seq: 0, name: "a", result: b"r" }).await?;
        if let Some(end) = end {
            change(&trial, &hold, end).await?;
        }
    }
    trial.fixture.let_pass(RETAINED * 24 * 365).await?;
    let mut cursor = None;
    loop {
        let swept = trial.one.sweep(cursor, 100).await?;
        ensure_eq!(swept.deleted, 0, "a sweep deleted keys without an outcome:");
        cursor = swept.cursor;
        if cursor.is_none() {
            break;
        }
    }
    for (number, state) in [State::Lapsed, State::Failed, State::Parked].into_iter().enumerate() {
        let now = entry(&trial, &trial.key(&format!("k{number}"))).await?;
        ensure_eq!((now.state, now.steps), (state, vec![done(0, "a", b"r")]), "after a sweep the key is");
    }
    Ok(())
}

async fn a_claim_dropped_anywhere_is_whole_or_none<D: Database>(trial: Trial<D>) -> Outcome {
    for polls in 1..200 {
        let key = trial.key(&format!("k{polls}"));
        let claim = lease_claim(&key, 1, 1);
        let ended = drop_after(polls, trial.one.claim(&claim)).await;
        // Another run finds nothing, or all of it.
        match trial.two.claim(&lease_claim(&key, 1, 2)).await? {
            Claimed::New => ensure!(ended.is_none(), "a claim that was not dropped is not there"),
            Claimed::Found(found) => ensure_eq!(
                (found.state, found.epoch, found.token),
                (State::Running, Epoch(1), Token(1)),
                "a dropped claim left"
            ),
        }
        if ended.is_some() {
            return Ok(());
        }
    }
    Err("a claim never comes to its end".into())
}

async fn a_watch_tells_that_a_claim_has_ended<D: Database>(trial: Trial<D>) -> Outcome {
    for (number, end) in ends().iter().enumerate() {
        let key = trial.key(&format!("k{number}"));
        let hold = claim_first(&trial, &key, 1).await?;
        // A store that has no watches leaves it to the runs to look again.
        let Some(mut watch) = trial.two.watch(key.hash()).await? else { return Ok(()) };
        change(&trial, &hold, end).await?;
        let told = tokio::time::timeout(Duration::from_secs(5), watch.changed()).await;
        ensure!(told.is_ok(), "nobody was told of {end:?} within 5 s");
    }
    Ok(())
}
