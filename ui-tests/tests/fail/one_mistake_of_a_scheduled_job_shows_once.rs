#![allow(unused)]

use idem_runtime::prelude::*;
use idem_runtime::schedule::{Scheduled, Tick};

#[idempotent(key = tick, schedule = "0 3 * *", unique = until_executed)]
async fn report(tx: &mut Tx<'_, Memory>, tick: Tick) -> Result<i64, String> {
    Ok(tick.unix())
}

fn scheduled<J: Scheduled>() {}

async fn call(idem: Idem<Memory>, tick: Tick) -> Result<i64, Error<String>> {
    scheduled::<Report>();
    let first = report(&idem, tick).await?;
    let second = idem.run(Report::at(tick)).await?;
    Ok(*first + *second)
}

fn main() {}
