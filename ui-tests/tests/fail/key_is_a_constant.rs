#![allow(unused)]

use idem_runtime::prelude::*;

const TENANT: i64 = 7;

#[idempotent(key = TENANT)]
async fn charge(tx: &mut Tx<'_, Memory>, id: i64) -> Result<(), String> {
    Ok(())
}

fn main() {}
