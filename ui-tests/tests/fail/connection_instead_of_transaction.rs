#![allow(unused)]

use idem_runtime::prelude::*;

#[idempotent(key = id)]
async fn charge(conn: &mut std::collections::VecDeque<u8>, id: i64) -> Result<(), String> {
    Ok(())
}

fn main() {}
