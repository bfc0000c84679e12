#![allow(unused)]

use idem_runtime::prelude::*;

pub struct Mail {
    id: i64,
}

#[idempotent(key = id, in_doubt = rerun)]
async fn order(run: &mut Run<'_, Memory>, id: i64) -> Result<(), String> {
    run.enqueue(Mail { id }).await;
    Ok(())
}

async fn start(idem: Idem<Memory>) {
    let _ = idem.enrol::<Mail>().await;
}

fn main() {}
