#![allow(unused)]

use apalis_core::backend::codec::Codec;
use idem_runtime::engine::apalis::PayloadCodec;
use idem_runtime::prelude::*;

#[idempotent(key = id)]
async fn charge(tx: &mut Tx<'_, Memory>, id: i64) -> Result<(), String> {
    Ok(())
}

fn storage<Args>(codec: impl Codec<Args>) {}

fn main() {
    storage::<Charge>(PayloadCodec);
}
