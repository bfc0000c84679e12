#![allow(unused)]

use idem_runtime::prelude::*;

#[idempotent(payment_id)]
async fn charge(tx: &mut Tx<'_, Memory>, payment_id: i64) -> Result<(), String> {
    Ok(())
}

fn main() {}
