//! What a body may do inside the transaction.

use idem_runtime::store::{Committed, Database, Found, NewTask};

use super::{Outcome, law};
use crate::conformance::suite::Law;
use crate::conformance::trial::{Trial, ensure, ensure_eq, record};
use crate::conformance::{BoxError, NestedEnd, TransactionEnd};

pub(super) fn laws<D: Database>() -> Vec<Law<D>> {
    vec![
        law!(
            undo_discards_the_body_and_keeps_the_key,
            "After an undo the body's effects are gone, the transaction is usable and the key is still \
             held; it can be undone again."
        ),
        law!(
            undo_violation_recovers_from_the_named_constraint,
            "After a violation of the named constraint the body's effects are gone, and the transaction \
             commits what follows.",
            needs UniqueConstraints
        ),
        law!(
            undo_violation_tells_other_errors_apart,
            "A violation of another constraint, and an error that is none, are not taken for the named one.",
            needs UniqueConstraints
        ),
        law!(
            a_nested_commit_is_a_savepoint,
            "A transaction that the body commits inside its own is durable with the record, and not before.",
            needs NestedTransactions
        ),
        law!(
            a_nested_rollback_is_a_savepoint,
            "A transaction that the body rolls back or drops inside its own leaves the rest of the body's \
             effects alone.",
            needs NestedTransactions
        ),
        law!(
            a_swallowed_error_never_parts_record_and_effect,
            "A body that swallows a database error commits its effects with the record, or neither.",
            needs UniqueConstraints
        ),
        law!(
            a_body_that_ends_its_transaction_records_nothing,
            "A body that ends the transaction itself gets no record, and the connection is not used in that \
             state again.",
            needs EndedTransactions
        ),
        law!(
            what_a_body_enqueues_commits_with_it,
            "Tasks of a transaction are in the outbox, in their order, once it commits, and never were there if not."
        ),
        law!(
            a_body_that_ends_its_transaction_enqueues_nothing,
            "A body that has ended the transaction itself puts nothing into the outbox.",
            needs EndedTransactions
        ),
    ]
}

async fn undo_discards_the_body_and_keeps_the_key<D: Database>(trial: Trial<D>) -> Outcome {
    let key = trial.key("k");
    let (mut tx, _) = trial.begin(&key).await?;
    for undone in ["first", "second"] {
        trial.insert(&mut tx, undone).await?;
        tx.undo().await?;
    }
    let twin = trial.waiting_twin(&key).await?;
    trial.insert(&mut tx, "third").await?;
    ensure_eq!(tx.commit(Some(&record(&key, b"r"))).await?, Committed::Yes, "the commit ended with");
    let (tx, found) = twin.opened().await?;
    ensure!(matches!(found, Found::Record(_)), "a twin that waited through an undo finds {found:?}");
    tx.rollback().await?;
    trial.ensure_count("first", 0).await?;
    trial.ensure_count("second", 0).await?;
    trial.ensure_count("third", 1).await
}

async fn undo_violation_recovers_from_the_named_constraint<D: Database>(trial: Trial<D>) -> Outcome {
    let key = trial.key("k");
    let (mut tx, _) = trial.begin(&key).await?;
    trial.insert(&mut tx, "undone").await?;
    let violation = trial.fixture.violate(tx.connection()).await?;
    // As a job has it: inside an error of its own.
    let error = JobError(violation.error);
    ensure!(
        tx.undo_violation(&error, &violation.constraint).await?,
        "a violation of `{}` was not recognised: {:?}",
        violation.constraint,
        error
    );
    trial.insert(&mut tx, "kept").await?;
    ensure_eq!(tx.commit(Some(&record(&key, b"adopted"))).await?, Committed::Yes, "the commit ended with");
    trial.ensure_count("undone", 0).await?;
    trial.ensure_count("kept", 1).await?;
    trial.ensure_recorded(&key, Some(b"adopted")).await
}

