#![allow(unused)]

use idem_runtime::prelude::*;

#[idempotent(key = id, unique = until_expired("1 h"), unique_by = usr, on_duplicate = reschedul("5s"))]
async fn charge(tx: &mut Tx<'_, Memory>, id: i64, user: i64) -> Result<(), String> {
    Ok(())
}

fn main() {}
