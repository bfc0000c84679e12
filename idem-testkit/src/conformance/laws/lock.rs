//! One run of a key at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use idem_runtime::key::Key;
use idem_runtime::store::{Begun, Claim, Committed, Database, Found};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use super::{Outcome, law};
use crate::conformance::BoxError;
use crate::conformance::suite::Law;
use crate::conformance::trial::{
    Opened, Trial, begin, claim, drop_after, ensure, ensure_eq, record, recorded,
};

pub(super) fn laws<D: Database>() -> Vec<Law<D>> {
    vec![
        law!(
            a_twin_waits_and_sees_the_winners_record,
            "A second begin of a key waits while the first run is open, and then finds its record."
        ),
        law!(
            a_twin_waits_and_runs_after_a_rollback,
            "A second begin of a key that waited for a run which was rolled back finds the key absent, and \
             holds it."
        ),
        law!(
            a_twin_waits_and_runs_after_a_drop,
            "A second begin of a key that waited for a run which was dropped finds the key absent, and \
             holds it."
        ),
        law!(
            no_wait_ends_while_the_key_is_held,
            "A begin that may not wait ends while the key is held, busy or with a temporary error, and \
             leaves the holder alone."
        ),
        law!(
            a_held_key_is_busy,
            "A begin that waited for as long as it may is told that the key is busy, and nothing else.",
            needs BusyToldApart
        ),
        law!(
            a_begin_dropped_anywhere_frees_the_key,
            "A begin whose future is dropped at any of its awaits leaves the key free."
        ),
        law!(
            a_begin_dropped_while_it_waits_frees_the_key,
            "A begin whose future is dropped while it waits for the lock never gets it, and keeps nobody \
             from it."
        ),
        law!(
            other_keys_do_not_wait,
            "Runs of different keys are open at the same time.",
            needs ConcurrentTransactions
        ),
        law!(
            one_of_sixteen_begins_runs,
            "Of sixteen begins of one key at once one finds it absent and commits; all others find its \
             record."
        ),
    ]
}

async fn a_twin_waits_and_sees_the_winners_record<D: Database>(trial: Trial<D>) -> Outcome {
    let key = trial.key("k");
    let (mut tx, _) = trial.begin(&key).await?;
    trial.insert(&mut tx, "e").await?;
    let twin = trial.waiting_twin(&key).await?;
    ensure_eq!(tx.commit(Some(&record(&key, b"r"))).await?, Committed::Yes, "the commit ended with");
    let (tx, found) = twin.opened().await?;
    ensure_eq!(found, Found::Record(recorded(b"r")), "the twin finds");
    tx.rollback().await?;
    trial.ensure_count("e", 1).await
}

async fn a_twin_waits_and_runs_after_a_rollback<D: Database>(trial: Trial<D>) -> Outcome {
    let key = trial.key("k");
    let (mut tx, _) = trial.begin(&key).await?;
    trial.insert(&mut tx, "first").await?;
    let twin = trial.waiting_twin(&key).await?;
    tx.rollback().await?;
    runs_alone(&trial, twin.opened().await?, "first").await
}

async fn a_twin_waits_and_runs_after_a_drop<D: Database>(trial: Trial<D>) -> Outcome {
    let key = trial.key("k");
    let (mut tx, _) = trial.begin(&key).await?;
    trial.insert(&mut tx, "first").await?;
    let twin = trial.waiting_twin(&key).await?;
    drop(tx);
    runs_alone(&trial, twin.opened().await?, "first").await
}

/// Checks that a twin whose forerunner left nothing runs, and keeps the key to itself.
async fn runs_alone<D: Database>(trial: &Trial<D>, (mut tx, found): Opened<D>, undone: &str) -> Outcome {
    let key = trial.key("k");
    ensure_eq!(found, Found::Absent, "the twin finds");
    trial.insert(&mut tx, "twin").await?;
    ensure_held(trial, &key).await?;
    ensure_eq!(
        tx.commit(Some(&record(&key, b"twin"))).await?,
        Committed::Yes,
        "the twin's commit ended with"
    );
    trial.ensure_count(undone, 0).await?;
    trial.ensure_count("twin", 1).await?;
    trial.ensure_recorded(&key, Some(b"twin")).await
}

/// Checks that a key that the second handle holds is not to be had on the first.
async fn ensure_held<D: Database>(trial: &Trial<D>, key: &Key) -> Outcome {
    match trial.one.begin(&Claim { wait: Duration::ZERO, ..claim(key) }).await {
        Ok(Begun::Busy) => Ok(()),
        Ok(begun) => Err(format!("a begin of a key that is held ended as {begun:?}").into()),
        Err(error) if error.is_temporary() && !trial.tells_busy => Ok(()),
        Err(error) => Err(format!("a held key is no error, but: {error}").into()),
    }
}

