#![allow(unused)]

use idem_runtime::prelude::*;

#[idempotent(key = id)]
async fn charge(id: i64) -> Result<i64, String> {
    Ok(id)
}

async fn call(idem: Idem<Memory>) -> Result<i64, Error<String>> {
    let first = charge(&idem, 1).await?;
    let second = idem.run(Charge { id: 2 }).await?;
    Ok(*first + *second)
}

fn main() {}
