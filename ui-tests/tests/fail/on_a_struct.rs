#![allow(unused)]

use idem_runtime::prelude::*;

#[idempotent(key = id)]
struct Charge {
    id: i64,
}

fn main() {}
