#![allow(unused)]

use idem_runtime::prelude::*;
use idem_runtime::schedule::Tick;

#[idempotent(key = tick, schedule = "5/15 * * * *")]
async fn report(tx: &mut Tx<'_, Memory>, tick: Tick) -> Result<(), String> {
    Ok(())
}

fn main() {}
