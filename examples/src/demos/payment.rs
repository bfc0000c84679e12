//! Payments that run more than once, with a gateway that fails.

use std::time::{SystemTime, UNIX_EPOCH};

use idem_runtime::{Done, Error, Idem};

use super::jobs::payment::{PaymentError, Receipt, add_payment, create_tables, process_payment, reference};
use super::{Db, how, open};
use crate::provider::{Fault, Gateway};

/// Makes the tables and the handle that runs payments.
///
/// # Errors
///
/// The database's.
pub async fn set_up(url: &str, gateway: &Gateway) -> anyhow::Result<(Idem<Db, Gateway>, sqlx::Pool<Db>)> {
    let pool = open(url)?;
    let idem = Idem::builder(pool.clone()).namespace("examples").state(gateway.clone()).build()?;
    idem.migrate().await?;
    create_tables(&pool).await?;
    Ok((idem, pool))
}

/// Runs one payment and says what came of it.
///
/// # Errors
///
/// The job's.
pub async fn pay_one(url: &str, gateway: &Gateway, payment_id: i64) -> anyhow::Result<()> {
    let (idem, _pool) = set_up(url, gateway).await?;
    let done = process_payment(&idem, payment_id).await?;
    println!("payment {payment_id} {}: {}", how(&done), done.charge_id);
    Ok(())
}

/// Shows each way in which a payment could be charged twice, and that it is not.
///
/// # Errors
///
/// The database's, and a gateway that fails where it was not told to.
pub async fn show(url: &str, gateway: &Gateway) -> anyhow::Result<()> {
    let (idem, pool) = set_up(url, gateway).await?;
    // Payments of their own, also in a database that was here before.
    let first = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?;
    let [plain, lost, foreign, paid] = [first, first + 1, first + 2, first + 3];
    for payment_id in [plain, lost, foreign, paid] {
        add_payment(&pool, payment_id, 4_200).await?;
    }

    println!("A payment, run twice:");
    print(&process_payment(&idem, plain).await);
    print(&process_payment(&idem, plain).await);

    println!("A payment that the gateway charges, but its answer is lost; run again:");
    gateway.inject(&reference(lost), Fault::LoseAnswer).await?;
    print(&process_payment(&idem, lost).await);
    print(&process_payment(&idem, lost).await);

    println!("A payment that was charged by hand, under another key:");
    gateway.charge("by-hand", &reference(foreign), 4_200).await?;
    print(&process_payment(&idem, foreign).await);

    println!("A payment that was paid by bank transfer:");
    sqlx::query("UPDATE payments SET charge_id = 'transfer' WHERE id = $1").bind(paid).execute(&pool).await?;
    print(&process_payment(&idem, paid).await);

    let books = gateway.books().await?;
    println!("The gateway's books, and ours:");
    for payment_id in [plain, lost, foreign, paid] {
        let ours: Option<String> = sqlx::query_scalar("SELECT charge_id FROM payments WHERE id = $1")
            .bind(payment_id)
            .fetch_one(&pool)
            .await?;
        let charges = books.of(&reference(payment_id)).len();
        let ours = ours.unwrap_or_else(|| String::from("open"));
        println!("  payment {payment_id}: {charges} charge(s) there, `{ours}` here");
    }
    Ok(())
}

fn print(ran: &Result<Done<Receipt>, Error<PaymentError>>) {
    match ran {
        Ok(done) => println!("  {}: {}", how(done), done.charge_id),
        Err(error) => println!("  failed: {error}"),
    }
}
