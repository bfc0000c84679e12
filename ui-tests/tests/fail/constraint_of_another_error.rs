#![allow(unused)]

use idem_runtime::prelude::*;

pub struct Declined;

#[idempotent(key = id, adopt(constraint("payments_pkey") => ()))]
async fn charge(tx: &mut Tx<'_, Memory>, id: i64) -> Result<(), Declined> {
    Ok(())
}

fn main() {}
