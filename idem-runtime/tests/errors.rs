//! What errors say to the user who caused them: their code at the end, and never an argument or a password.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::error::Error as StdError;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use idem_runtime::engine::{Engine, Enqueued, PushError, TaskId};
use idem_runtime::prelude::*;
use idem_runtime::record::Epoch;
use idem_runtime::{Code, Resolution, StoreError, codec};
use serde::{Deserialize, Serialize, Serializer};
use tokio::sync::Notify;

/// An argument that nobody must see.
const SECRET: &str = "hunter2";

/// The password of a database that nobody must see.
const PASSWORD: &str = "correct-horse";

/// The codes that were seen, each at the end of a text without secrets.
#[derive(Default)]
struct Seen(BTreeSet<Code>);

impl Seen {
    /// Takes an error of idem's own.
    #[track_caller]
    fn error(&mut self, code: Code, error: &(dyn StdError + 'static)) {
        assert!(error.to_string().ends_with(&format!(" [{code}]")), "{code}: {error}");
        assert_eq!(error.to_string().matches("[idem::").count(), 1, "{error}");
        let mut next = Some(error);
        while let Some(link) = next {
            for text in [format!("{link}"), format!("{link:?}"), format!("{link:#?}")] {
                assert!(!text.contains(SECRET) && !text.contains(PASSWORD), "{code}: {text}");
            }
            next = link.source();
        }
        self.0.insert(code);
    }

    #[track_caller]
    fn run<T, E: StdError + 'static>(&mut self, code: Code, answer: Result<T, Error<E>>) {
        let error = answer.err().expect("the run fails");
        assert_eq!(error.code(), Some(code), "{error}");
        self.error(code, &error);
    }

    #[track_caller]
    fn store<T>(&mut self, code: Code, answer: Result<T, StoreError>) {
        let error = answer.err().expect("the store fails");
        assert_eq!(error.code(), code, "{error}");
        self.error(code, &error);
    }

    #[track_caller]
    fn push<T>(&mut self, code: Code, answer: Result<T, PushError>) {
        let error = answer.err().expect("nothing is enqueued");
        assert_eq!(error.code(), code, "{error}");
        self.error(code, &error);
    }
}

fn secret() -> String {
    String::from(SECRET)
}

#[derive(Default)]
struct World {
    is_in: Notify,
    is_new: AtomicBool,
}

/// Holds its key until it is dropped, or runs out of time.
#[idempotent(key = id, on_busy = error, timeout = "50ms")]
async fn hold(
    tx: &mut Tx<'_, Memory>,
    id: i64,
    card: String,
    #[state] world: &Arc<World>,
) -> Result<(), Infallible> {
    tx.set(format!("card of {id}"), card);
    world.is_in.notify_one();
    std::future::pending().await
}

#[idempotent(key = id)]
async fn pay(tx: &mut Tx<'_, Memory>, id: i64, card: String) -> Result<(), Infallible> {
    tx.set(format!("paid {id}"), card);
    Ok(())
}

#[idempotent(key = name, unique = until_executed, on_duplicate = error)]
async fn greet(tx: &mut Tx<'_, Memory>, name: String, card: String) -> Result<(), Infallible> {
    tx.set(name, card);
    Ok(())
}

/// Refuses to be encoded, with a text that quotes it.
#[derive(Debug, Clone, Deserialize)]
struct Locked(String);

impl Serialize for Locked {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom(format_args!("nobody may read {:?}", self.0)))
    }
}

#[idempotent(key = id)]
async fn open(tx: &mut Tx<'_, Memory>, id: i64, safe: Locked) -> Result<(), Infallible> {
    tx.set(format!("opened {id}"), safe.0);
    Ok(())
}

#[idempotent(key = id)]
async fn duplicate(tx: &mut Tx<'_, Memory>, id: i64, card: String) -> Result<Locked, Infallible> {
    tx.set(format!("copied {id}"), &card);
    Ok(Locked(card))
}

/// Two versions of one job.
mod old {
    use super::*;

