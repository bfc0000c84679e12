use idem_runtime::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Receipt {
    charge_id: String,
}

#[derive(Debug)]
pub enum PaymentError {
    Down,
}

pub struct Gateway;

#[idempotent(key = payment_id)]
pub async fn process_payment(
    tx: &mut Tx<'_, Memory>,
    payment_id: i64,
    #[state] _gateway: &Gateway,
) -> Result<Receipt, PaymentError> {
    if payment_id < 0 {
        return Err(PaymentError::Down);
    }
    Ok(Receipt { charge_id: tx.idempotency_key() })
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let idem = Idem::memory().state(Gateway).build().unwrap();
    let first = process_payment(&idem, 42).await.unwrap();
    assert!(first.is_executed());
    let second = idem.run(ProcessPayment { payment_id: 42 }).await.unwrap();
    assert!(second.is_replayed());
    assert_eq!(*first, *second);
    let shared = idem.clone();
    assert!(tokio::spawn(async move { process_payment(&shared, 43).await.is_ok() }).await.unwrap());
    assert!(matches!(process_payment(&idem, -1).await, Err(Error::Job(PaymentError::Down))));
}
