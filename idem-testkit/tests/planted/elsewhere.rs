//! Bugs of jobs whose effect or claim is not in the transaction: another connection, another store, another task.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use idem_runtime::prelude::*;
use idem_testkit::Scenario;
use sqlx::Connection as _;
use tokio::sync::watch;
use tokio::task::yield_now;

use crate::harness::gateway::lock;
use crate::harness::tables;

bugs! {
    an_effect_on_another_connection {
        what: "the effect is written to another database, which commits before the record does",
        origin: "Particular/NServiceBus#4086, spring idempotency starter issue 1: the effect is outside the transaction",
        plan: Crash, at: "crashed at", hint: "`tx.idempotency_key()`",
        scenario: Scenario::new(PostElsewhere { id: 42 })
            .setup(tables::set_up)
            .state(Ledger::default)
            .observe("entries", Ledger::len),
    }
    an_audit_entry_in_a_task_of_its_own {
        what: "a task of its own writes an entry on a connection of its own, whatever becomes of the run",
        origin: "acidic_job rc7: the entry that a step succeeded is a commit of its own",
        plan: Crash, at: "crashed at", hint: "do all writes through `tx`",
        scenario: Scenario::new(PostAndAudit { id: 42 }).setup(tables::set_up),
    }
    a_claim_that_outlives_its_run {
        what: "a claim in another store is taken first and not given back by a run that is gone",
        origin: "cameronmaske/celery-once#147, #103: a killed worker leaves its lock, and later runs do nothing",
        plan: Crash, at: "crashed at", hint: "decide by `tx` and the record alone",
        scenario: Scenario::new(PostIfClaimed { id: 42 }).setup(tables::set_up).state(Claims::default),
    }
    a_record_of_its_own_before_the_effect {
        what: "the job says elsewhere that it is done before it is",
        origin: "aws-powertools/powertools-lambda-python#738: what is kept before the work refuses every retry",
        plan: Crash, at: "crashed at", hint: "decide by `tx` and the record alone",
        scenario: Scenario::new(MarkAndPost { id: 42 }).setup(tables::set_up).state(Claims::default),
    }
    a_check_before_an_act_in_a_task {
        what: "the job looks whether there is an entry, and a task writes it later: two runs look before one has written",
        origin: "read-then-insert: what was looked at is not locked (records-and-steps 8, point 10)",
        plan: Repeat, at: "one after the other", hint: "leave `retain` out",
        scenario: Scenario::new(LookAndPostLater { id: 42 }).setup(tables::set_up).state(Looks::new),
    }
    a_transaction_that_is_leaked {
        what: "the body's task keeps the only writer for itself when its run is gone",
        origin: "laravel/framework#37060, #42497: what a timed-out run holds is never freed",
        plan: Crash, at: "crashed at", hint: "`tx.begin()`",
        scenario: Scenario::new(LeakAWriter { id: 42 })
            .setup(tables::set_up)
            .limit(Duration::from_secs(3)),
    }
}

/// Another database.
#[derive(Debug, Clone, Default)]
struct Ledger(Arc<Mutex<Vec<i64>>>);

impl Ledger {
    /// Inserts and commits.
    async fn insert(&self, id: i64) {
        yield_now().await;
        lock(&self.0).push(id);
        yield_now().await;
    }

    fn len(&self) -> u64 {
        lock(&self.0).len() as u64
    }
}

#[idempotent(key = id)]
async fn post_elsewhere(
    tx: &mut Tx<'_, Sqlite>,
    id: i64,
    #[state] ledger: &Ledger,
) -> Result<(), sqlx::Error> {
    ledger.insert(id).await;
    sqlx::query("UPDATE payments SET status = 'posted' WHERE id = ?").bind(id).execute(&mut **tx).await?;
    Ok(())
}

#[idempotent(key = id)]
async fn post_and_audit(tx: &mut Tx<'_, Sqlite>, id: i64) -> Result<(), sqlx::Error> {
    let mut own = tables::own_connection(tx).await?;
    tokio::spawn(async move { tables::entry(&mut own, id, "audited").await });
    tables::post(tx, id).await
}

/// A store of claims that is not in the database.
#[derive(Debug, Clone, Default)]
struct Claims(Arc<Mutex<HashSet<i64>>>);

#[idempotent(key = id)]
async fn post_if_claimed(
    tx: &mut Tx<'_, Sqlite>,
    id: i64,
    #[state] claims: &Claims,
) -> Result<(), sqlx::Error> {
    if !lock(&claims.0).insert(id) {
        return Ok(());
    }
    tables::post(tx, id).await?;
    lock(&claims.0).remove(&id);
    Ok(())
}

#[idempotent(key = id, retain = none)]
async fn mark_and_post(tx: &mut Tx<'_, Sqlite>, id: i64, #[state] done: &Claims) -> Result<(), sqlx::Error> {
    if !lock(&done.0).insert(id) {
        return Ok(());
    }
    tables::post(tx, id).await
}

/// How often runs have looked.
#[derive(Debug, Clone)]
struct Looks(Arc<watch::Sender<u32>>);

impl Looks {
    fn new() -> Self {
        Looks(Arc::new(watch::Sender::new(0)))
    }

    fn note(&self) {
        self.0.send_modify(|looks| *looks += 1);
    }

    /// Waits until a second run has looked.
    async fn another(&self) {
        let _ = self.0.subscribe().wait_for(|looks| *looks > 1).await;
    }
}

#[idempotent(key = id, retain = none)]
async fn look_and_post_later(
    tx: &mut Tx<'_, Sqlite>,
    id: i64,
    #[state] looks: &Looks,
) -> Result<(), sqlx::Error> {
    let there: bool = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM entries WHERE payment = ?)")
        .bind(id)
        .fetch_one(&mut **tx)
        .await?;
    looks.note();
    if !there {
        let (mut own, looks) = (tables::own_connection(tx).await?, looks.clone());
        tokio::spawn(async move {
            // When another run has looked, or none comes.
            let _ = tokio::time::timeout(Duration::from_secs(1), looks.another()).await;
            tables::entry(&mut own, id, "posted").await
        });
    }
    Ok(())
}

#[idempotent(key = id)]
async fn leak_a_writer(tx: &mut Tx<'_, Sqlite>, id: i64) -> Result<(), sqlx::Error> {
    let mut own = tables::own_connection(tx).await?;
    let (finish, finished) = tokio::sync::oneshot::channel::<()>();
    tokio::spawn(async move {
        // Whoever is told to finish goes; whoever is not stays for good.
        if finished.await.is_err() {
            let _ = sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut own).await;
            std::future::pending::<()>().await;
        }
        own.close().await
    });
    tables::post(tx, id).await?;
    let _ = finish.send(());
    Ok(())
}
