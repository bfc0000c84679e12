//! Jobs that are right: no check of them may raise an alarm.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use idem_runtime::prelude::*;
use idem_testkit::plan::Plan;
use idem_testkit::{Scenario, examine};
use serde::{Deserialize, Serialize};
use sqlx::Connection as _;

use crate::harness::gateway::Gateway;
use crate::harness::tables;

correct! {
    counted_ids { "ids from AUTOINCREMENT, which the result returns", with_orders(CountedIds { id: 42 }) }
    times { "the time of the database in a column", with_orders(Times { id: 42 }) }
    random_ids { "an id that the database draws", with_orders(RandomIds { id: 42 }) }
    an_upsert_by_key { "no record, an upsert under `tx.idempotency_key()`", with_orders(UpsertByKey { id: 42 }) }
    an_adopted_constraint {
        "`adopt(constraint(…))` of a unique index",
        plain(AdoptConstraint { id: 42 })
    }
    an_adopted_constraint_without_a_record {
        "the same with `retain = none`: every run but the first adopts",
        plain(AdoptUnrecorded { id: 42 })
    }
    an_adopted_error { "`adopt(pattern)` of the job's own error", plain(AdoptError { id: 42 }) }
    a_check_that_finds_nothing { "`check = …` that answers `None`", plain(CheckNothing { id: 42 }) }
    a_check_that_adopts { "`check = …` that adopts what is there, and marks it", plain(CheckAdopts { id: 42 }) }
    a_final_error { "`replay(…)` of an error that a clean run does not meet", plain(FinalError { id: 42 }) }
    a_refusal { "a final error in every run, behind a statement that is undone", plain(FinalError { id: -42 }) }
    no_lock { "`lock = none`: the record's key decides", plain(NoLock { id: 42 }) }
    a_row_lock { "`lock = row(payments.id = id)`", plain(RowLock { id: 42 }) }
    an_advisory_lock { "`lock = advisory`", plain(AdvisoryLock { id: 42 }) }
    skip_when_busy { "`on_busy = skip`", plain(SkipWhenBusy { id: 42 }) }
    fail_when_busy { "`on_busy = error`", plain(FailWhenBusy { id: 42 }) }
    a_wait_of_a_moment { "`on_busy = wait(\"50ms\")`", plain(WaitAMoment { id: 42 }) }
    a_sync { "`retain = none` and an effect that is harmless twice", plain(Synchronise { id: 42 }) }
    a_delete_without_a_record { "`retain = none` and a delete", plain(DeleteUnrecorded { id: 42 }) }
    kept_for_ever { "`retain = forever`", plain(KeptForEver { id: 42 }) }
    kept_for_an_hour { "`retain = \"1h\"`", plain(KeptForAnHour { id: 42 }) }
    nothing_as_result { "`Option<()>`, which is `None`", plain(NothingAsResult { id: 42 }) }
    an_empty_result { "an empty string, an empty list, `false` and 0", plain(EmptyResult { id: 42 }) }
    a_big_result { "200,000 bytes", plain(BigResult { id: 42 }) }
    a_nested_result { "an enum with a map and options in it", plain(NestedResult { id: 42 }) }
    nested_transactions { "`tx.begin()`: one savepoint kept, one undone", plain(NestedTransactions { id: 42 }) }
    foreign_keys { "rows in two tables that point at each other", with_orders(ForeignKeys { id: 42 }) }
    deletes { "rows that are deleted", plain(Deletes { id: 42 }) }
    twenty_statements { "a loop of 20 statements", plain(TwentyStatements { id: 42 }) }
    equal_rows { "rows that are equal on purpose", plain(EqualRows { id: 42 }) }
    a_trigger { "a trigger that writes another table", with_orders(Trigger { id: 42 }) }
    a_charge_with_a_key {
        "a provider that is given `tx.idempotency_key()`",
        charged(ChargeWithKey { id: 42 })
    }
    three_charges_with_keys {
        "three calls in a loop with `tx.idempotency_key_for(…)`",
        charged(ThreeCharges { id: 42 })
    }
    a_state { "a state that only counts how often the body ran", plain_with(Counts { id: 42 }) }
    a_timeout { "`timeout = \"1m\"`", plain(InTime { id: 42 }) }
    a_composite_key {
        "a key of a text with quotes and a number; an argument that is not compared",
        plain(CompositeKey { source: String::from("o'brien \"x\""), id: 42, trace: String::from("a") })
    }
    a_global_key { "`key = global`", plain(GlobalKey {}) }
    one_statement { "no await before the only statement", plain(OneStatement { id: 42 }) }
    a_read_and_a_write { "a value that is read, counted up and written back under the lock", plain(ReadAndWrite { id: 42 }) }
    a_pause { "a pause between two statements", plain(Pauses { id: 42 }) }
    an_answer_by_the_clock {
        "an answer that is another one as soon as the clean runs are over",
        by_the_clock(AnswerTheTime { id: 42 })
    }
    a_column_by_the_clock {
        "a column that is another one as soon as the clean runs are over",
        by_the_clock(WriteTheTime { id: 42 })
    }
}

