#![allow(unused)]

use idem_runtime::prelude::*;

#[idempotent(key = id, in_doubt = rerun)]
async fn charge(run: &mut Run<'_, u8>, id: i64) -> Result<(), String> {
    Ok(())
}

fn main() {}
