#![allow(unused)]

use idem_runtime::prelude::*;

#[idempotent(key = id)]
async fn charge(tx: &mut Tx<'_, Memory>, id: str) -> Result<(), String> {
    Ok(())
}

fn main() {}