fn plain<J: idem_runtime::RunOn<Sqlite, ()>>(job: J) -> Scenario<J, Sqlite> {
    Scenario::new(job).setup(tables::set_up)
}

fn with_orders<J: idem_runtime::RunOn<Sqlite, ()>>(job: J) -> Scenario<J, Sqlite> {
    Scenario::new(job).setup(async |lab: &idem_testkit::Lab<Sqlite>| {
        sqlx::raw_sql(
            "CREATE TABLE orders (seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE, at INTEGER);
             CREATE TABLE items (seq INTEGER PRIMARY KEY AUTOINCREMENT, orders INTEGER REFERENCES orders (seq), n INTEGER);
             CREATE TABLE log (what TEXT);
             CREATE TRIGGER logged AFTER INSERT ON items BEGIN INSERT INTO log VALUES ('item ' || new.n); END;
             INSERT INTO orders (id) VALUES ('of before')",
        )
        .execute(&mut lab.connect().await)
        .await?;
        Ok(())
    })
}

fn charged<J: idem_runtime::RunOn<Sqlite, Gateway>>(job: J) -> Scenario<J, Sqlite, Gateway> {
    Scenario::new(job).setup(tables::set_up).state(Gateway::default).observe("charges", Gateway::charges)
}

fn plain_with<J: idem_runtime::RunOn<Sqlite, Bodies>>(job: J) -> Scenario<J, Sqlite, Bodies> {
    Scenario::new(job).setup(tables::set_up).state(Bodies::default)
}

#[derive(Debug, Clone, Default)]
struct Bodies(Arc<AtomicU32>);

#[derive(Debug, Serialize, Deserialize)]
enum PayError {
    Database(String),
    PaidAlready(String),
    Declined,
}

impl From<sqlx::Error> for PayError {
    fn from(error: sqlx::Error) -> Self {
        PayError::Database(error.to_string())
    }
}

/// Declares jobs that differ only in their options.
macro_rules! posts {
    ($($name:ident($($option:tt)*);)+) => {$(
        #[idempotent(key = id $($option)*)]
        async fn $name(tx: &mut Tx<'_, Sqlite>, id: i64) -> Result<i64, sqlx::Error> {
            tables::post(tx, id).await?;
            Ok(id + 1)
        }
    )+};
}

posts! {
    no_lock_job(, lock = none, job = NoLock);
    row_lock_job(, lock = row(payments.id = id), job = RowLock);
    advisory_lock_job(, lock = advisory, job = AdvisoryLock);
    skip_when_busy_job(, on_busy = skip, job = SkipWhenBusy);
    fail_when_busy_job(, on_busy = error, job = FailWhenBusy);
    wait_a_moment_job(, on_busy = wait("50ms"), job = WaitAMoment);
    kept_for_ever_job(, retain = forever, job = KeptForEver);
    kept_for_an_hour_job(, retain = "1h", job = KeptForAnHour);
    in_time_job(, timeout = "1m", job = InTime);
}

#[idempotent(key = id, job = CountedIds)]
async fn counted_ids_job(tx: &mut Tx<'_, Sqlite>, id: i64) -> Result<i64, sqlx::Error> {
    let insert = sqlx::query("INSERT INTO orders (id) VALUES (?)").bind(id);
    Ok(insert.execute(&mut **tx).await?.last_insert_rowid())
}

#[idempotent(key = id, job = Times)]
async fn times_job(tx: &mut Tx<'_, Sqlite>, id: i64) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("INSERT INTO orders (id, at) VALUES (?, unixepoch()) RETURNING at")
        .bind(id)
        .fetch_one(&mut **tx)
        .await
}

#[idempotent(key = id, job = RandomIds)]
async fn random_ids_job(tx: &mut Tx<'_, Sqlite>, id: i64) -> Result<String, sqlx::Error> {
    sqlx::query_scalar("INSERT INTO orders (id) VALUES (? || '-' || hex(randomblob(8))) RETURNING id")
        .bind(id)
        .fetch_one(&mut **tx)
        .await
}

