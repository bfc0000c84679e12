use idem_runtime::prelude::*;

use std::collections::HashMap;

#[idempotent(key = tags)]
async fn tag(tx: &mut Tx<'_, Memory>, tags: HashMap<String, String>) -> Result<(), String> {
    let _ = (tx, tags);
    Ok(())
}

fn main() {}
