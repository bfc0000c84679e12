//! The systems, written once for the three databases.

use std::future::Future;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use async_trait::async_trait;
use idem_testkit::proxy::Proxy;
use sqlx::{AssertSqlSafe, Connection as _, Row as _};
use tokio::sync::Mutex;

use super::folded::Folded;
use super::{ACCOUNTS, Bench, HERD, REPLAYED_KEYS, System, Workload, fresh_key, used_key};

pub(crate) type Check = Pin<Box<dyn Future<Output = anyhow::Result<()>> + Send>>;

/// The result of the job.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Receipt {
    charge: i64,
}

macro_rules! database {
    (
        $module:ident, $db:ident, $pool:ident, $connection:ident,
        begin: $begin:literal,
        lock: $lock:expr,
        unlock: $unlock:expr,
        record: $record:literal,
        record_insert: $record_insert:literal,
        charge: $charge:literal,
        balance: $balance:literal $(,)?
    ) => {
        mod $module {
            use idem_runtime::prelude::*;
            use sqlx::{$connection, $pool};

            use super::*;

            /// The job.
            #[idempotent(key = id)]
            pub(super) async fn charge(tx: &mut Tx<'_, $db>, id: i64) -> Result<Receipt, sqlx::Error> {
                effect(tx, "idem", id).await
            }

            /// One INSERT and one UPDATE.
            pub(super) async fn effect(
                c: &mut $connection,
                system: &str,
                id: i64,
            ) -> Result<Receipt, sqlx::Error> {
                sqlx::query($charge).bind(system).bind(id).execute(&mut *c).await?;
                sqlx::query($balance).bind(id % ACCOUNTS).execute(c).await?;
                Ok(Receipt { charge: id })
            }

            /// No protection.
            async fn bare(c: &mut $connection, id: i64) -> Result<Receipt, sqlx::Error> {
                let mut tx = c.begin_with($begin).await?;
                let receipt = effect(&mut tx, "bare", id).await?;
                tx.commit().await?;
                Ok(receipt)
            }

            async fn record(c: &mut $connection, id: i64) -> Result<Option<Receipt>, anyhow::Error> {
                let row = sqlx::query($record).bind(format!("charge:{id}")).fetch_optional(c).await?;
                row.map(|row| Ok(serde_json::from_str(&row.try_get::<String, _>(0)?)?)).transpose()
            }

            /// What many teams write by hand: look, act, record, in one transaction. `lock` says whether
            /// two runs at once are kept apart by a lock, or by the record's key alone.
            async fn by_hand(
                c: &mut $connection,
                system: &str,
                lock: bool,
                id: i64,
            ) -> anyhow::Result<Receipt> {
                let mut tx = c.begin_with($begin).await?;
                if let (true, Some(sql)) = (lock, $lock) {
                    sqlx::query(sql).bind(id).execute(&mut *tx).await?;
                }
                let receipt = match record(&mut tx, id).await? {
                    Some(receipt) => receipt,
                    None => {
                        let receipt = effect(&mut tx, system, id).await?;
                        sqlx::query($record_insert)
                            .bind(format!("charge:{id}"))
                            .bind(serde_json::to_string(&receipt)?)
                            .execute(&mut *tx)
                            .await?;
                        receipt
                    }
                };
                tx.commit().await?;
                if let (true, Some(sql)) = (lock, $unlock) {
                    sqlx::query(sql).bind(id).execute(&mut *c).await?;
                }
                Ok(receipt)
            }

            /// By hand without a lock, the loser of a race reads what the winner recorded.
            async fn naive(c: &mut $connection, id: i64) -> anyhow::Result<Receipt> {
                match by_hand(c, "naive", false, id).await {
                    Ok(receipt) => Ok(receipt),
                    Err(error) => record(c, id).await?.ok_or(error),
                }
            }

            /// A connection for each worker, as a program without a pool would have.
            struct Own {
                name: &'static str,
                workload: Workload,
                how: How,
                connections: Vec<Mutex<$connection>>,
            }

            /// A pool as it comes.
            struct Pooled {
                name: &'static str,
                workload: Workload,
                how: How,
                pool: $pool,
            }

            #[derive(Clone, Copy)]
            enum How {
                Bare,
                Naive,
                Careful,
                Read,
            }

            impl How {
                async fn run(self, c: &mut $connection, id: i64) -> anyhow::Result<Receipt> {
                    match self {
                        How::Bare => Ok(bare(c, id).await?),
                        How::Naive => naive(c, id).await,
                        How::Careful => by_hand(c, "careful", true, id).await,
                        How::Read => record(c, id).await?.context("the key has run"),
                    }
                }
            }

            #[async_trait]
            impl System for Own {
                fn name(&self) -> &'static str {
                    self.name
                }

                async fn run(&self, worker: usize) -> anyhow::Result<()> {
                    let connection = |n: usize| &self.connections[n % self.connections.len()];
                    match self.workload {
                        Workload::First => {
                            self.how.run(&mut *connection(worker).lock().await, fresh_key()).await?;
                        }
                        Workload::Replay => {
                            self.how.run(&mut *connection(worker).lock().await, used_key()).await?;
                        }
                        Workload::Herd => {
                            let id = fresh_key();
                            let how = self.how;
                            herd(|n| async move {
                                how.run(&mut *connection(worker * HERD + n).lock().await, id).await
                            })
                            .await?;
                        }
                    }
                    Ok(())
                }
            }

            #[async_trait]
            impl System for Pooled {
                fn name(&self) -> &'static str {
                    self.name
                }

                async fn run(&self, _: usize) -> anyhow::Result<()> {
                    let one = async |id| self.how.run(&mut *self.pool.acquire().await?, id).await;
                    match self.workload {
                        Workload::First => one(fresh_key()).await.map(|_| ()),
                        Workload::Replay => one(used_key()).await.map(|_| ()),
                        Workload::Herd => {
                            let id = fresh_key();
                            let (how, pool) = (self.how, &self.pool);
                            herd(|_| async move { how.run(&mut *pool.acquire().await?, id).await }).await
                        }
                    }
                }
            }

            struct Protected {
                workload: Workload,
                idem: Idem<$db>,
            }

            #[async_trait]
            impl System for Protected {
                fn name(&self) -> &'static str {
                    "idem"
                }

                async fn run(&self, _: usize) -> anyhow::Result<()> {
                    match self.workload {
                        Workload::First => {
                            let done = charge(&self.idem, fresh_key()).await?;
                            anyhow::ensure!(done.is_executed(), "a fresh key ran before");
                        }
                        Workload::Replay => {
                            let done = charge(&self.idem, used_key()).await?;
                            anyhow::ensure!(done.is_replayed(), "a used key ran again");
                        }
                        Workload::Herd => {
                            let id = fresh_key();
                            let idem = &self.idem;
                            herd(|_| async move { Ok(charge(idem, id).await?.into_inner()) }).await?;
                        }
                    }
                    Ok(())
                }
            }

            /// Makes the systems on one database whose tables are there.
            pub(super) async fn systems(
                workload: Workload,
                workers: usize,
                pool: $pool,
                records: u64,
            ) -> anyhow::Result<Bench> {
                let connections = match workload {
                    Workload::Herd => workers * HERD,
                    Workload::First | Workload::Replay => workers,
                };
                let limit = connections.min(MOST_CONNECTIONS);
                let idem = Idem::builder(pool.clone()).connections(u32::try_from(limit)?).build()?;
                idem.migrate().await?;
                idem.enrol::<Charge>().await?;
                fill(&pool, records).await?;
                let own = async |name, how| {
                    let mut connections = Vec::new();
                    for _ in 0..limit {
                        connections.push(Mutex::new(pool.acquire().await?.detach()));
                    }
                    let system: Arc<dyn System> = Arc::new(Own { name, workload, how, connections });
                    anyhow::Ok(system)
                };
                let pooled = |name, how| -> Arc<dyn System> {
                    Arc::new(Pooled { name, workload, how, pool: pool.clone() })
                };
                let protected = Arc::new(Protected { workload, idem: idem.clone() });
                let systems = match workload {
                    Workload::First => vec![
                        own("bare effect, own connection", How::Bare).await?,
                        pooled("bare effect, pool as it comes", How::Bare),
                        pooled("naive by hand, pool as it comes", How::Naive),
                        own("careful by hand, own connection", How::Careful).await?,
                        protected,
                    ],
                    Workload::Replay => {
                        for id in 0..REPLAYED_KEYS {
                            naive(&mut *pool.acquire().await?, id).await?;
                            charge(&idem, id).await?;
                        }
                        vec![
                            own("one prepared read", How::Read).await?,
                            pooled("naive by hand, pool as it comes", How::Naive),
                            own("careful by hand, own connection", How::Careful).await?,
                            protected,
                        ]
                    }
                    Workload::Herd => vec![
                        pooled("naive by hand, pool as it comes", How::Naive),
                        own("careful by hand, own connection", How::Careful).await?,
                        protected,
                    ],
                };
                let check = move || -> Check {
                    let pool = pool.clone();
                    Box::pin(async move {
                        let doubled: i64 = sqlx::query_scalar(
                            "SELECT count(*) FROM (SELECT id FROM charges WHERE system <> 'bare' \
                             GROUP BY system, id HAVING count(*) > 1) doubled",
                        )
                        .fetch_one(&pool)
                        .await?;
                        anyhow::ensure!(doubled == 0, "{doubled} keys were charged twice");
                        Ok(())
                    })
                };
                Ok(Bench { systems, check: Box::new(check) })
            }

            async fn fill(pool: &$pool, records: u64) -> anyhow::Result<()> {
                if records == 0 {
                    return Ok(());
                }
                for sql in super::fill_sql(stringify!($module), records) {
                    sqlx::raw_sql(AssertSqlSafe(sql)).execute(pool).await?;
                }
                Ok(())
            }
        }
    };
}

