#![allow(unused)]

use idem_runtime::prelude::*;

pub struct Gateway;

#[idempotent(key = gateway)]
async fn charge(tx: &mut Tx<'_, Memory>, id: i64, #[state] gateway: &Gateway) -> Result<(), String> {
    Ok(())
}

fn main() {}
