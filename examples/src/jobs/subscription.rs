//! A unique constraint of the database is the guard, and violating it is no failure.
//!
//! Two requests for one user are two keys, so no record connects them. The index
//! `one_active_subscription` does: the second request violates it, is undone back to before its
//! body, and answers with the subscription that is there. That is logged, not failed.

use idem_runtime::prelude::*;
use serde::{Deserialize, Serialize};
use sqlx::{AssertSqlSafe, Executor as _, Pool, Row as _};

use super::{Db, SERIAL};

/// Subscribes a user to a plan, unless they are subscribed to one.
#[idempotent(
    key = request_id,
    adopt(constraint("one_active_subscription") => existing(tx, user_id).await?),
)]
pub async fn subscribe(
    tx: &mut Tx<'_, Db>,
    request_id: String,
    user_id: i64,
    plan: String,
) -> Result<Subscription, SubscriptionError> {
    sqlx::query("INSERT INTO welcome_mails (user_id, plan) VALUES ($1, $2)")
        .bind(user_id)
        .bind(&plan)
        .execute(&mut **tx)
        .await?;
    let subscription_id: i64 = sqlx::query_scalar(
        "INSERT INTO subscriptions (request_id, user_id, plan, active) VALUES ($1, $2, $3, TRUE) RETURNING id",
    )
    .bind(&request_id)
    .bind(user_id)
    .bind(&plan)
    .fetch_one(&mut **tx)
    .await?;
    Ok(Subscription { subscription_id, plan })
}

async fn existing(tx: &mut Tx<'_, Db>, user_id: i64) -> Result<Subscription, SubscriptionError> {
    let row = sqlx::query("SELECT id, plan FROM subscriptions WHERE user_id = $1 AND active")
        .bind(user_id)
        .fetch_one(&mut **tx)
        .await?;
    Ok(Subscription { subscription_id: row.try_get("id")?, plan: row.try_get("plan")? })
}

/// A user's subscription.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscription {
    /// The number that the database gave it.
    pub subscription_id: i64,
    /// The plan.
    pub plan: String,
}

/// Why there is no subscription.
#[derive(Debug, thiserror::Error)]
pub enum SubscriptionError {
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
    let subscriptions = format!(
        "CREATE TABLE IF NOT EXISTS subscriptions (id {SERIAL}, request_id TEXT NOT NULL UNIQUE, \
         user_id BIGINT NOT NULL, plan TEXT NOT NULL, active BOOLEAN NOT NULL)"
    );
    pool.execute(AssertSqlSafe(subscriptions)).await?;
    pool.execute(
        "CREATE UNIQUE INDEX IF NOT EXISTS one_active_subscription ON subscriptions (user_id) WHERE active",
    )
    .await?;
    pool.execute("CREATE TABLE IF NOT EXISTS welcome_mails (user_id BIGINT NOT NULL, plan TEXT NOT NULL)")
        .await?;
    Ok(())
}

/// Ends a user's subscription, so that they may take another.
///
/// # Errors
///
/// The database's.
pub async fn cancel(pool: &Pool<Db>, user_id: i64) -> sqlx::Result<()> {
    sqlx::query("UPDATE subscriptions SET active = FALSE WHERE user_id = $1")
        .bind(user_id)
        .execute(pool)
        .await
        .map(drop)
}
