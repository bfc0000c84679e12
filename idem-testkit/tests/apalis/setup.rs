//! What is said when something was not prepared.

use idem_runtime::engine::{Engine, PushError};
use idem_runtime::{Idem, StoreErrorKind};
use sqlx::Connection as _;

use super::world::World;
use super::{AN_HOUR_AGO, OLDER_TRIGGERS, Place, SETUP, TASKS, TRIGGERS};
use crate::jobs::*;

fn store_error(error: PushError) -> idem_runtime::StoreError {
    match error {
        PushError::Store(error) => error,
        other => panic!("it is no error of the store: {other}"),
    }
}

#[tokio::test]
async fn missing_tables_of_apalis_are_named_with_what_makes_them() {
    let Some(place) = Place::empty().await else { return };
    let world = World::on(place).await;
    world.idem.migrate().await.unwrap();
    let prepare = world.queue.set_up().await.unwrap_err();
    let push = store_error(world.queue.push(UntilEnd { id: 1, note: 1 }).await.unwrap_err());
    for error in [prepare, push] {
        assert_eq!(error.kind(), StoreErrorKind::NotMigrated, "{error}");
        assert!(error.to_string().contains(SETUP), "{error}");
        assert!(!error.is_temporary(), "{error}");
    }
    assert_eq!(world.claims().await, [], "nothing is left of a push that failed");
    // Then it goes.
    world.place.set_up_apalis().await;
    world.queue.set_up().await.unwrap();
    world.push(UntilEnd { id: 1, note: 1 }).await;
}

#[tokio::test]
async fn missing_tables_of_idem_are_named_with_what_makes_them() {
    let Some(place) = Place::empty().await else { return };
    place.set_up_apalis().await;
    let world = World::on(place).await;
    let push = store_error(world.queue.push(UntilEnd { id: 1, note: 1 }).await.unwrap_err());
    let prepare = world.queue.set_up().await.unwrap_err();
    for error in [prepare, push] {
        assert_eq!(error.kind(), StoreErrorKind::NotMigrated, "{error}");
        assert!(error.to_string().contains("migrate"), "{error}");
    }
    assert_eq!(world.tasks().await, []);
    world.idem.migrate().await.unwrap();
    world.queue.set_up().await.unwrap();
    world.push(UntilEnd { id: 1, note: 1 }).await;
}

/// On SQLite the transaction is the writer that the first use of the job needs as well.
#[tokio::test]
async fn a_first_push_in_a_transaction_names_what_was_left_out() {
    let Some(world) = World::new().await else { return };
    let mut connection = world.place.connect().await;
    let mut tx = connection.begin().await.unwrap();
    let written = format!("UPDATE {TASKS} SET priority = priority");
    sqlx::raw_sql(sqlx::AssertSqlSafe(written)).execute(&mut *tx).await.unwrap();
    match world.queue.push_in(&mut tx, UntilEnd { id: 1, note: 1 }).await {
        Ok(_) => assert!(!SETUP.contains("Sqlite")),
        Err(error) => {
            let error = store_error(error).to_string();
            assert!(SETUP.contains("Sqlite") && error.contains("Idem::enrol"), "{error}");
        }
    }
}

#[tokio::test]
async fn set_up_twice_and_at_once_is_set_up() {
    let Some(world) = World::new().await else { return };
    let (one, other) = (world.queue.clone(), world.queue.clone());
    let both = tokio::join!(async move { one.set_up().await }, async move { other.set_up().await });
    both.0.unwrap();
    both.1.unwrap();
    let task = world.push(UntilEnd { id: 1, note: 1 }).await;
    world.take(task, "w1").await;
    assert!(world.say_ended(task, "w1", "Done").await);
    assert_eq!(world.claims().await, []);
}

#[tokio::test]
async fn set_up_takes_the_place_of_what_another_version_has_made() {
    let Some(world) = World::new().await else { return };
    let task = world.push(UntilEnd { id: 1, note: 1 }).await;
    world.sql(OLDER_TRIGGERS).await;
    let idem = Idem::builder(world.pool.clone()).build().unwrap();
    assert!(!idem.store().is_prepared(Engine::Apalis).await.unwrap());
    idem.queue(Engine::Apalis).set_up().await.unwrap();
    assert!(idem.store().is_prepared(Engine::Apalis).await.unwrap());
    // The older one has let every worker begin it.
    world.sql(format!("UPDATE {TASKS} SET run_at = {AN_HOUR_AGO} WHERE id = '{task}'")).await;
    assert_eq!(world.say_begun(task, "w1").await, 0);
    world.take(task, "w2").await;
    assert!(world.say_ended(task, "w2", "Done").await);
    assert_eq!(world.claims().await, []);
    let left = sqlx::query_scalar::<_, i64>(TRIGGERS).fetch_one(&mut world.place.connect().await).await;
    assert_eq!(left.unwrap(), 3);
}

#[tokio::test]
async fn without_set_up_no_unique_job_is_enqueued() {
    let Some(place) = Place::empty().await else { return };
    place.set_up_apalis().await;
    let world = World::on(place).await;
    world.idem.migrate().await.unwrap();
    // Its claim would outlast its task.
    let error = world.queue.push(UntilEnd { id: 1, note: 1 }).await.unwrap_err().to_string();
    assert!(error.contains("`Queue::set_up`"), "{error}");
    assert_eq!(world.tasks().await.len(), 0);
    world.queue.set_up().await.unwrap();
    let task = world.push(UntilEnd { id: 1, note: 1 }).await;
    let worker = world.work::<UntilEnd>("w1");
    world.until_status(task, "Done").await;
    assert_eq!(world.claims().await, []);
    drop(worker);
}

#[tokio::test]
async fn a_closed_pool_is_an_error() {
    let Some(world) = World::new().await else { return };
    world.push(UntilEnd { id: 1, note: 1 }).await;
    world.pool.close().await;
    let error = world.queue.push(UntilEnd { id: 2, note: 1 }).await;
    let tasks = world.tasks().await.len();
    match error {
        Err(error) => assert_eq!(tasks, 1, "{error}"),
        // Connections that idem has by itself may still serve.
        Ok(answer) => assert_eq!(tasks, 2, "{answer:?}"),
    }
}
