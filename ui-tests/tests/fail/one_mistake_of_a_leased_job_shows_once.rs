#![allow(unused)]

use idem_runtime::prelude::*;

#[idempotent(key = id, in_doubt = rerun, retain = "7 days")]
async fn charge(run: &mut Run<'_, Memory>, id: i64) -> Result<i64, String> {
    run.step("charge", async |_| Ok(id)).await
}

async fn call(idem: Idem<Memory>) -> Result<i64, Error<String>> {
    let first = charge(&idem, 1).await?;
    let second = idem.run(Charge { id: 2 }).await?;
    Ok(*first + *second)
}

fn main() {}
