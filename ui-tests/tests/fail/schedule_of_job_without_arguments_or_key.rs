#![allow(unused)]

use idem_runtime::prelude::*;
use idem_runtime::schedule::Tick;

#[idempotent(schedule = "0 3 * * *")]
async fn report(tx: &mut Tx<'_, Memory>) -> Result<(), String> {
    Ok(())
}

fn main() {}
