#![allow(unused)]

use idem_runtime::prelude::*;

#[idempotent(key = id, ttl = "7d", retries = 3, backoff = "5s", cron = "0 3 * * *")]
async fn charge(tx: &mut Tx<'_, Memory>, id: i64) -> Result<(), String> {
    Ok(())
}

fn main() {}
