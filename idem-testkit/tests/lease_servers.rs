//! What the servers' leased jobs cost, and how they stand beside what others do on the server: what no law of the
//! suite can say. Counts do not depend on the machine; nothing here is timed.
#![cfg(any(feature = "postgres", feature = "mysql"))]

#[cfg(feature = "postgres")]
mod quiet;

use std::sync::Arc;
use std::time::Duration;

use idem_runtime::StoreErrorKind;
use idem_runtime::fingerprint::Fingerprint;
use idem_runtime::job::Retain;
use idem_runtime::key::{Key, KeyParts};
use idem_runtime::prelude::*;
use idem_runtime::record::{Epoch, Hold, JobId, Outcome, State, StepRecord, Token};
use idem_runtime::store::{
    Begun, Change, Claim, Claimed, Held, KeyLock, Lease, LeaseClaim, NewTask, SqlDatabase, Store, StoreTx,
    TxStep,
};
use idem_testkit::lab::{Lab, LabDatabase, OptionsOf};
use idem_testkit::proxy::{Loss, Proxy};

const HOUR: Duration = Duration::from_secs(3600);

/// Longer than anything takes that does not wait for a timeout.
const PATIENCE: Duration = Duration::from_secs(20);

fn key(name: &str) -> Key {
    Key::new("default", "job", &KeyParts::of(name).unwrap())
}

fn claim(key: &Key, epoch: i64, token: i64, lease: Duration) -> LeaseClaim<'_> {
    LeaseClaim {
        key,
        job: JobId(1),
        fingerprint: Fingerprint::from_bits(1),
        epoch: Epoch(epoch),
        token: Token(token),
        attempts: 1,
        lease,
    }
}

fn settle<'a>(result: &'a [u8], tasks: &'a [NewTask]) -> Change<'a> {
    Change::Settle { outcome: Outcome::Completed, result, retain: Retain::For(HOUR), tasks }
}

fn task(key: &Key) -> NewTask {
    NewTask {
        namespace: String::from("default"),
        id: key.hash(),
        job: String::from("job"),
        key: String::from("k"),
        payload: b"payload".to_vec(),
    }
}

async fn store<D: SqlDatabase>(options: OptionsOf<D>) -> Arc<dyn Store<D>> {
    store_on(sqlx::pool::PoolOptions::new().max_connections(8).connect_lazy_with(options)).await
}

async fn store_on<D: SqlDatabase>(pool: sqlx::Pool<D>) -> Arc<dyn Store<D>> {
    let store = Arc::clone(Idem::<D>::builder(pool).build().unwrap().store());
    store.migrate().await.unwrap();
    store
}

async fn claim_new<D: SqlDatabase>(store: &dyn Store<D>, key: &Key, token: i64, lease: Duration) -> Hold {
    let claim = claim(key, 1, token, lease);
    assert_eq!(store.claim(&claim).await.unwrap(), Claimed::New);
    claim.hold()
}

/// Opens the transaction of a step.
async fn begin_step<D: SqlDatabase>(store: &dyn Store<D>, key: &Key) -> Box<dyn StoreTx<D>> {
    let claim =
        Claim { key, lock: KeyLock::None, wait: Duration::ZERO, records: false, row: None, undo: false };
    match store.begin(&claim).await.unwrap() {
        Begun::Open { tx, .. } => tx,
        Begun::Busy | Begun::RowBusy => panic!("no lock was asked for"),
    }
}

/// Counts the round trips of what a store does.
async fn trips<T>(proxy: &Proxy, work: impl Future<Output = T>) -> (u64, T) {
    let before = proxy.round_trips();
    let done = work.await;
    (proxy.round_trips() - before, done)
}

/// A store behind a proxy, on a database of its own.
struct Server<D: LabDatabase> {
    store: Arc<dyn Store<D>>,
    proxy: Proxy,
    lab: Lab<D>,
}

impl<D: LabDatabase> Server<D> {
    async fn start() -> Option<Self> {
        let lab = D::lab().await?;
        let (proxy, options) = D::proxy(&lab.options(), Duration::ZERO).await?;
        let store = store::<D>(options).await;
        // Statements are prepared by the first that need them.
        store.entry(key("warm up").hash()).await.unwrap();
        let hold = claim_new(&*store, &key("warm up"), 1, HOUR).await;
        // Leases are renewed on a connection of their own, which the first renewal makes.
        store.renew(&[Lease { hold, length: HOUR }]).await.unwrap();
        Some(Server { store, proxy, lab })
    }
}

async fn check_round_trips<D: LabDatabase>(server: &Server<D>, first_claim: u64) {
    let Server { store, proxy, .. } = server;
    let key = key("trips");
    let first = claim(&key, 1, 1, HOUR);
    let (count, claimed) = trips(proxy, store.claim(&first)).await;
    assert_eq!((count, claimed.unwrap()), (first_claim, Claimed::New), "a first claim");
    let hold = first.hold();

    let second = claim(&key, 1, 2, HOUR);
    let (count, claimed) = trips(proxy, store.claim(&second)).await;
    assert!(matches!(claimed.unwrap(), Claimed::Found(entry) if entry.state == State::Running));
    assert_eq!(count, 1, "a claim that finds another run");

    for change in [
        Change::BeginStep { seq: 0, name: "a" },
        Change::EndStep { seq: 0, name: "a", result: b"r" },
        Change::BeginStep { seq: 1, name: "b" },
        Change::ForgetStep { seq: 1 },
    ] {
        let (count, held) = trips(proxy, store.change(&hold, &change)).await;
        assert_eq!((count, held.unwrap()), (1, Held::Yes), "{change:?}");
    }

    let (count, tx) = trips(proxy, begin_step(&**store, &key)).await;
    assert_eq!(count, 1, "the begin of a transaction's step");
    let step = TxStep { seq: 2, name: "c", result: b"r" };
    let (count, held) = trips(proxy, tx.commit_step(&hold, &step)).await;
    assert_eq!((count, held.unwrap()), (1, Held::Yes), "the end of a transaction's step");

    let (count, lost) = trips(proxy, store.renew(&[Lease { hold, length: HOUR }])).await;
    assert_eq!((count, lost.unwrap()), (1, vec![]), "a renewal");

    let (count, held) = trips(proxy, store.change(&hold, &settle(b"result", &[task(&key)]))).await;
    assert_eq!((count, held.unwrap()), (1, Held::Yes), "an outcome");
    let (count, claimed) = trips(proxy, store.claim(&second)).await;
    assert!(matches!(claimed.unwrap(), Claimed::Found(entry) if entry.state == State::Completed));
    assert_eq!(count, 1, "a replay");
}

