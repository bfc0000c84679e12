#![allow(unused)]

use idem_runtime::prelude::*;

pub struct Gateway;

#[idempotent(key = id)]
async fn charge(tx: &mut Tx<'_, Memory>, id: i64, #[state(shared)] gateway: &Gateway) -> Result<(), String> {
    Ok(())
}

fn main() {}
