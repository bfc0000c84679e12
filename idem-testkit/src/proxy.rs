//! A proxy in front of a database server that counts round trips, can add network to them and can lose
//! them.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::OwnedReadHalf;
use tokio::net::{TcpListener, TcpStream};

/// Stands between a client and a server on loopback.
///
/// A round trip is a turn of the conversation: the client speaks after the server did. Dropping the
/// proxy stops listening; conversations under way go on until one side hangs up.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    listening: tokio::task::JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Shared {
    round_trips: AtomicU64,
    loss: Mutex<Option<(Loss, Vec<u8>)>>,
    /// Changed whenever all conversations are to break.
    cut: tokio::sync::watch::Sender<()>,
    /// Changed whenever all conversations are to fall silent.
    silence: tokio::sync::watch::Sender<()>,
}

/// What a connection loses as it breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// The client's message: the server never sees it.
    Request,
    /// The server's answer: it has done what the message says.
    Answer,
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
        let shared = Arc::new(Shared::default());
        let common = Arc::clone(&shared);
        let listening = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let shared = Arc::clone(&common);
                let (mut cut, mut silence) = (shared.cut.subscribe(), shared.silence.subscribe());
                tokio::spawn(async move {
                    let mut conversation = std::pin::pin!(converse(client, upstream, delay, shared));
                    tokio::select! {
                        // An end that hangs up is not the proxy's concern: the other one sees it.
                        _ = &mut conversation => return,
                        _ = cut.changed() => return,
                        _ = silence.changed() => {}
                    }
                    // Neither end hears of it.
                    let _ = cut.changed().await;
                });
            }
        });
        Ok(Proxy { address, shared, listening })
    }

    /// Returns where to connect instead of the server.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns how many round trips there were so far, over all connections.
    pub fn round_trips(&self) -> u64 {
        self.shared.round_trips.load(Ordering::SeqCst)
    }

    /// Breaks the connection at the next message of a client that contains `text`; once.
    pub fn lose(&self, loss: Loss, text: &str) {
        *self.shared.loss.lock().unwrap_or_else(PoisonError::into_inner) =
            Some((loss, text.as_bytes().to_vec()));
    }

    /// Breaks all conversations under way: client and server both see the other one hang up.
    ///
    /// Whoever connects afterwards is let through.
    pub fn cut(&self) {
        self.shared.cut.send_replace(());
    }

    /// Lets no byte through any more in all conversations under way, and tells neither end: so it looks when a machine
    /// is gone, or a network has forgotten a connection.
    ///
    /// Whoever connects afterwards is let through. [`cut`](Self::cut) ends the silent ones.
    pub fn silence(&self) {
        self.shared.silence.send_replace(());
    }

    /// Tells whether the loss that was asked for is still to come.
    pub fn is_loss_pending(&self) -> bool {
        self.shared.loss.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

impl Shared {
    /// Takes the loss if this message is the one.
    fn loss_of(&self, message: &[u8]) -> Option<Loss> {
        let mut loss = self.loss.lock().unwrap_or_else(PoisonError::into_inner);
        let hit =
            loss.as_ref().is_some_and(|(_, text)| message.windows(text.len()).any(|window| window == text));
        if hit { loss.take().map(|(loss, _)| loss) } else { None }
    }
}

async fn converse(
    client: TcpStream,
    upstream: SocketAddr,
    delay: Duration,
    shared: Arc<Shared>,
) -> std::io::Result<()> {
    let server = TcpStream::connect(upstream).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let server_spoke = AtomicBool::new(true);
    let lost = AtomicBool::new(false);
    let requests = async {
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            let message = read(&mut from_client, &mut buffer).await?;
            if message.is_empty() {
                return to_server.shutdown().await;
            }
            if server_spoke.swap(false, Ordering::SeqCst) {
                shared.round_trips.fetch_add(1, Ordering::SeqCst);
            }
            match shared.loss_of(message) {
                Some(Loss::Request) => return Err(std::io::ErrorKind::ConnectionAborted.into()),
                Some(Loss::Answer) => lost.store(true, Ordering::SeqCst),
                None => {}
            }
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
            to_server.write_all(message).await?;
        }
    };
    let answers = async {
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            let message = read(&mut from_server, &mut buffer).await?;
            if message.is_empty() {
                return to_client.shutdown().await;
            }
            if lost.load(Ordering::SeqCst) {
                // The answer may come in pieces, while the server is still at work; hanging up on it early
                // could stop it.
                while tokio::time::timeout(QUIET, read(&mut from_server, &mut buffer))
                    .await
                    .is_ok_and(|m| m.is_ok_and(|m| !m.is_empty()))
                {}
                return Err(std::io::ErrorKind::ConnectionAborted.into());
            }
            server_spoke.store(true, Ordering::SeqCst);
            to_client.write_all(message).await?;
        }
    };
    tokio::try_join!(requests, answers).map(|_| ())
}

/// How long a server says nothing when its answer is over. Between two pieces of one it may have to wait for its turn.
const QUIET: Duration = Duration::from_secs(1);

const BUFFER_BYTES: usize = 64 * 1024;

async fn read<'b>(from: &mut OwnedReadHalf, buffer: &'b mut [u8]) -> std::io::Result<&'b [u8]> {
    let len = from.read(buffer).await?;
    Ok(&buffer[..len])
}
