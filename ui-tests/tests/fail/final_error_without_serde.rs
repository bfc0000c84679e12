#![allow(unused)]

use idem_runtime::prelude::*;

pub enum PaymentError {
    Declined,
}

#[idempotent(key = id, replay(PaymentError::Declined))]
async fn charge(tx: &mut Tx<'_, Memory>, id: i64) -> Result<(), PaymentError> {
    Ok(())
}

fn main() {}
