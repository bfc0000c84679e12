#![allow(unused)]

use idem_runtime::prelude::*;

async fn already_paid(tx: &mut Tx<'_, Memory>, job: &Charge) -> Result<bool, String> {
    Ok(true)
}

#[idempotent(key = id, check = already_paid)]
async fn charge(tx: &mut Tx<'_, Memory>, id: i64) -> Result<(), String> {
    Ok(())
}

fn main() {}
