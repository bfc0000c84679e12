#![allow(unused)]

use idem_runtime::prelude::*;

#[idempotent(key = id, in_doubt = rerun)]
async fn charge(run: &mut Run<'_, Memory>, id: i64) -> Result<(), String> {
    run.step(("line/", id), async |_| Ok(())).await
}

fn main() {}
