#![allow(unused)]

use idem_runtime::prelude::*;

#[idempotent(key = id, unique = until_executed, unique_by = gateway)]
async fn charge(tx: &mut Tx<'_, Memory>, id: i64, #[state] gateway: &u8) -> Result<(), String> {
    Ok(())
}

fn main() {}
