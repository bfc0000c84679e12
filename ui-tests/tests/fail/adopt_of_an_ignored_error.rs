#![allow(unused)]

use idem_runtime::prelude::*;

#[idempotent(key = id, adopt(_error => ()))]
async fn charge(tx: &mut Tx<'_, Memory>, id: i64) -> Result<(), String> {
    Ok(())
}

fn main() {}
