//! A payment in steps: what is done is on record, and a run that takes over goes on behind it.
//!
//! The payment of `payment.rs` is one transaction, which stays open while the gateway answers. This one holds
//! nothing open. The order is written and marked paid in steps whose effect commits with their record
//! (`tx_step`). The charge is a step that hands the gateway a key, so that doing it again is harmless. The
//! customer's mail is another job, put into the outbox in the transaction that records this job's result
//! (`enqueue`), and delivered from there by [`Idem::relay`].

use idem_runtime::prelude::*;
use serde::{Deserialize, Serialize};
use sqlx::{AssertSqlSafe, Executor as _, Pool};

use super::email::SendEmail;
use super::{Db, SERIAL};
use crate::provider::{Gateway, ProviderError};

/// Orders what is in a cart, charges it, and has the customer told.
#[idempotent(key = cart_id, lock = lease("2s"), in_doubt = rerun)]
pub async fn check_out(
    run: &mut Run<'_, Db>,
    cart_id: i64,
    amount_cents: i64,
    customer: String,
    #[state] gateway: &Gateway,
) -> Result<Receipt, CheckOutError> {
    let order_id = run.tx_step("order", async |tx| open_order(tx, cart_id, amount_cents).await).await?;
    let charge_id = run
        .step("charge", async |key| {
            gateway.charge(&key, &reference(cart_id), amount_cents).await.map(|charge| charge.id)
        })
        .await?;
    run.tx_step("paid", async |tx| mark_paid(tx, order_id, &charge_id).await).await?;
    run.enqueue(SendEmail {
        mail: format!("order-{order_id}"),
        to: customer,
        subject: format!("Your order {order_id} is paid"),
    })
    .await;
    Ok(Receipt { order_id, charge_id })
}

async fn open_order(tx: &mut Tx<'_, Db>, cart_id: i64, amount_cents: i64) -> Result<i64, CheckOutError> {
    let sql = "INSERT INTO cart_orders (cart_id, amount_cents) VALUES ($1, $2) RETURNING id";
    Ok(sqlx::query_scalar(sql).bind(cart_id).bind(amount_cents).fetch_one(&mut **tx).await?)
}

async fn mark_paid(tx: &mut Tx<'_, Db>, order_id: i64, charge_id: &str) -> Result<(), CheckOutError> {
    sqlx::query("UPDATE cart_orders SET charge_id = $1 WHERE id = $2")
        .bind(charge_id)
        .bind(order_id)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// What the customer gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The number that the database gave the order.
    pub order_id: i64,
    /// The charge at the gateway.
    pub charge_id: String,
}

/// Why a cart is not paid.
#[derive(Debug, thiserror::Error)]
pub enum CheckOutError {
    /// The gateway did not charge, or nobody knows whether it did; run the job again.
    #[error(transparent)]
    Gateway(#[from] ProviderError),
    /// The database refused.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// Returns what the gateway knows a cart by.
pub fn reference(cart_id: i64) -> String {
    format!("cart-{cart_id}")
}

/// Makes the table.
///
/// # Errors
///
/// The database's.
pub async fn create_tables(pool: &Pool<Db>) -> sqlx::Result<()> {
    let sql = format!(
        "CREATE TABLE IF NOT EXISTS cart_orders \
         (id {SERIAL}, cart_id BIGINT NOT NULL, amount_cents BIGINT NOT NULL, charge_id TEXT)"
    );
    pool.execute(AssertSqlSafe(sql)).await.map(drop)
}
