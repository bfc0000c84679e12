//! Record and effect, together or not at all.

use idem_runtime::store::{Claim, Committed, Database, Found, KeyLock};

use super::{Outcome, law};
use crate::conformance::suite::Law;
use crate::conformance::trial::{
    Trial, begin, claim, drop_after, ensure, ensure_eq, record, recorded, unlocked,
};

pub(super) fn laws<D: Database>() -> Vec<Law<D>> {
    vec![
        law!(
            an_absent_key_opens_and_records,
            "A key without a record is found absent, and its commit is answered with yes."
        ),
        law!(
            a_record_commits_with_its_effect,
            "Once the commit is answered, the effect has happened once and the record is there, on every \
             handle."
        ),
        law!(
            every_kind_of_claim_commits,
            "A run commits the same with or without the lock, with or without the means to undo."
        ),
        law!(
            a_recorded_key_is_never_absent_again,
            "A key with a live record is found recorded by every begin and every read, however often."
        ),
        law!(
            a_live_record_is_never_replaced,
            "A commit over a live record is a lost race: the record stays as it was and the new effect is \
             undone."
        ),
        law!(
            an_open_run_is_invisible,
            "Before the commit nobody else sees effect or record, and reading does not wait for it."
        ),
        law!(
            a_rollback_leaves_nothing,
            "After a rollback there is neither effect nor record, and the key is free."
        ),
        law!(
            a_dropped_transaction_leaves_nothing,
            "After the transaction is dropped there is neither effect nor record, and the key becomes free."
        ),
        law!(
            a_commit_without_record_commits_the_effect,
            "A commit without a record makes the effect durable and leaves the key absent and free."
        ),
        law!(
            a_commit_dropped_anywhere_is_all_or_nothing,
            "A commit whose future is dropped at any of its awaits leaves both effect and record or \
             neither, and frees the key."
        ),
        law!(
            the_loser_of_a_race_leaves_nothing,
            "Of two unlocked runs of a key the second to commit loses the race: its effect is undone and \
             the winner's record stays.",
            needs ConcurrentTransactions
        ),
        law!(
            an_unlocked_commit_dropped_anywhere_is_all_or_nothing,
            "An unlocked run that loses its race and is dropped at any of its awaits never leaves its \
             effect.",
            needs ConcurrentTransactions
        ),
    ]
}

async fn an_absent_key_opens_and_records<D: Database>(trial: Trial<D>) -> Outcome {
    let key = trial.key("k");
    let (tx, found) = trial.begin(&key).await?;
    ensure_eq!(found, Found::Absent, "a key of a new database was found");
    ensure_eq!(tx.commit(Some(&record(&key, b"r"))).await?, Committed::Yes, "the commit ended with");
    let read = trial.one.read(key.hash()).await?;
    ensure_eq!(read, Some(recorded(b"r")), "`read` returns");
    Ok(())
}

async fn a_record_commits_with_its_effect<D: Database>(trial: Trial<D>) -> Outcome {
    let key = trial.key("k");
    trial.complete(&key, "e", b"r").await?;
    trial.ensure_count("e", 1).await?;
    trial.ensure_recorded(&key, Some(b"r")).await
}

async fn every_kind_of_claim_commits<D: Database>(trial: Trial<D>) -> Outcome {
    for lock in [KeyLock::Key, KeyLock::None] {
        for undo in [true, false] {
            let key = trial.key(&format!("{lock:?}{undo}"));
            let claim = Claim { lock, undo, ..claim(&key) };
            let (mut tx, found) = begin(&trial.one, claim).await?;
            ensure_eq!(found, Found::Absent, "`begin` finds");
            trial.insert(&mut tx, "undone").await?;
            tx.rollback().await?;
            let (mut tx, _) = begin(&trial.one, claim).await?;
            trial.insert(&mut tx, key.readable()).await?;
            ensure_eq!(tx.commit(Some(&record(&key, b"r"))).await?, Committed::Yes, "the commit ended with");
            let (tx, found) = begin(&trial.two, claim).await?;
            ensure_eq!(found, Found::Record(recorded(b"r")), "`begin` finds");
            drop(tx);
            trial.ensure_count(key.readable(), 1).await?;
        }
    }
    trial.ensure_count("undone", 0).await
}

async fn a_recorded_key_is_never_absent_again<D: Database>(trial: Trial<D>) -> Outcome {
    let key = trial.key("k");
    trial.complete(&key, "e", b"r").await?;
    for _ in 0..3 {
        trial.ensure_recorded(&key, Some(b"r")).await?;
        let (tx, found) = trial.begin_two(&key).await?;
        ensure_eq!(found, Found::Record(recorded(b"r")), "`begin` finds");
        // As a replay ends it.
        drop(tx);
        let (tx, found) = begin(&trial.one, unlocked(&key)).await?;
        ensure_eq!(found, Found::Record(recorded(b"r")), "`begin` without a lock finds");
        tx.rollback().await?;
    }
    trial.ensure_count("e", 1).await
}

