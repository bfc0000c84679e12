#![allow(unused)]

use idem_runtime::prelude::*;

#[derive(KeyPart)]
union Bits {
    a: u8,
    b: i8,
}

fn main() {}
