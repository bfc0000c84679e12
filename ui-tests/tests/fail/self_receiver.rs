#![allow(unused)]

use idem_runtime::prelude::*;

struct Shop;

impl Shop {
    #[idempotent(key = id)]
    async fn charge(&self, tx: &mut Tx<'_, Memory>, id: i64) -> Result<(), String> {
        Ok(())
    }
}

fn main() {}
