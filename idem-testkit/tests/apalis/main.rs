//! Jobs in the queues of apalis, run by its own workers, on real databases.

mod world;

use apalis::prelude::*;
use idem_runtime::engine::apalis::Payload;
use idem_runtime::engine::{Engine, Enqueued};
use idem_runtime::prelude::*;
use idem_testkit::Lab;

#[idempotent(key = id)]
async fn note(tx: &mut Tx<'_, Sqlite>, id: i64) -> Result<i64, sqlx::Error> {
    sqlx::query("INSERT INTO notes (id) VALUES (?1)").bind(id).execute(&mut **tx).await?;
    Ok(id)
}

#[tokio::test]
async fn a_task_is_run_by_a_worker_of_apalis() {
    let lab = Lab::sqlite().await;
    let pool = lab.pool(5);
    apalis_sqlite::SqliteStorage::setup(&pool).await.unwrap();
    sqlx::raw_sql("CREATE TABLE notes (id INTEGER)").execute(&pool).await.unwrap();
    let idem = Idem::builder(pool.clone()).build().unwrap();
    idem.migrate().await.unwrap();
    let queue = idem.queue(Engine::Apalis);
    queue.set_up().await.unwrap();
    let Enqueued::New(_) = queue.push(Note { id: 42 }).await.unwrap() else { panic!() };
    let storage = apalis_sqlite::SqliteStorage::<Payload<Note>>::new(&pool)
        .with_config(apalis_sqlite::Config::default().queue("note"))
        .poll_with_interval(idem_runtime::engine::apalis::POLL);
    let worker = WorkerBuilder::new("w1").backend(storage).build(queue.handler::<Note>());
    let run = tokio::spawn(worker.run());
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    let n: i64 = sqlx::query_scalar("SELECT count(*) FROM notes").fetch_one(&pool).await.unwrap();
    let rows: Vec<(String, String, i64, Option<String>)> =
        sqlx::query_as("SELECT id, status, attempts, last_result FROM Jobs").fetch_all(&pool).await.unwrap();
    println!("{rows:?}");
    assert_eq!(n, 1);
    run.abort();
}
