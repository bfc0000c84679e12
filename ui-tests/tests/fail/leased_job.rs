#![allow(unused)]

use idem_runtime::prelude::*;

#[idempotent(key = id)]
async fn charge(run: &mut Run<'_, u8>, id: i64) -> Result<(), String> {
    Ok(())
}

fn main() {}
