#![allow(unused)]

use idem_runtime::prelude::*;

#[idempotent(key = id)]
async fn charge(tx: &mut Tx<'_, Memory>, (id, note): (i64, String)) -> Result<(), String> {
    Ok(())
}

fn main() {}
