//! Tables and the numbers of jobs.

use std::collections::BTreeSet;
use std::sync::Arc;

use idem_runtime::StoreErrorKind;
use idem_runtime::record::JobId;
use idem_runtime::store::{Database, Found};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use super::{Outcome, law};
use crate::conformance::BoxError;
use crate::conformance::suite::Law;
use crate::conformance::trial::{Trial, begin, claim, ensure, ensure_eq, record};

pub(super) fn laws<D: Database>() -> Vec<Law<D>> {
    vec![
        law!(
            a_job_keeps_its_number,
            "A job has the same number on every handle and at every enrolment, and no other job of any \
             namespace has it."
        ),
        law!(
            a_name_enrolled_at_once_has_one_number,
            "Enrolments of one new name at the same time, on both handles, all return one number."
        ),
        law!(
            migrating_again_changes_nothing,
            "A migration of up-to-date tables succeeds and leaves the records alone."
        ),
        law!(
            migrations_at_once_do_not_collide,
            "Migrations of one empty database at the same time all succeed, and one of them tells that it has done it.",
            needs Tables
        ),
        law!(
            missing_tables_are_told,
            "A store without tables says that they are missing and what creates them, whatever it is asked.",
            needs Tables
        ),
        law!(
            table_prefixes_do_not_meet,
            "Two table prefixes in one database know nothing of each other's records and jobs.",
            needs Tables
        ),
    ]
}

async fn a_job_keeps_its_number<D: Database>(trial: Trial<D>) -> Outcome {
    let names = ["pay", "Pay", "pay ", "it's", "zahlung_ü", &"n".repeat(200)];
    let mut numbers = BTreeSet::new();
    for namespace in ["a", "b"] {
        for name in names {
            let number = trial.one.enrol(namespace, name).await?;
            ensure!(
                numbers.insert(number),
                "the number {number} of `{namespace}`/`{name}` is another job's already"
            );
            for store in [&trial.two, &trial.one] {
                let again = store.enrol(namespace, name).await?;
                ensure_eq!(again, number, "the number of `{namespace}`/`{name}` is");
            }
        }
    }
    Ok(())
}

async fn a_name_enrolled_at_once_has_one_number<D: Database>(trial: Trial<D>) -> Outcome {
    let barrier = Arc::new(Barrier::new(12));
    let mut enrolments = JoinSet::new();
    for number in 0..12 {
        let store = Arc::clone(if number % 2 == 0 { &trial.one } else { &trial.two });
        let barrier = Arc::clone(&barrier);
        enrolments.spawn(async move {
            barrier.wait().await;
            store.enrol("at once", "job").await
        });
    }
    let mut numbers = BTreeSet::new();
    while let Some(number) = enrolments.join_next().await {
        numbers.insert(number??);
    }
    ensure!(numbers.len() == 1, "one name has the numbers {numbers:?}");
    Ok(())
}

async fn migrating_again_changes_nothing<D: Database>(trial: Trial<D>) -> Outcome {
    let key = trial.key("k");
    let number = trial.one.enrol("a", "job").await?;
    trial.complete(&key, "e", b"r").await?;
    let (one, two) = tokio::join!(trial.one.migrate(), trial.two.migrate());
    let again = [one?, two?, trial.one.migrate().await?];
    ensure_eq!(again, [false; 3], "whether another migration has done anything is");
    ensure_eq!(
        trial.two.enrol("a", "job").await?,
        number,
        "after another migration the number of the job is"
    );
    trial.ensure_recorded(&key, Some(b"r")).await
}

async fn migrations_at_once_do_not_collide<D: Database>(trial: Trial<D>) -> Outcome {
    let barrier = Arc::new(Barrier::new(4));
    let mut migrations = JoinSet::new();
    for _ in 0..4 {
        let store = trial.fixture.store_with_prefix("fresh_").await?;
        let barrier = Arc::clone(&barrier);
        migrations.spawn(async move {
            barrier.wait().await;
            store.migrate().await.map(|done| (store, done))
        });
    }
    let key = trial.key("k");
    let mut who_did = 0;
    while let Some(migrated) = migrations.join_next().await {
        let (store, done) = migrated??;
        who_did += usize::from(done);
        let (tx, _) = begin(&store, claim(&key)).await?;
        tx.rollback().await?;
    }
    ensure_eq!(who_did, 1, "the number of migrations that have done anything is");
    Ok(())
}

async fn missing_tables_are_told<D: Database>(trial: Trial<D>) -> Outcome {
    let key = trial.key("k");
    let store = trial.fixture.store_with_prefix("unmade_").await?;
    let begun = store.begin(&claim(&key)).await.map(|_| ());
    let read = store.read(key.hash()).await.map(|_| ());
    let enrolled = store.enrol("a", "job").await.map(|_| ());
    let swept = store.sweep(None, 100).await.map(|_| ());
    let tick = store.last_tick(JobId(1)).await.map(|_| ());
    let answers =
        [("begin", begun), ("read", read), ("enrol", enrolled), ("sweep", swept), ("last_tick", tick)];
    for (what, answer) in answers {
        let Err(error) = answer else { return Err(format!("`{what}` succeeds without tables").into()) };
        ensure_eq!(error.kind(), StoreErrorKind::NotMigrated, "without tables `{what}` fails ({error}) with");
        ensure!(
            error.to_string().contains("migrat"),
            "`{what}` does not say what creates the tables: {error}"
        );
        ensure!(!error.is_temporary(), "`{what}` calls it temporary: {error}");
    }
    // And nothing of that is in the way of the migration, or of what comes after it.
    store.migrate().await?;
    let (tx, found) = begin(&store, claim(&key)).await?;
    ensure_eq!(found, Found::Absent, "after the migration `begin` finds");
    tx.rollback().await?;
    Ok(())
}

async fn table_prefixes_do_not_meet<D: Database>(trial: Trial<D>) -> Outcome {
    let key = trial.key("k");
    let other = trial.fixture.store_with_prefix("other_").await?;
    other.migrate().await?;
    trial.complete(&key, "e", b"r").await?;
    ensure_eq!(other.read(key.hash()).await?, None, "under another prefix `read` returns");
    let (tx, found) = begin(&other, claim(&key)).await?;
    ensure_eq!(found, Found::Absent, "under another prefix `begin` finds");
    tx.commit(Some(&record(&key, b"other"))).await?;
    trial.ensure_recorded(&key, Some(b"r")).await?;
    let read = other.read(key.hash()).await?.map(|record| record.result);
    ensure_eq!(read, Some(b"other".to_vec()), "under its own prefix `read` returns");
    for name in ["one", "two", "three"] {
        trial.one.enrol("a", name).await?;
    }
    let number = other.enrol("a", "three").await?;
    ensure_eq!(other.enrol("a", "three").await?, number, "under another prefix the number of a job is");
    Ok::<_, BoxError>(())
}