async fn check_many_leases_are_renewed_at_once<D: LabDatabase>(server: &Server<D>) {
    let Server { store, proxy, .. } = server;
    let mut leases = Vec::new();
    for number in 0..500 {
        let hold = claim_new(&**store, &key(&format!("lease {number}")), number, Duration::ZERO).await;
        leases.push(Lease { hold, length: HOUR });
    }
    let (count, lost) = trips(proxy, store.renew(&leases)).await;
    assert_eq!((count, lost.unwrap()), (1, vec![]));
    for lease in &leases {
        let entry = store.entry(lease.hold.key).await.unwrap().unwrap();
        assert_eq!(entry.state, State::Running);
        assert!(entry.lease_left > HOUR / 2, "{:?}", entry.lease_left);
    }
}

/// Renews two leases while somebody else has one of the records locked for as long as that takes.
async fn check_a_locked_record_holds_up_no_other_lease<D: LabDatabase>(store: &dyn Store<D>, locked: Key) {
    let [one, other] = [locked, key("free")];
    let entry = store.entry(one.hash()).await.unwrap().unwrap();
    let locked = Hold { key: one.hash(), epoch: entry.epoch, token: entry.token };
    let free = claim_new(store, &other, 2, Duration::ZERO).await;
    let leases = [locked, free].map(|hold| Lease { hold, length: HOUR });
    let renewed = tokio::time::timeout(PATIENCE, store.renew(&leases)).await;
    assert_eq!(renewed.expect("a renewal waits for no lock for ever").unwrap(), vec![]);
    assert_eq!(store.entry(other.hash()).await.unwrap().unwrap().state, State::Running);
    // Who has lost its key is told so all the same.
    let stale = Hold { token: Token(99), ..locked };
    let leases = [locked, free, stale].map(|hold| Lease { hold, length: HOUR });
    assert_eq!(store.renew(&leases).await.unwrap(), vec![stale]);
}

/// Renews a lease while bodies hold every connection of the pool that idem was built with.
async fn check_a_renewal_needs_no_connection_of_the_pool<D: LabDatabase>(lab: &Lab<D>) {
    let pool = sqlx::pool::PoolOptions::<D>::new().max_connections(2).connect_lazy_with(lab.options());
    let store = store_on(pool.clone()).await;
    let hold = claim_new(&*store, &key("k"), 1, Duration::ZERO).await;
    let _held = [pool.acquire().await.unwrap(), pool.acquire().await.unwrap()];
    let third = tokio::time::timeout(Duration::from_millis(200), pool.acquire()).await;
    assert!(third.is_err(), "the pool has more than two");
    assert_eq!(store.renew(&[Lease { hold, length: HOUR }]).await.unwrap(), vec![]);
    assert_eq!(store.entry(hold.key).await.unwrap().unwrap().state, State::Running);
}

/// Uses connections whose other end has gone without a word while they stood idle.
async fn check_a_silent_connection_costs_one_try<D: LabDatabase>(lab: &Lab<D>) {
    // Each has a store of its own, whose only connection falls silent.
    let asked = async |name: &str, asking: &dyn Fn(Arc<dyn Store<D>>, Key) -> Asking| {
        let Some((proxy, options)) = D::proxy(&lab.options(), Duration::ZERO).await else { return };
        let pool = sqlx::pool::PoolOptions::<D>::new()
            .max_connections(8)
            .acquire_timeout(Duration::from_secs(5))
            .connect_lazy_with(options);
        let store = store_on(pool).await;
        let key = key(name);
        claim_new(&*store, &key, 1, HOUR).await;
        proxy.silence();
        let asking = asking(store, key);
        tokio::time::timeout(PATIENCE, asking).await.unwrap_or_else(|_| panic!("{name} waits for ever"));
    };
    tokio::join!(
        asked("a read", &|store, _| {
            Box::pin(async move { assert!(store.read(key("absent").hash()).await.unwrap().is_none()) })
        }),
        asked("a look", &|store, key| {
            Box::pin(async move { assert!(store.entry(key.hash()).await.unwrap().is_some()) })
        }),
        asked("a claim", &|store, _| {
            Box::pin(
                async move { assert_eq!(claim_new(&*store, &key("other"), 2, HOUR).await.token, Token(2)) },
            )
        }),
        asked("a sweep", &|store, _| {
            Box::pin(async move { assert_eq!(store.sweep(None, 10).await.unwrap().deleted, 0) })
        }),
        asked("a transaction", &|store, key| {
            Box::pin(async move { drop(begin_step(&*store, &key).await) })
        }),
    );
}

/// What is asked of a store.
type Asking = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

