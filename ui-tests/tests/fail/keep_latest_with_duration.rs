#![allow(unused)]

use idem_runtime::prelude::*;

#[idempotent(key = id, unique = keep_latest("1h"))]
async fn charge(tx: &mut Tx<'_, Memory>, id: i64) -> Result<(), String> {
    Ok(())
}

fn main() {}
