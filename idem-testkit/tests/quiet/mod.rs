//! A PostgreSQL server that does nothing by itself, for tests that count its transactions and the bytes of its log.

use std::fmt::Debug;

use sqlx::PgConnection;

/// Turns off the server's own tidying, which writes too, and waits until what is under way has ended.
pub(crate) async fn keep_quiet(server: &mut PgConnection) {
    sqlx::query("ALTER SYSTEM SET autovacuum = off").execute(&mut *server).await.unwrap();
    sqlx::query("SELECT pg_reload_conf()").execute(&mut *server).await.unwrap();
    loop {
        // The setting is another one as soon as the server has read its files again; then no worker begins any more.
        let busy: bool = sqlx::query_scalar(
            "SELECT current_setting('autovacuum') = 'on'
                 OR EXISTS (SELECT FROM pg_stat_activity WHERE backend_type LIKE 'autovacuum%')",
        )
        .fetch_one(&mut *server)
        .await
        .unwrap();
        if !busy {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

/// Checks that work leaves what is counted `of` a server as it was. The server writes some of its own every 15 seconds, and
/// sessions of earlier tests may tell late what they have done, so one quiet turn of five is enough.
pub(crate) async fn check_leaves_alone<C, T: PartialEq + Debug>(
    what: &str,
    of: &mut C,
    count: impl AsyncFn(&mut C) -> T,
    work: impl AsyncFn(&C, usize),
) {
    let mut turns = Vec::new();
    for turn in 0..5 {
        let before = count(of).await;
        work(of, turn).await;
        let after = count(of).await;
        if before == after {
            return;
        }
        turns.push((before, after));
    }
    panic!("{what}: each time something was counted: {turns:?}");
}