/// Lets many connections stand idle, and then fall silent: who finds one of them out takes the others away.
async fn check_silent_connections_cost_one_try_together<D: LabDatabase>(lab: &Lab<D>) {
    const IDLE: usize = 8;
    let Some((proxy, options)) = D::proxy(&lab.options(), Duration::ZERO).await else { return };
    // One try.
    let patience = Duration::from_secs(5);
    let pool = sqlx::pool::PoolOptions::<D>::new()
        .max_connections(20)
        .acquire_timeout(patience)
        .connect_lazy_with(options);
    let store = store_on(pool).await;
    let hold = claim_new(&*store, &key("k"), 1, HOUR).await;
    let fall_silent = async || {
        let mut open = Vec::new();
        for _ in 0..IDLE {
            open.push(begin_step(&*store, &key("step")).await);
        }
        for tx in open {
            tx.rollback().await.unwrap();
        }
        proxy.silence();
    };

    fall_silent().await;
    let read = tokio::time::timeout(patience * 3, store.entry(hold.key)).await;
    assert!(read.expect("it waits for one of them").unwrap().is_some());

    // Who asks has less patience than that, and asks again.
    fall_silent().await;
    let settle = settle(b"result", &[]);
    let settling = async |limit| tokio::time::timeout(limit, store.change(&hold, &settle)).await;
    assert!(settling(Duration::from_millis(1_500)).await.is_err(), "a silent connection has answered");
    assert_eq!(settling(patience * 3 / 4).await.expect("another connection answers").unwrap(), Held::Yes);
}

/// What a body needs to fall silent.
struct Silence {
    proxy: Proxy,
    is_there: tokio::sync::Notify,
}

/// Lets all tasks of the runtime go on to where they wait.
async fn everybody_waits() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

/// Loses messages on their way there or back: what was done is done once, and said once it is known.
/// `words` are found in the messages that claim a key, end a step and settle.
async fn check_a_lost_answer_is_not_a_lost_write<D: LabDatabase>(server: &Server<D>, words: [&str; 3]) {
    let Server { store, proxy, .. } = server;
    let [claiming, ending, settling] = words;
    for (number, loss) in [Loss::Request, Loss::Answer].into_iter().enumerate() {
        let key = key(&format!("lost {number}"));
        // The connection stood idle, so the claim is sent again, and is its own where the first was heard.
        proxy.lose(loss, claiming);
        let hold = claim_new(&**store, &key, 7, HOUR).await;
        assert!(!proxy.is_loss_pending());

        proxy.lose(loss, ending);
        let step = Change::EndStep { seq: 0, name: "a", result: b"r" };
        assert_eq!(store.change(&hold, &step).await.unwrap(), Held::Yes);
        assert!(!proxy.is_loss_pending());

        proxy.lose(loss, settling);
        let held = store.change(&hold, &settle(b"result", &[task(&key)])).await.unwrap();
        assert!(!proxy.is_loss_pending());
        assert_eq!(held, if loss == Loss::Request { Held::Yes } else { Held::Unknown });
        let entry = store.entry(key.hash()).await.unwrap().unwrap();
        assert_eq!((entry.state, &*entry.payload), (State::Completed, &b"result"[..]));
        let tasks = store.tasks("default", 0, 10).await.unwrap();
        assert_eq!(tasks.iter().filter(|row| row.task.id == key.hash()).count(), 1);
    }
}

/// Takes a lapsed key over while a step of the late run is about to be committed by `late`.
async fn check_a_take_over_sees_the_last_step<D: LabDatabase>(
    store: Arc<dyn Store<D>>,
    key: Key,
    is_waiting: impl AsyncFn() -> bool,
    commit: impl Future<Output = ()>,
) {
    let found = store.entry(key.hash()).await.unwrap().unwrap();
    assert_eq!((found.state, found.steps.len()), (State::Lapsed, 0));
    let rival = tokio::spawn({
        let (store, key) = (Arc::clone(&store), key.clone());
        async move { store.take_over(&claim(&key, 2, 2, HOUR), &found).await }
    });
    tokio::time::timeout(PATIENCE, async {
        while !is_waiting().await {
            // MariaDB keeps an answer to that for as long as it is asked for ten times a second.
            tokio::time::sleep(Duration::from_millis(150)).await;
        }
    })
    .await
    .expect("the take-over waits for the write that is under way");
    commit.await;
    let step = StepRecord { seq: 0, name: String::from("late"), result: Some(b"r".to_vec()) };
    assert_eq!(rival.await.unwrap().unwrap(), Some(vec![step]));
}

/// The bytes of the log, the numbers of transactions and the notifications are the whole server's: who counts
/// them is alone, which is to write to this.
static ALONE: tokio::sync::RwLock<()> = tokio::sync::RwLock::const_new(());

