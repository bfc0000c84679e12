#![allow(unused)]

use idem_runtime::prelude::*;

#[idempotent(key = n)]
async fn countdown(tx: &mut Tx<'_, Memory>, n: u32) -> Result<(), String> {
    let _ = Box::pin(countdown(tx, n - 1));
    Ok(())
}

fn main() {}
