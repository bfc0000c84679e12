#![allow(unused)]

use idem_runtime::prelude::*;

async fn charge(tx: &mut Tx<'_, Memory>, id: i64) -> Result<(), String> {
    Ok(())
}

async fn call(idem: Idem<Memory>) {
    let _ = charge(&idem, 1).await;
}

fn main() {}
