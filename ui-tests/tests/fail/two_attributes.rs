#![allow(unused)]

use idem_runtime::prelude::*;

#[idempotent(key = id)]
#[idempotent(key = id, retain = "7d")]
async fn charge(tx: &mut Tx<'_, Memory>, id: i64) -> Result<(), String> {
    Ok(())
}

fn main() {}