/// The effect on PostgreSQL, for what is written for it alone.
pub(super) async fn postgres_effect(
    c: &mut sqlx::PgConnection,
    system: &str,
    id: i64,
) -> Result<Receipt, sqlx::Error> {
    postgres::effect(c, system, id).await
}

/// As many connections as the servers take by default, with some left for others.
const MOST_CONNECTIONS: usize = 64;

const NO_SQL: Option<&'static str> = None;

database!(
    sqlite, Sqlite, SqlitePool, SqliteConnection,
    begin: "BEGIN IMMEDIATE",
    lock: NO_SQL,
    unlock: NO_SQL,
    record: "SELECT result FROM by_hand WHERE name = ?",
    record_insert: "INSERT INTO by_hand (name, result) VALUES (?, ?)",
    charge: "INSERT INTO charges (system, id, amount) VALUES (?, ?, 100)",
    balance: "UPDATE accounts SET balance = balance + 1 WHERE id = ?",
);

database!(
    postgres, Postgres, PgPool, PgConnection,
    begin: "BEGIN",
    lock: Some("SELECT pg_advisory_xact_lock($1)"),
    unlock: NO_SQL,
    record: "SELECT result FROM by_hand WHERE name = $1",
    record_insert: "INSERT INTO by_hand (name, result) VALUES ($1, $2)",
    charge: "INSERT INTO charges (system, id, amount) VALUES ($1, $2, 100)",
    balance: "UPDATE accounts SET balance = balance + 1 WHERE id = $1",
);

