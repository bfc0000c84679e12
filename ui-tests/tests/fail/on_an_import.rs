#![allow(unused)]

use idem_runtime::prelude::*;

#[idempotent(key = id)]
use std::fmt;

fn main() {}
