#![allow(unused)]

use idem_runtime::prelude::*;

#[idempotent(key = id, in_doubt = rerun)]
async fn charge(run: Run<'_, Memory>, id: i64) -> Result<(), String> {
    Ok(())
}

fn main() {}
