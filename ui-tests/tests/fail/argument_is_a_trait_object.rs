#![allow(unused)]

use idem_runtime::prelude::*;

#[idempotent(key = id)]
async fn charge(tx: &mut Tx<'_, Memory>, id: i64, gateway: dyn Send) -> Result<(), String> {
    Ok(())
}

fn main() {}
