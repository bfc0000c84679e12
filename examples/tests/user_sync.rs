//! A user is synced as often as it is asked for, and never twice at the same time, on every database.

mod common;

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use apalis::prelude::*;
use apalis_sqlite::{Config, SqliteStorage};
use idem_examples::provider::{Contacts, Directory, Fault, Profile, ProviderProcess};
use idem_examples::user_sync::{Listed, SyncError, SyncList, SyncUser, on_list, reference, sync_user};
use idem_runtime::engine::apalis::{Delivery, Every, Payload, PayloadCodec, Ran};
use idem_runtime::engine::{Engine, Enqueued, Queue};
use idem_runtime::{Error, Idem, Provides};
use idem_testkit::for_each_database;
use idem_testkit::lab::{Lab, LabDatabase};
use sqlx::{Sqlite, SqlitePool};
use tokio::sync::{Barrier, mpsc};
use tokio::task::JoinSet;

use common::provider;

const USER: i64 = 7;

/// How many syncs there are at once.
const SYNCS: usize = 16;

#[derive(Provides)]
struct Users {
    directory: Directory,
    contacts: Contacts,
}

/// A database, and a user in the directory.
struct World<'l, D: LabDatabase> {
    lab: &'l Lab<D>,
    process: ProviderProcess,
}

impl<'l, D: LabDatabase> World<'l, D> {
    async fn new(lab: &'l Lab<D>) -> Self {
        let world = World { lab, process: provider() };
        world.worker().migrate().await.unwrap();
        world.rename(USER, "Ada").await;
        world
    }

    /// A handle with connections of its own, as in another process.
    fn worker(&self) -> Idem<D, Users> {
        let users = Users { directory: self.process.client(), contacts: self.contacts() };
        Idem::builder(self.lab.pool(2)).namespace("test").state(users).build().unwrap()
    }

    fn contacts(&self) -> Contacts {
        self.process.client()
    }

    async fn rename(&self, user_id: i64, name: &str) {
        let directory: Directory = self.process.client();
        let profile = Profile { name: name.to_owned(), email: String::from("ada@example.org") };
        directory.put(&reference(user_id), &profile).await.unwrap();
    }

    /// What the newsletter has of a user, and how often anybody wrote there.
    async fn written(&self) -> (String, u64) {
        let books = self.contacts().books().await.unwrap();
        let [contact] = books.of(&reference(USER))[..] else { panic!("not one contact: {books:?}") };
        (contact.what.address.clone(), books.requests)
    }
}

#[tokio::test]
async fn a_user_is_synced_each_time() {
    for_each_database!(lab: Lab<Db> => {
        let world = World::<Db>::new(&lab).await;
        for _ in 0..3 {
            assert!(sync_user(&world.worker(), USER).await.unwrap().is_executed());
        }
        world.rename(USER, "Countess Ada").await;
        // As a job that came over a queue.
        assert!(world.worker().run(SyncUser { user_id: USER }).await.unwrap().is_executed());
        assert_eq!(world.written().await, (String::from("Countess Ada <ada@example.org>"), 4));
    });
}

#[tokio::test]
async fn while_a_user_is_synced_others_are_told_to_come_again() {
    for_each_database!(lab: Lab<Db> => {
        let world = World::<Db>::new(&lab).await;
        world.contacts().inject(&reference(USER), Fault::HoldAnswer).await.unwrap();
        let worker = world.worker();
        let first = tokio::spawn(async move { sync_user(&worker, USER).await });
        world.contacts().watch(&reference(USER)).await.unwrap();
        world.rename(USER, "Countess Ada").await;

        let start = Arc::new(Barrier::new(SYNCS - 1));
        let others: Vec<_> = (1..SYNCS)
            .map(|_| {
                let (worker, start) = (world.worker(), Arc::clone(&start));
                tokio::spawn(async move {
                    start.wait().await;
                    sync_user(&worker, USER).await
                })
            })
            .collect();
        for other in others {
            let busy = other.await.unwrap();
            let Err(Error::Busy(busy)) = busy else { panic!("{busy:?}") };
            assert_eq!(busy.again_in, Some(Duration::from_secs(1)));
            assert!(!busy.skipped);
        }
        assert_eq!(world.written().await, (String::from("Ada <ada@example.org>"), 1));

        world.contacts().release().await.unwrap();
        assert!(first.await.unwrap().unwrap().is_executed());
        assert!(sync_user(&world.worker(), USER).await.unwrap().is_executed());
        assert_eq!(world.written().await, (String::from("Countess Ada <ada@example.org>"), 2));
    });
}

