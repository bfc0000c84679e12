#![allow(unused)]

use idem_runtime::prelude::*;

#[idempotent(key = id, in_doubt = rerun)]
async fn charge(run: &mut Run<'_, Memory>, id: i64, again: &mut Run<'_, Memory>) -> Result<(), String> {
    Ok(())
}

fn main() {}
