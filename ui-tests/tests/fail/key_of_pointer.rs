#![allow(unused)]

use idem_runtime::prelude::*;

#[idempotent(key = at)]
async fn charge(tx: &mut Tx<'_, Memory>, at: *const u8) -> Result<(), String> {
    Ok(())
}

fn main() {}
