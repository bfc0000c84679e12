#![allow(unused)]

use idem_runtime::prelude::*;

pub struct Charge {
    id: i64,
}

async fn call(idem: Idem<Memory>) {
    let _ = idem.run(Charge { id: 1 }).await;
}

fn main() {}
