#![allow(unused)]

use idem_runtime::prelude::*;

#[idempotent(key = payment_id)]
async fn charge(tx: &mut Tx<'_, Memory>, payment_id: i64, note: &str) -> Result<i64, String> {
    Ok(payment_id + note.len() as i64)
}

async fn call(idem: Idem<Memory>) -> Result<i64, Error<String>> {
    let done = charge(&idem, 1, "note").await?;
    Ok(done.into_inner())
}

fn main() {}
