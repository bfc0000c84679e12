//! The server: what becomes of a request, and its way over HTTP.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::{Books, Charge, ChargeRequest, Fault, FaultRequest, KEY_HEADER, REPLAYED_HEADER, Refusal};

/// The longest body of a request.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// How long `GET /charges/REFERENCE` waits for a charge.
const WATCH_MAX: Duration = Duration::from_secs(30);

/// Serves until the process ends.
///
/// # Errors
///
/// The listener's.
pub async fn serve(listener: TcpListener) -> std::io::Result<Infallible> {
    let bank = Arc::new(Bank::new());
    loop {
        let (stream, _) = listener.accept().await?;
        let bank = Arc::clone(&bank);
        tokio::spawn(async move {
            let service = service_fn(|request| route(Arc::clone(&bank), request));
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

async fn route(bank: Arc<Bank>, request: Request<Incoming>) -> Answered {
    let path = request.uri().path().to_owned();
    match (request.method(), path.as_str()) {
        (&Method::POST, "/charges") => {
            let key = request.headers().get(KEY_HEADER).and_then(|key| key.to_str().ok()).map(str::to_owned);
            match (key, body(request).await) {
                (Some(key), Ok(asked)) => {
                    // On its own, since a gateway does not stop half-way when its client goes away.
                    let charging = tokio::spawn(async move { bank.charge(key, asked).await });
                    charging.await.unwrap_or(Err(Lost))
                }
                (None, _) => refuse(StatusCode::BAD_REQUEST, "the header `Idempotency-Key` is missing"),
                (_, Err(what)) => refuse(StatusCode::BAD_REQUEST, &what),
            }
        }
        (&Method::GET, "/charges") => answer(StatusCode::OK, &bank.books()),
        (&Method::GET, path) if path.starts_with("/charges/") => {
            match tokio::time::timeout(WATCH_MAX, bank.watch(&path["/charges/".len()..])).await {
                Ok(charge) => answer(StatusCode::OK, &charge),
                Err(_) => refuse(StatusCode::NOT_FOUND, "no such charge was made"),
            }
        }
        (&Method::POST, "/faults") => match body::<FaultRequest>(request).await {
            Ok(FaultRequest { reference, fault }) => {
                bank.ledger().faults.insert(reference, fault);
                answer(StatusCode::OK, &())
            }
            Err(what) => refuse(StatusCode::BAD_REQUEST, &what),
        },
        (&Method::POST, "/release") => {
            bank.release();
            answer(StatusCode::OK, &())
        }
        _ => refuse(StatusCode::NOT_FOUND, "no such page"),
    }
}

/// The gateway behind its interface.
struct Bank {
    ledger: Mutex<Ledger>,
    /// How many charges were made.
    charged: watch::Sender<usize>,
    /// How often held answers were let go.
    releases: watch::Sender<u64>,
}

#[derive(Default)]
struct Ledger {
    charges: Vec<Charge>,
    requests: u64,
    keys: HashMap<String, KeyUse>,
    faults: HashMap<String, Fault>,
}

/// What a key was used for.
struct KeyUse {
    asked: ChargeRequest,
    answer: Answer,
    /// The answer is not out yet.
    held: bool,
}

#[derive(Clone)]
enum Answer {
    Charged(Charge),
    Duplicate { charge_id: String },
}

impl Answer {
    fn send(&self) -> Response<Full<Bytes>> {
        match self {
            Answer::Charged(charge) => json(StatusCode::OK, charge),
            Answer::Duplicate { charge_id } => json(
                StatusCode::CONFLICT,
                &Refusal { error: String::from("duplicate_charge"), charge_id: Some(charge_id.clone()) },
            ),
        }
    }
}

impl Bank {
    fn new() -> Self {
        Bank { ledger: Mutex::default(), charged: watch::Sender::new(0), releases: watch::Sender::new(0) }
    }

    fn ledger(&self) -> std::sync::MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn books(&self) -> Books {
        let ledger = self.ledger();
        Books { charges: ledger.charges.clone(), requests: ledger.requests }
    }

    async fn charge(&self, key: String, asked: ChargeRequest) -> Answered {
        // From before the charge, so that no release after it is missed.
        let mut released = self.releases.subscribe();
        let (answer, fault) = {
            let mut ledger = self.ledger();
            ledger.requests += 1;
            match ledger.keys.get(&key) {
                None => {}
                Some(known) if known.asked != asked => {
                    return refuse(StatusCode::UNPROCESSABLE_ENTITY, "key_reused");
                }
                Some(known) if known.held => return refuse(StatusCode::CONFLICT, "key_in_use"),
                Some(KeyUse { answer, .. }) => {
                    let mut response = answer.send();
                    response
                        .headers_mut()
                        .insert(REPLAYED_HEADER, hyper::header::HeaderValue::from_static("true"));
                    return Ok(response);
                }
            }
            let fault = ledger.faults.remove(&asked.reference);
            if fault == Some(Fault::FailBefore) {
                return refuse(StatusCode::INTERNAL_SERVER_ERROR, "out of order");
            }
            let answer = ledger.take_money(&asked);
            let held = fault == Some(Fault::HoldAnswer);
            ledger.keys.insert(key, KeyUse { asked, answer: answer.clone(), held });
            self.charged.send_replace(ledger.charges.len());
            (answer, fault)
        };
        match fault {
            None | Some(Fault::FailBefore) => {}
            Some(Fault::LoseAnswer) => return Err(Lost),
            // The bank outlives every request.
            Some(Fault::HoldAnswer) => _ = released.changed().await,
        }
        Ok(answer.send())
    }

    /// Lets every held answer go.
    fn release(&self) {
        self.ledger().keys.values_mut().for_each(|key| key.held = false);
        self.releases.send_modify(|releases| *releases += 1);
    }

    /// Waits until a reference is charged.
    async fn watch(&self, reference: &str) -> Charge {
        let mut charged = self.charged.subscribe();
        loop {
            let found = self.ledger().charges.iter().find(|charge| charge.reference == reference).cloned();
            if let Some(charge) = found {
                return charge;
            }
            if charged.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

impl Ledger {
    fn take_money(&mut self, asked: &ChargeRequest) -> Answer {
        let ChargeRequest { reference, amount_cents } = asked.clone();
        if let Some(before) = self.charges.iter().find(|charge| charge.reference == reference) {
            return Answer::Duplicate { charge_id: before.charge_id.clone() };
        }
        let charge_id = format!("ch_{}", self.charges.len() + 1);
        let charge = Charge { charge_id, reference, amount_cents };
        self.charges.push(charge.clone());
        Answer::Charged(charge)
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
    answer(status, &Refusal { error: error.to_owned(), charge_id: None })
}

fn answer<T: Serialize>(status: StatusCode, body: &T) -> Answered {
    Ok(json(status, body))
}

fn json<T: Serialize>(status: StatusCode, body: &T) -> Response<Full<Bytes>> {
    let body = serde_json::to_vec(body).expect("an answer of the gateway is plain data");
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response
}
