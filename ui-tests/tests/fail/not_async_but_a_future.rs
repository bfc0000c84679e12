#![allow(unused)]

use idem_runtime::prelude::*;

#[idempotent(key = id)]
fn charge(tx: &mut Tx<'_, Memory>, id: i64) -> impl Future<Output = Result<(), String>> {
    async { Ok(()) }
}

fn main() {}
