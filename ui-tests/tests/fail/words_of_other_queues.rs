#![allow(unused)]

use idem_runtime::prelude::*;

#[idempotent(key = id, debounce = "1s", singleton)]
async fn job_0(tx: &mut Tx<'_, Memory>, id: i64) -> Result<(), String> {
    Ok(())
}

#[idempotent(key = id, throttle = "1s", tries = 3, queue = "mails")]
async fn job_1(tx: &mut Tx<'_, Memory>, id: i64) -> Result<(), String> {
    Ok(())
}

#[idempotent(key = id, visibility_timeout = "30s", concurrency = 1)]
async fn job_2(tx: &mut Tx<'_, Memory>, id: i64) -> Result<(), String> {
    Ok(())
}

fn main() {}
