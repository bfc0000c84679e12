extern crate idem_runtime as renamed;

/// Hides the default path: nothing generated may use it.
mod idem_runtime {}

use renamed::{Done, Error, Idem, KeyPart, Provides, Run, Tx, idempotent};
use renamed::store::memory::Memory;

#[derive(Clone, KeyPart, serde::Serialize, serde::Deserialize)]
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
async fn found(job: &Copied, _: &Gateway) -> Result<Option<u32>, String> {
    Ok((job.order.0 == 9).then_some(9))
}

async fn current(job: &Copied, _: &Gateway) -> Result<Option<u32>, String> {
    Ok((job.order.0 == 8).then_some(8))
}

#[idempotent(
    key = order,
    job = Copied,
    crate = renamed,
    in_doubt = probe(found),
    check = current,
    adopt(error if error == "twice" => order.0),
    replay(_),
    lock = lease("5s"),
    on_busy = reschedule("1s"),
)]
pub async fn sync(order: OrderId, #[state] gateway: &Gateway) -> Result<u32, String> {
    let _ = gateway;
    Ok(order.0)
}

#[idempotent(key = order, crate = renamed, in_doubt = park, drift = park)]
pub async fn fulfil(run: &mut Run<'_, Memory>, order: u32) -> Result<u32, String> {
    run.step("charge", async |_| Ok(order)).await
}

#[idempotent(
    key = (order, other),
    crate = renamed,
    unique = until_and_while_executing,
    unique_by(queue = (order, other), run = global),
    on_duplicate = reschedule("5s"),
)]
pub async fn refresh(_: &mut Tx<'_, Memory>, order: OrderId, other: u32) -> Result<u32, String> {
    Ok(order.0 + other)
}

#[idempotent(key = tick, crate = renamed, schedule("0 3 * * *", time_zone = "Europe/Berlin", missed = all))]
pub async fn nightly(_: &mut Tx<'_, Memory>, tick: renamed::schedule::Tick) -> Result<i64, String> {
    Ok(tick.unix())
}

fn main() {
    let _ = |idem: &Idem<Memory, App>, tick| drop((refresh(idem, OrderId(1), 2), nightly(idem, tick)));
    let _ = |idem: &Idem<Memory, App>| drop(ship(idem, OrderId(1), 2, String::new()));
    let _ = |idem: &Idem<Memory, App>| drop((sync(idem, OrderId(1)), fulfil(idem, 2)));
    let _: fn(Done<u32>, Error<String>, &Idem<Memory, App>) = |_, _, _| ();
}
