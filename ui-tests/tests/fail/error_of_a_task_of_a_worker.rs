#![allow(unused)]

use apalis_core::backend::memory::MemoryStorage;
use apalis_core::worker::builder::WorkerBuilder;
use idem_runtime::engine::Engine;
use idem_runtime::engine::apalis::Payload;
use idem_runtime::prelude::*;

pub enum PaymentError {
    Declined,
}

#[idempotent(key = id)]
async fn charge(tx: &mut Tx<'_, Memory>, id: i64) -> Result<(), PaymentError> {
    Ok(())
}

async fn work(idem: Idem<Memory>, storage: MemoryStorage<Payload<Charge>>) {
    let queue = idem.queue(Engine::Outbox);
    let _ = WorkerBuilder::new("worker-1").backend(storage).build(queue.handler::<Charge>()).run().await;
}

fn main() {}
