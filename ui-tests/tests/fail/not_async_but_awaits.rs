#![allow(unused)]

use idem_runtime::prelude::*;

async fn effect() {}

#[idempotent(key = id)]
fn charge(tx: &mut Tx<'_, Memory>, id: i64) -> Result<(), String> {
    effect().await;
    Ok(())
}

fn main() {}
