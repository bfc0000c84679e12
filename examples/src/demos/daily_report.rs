//! A report that fails, takes long, and is asked for by two workers.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use idem_runtime::record::State;
use idem_runtime::{Done, Error, Idem};

use super::jobs::daily_report::{DailyReport, Report, ReportError, create_tables, daily_report, sell};
use super::{Db, how, open};
use crate::provider::{Fault, Printer};

/// How long the printer takes here. The lease of the job is one second.
const PRINTING: Duration = Duration::from_millis(2_500);

/// Shows the states of one day's report, and who builds it.
///
/// # Errors
///
/// The database's, and a printer that fails where it was not told to.
pub async fn show(url: &str, provider: SocketAddr) -> anyhow::Result<()> {
    let printer = Printer::new(provider);
    let worker = || -> anyhow::Result<Idem<Db, Printer>> {
        Ok(Idem::builder(open(url)?).namespace("examples").state(printer.clone()).build()?)
    };
    let (one, other) = (worker()?, worker()?);
    one.migrate().await?;
    let pool = open(url)?;
    create_tables(&pool).await?;
    // A day of its own, also in a database that was here before.
    let day = format!("day-{}", SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis());
    for cents in [4_200, 800] {
        sell(&pool, &day, cents).await?;
    }

    println!("Before anybody builds it, the report is");
    println!("  {}", standing(&one, &day).await?);
    println!("The printer fails:");
    printer.inject(&day, Fault::FailBefore).await?;
    print(&daily_report(&one, day.clone()).await);
    println!("  {}", standing(&one, &day).await?);
    println!("What has failed, for a person who looks:");
    for failed in one.unfinished(&[State::Failed], 100).await? {
        let error = failed.error.unwrap_or_default();
        println!("  `{}` of {}: attempts {}, last error: {error}", failed.job, failed.key, failed.attempts);
    }

    println!("A late sale comes in. The report is built again, and printing takes {PRINTING:?}:");
    sell(&pool, &day, 99_900).await?;
    printer.inject(&day, Fault::HoldAnswer).await?;
    let building = daily_report(&one, day.clone());
    let meanwhile = async {
        printer.watch(&day).await?;
        println!("  {}", standing(&other, &day).await?);
        println!("Another worker's clock strikes too:");
        print(&daily_report(&other, day.clone()).await);
        tokio::time::sleep(PRINTING).await;
        println!("The lease of 1 s would be over by now, but for the heartbeat:");
        println!("  {}", standing(&other, &day).await?);
        printer.release().await?;
        anyhow::Ok(())
    };
    let (built, meanwhile) = tokio::join!(building, meanwhile);
    meanwhile?;
    println!("The printer is done; the figures are those of the first attempt:");
    print(&built);
    println!("  {}", standing(&one, &day).await?);
    println!("The other worker asks again:");
    print(&daily_report(&other, day.clone()).await);

    let sql = "SELECT count(*) FROM reports WHERE day = $1";
    let reports: i64 = sqlx::query_scalar(sql).bind(&day).fetch_one(&pool).await?;
    println!("Reports of this day in the database: {reports}");
    Ok(())
}

/// Says where the report of a day stands.
async fn standing(idem: &Idem<Db, Printer>, day: &str) -> anyhow::Result<String> {
    let Some(found) = idem.explain(&DailyReport { date: day.to_owned() }).await? else {
        return Ok(String::from("pending: nothing is recorded of it"));
    };
    let steps: Vec<_> = found.steps.iter().filter(|step| step.is_done).map(|step| &*step.name).collect();
    let steps = match &*steps {
        [] => String::new(),
        steps => format!("; done: {}", steps.join(", ")),
    };
    let attempt = found.attempts;
    Ok(match found.state {
        State::Absent => String::from("pending: what was recorded has expired"),
        State::Running => {
            format!("processing, attempt {attempt}, {:.1?} of the lease left{steps}", found.lease_left)
        }
        State::Lapsed => format!("pending: the worker of attempt {attempt} is gone{steps}"),
        State::Failed => {
            format!("failed, attempt {attempt}: {}{steps}", found.error.unwrap_or_default())
        }
        State::Completed => format!("completed, attempt {attempt}"),
        State::Rejected | State::Parked => format!("{:?}", found.state),
    })
}

fn print(ran: &Result<Done<Report>, Error<ReportError>>) {
    match ran {
        Ok(done) => println!("  {}: report {}, {}", how(done), done.number, done.text),
        Err(Error::Busy(busy)) if busy.skipped => println!("  skipped: {busy}"),
        Err(error) => println!("  failed: {error}"),
    }
}