database!(
    mysql, MySql, MySqlPool, MySqlConnection,
    begin: "BEGIN",
    lock: Some("DO GET_LOCK(concat('charge:', ?), 10)"),
    unlock: Some("DO RELEASE_LOCK(concat('charge:', ?))"),
    record: "SELECT result FROM by_hand WHERE name = ?",
    record_insert: "INSERT INTO by_hand (name, result) VALUES (?, ?)",
    charge: "INSERT INTO charges (`system`, id, amount) VALUES (?, ?, 100)",
    balance: "UPDATE accounts SET balance = balance + 1 WHERE id = ?",
);

/// Makes the systems on a fresh SQLite file, with one writing connection where there is a pool.
pub(crate) async fn sqlite(workload: Workload, workers: usize, records: u64) -> anyhow::Result<Bench> {
    use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions};

    let folder = tempfile::tempdir()?;
    let options = SqliteConnectOptions::new()
        .filename(folder.path().join("bench.db"))
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .busy_timeout(Duration::from_secs(60));
    let pool = SqlitePoolOptions::new().max_connections(16).connect_with(options).await?;
    sqlx::raw_sql(
        "CREATE TABLE charges (seq INTEGER PRIMARY KEY, system TEXT NOT NULL, id INTEGER NOT NULL, amount INTEGER NOT NULL);
         CREATE TABLE accounts (id INTEGER PRIMARY KEY, balance INTEGER NOT NULL);
         CREATE TABLE by_hand (name TEXT PRIMARY KEY, result TEXT NOT NULL) WITHOUT ROWID;",
    )
    .execute(&pool)
    .await?;
    sqlx::query(AssertSqlSafe(format!(
        "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {}) INSERT INTO accounts SELECT i, 0 FROM n",
        ACCOUNTS - 1
    )))
    .execute(&pool)
    .await?;
    let mut bench = sqlite::systems(workload, workers, pool, records).await?;
    let check = bench.check;
    bench.check = Box::new(move || {
        // The folder lives as long as the bench.
        let _ = &folder;
        check()
    });
    Ok(bench)
}

