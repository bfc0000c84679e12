//! What cannot be checked is refused with a reason, and never taken for right.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use idem_runtime::prelude::*;
use idem_testkit::plan::Plan;
use idem_testkit::{Scenario, Trouble, examine, examine_schedule};

use crate::harness::gateway::Gateway;
use crate::harness::tables;
use crate::kept::clean_up;

/// Examines with all plans and returns why that is refused.
async fn trouble<J, S>(scenario: Scenario<J, Sqlite, S>) -> Trouble
where
    J: idem_runtime::RunOn<Sqlite, S>,
    S: Clone + Send + Sync + 'static,
{
    match examine(&scenario, &Plan::ALL).await {
        Err(trouble) => {
            assert!(trouble.to_string().ends_with(&format!(" [{}]", trouble.code())), "{trouble}");
            trouble
        }
        Ok(report) => panic!("it is checked: {report:?}"),
    }
}

#[idempotent(key = id)]
async fn post(tx: &mut Tx<'_, Sqlite>, id: i64) -> Result<(), sqlx::Error> {
    tables::post(tx, id).await
}

#[idempotent(key = id)]
async fn never_end(tx: &mut Tx<'_, Sqlite>, id: i64) -> Result<(), sqlx::Error> {
    tables::post(tx, id).await?;
    std::future::pending().await
}

#[tokio::test]
async fn a_job_that_never_ends_is_stopped_at_its_limit() {
    let limit = Duration::from_secs(3);
    let trouble = trouble(Scenario::new(NeverEnd { id: 42 }).setup(tables::set_up).limit(limit)).await;
    let Trouble::Hung { at, timeline } = &trouble else { panic!("{trouble}") };
    assert!(at.contains("of the body"), "{at}");
    assert!(!timeline.is_empty());
    assert!(trouble.to_string().contains("Scenario::limit"), "{trouble}");
}

#[tokio::test]
async fn a_set_up_that_fails_is_named() {
    let broken = Scenario::new(Post { id: 42 }).setup(async |lab| {
        sqlx::raw_sql("CREATE TABEL payments (id)").execute(&mut lab.connect().await).await?;
        Ok(())
    });
    let trouble = trouble(broken).await;
    assert!(matches!(&trouble, Trouble::SetUp(why) if why.contains("TABEL")), "{trouble}");
}

#[tokio::test]
async fn a_clean_run_that_fails_is_named() {
    let trouble = trouble(Scenario::new(Post { id: 42 })).await;
    assert!(matches!(&trouble, Trouble::CleanRun(why) if why.contains("entries")), "{trouble}");
}

#[idempotent(key = id)]
async fn post_past_the_transaction(tx: &mut Tx<'_, Sqlite>, id: i64) -> Result<(), sqlx::Error> {
    tables::post(tx, id).await?;
    let mut own = tables::own_connection(tx).await?;
    sqlx::query("PRAGMA busy_timeout = 0").execute(&mut own).await?;
    tables::post(&mut own, id).await
}

#[tokio::test]
async fn a_body_that_waits_for_its_own_transaction_is_told_so() {
    let scenario = Scenario::new(PostPastTheTransaction { id: 42 }).setup(tables::set_up);
    let trouble = trouble(scenario).await.to_string();
    assert!(trouble.contains("database is locked") && trouble.contains("write through `tx`"), "{trouble}");
}

#[idempotent(key = id)]
async fn commit_in_the_body(tx: &mut Tx<'_, Sqlite>, id: i64) -> Result<(), sqlx::Error> {
    tables::post(tx, id).await?;
    sqlx::query("COMMIT").execute(&mut **tx).await?;
    Ok(())
}

#[tokio::test]
async fn an_error_of_idems_own_says_itself_what_to_do() {
    let trouble = trouble(Scenario::new(CommitInTheBody { id: 42 }).setup(tables::set_up)).await.to_string();
    assert!(!trouble.contains("Scenario::setup") && trouble.contains("[idem::"), "{trouble}");
}

#[derive(Debug)]
struct Refused {
    #[expect(dead_code, reason = "it is read by `Debug`")]
    limit: i64,
}

#[idempotent(key = id)]
async fn refuse(_tx: &mut Tx<'_, Sqlite>, id: i64) -> Result<(), Refused> {
    Err(Refused { limit: id })
}

#[tokio::test]
async fn an_error_of_the_job_is_shown_as_it_is() {
    let trouble = trouble(Scenario::new(Refuse { id: 42 }).setup(tables::set_up)).await.to_string();
    assert!(trouble.contains("Refused { limit: 42 }") && trouble.contains("replay(...)"), "{trouble}");
}

