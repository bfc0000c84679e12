use idem_runtime::prelude::*;

pub struct Connection;

#[idempotent(key = id)]
async fn sync_user(tx: &mut Tx<'_, Memory>, id: i64, connection: Connection) -> Result<(), String> {
    let _ = (tx, id, connection);
    Ok(())
}

fn main() {}
