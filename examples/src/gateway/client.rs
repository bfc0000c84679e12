//! The client.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;

use super::{Books, Charge, ChargeRequest, Fault, FaultRequest, KEY_HEADER, Refusal};

/// How long the client waits for an answer.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// A gateway, as its client knows it.
#[derive(Debug, Clone)]
pub struct Gateway {
    address: SocketAddr,
}

/// Why there is no charge, as far as the client knows.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// The reference was charged before, under another key.
    #[error("the gateway charged this before, as {charge_id}")]
    Duplicate {
        /// The charge that was made then.
        charge_id: String,
    },
    /// The gateway refused, or failed before it did anything.
    #[error("the gateway refused: {error} (status {status})")]
    Refused {
        /// The status of the answer.
        status: u16,
        /// What the gateway says.
        error: String,
    },
    /// No answer came. Whether there was a charge, nobody knows.
    #[error("the gateway did not answer: {0}")]
    NoAnswer(String),
}

impl Gateway {
    /// Makes a client of the gateway at this address.
    pub fn new(address: SocketAddr) -> Self {
        Gateway { address }
    }

    /// Returns the address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes money, once for each key.
    ///
    /// # Errors
    ///
    /// See [`GatewayError`]; after [`NoAnswer`](GatewayError::NoAnswer) the same key is safe to send again.
    pub async fn charge(
        &self,
        key: &str,
        reference: &str,
        amount_cents: i64,
    ) -> Result<Charge, GatewayError> {
        let body = ChargeRequest { reference: reference.to_owned(), amount_cents };
        self.call(Method::POST, "/charges", Some(key), &body).await
    }

    /// Returns the gateway's books.
    ///
    /// # Errors
    ///
    /// See [`GatewayError`].
    pub async fn books(&self) -> Result<Books, GatewayError> {
        self.call(Method::GET, "/charges", None, &()).await
    }

    /// Waits until a reference is charged.
    ///
    /// # Errors
    ///
    /// See [`GatewayError`]; the gateway gives up after 30 s.
    pub async fn watch(&self, reference: &str) -> Result<Charge, GatewayError> {
        self.call(Method::GET, &format!("/charges/{reference}"), None, &()).await
    }

    /// Makes the next request for a reference go wrong.
    ///
    /// # Errors
    ///
    /// See [`GatewayError`].
    pub async fn inject(&self, reference: &str, fault: Fault) -> Result<(), GatewayError> {
        let body = FaultRequest { reference: reference.to_owned(), fault };
        self.call(Method::POST, "/faults", None, &body).await
    }

    /// Lets every held answer go.
    ///
    /// # Errors
    ///
    /// See [`GatewayError`].
    pub async fn release(&self) -> Result<(), GatewayError> {
        self.call(Method::POST, "/release", None, &()).await
    }

    async fn call<B: Serialize, T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        key: Option<&str>,
        body: &B,
    ) -> Result<T, GatewayError> {
        let body = serde_json::to_vec(body).expect("a request to the gateway is plain data");
        let mut request =
            Request::builder().method(method).uri(path).header("host", self.address.to_string());
        if let Some(key) = key {
            request = request.header(KEY_HEADER, key);
        }
        let request = request
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| GatewayError::NoAnswer(error.to_string()))?;
        let (status, body) = tokio::time::timeout(ANSWER_MAX, self.send(request))
            .await
            .map_err(|_| GatewayError::NoAnswer(format!("no answer within {ANSWER_MAX:?}")))?
            .map_err(|error| GatewayError::NoAnswer(error.to_string()))?;
        let unreadable = |error: serde_json::Error| GatewayError::NoAnswer(error.to_string());
        if status.is_success() {
            return serde_json::from_slice(&body).map_err(unreadable);
        }
        let Refusal { error, charge_id } = serde_json::from_slice(&body).map_err(unreadable)?;
        Err(match charge_id {
            Some(charge_id) => GatewayError::Duplicate { charge_id },
            None => GatewayError::Refused { status: status.as_u16(), error },
        })
    }

    /// Sends one request on a connection of its own, which ends with this call.
    async fn send(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<(StatusCode, Bytes), Box<dyn std::error::Error + Send + Sync>> {
        let stream = TcpStream::connect(self.address).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        // It ends when `sender` is gone, or when the gateway hangs up; `sender` tells which.
        tokio::spawn(connection);
        let response = sender.send_request(request).await?;
        let status = response.status();
        Ok((status, response.into_body().collect().await?.to_bytes()))
    }
}
