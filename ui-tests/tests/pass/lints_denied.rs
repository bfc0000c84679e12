#![deny(warnings, missing_docs, unused, unreachable_pub, nonstandard_style, unused_qualifications)]
#![deny(elided_lifetimes_in_paths, single_use_lifetimes, unused_lifetimes, let_underscore_drop, missing_copy_implementations)]
#![deny(trivial_casts, trivial_numeric_casts, unused_results, variant_size_differences)]
#![deny(clippy::all, clippy::pedantic, clippy::nursery, redundant_lifetimes, unit_bindings, unused_import_braces)]
#![forbid(unsafe_code)]
//! Generated code is silent under the user's lints.

use idem_runtime::prelude::*;
use idem_runtime::schedule::Tick;

/// Why a payment failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Failure {
    /// It was made before.
    Duplicate,
    /// It will never be made.
    Declined(u8),
}

/// A dependency.
#[derive(Clone, Copy, Debug)]
pub struct Gateway;

async fn paid(_tx: &mut Tx<'_, Memory>, job: &Charge) -> Result<Option<i64>, Failure> {
    Ok((job.id == 0).then_some(0))
}

/// Charges.
#[idempotent(
    key = (id, note.len()),
    lock = row(payments.id = id),
    check = paid,
    adopt(Failure::Duplicate => id),
    replay(Failure::Declined(_)),
    timeout = "10s",
)]
pub async fn charge(
    tx: &mut Tx<'_, Memory>,
    id: i64,
    mut note: String,
    _unused: u8,
    #[state] gateway: &Gateway,
) -> Result<i64, Failure> {
    note.push_str(&tx.idempotency_key());
    let Gateway = gateway;
    match id {
        1 => Err(Failure::Duplicate),
        2 => Err(Failure::Declined(1)),
        id => Ok(id),
    }
}

/// Replays everything.
#[idempotent(key = global, replay(_), name = "all")]
pub async fn everything(_: &mut Tx<'_, Memory>) -> Result<(), Failure> {
    Ok(())
}

#[idempotent(key = id)]
async fn private_and_unused(_tx: &mut Tx<'_, Memory>, id: i64) -> Result<i64, Failure> {
    Ok(id)
}

async fn found(job: &Copied, gateway: &Gateway) -> Result<Option<i64>, Failure> {
    let Gateway = gateway;
    Ok((job.id == 1).then_some(job.id))
}

async fn current(job: &Copied, gateway: &Gateway) -> Result<Option<i64>, Failure> {
    let Gateway = gateway;
    Ok((job.id == 0).then_some(0))
}

/// Copies.
#[idempotent(
    key = id,
    job = Copied,
    in_doubt = probe(found),
    check = current,
    adopt(Failure::Duplicate => id),
    replay(Failure::Declined(_)),
    lock = lease("10s"),
)]
pub async fn copy(id: i64, mut note: String, _unused: u8, #[state] gateway: &Gateway) -> Result<i64, Failure> {
    note.push('.');
    let Gateway = gateway;
    Ok(id)
}

/// Calls.
#[idempotent(key = id, in_doubt = rerun, adopt(Failure::Duplicate => id), drift = resume)]
pub async fn call(run: &mut Run<'_, Memory>, id: i64) -> Result<i64, Failure> {
    run.step("call", async |_| Ok(id)).await
}

#[idempotent(key = id, in_doubt = rerun)]
async fn without_steps_and_unused(id: i64) -> Result<i64, &'static str> {
    Ok(id)
}

#[idempotent(key = id, in_doubt = park)]
async fn with_steps_and_unused(_run: &mut Run<'_, Memory>, id: i64) -> Result<i64, Undescribed> {
    Ok(id)
}

/// Is unique.
#[idempotent(
    key = (id, note.len()),
    unique = until_and_while_executing,
    unique_by(queue = (id, note.len()), run = id % 4),
    on_duplicate = replace,
)]
pub async fn newest(_: &mut Tx<'_, Memory>, id: i64, note: String, _unused: u8) -> Result<usize, Failure> {
    Ok(note.len() + usize::from(id == 1))
}

#[idempotent(key = _id, unique = keep_latest, unique_by = _id, in_doubt = rerun)]
async fn unique_and_unused(_id: i64) -> Result<(), Failure> {
    Ok(())
}

/// Is started by the clock.
#[idempotent(key = tick, schedule("0 3 * * *", time_zone = "Europe/Berlin", missed = all))]
pub async fn nightly(_: &mut Tx<'_, Memory>, tick: Tick) -> Result<i64, Failure> {
    Ok(tick.unix())
}

#[idempotent(key = _tick, schedule = "0 3 * * *", in_doubt = rerun)]
async fn scheduled_and_unused(_tick: Tick) -> Result<(), Failure> {
    Ok(())
}

/// An order.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub struct Order {
    /// Its number.
    pub id: u8,
    /// Who it is for.
    pub name: String,
}

/// A receipt.
#[derive(Clone, Copy, Debug, serde::Serialize, serde::Deserialize)]
pub struct Receipt {
    /// The number of an order.
    pub order: u8,
}

/// Has fields that are called as arguments are.
#[idempotent(key = format!("{}", order.id), adopt(Failure::Declined(code) => Receipt { order: code }))]
pub async fn place(_: &mut Tx<'_, Memory>, id: u8, order: Order) -> Result<Receipt, Failure> {
    Ok(Receipt { order: order.id.max(id) })
}

/// Names an argument that another hides.
#[idempotent(key = format!("{}", (|id: u8| id)(order.id)))]
pub async fn hide(_: &mut Tx<'_, Memory>, id: u8, order: Order) -> Result<u8, Failure> {
    Ok(order.id.max(id))
}

/// A number, once.
#[deprecated(since = "0.1.0", note = "write `u8`")]
pub type OldNumber = u8;

#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Hidden(u8);

/// Sets the levels of lints for what stands in its place.
#[allow(deprecated, private_interfaces)]
#[idempotent(key = id)]
pub async fn keep(_: &mut Tx<'_, Memory>, id: OldNumber, hidden: Hidden) -> Result<u8, Failure> {
    Ok(hidden.0.max(id))
}

/// Does so for as long as that is needed.
#[idempotent(key = ID, in_doubt = rerun)]
#[expect(non_snake_case, reason = "it is called so elsewhere")]
#[cfg_attr(all(), allow(deprecated))]
pub async fn copyNumber(ID: OldNumber) -> Result<OldNumber, Failure> {
    Ok(ID)
}

/// An error that says nothing of itself.
#[derive(Clone, Copy)]
pub struct Undescribed;

/// A key.
#[derive(Clone, Copy, Debug, KeyPart)]
pub struct Id(i64);

/// A state.
#[derive(Clone, Copy, Debug, Provides)]
pub struct App {
    gateway: Gateway,
}

fn main() {}
