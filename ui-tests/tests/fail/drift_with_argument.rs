#![allow(unused)]

use idem_runtime::prelude::*;

#[idempotent(key = id, in_doubt = rerun, drift = park("ask"))]
async fn charge(run: &mut Run<'_, Memory>, id: i64) -> Result<(), String> {
    Ok(())
}

fn main() {}
