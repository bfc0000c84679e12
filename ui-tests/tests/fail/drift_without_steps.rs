#![allow(unused)]

use idem_runtime::prelude::*;

#[idempotent(key = id, in_doubt = rerun, drift = park)]
async fn charge(id: i64) -> Result<(), String> {
    Ok(())
}

fn main() {}
