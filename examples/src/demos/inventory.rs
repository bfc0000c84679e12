//! A delivery that is booked again after its record is gone.

use std::time::{SystemTime, UNIX_EPOCH};

use idem_runtime::Idem;

use super::jobs::inventory::{create_tables, in_stock, receive_goods};
use super::{how, open};

/// Shows a delivery that is booked twice, and once more when nothing remembers it.
///
/// # Errors
///
/// The database's.
pub async fn show(url: &str) -> anyhow::Result<()> {
    let pool = open(url)?;
    let idem = Idem::builder(pool.clone()).namespace("examples").build()?;
    idem.migrate().await?;
    create_tables(&pool).await?;
    // An article of its own, also in a database that was here before.
    let sku = format!("bolt-{}", SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis());
    let receive = || receive_goods(&idem, String::from("note-7"), sku.clone(), 100);

    println!("A delivery of 100 bolts, booked twice:");
    for _ in 0..2 {
        let done = receive().await?;
        println!("  {}: movement {}, {} in stock", how(&done), done.movement_id, done.in_stock);
    }
    println!("Its record expires and is swept; the delivery is booked once more:");
    // A look behind the scenes, since nobody wants to wait for a day here.
    sqlx::query("UPDATE idem_records SET expires_at = completed_at WHERE readable = $1")
        .bind(format!("note-7, {sku}"))
        .execute(&pool)
        .await?;
    let swept = idem.sweep().await?;
    let done = receive().await?;
    println!("  {swept} swept; {}: movement {}, {} in stock", how(&done), done.movement_id, done.in_stock);
    let mut connection = pool.acquire().await?;
    println!("Bolts in stock: {}", in_stock(&mut connection, &sku).await?);
    Ok(())
}
