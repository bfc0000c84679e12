#![allow(unused)]

use idem_runtime::prelude::*;

#[idempotent(key = id)]
async fn charge<T: Send>(tx: &mut Tx<'_, Memory>, id: i64, other: T) -> Result<(), String> {
    Ok(())
}

fn main() {}
