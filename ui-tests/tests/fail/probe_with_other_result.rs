#![allow(unused)]

use idem_runtime::prelude::*;

async fn find(job: &Charge) -> Result<bool, String> {
    Ok(true)
}

#[idempotent(key = id, in_doubt = probe(find))]
async fn charge(id: i64) -> Result<(), String> {
    Ok(())
}

fn main() {}
