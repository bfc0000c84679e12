#![allow(unused)]

use idem_runtime::prelude::*;

#[idempotent(key = amount)]
async fn charge(tx: &mut Tx<'_, Memory>, amount: f64) -> Result<(), String> {
    Ok(())
}

fn main() {}
