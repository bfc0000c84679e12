#![allow(unused)]

use idem_runtime::prelude::*;

#[derive(Provides)]
struct App {
    primary: String,
    replica: String,
}

fn main() {}
