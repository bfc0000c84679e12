//! One report a day, although it takes long, fails at times, and every worker's clock starts it.
//!
//! The clock starts it at three in the morning in Berlin, in every process that runs [`scheduler`]. The tick is the
//! key, so a day has one report, and a person may call the job for a tick as well. Days at which no process was there
//! are made up for (`missed = all`). Whoever comes second leaves the work to the first (`on_busy = skip`). A heartbeat
//! keeps the key for as long as the report takes, which may be much longer than the lease; a worker that dies gives
//! it up within one lease. A run that fails leaves its error on record, for [`Idem::unfinished`] and
//! [`Idem::explain`], and the next one, which the scheduler starts, goes on behind the steps that are done: with the
//! same figures.

use idem_runtime::prelude::*;
use idem_runtime::schedule::{ScheduleError, Scheduler, Tick};
use serde::{Deserialize, Serialize};
use sqlx::{AssertSqlSafe, Executor as _, Pool};

use super::{Db, SERIAL};
use crate::provider::{Printer, ProviderError};

/// Adds up the sales of the day before the tick, has the report printed, and publishes it.
#[idempotent(
    key = tick,
    schedule("0 3 * * *", time_zone = "Europe/Berlin", missed = all),
    lock = lease("3s"),
    on_busy = skip,
    in_doubt = rerun,
)]
pub async fn daily_report(
    run: &mut Run<'_, Db>,
    tick: Tick,
    #[state] printer: &Printer,
) -> Result<Report, ReportError> {
    let date = day_before(tick);
    // On record, so that a run that goes on after a failure has the figures that were printed, whatever was
    // sold since.
    let figures: Figures = run.tx_step("figures", async |tx| add_up(tx, &date).await).await?;
    let text = format!("{date}: {} sales, {} cents", figures.sales, figures.cents);
    // Slow, and no harm in printing it twice: one copy is published.
    run.step("print", async |_| printer.print(&date, &text).await.map(drop)).await?;
    let number = run.tx_step("publish", async |tx| publish(tx, &date, &text).await).await?;
    // Not what the printer calls it: a run that prints again would answer otherwise.
    Ok(Report { number, text })
}

/// Returns the scheduler that every process runs.
///
/// # Errors
///
/// A schedule that cannot be used.
pub fn scheduler(idem: &Idem<Db, Printer>) -> Result<Scheduler<Db, Printer>, ScheduleError> {
    idem.scheduler().job::<DailyReport>()
}

/// Returns the day that the report of a tick is about. Three in the morning in Berlin is one or two in UTC, of the same day.
pub fn day_before(tick: Tick) -> String {
    let (year, month, day) = Tick::from_unix(tick.unix() - 24 * 60 * 60).date();
    format!("{year:04}-{month:02}-{day:02}")
}

#[derive(Debug, Serialize, Deserialize)]
struct Figures {
    sales: i64,
    cents: i64,
}

async fn add_up(tx: &mut Tx<'_, Db>, date: &str) -> Result<Figures, ReportError> {
    let sql = "SELECT count(*), CAST(coalesce(sum(cents), 0) AS BIGINT) FROM sales WHERE day = $1";
    let (sales, cents) = sqlx::query_as(sql).bind(date).fetch_one(&mut **tx).await?;
    Ok(Figures { sales, cents })
}

async fn publish(tx: &mut Tx<'_, Db>, date: &str, text: &str) -> Result<i64, ReportError> {
    let sql = "INSERT INTO reports (day, text) VALUES ($1, $2) RETURNING id";
    Ok(sqlx::query_scalar(sql).bind(date).bind(text).fetch_one(&mut **tx).await?)
}

/// A report that is published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The number that the database gave it.
    pub number: i64,
    /// What it says.
    pub text: String,
}

/// Why there is no report yet.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// It could not be printed.
    #[error("printing failed: {0}")]
    Printer(#[from] ProviderError),
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
    pool.execute("CREATE TABLE IF NOT EXISTS sales (day TEXT NOT NULL, cents BIGINT NOT NULL)").await?;
    // A second report of a day would be welcome here: the job alone keeps it out.
    let reports =
        format!("CREATE TABLE IF NOT EXISTS reports (id {SERIAL}, day TEXT NOT NULL, text TEXT NOT NULL)");
    pool.execute(AssertSqlSafe(reports)).await.map(drop)
}

/// Writes down a sale.
///
/// # Errors
///
/// The database's.
pub async fn sell(pool: &Pool<Db>, date: &str, cents: i64) -> sqlx::Result<()> {
    let sql = "INSERT INTO sales (day, cents) VALUES ($1, $2)";
    sqlx::query(sql).bind(date).bind(cents).execute(pool).await.map(drop)
}
