//! A check-out whose worker is killed in the middle, and whose mail is delivered twice.

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::bail;
use idem_runtime::{Idem, Provides};

use super::jobs::email::SendEmail;
use super::jobs::payment_steps::{CheckOut, check_out, create_tables, reference};
use super::{Db, how, open};
use crate::provider::{Fault, Gateway, Mailer};

/// What the jobs depend on.
#[derive(Debug, Clone, Provides)]
pub struct Shop {
    gateway: Gateway,
    mailer: Mailer,
}

impl Shop {
    /// Makes a shop that is a client of this provider.
    pub fn new(provider: SocketAddr) -> Self {
        Shop { gateway: Gateway::new(provider), mailer: Mailer::new(provider) }
    }
}

/// Makes the tables and the handle that runs the jobs.
///
/// # Errors
///
/// The database's.
pub async fn set_up(url: &str, shop: &Shop) -> anyhow::Result<(Idem<Db, Shop>, sqlx::Pool<Db>)> {
    let pool = open(url)?;
    let idem = Idem::builder(pool.clone()).namespace("examples").state(shop.clone()).build()?;
    idem.migrate().await?;
    create_tables(&pool).await?;
    Ok((idem, pool))
}

/// Returns the job of a cart.
pub fn job(cart_id: i64) -> CheckOut {
    CheckOut { cart_id, amount_cents: 4_200, customer: String::from("ada@example.org") }
}

/// Runs the job of one cart and says what came of it.
///
/// # Errors
///
/// The job's.
pub async fn check_out_one(url: &str, shop: &Shop, cart_id: i64) -> anyhow::Result<()> {
    let (idem, _pool) = set_up(url, shop).await?;
    let done = idem.run(job(cart_id)).await?;
    println!("cart {cart_id} {}: order {}, {}", how(&done), done.order_id, done.charge_id);
    Ok(())
}

/// Delivers what is in the outbox. Returns how many tasks.
///
/// # Errors
///
/// The database's, and the jobs'. What was not delivered stays.
pub async fn deliver(idem: &Idem<Db, Shop>) -> anyhow::Result<u64> {
    idem.relay(async |task| {
        match task.job() {
            "send_email" => {
                let done = idem.run(task.decode::<SendEmail>()?).await?;
                println!("  `{}` of {} {}: {}", task.job(), task.key(), how(&done), done.provider_id);
            }
            other => bail!("nobody enqueues `{other}`"),
        }
        Ok(())
    })
    .await
}

/// Shows a worker that is killed between its steps, and the one that goes on.
///
/// `worker` is the program that runs the job of one cart, whose number follows.
///
/// # Errors
///
/// The database's, and a provider that fails where it was not told to.
pub async fn show(url: &str, provider: SocketAddr, mut worker: Command) -> anyhow::Result<()> {
    let shop = Shop::new(provider);
    let (idem, pool) = set_up(url, &shop).await?;
    // A cart of its own, also in a database that was here before.
    let cart_id = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?;
    let job = job(cart_id);

    shop.gateway.inject(&reference(cart_id), Fault::HoldAnswer).await?;
    let mut victim = worker.arg(cart_id.to_string()).stdout(Stdio::null()).spawn()?;
    println!("Process {} checks out a cart. It is killed while the gateway answers:", victim.id());
    shop.gateway.watch(&reference(cart_id)).await?;
    victim.kill()?;
    victim.wait()?;
    shop.gateway.release().await?;
    println!("  {}", standing(&idem, &job).await?);

    println!("This process takes over when the lease has passed:");
    let done = check_out(&idem, cart_id, job.amount_cents, job.customer.clone()).await?;
    println!("  {}: order {}, {}", how(&done), done.order_id, done.charge_id);
    println!("  {}", standing(&idem, &job).await?);

    println!("The customer's mail is in the outbox; a relay delivers it, and dies before it says so:");
    let died = idem
        .relay(async |task| {
            let done = idem.run(task.decode::<SendEmail>()?).await?;
            println!("  `{}` of {} {}: {}", task.job(), task.key(), how(&done), done.provider_id);
            bail!("the relay is gone")
        })
        .await;
    if died.is_ok() {
        bail!("nothing was in the outbox");
    }
    println!("The next relay:");
    let delivered = deliver(&idem).await?;
    println!("  delivered {delivered}; then {}", deliver(&idem).await?);

    let sql = "SELECT count(*) FROM cart_orders WHERE cart_id = $1";
    let orders: i64 = sqlx::query_scalar(sql).bind(cart_id).fetch_one(&pool).await?;
    let charges = shop.gateway.books().await?.of(&reference(cart_id)).len();
    let mails = shop.mailer.books().await?.of(&format!("order-{}", done.order_id)).len();
    println!("Of this cart there are {orders} order(s), {charges} charge(s), {mails} mail(s)");
    Ok(())
}

/// Says where the job stands.
async fn standing(idem: &Idem<Db, Shop>, job: &CheckOut) -> anyhow::Result<String> {
    let Some(found) = idem.explain(job).await? else { return Ok(String::from("nothing is recorded")) };
    let steps: Vec<_> = found.steps.iter().map(|step| &*step.name).collect();
    Ok(format!("{:?}, attempt {}, steps on record: [{}]", found.state, found.attempts, steps.join(", ")))
}
