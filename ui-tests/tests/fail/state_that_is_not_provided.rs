#![allow(unused)]

use idem_runtime::prelude::*;

pub struct Gateway;
pub struct Mailer;

#[idempotent(key = id)]
async fn charge(tx: &mut Tx<'_, Memory>, id: i64, #[state] gateway: &Gateway) -> Result<(), String> {
    Ok(())
}

async fn call(idem: Idem<Memory, Mailer>) {
    let _ = charge(&idem, 1).await;
}

fn main() {}
