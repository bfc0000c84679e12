#![allow(unused)]

use idem_runtime::engine::Engine;
use idem_runtime::prelude::*;

pub enum PaymentError {
    Declined,
}

#[idempotent(key = id)]
async fn charge(tx: &mut Tx<'_, Memory>, id: i64) -> Result<(), PaymentError> {
    Ok(())
}

fn main() {
    let idem = Idem::memory().build().unwrap();
    let handler = idem.queue(Engine::Outbox).handler::<Charge>();
}