async fn a_live_record_is_never_replaced<D: Database>(trial: Trial<D>) -> Outcome {
    let key = trial.key("k");
    trial.complete(&key, "first", b"first").await?;
    let (mut tx, found) = trial.begin_two(&key).await?;
    ensure_eq!(found, Found::Record(recorded(b"first")), "`begin` finds");
    trial.insert(&mut tx, "second").await?;
    let committed = tx.commit(Some(&record(&key, b"second"))).await?;
    ensure_eq!(committed, Committed::LostRace, "a commit over a live record ended with");
    trial.ensure_recorded(&key, Some(b"first")).await?;
    trial.ensure_count("second", 0).await?;
    trial.ensure_count("first", 1).await
}

async fn an_open_run_is_invisible<D: Database>(trial: Trial<D>) -> Outcome {
    let key = trial.key("k");
    let (mut tx, _) = trial.begin(&key).await?;
    trial.insert(&mut tx, "e").await?;
    trial.ensure_count("e", 0).await?;
    for store in [&trial.one, &trial.two] {
        let read = store.read(key.hash()).await?;
        ensure_eq!(read, None, "before the commit `read` returns");
    }
    ensure_eq!(tx.commit(Some(&record(&key, b"r"))).await?, Committed::Yes, "the commit ended with");
    trial.ensure_count("e", 1).await?;
    trial.ensure_recorded(&key, Some(b"r")).await
}

async fn a_rollback_leaves_nothing<D: Database>(trial: Trial<D>) -> Outcome {
    let key = trial.key("k");
    let (mut tx, _) = trial.begin(&key).await?;
    trial.insert(&mut tx, "e").await?;
    tx.rollback().await?;
    trial.ensure_untouched(&key, "e").await
}

async fn a_dropped_transaction_leaves_nothing<D: Database>(trial: Trial<D>) -> Outcome {
    let key = trial.key("k");
    let (tx, _) = trial.begin(&key).await?;
    drop(tx);
    let (mut tx, _) = trial.begin(&key).await?;
    trial.insert(&mut tx, "e").await?;
    drop(tx);
    trial.ensure_untouched(&key, "e").await
}

async fn a_commit_without_record_commits_the_effect<D: Database>(trial: Trial<D>) -> Outcome {
    let key = trial.key("k");
    let (mut tx, _) = trial.begin(&key).await?;
    trial.insert(&mut tx, "e").await?;
    ensure_eq!(tx.commit(None).await?, Committed::Yes, "the commit ended with");
    trial.ensure_count("e", 1).await?;
    trial.ensure_recorded(&key, None).await
}

async fn a_commit_dropped_anywhere_is_all_or_nothing<D: Database>(trial: Trial<D>) -> Outcome {
    for polls in 0.. {
        let (key, effect) = (trial.key(&format!("k{polls}")), format!("e{polls}"));
        let (mut tx, _) = trial.begin(&key).await?;
        trial.insert(&mut tx, &effect).await?;
        let ended = drop_after(polls, tx.commit(Some(&record(&key, b"r")))).await.transpose()?;
        let (tx, found) = trial.begin_two(&key).await?;
        let happened = trial.fixture.count(&effect).await?;
        match (&found, happened) {
            (Found::Absent, 0) => ensure!(ended.is_none(), "a commit ended with {ended:?} and left nothing"),
            (Found::Record(_), 1) => {}
            _ => {
                return Err(
                    format!("dropped after {polls} polls: {found:?} beside {happened} effects").into()
                );
            }
        }
        tx.rollback().await?;
        if ended.is_some() {
            return Ok(());
        }
    }
    Ok(())
}

async fn the_loser_of_a_race_leaves_nothing<D: Database>(trial: Trial<D>) -> Outcome {
    let key = trial.key("k");
    trial.race(&key).await?;
    trial.ensure_count("loser", 0).await?;
    trial.ensure_count("winner", 1).await?;
    trial.ensure_recorded(&key, Some(b"winner")).await
}

async fn an_unlocked_commit_dropped_anywhere_is_all_or_nothing<D: Database>(trial: Trial<D>) -> Outcome {
    for polls in 0.. {
        let (key, effect) = (trial.key(&format!("k{polls}")), format!("loser{polls}"));
        let (mut loser, _) = begin(&trial.one, unlocked(&key)).await?;
        trial.insert(&mut loser, &effect).await?;
        trial.complete(&key, "winner", b"winner").await?;
        let ended = drop_after(polls, loser.commit(Some(&record(&key, b"loser")))).await.transpose()?;
        trial.ensure_recorded(&key, Some(b"winner")).await?;
        trial.ensure_count(&effect, 0).await?;
        if let Some(ended) = ended {
            ensure_eq!(ended, Committed::LostRace, "the loser's commit ended with");
            return Ok(());
        }
    }
    Ok(())
}
