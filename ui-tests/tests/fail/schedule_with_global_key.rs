#![allow(unused)]

use idem_runtime::prelude::*;
use idem_runtime::schedule::Tick;

#[idempotent(key = global, schedule = "0 3 * * *")]
async fn report(tx: &mut Tx<'_, Memory>, tick: Tick) -> Result<(), String> {
    Ok(())
}

fn main() {}
