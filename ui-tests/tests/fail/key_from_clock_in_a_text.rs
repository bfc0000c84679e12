#![allow(unused)]

use idem_runtime::prelude::*;

#[idempotent(key = format!("{user}-{}", chrono::Utc::now()))]
async fn charge(tx: &mut Tx<'_, Memory>, user: i64) -> Result<(), String> {
    Ok(())
}

fn main() {}
