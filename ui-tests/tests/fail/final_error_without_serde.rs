use idem_runtime::prelude::*;

pub enum PaymentError {
    Declined,
    Down,
}

#[idempotent(key = id, replay(PaymentError::Declined))]
async fn charge(tx: &mut Tx<'_, Memory>, id: i64) -> Result<(), PaymentError> {
    let _ = tx;
    if id > 0 { Err(PaymentError::Declined) } else { Err(PaymentError::Down) }
}

fn main() {}
