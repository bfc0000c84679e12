//! The clients.

use std::marker::PhantomData;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;

use super::{
    Books, Charge, Contact, Entry, Fault, FaultRequest, KEY_HEADER, Mail, Order, PlainMail, Print, Profile,
    Refusal, Service,
};

/// How long the client waits for an answer.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// The provider, as a client of one of its services knows it.
#[derive(Debug, Clone)]
pub struct Client<T> {
    address: SocketAddr,
    service: PhantomData<fn() -> T>,
}

/// Takes money.
pub type Gateway = Client<Charge>;
/// Sends mails, once for each key.
pub type Mailer = Client<Mail>;
/// Sends mails, as often as it is asked to.
pub type PlainMailer = Client<PlainMail>;
/// Prints.
pub type Printer = Client<Print>;
/// Knows the users.
pub type Directory = Client<Profile>;
/// Knows who gets the newsletter.
pub type Contacts = Client<Contact>;

/// Why a request was not met, as far as the client knows.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// It was done before.
    #[error("the provider has done this before, as {id}")]
    Already {
        /// What was done then.
        id: String,
    },
    /// The provider refused, or failed before it did anything.
    #[error("the provider refused: {error} (status {status})")]
    Refused {
        /// The status of the answer.
        status: u16,
        /// What the provider says.
        error: String,
    },
    /// No answer came. Whether it was done, nobody knows.
    #[error("the provider did not answer: {0}")]
    NoAnswer(String),
}

impl Gateway {
    /// Takes money, once for each key.
    ///
    /// # Errors
    ///
    /// See [`ProviderError`]; after [`NoAnswer`](ProviderError::NoAnswer) the same key is safe to send again.
    pub async fn charge(
        &self,
        key: &str,
        reference: &str,
        amount_cents: i64,
    ) -> Result<Entry<Charge>, ProviderError> {
        self.order(Some(key), reference, &Charge { amount_cents }).await
    }
}

impl Mailer {
    /// Sends a mail, once for each key.
    ///
    /// # Errors
    ///
    /// See [`ProviderError`]; after [`NoAnswer`](ProviderError::NoAnswer) the same key is safe to send again.
    pub async fn send(&self, key: &str, reference: &str, mail: &Mail) -> Result<Entry<Mail>, ProviderError> {
        self.order(Some(key), reference, mail).await
    }
}

impl PlainMailer {
    /// Sends a mail, each time.
    ///
    /// # Errors
    ///
    /// See [`ProviderError`]; after [`NoAnswer`](ProviderError::NoAnswer) nobody knows whether it was sent.
    pub async fn send(&self, reference: &str, mail: &PlainMail) -> Result<Entry<PlainMail>, ProviderError> {
        self.order(None, reference, mail).await
    }
}

impl Printer {
    /// Prints a text, each time.
    ///
    /// # Errors
    ///
    /// See [`ProviderError`].
    pub async fn print(&self, reference: &str, text: &str) -> Result<Entry<Print>, ProviderError> {
        self.order(None, reference, &Print { text: text.to_owned() }).await
    }
}

impl Directory {
    /// Says who a user is from now on.
    ///
    /// # Errors
    ///
    /// See [`ProviderError`].
    pub async fn put(&self, reference: &str, profile: &Profile) -> Result<Entry<Profile>, ProviderError> {
        self.order(None, reference, profile).await
    }
}

impl Contacts {
    /// Says what the newsletter knows of a user from now on.
    ///
    /// # Errors
    ///
    /// See [`ProviderError`].
    pub async fn put(&self, reference: &str, contact: &Contact) -> Result<Entry<Contact>, ProviderError> {
        self.order(None, reference, contact).await
    }
}

impl<T: Service> Client<T> {
    /// Makes a client of the provider at this address.
    pub fn new(address: SocketAddr) -> Self {
        Client { address, service: PhantomData }
    }

    /// Returns the address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    async fn order(&self, key: Option<&str>, reference: &str, what: &T) -> Result<Entry<T>, ProviderError> {
        let order = Order { reference: reference.to_owned(), what };
        self.call(Method::POST, &format!("/{}", T::PATH), key, &order).await
    }

    /// Returns the provider's books of this service.
    ///
    /// # Errors
    ///
    /// See [`ProviderError`].
    pub async fn books(&self) -> Result<Books<T>, ProviderError> {
        self.call(Method::GET, &format!("/{}", T::PATH), None, &()).await
    }

    /// Returns the first entry of a reference, if there is one.
    ///
    /// # Errors
    ///
    /// See [`ProviderError`].
    pub async fn find(&self, reference: &str) -> Result<Option<Entry<T>>, ProviderError> {
        let books = self.books().await?;
        Ok(books.entries.into_iter().find(|entry| entry.reference == reference))
    }

    /// Waits until there is an entry of a reference.
    ///
    /// # Errors
    ///
    /// See [`ProviderError`]; the provider gives up after 30 s.
    pub async fn watch(&self, reference: &str) -> Result<Entry<T>, ProviderError> {
        self.call(Method::GET, &format!("/{}/{reference}", T::PATH), None, &()).await
    }

    /// Makes the next request for a reference go wrong.
    ///
    /// # Errors
    ///
    /// See [`ProviderError`].
    pub async fn inject(&self, reference: &str, fault: Fault) -> Result<(), ProviderError> {
        let body = FaultRequest { path: T::PATH.to_owned(), reference: reference.to_owned(), fault };
        self.call(Method::POST, "/faults", None, &body).await
    }

    /// Lets every held answer go, of every service.
    ///
    /// # Errors
    ///
    /// See [`ProviderError`].
    pub async fn release(&self) -> Result<(), ProviderError> {
        self.call(Method::POST, "/release", None, &()).await
    }

    async fn call<B: Serialize, A: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        key: Option<&str>,
        body: &B,
    ) -> Result<A, ProviderError> {
        let body = serde_json::to_vec(body).expect("a request to the provider is plain data");
        let mut request =
            Request::builder().method(method).uri(path).header("host", self.address.to_string());
        if let Some(key) = key {
            request = request.header(KEY_HEADER, key);
        }
        let request = request
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| ProviderError::NoAnswer(error.to_string()))?;
        let (status, body) = tokio::time::timeout(ANSWER_MAX, self.send_request(request))
            .await
            .map_err(|_| ProviderError::NoAnswer(format!("no answer within {ANSWER_MAX:?}")))?
            .map_err(|error| ProviderError::NoAnswer(error.to_string()))?;
        let unreadable = |error: serde_json::Error| ProviderError::NoAnswer(error.to_string());
        if status.is_success() {
            return serde_json::from_slice(&body).map_err(unreadable);
        }
        let Refusal { error, id } = serde_json::from_slice(&body).map_err(unreadable)?;
        Err(match id {
            Some(id) => ProviderError::Already { id },
            None => ProviderError::Refused { status: status.as_u16(), error },
        })
    }

    /// Sends one request on a connection of its own, which ends with this call.
    async fn send_request(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<(StatusCode, Bytes), Box<dyn std::error::Error + Send + Sync>> {
        let stream = TcpStream::connect(self.address).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        // It ends when `sender` is gone, or when the provider hangs up; `sender` tells which.
        tokio::spawn(connection);
        let response = sender.send_request(request).await?;
        let status = response.status();
        Ok((status, response.into_body().collect().await?.to_bytes()))
    }
}
