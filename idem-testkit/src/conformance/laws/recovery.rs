//! Connections that are lost.

use idem_runtime::store::{Committed, Database, Found};

use super::{Outcome, law};
use crate::conformance::BusinessRow;
use crate::conformance::suite::Law;
use crate::conformance::trial::{Trial, ensure, ensure_eq, record};

pub(super) fn laws<D: Database>() -> Vec<Law<D>> {
    vec![
        law!(
            connections_killed_while_idle_are_replaced,
            "After the server has closed the store's idle connections, the next begin and the next read \
             succeed.",
            needs LostConnections
        ),
        law!(
            killed_connections_spoil_no_other_call,
            "After the server has closed the store's idle connections, the next sweep, enrolment, check and \
             migration succeed.",
            needs LostConnections
        ),
        law!(
            a_connection_killed_inside_a_run_leaves_nothing,
            "A run whose connection is killed before its commit has neither effect nor record, says so, and \
             frees the key.",
            needs LostConnections
        ),
    ]
}

async fn connections_killed_while_idle_are_replaced<D: Database>(trial: Trial<D>) -> Outcome {
    let (one, two) = (trial.key("one"), trial.key("two"));
    trial.complete(&one, "e", b"r").await?;
    // Several idle connections, so that more than one is found dead.
    let (first, _) = trial.begin(&one).await?;
    let (second, _) = trial.begin(&two).await?;
    first.rollback().await?;
    second.rollback().await?;
    trial.fixture.kill_connections().await?;
    let (tx, found) = trial.begin(&two).await?;
    ensure_eq!(found, Found::Absent, "after the kill `begin` finds");
    tx.rollback().await?;

    let (first, _) = trial.begin(&one).await?;
    let (second, _) = trial.begin(&two).await?;
    first.rollback().await?;
    second.rollback().await?;
    trial.fixture.kill_connections().await?;
    let read = trial.one.read(one.hash()).await?.map(|record| record.result);
    ensure_eq!(read, Some(b"r".to_vec()), "after the kill `read` returns");
    trial.ensure_recorded(&one, Some(b"r")).await
}

async fn killed_connections_spoil_no_other_call<D: Database>(trial: Trial<D>) -> Outcome {
    let row = trial.fixture.business_row().ok();
    let store = &trial.one;
    for call in ["sweep", "enrol", "check_row", "migrate"] {
        let (first, _) = trial.begin(&trial.key("one")).await?;
        let (second, _) = trial.begin(&trial.key("two")).await?;
        first.rollback().await?;
        second.rollback().await?;
        trial.fixture.kill_connections().await?;
        let answer = match (call, &row) {
            ("sweep", _) => store.sweep(None, 100).await.map(|_| ()),
            ("enrol", _) => store.enrol("a", "job").await.map(|_| ()),
            ("check_row", Some(BusinessRow { table, column })) => store.check_row(table, column).await,
            _ => store.migrate().await.map(|_| ()),
        };
        answer.map_err(|error| format!("after the kill `{call}` failed: {error}"))?;
    }
    Ok(())
}

async fn a_connection_killed_inside_a_run_leaves_nothing<D: Database>(trial: Trial<D>) -> Outcome {
    let key = trial.key("k");
    let (mut tx, _) = trial.begin(&key).await?;
    trial.insert(&mut tx, "e").await?;
    trial.fixture.kill_connections().await?;
    let committed = tx.commit(Some(&record(&key, b"r"))).await;
    ensure!(
        matches!(committed, Ok(Committed::Unknown) | Err(_)),
        "a commit on a dead connection ended with {committed:?}"
    );
    trial.ensure_untouched(&key, "e").await?;
    trial.complete(&key, "e", b"r").await?;
    trial.ensure_count("e", 1).await
}
