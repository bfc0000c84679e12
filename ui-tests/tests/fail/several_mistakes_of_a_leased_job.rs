#![allow(unused)]

use idem_runtime::prelude::*;

#[idempotent(key = idd, in_doubt = proob, drift = go, lock = row)]
async fn charge(run: &mut Run<'_, Memory>, id: i64) -> Result<(), String> {
    run.step("", async |_| Ok(())).await
}

fn main() {}
