#![allow(unused)]

use idem_runtime::prelude::*;

#[idempotent(key = id)]
async fn charge(tx: &mut Tx<'_, Memory>, id: i64) -> Result<i64, String> {
    sqlx::query("DELETE FROM old").execute(tx).await?;
    let (cents,): (i64,) =
        sqlx::query_as::<_, (i64,)>("SELECT cents FROM prices WHERE id = ?").bind(id).fetch_one(&mut *tx).await?;
    sqlx::query("INSERT INTO charges VALUES (?)").bind(id).execute(&mut **tx).await?;
    Ok(cents)
}

#[idempotent(key = id, in_doubt = rerun)]
async fn fulfil(run: &mut Run<'_, Memory>, id: i64) -> Result<(), String> {
    run.tx_step("order", async |t| {
        sqlx::query_scalar::<_, i64>("SELECT id FROM orders").fetch_optional(t).await?;
        Ok::<_, String>(())
    })
    .await
}

fn main() {}
