#![allow(unused)]

use idem_runtime::prelude::*;

#[idempotent(key = id, adopt(constraint("payments_pkey") if id > 0 => ()))]
async fn charge(tx: &mut Tx<'_, Memory>, id: i64) -> Result<(), String> {
    Ok(())
}

fn main() {}
