//! A proxy in front of a database server that counts round trips and can add network to them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

/// Stands between a client and a server on loopback.
///
/// A round trip is a turn of the conversation: the client speaks after the server did. Dropping the
/// proxy stops listening; conversations under way go on until one side hangs up.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    round_trips: Arc<AtomicU64>,
    listening: tokio::task::JoinHandle<()>,
}

impl Proxy {
    /// Starts a proxy in front of `upstream` that holds back every message of the client by `delay`.
    ///
    /// # Errors
    ///
    /// No port is free.
    pub async fn start(upstream: SocketAddr, delay: Duration) -> std::io::Result<Proxy> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let round_trips = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&round_trips);
        let listening = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let counter = Arc::clone(&counter);
                tokio::spawn(async move {
                    // An end that hangs up is not the proxy's concern: the other one sees it.
                    let _ = converse(client, upstream, delay, counter).await;
                });
            }
        });
        Ok(Proxy { address, round_trips, listening })
    }

    /// Returns where to connect instead of the server.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns how many round trips there were so far, over all connections.
    pub fn round_trips(&self) -> u64 {
        self.round_trips.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

async fn converse(
    client: TcpStream,
    upstream: SocketAddr,
    delay: Duration,
    counter: Arc<AtomicU64>,
) -> std::io::Result<()> {
    let server = TcpStream::connect(upstream).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let server_spoke = Arc::new(AtomicBool::new(true));
    let heard = Arc::clone(&server_spoke);
    let requests = forward(from_client, to_server, delay, move || {
        if server_spoke.swap(false, Ordering::SeqCst) {
            counter.fetch_add(1, Ordering::SeqCst);
        }
    });
    let answers = forward(from_server, to_client, Duration::ZERO, move || heard.store(true, Ordering::SeqCst));
    tokio::try_join!(requests, answers).map(|_| ())
}

async fn forward(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    delay: Duration,
    mut seen: impl FnMut(),
) -> std::io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let len = from.read(&mut buffer).await?;
        if len == 0 {
            return to.shutdown().await;
        }
        seen();
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        to.write_all(&buffer[..len]).await?;
    }
}
