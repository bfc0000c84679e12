#![allow(unused)]

use idem_runtime::prelude::*;

#[idempotent(key = id, in_doubt = probe(|key| find(key)))]
async fn charge(id: i64) -> Result<(), String> {
    Ok(())
}

fn main() {}
