#![allow(unused)]

use idem_runtime::prelude::*;

#[idempotent(key = id, on_busy = skip("5s"))]
async fn charge(tx: &mut Tx<'_, Memory>, id: i64) -> Result<(), String> {
    Ok(())
}

fn main() {}
