#![allow(unused)]

use idem_runtime::prelude::*;

#[idempotent(key = id, in_doubt = rerun)]
async fn charge(id: i64) -> Result<&str, String> {
    Ok("")
}

fn main() {}
