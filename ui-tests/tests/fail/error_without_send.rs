#![allow(unused)]

use idem_runtime::prelude::*;

#[idempotent(key = id)]
async fn charge(tx: &mut Tx<'_, Memory>, id: i64) -> Result<(), Box<dyn std::error::Error>> {
    Ok(())
}

async fn call(idem: Idem<Memory>) {
    let _ = charge(&idem, 1).await;
    let _ = idem.run(Charge { id: 1 }).await;
}

fn main() {}