#[idempotent(key = id)]
async fn do_nothing(tx: &mut Tx<'_, Sqlite>, id: i64) -> Result<i64, sqlx::Error> {
    sqlx::query("UPDATE payments SET status = 'paid' WHERE id = -1").execute(&mut **tx).await?;
    Ok(id)
}

#[tokio::test]
async fn a_job_without_an_effect_proves_nothing() {
    let trouble = trouble(Scenario::new(DoNothing { id: 42 }).setup(tables::set_up)).await;
    assert!(matches!(trouble, Trouble::NoEffect), "{trouble}");
}

#[idempotent(key = id)]
async fn post_only(tx: &mut Tx<'_, Sqlite>, id: i64, #[state] gateway: &Gateway) -> Result<(), sqlx::Error> {
    let _ = gateway;
    tables::post(tx, id).await
}

#[tokio::test]
async fn an_observer_that_sees_nothing_is_named() {
    let scenario = Scenario::new(PostOnly { id: 42 })
        .setup(tables::set_up)
        .state(Gateway::default)
        .observe("charges", Gateway::charges);
    let trouble = trouble(scenario).await;
    assert!(matches!(&trouble, Trouble::UnseenObserver(name) if name == "charges"), "{trouble}");
}

#[idempotent(key = id)]
async fn post_some(tx: &mut Tx<'_, Sqlite>, id: i64) -> Result<(), sqlx::Error> {
    static RUNS: AtomicU32 = AtomicU32::new(1);
    for _ in 0..RUNS.fetch_add(1, Ordering::SeqCst) {
        tables::entry(tx, id, "one of some").await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_body_with_another_number_of_rows_in_every_run_is_refused() {
    let trouble = trouble(Scenario::new(PostSome { id: 42 }).setup(tables::set_up)).await;
    let Trouble::Nondeterministic(differences) = &trouble else { panic!("{trouble}") };
    assert_eq!(differences.len(), 1, "{trouble}");
    assert!(trouble.to_string().contains("one of some"), "{trouble}");
}

#[idempotent(key = id)]
async fn panic_at_once(tx: &mut Tx<'_, Sqlite>, id: i64) -> Result<(), sqlx::Error> {
    tables::post(tx, id).await?;
    panic!("no such payment")
}

#[tokio::test]
async fn a_body_that_panics_in_a_clean_run_is_refused() {
    let trouble = trouble(Scenario::new(PanicAtOnce { id: 42 }).setup(tables::set_up)).await;
    assert!(matches!(&trouble, Trouble::CleanRun(why) if why.contains("no such payment")), "{trouble}");
}

#[idempotent(key = id, retain = none)]
async fn panic_later(
    tx: &mut Tx<'_, Sqlite>,
    id: i64,
    #[state] runs: &Arc<AtomicU32>,
) -> Result<(), sqlx::Error> {
    assert_eq!(runs.fetch_add(1, Ordering::SeqCst), 0, "this was done before");
    tables::post(tx, id).await
}

#[tokio::test]
async fn a_body_that_panics_in_a_second_run_only_is_a_failure() {
    let scenario =
        Scenario::new(PanicLater { id: 42 }).setup(tables::set_up).state(|| Arc::new(AtomicU32::new(0)));
    let report = examine(&scenario, &Plan::ALL).await.expect("it can be checked").expect("SQLite is there");
    let failure = report.failure.expect("a panic is no answer");
    clean_up(&failure);
    assert_eq!(failure.schedule, "repeat/2");
    let says = format!("{:?}", failure.differences);
    assert!(says.contains("a panic: ") && says.contains("this was done before"), "{failure:#?}");
}

#[tokio::test]
async fn a_schedule_that_is_none_is_refused() {
    let scenario = || Scenario::new(Post { id: 42 }).setup(tables::set_up);
    for wrong in
        ["crash", "crush/3", "/", "", "crash/", "crash/nowhere", "repeat/99", "interleavings/B1", "rival/x"]
    {
        match examine_schedule(&scenario(), wrong).await {
            Err(Trouble::Schedule(why)) => assert!(why.contains("IDEM_SCHEDULE"), "{wrong:?}: {why}"),
            other => panic!("{wrong:?} is taken for a schedule: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_schedule_that_is_one_runs_alone() {
    let scenario = Scenario::new(Post { id: 42 }).setup(tables::set_up);
    for (schedule, hit) in
        [("repeat/3", 2), ("concurrent/2", 1), ("lost_ack/committed", 1), ("interleavings/A1B1", 1)]
    {
        let report =
            examine_schedule(&scenario, schedule).await.expect("there is one").expect("SQLite is there");
        assert!(report.failure.is_none(), "{report:?}");
        assert_eq!(report.plans.len(), 1, "{report:?}");
        assert_eq!(report.plans[0].hit, hit, "{report:?}");
    }
}
