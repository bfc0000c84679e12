#![allow(unused)]

use idem_runtime::prelude::*;

async fn paid(tx: &mut Tx<'_, Memory>, job: &Charge) -> Result<Option<()>, String> {
    Ok(None)
}

#[idempotent(key = id, in_doubt = rerun, check = paid)]
async fn charge(id: i64) -> Result<(), String> {
    Ok(())
}

fn main() {}
