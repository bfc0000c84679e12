//! What a run costs beside the bare effect: round trips, transactions, bytes. Counts do not depend on
//! the machine; nothing here is timed.

#[cfg(feature = "postgres")]
mod quiet;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use idem_runtime::engine::TaskId;
use idem_runtime::key::{Key, KeyParts};
use idem_runtime::prelude::*;
use idem_runtime::record::JobId;
use idem_runtime::store::{Engine, Push, Pushed, SqlDatabase, Store, UniqueClaim};
use idem_testkit::lab::{Lab, LabDatabase, OptionsOf};
use idem_testkit::proxy::Proxy;
use serde::{Deserialize, Serialize};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Receipt {
    charge: i64,
}

/// Defines the same effect and the same job for a database.
macro_rules! define_job {
    ($connection:ident, $db:ident, $begin:literal, $insert:literal, $update:literal) => {
        use super::*;
        use sqlx::$connection;

        async fn effect(c: &mut $connection, id: i64) -> Result<Receipt, sqlx::Error> {
            sqlx::query($insert).bind(id).execute(&mut *c).await?;
            sqlx::query($update).bind(id % 10).execute(c).await?;
            Ok(Receipt { charge: id })
        }

        /// The effect without protection.
        async fn bare(c: &mut $connection, id: i64) {
            let mut tx = c.begin_with($begin).await.unwrap();
            effect(&mut tx, id).await.unwrap();
            tx.commit().await.unwrap();
        }

        /// The effect with it.
        #[idempotent(key = id)]
        async fn charge(tx: &mut Tx<'_, $db>, id: i64, amount: u32) -> Result<Receipt, sqlx::Error> {
            let _ = amount;
            effect(tx, id).await
        }

        /// The same, with two jobs that are to follow.
        #[idempotent(key = id)]
        async fn charge_and_go_on(tx: &mut Tx<'_, $db>, id: i64) -> Result<Receipt, sqlx::Error> {
            tx.enqueue(Charge { id, amount: 1 });
            tx.enqueue(Charge { id: id + 1, amount: 1 });
            effect(tx, id).await
        }
    };
}

async fn lab<D: LabDatabase>(serial: &str) -> Option<Lab<D>>
where
    for<'c> &'c mut <D as sqlx::Database>::Connection: sqlx::Executor<'c, Database = D>,
{
    let lab = D::lab().await?;
    let tables = format!(
        "CREATE TABLE charges (seq {serial}, id BIGINT NOT NULL); \
         CREATE TABLE accounts (id BIGINT PRIMARY KEY, balance BIGINT NOT NULL); \
         INSERT INTO accounts VALUES (0,0), (1,0), (2,0), (3,0), (4,0), (5,0), (6,0), (7,0), (8,0), (9,0)"
    );
    sqlx::raw_sql(AssertSqlSafe(tables)).execute(&mut lab.connect().await).await.unwrap();
    Some(lab)
}

fn pool<D: sqlx::Database>(options: OptionsOf<D>) -> sqlx::Pool<D> {
    sqlx::pool::PoolOptions::new().max_connections(5).connect_lazy_with(options)
}

/// The first runs and replays of a process prepare statements; a few of them bring it to where it
/// stays. They end with runs, so that a run is what it expects next.
const WARM_UP: [i64; 10] = [-1, -1, -1, -1, -1, -2, -3, -4, -5, -6];

/// Waits until what follows an answer is over, and returns how many round trips it took. A store of a single connection
/// reads only once that is free again.
async fn until_closed<D: SqlDatabase>(store: &dyn Store<D>, proxy: &Proxy) -> u64 {
    let before = proxy.round_trips();
    assert!(store.read(keys(u32::MAX - 1..u32::MAX)[0].hash()).await.unwrap().is_none());
    proxy.round_trips() - before
}

/// Makes keys that nobody has pushed.
fn keys(numbers: std::ops::Range<u32>) -> Vec<Key> {
    let key = |number: u32| Key::new("default", "job", &KeyParts::of(&number.to_string()).unwrap());
    numbers.map(key).collect()
}

