#![allow(unused)]

use idem_runtime::prelude::*;

#[derive(serde::Serialize, serde::Deserialize)]
pub struct Order {
    total: f64,
}

#[idempotent(key = (id, order.total))]
async fn charge(tx: &mut Tx<'_, Memory>, id: i64, order: Order) -> Result<(), String> {
    Ok(())
}

fn main() {}
