#![allow(unused)]

use idem_runtime::prelude::*;

#[derive(KeyPart)]
#[key_part(crate = "idem_runtime")]
struct Id(i64);

fn main() {}