/// Makes the systems in a fresh schema.
pub(crate) async fn postgres(
    workload: Workload,
    workers: usize,
    records: u64,
    network: Duration,
) -> anyhow::Result<Bench> {
    let url = server("IDEM_TEST_POSTGRES")?;
    let mut options: sqlx::postgres::PgConnectOptions = url.parse()?;
    let mut admin = sqlx::PgConnection::connect_with(&options).await?;
    sqlx::raw_sql(AssertSqlSafe(format!(
        "DROP SCHEMA IF EXISTS bench CASCADE; CREATE SCHEMA bench; SET search_path = bench;
         CREATE TABLE charges (seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, system text NOT NULL, id bigint NOT NULL, amount bigint NOT NULL);
         CREATE TABLE accounts (id bigint PRIMARY KEY, balance bigint NOT NULL);
         CREATE TABLE by_hand (name text PRIMARY KEY, result text NOT NULL);
         INSERT INTO accounts SELECT i, 0 FROM generate_series(0, {ACCOUNTS} - 1) i"
    )))
    .execute(&mut admin)
    .await?;
    admin.close().await?;
    let upstream = address(options.get_host(), options.get_port())?;
    let proxy = proxy(upstream, network).await?;
    if let Some(proxy) = &proxy {
        options = options.host(&proxy.address().ip().to_string()).port(proxy.address().port());
    }
    let options = options.options([("search_path", "bench")]);
    let pool = sqlx::postgres::PgPoolOptions::new()
        .max_connections(u32::try_from(MOST_CONNECTIONS)?)
        .connect_with(options)
        .await?;
    let folded = match workload {
        Workload::First => Some(Folded::new(&pool, workers.min(MOST_CONNECTIONS)).await?),
        Workload::Replay | Workload::Herd => None,
    };
    let mut bench = postgres::systems(workload, workers, pool, records).await?;
    if let Some(folded) = folded {
        let last = bench.systems.len() - 1;
        bench.systems.insert(last, Arc::new(folded));
    }
    keep(proxy, bench)
}

