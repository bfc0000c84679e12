#![allow(unused)]

use idem_runtime::prelude::*;

#[derive(KeyPart)]
struct Nothing;

fn main() {}
