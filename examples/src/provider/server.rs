//! The server: what becomes of a request, and its way over HTTP.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::header::HeaderValue;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::{
    Books, Charge, Contact, Entry, Fault, FaultRequest, KEY_HEADER, Mail, Order, PlainMail, Print, Profile,
    REPLAYED_HEADER, Refusal, Service,
};

/// The longest body of a request.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// How long `GET /PATH/REFERENCE` waits for an entry.
const WATCH_MAX: Duration = Duration::from_secs(30);

/// How a service treats what comes again.
struct Rules {
    path: &'static str,
    /// What its ids begin with.
    prefix: &'static str,
    keys: Keys,
    same_reference: SameReference,
}

#[derive(Clone, Copy)]
enum Keys {
    /// One must be given; if it comes again, so does the answer.
    AnsweredAgain,
    /// One must be given; if it comes again, that is an error which names what was done.
    SaidToBeDone,
    /// Nobody looks at them.
    Ignored,
}

enum SameReference {
    IsDuplicate,
    IsDoneAgain,
    Replaces,
}

const SERVICES: [Rules; 6] = [
    rules::<Charge>("ch", Keys::AnsweredAgain, SameReference::IsDuplicate),
    rules::<Mail>("mail", Keys::SaidToBeDone, SameReference::IsDoneAgain),
    rules::<PlainMail>("plain", Keys::Ignored, SameReference::IsDoneAgain),
    rules::<Print>("print", Keys::Ignored, SameReference::IsDoneAgain),
    rules::<Profile>("user", Keys::Ignored, SameReference::Replaces),
    rules::<Contact>("contact", Keys::Ignored, SameReference::Replaces),
];

const fn rules<T: Service>(prefix: &'static str, keys: Keys, same_reference: SameReference) -> Rules {
    Rules { path: T::PATH, prefix, keys, same_reference }
}

