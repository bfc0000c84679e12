#![allow(unused)]

use idem_runtime::prelude::*;

#[idempotent(key = id)]
async fn result(tx: &mut Tx<'_, Memory>, id: i64) -> Result<(), String> {
    Ok(())
}

fn main() {}