/// Defines a job whose run can be stopped in the middle, and the law of two processes that want its key at once.
macro_rules! define_job {
    ($db:ident, $insert:literal) => {
        /// Lets the body go on.
        static GATE: tokio::sync::Semaphore = tokio::sync::Semaphore::const_new(0);
        static INSIDE: tokio::sync::Semaphore = tokio::sync::Semaphore::const_new(0);

        #[idempotent(key = id, in_doubt = rerun, lock = lease("30s"))]
        async fn fulfil(run: &mut Run<'_, $db>, id: i64) -> Result<i64, sqlx::Error> {
            INSIDE.add_permits(1);
            let charge = run.step("charge", async |_| Ok::<_, sqlx::Error>(id * 2)).await?;
            GATE.acquire().await.expect("it is never closed").forget();
            run.tx_step("order", async |tx| {
                sqlx::query($insert).bind(id).execute(&mut **tx).await.map(|_| ())
            })
            .await?;
            run.enqueue(Fulfil { id: id + 1 }).await;
            Ok(charge)
        }

        /// Takes a step whose commit meets with silence the first time.
        #[idempotent(key = id, in_doubt = rerun, lock = lease("10m"))]
        async fn falls_silent(
            run: &mut Run<'_, $db>,
            id: i64,
            #[state] silence: &Arc<Silence>,
        ) -> Result<i64, sqlx::Error> {
            let first = run.attempt() == 1;
            run.tx_step("order", async |tx| {
                sqlx::query($insert).bind(id).execute(&mut **tx).await?;
                if first {
                    silence.proxy.silence();
                    everybody_waits().await;
                    silence.is_there.notify_one();
                }
                Ok::<_, sqlx::Error>(id)
            })
            .await
        }

        #[tokio::test]
        async fn a_step_whose_commit_is_never_answered_is_looked_up() {
            let _beside = ALONE.read().await;
            let Some(lab) = $db::lab().await else { return };
            let Some((proxy, options)) = $db::proxy(&lab.options(), Duration::ZERO).await else { return };
            let mut observer = lab.connect().await;
            sqlx::raw_sql("CREATE TABLE orders (id BIGINT NOT NULL)").execute(&mut observer).await.unwrap();
            let pool = sqlx::pool::PoolOptions::<$db>::new().connect_lazy_with(options);
            let silence = Arc::new(Silence { proxy, is_there: tokio::sync::Notify::new() });
            let idem = Idem::builder(pool).state(Arc::clone(&silence)).build().unwrap();
            idem.migrate().await.unwrap();
            let run = tokio::time::timeout(Duration::from_secs(90), falls_silent(&idem, 7));
            let (ended, ()) = tokio::join!(run, async {
                silence.is_there.notified().await;
                everybody_waits().await;
                tokio::time::pause();
                tokio::time::advance(Duration::from_secs(61)).await;
                tokio::time::resume();
            });
            let ended = ended.expect("it is given up");
            let Err(Error::Store(error)) = ended else { panic!("{ended:?}") };
            assert_eq!(error.kind(), StoreErrorKind::OutcomeUnknown, "{error}");
            silence.proxy.cut();
            assert!(falls_silent(&idem, 7).await.unwrap().is_executed());
            assert_eq!($db::rows(&mut observer, "SELECT id FROM orders").await.unwrap(), 1);
        }

        #[tokio::test]
        async fn of_two_processes_one_works_and_the_other_waits_for_its_answer() {
            let _beside = ALONE.read().await;
            let Some(lab) = $db::lab().await else { return };
            let [one, two] = [(); 2].map(|()| Idem::builder(lab.pool(4)).build().unwrap());
            one.migrate().await.unwrap();
            let mut connection = lab.connect().await;
            sqlx::raw_sql("CREATE TABLE orders (id BIGINT NOT NULL)").execute(&mut connection).await.unwrap();
            let first = tokio::spawn({
                let one = one.clone();
                async move { fulfil(&one, 7).await }
            });
            INSIDE.acquire().await.unwrap().forget();
            let mut second = Box::pin(fulfil(&two, 7));
            let early = tokio::time::timeout(Duration::from_millis(300), &mut second).await;
            assert!(early.is_err(), "the key is another run's: {early:?}");
            GATE.add_permits(1);
            assert!(first.await.unwrap().unwrap().is_executed());
            let done = tokio::time::timeout(PATIENCE, second).await.expect("it is woken, or looks again");
            let done = done.unwrap();
            assert!(done.is_replayed());
            assert_eq!(*done, 14);
            assert_eq!($db::rows(&mut connection, "SELECT id FROM orders").await.unwrap(), 1);
            assert_eq!(two.store().tasks("default", 0, 10).await.unwrap().len(), 1);
        }
    };
}

#[cfg(feature = "postgres")]
mod postgres {
    use super::*;
    use idem_runtime::store::Watch;
    use sqlx::{AssertSqlSafe, PgConnection};

    define_job!(Postgres, "INSERT INTO orders (id) VALUES ($1)");

    async fn number(observer: &mut PgConnection, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(observer).await.unwrap()
    }

    /// The bytes of the log, and how many transactions ever wrote.
    async fn written(observer: &mut PgConnection) -> (i64, i64) {
        (
            number(observer, "SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint").await,
            number(observer, "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint").await,
        )
    }

    #[tokio::test]
    async fn everything_is_one_round_trip() {
        let _beside = ALONE.read().await;
        let Some(server) = Server::<Postgres>::start().await else { return };
        check_round_trips(&server, 1).await;
    }

    /// A store with a single session.
    async fn store_of_one_session(lab: &Lab<Postgres>) -> Arc<dyn Store<Postgres>> {
        store_on(sqlx::pool::PoolOptions::new().max_connections(1).connect_lazy_with(lab.options())).await
    }

    /// Runs a job of one step; `body` is that of the step.
    async fn run_of_one_step(
        store: &dyn Store<Postgres>,
        name: &str,
        body: impl AsyncFnOnce(&mut PgConnection),
    ) {
        let key = key(name);
        let hold = claim_new(store, &key, 1, HOUR).await;
        let mut tx = begin_step(store, &key).await;
        body(tx.connection()).await;
        let step = TxStep { seq: 0, name: "step", result: b"r" };
        assert_eq!(tx.commit_step(&hold, &step).await.unwrap(), Held::Yes);
        assert_eq!(store.change(&hold, &settle(b"done", &[])).await.unwrap(), Held::Yes);
    }

    #[tokio::test]
    async fn a_session_prepares_what_a_leased_job_calls_once() {
        let _beside = ALONE.read().await;
        let Some(lab) = Postgres::lab().await else { return };
        let store = store_of_one_session(&lab).await;
        for name in ["first", "second"] {
            run_of_one_step(&*store, name, async |_| {}).await;
        }
        let calls = "SELECT regexp_replace(name, '^idem_(.*)_[0-9a-f]{8}$', '\\1'), generic_plans + custom_plans \
                     FROM pg_prepared_statements WHERE from_sql ORDER BY 1";
        run_of_one_step(&*store, "third", async |session| {
            let calls: Vec<(String, i64)> = sqlx::query_as(calls).fetch_all(session).await.unwrap();
            let calls: Vec<_> = calls.iter().map(|(name, count)| (name.as_str(), *count)).collect();
            assert_eq!(
                calls,
                [
                    ("claim", 3),
                    ("delete_steps", 2),
                    ("end", 2),
                    ("end_step", 2),
                    ("entry", 3),
                    ("held", 2),
                    ("must_hold", 2),
                    ("ring", 2)
                ]
            );
        })
        .await;
    }

