//! Bugs of jobs that remember in memory what was done.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use idem_runtime::prelude::*;
use idem_testkit::Scenario;

use crate::harness::gateway::{Gateway, lock};
use crate::harness::tables;

bugs! {
    a_flag_for_the_first_delivery {
        what: "a flag in memory says that this is not the first delivery, and the work of the first was undone",
        origin: "zoolutions/sidekiq-unique-jobs#546: a lock of a killed run lets later runs start and do nothing",
        plan: Crash, at: "of the body", hint: "not by a flag, a claim or a lock elsewhere",
        scenario: Scenario::new(PayOnFirstDelivery { id: 42 })
            .setup(tables::set_up)
            .state(Process::default)
            .worker_state(Clone::clone),
    }
    a_set_of_what_was_done {
        what: "a set in the memory of the process is all that keeps a second run away",
        origin: "zoolutions/sidekiq-unique-jobs#255, #257: the lock is gone, nobody knows that the job ran, and a copy runs",
        plan: Repeat, at: "2 times", hint: "leave `retain` out",
        scenario: Scenario::new(PayUnlessRemembered { id: 42 })
            .setup(tables::set_up)
            .state(Process::default)
            .worker_state(|_| Process::default()),
    }
    a_lock_in_the_process {
        what: "a lock in the process is held over the call, and no lock is held over all processes",
        origin: "fluidbox#179: the owner of the lease was the replica, and not the run",
        plan: Repeat, at: "2 times", hint: "leave `retain` out",
        scenario: Scenario::new(PayUnderAMutex { id: 42 })
            .setup(tables::set_up)
            .state(Locked::default)
            .worker_state(|state| Locked { gateway: state.gateway.clone(), turn: Turn::default() })
            .observe("charges", |state| state.gateway.charges()),
    }
    a_cached_balance {
        what: "a value is read once, kept in memory and written back by the next run",
        origin: "rails/solid_queue#735: a count goes wrong when its process is killed",
        plan: Crash, at: "crashed at", hint: "read through `tx` what they depend on",
        scenario: Scenario::new(PayFromTheCache { id: 42 })
            .setup(tables::set_up)
            .state(Balance::default),
    }
}

/// What a process remembers.
#[derive(Debug, Clone, Default)]
struct Process {
    seen: Arc<AtomicBool>,
    done: Arc<Mutex<HashSet<i64>>>,
}

#[idempotent(key = id)]
async fn pay_on_first_delivery(
    tx: &mut Tx<'_, Sqlite>,
    id: i64,
    #[state] process: &Process,
) -> Result<(), sqlx::Error> {
    if process.seen.swap(true, Ordering::SeqCst) {
        return Ok(());
    }
    tables::post(tx, id).await
}

#[idempotent(key = id, retain = none)]
async fn pay_unless_remembered(
    tx: &mut Tx<'_, Sqlite>,
    id: i64,
    #[state] process: &Process,
) -> Result<(), sqlx::Error> {
    if !lock(&process.done).insert(id) {
        return Ok(());
    }
    tables::post(tx, id).await
}

#[derive(Debug, Clone, Default, Provides)]
struct Locked {
    gateway: Gateway,
    turn: Turn,
}

/// Whose turn it is in this process, and what was done in it.
#[derive(Debug, Clone, Default)]
struct Turn(Arc<tokio::sync::Mutex<HashSet<i64>>>);

#[idempotent(key = id, retain = none, lock = none, unique = until_executed)]
async fn pay_under_a_mutex(
    tx: &mut Tx<'_, Sqlite>,
    id: i64,
    #[state] gateway: &Gateway,
    #[state] turn: &Turn,
) -> Result<(), sqlx::Error> {
    let mut done = turn.0.lock().await;
    if done.insert(id) {
        gateway.charge().await;
        tables::post(tx, id).await?;
    }
    Ok(())
}

#[derive(Debug, Clone, Default)]
struct Balance(Arc<Mutex<Option<i64>>>);

#[idempotent(key = id)]
async fn pay_from_the_cache(
    tx: &mut Tx<'_, Sqlite>,
    id: i64,
    #[state] balance: &Balance,
) -> Result<(), sqlx::Error> {
    tables::entry(tx, id, "posted").await?;
    let cached = *lock(&balance.0);
    let cents: i64 = match cached {
        Some(cents) => cents,
        None => sqlx::query_scalar("SELECT cents FROM balances").fetch_one(&mut **tx).await?,
    };
    *lock(&balance.0) = Some(cents + 5);
    sqlx::query("UPDATE balances SET cents = ?").bind(cents + 5).execute(&mut **tx).await?;
    Ok(())
}
