#![allow(unused)]

use idem_runtime::prelude::*;

#[idempotent(key = id, in_doubt = rerun)]
async fn charge(run: &mut Run<'_, Memory>, id: i64) -> Result<(), String> {
    for line in 0..id {
        run.step(("line", line), async |_| Ok::<_, String>(line)).await?;
    }
    for line in 0..id {
        run.tx_step(("line", line), async |_| Ok::<_, String>(line)).await?;
    }
    Ok(())
}

fn main() {}
