#![allow(unused)]

use idem_runtime::prelude::*;

#[idempotent(key = id, in_doubt = rerun)]
async fn charge(run: &mut Run<'_, Memory>, id: i64) -> Result<(), String> {
    let mut left = id;
    while left > 0 {
        left -= run.step("line", async |_| Ok::<_, String>(1)).await?;
    }
    Ok(())
}

fn main() {}