    #[tokio::test]
    async fn a_session_that_has_lost_its_statements_is_sent_text() {
        let _beside = ALONE.read().await;
        let Some(lab) = Postgres::lab().await else { return };
        let store = store_of_one_session(&lab).await;
        run_of_one_step(&*store, "first", async |_| {}).await;

        let key = key("lost");
        let hold = claim_new(&*store, &key, 1, HOUR).await;
        let mut tx = begin_step(&*store, &key).await;
        sqlx::raw_sql("DEALLOCATE ALL").execute(tx.connection()).await.unwrap();
        tx.rollback().await.unwrap();
        assert_eq!(store.change(&hold, &settle(b"done", &[])).await.unwrap(), Held::Yes);
        assert_eq!(store.entry(key.hash()).await.unwrap().unwrap().payload, b"done");

        run_of_one_step(&*store, "then", async |session| {
            let count: i64 = sqlx::query_scalar("SELECT count(*) FROM pg_prepared_statements WHERE from_sql")
                .fetch_one(session)
                .await
                .unwrap();
            assert_eq!(count, 0);
        })
        .await;
    }

    #[tokio::test]
    async fn who_finds_a_key_taken_or_done_writes_nothing() {
        let _alone = ALONE.write().await;
        let Some(server) = Server::<Postgres>::start().await else { return };
        let store = &server.store;
        let mut observer = server.lab.connect().await;
        quiet::keep_quiet(&mut observer).await;
        let key = key("quiet");
        let (_, before) = written(&mut observer).await;
        let hold = claim_new(&**store, &key, 1, HOUR).await;
        let (_, after) = written(&mut observer).await;
        assert_eq!(after - before, 1, "a first claim is one writing transaction");

        let other = claim(&key, 1, 2, HOUR);
        let find = async |_: &PgConnection, _| {
            for _ in 0..10 {
                assert!(matches!(store.claim(&other).await.unwrap(), Claimed::Found(_)));
                assert!(store.entry(key.hash()).await.unwrap().is_some());
            }
        };
        quiet::check_leaves_alone("a key that is taken", &mut observer, written, find).await;

        for change in [Change::EndStep { seq: 0, name: "a", result: b"r" }, settle(b"result", &[])] {
            let (_, before) = written(&mut observer).await;
            assert_eq!(store.change(&hold, &change).await.unwrap(), Held::Yes);
            let (_, after) = written(&mut observer).await;
            assert_eq!(after - before, 1, "{change:?}");
        }
        quiet::check_leaves_alone("a key that is done", &mut observer, written, find).await;
    }

    #[tokio::test]
    async fn a_renewal_needs_no_connection_of_the_pool() {
        let _beside = ALONE.read().await;
        let Some(lab) = Postgres::lab().await else { return };
        check_a_renewal_needs_no_connection_of_the_pool(&lab).await;
    }

    #[tokio::test]
    async fn a_silent_connection_costs_one_try() {
        let _beside = ALONE.read().await;
        let Some(lab) = Postgres::lab().await else { return };
        check_a_silent_connection_costs_one_try(&lab).await;
    }

    #[tokio::test]
    async fn silent_connections_cost_one_try_together() {
        let _beside = ALONE.read().await;
        let Some(lab) = Postgres::lab().await else { return };
        check_silent_connections_cost_one_try_together(&lab).await;
    }

    #[tokio::test]
    async fn many_leases_are_renewed_at_once() {
        let _beside = ALONE.read().await;
        let Some(server) = Server::<Postgres>::start().await else { return };
        check_many_leases_are_renewed_at_once(&server).await;
    }

    #[tokio::test]
    async fn a_lost_answer_is_not_a_lost_write() {
        let _beside = ALONE.read().await;
        let Some(server) = Server::<Postgres>::start().await else { return };
        check_a_lost_answer_is_not_a_lost_write(
            &server,
            ["idem_claim", "idem_end_step", "idem_delete_steps"],
        )
        .await;
    }

    #[tokio::test]
    async fn a_locked_record_holds_up_no_other_lease() {
        let _beside = ALONE.read().await;
        let Some(lab) = Postgres::lab().await else { return };
        let store = store::<Postgres>(lab.options()).await;
        let locked = key("locked");
        claim_new(&*store, &locked, 1, HOUR).await;
        let mut somebody = lab.connect().await;
        sqlx::raw_sql("BEGIN; SELECT 1 FROM idem_records FOR UPDATE").execute(&mut somebody).await.unwrap();
        check_a_locked_record_holds_up_no_other_lease(&*store, locked).await;
    }

    #[tokio::test]
    async fn a_take_over_sees_the_last_step() {
        let _beside = ALONE.read().await;
        let Some(lab) = Postgres::lab().await else { return };
        for isolation in ["read committed", "repeatable read"] {
            let options = lab.options().options([("default_transaction_isolation", isolation)]);
            let store = store::<Postgres>(options).await;
            let key = key(isolation);
            claim_new(&*store, &key, 1, Duration::ZERO).await;
            let mut late = lab.connect().await;
            let hash = key.hash();
            sqlx::raw_sql(AssertSqlSafe(format!(
                "BEGIN; SELECT 1 FROM idem_records WHERE key = '{hash}' FOR UPDATE; \
                 INSERT INTO idem_steps (key, seq, name, result) VALUES ('{hash}', 0, 'late', 'r')"
            )))
            .execute(&mut late)
            .await
            .unwrap();
            let observer = tokio::sync::Mutex::new(lab.connect().await);
            let is_waiting = async || {
                let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                           AND wait_event_type = 'Lock' AND query LIKE '%UPDATE idem_records%'";
                number(&mut *observer.lock().await, sql).await > 0
            };
            let commit = async { sqlx::raw_sql("COMMIT").execute(&mut late).await.map(|_| ()).unwrap() };
            check_a_take_over_sees_the_last_step(store, key, is_waiting, commit).await;
        }
    }

