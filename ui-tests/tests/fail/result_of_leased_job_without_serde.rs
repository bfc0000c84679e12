#![allow(unused)]

use idem_runtime::prelude::*;

pub struct Receipt;

#[idempotent(key = id, in_doubt = rerun)]
async fn charge(id: i64) -> Result<Receipt, String> {
    Ok(Receipt)
}

fn main() {}
