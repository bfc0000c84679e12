#![allow(unused)]

use idem_runtime::prelude::*;

#[idempotent(key = user, unique = keep_latest, in_doubt = rerun)]
async fn publish(user: i64, version: u32) -> Result<(), String> {
    Ok(())
}

#[idempotent(key = user, unique = keep_latest, unique_by = user)]
async fn index(tx: &mut Tx<'_, Memory>, user: i64, version: u32) -> Result<(), String> {
    Ok(())
}

#[idempotent(key = user, unique = keep_latest, retain = none)]
async fn refresh(tx: &mut Tx<'_, Memory>, user: i64, version: u32) -> Result<(), String> {
    Ok(())
}

fn main() {}
