#![allow(unused)]

use idem_runtime::prelude::*;

#[idempotent(key = id, in_doubt = rerun)]
async fn charge(run: &mut Run<'_, Memory>, id: i64) -> Result<(), String> {
    if id > 0 {
        run.step("charge", async |_| Ok(())).await
    } else {
        run
            .step(
                "charge", async |_| Err(String::from("no"))
            )
            .await
    }
}

fn main() {}
