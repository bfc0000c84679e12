#![allow(unused)]

use idem_runtime::prelude::*;

pub struct Tx<'a, D>(&'a D);

#[idempotent(key = id)]
async fn charge(tx: &mut Tx<'_, Memory>, id: i64) -> Result<(), String> {
    Ok(())
}

fn main() {}
