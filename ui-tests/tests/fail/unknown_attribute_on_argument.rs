#![allow(unused)]

use idem_runtime::prelude::*;

#[idempotent(key = id)]
async fn charge(tx: &mut Tx<'_, Memory>, #[serde(default)] id: i64) -> Result<(), String> {
    Ok(())
}

fn main() {}
