#![allow(unused)]

use idem_runtime::prelude::*;

#[idempotent(key = day, in_doubt = rerun, schedule = "0 3 * * *")]
async fn report(day: u64) -> Result<(), String> {
    Ok(())
}

fn main() {}
