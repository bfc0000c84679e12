#![allow(unused)]

use idem_runtime::prelude::*;

#[idempotent(key = id, unique = until_and_while_executing, unique_by = cents)]
async fn charge(tx: &mut Tx<'_, Memory>, id: i64, cents: f64) -> Result<(), String> {
    Ok(())
}

fn main() {}
