#![allow(unused)]

use idem_runtime::prelude::*;

#[derive(KeyPart)]
struct Amount(f64);

fn main() {}
