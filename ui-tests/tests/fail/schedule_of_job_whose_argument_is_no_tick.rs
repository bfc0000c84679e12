#![allow(unused)]

use idem_runtime::prelude::*;

#[idempotent(key = day, schedule = "0 3 * * *")]
async fn report(tx: &mut Tx<'_, Memory>, day: String) -> Result<(), String> {
    Ok(())
}

fn main() {}
