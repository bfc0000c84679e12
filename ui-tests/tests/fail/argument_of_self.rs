#![allow(unused)]

use idem_runtime::prelude::*;

#[idempotent(key = id)]
async fn charge(tx: &mut Tx<'_, Memory>, id: i64, order: Option<Self>) -> Result<(), String> {
    Ok(())
}

fn main() {}
