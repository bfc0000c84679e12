#![allow(unused)]

use idem_runtime::prelude::*;

#[idempotent(key = id, lock = row(payments.amount = amount))]
async fn charge(tx: &mut Tx<'_, Memory>, id: i64, amount: f64) -> Result<(), String> {
    Ok(())
}

fn main() {}