    /// How often the pages with notifications were touched, by sessions that have ended.
    async fn notifications(observer: &mut PgConnection) -> i64 {
        let sql = "SELECT blks_zeroed + blks_hit + blks_read + blks_written FROM pg_stat_slru WHERE name = 'Notify'";
        number(observer, sql).await
    }

    /// Watches a key. A store gives up soon if it has to connect for that, and is asked again.
    async fn watch_key(store: &dyn Store<Postgres>, key: &Key) -> Box<dyn Watch> {
        let watched = async {
            loop {
                if let Some(watch) = store.watch(key.hash()).await.unwrap() {
                    return watch;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, watched).await.expect("the store has sessions")
    }

    /// Waits until all sessions of a store have ended: what they have done is counted then.
    async fn until_gone(observer: &mut PgConnection, name: &str) {
        let sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1";
        let gone = async {
            while sqlx::query_scalar::<_, i64>(sessions).bind(name).fetch_one(&mut *observer).await.unwrap()
                > 0
            {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, gone).await.expect("sessions end");
    }

    #[tokio::test]
    async fn only_who_waits_is_notified() {
        let _alone = ALONE.write().await;
        let Some(lab) = Postgres::lab().await else { return };
        let mut observer = lab.connect().await;
        let name = "idem_bell";
        let ends = async |turn: &str, watched: bool| {
            let store = store::<Postgres>(lab.options().application_name(name)).await;
            for (number, end) in
                [settle(b"r", &[]), Change::Fail { trouble: b"t" }, Change::Park { parked: b"p" }]
                    .into_iter()
                    .enumerate()
            {
                let key = key(&format!("{turn} {number}"));
                let hold = claim_new(&*store, &key, 1, HOUR).await;
                let mut watch = match watched {
                    true => Some(watch_key(&*store, &key).await),
                    false => None,
                };
                assert_eq!(store.change(&hold, &end).await.unwrap(), Held::Yes);
                if let Some(watch) = &mut watch {
                    tokio::time::timeout(PATIENCE, watch.changed()).await.expect("it is told");
                }
            }
        };
        let unwatched = async |_: &PgConnection, turn: usize| {
            ends(&turn.to_string(), false).await;
            until_gone(&mut lab.connect().await, name).await;
        };
        quiet::check_leaves_alone("runs that nobody watches", &mut observer, notifications, unwatched).await;
        // The same count tells that somebody was notified.
        let before = notifications(&mut observer).await;
        ends("watched", true).await;
        until_gone(&mut observer, name).await;
        assert!(notifications(&mut observer).await >= before + 3);
    }

    #[tokio::test]
    async fn all_runs_of_a_process_that_wait_share_one_connection_which_goes_with_the_last() {
        let _beside = ALONE.read().await;
        let Some(lab) = Postgres::lab().await else { return };
        let mut observer = lab.connect().await;
        let name = "idem_listener";
        let store = store::<Postgres>(lab.options().application_name(name)).await;
        let mut sessions = async || {
            let sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'idem_listener' \
                       AND query ~ 'LISTEN|pg_advisory_(un)?lock_shared'";
            number(&mut observer, sql).await
        };
        assert_eq!(sessions().await, 0);
        for round in 0..3 {
            let keys = [0, 0, 1, 2].map(|number| key(&format!("{round} {number}")));
            let mut watches = Vec::new();
            for key in &keys {
                watches.push(watch_key(&*store, key).await);
            }
            assert_eq!(sessions().await, 1);
            // Of two that watch one key the end of one leaves the other its lock.
            drop(watches.remove(0));
            let hold = claim_new(&*store, &keys[1], 1, HOUR).await;
            assert_eq!(store.change(&hold, &Change::Fail { trouble: b"t" }).await.unwrap(), Held::Yes);
            tokio::time::timeout(PATIENCE, watches[0].changed()).await.expect("it is told");
            drop(watches);
            tokio::time::timeout(PATIENCE, async {
                while sessions().await > 0 {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            })
            .await
            .expect("the listener goes");
        }
    }

    #[tokio::test]
    async fn a_listener_that_breaks_says_so_once_and_the_next_watch_has_another() {
        let _beside = ALONE.read().await;
        let Some(lab) = Postgres::lab().await else { return };
        let store = store::<Postgres>(lab.options().application_name("idem_broken")).await;
        let key = key("k");
        let mut watch = watch_key(&*store, &key).await;
        let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                   WHERE application_name = 'idem_broken' AND query LIKE '%lock_shared%'";
        sqlx::raw_sql(end).execute(&mut lab.connect().await).await.unwrap();
        tokio::time::timeout(PATIENCE, watch.changed()).await.expect("a claim may have ended meanwhile");
        let mut another = watch_key(&*store, &key).await;
        let hold = claim_new(&*store, &key, 1, HOUR).await;
        assert_eq!(store.change(&hold, &Change::Fail { trouble: b"t" }).await.unwrap(), Held::Yes);
        tokio::time::timeout(PATIENCE, another.changed()).await.expect("it is told");
    }

    #[test]
    fn a_runtime_that_ends_while_a_run_waits_ends_in_peace() {
        let threads = [
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap(),
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap(),
        ];
        // The listener's session ends after its runtime.
        let _beside = ALONE.blocking_read();
        for runtime in threads {
            let watching = runtime.block_on(async {
                let lab = Postgres::lab().await?;
                let store = store::<Postgres>(lab.options()).await;
                let watch = watch_key(&*store, &key("k")).await;
                Some((lab, store, watch))
            });
            drop(runtime);
            drop(watching);
        }
    }

    #[tokio::test]
    async fn a_parked_key_that_is_resolved_wakes_who_waits() {
        let _beside = ALONE.read().await;
        let Some(lab) = Postgres::lab().await else { return };
        let store = store::<Postgres>(lab.options()).await;
        let key = key("k");
        let hold = claim_new(&*store, &key, 1, HOUR).await;
        assert_eq!(store.change(&hold, &Change::Park { parked: b"p" }).await.unwrap(), Held::Yes);
        let mut watch = watch_key(&*store, &key).await;
        let resolve = idem_runtime::store::Resolve {
            job: JobId(1),
            key: key.hash(),
            epoch: hold.epoch,
            from: State::Parked,
            state: State::Failed,
            payload: b"t",
            retain: Retain::None,
            step: None,
            action: "released",
            why: "it's \\ 'me'",
        };
        assert!(store.resolve(&resolve).await.unwrap());
        tokio::time::timeout(PATIENCE, watch.changed()).await.expect("it is told");
        assert_eq!(store.audit(key.hash()).await.unwrap()[0].why, "it's \\ 'me'");
    }
}

#[cfg(feature = "mysql")]
mod mysql {
    use super::*;
    use sqlx::{AssertSqlSafe, MySqlConnection};

    define_job!(MySql, "INSERT INTO orders (id) VALUES (?)");

    async fn execute(connection: &mut MySqlConnection, sql: impl Into<String>) {
        sqlx::raw_sql(AssertSqlSafe(sql.into())).execute(connection).await.unwrap();
    }

    #[tokio::test]
    async fn the_clock_goes_on_where_local_clocks_go_back() {
        let Some(lab) = MySql::lab().await else { return };
        // A zone of one autumn night: servers come without zones.
        let mut by_hand = lab.connect().await;
        let remove = "DELETE FROM mysql.time_zone WHERE Time_zone_id = 900001; \
                      DELETE FROM mysql.time_zone_name WHERE Time_zone_id = 900001; \
                      DELETE FROM mysql.time_zone_transition WHERE Time_zone_id = 900001; \
                      DELETE FROM mysql.time_zone_transition_type WHERE Time_zone_id = 900001";
        execute(&mut by_hand, remove).await;
        let zone = "INSERT INTO mysql.time_zone VALUES (900001, 'N'); \
                    INSERT INTO mysql.time_zone_name VALUES ('idem/autumn', 900001); \
                    INSERT INTO mysql.time_zone_transition_type VALUES (900001, 0, 3600, 0, 'CET'), (900001, 1, 7200, 1, 'CEST'); \
                    INSERT INTO mysql.time_zone_transition VALUES (900001, 1743296400, 1), (900001, 1761440400, 0)";
        execute(&mut by_hand, zone).await;
        // Half past two comes twice.
        for now in [1_761_438_600, 1_761_442_200] {
            let pool = sqlx::mysql::MySqlPoolOptions::new()
                .after_connect(move |connection, _| {
                    let sql = format!("SET time_zone = 'idem/autumn', timestamp = {now}");
                    Box::pin(
                        async move { sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await.map(drop) },
                    )
                })
                .connect_lazy_with(lab.options());
            let store = Arc::clone(Idem::<MySql>::builder(pool).build().unwrap().store());
            assert_eq!(store.now().await.unwrap(), Duration::from_secs(now));
        }
        execute(&mut by_hand, remove).await;
    }

    /// A server may have its sessions begin so.
    #[tokio::test]
    async fn sessions_that_do_not_commit_by_themselves_are_told_to() {
        let Some(lab) = MySql::lab().await else { return };
        let pool = sqlx::mysql::MySqlPoolOptions::new()
            .after_connect(|connection, _| {
                let sql = "SET autocommit = 0, innodb_lock_wait_timeout = 1";
                Box::pin(async move { sqlx::raw_sql(sql).execute(connection).await.map(drop) })
            })
            .connect_lazy_with(lab.options());
        let store = store_on(pool).await;
        let key = key("k");
        let hold = claim_new(&*store, &key, 1, HOUR).await;
        // The heartbeat has a connection of its own, and keeps no record locked.
        assert_eq!(store.renew(&[Lease { hold, length: HOUR }]).await.unwrap(), vec![]);
        assert_eq!(store.change(&hold, &settle(b"r", &[])).await.unwrap(), Held::Yes);
        let job = store.enrol("default", "job").await.unwrap();
        let sql = "SELECT 1 FROM idem_jobs WHERE name = 'job'";
        assert_eq!(MySql::rows(&mut lab.connect().await, sql).await.unwrap(), 1, "{job:?} is not committed");
    }

    #[tokio::test]
    async fn everything_is_one_round_trip_but_a_first_claim() {
        let Some(server) = Server::<MySql>::start().await else { return };
        check_round_trips(&server, 2).await;
    }

    #[tokio::test]
    async fn a_renewal_needs_no_connection_of_the_pool() {
        let Some(lab) = MySql::lab().await else { return };
        check_a_renewal_needs_no_connection_of_the_pool(&lab).await;
    }

    #[tokio::test]
    async fn a_silent_connection_costs_one_try() {
        let Some(lab) = MySql::lab().await else { return };
        check_a_silent_connection_costs_one_try(&lab).await;
    }

    #[tokio::test]
    async fn silent_connections_cost_one_try_together() {
        let Some(lab) = MySql::lab().await else { return };
        check_silent_connections_cost_one_try_together(&lab).await;
    }

    #[tokio::test]
    async fn many_leases_are_renewed_at_once() {
        let Some(server) = Server::<MySql>::start().await else { return };
        check_many_leases_are_renewed_at_once(&server).await;
    }

    #[tokio::test]
    async fn a_lost_answer_is_not_a_lost_write() {
        let Some(server) = Server::<MySql>::start().await else { return };
        check_a_lost_answer_is_not_a_lost_write(&server, ["INSERT", "INSERT", "DELETE"]).await;
    }

    #[tokio::test]
    async fn a_locked_record_holds_up_no_other_lease() {
        let Some(lab) = MySql::lab().await else { return };
        let store = store::<MySql>(lab.options()).await;
        let locked = key("locked");
        claim_new(&*store, &locked, 1, HOUR).await;
        let mut somebody = lab.connect().await;
        let lock = format!("BEGIN; SELECT 1 FROM idem_records WHERE `key` = x'{}' FOR UPDATE", locked.hash());
        execute(&mut somebody, lock).await;
        check_a_locked_record_holds_up_no_other_lease(&*store, locked).await;
    }

    #[tokio::test]
    async fn a_take_over_sees_the_last_step() {
        let Some(lab) = MySql::lab().await else { return };
        let store = store::<MySql>(lab.options()).await;
        let key = key("k");
        claim_new(&*store, &key, 1, Duration::ZERO).await;
        let mut late = lab.connect().await;
        let hash = key.hash();
        execute(
            &mut late,
            format!(
                "BEGIN; SELECT 1 FROM idem_records WHERE `key` = x'{hash}' FOR UPDATE; \
                 INSERT INTO idem_steps (`key`, seq, name, result) VALUES (x'{hash}', 0, 'late', 'r')"
            ),
        )
        .await;
        let observer = tokio::sync::Mutex::new(lab.connect().await);
        let is_waiting = async || {
            let sql = "SELECT 1 FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT' \
                       AND trx_query LIKE '%idem_records%'";
            MySql::rows(&mut *observer.lock().await, sql).await.unwrap() > 0
        };
        let commit = async { execute(&mut late, "COMMIT").await };
        check_a_take_over_sees_the_last_step(store, key, is_waiting, commit).await;
    }

    /// A store whose sessions begin with a statement.
    async fn store_after(lab: &Lab<MySql>, first: &'static str) -> Arc<dyn Store<MySql>> {
        let pool = sqlx::mysql::MySqlPoolOptions::new()
            .max_connections(8)
            .after_connect(move |connection, _| {
                Box::pin(async move { sqlx::raw_sql(first).execute(connection).await.map(|_| ()) })
            })
            .connect_lazy_with(lab.options());
        store_on(pool).await
    }

    #[tokio::test]
    async fn a_step_survives_a_renewal_though_the_session_refuses_rows_that_have_changed() {
        let Some(lab) = MySql::lab().await else { return };
        let knows = "SHOW VARIABLES LIKE 'innodb_snapshot_isolation'";
        let first = match MySql::rows(&mut lab.connect().await, knows).await.unwrap() {
            0 => "DO 0",
            _ => "SET innodb_snapshot_isolation = ON",
        };
        let store = store_after(&lab, first).await;
        let key = key("k");
        let hold = claim_new(&*store, &key, 1, HOUR).await;
        let begin_and_renew = async |hours: u32| {
            let mut tx = begin_step(&*store, &key).await;
            execute(tx.connection(), "SELECT * FROM idem_steps").await;
            assert_eq!(store.renew(&[Lease { hold, length: HOUR * hours }]).await.unwrap(), vec![]);
            tx
        };
        let step = TxStep { seq: 0, name: "a", result: b"r" };
        let tx = begin_and_renew(2).await;
        assert_eq!(tx.commit_step(&hold, &step).await.unwrap(), Held::Yes);
        // The session goes on as it was.
        let mut tx = begin_and_renew(3).await;
        let lock = format!("SELECT 1 FROM idem_records WHERE `key` = x'{}' FOR UPDATE", key.hash());
        let locked = sqlx::raw_sql(AssertSqlSafe(lock)).execute(tx.connection()).await;
        assert_eq!(locked.is_err(), first != "DO 0", "{locked:?}");
    }

    #[tokio::test]
    async fn a_lost_step_has_no_effect_whatever_the_mode() {
        let Some(lab) = MySql::lab().await else { return };
        execute(&mut lab.connect().await, "CREATE TABLE effects (id INT)").await;
        let store = store_after(&lab, "SET sql_mode = ''").await;
        let key = key("k");
        let hold = claim_new(&*store, &key, 1, HOUR).await;
        let mut tx = begin_step(&*store, &key).await;
        execute(tx.connection(), "INSERT INTO effects VALUES (1)").await;
        let step = TxStep { seq: 0, name: "a", result: b"r" };
        let stale = Hold { token: Token(2), ..hold };
        assert_eq!(tx.commit_step(&stale, &step).await.unwrap(), Held::Lost);
        let mut connection = lab.connect().await;
        for table in ["SELECT 1 FROM effects", "SELECT 1 FROM idem_steps"] {
            assert_eq!(MySql::rows(&mut connection, table).await.unwrap(), 0);
        }
    }

    #[tokio::test]
    async fn a_migration_that_was_cut_off_anywhere_goes_on() {
        let Some(lab) = MySql::lab().await else { return };
        let idem = Idem::builder(lab.pool(1)).build().unwrap();
        let sql = idem.migration_sql();
        let whole = statements(&sql);
        assert!(whole.len() > 8, "{sql}");
        let mut connection = lab.connect().await;
        for length in 0..whole.len() {
            let tables = "DROP TABLE IF EXISTS idem_migrations, idem_jobs, idem_records, idem_steps, idem_audit, idem_outbox, idem_claims";
            execute(&mut connection, tables).await;
            for statement in &whole[..length] {
                execute(&mut connection, *statement).await;
            }
            let idem = Idem::builder(lab.pool(1)).build().unwrap();
            idem.migrate().await.unwrap_or_else(|error| panic!("after {length} statements: {error}"));
            let store = Arc::clone(idem.store());
            let hold = claim_new(&*store, &key("k"), 1, HOUR).await;
            let held = store.change(&hold, &settle(b"r", &[task(&key("k"))])).await.unwrap();
            assert_eq!(held, Held::Yes);
            assert_eq!(store.tasks("default", 0, 10).await.unwrap().len(), 1);
            assert_eq!(store.holder(key("k").hash()).await.unwrap(), None);
        }
    }

    fn statements(sql: &str) -> Vec<&str> {
        sql.split_inclusive(";\n").filter(|statement| !statement.trim().is_empty()).collect()
    }
}