async fn undo_violation_tells_other_errors_apart<D: Database>(trial: Trial<D>) -> Outcome {
    let key = trial.key("k");
    let (mut tx, _) = trial.begin(&key).await?;
    trial.insert(&mut tx, "e").await?;
    let harmless = JobError("no error of the database".into());
    ensure!(!tx.undo_violation(&harmless, "x").await?, "an error that is no violation was taken for one");
    let violation = trial.fixture.violate(tx.connection()).await?;
    let longer = format!("{}_too", violation.constraint);
    for other in [longer.as_str(), "", "%"] {
        let taken = tx.undo_violation(&*violation.error, other).await?;
        ensure!(!taken, "a violation of `{}` was taken for one of {other:?}", violation.constraint);
    }
    tx.rollback().await?;
    trial.ensure_untouched(&key, "e").await
}

async fn a_nested_commit_is_a_savepoint<D: Database>(trial: Trial<D>) -> Outcome {
    let key = trial.key("k");
    let (mut tx, _) = trial.begin(&key).await?;
    trial.fixture.insert_nested(tx.connection(), "nested", NestedEnd::Commit).await?;
    trial.ensure_count("nested", 0).await?;
    tx.rollback().await?;
    trial.ensure_untouched(&key, "nested").await?;

    // On a connection that was used before as well.
    let (mut tx, _) = trial.begin(&key).await?;
    trial.fixture.insert_nested(tx.connection(), "nested", NestedEnd::Commit).await?;
    ensure_eq!(tx.commit(Some(&record(&key, b"r"))).await?, Committed::Yes, "the commit ended with");
    trial.ensure_count("nested", 1).await?;
    trial.ensure_recorded(&key, Some(b"r")).await
}

async fn a_nested_rollback_is_a_savepoint<D: Database>(trial: Trial<D>) -> Outcome {
    for (name, end) in [("rollback", NestedEnd::Rollback), ("drop", NestedEnd::Drop)] {
        for round in 0..2 {
            let key = trial.key(&format!("{name}{round}"));
            let (before, after) = (format!("{name}{round}-before"), format!("{name}{round}-after"));
            let (mut tx, _) = trial.begin(&key).await?;
            trial.insert(&mut tx, &before).await?;
            trial.fixture.insert_nested(tx.connection(), "nested", end).await?;
            // Once with a statement behind it, once with the commit right behind it.
            if round == 0 {
                trial.insert(&mut tx, &after).await?;
            }
            ensure_eq!(tx.commit(Some(&record(&key, b"r"))).await?, Committed::Yes, "the commit ended with");
            trial.ensure_count(&before, 1).await?;
            trial.ensure_count(&after, 1 - round).await?;
            trial.ensure_recorded(&key, Some(b"r")).await?;
        }
    }
    trial.ensure_count("nested", 0).await
}

async fn a_swallowed_error_never_parts_record_and_effect<D: Database>(trial: Trial<D>) -> Outcome {
    for with_record in [true, false] {
        let (key, effect) = (trial.key(&format!("k{with_record}")), format!("e{with_record}"));
        let (mut tx, _) = trial.begin(&key).await?;
        trial.insert(&mut tx, &effect).await?;
        trial.fixture.violate(tx.connection()).await?;
        let new = record(&key, b"r");
        let committed = tx.commit(with_record.then_some(&new)).await;
        let happened = trial.fixture.count(&effect).await?;
        match committed {
            Ok(Committed::Yes) => {
                ensure_eq!(happened, 1, "after a commit the number of effects is");
                trial.ensure_recorded(&key, with_record.then_some(b"r")).await?;
            }
            Ok(other) => return Err(format!("a commit after an error ended with {other:?}").into()),
            Err(_) => trial.ensure_untouched(&key, &effect).await?,
        }
    }
    Ok(())
}

