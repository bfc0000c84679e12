#![allow(unused)]

use idem_runtime::prelude::*;

struct Shop;

#[idempotent(key = id)]
impl Shop {}

fn main() {}
