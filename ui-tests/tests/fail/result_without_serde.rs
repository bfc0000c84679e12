#![allow(unused)]

use idem_runtime::prelude::*;

pub struct Receipt;

#[idempotent(key = id)]
async fn charge(tx: &mut Tx<'_, Memory>, id: i64) -> Result<Receipt, String> {
    Ok(Receipt)
}

fn main() {}
