#![allow(unused)]

use idem_runtime::prelude::*;

#[idempotent(key = run.attempt(), in_doubt = rerun)]
async fn charge(run: &mut Run<'_, Memory>, id: i64) -> Result<(), String> {
    Ok(())
}

fn main() {}
