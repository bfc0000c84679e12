#![allow(unused)]

use idem_runtime::prelude::*;

#[idempotent(key = request.unwrap_or_else(uuid::Uuid::new_v4))]
async fn charge(tx: &mut Tx<'_, Memory>, request: Option<String>) -> Result<(), String> {
    Ok(())
}

fn main() {}
