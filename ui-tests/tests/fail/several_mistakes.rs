#![allow(unused)]

use idem_runtime::prelude::*;

#[idempotent(kee = id, retain = "7", lock = rwo)]
fn charge(tx: &Tx<'_, Memory>, id: &str) -> u64 {
    0
}

fn main() {}