#[tokio::test]
async fn other_users_do_not_wait() {
    for_each_database!(lab: Lab<Db> => {
        let world = World::<Db>::new(&lab).await;
        world.rename(USER + 1, "Bo").await;
        world.contacts().inject(&reference(USER), Fault::HoldAnswer).await.unwrap();
        let worker = world.worker();
        let first = tokio::spawn(async move { sync_user(&worker, USER).await });
        world.contacts().watch(&reference(USER)).await.unwrap();
        assert!(sync_user(&world.worker(), USER + 1).await.unwrap().is_executed());
        world.contacts().release().await.unwrap();
        assert!(first.await.unwrap().unwrap().is_executed());
    });
}

#[tokio::test]
async fn a_sync_that_fails_is_free_to_run_again() {
    for_each_database!(lab: Lab<Db> => {
        let world = World::<Db>::new(&lab).await;
        let missing = sync_user(&world.worker(), USER + 1).await;
        assert!(matches!(missing, Err(Error::Job(SyncError::NoSuchUser { .. }))), "{missing:?}");
        world.rename(USER + 1, "Bo").await;
        assert!(sync_user(&world.worker(), USER + 1).await.unwrap().is_executed());

        world.contacts().inject(&reference(USER), Fault::LoseAnswer).await.unwrap();
        let lost = sync_user(&world.worker(), USER).await;
        assert!(matches!(lost, Err(Error::Job(SyncError::Provider(_)))), "{lost:?}");
        assert!(sync_user(&world.worker(), USER).await.unwrap().is_executed());
        assert_eq!(world.written().await.0, "Ada <ada@example.org>");
    });
}

/// A queue of syncs of lists, in SQLite.
struct Lists<'w> {
    world: &'w World<'w, Sqlite>,
    pool: SqlitePool,
    queue: Queue<Sqlite, Users>,
}

impl<'w> Lists<'w> {
    async fn new(world: &'w World<'w, Sqlite>) -> Self {
        let pool = world.lab.pool(4);
        SqliteStorage::setup(&pool).await.unwrap();
        let queue = world.worker().queue(Engine::Apalis);
        queue.set_up().await.unwrap();
        Lists { world, pool, queue }
    }

    async fn push(&self, change: u64, user_id: i64, list: &str) -> Enqueued {
        self.queue.push(SyncList { change, user_id, list: list.to_owned() }).await.unwrap()
    }

    /// Starts a worker; what becomes of tasks is told as it becomes.
    fn start_worker(&self) -> (JoinSet<Result<(), WorkerError>>, mpsc::UnboundedReceiver<Ran<Listed>>) {
        let (told, ran) = mpsc::unbounded_channel();
        let handler = self.queue.handler::<SyncList>();
        let handle = move |payload: Payload<SyncList>, delivery: Delivery| {
            let (handled, told) = (handler(payload, delivery), told.clone());
            async move {
                let ran = handled.await;
                if let Ok(ran) = &ran {
                    // Nobody listens any more when the test has ended.
                    let _ = told.send(ran.clone());
                }
                ran
            }
        };
        let storage = SqliteStorage::<Payload<SyncList>>::new(&self.pool)
            .with_config(Config::default().queue(self.queue.name::<SyncList>()))
            .with_codec(PayloadCodec)
            .poll_with_strategy(Every::new(Duration::from_millis(20)));
        let worker = WorkerBuilder::new("lists").backend(storage).build(handle);
        let mut running = JoinSet::new();
        running.spawn(worker.run());
        (running, ran)
    }

    /// What a list has of a user.
    async fn entry(&self, user_id: i64, list: &str) -> Option<String> {
        let entry = self.world.contacts().find(&on_list(user_id, list)).await.unwrap();
        entry.map(|entry| entry.what.address)
    }
}

