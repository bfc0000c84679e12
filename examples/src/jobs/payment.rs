//! Check before acting, under a row lock; a "duplicate" from the callee is success.
//!
//! Three things stand between a customer and a second charge. The record answers for a payment that
//! idem has seen through. `check` answers, under the lock of the payment's row, for one that was
//! paid by other means. And the gateway takes the job's key: a charge whose answer was lost, or
//! whose process was killed before COMMIT, is answered again, not made again. What the gateway then
//! still calls a duplicate was charged under somebody else's key, and is adopted.
//!
//! The transaction stays open while the gateway answers. That suits a call of a second; work that
//! takes longer is better a leased job.

use idem_runtime::prelude::*;
use serde::{Deserialize, Serialize};
use sqlx::{Executor as _, Pool};

use super::Db;
use crate::provider::{Gateway, ProviderError};

/// Charges a payment at the gateway, once, and marks it paid.
#[idempotent(
    key = payment_id,
    lock = row(payments.id = payment_id),
    check = already_paid,
    adopt(PaymentError::DuplicateCharge { charge_id } => {
        mark_paid(tx, payment_id, &charge_id).await?;
        Receipt { charge_id }
    }),
)]
pub async fn process_payment(
    tx: &mut Tx<'_, Db>,
    payment_id: i64,
    #[state] gateway: &Gateway,
) -> Result<Receipt, PaymentError> {
    let amount_cents: i64 = sqlx::query_scalar("SELECT amount_cents FROM payments WHERE id = $1")
        .bind(payment_id)
        .fetch_one(&mut **tx)
        .await?;
    let charge = gateway.charge(&tx.idempotency_key(), &reference(payment_id), amount_cents).await?;
    mark_paid(tx, payment_id, &charge.id).await?;
    Ok(Receipt { charge_id: charge.id })
}

/// Answers for a payment that was paid outside this job's sight; runs under the lock of its row.
async fn already_paid(tx: &mut Tx<'_, Db>, job: &ProcessPayment) -> Result<Option<Receipt>, PaymentError> {
    let charge_id: Option<String> = sqlx::query_scalar("SELECT charge_id FROM payments WHERE id = $1")
        .bind(job.payment_id)
        .fetch_one(&mut **tx)
        .await?;
    Ok(charge_id.map(|charge_id| Receipt { charge_id }))
}

async fn mark_paid(tx: &mut Tx<'_, Db>, payment_id: i64, charge_id: &str) -> Result<(), PaymentError> {
    sqlx::query("UPDATE payments SET charge_id = $1 WHERE id = $2")
        .bind(charge_id)
        .bind(payment_id)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// What the customer gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The charge at the gateway.
    pub charge_id: String,
}

/// Why a payment is not paid.
#[derive(Debug, thiserror::Error)]
pub enum PaymentError {
    /// The gateway has charged this payment before, under another key.
    #[error("the payment was charged before, as {charge_id}")]
    DuplicateCharge {
        /// The charge that was made then.
        charge_id: String,
    },
    /// The gateway did not charge, or nobody knows whether it did; run the job again.
    #[error(transparent)]
    Gateway(ProviderError),
    /// The database refused.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

impl From<ProviderError> for PaymentError {
    fn from(error: ProviderError) -> Self {
        match error {
            ProviderError::Already { id } => PaymentError::DuplicateCharge { charge_id: id },
            other => PaymentError::Gateway(other),
        }
    }
}

/// Returns what the gateway knows a payment by.
pub fn reference(payment_id: i64) -> String {
    format!("payment-{payment_id}")
}

/// Makes the table.
///
/// # Errors
///
/// The database's.
pub async fn create_tables(pool: &Pool<Db>) -> sqlx::Result<()> {
    let sql = "CREATE TABLE IF NOT EXISTS payments \
               (id BIGINT PRIMARY KEY, amount_cents BIGINT NOT NULL, charge_id TEXT)";
    pool.execute(sql).await.map(drop)
}

/// Writes down a payment that is due; one that is there already stays as it is.
///
/// # Errors
///
/// The database's.
pub async fn add_payment(pool: &Pool<Db>, payment_id: i64, amount_cents: i64) -> sqlx::Result<()> {
    sqlx::query("INSERT INTO payments (id, amount_cents) VALUES ($1, $2) ON CONFLICT DO NOTHING")
        .bind(payment_id)
        .bind(amount_cents)
        .execute(pool)
        .await
        .map(drop)
}