    #[idempotent(key = id, name = "typed")]
    pub async fn typed(tx: &mut Tx<'_, Memory>, id: i64, card: String) -> Result<String, Infallible> {
        tx.set(format!("typed {id}"), &card);
        Ok(card)
    }
}

mod new {
    use super::*;

    #[idempotent(key = id, name = "typed", fingerprint = none)]
    pub async fn typed(tx: &mut Tx<'_, Memory>, id: i64, card: u8) -> Result<u8, Infallible> {
        tx.set(format!("typed {id}"), card.to_string());
        Ok(card)
    }
}

#[idempotent(key = id, in_doubt = rerun)]
async fn order(run: &mut Run<'_, Memory>, id: i64, card: String) -> Result<(), Infallible> {
    run.enqueue(old::Typed { id, card }).await;
    Ok(())
}

#[idempotent(key = id, in_doubt = rerun)]
async fn stutter(run: &mut Run<'_, Memory>, id: i64, card: String) -> Result<(), Infallible> {
    let _ = (id, &card);
    for name in ["mail", "mail"] {
        run.step(name, async |_| Ok::<_, Infallible>(card.clone())).await?;
    }
    Ok(())
}

/// Its second version has another first step.
#[idempotent(key = id, in_doubt = rerun)]
async fn change(
    run: &mut Run<'_, Memory>,
    id: i64,
    card: String,
    #[state] world: &Arc<World>,
) -> Result<(), std::fmt::Error> {
    let _ = id;
    let name = if world.is_new.swap(true, Ordering::SeqCst) { "new" } else { "old" };
    run.step(name, async |_| Ok::<_, std::fmt::Error>(card)).await?;
    Err(std::fmt::Error)
}

#[idempotent(key = id, in_doubt = park)]
async fn ship(id: i64, card: String, #[state] world: &Arc<World>) -> Result<(), Infallible> {
    let _ = (id, card);
    world.is_in.notify_one();
    std::future::pending().await
}

/// Lets a run begin its body, and drops it there.
async fn cut_off(world: &World, run: impl Future) {
    tokio::select! {
        _ = run => panic!("it never ends"),
        () = world.is_in.notified() => {}
    }
}

#[tokio::test]
async fn what_a_user_causes_in_memory_ends_with_its_code_and_shows_no_argument() {
    let world = Arc::new(World::default());
    let idem = Idem::memory().state(Arc::clone(&world)).build().unwrap();
    let mut seen = Seen::default();

    pay(&idem, 1, secret()).await.unwrap();
    seen.run(Code::KeyReused, pay(&idem, 1, format!("{SECRET}!")).await);
    seen.run(Code::Timeout, hold(&idem, 1, secret()).await);
    world.is_in.notified().await;
    {
        let mut holds = std::pin::pin!(hold(&idem, 2, secret()));
        cut_off(&world, &mut holds).await;
        seen.run(Code::Busy, hold(&idem, 2, secret()).await);
    }
    seen.run(Code::EmptyKey, greet(&idem, String::from(" "), secret()).await);
    seen.run(Code::Unserializable, open(&idem, 1, Locked(secret())).await);
    seen.run(Code::Unrecordable, duplicate(&idem, 1, secret()).await);
    seen.run(Code::StepName, stutter(&idem, 1, secret()).await);

    change(&idem, 1, secret()).await.expect_err("it fails behind its step");
    seen.run(Code::Drift, change(&idem, 1, secret()).await);

    cut_off(&world, ship(&idem, 1, secret())).await;
    while idem.parked(1).await.unwrap().is_empty() {
        let again = tokio::time::timeout(Duration::from_millis(50), ship(&idem, 1, secret())).await;
        if let Ok(parked) = again {
            seen.run(Code::Parked, parked);
        }
    }
    let [parked] = &*idem.parked(10).await.unwrap() else { panic!("one job is parked") };
    let wrong = idem.resolve::<Ship>(parked.hash, Epoch(99), Resolution::rerun(), "nobody looked").await;
    seen.store(Code::Stale, wrong);

    old::typed(&idem, 1, secret()).await.unwrap();
    seen.run(Code::NameTaken, new::typed(&idem, 1, 5).await);
    order(&idem, 1, secret()).await.unwrap();
    idem.relay(async |task| {
        seen.store(Code::Unreadable, task.decode::<new::Typed>());
        Ok::<_, StoreError>(())
    })
    .await
    .unwrap();
    let bytes = codec::encode(&old::Typed { id: 1, card: secret() }).unwrap();
    seen.error(Code::Unreadable, &codec::decode::<new::Typed>(&bytes).err().expect("it is no number"));

    let queue = idem.queue(Engine::Outbox);
    let job = || Greet { name: String::from("Ann"), card: secret() };
    assert!(matches!(queue.push(job()).await.unwrap(), Enqueued::New(_)));
    seen.push(Code::Duplicate, queue.push(job()).await);
    seen.error(Code::TaskId, &"42".parse::<TaskId>().expect_err("it is no ULID"));
    seen.store(Code::Misconfigured, Idem::memory().namespace("no blanks").build());

    let expected = [
        Code::Busy,
        Code::KeyReused,
        Code::Timeout,
        Code::Parked,
        Code::Drift,
        Code::EmptyKey,
        Code::Unserializable,
        Code::NameTaken,
        Code::Unrecordable,
        Code::Unreadable,
        Code::StepName,
        Code::Stale,
        Code::Misconfigured,
        Code::Duplicate,
        Code::TaskId,
    ];
    assert_eq!(seen.0, BTreeSet::from(expected));
}

