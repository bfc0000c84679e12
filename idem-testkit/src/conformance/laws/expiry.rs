//! How long a record answers, and what the sweep deletes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use idem_runtime::job::Retain;
use idem_runtime::key::KeyHash;
use idem_runtime::store::{Committed, Database, Found, Swept};
use tokio::task::JoinSet;

use super::{Outcome, law};
use crate::conformance::BoxError;
use crate::conformance::suite::Law;
use crate::conformance::trial::{RETAINED, Trial, begin, claim, ensure, ensure_eq, record, unlocked};

pub(super) fn laws<D: Database>() -> Vec<Law<D>> {
    vec![
        law!(
            an_expired_key_begins_as_absent,
            "A key whose record has expired is found absent by every begin, locked or not."
        ),
        law!(an_expired_record_is_not_read, "A record that has expired is not returned by read."),
        law!(
            an_expired_record_is_replaced,
            "A run of a key whose record has expired records its own result, which lives its own time."
        ),
        law!(
            a_record_answers_for_its_whole_retention,
            "A record is live until its retention has passed, and no longer."
        ),
        law!(
            for_ever_never_expires,
            "A record without an end, or with one beyond every clock, never expires and is never swept."
        ),
        law!(
            one_run_replaces_an_expired_record,
            "Of two unlocked runs over an expired record the second to commit loses the race.",
            needs ConcurrentTransactions
        ),
        law!(a_sweep_disturbs_no_run, "Runs over expired records commit while sweeps go on beside them."),
        law!(a_sweep_deletes_only_what_has_expired, "A sweep deletes every expired record and no other."),
        law!(
            a_sweep_goes_in_bounded_batches_to_its_end,
            "A sweep looks at no more records than its limit, and its cursors lead through all of them to \
             an end."
        ),
        law!(
            a_sweep_spares_what_was_replaced_meanwhile,
            "A sweep that runs beside a run which replaces an expired record does not delete the new one."
        ),
    ]
}

async fn an_expired_key_begins_as_absent<D: Database>(trial: Trial<D>) -> Outcome {
    let key = trial.key("k");
    trial.complete(&key, "e", b"r").await?;
    trial.fixture.let_pass(RETAINED * 2).await?;
    for store in [&trial.one, &trial.two] {
        for claim in [claim(&key), unlocked(&key)] {
            let (tx, found) = begin(store, claim).await?;
            ensure_eq!(found, Found::Absent, "an expired key was found");
            tx.rollback().await?;
        }
    }
    Ok(())
}

async fn an_expired_record_is_not_read<D: Database>(trial: Trial<D>) -> Outcome {
    let key = trial.key("k");
    trial.complete(&key, "e", b"r").await?;
    trial.fixture.let_pass(RETAINED * 2).await?;
    for store in [&trial.one, &trial.two] {
        let read = store.read(key.hash()).await?;
        ensure_eq!(read, None, "of an expired record `read` returns");
    }
    Ok(())
}

async fn an_expired_record_is_replaced<D: Database>(trial: Trial<D>) -> Outcome {
    let key = trial.key("k");
    trial.complete(&key, "first", b"first").await?;
    trial.fixture.let_pass(RETAINED * 2).await?;
    trial.complete(&key, "second", b"second").await?;
    trial.ensure_recorded(&key, Some(b"second")).await?;
    trial.ensure_count("second", 1).await?;
    trial.fixture.let_pass(RETAINED / 2).await?;
    trial.ensure_recorded(&key, Some(b"second")).await?;
    trial.fixture.let_pass(RETAINED).await?;
    trial.ensure_recorded(&key, None).await
}

async fn a_record_answers_for_its_whole_retention<D: Database>(trial: Trial<D>) -> Outcome {
    let (short, long) = (trial.key("short"), trial.key("long"));
    trial.complete(&short, "e", b"short").await?;
    trial.complete_for(&long, "e", b"long", Retain::For(RETAINED * 100)).await?;
    // Minutes to either side, so that the time that the law itself takes does not matter.
    let minutes = |n: u64| Duration::from_secs(60 * n);
    trial.fixture.let_pass(RETAINED - minutes(5)).await?;
    trial.ensure_recorded(&short, Some(b"short")).await?;
    trial.fixture.let_pass(minutes(6)).await?;
    trial.ensure_recorded(&short, None).await?;
    trial.ensure_recorded(&long, Some(b"long")).await?;
    trial.fixture.let_pass(RETAINED * 100).await?;
    trial.ensure_recorded(&long, None).await
}

async fn for_ever_never_expires<D: Database>(trial: Trial<D>) -> Outcome {
    let forever = [
        (trial.key("forever"), Retain::Forever),
        (trial.key("longest"), Retain::For(Duration::MAX)),
        (trial.key("long"), Retain::For(Duration::from_secs(100_000 * 366 * 24 * 60 * 60))),
    ];
    for (key, retain) in &forever {
        trial.complete_for(key, "e", b"r", *retain).await?;
    }
    trial.fixture.let_pass(RETAINED * 24 * 366 * 50).await?;
    sweep_all(&trial, 100).await?;
    for (key, _) in &forever {
        trial.ensure_recorded(key, Some(b"r")).await?;
    }
    Ok(())
}

async fn one_run_replaces_an_expired_record<D: Database>(trial: Trial<D>) -> Outcome {
    let key = trial.key("k");
    trial.complete(&key, "old", b"old").await?;
    trial.fixture.let_pass(RETAINED * 2).await?;
    trial.race(&key).await?;
    trial.ensure_count("loser", 0).await?;
    trial.ensure_recorded(&key, Some(b"winner")).await
}