#[tokio::test]
async fn tasks_are_unique_by_the_arguments_that_are_chosen() {
    let lab = Sqlite::lab().await.expect("SQLite is built in");
    let world = World::<Sqlite>::new(&lab).await;
    world.rename(USER + 1, "Bo").await;
    let lists = Lists::new(&world).await;

    let Enqueued::New(first) = lists.push(1, USER, "weekly").await else { panic!("it is the first one") };
    // Another change is no other task.
    let again = lists.push(2, USER, "weekly").await;
    assert!(matches!(again, Enqueued::Duplicate { of, .. } if of == first), "{again:?}");
    // Another list is, and so is another user.
    let others = [lists.push(2, USER, "daily").await, lists.push(1_001, USER + 1, "weekly").await];
    assert!(others.iter().all(|other| matches!(other, Enqueued::New(_))), "{others:?}");

    let (_worker, mut ran) = lists.start_worker();
    for _ in 0..3 {
        let ran = ran.recv().await;
        assert!(matches!(ran, Some(Ran::Executed(_))), "{ran:?}");
    }
    assert_eq!(lists.entry(USER, "weekly").await.as_deref(), Some("Ada <ada@example.org>"));
    assert_eq!(lists.entry(USER, "daily").await.as_deref(), Some("Ada <ada@example.org>"));
    assert_eq!(lists.entry(USER + 1, "weekly").await.as_deref(), Some("Bo <ada@example.org>"));

    // What is done is on record, and the next change is a task again.
    assert_eq!(lists.push(1, USER, "weekly").await, Enqueued::AlreadyDone);
    world.rename(USER, "Countess Ada").await;
    let Enqueued::New(next) = lists.push(3, USER, "weekly").await else { panic!("nothing waits") };
    assert_ne!(next, first);
    assert!(matches!(ran.recv().await, Some(Ran::Executed(_))));
    assert_eq!(lists.entry(USER, "weekly").await.as_deref(), Some("Countess Ada <ada@example.org>"));
}

#[tokio::test]
async fn a_change_that_comes_while_a_list_is_synced_is_synced_behind_it() {
    let lab = Sqlite::lab().await.expect("SQLite is built in");
    let world = World::<Sqlite>::new(&lab).await;
    let lists = Lists::new(&world).await;
    let weekly = on_list(USER, "weekly");
    world.contacts().inject(&weekly, Fault::HoldAnswer).await.unwrap();
    let Enqueued::New(first) = lists.push(1, USER, "weekly").await else { panic!("it is the first one") };
    let (_worker, mut ran) = lists.start_worker();
    world.contacts().watch(&weekly).await.unwrap();

    // The one that runs has read already, so this is a task, and a third one is a duplicate of it.
    world.rename(USER, "Countess Ada").await;
    // Both in one transaction, or the worker might come to the second before the third is there.
    let mut tx = lists.pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
    let job = |change| SyncList { change, user_id: USER, list: String::from("weekly") };
    let second = lists.queue.push_in(&mut tx, job(2)).await.unwrap();
    let Enqueued::New(second) = second else { panic!("{second:?}") };
    let third = lists.queue.push_in(&mut tx, job(3)).await.unwrap();
    tx.commit().await.unwrap();
    assert!(matches!(third, Enqueued::Duplicate { of, .. } if of == second && of != first), "{third:?}");
    let waits = ran.recv().await;
    assert!(matches!(waits, Some(Ran::PutBack { .. })), "{waits:?}");
    world.contacts().release().await.unwrap();
    // The second may come once more before the first has ended.
    let mut executed = 0;
    while executed < 2 {
        match ran.recv().await.expect("the worker goes on") {
            Ran::Executed(_) => executed += 1,
            Ran::PutBack { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(lists.entry(USER, "weekly").await.as_deref(), Some("Countess Ada <ada@example.org>"));
}

#[test]
fn the_program_shows_the_newest_data() {
    let output = Command::new(env!("CARGO_BIN_EXE_user_sync")).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(said.matches("  enqueued: ").count(), 7, "{said}");
    assert_eq!(said.matches("  not enqueued: ").count(), 5, "{said}");
    assert_eq!(said.matches("  executed: ").count(), 3, "{said}");
    assert!(said.contains("  put back: ") && said.contains("deliver it again in 1s"), "{said}");
    assert!(said.ends_with("The newsletter has: Ada <ada@new.example>\n"), "{said}");
}
