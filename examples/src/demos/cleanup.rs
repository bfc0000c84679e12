//! Ticks of three processes' schedulers, with a clock that is moved by hand.

use std::sync::Arc;
use std::time::Duration;

use idem_runtime::cleanup::Cleanup;
use idem_runtime::schedule::{Scheduled, Tick};
use idem_runtime::{Done, Idem};
use sqlx::Row;

use super::jobs::cleanup::{ExpireSessions, KEEP_FAILED, LIFE, set_up};
use super::open;

/// How many processes start the same ticks.
const PROCESSES: usize = 3;

/// Shows an hour's tick that three processes start at once, and a clean-up.
///
/// # Errors
///
/// The database's.
pub async fn show(url: &str) -> anyhow::Result<()> {
    let pool = open(url)?;
    set_up(&mut *pool.acquire().await?).await?;
    let handle = || -> anyhow::Result<Idem<super::Db>> {
        let pool = open(url)?;
        Ok(Idem::builder(pool).namespace("cleanup").keep_failed::<ExpireSessions>(KEEP_FAILED).build()?)
    };
    let idem = handle()?;
    idem.migrate().await?;

    let now = idem.store().now().await?.as_secs();
    let now = i64::try_from(now)?;
    // The hour that has begun last.
    let tick = Tick::from_unix(now - now.rem_euclid(3_600));
    for (id, begun) in [("old", tick.unix() - LIFE - 1), ("young", tick.unix() - 60)] {
        sqlx::query("INSERT INTO sessions (id, begun) VALUES ($1, $2)")
            .bind(format!("{id} {now}"))
            .bind(begun)
            .execute(&pool)
            .await?;
    }

    println!("{PROCESSES} processes start the tick of {tick} at once:");
    let barrier = Arc::new(tokio::sync::Barrier::new(PROCESSES));
    let mut runs = tokio::task::JoinSet::new();
    for _ in 0..PROCESSES {
        let (idem, barrier) = (handle()?, Arc::clone(&barrier));
        runs.spawn(async move {
            barrier.wait().await;
            // What a scheduler does at a tick.
            idem.run(ExpireSessions::at(tick)).await
        });
    }
    while let Some(ran) = runs.join_next().await {
        match ran?? {
            Done::Executed(expired) => println!("  executed: {} sessions are deleted", expired.sessions),
            done => println!("  replayed: it was done, {} sessions", done.sessions),
        }
    }
    let row = sqlx::query("SELECT count(*) FROM expirations WHERE tick = $1").bind(tick.unix());
    let count: i64 = row.fetch_one(&pool).await?.try_get(0)?;
    println!("  in the database: {count} run of that tick");

    println!("The clean-up of idem's own tables is such a job, too:");
    let swept = idem.run(Cleanup::at(tick)).await?;
    println!("  {} records, {} failed keys, {} claims deleted", swept.deleted, swept.forgotten, swept.claims);

    println!("A scheduler does this by itself, at the right time; it is stopped after a second here.");
    let scheduler = super::jobs::cleanup::scheduler(&idem)?;
    scheduler.run_until(tokio::time::sleep(Duration::from_secs(1))).await;
    Ok(())
}
