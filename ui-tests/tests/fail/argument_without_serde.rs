#![allow(unused)]

use idem_runtime::prelude::*;

pub struct Connection;

#[idempotent(key = id)]
async fn charge(tx: &mut Tx<'_, Memory>, id: i64, connection: Connection) -> Result<(), String> {
    Ok(())
}

fn main() {}
