#![allow(unused)]

use idem_runtime::prelude::*;

#[idempotent(key = id, unique = keep_latest, lock = none, unique_by(queue = id))]
async fn charge(tx: &mut Tx<'_, Memory>, id: i64) -> Result<(), String> {
    Ok(())
}

fn main() {}
