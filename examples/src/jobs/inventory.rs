//! An upsert under an id that is derived from the key: one effect even when the record is gone.
//!
//! Records are kept for a time; `retain` says how long. Work that may come again after that has to
//! be harmless by itself. Adding to a number is not, so every movement is a row of its own, the
//! stock is their sum, and a movement's id is a pure function of the job's key: writing it again
//! changes nothing.

use idem_runtime::prelude::*;
use serde::{Deserialize, Serialize};
use sqlx::{Executor as _, Pool};

use super::{Connection, Db};

/// Books the goods of a delivery note into stock.
#[idempotent(key = (delivery_note, sku), retain = "24h")]
pub async fn receive_goods(
    tx: &mut Tx<'_, Db>,
    delivery_note: String,
    sku: String,
    quantity: i64,
) -> Result<Received, sqlx::Error> {
    // The same for every run of this delivery note and article, today or in a year.
    let movement_id = tx.idempotency_key();
    sqlx::query(
        "INSERT INTO stock_movements (id, delivery_note, sku, quantity) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (id) DO UPDATE SET quantity = excluded.quantity",
    )
    .bind(&movement_id)
    .bind(&delivery_note)
    .bind(&sku)
    .bind(quantity)
    .execute(&mut **tx)
    .await?;
    let in_stock = in_stock(tx, &sku).await?;
    Ok(Received { movement_id, in_stock })
}

/// Returns how many there are of an article.
///
/// # Errors
///
/// The database's.
pub async fn in_stock(connection: &mut Connection, sku: &str) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT CAST(coalesce(sum(quantity), 0) AS BIGINT) FROM stock_movements WHERE sku = $1",
    )
    .bind(sku)
    .fetch_one(connection)
    .await
}

/// What came of a delivery.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Received {
    /// The movement that was written.
    pub movement_id: String,
    /// How many there were of the article after it.
    pub in_stock: i64,
}

/// Makes the table.
///
/// # Errors
///
/// The database's.
pub async fn create_tables(pool: &Pool<Db>) -> sqlx::Result<()> {
    let sql = "CREATE TABLE IF NOT EXISTS stock_movements (id TEXT PRIMARY KEY, \
               delivery_note TEXT NOT NULL, sku TEXT NOT NULL, quantity BIGINT NOT NULL CHECK (quantity > 0))";
    pool.execute(sql).await.map(drop)
}
