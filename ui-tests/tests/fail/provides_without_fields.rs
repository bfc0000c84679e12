#![allow(unused)]

use idem_runtime::prelude::*;

#[derive(Provides)]
struct Nothing;

fn main() {}
