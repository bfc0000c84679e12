#![allow(unused)]

use idem_runtime::prelude::*;

#[idempotent(key = tags)]
async fn charge(tx: &mut Tx<'_, Memory>, tags: std::collections::HashMap<String, String>) -> Result<(), String> {
    Ok(())
}

fn main() {}
