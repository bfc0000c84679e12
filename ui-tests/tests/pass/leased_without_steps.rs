use std::sync::atomic::{AtomicU32, Ordering};

use idem_runtime::prelude::*;
use idem_runtime::store::Database;

#[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub enum Failure {
    Gone,
    Known(u32),
    Offline,
}

#[derive(Default)]
pub struct Mailer {
    sent: AtomicU32,
}

pub struct Limit(u32);

#[derive(Provides)]
pub struct App {
    mailer: Mailer,
    limit: Limit,
}

#[idempotent(
    key = user,
    in_doubt = probe(find_user),
    check = is_current,
    lock = lease("1m"),
    adopt(Failure::Known(id) if id < limit.0 => id + user),
    replay(Failure::Gone),
    timeout = "10s",
    retain = "1d",
    fingerprint = ignore(note),
    on_busy = reschedule("5s"),
    name = "sync",
)]
pub async fn sync_user(
    #[state] limit: &Limit,
    user: u32,
    note: String,
    #[state] mailer: &Mailer,
) -> Result<u32, Failure> {
    tokio::task::yield_now().await;
    mailer.sent.fetch_add(1, Ordering::SeqCst);
    assert!(user <= limit.0);
    match user {
        1 => Err(Failure::Gone),
        2 => Err(Failure::Known(5)),
        3 => Err(Failure::Known(500)),
        4 => Err(Failure::Offline),
        _ => Ok(user + note.len() as u32),
    }
}

async fn is_current(job: &SyncUser, limit: &Limit, _: &Mailer) -> Result<Option<u32>, Failure> {
    tokio::task::yield_now().await;
    Ok((job.user > limit.0).then_some(0))
}

async fn find_user(job: &SyncUser, _: &Limit, _: &Mailer) -> Result<Option<u32>, Failure> {
    tokio::task::yield_now().await;
    Ok((job.user == 1).then_some(job.user))
}

/// A job without steps runs wherever the records are, and callers may leave that open as well.
async fn everywhere<D: Database>(idem: &Idem<D, App>) -> Result<u32, Error<Failure>> {
    sync_user(idem, 7, String::new()).await.map(Done::into_inner)
}

/// A second database: this compiles, and nothing here runs on it.
pub struct Other;

impl Database for Other {
    type Connection = ();
}

fn on_another(idem: Idem<Other, App>) -> impl Future<Output = Result<u32, Error<Failure>>> + Send {
    async move {
        let value = idem.run(SyncUser { user: 1, note: String::new() }).await?.into_inner();
        Ok(value + *sync_user(&idem, value, String::new()).await? + everywhere(&idem).await?)
    }
}

#[idempotent(key = global, in_doubt = rerun, retain = none)]
async fn nothing_to_name() -> Result<(), Failure> {
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let _ = on_another;
    let idem = Idem::memory().state(App { mailer: Mailer::default(), limit: Limit(100) }).build().unwrap();
    let sync = |user| {
        let idem = idem.clone();
        tokio::spawn(async move { sync_user(&idem, user, String::from("n")).await })
    };
    assert_eq!(sync(9).await.unwrap().unwrap(), Done::Executed(10));
    assert_eq!(sync(9).await.unwrap().unwrap(), Done::Replayed(10));
    assert_eq!(sync(101).await.unwrap().unwrap(), Done::Adopted(0));
    assert_eq!(sync(2).await.unwrap().unwrap(), Done::Adopted(7));
    assert!(matches!(sync(1).await.unwrap(), Err(Error::Job(Failure::Gone))));
    let sent = idem.state().mailer.sent.load(Ordering::SeqCst);
    assert!(matches!(sync(1).await.unwrap(), Err(Error::Job(Failure::Gone))));
    assert_eq!(idem.state().mailer.sent.load(Ordering::SeqCst), sent, "a final error is replayed");
    assert!(matches!(sync(3).await.unwrap(), Err(Error::Job(Failure::Known(500)))));
    assert!(matches!(sync(4).await.unwrap(), Err(Error::Job(Failure::Offline))));
    assert_eq!(everywhere(&idem).await.unwrap(), 7);
    for _ in 0..2 {
        assert!(nothing_to_name(&idem).await.unwrap().is_executed());
    }
}
