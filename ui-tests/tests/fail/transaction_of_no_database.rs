#![allow(unused)]

use idem_runtime::prelude::*;

pub struct Redis;

#[idempotent(key = id)]
async fn charge(tx: &mut Tx<'_, Redis>, id: i64) -> Result<(), String> {
    Ok(())
}

fn main() {}