#[cfg(feature = "sqlite")]
mod sqlite {
    use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
    use sqlx::{Connection, SqlitePool};

    use super::*;

    #[idempotent(key = id, lock = row(cards.id = id), on_busy = wait("50ms"))]
    async fn charge(tx: &mut Tx<'_, Sqlite>, id: i64, card: String) -> Result<(), sqlx::Error> {
        sqlx::query("UPDATE cards SET number = $2 WHERE id = $1")
            .bind(id)
            .bind(card)
            .execute(&mut **tx)
            .await?;
        Ok(())
    }

    #[idempotent(key = id, lock = row(cardz.id = id))]
    async fn charge_nothing(tx: &mut Tx<'_, Sqlite>, id: i64, card: String) -> Result<(), sqlx::Error> {
        let _ = (tx, id, card);
        Ok(())
    }

    #[idempotent(key = id)]
    async fn commit(tx: &mut Tx<'_, Sqlite>, id: i64, card: String) -> Result<(), sqlx::Error> {
        let _ = (id, card);
        sqlx::query("COMMIT").execute(&mut **tx).await?;
        Ok(())
    }

    #[idempotent(key = id)]
    async fn keep(
        tx: &mut Tx<'_, Sqlite>,
        id: i64,
        card: String,
        #[state] world: &Arc<World>,
    ) -> Result<(), sqlx::Error> {
        let _ = (tx, id, card);
        world.is_in.notify_one();
        std::future::pending().await
    }

    /// A file that is gone with the test.
    struct File(std::path::PathBuf);

    impl File {
        fn new(name: &str) -> Self {
            File(std::env::temp_dir().join(format!("idem_errors_{}_{name}.db", std::process::id())))
        }

        fn options(&self) -> SqliteConnectOptions {
            SqliteConnectOptions::new().filename(&self.0)
        }
    }

    impl Drop for File {
        fn drop(&mut self) {
            for beside in ["", "-wal", "-shm"] {
                let _ = std::fs::remove_file(format!("{}{beside}", self.0.display()));
            }
        }
    }

