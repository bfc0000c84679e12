#![allow(unused)]

use idem_runtime::engine::Queue;
use idem_runtime::prelude::*;

#[idempotent(key = id)]
async fn charge(tx: &mut Tx<'_, Memory>, id: i64) -> Result<(), String> {
    Ok(())
}

pub struct Refund {
    id: i64,
}

async fn call(queue: Queue<Memory>) {
    let _ = queue.push(charge).await;
    let _ = queue.push(Refund { id: 1 }).await;
    let _ = queue.push_all([Refund { id: 1 }]).await;
}

fn main() {}
