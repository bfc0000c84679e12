#![allow(unused)]

use idem_runtime::prelude::*;

#[idempotent(key = "{id}-{note}")]
async fn charge(tx: &mut Tx<'_, Memory>, id: i64, note: String) -> Result<(), String> {
    Ok(())
}

fn main() {}
