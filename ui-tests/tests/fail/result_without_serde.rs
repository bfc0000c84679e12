use idem_runtime::prelude::*;

pub struct Receipt;

#[idempotent(key = id)]
async fn charge(tx: &mut Tx<'_, Memory>, id: i64) -> Result<Receipt, String> {
    let _ = (tx, id);
    Ok(Receipt)
}

fn main() {}
