#![allow(unused)]

use idem_runtime::prelude::*;

async fn find(id: i64) -> Result<Option<()>, String> {
    Ok(None)
}

#[idempotent(key = id, in_doubt = probe(find))]
async fn charge(id: i64) -> Result<(), String> {
    Ok(())
}

fn main() {}
