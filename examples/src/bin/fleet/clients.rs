//! The clients: they post changes, several at once, and keep the pace of the kills.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::SendRequest;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use idem_examples::fleet::{Accepted, Change};
use idem_examples::progress::Progress;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// How many clients there are at once.
const CLIENTS: usize = 8;

/// How many changes of one user a client posts in a row.
const ROW: u64 = 5;

/// How often a change is posted that the endpoint cannot accept just then.
const TRIES_MAX: u32 = 10;

/// How long a client waits before it posts a change again.
const PAUSE: Duration = Duration::from_millis(50);

/// User and version of an accepted change.
pub(crate) type Version = (i64, i64);

/// All changes, and how far they are.
#[derive(Debug)]
pub(crate) struct Pushes {
    endpoint: SocketAddr,
    pushes: u64,
    keys: u64,
    kills: u64,
    /// Changes that a client has begun with.
    begun: AtomicU64,
    pushed: watch::Sender<u64>,
    killed: watch::Sender<u64>,
    progress: Arc<Progress>,
}

impl Pushes {
    pub(crate) fn new(
        endpoint: SocketAddr,
        pushes: u64,
        keys: u64,
        kills: u64,
        progress: &Arc<Progress>,
    ) -> Arc<Pushes> {
        Arc::new(Pushes {
            endpoint,
            pushes,
            keys,
            kills,
            begun: AtomicU64::new(0),
            pushed: watch::Sender::new(0),
            killed: watch::Sender::new(0),
            progress: Arc::clone(progress),
        })
    }

    /// Posts everything, and returns what was accepted.
    ///
    /// # Errors
    ///
    /// The endpoint does not answer, or refuses a change.
    pub(crate) async fn push(self: Arc<Self>) -> anyhow::Result<Vec<Version>> {
        let mut clients = JoinSet::new();
        for _ in 0..CLIENTS {
            clients.spawn(Arc::clone(&self).client());
        }
        let mut accepted = Vec::new();
        while let Some(client) = clients.join_next().await {
            accepted.extend(client??);
        }
        Ok(accepted)
    }

    /// Waits until a kill is due, the first one being 0. They part the pushes into equal shares.
    pub(crate) async fn until_due(&self, kill: u64) {
        let due = self.share(kill + 1);
        let _ = self.pushed.subscribe().wait_for(|pushed| *pushed >= due).await;
    }

    /// Says that so many workers were killed.
    pub(crate) fn killed(&self, kills: u64) {
        self.killed.send_replace(kills);
    }

    /// Returns how many pushes there are before the end of a share.
    fn share(&self, shares: u64) -> u64 {
        (self.pushes * shares / (self.kills + 1)).max(1)
    }

    async fn client(self: Arc<Self>) -> anyhow::Result<Vec<Version>> {
        let mut accepted: Vec<Version> = Vec::new();
        let mut connection = Connection::open(self.endpoint).await?;
        let mut killed = self.killed.subscribe();
        let mut user_id = 0;
        loop {
            let number = self.begun.fetch_add(1, Ordering::Relaxed);
            if number >= self.pushes {
                return Ok(accepted);
            }
            // At most one kill is due: so each of them has new tasks before it and behind it.
            let due = (0..self.kills).filter(|kill| self.share(kill + 1) <= number).count() as u64;
            let _ = killed.wait_for(|killed| killed + 1 >= due).await;
            if (accepted.len() as u64).is_multiple_of(ROW) {
                user_id = i64::try_from(fastrand::u64(1..=self.keys)).expect("a key is no large number");
            }
            let change = Change { email: format!("{number}@example.org") };
            let Accepted { version, .. } = connection.post(user_id, &change).await?;
            accepted.push((user_id, version));
            self.pushed.send_modify(|pushed| *pushed += 1);
            self.progress.done(false);
        }
    }
}

/// Counts accepted changes that are not among those of the database.
pub(crate) fn missing(accepted: &[Version], changes: Vec<Version>) -> u64 {
    let changes: HashSet<Version> = changes.into_iter().collect();
    accepted.iter().filter(|version| !changes.contains(version)).count() as u64
}

/// A connection that is kept from one change to the next.
struct Connection {
    host: String,
    sender: SendRequest<Full<Bytes>>,
}

impl Connection {
    async fn open(endpoint: SocketAddr) -> anyhow::Result<Connection> {
        let stream = TcpStream::connect(endpoint).await.context("connecting to the endpoint")?;
        stream.set_nodelay(true)?;
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        // It ends when `sender` is gone, or when the endpoint hangs up; `sender` tells which.
        tokio::spawn(connection);
        Ok(Connection { host: endpoint.to_string(), sender })
    }

    async fn post(&mut self, user_id: i64, change: &Change) -> anyhow::Result<Accepted> {
        let body = Bytes::from(serde_json::to_vec(change)?);
        for tries in 1.. {
            let request = Request::builder()
                .method(Method::POST)
                .uri(format!("/users/{user_id}/sync"))
                .header("host", &self.host)
                .header("content-type", "application/json")
                .body(Full::new(body.clone()))?;
            self.sender.ready().await?;
            let response = self.sender.send_request(request).await.context("posting a change")?;
            let status = response.status();
            let answer = response.into_body().collect().await?.to_bytes();
            match status {
                StatusCode::ACCEPTED => return Ok(serde_json::from_slice(&answer)?),
                StatusCode::SERVICE_UNAVAILABLE if tries < TRIES_MAX => tokio::time::sleep(PAUSE).await,
                _ => bail!("the endpoint answered {status}: {}", String::from_utf8_lossy(&answer)),
            }
        }
        unreachable!("the last try returns")
    }
}