/// Serves until the process ends.
///
/// # Errors
///
/// The listener's.
pub async fn serve(listener: TcpListener) -> std::io::Result<Infallible> {
    let provider = Arc::new(Provider::new());
    loop {
        let (stream, _) = listener.accept().await?;
        let provider = Arc::clone(&provider);
        tokio::spawn(async move {
            let service = service_fn(|request| route(Arc::clone(&provider), request));
            // A lost answer ends the connection with an error; so does a client that goes away.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

/// The answer is never sent: an error makes hyper close the connection.
#[derive(Debug, thiserror::Error)]
#[error("the answer is lost")]
struct Lost;

type Answered = Result<Response<Full<Bytes>>, Lost>;

async fn route(provider: Arc<Provider>, request: Request<Incoming>) -> Answered {
    let path = request.uri().path().to_owned();
    let path = path.trim_start_matches('/');
    let (first, reference) = match path.split_once('/') {
        Some((first, reference)) => (first, Some(reference)),
        None => (path, None),
    };
    match (request.method(), first, reference) {
        (&Method::POST, "faults", None) => match body::<FaultRequest>(request).await {
            Ok(FaultRequest { path, reference, fault }) => {
                provider.ledger().faults.insert((path, reference), fault);
                answer(StatusCode::OK, &())
            }
            Err(what) => refuse(StatusCode::BAD_REQUEST, &what),
        },
        (&Method::POST, "release", None) => {
            provider.release();
            answer(StatusCode::OK, &())
        }
        (method, path, reference) => {
            let Some(rules) = SERVICES.iter().find(|rules| rules.path == path) else {
                return refuse(StatusCode::NOT_FOUND, "no such page");
            };
            match (method, reference) {
                (&Method::POST, None) => order(provider, rules, request).await,
                (&Method::GET, None) => answer(StatusCode::OK, &provider.books(rules)),
                (&Method::GET, Some(reference)) => {
                    match tokio::time::timeout(WATCH_MAX, provider.watch(rules, reference)).await {
                        Ok(entry) => answer(StatusCode::OK, &entry),
                        Err(_) => refuse(StatusCode::NOT_FOUND, "nothing like this was done"),
                    }
                }
                _ => refuse(StatusCode::NOT_FOUND, "no such page"),
            }
        }
    }
}

async fn order(provider: Arc<Provider>, rules: &'static Rules, request: Request<Incoming>) -> Answered {
    let key = request.headers().get(KEY_HEADER).and_then(|key| key.to_str().ok()).map(str::to_owned);
    let key = match (rules.keys, key) {
        (Keys::Ignored, _) => None,
        (Keys::AnsweredAgain | Keys::SaidToBeDone, Some(key)) => Some(key),
        (Keys::AnsweredAgain | Keys::SaidToBeDone, None) => {
            return refuse(StatusCode::BAD_REQUEST, "the header `Idempotency-Key` is missing");
        }
    };
    match body(request).await {
        Ok(asked) => {
            // On its own, since a provider does not stop half-way when its client goes away.
            let doing = tokio::spawn(async move { provider.order(rules, key, asked).await });
            doing.await.unwrap_or(Err(Lost))
        }
        Err(what) => refuse(StatusCode::BAD_REQUEST, &what),
    }
}

/// What is done, whatever it is.
type Anything = Map<String, Value>;

/// The provider behind its interface.
struct Provider {
    ledger: Mutex<Ledger>,
    /// How many requests were met.
    met: watch::Sender<u64>,
    /// How often held answers were let go.
    releases: watch::Sender<u64>,
}

#[derive(Default)]
struct Ledger {
    /// By path.
    services: HashMap<&'static str, Books<Anything>>,
    /// By path and key.
    keys: HashMap<(&'static str, String), KeyUse>,
    /// By path and reference.
    faults: HashMap<(String, String), Fault>,
}

/// What a key was used for.
struct KeyUse {
    asked: Order<Anything>,
    answer: Answer,
    /// The answer is not out yet.
    held: bool,
}

#[derive(Clone)]
enum Answer {
    Done(Entry<Anything>),
    Already { error: &'static str, id: String },
}

impl Answer {
    fn send(&self) -> Response<Full<Bytes>> {
        match self {
            Answer::Done(entry) => json(StatusCode::OK, entry),
            Answer::Already { error, id } => {
                json(StatusCode::CONFLICT, &Refusal { error: (*error).to_owned(), id: Some(id.clone()) })
            }
        }
    }

    /// Answers a key that comes again.
    fn send_again(&self, keys: Keys) -> Response<Full<Bytes>> {
        match (keys, self) {
            (Keys::SaidToBeDone, Answer::Done(entry)) => {
                Answer::Already { error: "already_done", id: entry.id.clone() }.send()
            }
            (Keys::AnsweredAgain | Keys::SaidToBeDone | Keys::Ignored, answer) => {
                let mut response = answer.send();
                response.headers_mut().insert(REPLAYED_HEADER, HeaderValue::from_static("true"));
                response
            }
        }
    }
}

impl Provider {
    fn new() -> Self {
        Provider { ledger: Mutex::default(), met: watch::Sender::new(0), releases: watch::Sender::new(0) }
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn books(&self, rules: &Rules) -> Books<Anything> {
        self.ledger().books(rules).clone()
    }

    async fn order(&self, rules: &Rules, key: Option<String>, asked: Order<Anything>) -> Answered {
        // From before the work, so that no release after it is missed.
        let mut released = self.releases.subscribe();
        let (answer, fault) = {
            let mut ledger = self.ledger();
            ledger.books(rules).requests += 1;
            let key = key.map(|key| (rules.path, key));
            match key.as_ref().and_then(|key| ledger.keys.get(key)) {
                None => {}
                Some(known) if known.asked != asked => {
                    return refuse(StatusCode::UNPROCESSABLE_ENTITY, "key_reused");
                }
                Some(known) if known.held => return refuse(StatusCode::CONFLICT, "key_in_use"),
                Some(known) => return Ok(known.answer.send_again(rules.keys)),
            }
            let fault = ledger.faults.remove(&(rules.path.to_owned(), asked.reference.clone()));
            match fault {
                Some(Fault::FailBefore) => return refuse(StatusCode::INTERNAL_SERVER_ERROR, "out of order"),
                Some(Fault::LoseRequest) => return Err(Lost),
                None | Some(Fault::LoseAnswer | Fault::HoldAnswer) => {}
            }
            let answer = ledger.books(rules).meet(rules, &asked);
            if let Some(key) = key {
                let held = fault == Some(Fault::HoldAnswer);
                ledger.keys.insert(key, KeyUse { asked, answer: answer.clone(), held });
            }
            (answer, fault)
        };
        self.met.send_modify(|met| *met += 1);
        match fault {
            None | Some(Fault::FailBefore | Fault::LoseRequest) => {}
            Some(Fault::LoseAnswer) => return Err(Lost),
            // The provider outlives every request.
            Some(Fault::HoldAnswer) => _ = released.changed().await,
        }
        Ok(answer.send())
    }

    /// Lets every held answer go.
    fn release(&self) {
        self.ledger().keys.values_mut().for_each(|key| key.held = false);
        self.releases.send_modify(|releases| *releases += 1);
    }

    /// Waits until there is an entry of a reference.
    async fn watch(&self, rules: &Rules, reference: &str) -> Entry<Anything> {
        let mut met = self.met.subscribe();
        loop {
            let found = self.ledger().books(rules).of(reference).first().map(|entry| (*entry).clone());
            if let Some(entry) = found {
                return entry;
            }
            if met.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

impl Ledger {
    fn books(&mut self, rules: &Rules) -> &mut Books<Anything> {
        self.services.entry(rules.path).or_insert_with(|| Books { entries: Vec::new(), requests: 0 })
    }
}

impl Books<Anything> {
    /// Does what is asked for.
    fn meet(&mut self, rules: &Rules, asked: &Order<Anything>) -> Answer {
        let Order { reference, what } = asked.clone();
        let before = self.entries.iter_mut().find(|entry| entry.reference == reference);
        match (&rules.same_reference, before) {
            (SameReference::IsDuplicate, Some(before)) => {
                Answer::Already { error: "duplicate", id: before.id.clone() }
            }
            (SameReference::Replaces, Some(before)) => {
                before.what = what;
                Answer::Done(before.clone())
            }
            (SameReference::IsDoneAgain, Some(_)) | (_, None) => {
                let id = format!("{}_{}", rules.prefix, self.entries.len() + 1);
                let entry = Entry { id, reference, what };
                self.entries.push(entry.clone());
                Answer::Done(entry)
            }
        }
    }
}

async fn body<T: DeserializeOwned>(request: Request<Incoming>) -> Result<T, String> {
    let bytes = Limited::new(request.into_body(), BODY_BYTES_MAX)
        .collect()
        .await
        .map_err(|error| error.to_string())?
        .to_bytes();
    serde_json::from_slice(&bytes).map_err(|error| error.to_string())
}

fn refuse(status: StatusCode, error: &str) -> Answered {
    answer(status, &Refusal { error: error.to_owned(), id: None })
}

fn answer<T: Serialize>(status: StatusCode, body: &T) -> Answered {
    Ok(json(status, body))
}

fn json<T: Serialize>(status: StatusCode, body: &T) -> Response<Full<Bytes>> {
    let body = serde_json::to_vec(body).expect("an answer of the provider is plain data");
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response
}
