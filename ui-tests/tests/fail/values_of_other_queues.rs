#![allow(unused)]

use idem_runtime::prelude::*;

#[idempotent(key = id, retain = false)]
async fn job_0(tx: &mut Tx<'_, Memory>, id: i64) -> Result<(), String> {
    Ok(())
}

#[idempotent(key = id, retain = true)]
async fn job_1(tx: &mut Tx<'_, Memory>, id: i64) -> Result<(), String> {
    Ok(())
}

#[idempotent(key = id, lock = until_executed)]
async fn job_2(tx: &mut Tx<'_, Memory>, id: i64) -> Result<(), String> {
    Ok(())
}

#[idempotent(key = id, unique = until_completed)]
async fn job_3(tx: &mut Tx<'_, Memory>, id: i64) -> Result<(), String> {
    Ok(())
}

fn main() {}
