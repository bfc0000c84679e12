//! Watching keys: one connection of the process listens for all its runs that wait.
//!
//! A transaction that notifies takes, as it commits, a lock of the whole database, so what ends a claim may notify only
//! if somebody waits. Whoever waits holds a *shared* advisory lock, and what ends a claim tries the exclusive one, behind
//! its update and in the same message. If it gets it, nobody waits, and nobody can begin to until it has
//! committed; then the key is asked for again and found free. If it does not, it notifies.

use std::collections::HashMap;
use std::collections::hash_map;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::postgres::{PgListener, PgPoolOptions};
use sqlx::{AssertSqlSafe, PgPool};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::sync::{oneshot, watch};
use tracing::{debug, info};

use super::key_of_uuid;
use super::saved::{Quoted, Saved, Script};
use crate::key::KeyHash;
use crate::store::Watch;

/// How long a run that will wait waits for its watch; without one it looks again every now and then.
const BEGIN_LIMIT: Duration = Duration::from_secs(2);

/// How many keys are watched at once: each takes a lock, and the server has room for some thousands.
const KEYS_MAX: usize = 256;

/// What tells that the claim of a key has ended.
#[derive(Clone, Copy)]
pub(super) struct Bell {
    key: KeyHash,
    place: u64,
}

impl Bell {
    /// The bell of a key whose records are at `place`.
    pub(super) fn new(key: KeyHash, place: u64) -> Self {
        Bell { key, place }
    }

    /// Rings it if somebody listens. It stands behind what ends the claim, in the same transaction.
    pub(super) fn ring(&self, script: &mut Script, ring: &Saved) {
        script.call(ring, &[&Quoted(self.channel()), &Quoted(self.key), &Quoted(self.lock())]);
    }

    /// The same for all keys of a place.
    fn channel(&self) -> String {
        format!("idem_{:016x}", self.place)
    }

    /// The lock of those who listen: another one than the key's own.
    fn lock(&self) -> i64 {
        const SALT: i64 = 0x6964_656d_6265_6c6c;
        self.key.at(self.place).lock_number() ^ SALT
    }
}

/// What [`Bell::ring`] calls.
pub(super) fn ring() -> Saved {
    let body = "SELECT pg_notify($1, $2) AS idem_rung WHERE NOT pg_try_advisory_xact_lock($3)";
    Saved::new("ring", &["text", "text", "bigint"], body.to_owned())
}

/// The watches of a store.
pub(super) struct Watches {
    pool: PgPool,
    /// Where the listener of the process takes its orders, if there is one.
    listener: Mutex<Option<UnboundedSender<Order>>>,
}

/// What a listener is to do.
enum Order {
    /// Begin a watch, and hand it over when nothing is missed any more.
    Begin { bell: Bell, orders: UnboundedSender<Order>, watch: oneshot::Sender<PostgresWatch> },
    /// A watch has ended.
    End(KeyHash),
}

impl Watches {
    pub(super) fn new(pool: PgPool) -> Self {
        Watches { pool, listener: Mutex::default() }
    }

    /// Begins a watch, if it can.
    pub(super) async fn begin(&self, bell: Bell) -> Option<PostgresWatch> {
        let begin = async {
            // A listener may be going, its last watch having ended, when the order comes; the next one stays.
            for _ in 0..2 {
                let (watch, begun) = oneshot::channel();
                let orders = self.listener(bell);
                let _ = orders.send(Order::Begin { bell, orders: orders.clone(), watch });
                drop(orders);
                if let Ok(watch) = begun.await {
                    return Some(watch);
                }
            }
            None
        };
        tokio::time::timeout(BEGIN_LIMIT, begin).await.ok().flatten()
    }

    /// Returns where a listener takes orders, starting one if there is none.
    fn listener(&self, bell: Bell) -> UnboundedSender<Order> {
        // What it holds is whole at any time, so a panic elsewhere does not matter.
        let mut listener = self.listener.lock().unwrap_or_else(PoisonError::into_inner);
        match &*listener {
            Some(orders) if !orders.is_closed() => orders.clone(),
            _ => {
                let (orders, taken) = mpsc::unbounded_channel();
                tokio::spawn(listen(self.pool.clone(), bell.channel(), taken));
                listener.insert(orders).clone()
            }
        }
    }
}

/// A watch of a key.
pub(super) struct PostgresWatch {
    key: KeyHash,
    rung: watch::Receiver<()>,
    /// The listener is gone, and the watch has said so.
    broken: bool,
    orders: UnboundedSender<Order>,
}

