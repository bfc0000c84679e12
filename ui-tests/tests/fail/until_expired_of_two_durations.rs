#![allow(unused)]

use idem_runtime::prelude::*;

#[idempotent(key = id, unique = until_expired("1h", "2h"))]
async fn charge(tx: &mut Tx<'_, Memory>, id: i64) -> Result<(), String> {
    Ok(())
}

fn main() {}
