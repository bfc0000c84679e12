#![allow(unused)]

use idem_runtime::prelude::*;

#[idempotent(key = global)]
async fn charge(tx: &mut Tx<'_, Memory>, global: i64) -> Result<(), String> {
    Ok(())
}

fn main() {}
