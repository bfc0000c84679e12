#![allow(unused)]

use idem_runtime::prelude::*;

#[idempotent(key = id, unique = while_executing, unique_by(run = tags))]
async fn charge(tx: &mut Tx<'_, Memory>, id: i64, tags: std::collections::HashMap<u8, u8>) -> Result<(), String> {
    Ok(())
}

fn main() {}
