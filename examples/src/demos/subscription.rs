//! Two requests for one user.

use std::time::{SystemTime, UNIX_EPOCH};

use idem_runtime::{Done, Error, Idem};

use super::jobs::subscription::{Subscription, SubscriptionError, create_tables, subscribe};
use super::{how, open};

/// Shows a user who subscribes twice.
///
/// # Errors
///
/// The database's.
pub async fn show(url: &str) -> anyhow::Result<()> {
    let pool = open(url)?;
    let idem = Idem::builder(pool.clone()).namespace("examples").build()?;
    idem.migrate().await?;
    create_tables(&pool).await?;
    // A user of its own, also in a database that was here before.
    let user = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?;
    let request =
        |device: &str, plan: &str| subscribe(&idem, format!("{device}-{user}"), user, String::from(plan));

    println!("A user subscribes, and the request is delivered twice:");
    print(&request("phone", "basic").await);
    print(&request("phone", "basic").await);
    println!("The user subscribes again, from another device:");
    print(&request("laptop", "pro").await);

    for table in ["subscriptions", "welcome_mails"] {
        let sql = sqlx::AssertSqlSafe(format!("SELECT count(*) FROM {table} WHERE user_id = $1"));
        let rows: i64 = sqlx::query_scalar(sql).bind(user).fetch_one(&pool).await?;
        println!("Rows of this user in `{table}`: {rows}");
    }
    Ok(())
}

fn print(ran: &Result<Done<Subscription>, Error<SubscriptionError>>) {
    match ran {
        Ok(done) => println!("  {}: subscription {}, plan {}", how(done), done.subscription_id, done.plan),
        Err(error) => println!("  failed: {error}"),
    }
}
