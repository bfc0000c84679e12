//! Connections that a store keeps for itself.
//!
//! sqlx's pool asks the server whether a connection is alive at every return and, by default, at
//! every acquire: two round trips a run. Here a connection is only kept after a transaction that
//! ended in order, and the first statement of a run, which changes nothing, finds out whether it is
//! still alive, in no more time than the pool would take. A connection that is dropped in any other
//! way is closed, so that the server ends its transaction: sqlx's own `begin` would hand it to the
//! next user inside an open one (sqlx#4385).

use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};
#[cfg(any(feature = "postgres", feature = "mysql"))]
use std::sync::OnceLock;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use sqlx::Pool;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::errors::driver_error;
use crate::error::{StoreError, StoreErrorKind};

/// What differs between the databases in how a connection is made ready and thrown away.
#[async_trait]
pub(in crate::store) trait Driver: sqlx::Database {
    /// What a store knows about a connection.
    type Session: Send + 'static;

    /// Makes a new connection ready. The driver must believe from now on that it is in a
    /// transaction, so that a `begin` inside a job makes a savepoint.
    async fn set_up(connection: &mut Self::Connection) -> Result<Self::Session, sqlx::Error>;

    /// Forgets what a session was about, as it goes idle.
    fn idle(session: &mut Self::Session) {
        let _ = session;
    }

    /// Ends, from another connection, what the server may still be doing for a connection that was dropped.
    fn dropped(session: Self::Session, pool: &Pool<Self>) {
        let _ = (session, pool);
    }
}

/// The connections of a store.
pub(in crate::store) struct Connections<D: Driver> {
    shared: Arc<Shared<D>>,
}

struct Shared<D: Driver> {
    pool: Pool<D>,
    idle: Mutex<VecDeque<Live<D>>>,
    permits: Arc<Semaphore>,
}

struct Live<D: Driver> {
    connection: D::Connection,
    session: D::Session,
    opened: Instant,
    used: Instant,
    /// The thread that used it last.
    thread: ThreadId,
}

impl<D: Driver> Connections<D> {
    pub(in crate::store) fn new(pool: Pool<D>, max: u32) -> Self {
        let permits = usize::try_from(max).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        let shared = Shared { pool, idle: Mutex::default(), permits: Arc::new(Semaphore::new(permits)) };
        Connections { shared: Arc::new(shared) }
    }

    /// Leases a connection, an idle one if there is one, and waits for as long as the pool would.
    pub(in crate::store) async fn lease(&self) -> Result<Leased<D>, StoreError> {
        let shared = &self.shared;
        if shared.pool.is_closed() {
            return Err(StoreError::new(
                StoreErrorKind::Unavailable,
                "the connection pool that idem was built with is closed; nothing was done; close it only after the last run, or \
                 build an `Idem` with an open one",
            ));
        }
        let permit = match Arc::clone(&shared.permits).try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => {
                let limit = shared.pool.options().get_acquire_timeout();
                tokio::time::timeout(limit, Arc::clone(&shared.permits).acquire_owned())
                    .await
                    .map_err(|_| exhausted(limit))?
                    .expect("the semaphore is never closed")
            }
        };
        if let Some(live) = self.take_idle() {
            return Ok(Leased { live: Some(live), home: Arc::clone(shared), reused: true, _permit: permit });
        }
        let connect = async {
            let mut connection = shared.pool.acquire().await?.detach();
            let session = D::set_up(&mut connection).await?;
            let now = Instant::now();
            Ok(Live { connection, session, opened: now, used: now, thread: thread::current().id() })
        };
        let live = connect.await.map_err(|error| driver_error("connecting to the database", error))?;
        Ok(Leased { live: Some(live), home: Arc::clone(shared), reused: false, _permit: permit })
    }

    /// Leases a connection that answers: for what is done seldom, and is not worth a retry of its own.
    #[cfg(any(feature = "postgres", feature = "mysql"))]
    pub(in crate::store) async fn lease_alive(&self) -> Result<Leased<D>, StoreError> {
        loop {
            let mut leased = self.lease().await?;
            // One that the server has closed while it stood idle is dropped here.
            if !leased.is_reused() {
                return Ok(leased);
            }
            if heard(leased.patience(), sqlx::Connection::ping(&mut *leased)).await.is_ok() {
                return Ok(leased);
            }
        }
    }

    fn take_idle(&self) -> Option<Live<D>> {
        let options = self.shared.pool.options();
        let now = Instant::now();
        let older = |since: Instant, max: Option<Duration>| max.is_some_and(|max| now - since > max);
        let old = |live: &Live<D>| {
            older(live.used, options.get_idle_timeout()) || older(live.opened, options.get_max_lifetime())
        };
        let mut idle = self.shared.idle();
        // The least recently used stands first. Looking at one a lease is enough to get rid of them all.
        if idle.front().is_some_and(old) {
            idle.pop_front();
        }
        let here = thread::current().id();
        let near = idle.iter().rposition(|live| live.thread == here && !old(live));
        match near.and_then(|near| idle.remove(near)) {
            Some(live) => Some(live),
            None => std::iter::from_fn(|| idle.pop_back()).find(|live| !old(live)),
        }
    }
}

