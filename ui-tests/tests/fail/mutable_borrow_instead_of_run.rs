#![allow(unused)]

use idem_runtime::prelude::*;

#[idempotent(key = id, in_doubt = rerun, lock = lease("10s"))]
async fn charge(gateway: &mut Vec<u8>, id: i64) -> Result<(), String> {
    Ok(())
}

fn main() {}
