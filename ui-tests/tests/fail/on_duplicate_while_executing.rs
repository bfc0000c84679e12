#![allow(unused)]

use idem_runtime::prelude::*;

#[idempotent(key = id, unique = while_executing, on_duplicate = error)]
async fn charge(tx: &mut Tx<'_, Memory>, id: i64) -> Result<(), String> {
    Ok(())
}

fn main() {}
