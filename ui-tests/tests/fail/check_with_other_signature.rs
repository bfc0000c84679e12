#![allow(unused)]

use idem_runtime::prelude::*;

async fn already_paid(id: i64) -> Result<Option<()>, String> {
    Ok(None)
}

#[idempotent(key = id, check = already_paid)]
async fn charge(tx: &mut Tx<'_, Memory>, id: i64) -> Result<(), String> {
    Ok(())
}

fn main() {}
