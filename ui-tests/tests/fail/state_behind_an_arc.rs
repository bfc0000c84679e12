#![allow(unused)]

use std::sync::Arc;

use idem_runtime::prelude::*;

pub struct Gateway;

#[idempotent(key = id)]
async fn charge(tx: &mut Tx<'_, Memory>, id: i64, #[state] gateway: &Arc<Gateway>) -> Result<(), String> {
    Ok(())
}

#[idempotent(key = id)]
async fn refund(tx: &mut Tx<'_, Memory>, id: i64, #[state] gateway: &Gateway) -> Result<(), String> {
    Ok(())
}

async fn call(plain: Idem<Memory, Gateway>, shared: Idem<Memory, Arc<Gateway>>) {
    let _ = charge(&plain, 1).await;
    let _ = refund(&shared, 1).await;
}

fn main() {}
