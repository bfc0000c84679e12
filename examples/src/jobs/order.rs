//! The recorded result is replayed: whoever asks again gets the order that was placed.
//!
//! The order's number comes from the database, so a second run could not work it out again. The
//! record holds it, and commits with the order: there is never one without the other. A run that
//! loses a race waits for the winner and returns the winner's order. Should it have come past the lock, the
//! primary key of the record refuses its commit: it is undone, and returns the winner's order all the same.

use idem_runtime::prelude::*;
use serde::{Deserialize, Serialize};
use sqlx::{AssertSqlSafe, Executor as _, Pool};

use super::{Db, SERIAL};

/// Takes the items out of stock and writes the order down, once for each `request_id`.
#[idempotent(key = request_id)]
pub async fn place_order(
    tx: &mut Tx<'_, Db>,
    request_id: String,
    item: String,
    quantity: i64,
) -> Result<PlacedOrder, OrderError> {
    let order_id: i64 = sqlx::query_scalar(
        "INSERT INTO orders (request_id, item, quantity) VALUES ($1, $2, $3) RETURNING id",
    )
    .bind(&request_id)
    .bind(&item)
    .bind(quantity)
    .fetch_one(&mut **tx)
    .await?;
    // The order is in already. Should this fail, it goes with the transaction.
    let left: Option<i64> = sqlx::query_scalar(
        "UPDATE items SET in_stock = in_stock - $1 WHERE name = $2 AND in_stock >= $1 RETURNING in_stock",
    )
    .bind(quantity)
    .bind(&item)
    .fetch_optional(&mut **tx)
    .await?;
    match left {
        Some(left) => Ok(PlacedOrder { order_id, left }),
        None => Err(OrderError::OutOfStock { item }),
    }
}

/// An order, as its customer is told of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlacedOrder {
    /// The number that the database gave it.
    pub order_id: i64,
    /// What was left in stock just then.
    pub left: i64,
}

/// Why there is no order.
#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    /// There are too few of the item. The request may run again, when there are more.
    #[error("there are too few of `{item}` in stock")]
    OutOfStock {
        /// The item.
        item: String,
    },
    /// The database refused.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// Makes the tables.
///
/// # Errors
///
/// The database's.
pub async fn create_tables(pool: &Pool<Db>) -> sqlx::Result<()> {
    // Not even `request_id` is unique here: the job alone keeps a second order out.
    let orders = format!(
        "CREATE TABLE IF NOT EXISTS orders \
         (id {SERIAL}, request_id TEXT NOT NULL, item TEXT NOT NULL, quantity BIGINT NOT NULL)"
    );
    pool.execute(AssertSqlSafe(orders)).await?;
    pool.execute("CREATE TABLE IF NOT EXISTS items (name TEXT PRIMARY KEY, in_stock BIGINT NOT NULL)")
        .await?;
    Ok(())
}

/// Sets how many there are of an item.
///
/// # Errors
///
/// The database's.
pub async fn stock(pool: &Pool<Db>, item: &str, in_stock: i64) -> sqlx::Result<()> {
    let sql = "INSERT INTO items (name, in_stock) VALUES ($1, $2) \
               ON CONFLICT (name) DO UPDATE SET in_stock = excluded.in_stock";
    sqlx::query(sql).bind(item).bind(in_stock).execute(pool).await.map(drop)
}
