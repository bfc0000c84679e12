//! What a call costs, whatever the machine: by a proxy between client and server, and by the server's own books.

use std::time::Duration;

use idem_bench_page::{Contender, Counted, Form, Store};
use idem_testkit::proxy::Proxy;
use sqlx::PgConnection;

/// How many calls prepare statements and bring a process to where it stays.
const WARM_UP: usize = 20;

/// How many calls are counted.
pub const CALLS: usize = 40;

/// Counts what goes through a proxy to a server, and what the server does about it.
#[derive(Debug)]
pub struct Counter {
    /// Where the database is.
    pub store: Store,
    /// What all calls go through.
    pub proxy: Proxy,
    /// Looks at PostgreSQL from outside; elsewhere only round trips are counted.
    pub observer: Option<PgConnection>,
}

impl Counter {
    /// Makes calls one after the other and counts what one of them costs.
    ///
    /// What is in the server's books is a median, so that what the server writes by itself does not count.
    ///
    /// # Errors
    ///
    /// A call failed, or the server does not tell.
    pub async fn count<F>(
        &mut self,
        form: Form,
        contender: Contender,
        call: impl Fn() -> F,
    ) -> anyhow::Result<Counted>
    where
        F: Future<Output = anyhow::Result<()>>,
    {
        for _ in 0..WARM_UP {
            call().await?;
        }
        let trips = self.trips_until_quiet().await;
        let (mut writes, mut wal) = (Vec::new(), Vec::new());
        for _ in 0..CALLS {
            let before = self.books().await?;
            call().await?;
            if let (Some(before), Some(after)) = (before, self.books().await?) {
                writes.push(after.writes - before.writes);
                wal.push(after.wal_bytes - before.wal_bytes);
            }
        }
        let trips = self.trips_until_quiet().await - trips;
        Ok(Counted {
            store: self.store,
            form,
            contender,
            round_trips: trips as f64 / CALLS as f64,
            writes: median(writes),
            wal_bytes: median(wal),
        })
    }

    /// Waits until nothing has come through the proxy for a while: some messages follow a call's answer, such as the
    /// ping of a pool that takes a connection back.
    async fn trips_until_quiet(&self) -> u64 {
        let mut seen = self.proxy.round_trips();
        loop {
            tokio::time::sleep(Duration::from_millis(50)).await;
            match self.proxy.round_trips() {
                now if now == seen => return now,
                now => seen = now,
            }
        }
    }

    async fn books(&mut self) -> anyhow::Result<Option<Books>> {
        let Some(observer) = &mut self.observer else { return Ok(None) };
        let (wal_bytes, writes) = sqlx::query_as(
            "SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint, \
                    pg_snapshot_xmax(pg_current_snapshot())::text::bigint",
        )
        .fetch_one(observer)
        .await?;
        Ok(Some(Books { wal_bytes, writes }))
    }
}

fn median(mut values: Vec<i64>) -> Option<i64> {
    values.sort_unstable();
    values.get(values.len() / 2).copied()
}

/// What PostgreSQL has done since it was made.
struct Books {
    /// The bytes of its log.
    wal_bytes: i64,
    /// The transactions that wrote.
    writes: i64,
}
