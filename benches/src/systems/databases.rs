//! The systems, written once for the three databases.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use async_trait::async_trait;
use idem_bench::servers;
use idem_bench_page::Contender;
use sqlx::{AssertSqlSafe, Connection as _, Row as _};
use tokio::sync::Mutex;

use super::folded::Folded;
use super::{ACCOUNTS, Bench, HERD, Network, REPLAYED_KEYS, STEPS, System, Workload, fresh_key, used_key};

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
        balance: $balance:literal,
        claim: $claim:literal,
        step: $step:literal,
        settle: $settle:literal $(,)?
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
                insert(c, system, id).await?;
                sqlx::query($balance).bind(id % ACCOUNTS).execute(c).await?;
                Ok(Receipt { charge: id })
            }

            /// The effect of a step.
            async fn insert(c: &mut $connection, system: &str, id: i64) -> Result<(), sqlx::Error> {
                sqlx::query($charge).bind(system).bind(id).execute(c).await.map(|_| ())
            }

            /// The leased job.
            #[idempotent(key = id, in_doubt = rerun)]
            pub(super) async fn charge_in_steps(
                run: &mut Run<'_, $db>,
                id: i64,
            ) -> Result<Receipt, sqlx::Error> {
                for step in 0..STEPS {
                    run.tx_step(("charge", step), async |tx| insert(tx, "idem", id * STEPS + step).await)
                        .await?;
                }
                Ok(Receipt { charge: id })
            }

            /// No protection of the steps, which commit by themselves.
            async fn bare_steps(c: &mut $connection, id: i64) -> Result<Receipt, sqlx::Error> {
                for step in 0..STEPS {
                    insert(c, "bare", id * STEPS + step).await?;
                }
                Ok(Receipt { charge: id })
            }

            /// A claim with a lease, in a row that says how far the run is. Each step is recorded in its own
            /// transaction, if the claim still stands.
            async fn steps_by_hand(c: &mut $connection, id: i64) -> anyhow::Result<Receipt> {
                let name = format!("charge:{id}");
                let lapses = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() + 30;
                let lapses = i64::try_from(lapses)?;
                sqlx::query($claim).bind(&name).bind(id).bind(lapses).execute(&mut *c).await?;
                for step in 0..STEPS {
                    let mut tx = c.begin_with($begin).await?;
                    insert(&mut tx, "careful", id * STEPS + step).await?;
                    let held = sqlx::query($step).bind(step).bind(&name).bind(id).execute(&mut *tx).await?;
                    anyhow::ensure!(held.rows_affected() == 1, "the claim of {name} is lost");
                    tx.commit().await?;
                }
                let receipt = Receipt { charge: id };
                let result = serde_json::to_string(&receipt)?;
                let held = sqlx::query($settle).bind(result).bind(&name).bind(id).execute(c).await?;
                anyhow::ensure!(held.rows_affected() == 1, "the claim of {name} is lost");
                Ok(receipt)
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
                contender: Contender,
                workload: Workload,
                how: How,
                connections: Vec<Mutex<$connection>>,
            }

            /// A pool as it comes.
            struct Pooled {
                contender: Contender,
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
                BareSteps,
                CarefulSteps,
            }

            impl How {
                async fn run(self, c: &mut $connection, id: i64) -> anyhow::Result<Receipt> {
                    match self {
                        How::Bare => Ok(bare(c, id).await?),
                        How::Naive => naive(c, id).await,
                        How::Careful => by_hand(c, "careful", true, id).await,
                        How::Read => record(c, id).await?.context("the key has run"),
                        How::BareSteps => Ok(bare_steps(c, id).await?),
                        How::CarefulSteps => steps_by_hand(c, id).await,
                    }
                }
            }

            #[async_trait]
            impl System for Own {
                fn contender(&self) -> Contender {
                    self.contender
                }

                async fn run(&self, caller: usize) -> anyhow::Result<()> {
                    let connection = |n: usize| &self.connections[n % self.connections.len()];
                    match self.workload {
                        Workload::First | Workload::Steps => {
                            self.how.run(&mut *connection(caller).lock().await, fresh_key()).await?;
                        }
                        Workload::Replay => {
                            self.how.run(&mut *connection(caller).lock().await, used_key()).await?;
                        }
                        Workload::Herd => {
                            let id = fresh_key();
                            let how = self.how;
                            herd(|n| async move {
                                how.run(&mut *connection(caller * HERD + n).lock().await, id).await
                            })
                            .await?;
                        }
                    }
                    Ok(())
                }
            }

            #[async_trait]
            impl System for Pooled {
                fn contender(&self) -> Contender {
                    self.contender
                }

                async fn run(&self, _: usize) -> anyhow::Result<()> {
                    let one = async |id| self.how.run(&mut *self.pool.acquire().await?, id).await;
                    match self.workload {
                        Workload::First | Workload::Steps => one(fresh_key()).await.map(|_| ()),
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
                fn contender(&self) -> Contender {
                    Contender::Idem
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
                        Workload::Steps => {
                            let done = charge_in_steps(&self.idem, fresh_key()).await?;
                            anyhow::ensure!(done.is_executed(), "a fresh key ran before");
                        }
                    }
                    Ok(())
                }
            }

            /// Makes the systems on one database whose tables are there.
            pub(super) async fn systems(
                workload: Workload,
                callers: usize,
                pool: $pool,
                records: u64,
            ) -> anyhow::Result<Bench> {
                let connections = match workload {
                    Workload::Herd => callers * HERD,
                    Workload::First | Workload::Replay | Workload::Steps => callers,
                };
                let limit = connections.min(MOST_CONNECTIONS);
                let idem = Idem::builder(pool.clone()).connections(u32::try_from(limit)?).build()?;
                idem.migrate().await?;
                idem.enrol::<Charge>().await?;
                idem.enrol::<ChargeInSteps>().await?;
                fill(&pool, records).await?;
                let own = async |contender, how| {
                    let mut connections = Vec::new();
                    for _ in 0..limit {
                        connections.push(Mutex::new(pool.acquire().await?.detach()));
                    }
                    let system: Arc<dyn System> = Arc::new(Own { contender, workload, how, connections });
                    anyhow::Ok(system)
                };
                let pooled = |contender, how| -> Arc<dyn System> {
                    Arc::new(Pooled { contender, workload, how, pool: pool.clone() })
                };
                let protected = Arc::new(Protected { workload, idem: idem.clone() });
                use Contender::{BareOwn, BarePool, CarefulOwn, NaivePool, OneRead};
                let systems = match workload {
                    Workload::First => vec![
                        own(BareOwn, How::Bare).await?,
                        pooled(BarePool, How::Bare),
                        pooled(NaivePool, How::Naive),
                        own(CarefulOwn, How::Careful).await?,
                        protected,
                    ],
                    Workload::Replay => {
                        for id in 0..REPLAYED_KEYS {
                            naive(&mut *pool.acquire().await?, id).await?;
                            charge(&idem, id).await?;
                        }
                        vec![
                            own(OneRead, How::Read).await?,
                            pooled(NaivePool, How::Naive),
                            own(CarefulOwn, How::Careful).await?,
                            protected,
                        ]
                    }
                    Workload::Herd => {
                        vec![pooled(NaivePool, How::Naive), own(CarefulOwn, How::Careful).await?, protected]
                    }
                    Workload::Steps => vec![
                        own(BareOwn, How::BareSteps).await?,
                        pooled(BarePool, How::BareSteps),
                        own(CarefulOwn, How::CarefulSteps).await?,
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
                Ok(Bench { systems, check: Box::new(check), proxy: None })
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
    claim: "INSERT INTO claims_by_hand (name, token, lapses, step) VALUES (?, ?, ?, -1)",
    step: "UPDATE claims_by_hand SET step = ? WHERE name = ? AND token = ?",
    settle: "UPDATE claims_by_hand SET result = ? WHERE name = ? AND token = ?",
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
    claim: "INSERT INTO claims_by_hand (name, token, lapses, step) VALUES ($1, $2, $3, -1)",
    step: "UPDATE claims_by_hand SET step = $1 WHERE name = $2 AND token = $3",
    settle: "UPDATE claims_by_hand SET result = $1 WHERE name = $2 AND token = $3",
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
    claim: "INSERT INTO claims_by_hand (name, token, lapses, step) VALUES (?, ?, ?, -1)",
    step: "UPDATE claims_by_hand SET step = ? WHERE name = ? AND token = ?",
    settle: "UPDATE claims_by_hand SET result = ? WHERE name = ? AND token = ?",
);

/// Makes the systems on a fresh SQLite file, with one writing connection where there is a pool.
pub(super) async fn sqlite(workload: Workload, callers: usize, records: u64) -> anyhow::Result<Bench> {
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
         CREATE TABLE by_hand (name TEXT PRIMARY KEY, result TEXT NOT NULL) WITHOUT ROWID;
         CREATE TABLE claims_by_hand (name TEXT PRIMARY KEY, token INTEGER NOT NULL, lapses INTEGER NOT NULL, step INTEGER NOT NULL, result TEXT) WITHOUT ROWID;",
    )
    .execute(&pool)
    .await?;
    sqlx::query(AssertSqlSafe(format!(
        "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {}) INSERT INTO accounts SELECT i, 0 FROM n",
        ACCOUNTS - 1
    )))
    .execute(&pool)
    .await?;
    let mut bench = sqlite::systems(workload, callers, pool, records).await?;
    let check = bench.check;
    bench.check = Box::new(move || {
        // The folder lives as long as the bench.
        let _ = &folder;
        check()
    });
    Ok(bench)
}

/// Makes the systems in a fresh schema.
pub(super) async fn postgres(
    workload: Workload,
    callers: usize,
    records: u64,
    network: Network,
) -> anyhow::Result<Bench> {
    let mut options = servers::postgres()?;
    let mut admin = sqlx::PgConnection::connect_with(&options).await?;
    sqlx::raw_sql(AssertSqlSafe(format!(
        "DROP SCHEMA IF EXISTS bench CASCADE; CREATE SCHEMA bench; SET search_path = bench;
         CREATE TABLE charges (seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, system text NOT NULL, id bigint NOT NULL, amount bigint NOT NULL);
         CREATE TABLE accounts (id bigint PRIMARY KEY, balance bigint NOT NULL) WITH (fillfactor = 50);
         CREATE TABLE by_hand (name text PRIMARY KEY, result text NOT NULL);
         CREATE TABLE claims_by_hand (name text PRIMARY KEY, token bigint NOT NULL, lapses bigint NOT NULL, step bigint NOT NULL, result text);
         INSERT INTO accounts SELECT i, 0 FROM generate_series(0, {ACCOUNTS} - 1) i"
    )))
    .execute(&mut admin)
    .await?;
    admin.close().await?;
    let mut proxy = None;
    if let Network::Proxy(delay) = network {
        let (between, through) = servers::postgres_through_proxy(options, delay).await?;
        (proxy, options) = (Some(between), through);
    }
    let options = options.options([("search_path", "bench")]);
    let pool = sqlx::postgres::PgPoolOptions::new()
        .max_connections(u32::try_from(MOST_CONNECTIONS)?)
        .connect_with(options)
        .await?;
    let folded = match workload {
        Workload::First => Some(Folded::new(&pool, callers.min(MOST_CONNECTIONS)).await?),
        Workload::Replay | Workload::Herd | Workload::Steps => None,
    };
    let mut bench = postgres::systems(workload, callers, pool, records).await?;
    if let Some(folded) = folded {
        let last = bench.systems.len() - 1;
        bench.systems.insert(last, Arc::new(folded));
    }
    bench.proxy = proxy;
    Ok(bench)
}

/// Makes the systems in a fresh database.
pub(super) async fn mysql(
    workload: Workload,
    callers: usize,
    records: u64,
    network: Network,
) -> anyhow::Result<Bench> {
    let mut options = servers::mysql()?;
    let mut admin = sqlx::MySqlConnection::connect_with(&options).await?;
    sqlx::raw_sql(AssertSqlSafe(format!(
        "DROP DATABASE IF EXISTS idem_bench; CREATE DATABASE idem_bench; USE idem_bench;
         CREATE TABLE charges (seq bigint AUTO_INCREMENT PRIMARY KEY, `system` varchar(20) NOT NULL, id bigint NOT NULL, amount bigint NOT NULL);
         CREATE TABLE accounts (id bigint PRIMARY KEY, balance bigint NOT NULL);
         CREATE TABLE by_hand (name varchar(100) PRIMARY KEY, result text NOT NULL);
         CREATE TABLE claims_by_hand (name varchar(100) PRIMARY KEY, token bigint NOT NULL, lapses bigint NOT NULL, step bigint NOT NULL, result text);
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
    let mut proxy = None;
    if let Network::Proxy(delay) = network {
        let (between, through) = servers::mysql_through_proxy(options, delay).await?;
        (proxy, options) = (Some(between), through);
    }
    let pool = sqlx::mysql::MySqlPoolOptions::new()
        .max_connections(u32::try_from(MOST_CONNECTIONS)?)
        .connect_with(options.database("idem_bench"))
        .await?;
    let mut bench = mysql::systems(workload, callers, pool, records).await?;
    bench.proxy = proxy;
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