/// Makes a new task for each key, with a claim of its own.
fn pushes(keys: &[Key]) -> Vec<Push<'_>> {
    let push = |key| Push {
        id: TaskId::new().unwrap(),
        namespace: "default",
        name: "job",
        queue: "job",
        job: JobId(1),
        key,
        records: true,
        payload: b"payload",
        claim: Some(UniqueClaim { key, lasts: None }),
        unclaimed: None,
        after: Duration::ZERO,
        priority: 0,
        attempts: 25,
        outbox: None,
        ends_if_held: true,
        holds_back: false,
    };
    keys.iter().map(push).collect()
}

/// Checks that each task is held by the one in its place.
fn assert_held(answers: &[Pushed], by: &[Push<'_>]) {
    assert_eq!(answers.len(), by.len());
    for (answer, holder) in answers.iter().zip(by) {
        assert!(matches!(answer, Pushed::Held(held) if held.task == holder.id), "{answer:?}");
    }
}

fn median(mut values: Vec<i64>) -> i64 {
    values.sort_unstable();
    values[values.len() / 2]
}

#[cfg(feature = "postgres")]
mod postgres {
    define_job!(
        PgConnection,
        Postgres,
        "BEGIN",
        "INSERT INTO charges (id) VALUES ($1)",
        "UPDATE accounts SET balance = balance + 1 WHERE id = $1"
    );

    struct Server {
        idem: Idem<Postgres>,
        bare: PgConnection,
        proxy: Proxy,
        /// Looks at the server from outside.
        observer: PgConnection,
        _lab: Lab<Postgres>,
        /// The bytes of the log and the numbers of transactions are the whole server's.
        _alone: tokio::sync::MutexGuard<'static, ()>,
    }

    static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

    impl Server {
        async fn start() -> Option<Server> {
            let alone = ALONE.lock().await;
            let lab = lab::<Postgres>("BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY").await?;
            let (proxy, options) = Postgres::proxy(&lab.options(), Duration::ZERO).await?;
            let idem = Idem::builder(pool(options.clone())).connections(1).build().unwrap();
            idem.migrate().await.unwrap();
            let mut bare_connection = options.connect().await.unwrap();
            for id in WARM_UP {
                let _ = charge(&idem, id, 0).await.unwrap();
                until_closed(&**idem.store(), &proxy).await;
                bare(&mut bare_connection, id).await;
            }
            let mut observer = lab.connect().await;
            quiet::keep_quiet(&mut observer).await;
            Some(Server { idem, bare: bare_connection, proxy, observer, _lab: lab, _alone: alone })
        }

        async fn number(&mut self, sql: &'static str) -> i64 {
            sqlx::query_scalar(sql).fetch_one(&mut self.observer).await.unwrap()
        }

        async fn wal(&mut self) -> i64 {
            self.number("SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint").await
        }

        /// The number of transactions that ever wrote.
        async fn writes(&mut self) -> i64 {
            self.number("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint").await
        }

        /// Checks that something writes not a byte.
        async fn check_writes_nothing(&mut self, work: impl AsyncFn(&Server)) {
            let written = async |server: &mut Server| (server.wal().await, server.writes().await);
            let work = async |server: &Server, _| work(server).await;
            quiet::check_leaves_alone("bytes and transactions", self, written, work).await;
        }
    }

    #[tokio::test]
    async fn a_run_costs_no_round_trip_one_transaction_and_few_bytes_more_than_its_effect() {
        let Some(mut server) = Server::start().await else { return };

        let trips = server.proxy.round_trips();
        bare(&mut server.bare, 1).await;
        let bare_trips = server.proxy.round_trips() - trips;
        assert_eq!(bare_trips, 4);

        let trips = server.proxy.round_trips();
        let writes = server.writes().await;
        assert!(charge(&server.idem, 1, 0).await.unwrap().is_executed());
        assert_eq!(server.proxy.round_trips() - trips, bare_trips);
        assert_eq!(server.writes().await - writes, 1);

        // All that it enqueues is one more.
        charge_and_go_on(&server.idem, 1).await.unwrap();
        let (trips, writes) = (server.proxy.round_trips(), server.writes().await);
        charge_and_go_on(&server.idem, 2).await.unwrap();
        assert_eq!(server.proxy.round_trips() - trips, bare_trips + 1);
        assert_eq!(server.writes().await - writes, 1);

        let (mut bare_wal, mut idem_wal) = (Vec::new(), Vec::new());
        for id in 100..300 {
            let before = server.wal().await;
            bare(&mut server.bare, id).await;
            let between = server.wal().await;
            let _ = charge(&server.idem, id, 0).await.unwrap();
            let after = server.wal().await;
            bare_wal.push(between - before);
            idem_wal.push(after - between);
        }
        let (bare_wal, idem_wal) = (median(bare_wal), median(idem_wal));
        println!("WAL of a first run: bare {bare_wal} B, idem {idem_wal} B, {} B more", idem_wal - bare_wal);
        assert!(idem_wal - bare_wal <= 220, "{} B more", idem_wal - bare_wal);

        // After runs, a replay opens a transaction and has its answer with that; the closing follows.
        // After replays it is one plain read. The same goes for a refused duplicate.
        let replays = async |server: &Server| {
            for round in 0..8 {
                let trips = server.proxy.round_trips();
                match round % 2 {
                    0 => assert!(charge(&server.idem, 1, 0).await.unwrap().is_replayed()),
                    _ => assert!(matches!(charge(&server.idem, 1, 1).await, Err(Error::KeyReused(_)))),
                }
                assert_eq!(server.proxy.round_trips() - trips, 1, "round {round}");
                // What follows must not be counted in the next round: the end of a transaction, and one that reads.
                let closing = until_closed(&**server.idem.store(), &server.proxy).await;
                assert!(closing <= 2, "round {round}: {closing} round trips follow");
            }
        };
        server.check_writes_nothing(replays).await;

        let size = record_bytes(&mut server.observer).await;
        println!("a record takes {size} B on disk");
        assert!(size <= 175, "{size} B");
    }

    #[idempotent(key = id, in_doubt = rerun)]
    async fn call(id: i64) -> Result<i64, Infallible> {
        Ok(id)
    }

    #[idempotent(key = id, in_doubt = rerun)]
    async fn fulfil(run: &mut Run<'_, Postgres>, id: i64) -> Result<i64, sqlx::Error> {
        for call in 0..3 {
            run.step(("keyed", call), async |_| Ok::<_, sqlx::Error>(call)).await?;
        }
        run.tx_step("effect", async |tx| effect(tx, id).await.map(|_| ())).await?;
        run.step("unkeyed", async |_| Ok::<_, sqlx::Error>(())).park().await?;
        Ok(id)
    }

    #[tokio::test]
    async fn a_leased_job_writes_twice_and_once_more_for_each_step_and_a_replay_never() {
        let Some(mut server) = Server::start().await else { return };
        // Both jobs are made known, and their statements prepared.
        assert!(call(&server.idem, 0).await.unwrap().is_executed());
        assert!(fulfil(&server.idem, 0).await.unwrap().is_executed());

        let (trips, writes) = (server.proxy.round_trips(), server.writes().await);
        assert!(call(&server.idem, 1).await.unwrap().is_executed());
        assert_eq!(server.writes().await - writes, 2);
        assert_eq!(server.proxy.round_trips() - trips, 2);

        let writes = server.writes().await;
        assert!(fulfil(&server.idem, 1).await.unwrap().is_executed());
        // Claim and outcome; three steps of a callee that takes a key, one in a transaction, two of one that takes none.
        assert_eq!(server.writes().await - writes, 2 + 3 + 1 + 2);

        let replays = async |server: &Server| {
            for _ in 0..3 {
                let trips = server.proxy.round_trips();
                assert!(call(&server.idem, 1).await.unwrap().is_replayed());
                assert!(fulfil(&server.idem, 1).await.unwrap().is_replayed());
                assert_eq!(server.proxy.round_trips() - trips, 2, "one round trip each");
            }
        };
        server.check_writes_nothing(replays).await;
    }

    #[tokio::test]
    async fn a_push_is_one_message_and_a_duplicate_writes_nothing() {
        let Some(mut server) = Server::start().await else { return };
        let store = Arc::clone(server.idem.store());
        let keys = keys(0..102);
        let first = pushes(&keys);

        for (tasks, what) in [(&first[..1], "one task"), (&first[1..101], "a hundred")] {
            let (trips, writes) = (server.proxy.round_trips(), server.writes().await);
            let answers = store.push(None, Engine::Outbox, tasks).await.unwrap();
            assert_eq!(answers, vec![Pushed::New; tasks.len()], "{what}");
            assert_eq!(server.proxy.round_trips() - trips, 1, "{what}");
            assert_eq!(server.writes().await - writes, 1, "{what}");
        }

        let second = pushes(&keys);
        let duplicates = async |server: &Server| {
            for range in [0..1, 0..1, 0..101] {
                let trips = server.proxy.round_trips();
                let answers = store.push(None, Engine::Outbox, &second[range.clone()]).await.unwrap();
                assert_held(&answers, &first[range]);
                assert_eq!(server.proxy.round_trips() - trips, 1);
            }
        };
        server.check_writes_nothing(duplicates).await;

        let mut tx = server.bare.begin().await.unwrap();
        effect(&mut tx, 1).await.unwrap();
        let trips = server.proxy.round_trips();
        let answers = store.push(Some(&mut tx), Engine::Outbox, &first[101..]).await.unwrap();
        assert_eq!(answers, [Pushed::New]);
        assert_eq!(server.proxy.round_trips() - trips, 1);
        let answers = store.push(Some(&mut tx), Engine::Outbox, &second[101..]).await.unwrap();
        assert_held(&answers, &first[101..]);
        assert_eq!(server.proxy.round_trips() - trips, 2);
        tx.commit().await.unwrap();
        assert_eq!(server.proxy.round_trips() - trips, 3);
    }

    /// Multiplies a real record and weighs table and index.
    async fn record_bytes(observer: &mut PgConnection) -> i64 {
        sqlx::raw_sql(
            "CREATE TABLE many (LIKE idem_records INCLUDING ALL); \
             INSERT INTO many (fingerprint, completed_at, expires_at, key, job, outcome, readable, result) \
             SELECT fingerprint, completed_at, expires_at, gen_random_uuid(), job, outcome, '1234567', result \
             FROM (SELECT * FROM idem_records WHERE readable = '299') r, generate_series(1, 100000)",
        )
        .execute(&mut *observer)
        .await
        .unwrap();
        sqlx::query_scalar("SELECT pg_total_relation_size('many') / 100000")
            .fetch_one(observer)
            .await
            .unwrap()
    }

    #[tokio::test]
    async fn sixteen_runs_at_once_share_one_transaction() {
        let Some(server) = Server::start().await else { return };
        // What one crowd has learnt is no reason for the next to read first.
        for id in 7_777..7_781 {
            let trips = server.proxy.round_trips();
            let barrier = Arc::new(tokio::sync::Barrier::new(16));
            let runs: Vec<_> = (0..16)
                .map(|_| {
                    let (idem, barrier) = (server.idem.clone(), Arc::clone(&barrier));
                    tokio::spawn(async move {
                        barrier.wait().await;
                        charge(&idem, id, 0).await.unwrap().is_executed()
                    })
                })
                .collect();
            let mut executed = 0;
            for run in runs {
                executed += u32::from(run.await.unwrap());
            }
            assert_eq!(executed, 1);
            assert_eq!(server.proxy.round_trips() - trips, 4, "of key {id}");
        }
    }
}

#[cfg(feature = "mysql")]
mod mysql {
    define_job!(
        MySqlConnection,
        MySql,
        "BEGIN",
        "INSERT INTO charges (id) VALUES (?)",
        "UPDATE accounts SET balance = balance + 1 WHERE id = ?"
    );

    #[tokio::test]
    async fn a_run_costs_no_round_trip_more_than_its_effect() {
        let Some(lab) = lab::<MySql>("BIGINT AUTO_INCREMENT PRIMARY KEY").await else { return };
        let (proxy, options) = MySql::proxy(&lab.options(), Duration::ZERO).await.unwrap();
        let idem = Idem::builder(pool(options.clone())).connections(1).build().unwrap();
        idem.migrate().await.unwrap();
        let mut connection = options.connect().await.unwrap();
        for id in WARM_UP {
            let _ = charge(&idem, id, 0).await.unwrap();
            until_closed(&**idem.store(), &proxy).await;
            bare(&mut connection, id).await;
        }
        let trips = proxy.round_trips();
        bare(&mut connection, 1).await;
        let bare_trips = proxy.round_trips() - trips;
        assert_eq!(bare_trips, 4);

        let trips = proxy.round_trips();
        assert!(charge(&idem, 1, 0).await.unwrap().is_executed());
        assert_eq!(proxy.round_trips() - trips, bare_trips);

        charge_and_go_on(&idem, 1).await.unwrap();
        let trips = proxy.round_trips();
        charge_and_go_on(&idem, 2).await.unwrap();
        assert_eq!(proxy.round_trips() - trips, bare_trips + 1);

        for round in 0..8 {
            let trips = proxy.round_trips();
            match round % 2 {
                0 => assert!(charge(&idem, 1, 0).await.unwrap().is_replayed()),
                _ => assert!(matches!(charge(&idem, 1, 1).await, Err(Error::KeyReused(_)))),
            }
            assert_eq!(proxy.round_trips() - trips, 1, "round {round}");
            let closing = until_closed(&**idem.store(), &proxy).await;
            assert!(closing <= 2, "round {round}: {closing} round trips follow");
        }
    }

    #[tokio::test]
    async fn a_push_looks_claims_and_commits_and_a_duplicate_only_looks() {
        let Some(lab) = lab::<MySql>("BIGINT AUTO_INCREMENT PRIMARY KEY").await else { return };
        let (proxy, options) = MySql::proxy(&lab.options(), Duration::ZERO).await.unwrap();
        let idem = Idem::builder(pool::<MySql>(options)).build().unwrap();
        idem.migrate().await.unwrap();
        let store = idem.store();
        let keys = keys(0..101);
        let (first, second) = (pushes(&keys), pushes(&keys));
        for range in [0..1, 1..101] {
            let trips = proxy.round_trips();
            let answers = store.push(None, Engine::Outbox, &first[range.clone()]).await.unwrap();
            assert_eq!(answers, vec![Pushed::New; range.len()]);
            assert_eq!(proxy.round_trips() - trips, 3);
        }
        for range in [0..1, 0..101] {
            let trips = proxy.round_trips();
            let answers = store.push(None, Engine::Outbox, &second[range.clone()]).await.unwrap();
            assert_held(&answers, &first[range]);
            assert_eq!(proxy.round_trips() - trips, 1);
        }
    }
}

mod sqlite {
    define_job!(
        SqliteConnection,
        Sqlite,
        "BEGIN IMMEDIATE",
        "INSERT INTO charges (id) VALUES (?)",
        "UPDATE accounts SET balance = balance + 1 WHERE id = ?"
    );

    /// Counts the transactions in the write-ahead log: the last frame of each says how large the
    /// database is after it.
    fn commits(options: &OptionsOf<Sqlite>) -> usize {
        let mut path = options.get_filename().to_owned().into_os_string();
        path.push("-wal");
        let log = std::fs::read(path).unwrap();
        let page = usize::try_from(u32::from_be_bytes(log[8..12].try_into().unwrap())).unwrap();
        log[32..].chunks_exact(24 + page).filter(|frame| frame[4..8] != [0; 4]).count()
    }

    #[tokio::test]
    async fn a_run_is_one_writing_transaction_and_a_replay_none() {
        let lab = lab::<Sqlite>("INTEGER PRIMARY KEY").await.unwrap();
        let idem = Idem::builder(pool::<Sqlite>(lab.options())).build().unwrap();
        idem.migrate().await.unwrap();
        idem.enrol::<Charge>().await.unwrap();
        let mut connection = lab.connect().await;
        // Nobody moves the log's frames into the database while they are counted.
        let before = commits(&lab.options());
        bare(&mut connection, 0).await;
        assert_eq!(commits(&lab.options()) - before, 1);
        let before = commits(&lab.options());
        for id in 1..=10 {
            assert!(charge(&idem, id, 0).await.unwrap().is_executed());
        }
        assert_eq!(commits(&lab.options()) - before, 10);
        let before = commits(&lab.options());
        for id in 1..=10 {
            assert!(charge(&idem, id, 0).await.unwrap().is_replayed());
            assert!(matches!(charge(&idem, id, 1).await, Err(Error::KeyReused(_))));
        }
        assert_eq!(commits(&lab.options()), before);
    }

    #[idempotent(key = id, in_doubt = rerun)]
    async fn call(id: i64) -> Result<i64, Infallible> {
        Ok(id)
    }

    #[idempotent(key = id, in_doubt = rerun)]
    async fn fulfil(run: &mut Run<'_, Sqlite>, id: i64) -> Result<i64, sqlx::Error> {
        run.step("keyed", async |_| Ok::<_, sqlx::Error>(())).await?;
        run.tx_step("effect", async |tx| effect(tx, id).await.map(|_| ())).await?;
        run.step("unkeyed", async |_| Ok::<_, sqlx::Error>(())).park().await?;
        Ok(id)
    }

    #[tokio::test]
    async fn a_leased_job_writes_twice_and_once_more_for_each_step_and_a_replay_never() {
        let lab = lab::<Sqlite>("INTEGER PRIMARY KEY").await.unwrap();
        let idem = Idem::builder(pool::<Sqlite>(lab.options())).build().unwrap();
        idem.migrate().await.unwrap();
        idem.enrol::<Call>().await.unwrap();
        idem.enrol::<Fulfil>().await.unwrap();
        let _open = lab.connect().await;
        let before = commits(&lab.options());
        assert!(call(&idem, 1).await.unwrap().is_executed());
        assert_eq!(commits(&lab.options()) - before, 2);
        assert!(fulfil(&idem, 1).await.unwrap().is_executed());
        assert_eq!(commits(&lab.options()) - before, 2 + (2 + 1 + 1 + 2));
        let before = commits(&lab.options());
        assert!(call(&idem, 1).await.unwrap().is_replayed());
        assert!(fulfil(&idem, 1).await.unwrap().is_replayed());
        assert_eq!(commits(&lab.options()), before);
    }

    #[tokio::test]
    async fn a_push_is_one_writing_transaction_and_a_duplicate_none() {
        let lab = lab::<Sqlite>("INTEGER PRIMARY KEY").await.unwrap();
        let idem = Idem::builder(pool::<Sqlite>(lab.options())).build().unwrap();
        idem.migrate().await.unwrap();
        // Nobody moves the log's frames into the database while they are counted.
        let mut connection = lab.connect().await;
        bare(&mut connection, 0).await;
        let store = idem.store();
        let keys = keys(0..101);
        let (first, second) = (pushes(&keys), pushes(&keys));
        for range in [0..1, 1..101] {
            let before = commits(&lab.options());
            let answers = store.push(None, Engine::Outbox, &first[range.clone()]).await.unwrap();
            assert_eq!(answers, vec![Pushed::New; range.len()]);
            assert_eq!(commits(&lab.options()) - before, 1);
        }
        let before = commits(&lab.options());
        for range in [0..1, 0..101] {
            let answers = store.push(None, Engine::Outbox, &second[range.clone()]).await.unwrap();
            assert_held(&answers, &first[range]);
        }
        assert_eq!(commits(&lab.options()), before);
    }

    #[tokio::test]
    async fn a_record_is_small() {
        let lab = lab::<Sqlite>("INTEGER PRIMARY KEY").await.unwrap();
        let idem = Idem::builder(pool::<Sqlite>(lab.options())).build().unwrap();
        idem.migrate().await.unwrap();
        let _ = charge(&idem, 1_234_567, 0).await.unwrap();
        let mut connection = lab.connect().await;
        let mut pages = async || -> i64 {
            sqlx::query_scalar("PRAGMA page_count").fetch_one(&mut connection).await.unwrap()
        };
        let before = pages().await;
        let many = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000) \
                    INSERT INTO idem_records (key, job, fingerprint, outcome, completed_at, expires_at, readable, result) \
                    SELECT randomblob(16), job, fingerprint, outcome, completed_at, expires_at, \
                    readable, result FROM idem_records, n";
        sqlx::query(many).execute(&mut lab.connect().await).await.unwrap();
        let size = (pages().await - before) * 4096 / 100_000;
        println!("a record takes {size} B on disk");
        assert!(size <= 80, "{size} B");
    }
}
