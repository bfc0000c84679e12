#![allow(unused)]

use idem_runtime::prelude::*;

#[idempotent(key = id)]
async fn charge(id: i64, tx: &mut Tx<'_, Memory>) -> Result<(), String> {
    Ok(())
}

fn main() {}