async fn a_sweep_deletes_only_what_has_expired<D: Database>(trial: Trial<D>) -> Outcome {
    let name = |kind: &str, n: u32| format!("{kind}{n}");
    for n in 0..5 {
        trial.complete(&trial.key(&name("expired", n)), "e", b"r").await?;
        trial.complete_for(&trial.key(&name("live", n)), "e", b"r", Retain::For(RETAINED * 100)).await?;
        trial.complete_for(&trial.key(&name("forever", n)), "e", b"r", Retain::Forever).await?;
    }
    ensure_eq!(sweep_all(&trial, 100).await?.deleted, 0, "while all are live the number swept is");
    trial.fixture.let_pass(RETAINED * 2).await?;
    ensure_eq!(sweep_all(&trial, 100).await?.deleted, 5, "the number swept is");
    ensure_eq!(sweep_all(&trial, 100).await?.deleted, 0, "the second time the number swept is");
    for n in 0..5 {
        trial.ensure_recorded(&trial.key(&name("expired", n)), None).await?;
        trial.ensure_recorded(&trial.key(&name("live", n)), Some(b"r")).await?;
        trial.ensure_recorded(&trial.key(&name("forever", n)), Some(b"r")).await?;
    }
    Ok(())
}

async fn a_sweep_goes_in_bounded_batches_to_its_end<D: Database>(trial: Trial<D>) -> Outcome {
    for n in 0..12 {
        // Every third is live, so that batches delete less than they look at.
        let retain = if n % 3 == 0 { Retain::Forever } else { Retain::For(RETAINED) };
        trial.complete_for(&trial.key(&format!("k{n}")), "e", b"r", retain).await?;
    }
    trial.fixture.let_pass(RETAINED * 2).await?;
    let swept = sweep_all(&trial, 5).await?;
    ensure_eq!(swept.deleted, 8, "the number swept is");
    ensure!(swept.batches >= 3, "12 records were swept in {} batches of 5", swept.batches);
    let one_by_one = sweep_all(&trial, 1).await?;
    ensure_eq!(one_by_one.deleted, 0, "the second time the number swept is");
    ensure!(one_by_one.batches >= 4, "4 records were looked at in {} batches of 1", one_by_one.batches);
    Ok(())
}

async fn a_sweep_spares_what_was_replaced_meanwhile<D: Database>(trial: Trial<D>) -> Outcome {
    for n in 0..10 {
        let key = trial.key(&format!("k{n}"));
        trial.complete(&key, "old", b"old").await?;
        trial.fixture.let_pass(RETAINED * 2).await?;
        let (mut tx, found) = trial.begin(&key).await?;
        ensure_eq!(found, Found::Absent, "`begin` finds");
        trial.insert(&mut tx, "new").await?;
        // At once with the commit, or behind it.
        let store = Arc::clone(&trial.two);
        let sweep = tokio::spawn(async move { store.sweep(None, 100).await });
        if n % 2 == 0 {
            tokio::task::yield_now().await;
        }
        ensure_eq!(tx.commit(Some(&record(&key, b"new"))).await?, Committed::Yes, "the commit ended with");
        let swept = sweep.await??;
        ensure!(swept.deleted <= 1, "a sweep deleted {} records where one had expired", swept.deleted);
        trial.ensure_recorded(&key, Some(b"new")).await?;
        trial.fixture.let_pass(RETAINED * 2).await?;
        sweep_all(&trial, 100).await?;
    }
    trial.ensure_count("new", 10).await
}

async fn a_sweep_disturbs_no_run<D: Database>(trial: Trial<D>) -> Outcome {
    for round in 0..4 {
        let mut runs = JoinSet::new();
        for n in 0..12 {
            let key = trial.key(&format!("k{n}"));
            let (store, fixture) = (Arc::clone(&trial.one), Arc::clone(&trial.fixture));
            runs.spawn(async move {
                let (mut tx, found) = begin(&store, claim(&key)).await?;
                ensure_eq!(found, Found::Absent, "`begin` finds");
                fixture.insert(tx.connection(), "e").await?;
                let committed = tx.commit(Some(&record(&key, b"r"))).await?;
                ensure_eq!(committed, Committed::Yes, "beside a sweep the commit ended with");
                Ok::<_, BoxError>(())
            });
        }
        while !runs.is_empty() {
            sweep_all(&trial, 5).await.map_err(|error| format!("beside runs a sweep failed: {error}"))?;
            while let Some(run) = runs.try_join_next() {
                run??;
            }
            // A store that never has to wait would leave the runs no turn.
            tokio::task::yield_now().await;
        }
        trial.ensure_count("e", 12 * (round + 1)).await?;
        trial.fixture.let_pass(RETAINED * 2).await?;
    }
    Ok(())
}

/// What a whole sweep did.
struct Swepts {
    deleted: u64,
    batches: usize,
}

/// Sweeps to the end, and checks on the way that batches are bounded and cursors only go forward.
async fn sweep_all<D: Database>(trial: &Trial<D>, limit: u32) -> Result<Swepts, BoxError> {
    let mut cursors: BTreeSet<Option<KeyHash>> = BTreeSet::new();
    let mut done = Swepts { deleted: 0, batches: 0 };
    let mut cursor = None;
    loop {
        ensure!(cursors.insert(cursor), "the sweep came to {cursor:?} for the second time");
        let Swept { deleted, cursor: next } = trial.two.sweep(cursor, limit).await?;
        ensure!(deleted <= u64::from(limit), "a batch of {limit} deleted {deleted} records");
        done.deleted += deleted;
        done.batches += 1;
        match next {
            None => return Ok(done),
            next => {
                ensure!(next > cursor, "the sweep went back from {cursor:?} to {next:?}");
                cursor = next;
            }
        }
    }
}
