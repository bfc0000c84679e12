#![allow(unused)]

use idem_runtime::prelude::*;

#[idempotent(key = id, in_doubt = rerun)]
async fn charge(id: i64, run: &mut Run<'_, Memory>) -> Result<(), String> {
    Ok(())
}

fn main() {}
