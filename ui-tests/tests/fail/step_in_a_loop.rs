#![allow(unused)]

use idem_runtime::prelude::*;

#[idempotent(key = id, in_doubt = rerun)]
async fn charge(run: &mut Run<'_, Memory>, id: i64) -> Result<(), String> {
    loop {
        match run.step("charge", async |_| Err::<(), _>(String::new())).await {
            Ok(()) => break Ok(()),
            Err(_) => {}
        }
    }
}

fn main() {}