/// Makes the systems in a fresh database.
pub(crate) async fn mysql(
    workload: Workload,
    workers: usize,
    records: u64,
    network: Duration,
) -> anyhow::Result<Bench> {
    let url = server("IDEM_TEST_MYSQL")?;
    let mut options: sqlx::mysql::MySqlConnectOptions = url.parse()?;
    let mut admin = sqlx::MySqlConnection::connect_with(&options).await?;
    sqlx::raw_sql(AssertSqlSafe(format!(
        "DROP DATABASE IF EXISTS idem_bench; CREATE DATABASE idem_bench; USE idem_bench;
         CREATE TABLE charges (seq bigint AUTO_INCREMENT PRIMARY KEY, `system` varchar(20) NOT NULL, id bigint NOT NULL, amount bigint NOT NULL);
         CREATE TABLE accounts (id bigint PRIMARY KEY, balance bigint NOT NULL);
         CREATE TABLE by_hand (name varchar(100) PRIMARY KEY, result text NOT NULL);
         INSERT INTO accounts WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {} - 1) SELECT i, 0 FROM n",
        ACCOUNTS.min(1_000)
    )))
    .execute(&mut admin)
    .await?;
    sqlx::raw_sql(AssertSqlSafe(format!(
        "INSERT IGNORE INTO accounts SELECT a.id + 1000 * b.id, 0 FROM accounts a, accounts b WHERE b.id < {}",
        ACCOUNTS / 1_000
    )))
    .execute(&mut admin)
    .await?;
    admin.close().await?;
    let upstream = address(options.get_host(), options.get_port())?;
    let proxy = proxy(upstream, network).await?;
    if let Some(proxy) = &proxy {
        options = options.host(&proxy.address().ip().to_string()).port(proxy.address().port());
    }
    let pool = sqlx::mysql::MySqlPoolOptions::new()
        .max_connections(u32::try_from(MOST_CONNECTIONS)?)
        .connect_with(options.database("idem_bench"))
        .await?;
    keep(proxy, mysql::systems(workload, workers, pool, records).await?)
}

fn server(variable: &str) -> anyhow::Result<String> {
    std::env::var(variable).with_context(|| format!("{variable} names no server; `scripts/bench` starts one"))
}

fn address(host: &str, port: u16) -> anyhow::Result<SocketAddr> {
    (host, port).to_socket_addrs()?.next().context("the server's host has no address")
}

async fn proxy(upstream: SocketAddr, network: Duration) -> anyhow::Result<Option<Proxy>> {
    match network.is_zero() {
        true => Ok(None),
        false => Ok(Some(Proxy::start(upstream, network).await?)),
    }
}

/// Keeps the proxy for as long as the bench.
fn keep(proxy: Option<Proxy>, mut bench: Bench) -> anyhow::Result<Bench> {
    let check = bench.check;
    bench.check = Box::new(move || {
        let _ = &proxy;
        check()
    });
    Ok(bench)
}

/// Fills idem's table with records of other keys.
fn fill_sql(database: &str, records: u64) -> Vec<String> {
    match database {
        "postgres" => vec![
            format!(
                "INSERT INTO idem_records (fingerprint, completed_at, expires_at, key, job, outcome, readable, result) \
                 SELECT i, now(), now() + interval '7 days', gen_random_uuid(), 1, 1, i::text, '\\x0e0b0663686172676506ff0700' \
                 FROM generate_series(1, {records}) i"
            ),
            String::from("VACUUM ANALYZE idem_records"),
            String::from("CHECKPOINT"),
        ],
        "sqlite" => vec![format!(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {records}) \
             INSERT INTO idem_records (key, job, fingerprint, outcome, completed_at, expires_at, readable, result) \
             SELECT randomblob(16), 1, random(), 1, unixepoch(), unixepoch() + 604800, i, x'0e0b0663686172676506ff0700' FROM n"
        )],
        _ => {
            let rows = "SELECT random_bytes(16) AS k, a.id AS i FROM accounts a, accounts b";
            vec![format!(
                "INSERT INTO idem_records (`key`, job, fingerprint, outcome, completed_at, expires_at, readable, result) \
                 SELECT k, 1, i, 1, 0, NULL, i, x'0e0b0663686172676506ff0700' FROM ({rows} LIMIT {records}) r"
            )]
        }
    }
}

/// Runs `one` sixteen times at once and makes sure that all answers are equal.
async fn herd<F>(one: impl Fn(usize) -> F) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<Receipt>>,
{
    let answers = futures_util::future::try_join_all((0..HERD).map(one)).await?;
    anyhow::ensure!(answers.iter().all(|answer| *answer == answers[0]), "two runs of one key differ");
    Ok(())
}
