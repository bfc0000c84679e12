//! The examples of leased jobs, each broken on purpose: the check must find it.

mod common;
#[path = "common/world.rs"]
mod world;

use std::path::Path;

use idem_examples::provider::{
    Directory, Gateway, Mail, Mailer, PlainMail, PlainMailer, Print, Printer, ProviderError,
};
use idem_examples::sqlite::jobs::{daily_report, payment_steps};
use idem_examples::user_sync;
use idem_runtime::{Provides, RunOn, prelude::*};
use idem_testkit::plan::Plan;
use idem_testkit::report::{Difference, Failure};
use idem_testkit::{Scenario, examine};
use sqlx::SqlitePool;

use world::{World, done};

/// Runs some plans, and returns what they found.
async fn caught<J, S>(scenario: Scenario<J, Sqlite, S>, plans: &[Plan]) -> Failure
where
    J: RunOn<Sqlite, S>,
    S: Clone + Send + Sync + 'static,
{
    let report = examine(&scenario, plans).await.expect("the scenario is sound").expect("SQLite is there");
    let text = report.to_string();
    let failure = report.failure.unwrap_or_else(|| panic!("nothing was found:\n{text}"));
    // The database is kept for somebody to look at, which nobody does here.
    let kept = failure.kept.as_ref().and_then(|kept| kept.strip_prefix("sqlite://"));
    if let Some(folder) = kept.and_then(|file| Path::new(file).parent())
        && folder.file_name().is_some_and(|name| name.to_string_lossy().starts_with("idem_"))
    {
        // What stays behind is in the folder for temporary files.
        let _ = std::fs::remove_dir_all(folder);
    }
    failure
}

/// Tells whether an effect happened twice.
fn is_double(failure: &Failure, observer: &str) -> bool {
    failure.differences.iter().any(|difference| {
        matches!(difference, Difference::Effects { observer: name, expected: 1, found: 2 } if name == observer)
    })
}

/// E-mail: the step has a key, and the provider does not get it.
#[idempotent(key = mail, in_doubt = rerun)]
async fn send_without_the_key(
    run: &mut Run<'_, Sqlite>,
    mail: String,
    #[state] mailer: &Mailer,
) -> Result<(), ProviderError> {
    let letter = Mail { to: String::from("ada@example.org"), subject: String::from("Hello") };
    let own_key = fastrand::u64(..).to_string();
    run.step("send", async |_| mailer.send(&own_key, &mail, &letter).await.map(drop)).await
}

#[tokio::test]
async fn a_key_that_is_not_handed_on_sends_twice() {
    let scenario = Scenario::new(SendWithoutTheKey { mail: String::from("m1") })
        .state_with(World::of)
        .observe_async("mails", async |world| done(&world.mailer).await);
    let failure = caught(scenario, &[Plan::Crash]).await;
    assert!(is_double(&failure, "mails"), "{failure:?}");
}

/// E-mail: the mail goes out beside the step that is to record it.
#[idempotent(key = mail, in_doubt = park)]
async fn send_beside_the_step(
    run: &mut Run<'_, Sqlite>,
    mail: String,
    #[state] mailer: &PlainMailer,
) -> Result<(), ProviderError> {
    let letter = PlainMail { to: String::from("ada@example.org"), subject: String::from("Hello") };
    let sent = mailer.send(&mail, &letter).await?;
    run.step("sent", async |_| Ok(sent.id)).await.map(drop)
}

#[tokio::test]
async fn a_call_outside_of_a_step_happens_twice() {
    let scenario = Scenario::new(SendBesideTheStep { mail: String::from("m1") })
        .state_with(World::of)
        .observe_async("mails", async |world| done(&world.plain).await);
    let failure = caught(scenario, &[Plan::Crash]).await;
    assert!(is_double(&failure, "mails"), "{failure:?}");
}

/// E-mail without keys: done again instead of asking a person.
#[idempotent(key = mail, in_doubt = rerun)]
async fn send_plainly_again(
    run: &mut Run<'_, Sqlite>,
    mail: String,
    #[state] mailer: &PlainMailer,
) -> Result<(), ProviderError> {
    let letter = PlainMail { to: String::from("ada@example.org"), subject: String::from("Hello") };
    run.step("send", async |_| mailer.send(&mail, &letter).await.map(drop)).await
}

#[tokio::test]
async fn a_rerun_without_a_key_sends_twice() {
    let scenario = Scenario::new(SendPlainlyAgain { mail: String::from("m1") })
        .state_with(World::of)
        .observe_async("mails", async |world| done(&world.plain).await);
    let failure = caught(scenario, &[Plan::Crash]).await;
    assert!(is_double(&failure, "mails"), "{failure:?}");
}

/// E-mail without keys: the provider is asked instead of a person.
#[idempotent(key = mail, in_doubt = rerun)]
async fn ask_and_send(
    run: &mut Run<'_, Sqlite>,
    mail: String,
    #[state] mailer: &PlainMailer,
) -> Result<String, ProviderError> {
    let letter = PlainMail { to: String::from("ada@example.org"), subject: String::from("Hello") };
    run.step("send", async |_| mailer.send(&mail, &letter).await.map(|sent| sent.id))
        .probe(async |_| Ok(mailer.find(&mail).await?.map(|sent| sent.id)))
        .await
}