/// What a connection may be silent for at the least, however short the pool's patience is.
#[cfg(any(feature = "postgres", feature = "mysql"))]
const SILENCE_MIN: Duration = Duration::from_secs(1);

/// How long what is sent first on a connection that stood idle may go unanswered.
#[cfg(any(feature = "postgres", feature = "mysql"))]
pub(in crate::store) struct Patience<D: Driver> {
    home: Arc<Shared<D>>,
    limit: Duration,
    /// How long what is sent may wait on the server for others.
    wait: Duration,
}

#[cfg(any(feature = "postgres", feature = "mysql"))]
impl<D: Driver> Patience<D> {
    /// Adds how long what is sent may wait on the server.
    pub(in crate::store) fn and(self, wait: Duration) -> Self {
        Patience { wait: self.wait.saturating_add(wait), ..self }
    }
}

/// Waits for the answer to what is sent first on a connection, no longer than its [`patience`](Leased::patience). A silent one has
/// broken.
#[cfg(any(feature = "postgres", feature = "mysql"))]
pub(in crate::store) async fn heard<D: Driver, T>(
    patience: Option<Patience<D>>,
    sent: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    let Some(patience) = patience else { return sent.await };
    let limit = patience.limit.saturating_add(patience.wait);
    let unheard = Unheard { patience, since: Instant::now(), is_answered: false };
    match tokio::time::timeout(limit, sent).await {
        Ok(answer) => {
            unheard.answered();
            answer
        }
        Err(_) => {
            let silent = std::io::Error::new(std::io::ErrorKind::TimedOut, "the server does not answer");
            Err(sqlx::Error::Io(silent))
        }
    }
}

/// A connection from which nothing has come since it was taken up again.
///
/// What silences one most often silences all: a network that forgets whoever says nothing, a machine that is gone. Whoever
/// gives one up, also from outside, takes those away that nobody has heard of since: each of them would cost a run as long.
#[cfg(any(feature = "postgres", feature = "mysql"))]
struct Unheard<D: Driver> {
    patience: Patience<D>,
    since: Instant,
    is_answered: bool,
}

#[cfg(any(feature = "postgres", feature = "mysql"))]
impl<D: Driver> Unheard<D> {
    fn answered(mut self) {
        self.is_answered = true;
    }
}

#[cfg(any(feature = "postgres", feature = "mysql"))]
impl<D: Driver> Drop for Unheard<D> {
    fn drop(&mut self) {
        // Who is dropped sooner says nothing of the connection.
        if self.is_answered || self.since.elapsed() < self.patience.wait.saturating_add(SILENCE_MIN) {
            return;
        }
        let mut idle = self.patience.home.idle();
        let (heard, unheard) = idle.drain(..).partition(|live: &Live<D>| live.used >= self.since);
        *idle = heard;
        drop(idle);
        // Nobody waits for the list while they are closed.
        drop::<VecDeque<_>>(unheard);
    }
}

/// Tells whether a connection broke by silence: the server may still have its session, with all that it holds.
#[cfg(any(feature = "postgres", feature = "mysql"))]
pub(in crate::store) fn is_silence(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Io(error) if error.kind() == std::io::ErrorKind::TimedOut)
}

/// The one connection on which leases are renewed. It has a pool to itself: it must not queue behind the runs that it
/// keeps alive, which may hold all connections of idem and of the user's pool.
#[cfg(any(feature = "postgres", feature = "mysql"))]
pub(in crate::store) struct Heart<D: Driver> {
    pool: Pool<D>,
    own: OnceLock<Connections<D>>,
}

