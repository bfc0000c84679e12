#![allow(unused)]

use idem_runtime::prelude::*;

#[idempotent(key = uuid::Uuid::new_v4())]
async fn charge(tx: &mut Tx<'_, Memory>, id: i64) -> Result<(), String> {
    Ok(())
}

fn main() {}