/// Between the question and the mail a worker may stand still, which a probe cannot know. It serves where crashes
/// are all that there is.
#[tokio::test]
async fn a_probe_is_enough_for_crashes_and_not_for_a_worker_that_wakes_up() {
    let scenario = || {
        Scenario::new(AskAndSend { mail: String::from("m1") })
            .state_with(World::of)
            .observe_async("mails", async |world| done(&world.plain).await)
    };
    let report = examine(&scenario(), &[Plan::Repeat, Plan::Concurrent, Plan::Crash, Plan::LostAck]).await;
    let report = report.expect("the scenario is sound").expect("SQLite is there");
    assert!(report.failure.is_none(), "{report}");
    let failure = caught(scenario(), &[Plan::Zombie]).await;
    assert!(is_double(&failure, "mails"), "{failure:?}");
    assert_eq!(failure.schedule, "zombie/after-a-step-is-begun");
}

#[derive(Clone, Provides)]
struct ReportWorld {
    pool: SqlitePool,
    printer: Printer,
}

/// Daily report: published in a step, but not in the step's transaction.
#[idempotent(key = date, in_doubt = rerun)]
async fn publish_elsewhere(
    run: &mut Run<'_, Sqlite>,
    date: String,
    #[state] pool: &SqlitePool,
    #[state] printer: &Printer,
) -> Result<(), daily_report::ReportError> {
    run.step("print", async |_| printer.print(&date, "1 sale").await.map(drop)).await?;
    run.step("publish", async |_| {
        let sql = "INSERT INTO reports (day, text) VALUES ($1, '1 sale')";
        sqlx::query(sql).bind(&date).execute(pool).await.map(drop)
    })
    .await?;
    Ok(())
}

#[tokio::test]
async fn a_report_that_is_not_published_in_the_transaction_of_its_step_is_published_twice() {
    let process = common::provider();
    let (sender, pools) = std::sync::mpsc::channel();
    let pools = std::sync::Mutex::new(pools);
    let scenario = Scenario::new(PublishElsewhere { date: String::from("2026-03-01") })
        .setup(async move |lab| {
            daily_report::create_tables(&lab.pool(1)).await?;
            sender.send(lab.pool(1))?;
            Ok(())
        })
        .state_with(move |_| ReportWorld {
            pool: pools.lock().expect("nobody panics").recv().expect("the set-up comes first"),
            printer: process.client(),
        });
    let failure = caught(scenario, &[Plan::Crash]).await;
    let extra =
        |difference: &Difference| matches!(difference, Difference::Extra { table, .. } if table == "reports");
    assert!(failure.differences.iter().any(extra), "{failure:?}");
}

/// Payment in steps: a key of its own for each attempt, so that the gateway takes a repetition for another charge.
#[idempotent(key = cart_id, in_doubt = rerun)]
async fn charge_each_attempt(
    run: &mut Run<'_, Sqlite>,
    cart_id: i64,
    #[state] gateway: &Gateway,
) -> Result<(), ProviderError> {
    let attempt = run.attempt();
    let (key, reference) = (format!("{cart_id}-{attempt}"), format!("cart-{cart_id}, attempt {attempt}"));
    run.step("charge", async |_| gateway.charge(&key, &reference, 4_200).await.map(drop)).await
}

#[tokio::test]
async fn a_key_that_counts_attempts_charges_twice() {
    let scenario = Scenario::new(ChargeEachAttempt { cart_id: 42 })
        .state_with(World::of)
        .observe_async("charges", async |world| done(&world.gateway).await);
    let failure = caught(scenario, &[Plan::Crash]).await;
    assert!(is_double(&failure, "charges"), "{failure:?}");
}

/// Payment in steps: the customer is told by the body, not by a job that is enqueued.
#[idempotent(key = cart_id, in_doubt = rerun)]
async fn tell_in_the_body(
    run: &mut Run<'_, Sqlite>,
    cart_id: i64,
    #[state] gateway: &Gateway,
    #[state] mailer: &PlainMailer,
) -> Result<(), ProviderError> {
    let reference = payment_steps::reference(cart_id);
    run.step("charge", async |key| gateway.charge(&key, &reference, 4_200).await.map(drop)).await?;
    let mail = PlainMail { to: String::from("ada@example.org"), subject: String::from("Paid") };
    mailer.send(&reference, &mail).await.map(drop)
}

#[tokio::test]
async fn a_customer_who_is_told_by_the_body_is_told_twice() {
    let scenario = Scenario::new(TellInTheBody { cart_id: 42 })
        .state_with(World::of)
        .observe_async("charges", async |world| done(&world.gateway).await)
        .observe_async("mails", async |world| done(&world.plain).await);
    let failure = caught(scenario, &[Plan::Crash]).await;
    assert!(is_double(&failure, "mails") && !is_double(&failure, "charges"), "{failure:?}");
}

/// User sync: a line for each sync, where it should say what the contact is.
#[idempotent(key = user_id, retain = none, in_doubt = rerun)]
async fn append_user(
    user_id: i64,
    #[state] directory: &Directory,
    #[state] list: &Printer,
) -> Result<(), user_sync::SyncError> {
    let user = user_sync::reference(user_id);
    let profile = directory.find(&user).await?.ok_or(user_sync::SyncError::NoSuchUser { user_id })?.what;
    list.print(&user, &profile.email).await?;
    Ok(())
}

#[tokio::test]
async fn a_sync_that_adds_instead_of_replacing_adds_twice() {
    let scenario: Scenario<_, Sqlite, _> = Scenario::new(AppendUser { user_id: 42 })
        .state_with(World::of)
        .observe_async("lines", async |world| done::<Print>(&world.printer).await);
    let failure = caught(scenario, &[Plan::Repeat]).await;
    assert!(is_double(&failure, "lines"), "{failure:?}");
}
