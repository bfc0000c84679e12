#![allow(unused)]

use idem_runtime::prelude::*;
use idem_runtime::schedule::Tick;

#[idempotent(key = tick, schedule())]
async fn report(tx: &mut Tx<'_, Memory>, tick: Tick) -> Result<(), String> {
    Ok(())
}

fn main() {}
