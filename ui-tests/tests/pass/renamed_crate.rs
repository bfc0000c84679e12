extern crate idem_runtime as renamed;

/// Hides the default path: nothing generated may use it.
mod idem_runtime {}

use renamed::{Done, Error, Idem, KeyPart, Provides, Tx, idempotent};
use renamed::store::memory::Memory;

#[derive(KeyPart, serde::Serialize, serde::Deserialize)]
#[key_part(crate = renamed)]
pub struct OrderId(u32);

#[derive(Debug)]
pub struct Gateway;

#[derive(Debug, Provides)]
#[provides(crate = renamed)]
pub struct App {
    gateway: Gateway,
}

async fn already_done(_: &mut Tx<'_, Memory>, job: &Ship) -> Result<Option<u32>, String> {
    Ok((job.order.0 == 9).then_some(9))
}

#[idempotent(
    key = (order, other),
    crate = renamed,
    lock = row(shop.orders.id = other),
    check = already_done,
    adopt(error if error == "twice" => other),
    replay(_),
    timeout = "5s",
    fingerprint = ignore(note),
)]
pub async fn ship(
    tx: &mut Tx<'_, Memory>,
    order: OrderId,
    other: u32,
    note: String,
    #[state] gateway: &Gateway,
) -> Result<u32, String> {
    let _ = (tx.idempotency_key(), gateway, note, other);
    match order.0 {
        0 => Err(String::from("twice")),
        1 => Err(String::from("never")),
        id => Ok(id),
    }
}


fn main() {
    let _ = |idem: &Idem<Memory, App>| drop(ship(idem, OrderId(1), 2, String::new()));
    let _: fn(Done<u32>, Error<String>, &Idem<Memory, App>) = |_, _, _| ();
}
