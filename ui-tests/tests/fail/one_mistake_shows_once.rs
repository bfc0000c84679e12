#![allow(unused)]

use idem_runtime::prelude::*;

#[idempotent(key = payment_id, retain = "7 days")]
async fn charge(tx: &mut Tx<'_, Memory>, payment_id: i64) -> Result<i64, String> {
    tx.idempotency_key();
    Ok(payment_id)
}

async fn call(idem: Idem<Memory>) -> Result<i64, Error<String>> {
    let first = charge(&idem, 1).await?;
    let second = idem.run(Charge { payment_id: 2 }).await?;
    Ok(*first + *second)
}

fn main() {}