#[async_trait]
impl Watch for PostgresWatch {
    async fn changed(&mut self) {
        if self.broken {
            std::future::pending().await
        }
        // A claim may have ended as the listener broke.
        self.broken = self.rung.changed().await.is_err();
    }
}

impl Drop for PostgresWatch {
    fn drop(&mut self) {
        // A listener that is gone has nothing to end.
        let _ = self.orders.send(Order::End(self.key));
    }
}

/// Those who watch one key.
struct Watched {
    rung: watch::Sender<()>,
    watches: usize,
    lock: i64,
}

/// Listens for as long as anybody watches.
async fn listen(pool: PgPool, channel: String, mut orders: UnboundedReceiver<Order>) {
    // A pool of its own: the user's would be one connection short for as long as runs wait.
    let options = (*pool.connect_options()).clone();
    let own = PgPoolOptions::new().max_connections(1).acquire_timeout(BEGIN_LIMIT).connect_lazy_with(options);
    drop(pool);
    match listen_on(&own, &channel, &mut orders).await {
        Ok(()) => debug!(channel, "nobody waits any more"),
        Err(error) => {
            info!(channel, %error, "the listener broke; runs that wait look again every now and then")
        }
    }
    // Whoever gives an order from now on starts another listener; whoever has just given one learns it by losing it.
    drop(orders);
    // The locks go with the connection.
    let _ = tokio::time::timeout(BEGIN_LIMIT, own.close()).await;
}

async fn listen_on(
    pool: &PgPool,
    channel: &str,
    orders: &mut UnboundedReceiver<Order>,
) -> Result<(), sqlx::Error> {
    let mut listener = PgListener::connect_with(pool).await?;
    // A connection of another session would not have the locks.
    listener.eager_reconnect(false);
    listener.listen(channel).await?;
    let mut keys: HashMap<KeyHash, Watched> = HashMap::new();
    loop {
        match next(&mut listener, orders).await? {
            Heard::Rung(key) => {
                if let Some(watched) = key.and_then(|key| keys.get(&key)) {
                    watched.rung.send_replace(());
                }
                continue;
            }
            Heard::Gone => return Ok(()),
            Heard::Order(Order::Begin { bell, orders, watch }) => {
                let full = keys.len() >= KEYS_MAX;
                let watched = match keys.entry(bell.key) {
                    hash_map::Entry::Occupied(watched) => watched.into_mut(),
                    hash_map::Entry::Vacant(_) if full => continue,
                    hash_map::Entry::Vacant(place) => {
                        let lock = bell.lock();
                        // It waits for those who end the claim just now to commit.
                        execute(&mut listener, format!("SELECT pg_advisory_lock_shared({lock})")).await?;
                        place.insert(Watched { rung: watch::Sender::new(()), watches: 0, lock })
                    }
                };
                watched.watches += 1;
                let rung = watched.rung.subscribe();
                // If nobody takes it, it ends here, which is an order of its own.
                drop(watch.send(PostgresWatch { key: bell.key, rung, broken: false, orders }));
            }
            Heard::Order(Order::End(key)) => {
                let hash_map::Entry::Occupied(mut watched) = keys.entry(key) else { continue };
                watched.get_mut().watches -= 1;
                if watched.get().watches == 0 {
                    let lock = watched.remove().lock;
                    execute(&mut listener, format!("SELECT pg_advisory_unlock_shared({lock})")).await?;
                }
            }
        }
        if keys.is_empty() {
            return Ok(());
        }
    }
}

async fn execute(listener: &mut PgListener, sql: String) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *listener).await.map(|_| ())
}

/// What a listener hears.
enum Heard {
    Order(Order),
    /// Nobody can give orders any more.
    Gone,
    /// The claim of a key has ended.
    Rung(Option<KeyHash>),
}

async fn next(
    listener: &mut PgListener,
    orders: &mut UnboundedReceiver<Order>,
) -> Result<Heard, sqlx::Error> {
    let mut rung = pin!(listener.try_recv());
    poll_fn(|cx| {
        if let Poll::Ready(order) = orders.poll_recv(cx) {
            return Poll::Ready(Ok(order.map_or(Heard::Gone, Heard::Order)));
        }
        rung.as_mut().poll(cx).map(|heard| match heard? {
            Some(heard) => Ok(Heard::Rung(uuid::Uuid::parse_str(heard.payload()).ok().map(key_of_uuid))),
            None => Err(sqlx::Error::WorkerCrashed),
        })
    })
    .await
}
