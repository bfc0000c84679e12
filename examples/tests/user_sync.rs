//! A user is synced as often as it is asked for, and never twice at the same time, on every database.

mod common;

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use idem_examples::provider::{Contacts, Directory, Fault, Profile, ProviderProcess};
use idem_examples::user_sync::{SyncError, SyncUser, reference, sync_user};
use idem_runtime::{Error, Idem, Provides};
use idem_testkit::for_each_database;
use idem_testkit::lab::{Lab, LabDatabase};
use tokio::sync::Barrier;

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

#[test]
fn the_program_shows_the_newest_data() {
    let output = Command::new(env!("CARGO_BIN_EXE_user_sync")).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(said.matches("  enqueued: ").count(), 5, "{said}");
    assert_eq!(said.matches("  not enqueued: ").count(), 4, "{said}");
    assert_eq!(said.matches("  executed: ").count(), 3, "{said}");
    assert!(said.contains("  put back: ") && said.contains("deliver it again in 1s"), "{said}");
    assert!(said.ends_with("The newsletter has: Ada <ada@new.example>\n"), "{said}");
}
