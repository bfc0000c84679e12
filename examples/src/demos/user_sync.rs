//! Syncs of one user over a queue, one after the other.

use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use apalis::prelude::*;
use idem_runtime::engine::apalis::{Delivery, Every, POLL, Payload, PayloadCodec, Ran};
use idem_runtime::engine::{Engine, Enqueued};
use idem_runtime::{Idem, Provides};
use tokio::sync::mpsc;

use super::{QueueConfig, Storage, open, set_up_apalis};
use crate::provider::{Contacts, Directory, Fault, Profile};
use crate::user_sync::{ExportUser, SyncList, SyncUser, reference};

#[derive(Provides)]
struct Users {
    directory: Directory,
    contacts: Contacts,
}

/// Shows a user whose sync is asked for again and again, also while a sync is at work.
///
/// # Errors
///
/// The database's, and a provider that fails where it was not told to.
pub async fn show(url: &str, provider: SocketAddr) -> anyhow::Result<()> {
    let (directory, contacts) = (Directory::new(provider), Contacts::new(provider));
    let users = Users { directory: directory.clone(), contacts: contacts.clone() };
    let pool = open(url)?;
    let idem = Idem::builder(pool.clone()).namespace("examples").state(users).build()?;
    idem.migrate().await?;
    set_up_apalis(&pool).await?;
    let queue = idem.queue(Engine::Apalis);
    queue.set_up().await?;
    // A user of its own, also in a database that was here before.
    let user_id = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?;
    let user = reference(user_id);
    let profile = |email: &str| Profile { name: String::from("Ada"), email: email.to_owned() };
    directory.put(&user, &profile("ada@old.example")).await?;

    println!("A sync is asked for three times, before any worker is there:");
    for _ in 0..3 {
        print(queue.push(SyncUser { user_id }).await?);
    }

    let (said, mut runs) = mpsc::unbounded_channel();
    let handler = queue.handler::<SyncUser>();
    let handle = move |payload: Payload<SyncUser>, delivery: Delivery| {
        let (handled, said) = (handler(payload, delivery), said.clone());
        async move {
            let ran = handled.await;
            // Nobody listens any more when the program ends.
            let _ = said.send(match &ran {
                Ok(Ran::Executed(synced)) => format!("executed: {}", synced.address),
                Ok(Ran::PutBack { why }) => format!("put back: {why}"),
                other => format!("{other:?}"),
            });
            ran
        }
    };
    let storage = Storage::<Payload<SyncUser>>::new(&pool)
        .with_config(QueueConfig::default().queue(queue.name::<SyncUser>()))
        .with_codec(PayloadCodec)
        .poll_with_strategy(Every::new(POLL));
    let worker = WorkerBuilder::new(format!("user-sync-{user_id}")).backend(storage).build(handle);
    let worker = tokio::spawn(worker.run());
    let mut next = async || {
        let ran = runs.recv().await.context("the worker has ended")?;
        println!("  {ran}");
        anyhow::Ok(ran.starts_with("executed"))
    };
    println!("A worker comes:");
    next().await?;

    println!("A sync takes its time. Meanwhile the address changes, and another sync is asked for:");
    contacts.inject(&user, Fault::HoldAnswer).await?;
    let before = contacts.books().await?.requests;
    print(queue.push(SyncUser { user_id }).await?);
    while contacts.books().await?.requests == before {
        tokio::task::yield_now().await;
    }
    directory.put(&user, &profile("ada@new.example")).await?;
    print(queue.push(SyncUser { user_id }).await?);
    next().await?;
    println!("The slow one ends, and the other is delivered again:");
    contacts.release().await?;
    // The other may come once more before the slow one has ended.
    let mut executed = 0;
    while executed < 2 {
        executed += usize::from(next().await?);
    }
    worker.abort();

    println!("The user wants all that is known, and asks three times:");
    for _ in 0..3 {
        print(queue.push(ExportUser { user_id }).await?);
    }
    let storage = Storage::<Payload<ExportUser>>::new(&pool)
        .with_config(QueueConfig::default().queue(queue.name::<ExportUser>()))
        .with_codec(PayloadCodec)
        .poll_with_strategy(Every::new(POLL));
    let worker = WorkerBuilder::new(format!("user-export-{user_id}")).backend(storage);
    let worker = tokio::spawn(worker.build(queue.handler::<ExportUser>()).run());
    // The claim ends with the task, in apalis's own transaction.
    while queue.holder(&ExportUser { user_id }).await?.is_some() {
        tokio::time::sleep(POLL).await;
    }
    worker.abort();
    println!("It is done, and the next one is work of its own:");
    print(queue.push(ExportUser { user_id }).await?);

    println!("Two changes of the user concern the weekly list, and one of them the daily one too:");
    let sync_list = |change, list: &str| SyncList { change, user_id, list: list.to_owned() };
    let change = u64::try_from(user_id)?;
    for (change, list) in [(change, "weekly"), (change + 1, "weekly"), (change + 1, "daily")] {
        print(queue.push(sync_list(change, list)).await?);
    }

    let books = contacts.books().await?;
    for contact in books.of(&user) {
        println!("The newsletter has: {}", contact.what.address);
    }
    Ok(())
}

fn print(enqueued: Enqueued) {
    match enqueued {
        Enqueued::New(task) => println!("  enqueued: {task}"),
        Enqueued::Duplicate { of, .. } => println!("  not enqueued: {of} is to do it"),
        other => println!("  {other:?}"),
    }
}