async fn a_body_that_ends_its_transaction_records_nothing<D: Database>(trial: Trial<D>) -> Outcome {
    for (name, end) in [("commit", TransactionEnd::Commit), ("rollback", TransactionEnd::Rollback)] {
        for with_record in [true, false] {
            let key = trial.key(&format!("{name}{with_record}"));
            let (mut tx, _) = trial.begin(&key).await?;
            trial.insert(&mut tx, "e").await?;
            trial.fixture.end_transaction(tx.connection(), end).await?;
            let new = record(&key, b"r");
            let committed = tx.commit(with_record.then_some(&new)).await;
            ensure!(committed.is_err(), "a commit after the body's own {name} ended with {committed:?}");
            trial.ensure_recorded(&key, None).await?;
            // What comes next is in order again.
            trial.complete(&key, name, b"next").await?;
            trial.ensure_recorded(&key, Some(b"next")).await?;
        }
        trial.ensure_count(name, 2).await?;
    }
    Ok(())
}

async fn what_a_body_enqueues_commits_with_it<D: Database>(trial: Trial<D>) -> Outcome {
    let nothing: [&str; 0] = [];
    let (mut tx, _) = trial.begin(&trial.key("rolled back")).await?;
    tx.enqueue(&[task(&trial, "gone")]).await?;
    tx.rollback().await?;
    ensure_enqueued(&trial, &nothing).await?;
    let key = trial.key("committed");
    let (mut tx, _) = trial.begin(&key).await?;
    tx.enqueue(&["b", "a"].map(|name| task(&trial, name))).await?;
    ensure_enqueued(&trial, &nothing).await?;
    ensure_eq!(tx.commit(Some(&record(&key, b"r"))).await?, Committed::Yes, "the commit ended with");
    ensure_enqueued(&trial, &["b", "a"]).await?;
    let (mut tx, _) = trial.begin(&trial.key("without a record")).await?;
    tx.enqueue(&[task(&trial, "c")]).await?;
    ensure_eq!(tx.commit(None).await?, Committed::Yes, "the commit ended with");
    ensure_enqueued(&trial, &["b", "a", "c"]).await
}

async fn a_body_that_ends_its_transaction_enqueues_nothing<D: Database>(trial: Trial<D>) -> Outcome {
    for (name, end) in [("commit", TransactionEnd::Commit), ("rollback", TransactionEnd::Rollback)] {
        let (mut tx, _) = trial.begin(&trial.key(name)).await?;
        trial.fixture.end_transaction(tx.connection(), end).await?;
        let enqueued = tx.enqueue(&[task(&trial, name)]).await;
        ensure!(enqueued.is_err(), "after the body's own {name} tasks were enqueued");
        drop(tx);
        ensure_enqueued(&trial, &[]).await?;
    }
    Ok(())
}

/// A task that a job enqueues.
fn task<D: Database>(trial: &Trial<D>, name: &str) -> NewTask {
    NewTask {
        namespace: trial.namespace().to_owned(),
        id: trial.key(name).hash(),
        job: String::from("law"),
        key: name.to_owned(),
        payload: name.as_bytes().to_vec(),
    }
}

/// Checks what is in the outbox, as the second handle sees it.
async fn ensure_enqueued<D: Database>(trial: &Trial<D>, expected: &[&str]) -> Result<(), BoxError> {
    let rows = trial.two.tasks(trial.namespace(), i64::MIN, 1000).await?;
    let found: Vec<NewTask> = rows.into_iter().map(|row| row.task).collect();
    let expected: Vec<NewTask> = expected.iter().map(|name| task(trial, name)).collect();
    ensure_eq!(found, expected, "the outbox has");
    Ok(())
}

/// An error of a job, with the database's as its cause.
#[derive(Debug)]
struct JobError(BoxError);

impl std::fmt::Display for JobError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the job failed")
    }
}

impl std::error::Error for JobError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&*self.0)
    }
}
