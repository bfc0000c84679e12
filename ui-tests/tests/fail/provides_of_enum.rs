#![allow(unused)]

use idem_runtime::prelude::*;

#[derive(Provides)]
enum App {
    Gateway(String),
}

fn main() {}
