#![allow(unused)]

use idem_runtime::prelude::*;

#[derive(Provides)]
struct App {
    #[provides(skpi)]
    gateway: String,
}

fn main() {}
