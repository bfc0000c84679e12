//! Orders that are asked for more than once.

use std::time::{SystemTime, UNIX_EPOCH};

use idem_runtime::{Done, Error, Idem};

use super::jobs::order::{OrderError, PlacedOrder, create_tables, place_order, stock};
use super::{how, open};

/// Shows an order that is asked for again: at the same time, later, and with other arguments.
///
/// # Errors
///
/// The database's.
pub async fn show(url: &str) -> anyhow::Result<()> {
    let pool = open(url)?;
    let idem = Idem::builder(pool.clone()).namespace("examples").build()?;
    idem.migrate().await?;
    create_tables(&pool).await?;
    // Requests of their own, also in a database that was here before.
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
    let (twice, refused) = (format!("request-{now}"), format!("request-{now}-b"));
    stock(&pool, "lamp", 5).await?;

    println!("An order, asked for twice at once:");
    let order = || place_order(&idem, twice.clone(), String::from("lamp"), 2);
    let (one, other) = tokio::join!(order(), order());
    print(&one);
    print(&other);
    println!("The same later:");
    print(&order().await);
    println!("The same request with another quantity:");
    print(&place_order(&idem, twice.clone(), String::from("lamp"), 3).await);

    println!("An order of more than there is; again, once there is more:");
    let order = || place_order(&idem, refused.clone(), String::from("lamp"), 4);
    print(&order().await);
    stock(&pool, "lamp", 10).await?;
    print(&order().await);

    let sql = "SELECT count(*) FROM orders WHERE request_id IN ($1, $2)";
    let orders: i64 = sqlx::query_scalar(sql).bind(&twice).bind(&refused).fetch_one(&pool).await?;
    println!("Orders of these two requests in the database: {orders}");
    Ok(())
}

fn print(ran: &Result<Done<PlacedOrder>, Error<OrderError>>) {
    match ran {
        Ok(done) => println!("  {}: order {}, {} left", how(done), done.order_id, done.left),
        Err(error) => println!("  refused: {error}"),
    }
}