#[idempotent(key = id, retain = none, job = UpsertByKey)]
async fn upsert_by_key_job(tx: &mut Tx<'_, Sqlite>, id: i64) -> Result<(), sqlx::Error> {
    let key = tx.idempotency_key();
    sqlx::query("INSERT INTO orders (id, at) VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET at = excluded.at")
        .bind(key)
        .bind(id)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

async fn join(tx: &mut Tx<'_, Sqlite>, id: i64) -> Result<(), sqlx::Error> {
    tables::entry(tx, id, "joins").await?;
    sqlx::query("INSERT INTO members (id) VALUES (?)").bind(id).execute(&mut **tx).await?;
    Ok(())
}

#[idempotent(key = id, adopt(constraint("one_membership") => 1), job = AdoptConstraint)]
async fn adopt_constraint_job(tx: &mut Tx<'_, Sqlite>, id: i64) -> Result<i64, sqlx::Error> {
    join(tx, id).await.map(|()| 1)
}

#[idempotent(key = id, retain = none, adopt(constraint("one_membership") => ()), job = AdoptUnrecorded)]
async fn adopt_unrecorded_job(tx: &mut Tx<'_, Sqlite>, id: i64) -> Result<(), sqlx::Error> {
    join(tx, id).await
}

#[idempotent(
    key = id,
    adopt(PayError::PaidAlready(charge) => mark(tx, id, charge).await?),
    job = AdoptError,
)]
async fn adopt_error_job(tx: &mut Tx<'_, Sqlite>, id: i64) -> Result<String, PayError> {
    tables::post(tx, id).await?;
    Err(PayError::PaidAlready(String::from("ch_1")))
}

async fn mark(tx: &mut Tx<'_, Sqlite>, id: i64, charge: String) -> Result<String, PayError> {
    sqlx::query("UPDATE payments SET status = ? WHERE id = ?")
        .bind(&charge)
        .bind(id)
        .execute(&mut **tx)
        .await?;
    Ok(charge)
}

#[idempotent(key = id, check = nothing, job = CheckNothing)]
async fn check_nothing_job(tx: &mut Tx<'_, Sqlite>, id: i64) -> Result<i64, sqlx::Error> {
    tables::post(tx, id).await?;
    Ok(id)
}

async fn nothing(tx: &mut Tx<'_, Sqlite>, job: &CheckNothing) -> Result<Option<i64>, sqlx::Error> {
    sqlx::query_scalar("SELECT payment FROM entries WHERE payment = ?")
        .bind(job.id)
        .fetch_optional(&mut **tx)
        .await
}

#[idempotent(key = id, check = marked, job = CheckAdopts)]
async fn check_adopts_job(tx: &mut Tx<'_, Sqlite>, id: i64) -> Result<String, sqlx::Error> {
    tables::post(tx, id).await?;
    Ok(String::from("posted"))
}

async fn marked(tx: &mut Tx<'_, Sqlite>, job: &CheckAdopts) -> Result<Option<String>, sqlx::Error> {
    let mark = "UPDATE payments SET status = 'found' WHERE id = ? RETURNING status";
    sqlx::query_scalar(mark).bind(job.id).fetch_optional(&mut **tx).await
}

#[idempotent(key = id, replay(PayError::Declined), job = FinalError)]
async fn final_error_job(tx: &mut Tx<'_, Sqlite>, id: i64) -> Result<i64, PayError> {
    tables::post(tx, id).await?;
    if id < 0 {
        return Err(PayError::Declined);
    }
    Ok(id)
}

