use std::sync::Arc;

use idem_runtime::prelude::*;
use idem_runtime::store::memory::MemoryStore;
use serde::{Deserialize, Serialize};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Receipt {
    id: i64,
    memo: String,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub enum PaymentError {
    Duplicate { charge: i64 },
    Declined,
    Unpaid(i64),
    Down,
}

impl std::fmt::Display for PaymentError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self:?}")
    }
}

impl std::error::Error for PaymentError {}

async fn already_paid(_: &mut Tx<'_, Memory>, job: &Pay) -> Result<Option<Receipt>, PaymentError> {
    Ok((job.id == 100).then(|| Receipt { id: 100, memo: job.memo.clone() }))
}

async fn mark_paid(tx: &mut Tx<'_, Memory>, id: i64, memo: &str) -> Result<Receipt, PaymentError> {
    if id < 0 { Err(PaymentError::Unpaid(id)) } else { Ok(Receipt { id, memo: format!("{memo}{}", tx.idempotency_key().len()) }) }
}

#[idempotent(
    key = id,
    check = already_paid,
    adopt(
        PaymentError::Duplicate { charge } if charge != 0 => mark_paid(tx, charge, &memo).await?,
        constraint("payments_pkey") => Receipt { id, memo: memo.clone() },
    ),
    adopt(PaymentError::Unpaid(id) => Receipt { id, memo }),
    replay(PaymentError::Declined | PaymentError::Duplicate { charge: 0 }),
    on_busy = error,
    timeout = "1m30s",
    retain = forever,
)]
async fn pay(tx: &mut Tx<'_, Memory>, id: i64, mut memo: String) -> Result<Receipt, PaymentError> {
    memo.push_str(&tx.idempotency_key());
    tx.set(format!("charge {id}"), "made");
    match id {
        1 => Err(PaymentError::Duplicate { charge: 11 }),
        2 => Err(PaymentError::Duplicate { charge: -1 }),
        3 => Err(PaymentError::Duplicate { charge: 0 }),
        4 => Err(PaymentError::Declined),
        5 => Err(PaymentError::Unpaid(55)),
        6 => Err(PaymentError::Down),
        id => Ok(Receipt { id, memo: String::from("new") }),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let store = MemoryStore::new();
    let idem = Idem::with_store(Arc::new(store.clone())).build().unwrap();
    let run = async |id| pay(&idem, id, String::from("memo")).await;

    assert_eq!(run(100).await.unwrap(), Done::Adopted(Receipt { id: 100, memo: String::from("memo") }));
    assert_eq!(run(0).await.unwrap(), Done::Executed(Receipt { id: 0, memo: String::from("new") }));
    let adopted = run(1).await.unwrap();
    assert!(adopted.is_adopted() && adopted.id == 11 && adopted.memo.starts_with("memo"));
    assert!(run(1).await.unwrap().is_replayed());
    assert!(matches!(run(2).await, Err(Error::Job(PaymentError::Unpaid(-1)))));
    assert!(matches!(run(3).await, Err(Error::Job(PaymentError::Duplicate { charge: 0 }))));
    assert!(matches!(run(4).await, Err(Error::Job(PaymentError::Declined))));
    assert!(matches!(run(4).await, Err(Error::Job(PaymentError::Declined))));
    assert_eq!(*run(5).await.unwrap(), Receipt { id: 55, memo: String::from("memo") });
    assert!(matches!(run(6).await, Err(Error::Job(PaymentError::Down))));
    let made: Vec<String> = store.effects().into_keys().collect();
    assert_eq!(made, ["charge 0"], "what is adopted, final or failed leaves no effect");
    assert!(matches!(pay(&idem, 0, String::from("other")).await, Err(Error::KeyReused(_))));
}