#[cfg(any(feature = "postgres", feature = "mysql"))]
impl<D: Driver> Heart<D> {
    pub(in crate::store) fn new(pool: Pool<D>) -> Self {
        Heart { pool, own: OnceLock::new() }
    }

    /// Returns the connection; it connects as the user's pool does now.
    pub(in crate::store) fn connection(&self) -> &Connections<D> {
        let now = self.pool.connect_options();
        let own = self.own.get_or_init(|| {
            // Not before it is needed: a pool needs a runtime.
            let options = self.pool.options().clone().max_connections(1).min_connections(0);
            Connections::new(options.connect_lazy_with((*now).clone()), 1)
        });
        own.shared.pool.set_connect_options((*now).clone());
        own
    }
}

fn exhausted(limit: Duration) -> StoreError {
    StoreError::new(
        StoreErrorKind::Exhausted,
        format!(
            "no connection of idem became free within {limit:?}; nothing was done; run it again; allow more with `Builder::connections`, \
             or look for jobs that hold their transaction too long"
        ),
    )
    .temporary()
}

impl<D: Driver> Shared<D> {
    fn idle(&self) -> MutexGuard<'_, VecDeque<Live<D>>> {
        // The list is whole between any two statements, so a panic elsewhere does not matter.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection on lease. Dropping it closes the connection; [`give_back`](Self::give_back) keeps it.
pub(in crate::store) struct Leased<D: Driver> {
    live: Option<Live<D>>,
    home: Arc<Shared<D>>,
    reused: bool,
    _permit: OwnedSemaphorePermit,
}

impl<D: Driver> Leased<D> {
    /// Tells whether the connection stood idle before, so that the server may have closed it since.
    pub(in crate::store) fn is_reused(&self) -> bool {
        self.reused
    }

    /// Returns how long what is sent first may go unanswered: a connection whose other end is gone without a word is silent
    /// for as long as TCP tries. One that was just made is there. It is as long as sqlx's pool waits for a sign of life.
    #[cfg(any(feature = "postgres", feature = "mysql"))]
    pub(in crate::store) fn patience(&self) -> Option<Patience<D>> {
        let limit = self.home.pool.options().get_acquire_timeout().max(SILENCE_MIN);
        self.reused.then(|| Patience { home: Arc::clone(&self.home), limit, wait: Duration::ZERO })
    }

    pub(in crate::store) fn session(&mut self) -> &mut D::Session {
        &mut self.live_mut().session
    }

    /// Tells whether the driver believes in a transaction, as it always must: where a `begin` of the body
    /// failed or was dropped, it has rolled everything back and would not make savepoints any more.
    pub(in crate::store) fn is_sound(&self) -> bool {
        sqlx::Connection::is_in_transaction(&**self)
    }

    /// Keeps the connection for the next run. Only for one whose transaction ended in order.
    pub(in crate::store) fn give_back(mut self) {
        if !self.is_sound() {
            return;
        }
        if let Some(mut live) = self.live.take() {
            live.used = Instant::now();
            live.thread = thread::current().id();
            D::idle(&mut live.session);
            self.home.idle().push_back(live);
        }
    }

    /// Closes the connection, whose transaction has ended in order, and all that stand idle: what is wrong with the server that it
    /// leads to they will not find out either.
    #[cfg(any(feature = "postgres", feature = "mysql"))]
    pub(in crate::store) fn close_all(mut self) {
        D::idle(self.session());
        let idle = std::mem::take(&mut *self.home.idle());
        drop(idle);
    }

    fn live_mut(&mut self) -> &mut Live<D> {
        self.live.as_mut().expect("the connection is there until it is given back")
    }
}

impl<D: Driver> Deref for Leased<D> {
    type Target = D::Connection;

    fn deref(&self) -> &D::Connection {
        &self.live.as_ref().expect("the connection is there until it is given back").connection
    }
}

impl<D: Driver> DerefMut for Leased<D> {
    fn deref_mut(&mut self) -> &mut D::Connection {
        &mut self.live_mut().connection
    }
}

impl<D: Driver> Drop for Leased<D> {
    fn drop(&mut self) {
        if let Some(Live { connection, session, .. }) = self.live.take() {
            drop(connection);
            D::dropped(session, &self.home.pool);
        }
    }
}