#[idempotent(key = id, retain = none, job = Synchronise)]
async fn synchronise_job(tx: &mut Tx<'_, Sqlite>, id: i64) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE payments SET status = 'synchronised' WHERE id = ?")
        .bind(id)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

#[idempotent(key = id, retain = none, job = DeleteUnrecorded)]
async fn delete_unrecorded_job(tx: &mut Tx<'_, Sqlite>, id: i64) -> Result<u64, sqlx::Error> {
    let delete = sqlx::query("DELETE FROM payments WHERE id = ?").bind(id);
    Ok(delete.execute(&mut **tx).await?.rows_affected())
}

#[idempotent(key = id, job = NothingAsResult)]
async fn nothing_as_result_job(tx: &mut Tx<'_, Sqlite>, id: i64) -> Result<Option<()>, sqlx::Error> {
    tables::post(tx, id).await?;
    Ok(None)
}

type Empty = (String, Vec<u8>, bool, i64);

#[idempotent(key = id, job = EmptyResult)]
async fn empty_result_job(tx: &mut Tx<'_, Sqlite>, id: i64) -> Result<Empty, sqlx::Error> {
    tables::post(tx, id).await?;
    Ok(Empty::default())
}

#[idempotent(key = id, job = BigResult)]
async fn big_result_job(tx: &mut Tx<'_, Sqlite>, id: i64) -> Result<Vec<u8>, sqlx::Error> {
    tables::post(tx, id).await?;
    Ok(vec![7; 200_000])
}

#[derive(Debug, Serialize, Deserialize)]
enum Shape {
    Parts { named: std::collections::BTreeMap<String, Option<f64>>, missing: Option<Option<u8>> },
}

#[idempotent(key = id, job = NestedResult)]
async fn nested_result_job(tx: &mut Tx<'_, Sqlite>, id: i64) -> Result<Shape, sqlx::Error> {
    tables::post(tx, id).await?;
    let named = [(String::from("one"), Some(1.5)), (String::from("none"), None)].into();
    Ok(Shape::Parts { named, missing: Some(None) })
}

#[idempotent(key = id, job = NestedTransactions)]
async fn nested_transactions_job(tx: &mut Tx<'_, Sqlite>, id: i64) -> Result<(), sqlx::Error> {
    let mut kept = tx.begin().await?;
    tables::post(&mut kept, id).await?;
    kept.commit().await?;
    let mut undone = tx.begin().await?;
    tables::post(&mut undone, id).await?;
    undone.rollback().await
}

#[idempotent(key = id, job = ForeignKeys)]
async fn foreign_keys_job(tx: &mut Tx<'_, Sqlite>, id: i64) -> Result<i64, sqlx::Error> {
    let order = sqlx::query("INSERT INTO orders (id) VALUES (?)").bind(id).execute(&mut **tx).await?;
    let seq = order.last_insert_rowid();
    for n in 0..3 {
        let item = sqlx::query("INSERT INTO items (orders, n) VALUES (?, ?)").bind(seq).bind(n);
        item.execute(&mut **tx).await?;
    }
    Ok(seq)
}

#[idempotent(key = id, job = Deletes)]
async fn deletes_job(tx: &mut Tx<'_, Sqlite>, id: i64) -> Result<u64, sqlx::Error> {
    let delete = sqlx::query("DELETE FROM payments WHERE id <= ?").bind(id);
    Ok(delete.execute(&mut **tx).await?.rows_affected())
}

#[idempotent(key = id, job = TwentyStatements)]
async fn twenty_statements_job(tx: &mut Tx<'_, Sqlite>, id: i64) -> Result<(), sqlx::Error> {
    for n in 0..20 {
        tables::entry(tx, id, &format!("line {n}")).await?;
    }
    Ok(())
}

#[idempotent(key = id, job = EqualRows)]
async fn equal_rows_job(tx: &mut Tx<'_, Sqlite>, id: i64) -> Result<(), sqlx::Error> {
    tables::entry(tx, id, "same").await?;
    tables::entry(tx, id, "same").await
}

#[idempotent(key = id, job = Trigger)]
async fn trigger_job(tx: &mut Tx<'_, Sqlite>, id: i64) -> Result<(), sqlx::Error> {
    sqlx::query("INSERT INTO items (n) VALUES (?)").bind(id).execute(&mut **tx).await?;
    Ok(())
}

#[idempotent(key = id, job = ChargeWithKey)]
async fn charge_with_key_job(
    tx: &mut Tx<'_, Sqlite>,
    id: i64,
    #[state] gateway: &Gateway,
) -> Result<i64, sqlx::Error> {
    gateway.charge_once(tx.idempotency_key()).await;
    tables::post(tx, id).await?;
    Ok(id)
}

#[idempotent(key = id, job = ThreeCharges)]
async fn three_charges_job(
    tx: &mut Tx<'_, Sqlite>,
    id: i64,
    #[state] gateway: &Gateway,
) -> Result<(), sqlx::Error> {
    for n in 0..3 {
        gateway.charge_once(tx.idempotency_key_for(&format!("call {n}"))).await;
        tables::entry(tx, id, "charged").await?;
    }
    Ok(())
}

#[idempotent(key = id, job = Counts)]
async fn counts_job(tx: &mut Tx<'_, Sqlite>, id: i64, #[state] bodies: &Bodies) -> Result<(), sqlx::Error> {
    bodies.0.fetch_add(1, Ordering::SeqCst);
    tables::post(tx, id).await
}

#[idempotent(key = (source, id), fingerprint = ignore(trace), job = CompositeKey)]
async fn composite_key_job(
    tx: &mut Tx<'_, Sqlite>,
    source: String,
    id: i64,
    trace: String,
) -> Result<String, sqlx::Error> {
    tables::entry(tx, id, &source).await?;
    Ok(trace)
}

#[idempotent(key = global, job = GlobalKey)]
async fn global_key_job(tx: &mut Tx<'_, Sqlite>) -> Result<(), sqlx::Error> {
    tables::post(tx, 42).await
}

#[idempotent(key = id, job = OneStatement)]
async fn one_statement_job(tx: &mut Tx<'_, Sqlite>, id: i64) -> Result<(), sqlx::Error> {
    tables::entry(tx, id, "only").await
}

#[idempotent(key = id, job = ReadAndWrite)]
async fn read_and_write_job(tx: &mut Tx<'_, Sqlite>, id: i64) -> Result<i64, sqlx::Error> {
    let cents: i64 = sqlx::query_scalar("SELECT cents FROM balances").fetch_one(&mut **tx).await?;
    sqlx::query("UPDATE balances SET cents = ?").bind(cents + id).execute(&mut **tx).await?;
    Ok(cents + id)
}

#[idempotent(key = id, job = Pauses)]
async fn pauses_job(tx: &mut Tx<'_, Sqlite>, id: i64) -> Result<(), sqlx::Error> {
    tables::entry(tx, id, "before").await?;
    tokio::time::sleep(Duration::from_millis(3)).await;
    tables::entry(tx, id, "after").await
}

/// A clock that is read to the minute: it rolls over behind the two clean runs of a check, and stands still.
#[derive(Clone, Default)]
struct Clock(Arc<AtomicU32>);

impl Clock {
    fn minute(&self) -> i64 {
        i64::from(self.0.fetch_add(1, Ordering::SeqCst) >= 2)
    }
}

/// All trials of a check have the same clock.
fn by_the_clock<J: idem_runtime::RunOn<Sqlite, Clock>>(job: J) -> Scenario<J, Sqlite, Clock> {
    let clock = Clock::default();
    Scenario::new(job).setup(tables::set_up).state(move || clock.clone())
}

#[idempotent(key = id)]
async fn answer_the_time(
    tx: &mut Tx<'_, Sqlite>,
    id: i64,
    #[state] clock: &Clock,
) -> Result<i64, sqlx::Error> {
    tables::post(tx, id).await?;
    Ok(clock.minute())
}

#[idempotent(key = id)]
async fn write_the_time(tx: &mut Tx<'_, Sqlite>, id: i64, #[state] clock: &Clock) -> Result<(), sqlx::Error> {
    let minute = format!("minute {}", clock.minute());
    tables::entry(tx, id, &minute).await
}

/// A trial that more clean runs have explained is no failure, and leaves no database behind.
#[tokio::test]
async fn a_check_that_passes_leaves_no_database_behind() {
    let files = Arc::new(Mutex::new(Vec::new()));
    let (clock, seen) = (Clock::default(), Arc::clone(&files));
    let scenario = Scenario::new(WriteTheTime { id: 42 })
        .setup(async move |lab: &idem_testkit::Lab<Sqlite>| {
            seen.lock().unwrap().push(lab.options().get_filename().to_path_buf());
            tables::set_up(lab).await
        })
        .state(move || clock.clone());
    let report = examine(&scenario, &[Plan::Repeat]).await.expect("the scenario is sound");
    let report = report.expect("SQLite is there");
    assert!(report.failure.is_none(), "{report}");
    assert!(!report.masked.is_empty(), "nothing had to be explained: {report}");
    let left: Vec<_> = files.lock().unwrap().iter().filter(|file| file.exists()).cloned().collect();
    assert!(left.is_empty(), "left behind: {left:?}");
}

#[tokio::test]
async fn the_checks_that_a_test_makes_of_one_key_are_numbered() {
    let scenario = Scenario::new(WriteTheTime { id: 43 }).setup(tables::set_up).state(Clock::default);
    let mut checks = Vec::new();
    for _ in 0..2 {
        let report = examine(&scenario, &[Plan::Repeat]).await.expect("the scenario is sound");
        checks.push(report.expect("SQLite is there").check);
    }
    assert_eq!(checks, [1, 2]);
}
