use std::sync::atomic::{AtomicU32, Ordering};

use idem_runtime::prelude::*;

#[derive(Default)]
pub struct Gateway {
    charges: AtomicU32,
}

pub trait Mailer: Send + Sync {
    fn send(&self) -> u32;
}

struct Smtp;

impl Mailer for Smtp {
    fn send(&self) -> u32 {
        7
    }
}

pub struct Limit<T>(T);

#[derive(Provides)]
struct App<T> {
    gateway: Gateway,
    limit: Limit<T>,
    #[provides(skip)]
    smtp: Smtp,
}

impl<T> Provides<dyn Mailer> for App<T> {
    fn provide(&self) -> &(dyn Mailer + 'static) {
        &self.smtp
    }
}

#[derive(Provides)]
struct Pair(u8, String);

#[idempotent(key = id, adopt(error if error == "limit" => u64::from(limit.0)))]
async fn charge(
    tx: &mut Tx<'_, Memory>,
    #[state] gateway: &Gateway,
    id: u32,
    #[state] Limit(max): &Limit<u32>,
    note: String,
    #[state] mailer: &dyn Mailer,
    #[state] limit: &Limit<u32>,
) -> Result<u64, String> {
    let _ = (tx.idempotency_key(), note);
    gateway.charges.fetch_add(1, Ordering::SeqCst);
    if id > *max || id > limit.0 { Err(String::from("limit")) } else { Ok(u64::from(mailer.send())) }
}

#[idempotent(key = id)]
async fn paired(_: &mut Tx<'_, Memory>, id: u8, #[state] number: &u8, #[state] text: &String) -> Result<usize, String> {
    Ok(usize::from(*number) + text.len() + usize::from(id))
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let app = App { gateway: Gateway::default(), limit: Limit(10), smtp: Smtp };
    let idem = Idem::memory().state(app).build().unwrap();
    for _ in 0..3 {
        assert_eq!(*charge(&idem, 1, String::from("n")).await.unwrap(), 7);
    }
    assert_eq!(idem.state().gateway.charges.load(Ordering::SeqCst), 1);
    let adopted = charge(&idem, 11, String::new()).await.unwrap();
    assert!(adopted.is_adopted());
    assert_eq!(*adopted, 10);

    let idem = Idem::memory().state(Pair(1, String::from("ab"))).build().unwrap();
    assert_eq!(*paired(&idem, 3).await.unwrap(), 6);
}
