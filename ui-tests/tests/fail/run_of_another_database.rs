#![allow(unused)]

use idem_runtime::prelude::*;

use idem_runtime::store::Database;

pub struct Other;

impl Database for Other {
    type Connection = ();
}

#[idempotent(key = id, in_doubt = rerun)]
async fn charge(run: &mut Run<'_, Other>, id: i64) -> Result<(), String> {
    Ok(())
}

async fn call(idem: Idem<Memory>) {
    let _ = charge(&idem, 1).await;
}

fn main() {}
