//! Bugs of jobs that keep no record, and whose effect is not harmless twice.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::time::{SystemTime, UNIX_EPOCH};

use idem_runtime::prelude::*;
use idem_testkit::Scenario;

use crate::harness::tables;

bugs! {
    a_counter_that_is_counted_up_again {
        what: "a counter is counted up, and nothing says that it was",
        origin: "hexpm/hexpm PR 1825: a rescued job ran two or three times a night for a week",
        plan: Repeat, at: "2 times", hint: "leave `retain` out",
        scenario: Scenario::new(CountUp { id: 42 }).setup(tables::set_up),
    }
    a_read_and_a_write_of_what_was_read {
        what: "a value is read, counted up in Rust and written back",
        origin: "zoolutions/sidekiq-unique-jobs#557, #580: running jobs lose their lock, and both write",
        plan: Repeat, at: "2 times", hint: "leave `retain` out",
        scenario: Scenario::new(ReadModifyWrite { id: 42 }).setup(tables::set_up),
    }
    an_upsert_with_a_random_id {
        what: "an upsert looks for an id that is drawn anew in every run",
        origin: "dbos-inc/dbos-transact-py#770: an exactly-once call duplicates when it is made from a step",
        plan: Repeat, at: "2 times", hint: "`tx.idempotency_key()`",
        scenario: Scenario::new(UpsertAtRandom { id: 42 }).setup(tables::set_up),
    }
    a_clean_up_of_the_oldest {
        what: "the oldest row is deleted, which is another one in the next run",
        origin: "rocket-rides-atomic: staged rows are deleted by `id <= last`, sent or not (records-and-steps 4.2)",
        plan: Repeat, at: "2 times", hint: "leave `retain` out",
        scenario: Scenario::new(DeleteTheOldest { shop: 1 }).setup(tables::set_up),
    }
    a_window_of_time_that_is_too_short {
        what: "a duplicate is one that comes in the same millisecond",
        origin: "getlago/lago-api PR 3017, elmohq/elmo PR 557: a window is too short or too long, never right",
        plan: Repeat, at: "2 times", hint: "leave `retain` out",
        scenario: Scenario::new(PostOnceAMoment { id: 42 }).setup(tables::set_up),
    }
}

#[idempotent(key = id, retain = none)]
async fn count_up(tx: &mut Tx<'_, Sqlite>, id: i64) -> Result<(), sqlx::Error> {
    let _ = id;
    sqlx::query("UPDATE balances SET cents = cents + 5").execute(&mut **tx).await?;
    Ok(())
}

#[idempotent(key = id, retain = none, lock = none, unique = until_executed)]
async fn read_modify_write(tx: &mut Tx<'_, Sqlite>, id: i64) -> Result<i64, sqlx::Error> {
    let _ = id;
    let cents: i64 = sqlx::query_scalar("SELECT cents FROM balances").fetch_one(&mut **tx).await?;
    sqlx::query("UPDATE balances SET cents = ?").bind(cents + 5).execute(&mut **tx).await?;
    Ok(cents + 5)
}

#[idempotent(key = id, retain = none)]
async fn upsert_at_random(tx: &mut Tx<'_, Sqlite>, id: i64) -> Result<(), sqlx::Error> {
    let drawn = RandomState::new().build_hasher().finish() >> 2;
    sqlx::query(
        "INSERT INTO payments (id, status) VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET status = excluded.status",
    )
    .bind(i64::try_from(drawn).expect("two bits are cut off"))
    .bind(format!("of {id}"))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

#[idempotent(key = shop, retain = none)]
async fn delete_the_oldest(tx: &mut Tx<'_, Sqlite>, shop: i64) -> Result<(), sqlx::Error> {
    let _ = shop;
    sqlx::query("DELETE FROM payments WHERE id = (SELECT min(id) FROM payments)").execute(&mut **tx).await?;
    Ok(())
}

#[idempotent(key = id, retain = none)]
async fn post_once_a_moment(tx: &mut Tx<'_, Sqlite>, id: i64) -> Result<(), sqlx::Error> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let slot = format!("slot {now}");
    let there: bool = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM entries WHERE note = ?)")
        .bind(&slot)
        .fetch_one(&mut **tx)
        .await?;
    if !there {
        tables::entry(tx, id, &slot).await?;
    }
    Ok(())
}
