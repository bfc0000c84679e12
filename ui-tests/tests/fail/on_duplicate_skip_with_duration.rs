#![allow(unused)]

use idem_runtime::prelude::*;

#[idempotent(key = id, unique = until_executed, on_duplicate = skip("5s"))]
async fn charge(tx: &mut Tx<'_, Memory>, id: i64) -> Result<(), String> {
    Ok(())
}

fn main() {}
