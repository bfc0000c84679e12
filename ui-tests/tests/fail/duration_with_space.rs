#![allow(unused)]

use idem_runtime::prelude::*;

#[idempotent(key = id, timeout = "1h 30m")]
async fn charge(tx: &mut Tx<'_, Memory>, id: i64) -> Result<(), String> {
    Ok(())
}

fn main() {}
