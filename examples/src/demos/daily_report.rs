//! A report that fails, takes long, and is asked for by two workers.

use std::net::SocketAddr;
use std::time::Duration;

use idem_runtime::record::State;
use idem_runtime::schedule::Tick;
use idem_runtime::{Done, Error, Idem, Job as _};
use sqlx::Pool;

use super::jobs::daily_report::{
    DailyReport, Report, ReportError, create_tables, daily_report, day_before, scheduler, sell,
};
use super::{Db, how, open};
use crate::provider::{Fault, Printer};

/// How long the printer takes here. The lease of the job is three seconds.
const PRINTING: Duration = Duration::from_secs(4);

/// Three in the morning of the 2nd of January 2026 in Berlin, and a tick of the schedule on each day of that winter.
const FIRST: Tick = Tick::from_unix(1_767_319_200);

/// In seconds.
const DAY: i64 = 24 * 60 * 60;

/// Shows the states of one day's report, who builds it, and what the clock starts.
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
    let tick = unused_tick(&pool).await?;
    let day = day_before(tick);
    for cents in [4_200, 800] {
        sell(&pool, &day, cents).await?;
    }

    println!("Before anybody builds it, the report is");
    println!("  {}", standing(&one, tick).await?);
    println!("The printer fails:");
    printer.inject(&day, Fault::FailBefore).await?;
    print(&daily_report(&one, tick).await);
    println!("  {}", standing(&one, tick).await?);
    println!("What has failed, for a person who looks:");
    for failed in one.unfinished(&[State::Failed], 100).await? {
        let error = failed.error.unwrap_or_default();
        println!("  `{}` of {}: attempts {}, last error: {error}", failed.job, failed.key, failed.attempts);
    }

    println!("A late sale comes in. The report is built again, and printing takes {PRINTING:?}:");
    sell(&pool, &day, 99_900).await?;
    printer.inject(&day, Fault::HoldAnswer).await?;
    let building = daily_report(&one, tick);
    let meanwhile = async {
        printer.watch(&day).await?;
        println!("  {}", standing(&other, tick).await?);
        println!("Another worker's clock strikes too:");
        print(&daily_report(&other, tick).await);
        tokio::time::sleep(PRINTING).await;
        println!("The lease of 3 s would be over by now, but for the heartbeat:");
        println!("  {}", standing(&other, tick).await?);
        printer.release().await?;
        anyhow::Ok(())
    };
    let (built, meanwhile) = tokio::join!(building, meanwhile);
    meanwhile?;
    println!("The printer is done; the figures are those of the first attempt:");
    print(&built);
    println!("  {}", standing(&one, tick).await?);
    println!("The other worker asks again:");
    print(&daily_report(&other, tick).await);

    println!("The clock starts it too. Two processes find that nobody was there since the day before:");
    let next = Tick::from_unix(tick.unix() + DAY);
    // As if a scheduler had been there up to then: a job that is new begins with the next tick.
    let job = one.store().enrol(one.namespace(), DailyReport::SPEC.name).await?;
    let last = one.store().last_tick(job).await?;
    one.store().advance_tick(job, last, Tick::from_unix(tick.unix() - DAY)).await?;
    let until_next = async || {
        while count(&pool, &day_before(next)).await? == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        anyhow::Ok(())
    };
    let (first, second) = (scheduler(&one)?, scheduler(&other)?);
    let (ended, also) = tokio::join!(first.run_until(until_next()), second.run_until(until_next()));
    ended.and(also)?;
    for tick in [tick, next] {
        println!("Of {tick} the report is");
        println!("  {}", standing(&one, tick).await?);
        let day = day_before(tick);
        println!("  reports of {day} in the database: {}", count(&pool, &day).await?);
    }
    Ok(())
}

/// Returns a tick whose day has no sales and no report yet: its own, also in a database that was here before.
async fn unused_tick(pool: &Pool<Db>) -> anyhow::Result<Tick> {
    let sql =
        "SELECT (SELECT count(*) FROM sales WHERE day = $1) + (SELECT count(*) FROM reports WHERE day = $1)";
    let mut tick = FIRST;
    loop {
        let used: i64 = sqlx::query_scalar(sql).bind(day_before(tick)).fetch_one(pool).await?;
        if used == 0 {
            return Ok(tick);
        }
        tick = Tick::from_unix(tick.unix() + DAY);
    }
}

/// Counts the reports of a day.
async fn count(pool: &Pool<Db>, day: &str) -> anyhow::Result<i64> {
    let sql = "SELECT count(*) FROM reports WHERE day = $1";
    Ok(sqlx::query_scalar(sql).bind(day).fetch_one(pool).await?)
}

/// Says where the report of a tick stands.
async fn standing(idem: &Idem<Db, Printer>, tick: Tick) -> anyhow::Result<String> {
    let Some(found) = idem.explain(&DailyReport { tick }).await? else {
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