async fn no_wait_ends_while_the_key_is_held<D: Database>(trial: Trial<D>) -> Outcome {
    let key = trial.key("k");
    let (mut tx, _) = trial.begin_two(&key).await?;
    ensure_held(&trial, &key).await?;
    trial.insert(&mut tx, "e").await?;
    ensure_held(&trial, &key).await?;
    ensure_eq!(tx.commit(Some(&record(&key, b"r"))).await?, Committed::Yes, "the holder's commit ended with");
    trial.ensure_count("e", 1).await?;
    trial.ensure_recorded(&key, Some(b"r")).await
}

async fn a_held_key_is_busy<D: Database>(trial: Trial<D>) -> Outcome {
    let key = trial.key("k");
    let (mut tx, _) = trial.begin(&key).await?;
    trial.insert(&mut tx, "e").await?;
    for store in [&trial.one, &trial.two] {
        for wait in [Duration::ZERO, Duration::from_millis(20)] {
            let begun = store.begin(&Claim { wait, ..claim(&key) }).await?;
            ensure!(matches!(begun, Begun::Busy), "after a wait of {wait:?} a held key is {begun:?}");
        }
    }
    ensure_eq!(tx.commit(Some(&record(&key, b"r"))).await?, Committed::Yes, "the holder's commit ended with");
    // Those who were told left nothing behind: neither a lock nor a connection that is in the way.
    trial.ensure_recorded(&key, Some(b"r")).await
}

async fn a_begin_dropped_anywhere_frees_the_key<D: Database>(trial: Trial<D>) -> Outcome {
    let key = trial.key("k");
    for polls in 0.. {
        let begun = drop_after(polls, begin(&trial.one, claim(&key))).await.transpose()?;
        let ended = begun.is_some();
        drop(begun);
        trial.ensure_untouched(&key, "e").await?;
        if ended {
            return Ok(());
        }
    }
    Ok(())
}

async fn a_begin_dropped_while_it_waits_frees_the_key<D: Database>(trial: Trial<D>) -> Outcome {
    let key = trial.key("k");
    let (mut tx, _) = trial.begin(&key).await?;
    trial.insert(&mut tx, "e").await?;
    let twin = trial.waiting_twin(&key).await?;
    twin.give_up().await;
    tx.rollback().await?;
    trial.ensure_untouched(&key, "e").await
}

async fn other_keys_do_not_wait<D: Database>(trial: Trial<D>) -> Outcome {
    let keys = [trial.key("a"), trial.key("b"), trial.key("c")];
    let mut open = Vec::new();
    for (key, store) in keys.iter().zip([&trial.one, &trial.two, &trial.one]) {
        let (tx, found) = begin(store, Claim { wait: Duration::ZERO, ..claim(key) }).await?;
        ensure_eq!(found, Found::Absent, "`begin` finds");
        open.push((key, tx));
    }
    for (key, mut tx) in open {
        trial.insert(&mut tx, key.readable()).await?;
        ensure_eq!(tx.commit(Some(&record(key, b"r"))).await?, Committed::Yes, "the commit ended with");
    }
    for key in &keys {
        trial.ensure_count(key.readable(), 1).await?;
    }
    Ok(())
}

async fn one_of_sixteen_begins_runs<D: Database>(trial: Trial<D>) -> Outcome {
    let key = trial.key("k");
    let barrier = Arc::new(Barrier::new(16));
    let holders = Arc::new(AtomicU32::new(0));
    let mut runs = JoinSet::new();
    for number in 0..16 {
        let store = Arc::clone(if number % 2 == 0 { &trial.one } else { &trial.two });
        let (fixture, key) = (Arc::clone(&trial.fixture), key.clone());
        let (barrier, holders) = (Arc::clone(&barrier), Arc::clone(&holders));
        runs.spawn(async move {
            barrier.wait().await;
            let (mut tx, found) = begin(&store, claim(&key)).await?;
            if found != Found::Absent {
                ensure_eq!(found, Found::Record(recorded(b"r")), "one that does not run finds");
                tx.rollback().await?;
                return Ok::<_, BoxError>(false);
            }
            ensure!(
                holders.fetch_add(1, Ordering::SeqCst) == 0,
                "two begins found the key absent before any commit"
            );
            // The others have to meet a run that is open.
            fixture.until_blocked().await?;
            fixture.insert(tx.connection(), "e").await?;
            let committed = tx.commit(Some(&record(&key, b"r"))).await?;
            ensure_eq!(committed, Committed::Yes, "the commit of the one that runs ended with");
            Ok(true)
        });
    }
    let mut ran = 0;
    while let Some(run) = runs.join_next().await {
        ran += u32::from(run??);
    }
    ensure_eq!(ran, 1, "the number of runs is");
    trial.ensure_count("e", 1).await
}
