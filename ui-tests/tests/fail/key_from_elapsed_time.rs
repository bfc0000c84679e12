#![allow(unused)]

use idem_runtime::prelude::*;

#[idempotent(key = started.elapsed())]
async fn charge(tx: &mut Tx<'_, Memory>, started: std::time::Instant) -> Result<(), String> {
    Ok(())
}

fn main() {}