    #[tokio::test]
    async fn what_a_user_causes_on_sqlite_ends_with_its_code_and_shows_no_argument() {
        let mut seen = Seen::default();
        let file = File::new("one");
        let mut made =
            sqlx::SqliteConnection::connect_with(&file.options().create_if_missing(true)).await.unwrap();
        sqlx::query("CREATE TABLE cards (id INTEGER PRIMARY KEY, number TEXT)")
            .execute(&mut made)
            .await
            .unwrap();
        made.close().await.unwrap();

        let world = Arc::new(World::default());
        // As long as opening a connection may take, and as one run here waits.
        let patience = Duration::from_secs(2);
        let pool = SqlitePoolOptions::new().acquire_timeout(patience).connect_lazy_with(file.options());
        let idem = Idem::builder(pool.clone()).state(Arc::clone(&world)).build().unwrap();
        seen.run(Code::NotMigrated, charge(&idem, 1, secret()).await);
        idem.migrate().await.unwrap();

        seen.run(Code::RowNotFound, charge(&idem, 1, secret()).await);
        seen.run(Code::UnknownRow, charge_nothing(&idem, 1, secret()).await);
        seen.run(Code::Refused, commit(&idem, 1, secret()).await);
        {
            let mut keeps = std::pin::pin!(keep(&idem, 1, secret()));
            cut_off(&world, &mut keeps).await;
            seen.run(Code::Exhausted, commit(&idem, 2, secret()).await);
        }
        let mut rival = sqlx::SqliteConnection::connect_with(&file.options()).await.unwrap();
        sqlx::query("BEGIN IMMEDIATE").execute(&mut rival).await.unwrap();
        let hasty = file.options().busy_timeout(Duration::from_millis(10));
        let hasty = Idem::builder(SqlitePool::connect_lazy_with(hasty)).build().unwrap();
        seen.run(Code::Conflict, charge(&hasty, 1, secret()).await);
        rival.close().await.unwrap();

        let reader = SqlitePool::connect_lazy_with(file.options().read_only(true));
        let reader = Idem::builder(reader).namespace("reader").build().unwrap();
        seen.run(Code::ReadOnly, charge(&reader, 1, secret()).await);
        pool.close().await;
        seen.run(Code::Unavailable, charge(&idem, 1, secret()).await);
        let nowhere =
            Idem::builder(SqlitePool::connect_lazy_with(File::new("two").options())).build().unwrap();
        seen.run(Code::Unavailable, charge(&nowhere, 1, secret()).await);

        let expected = [
            Code::RowNotFound,
            Code::Unavailable,
            Code::Exhausted,
            Code::Conflict,
            Code::NotMigrated,
            Code::ReadOnly,
            Code::UnknownRow,
            Code::Refused,
        ];
        assert_eq!(seen.0, BTreeSet::from(expected));
    }

    #[tokio::test]
    async fn an_error_of_the_store_says_which_run_it_ended() {
        let file = File::new("three");
        let pool = SqlitePool::connect_lazy_with(file.options().create_if_missing(true));
        let idem = Idem::builder(pool.clone()).build().unwrap();
        idem.migrate().await.unwrap();
        idem.enrol::<Commit>().await.unwrap();
        let error = commit(&idem, 7, secret()).await.expect_err("its COMMIT is not idem's").to_string();
        assert!(error.starts_with("job `commit` for key `7`: "), "{error}");
        pool.close().await;
    }
}

/// A server that is not there, whose password is in the URL of the pool.
#[cfg(any(feature = "postgres", feature = "mysql"))]
mod servers {
    use sqlx::pool::PoolOptions;

    use super::*;

    async fn check<D>(scheme: &str)
    where
        D: idem_runtime::store::SqlDatabase,
    {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let url = format!("{scheme}://idem:{PASSWORD}@127.0.0.1:{port}/idem");
        let pool =
            PoolOptions::<D>::new().acquire_timeout(Duration::from_millis(200)).connect_lazy(&url).unwrap();
        let error = Idem::builder(pool).build().unwrap().migrate().await.expect_err("nobody listens");
        assert!(error.is_temporary(), "{error}");
        let code = error.code();
        assert!(matches!(code, Code::Exhausted | Code::Unavailable), "{error}");
        Seen::default().error(code, &error);
    }

    #[cfg(feature = "postgres")]
    #[tokio::test]
    async fn a_server_that_is_out_of_reach_shows_no_password_on_postgres() {
        check::<Postgres>("postgres").await;
    }

    #[cfg(feature = "mysql")]
    #[tokio::test]
    async fn a_server_that_is_out_of_reach_shows_no_password_on_mysql() {
        check::<MySql>("mysql").await;
    }
}
