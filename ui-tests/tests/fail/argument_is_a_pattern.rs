#![allow(unused)]

use idem_runtime::prelude::*;

#[idempotent(key = global)]
async fn charge(tx: &mut Tx<'_, Memory>, (id, other): (i64, i64)) -> Result<(), String> {
    Ok(())
}

fn main() {}
