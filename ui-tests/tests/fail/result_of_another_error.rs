#![allow(unused)]

use idem_runtime::prelude::*;

mod stack {
    pub struct Report<C>(C);
    pub type Result<T, C> = core::result::Result<T, Report<C>>;
}

use stack::Result;

#[idempotent(key = id)]
async fn charge(tx: &mut Tx<'_, Memory>, id: i64) -> Result<(), String> {
    Ok(())
}

fn main() {}
