//! A worker that lost its session while it stood still changes nothing, and does not say that it did.

#[allow(dead_code, unused_imports, reason = "the broken stores of the conformance suite; one is tried here")]
#[cfg(feature = "sqlite")]
mod faults;

use idem_runtime::prelude::*;
use idem_testkit::plan::Plan;
use idem_testkit::report::PlanReport;
use idem_testkit::{Scenario, check_kill, check_zombie, examine};

macro_rules! on_a_server {
    ($module:ident, $db:ident, $feature:literal) => {
        #[cfg(feature = $feature)]
        mod $module {
            use std::sync::Arc;
            use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

            use idem_testkit::lab::Lab;
            use sqlx::$db;

            use super::*;

            async fn tables(lab: &Lab<$db>) -> Result<(), idem_testkit::SetUpError> {
                let sql = "CREATE TABLE members (id BIGINT NOT NULL); CREATE TABLE log (id BIGINT NOT NULL)";
                sqlx::raw_sql(sql).execute(&lab.pool(1)).await?;
                Ok(())
            }

            #[idempotent(key = id)]
            async fn enrol_member(tx: &mut Tx<'_, $db>, id: i64) -> Result<i64, sqlx::Error> {
                sqlx::raw_sql("INSERT INTO members (id) VALUES (42)").execute(&mut **tx).await?;
                sqlx::raw_sql("INSERT INTO log (id) VALUES (42)").execute(&mut **tx).await?;
                Ok(id)
            }

            #[tokio::test]
            async fn a_good_job_has_a_single_effect_although_a_zombie_wakes_up() {
                let scenario = Scenario::new(EnrolMember { id: 42 }).setup(tables);
                let Some(report) = check_zombie(scenario).await else { return };
                let [PlanReport { hit, windows, skipped: None, .. }] = &*report.plans else {
                    panic!("{report}")
                };
                assert!(*hit >= 4 && hit == windows, "{report}");
            }

            #[tokio::test]
            async fn a_process_can_be_killed_here_too() {
                let scenario = Scenario::new(EnrolMember { id: 42 }).setup(tables);
                let Some(report) = check_kill(scenario).await else { return };
                let [PlanReport { hit, windows, skipped: None, took, .. }] = &*report.plans else {
                    panic!("{report}")
                };
                assert!(*hit > 5 && hit == windows, "{report}");
                println!("{hit} kills took {took:?}");
            }

            /// The state: where else to write, past the transaction.
            #[derive(Clone, Default)]
            struct Gateway(Arc<AtomicU64>);

            /// Goes on with its effect although its session is gone.
            #[idempotent(key = id)]
            async fn charge_member(
                tx: &mut Tx<'_, $db>,
                id: i64,
                #[state] gateway: &Gateway,
            ) -> Result<i64, sqlx::Error> {
                let _ = sqlx::raw_sql("INSERT INTO members (id) VALUES (42)").execute(&mut **tx).await;
                gateway.0.fetch_add(1, SeqCst);
                Ok(id)
            }

            #[tokio::test]
            async fn a_job_that_charges_although_its_session_is_gone_is_caught() {
                let scenario = Scenario::new(ChargeMember { id: 42 })
                    .setup(tables)
                    .state(Gateway::default)
                    .observe("charges", |gateway| gateway.0.load(SeqCst));
                let examined = examine(&scenario, &[Plan::Zombie]).await.expect("the scenario is sound");
                let Some(report) = examined else { return };
                let failure = report.failure.expect("the second charge is found");
                assert_eq!(failure.schedule, "zombie/after-BEGIN");
                assert!(failure.timeline.iter().any(|moment| moment.what == "cuts the connection of A"));
            }

            #[idempotent(key = id, in_doubt = rerun)]
            async fn enrol_and_log(run: &mut Run<'_, $db>, id: i64) -> Result<i64, sqlx::Error> {
                run.tx_step("enrol", async |tx| {
                    sqlx::raw_sql("INSERT INTO members (id) VALUES (42)").execute(&mut **tx).await.map(drop)
                })
                .await?;
                run.tx_step("log", async |tx| {
                    sqlx::raw_sql("INSERT INTO log (id) VALUES (42)").execute(&mut **tx).await.map(drop)
                })
                .await?;
                Ok(id)
            }

            #[tokio::test]
            async fn a_leased_job_has_a_single_effect_although_its_lease_passes_anywhere() {
                let scenario = Scenario::new(EnrolAndLog { id: 42 }).setup(tables);
                let Some(report) = check_zombie(scenario).await else { return };
                let [PlanReport { hit, windows, skipped: None, took, .. }] = &*report.plans else {
                    panic!("{report}")
                };
                assert!(*hit >= 20 && hit == windows, "{report}");
                println!("{hit} zombies took {took:?}");
            }

            /// A step that commits first and then asks whether its run has the key.
            #[cfg(feature = "sqlite")]
            #[tokio::test]
            async fn a_worker_that_stands_still_in_the_transaction_of_a_step_is_tried_too() {
                let scenario = Scenario::new(EnrolAndLog { id: 42 }).setup(tables).store(|good| {
                    Arc::new(faults::BrokenStore { good, fault: Arc::new(faults::StepsAfterwards) })
                });
                let schedule = "zombie/after-BEGIN/beside";
                let report = idem_testkit::examine_schedule(&scenario, schedule).await;
                let Some(report) = report.expect("the scenario is sound") else { return };
                let failure = report.failure.expect("the second row is found");
                assert_eq!(failure.schedule, schedule);
                assert!(failure.what.ends_with("after another one had taken the key over"), "{failure:#?}");
            }
        }
    };
}

on_a_server!(postgres, Postgres, "postgres");
on_a_server!(mysql, MySql, "mysql");

#[cfg(feature = "sqlite")]
mod sqlite {
    use sqlx::Sqlite;

    use super::*;

    #[idempotent(key = id)]
    async fn enrol_member(tx: &mut Tx<'_, Sqlite>, id: i64) -> Result<i64, sqlx::Error> {
        sqlx::raw_sql("CREATE TABLE members AS SELECT 42 AS id").execute(&mut **tx).await?;
        Ok(id)
    }

    #[tokio::test]
    async fn a_database_without_a_server_skips_the_plan_and_says_why() {
        let report = check_zombie(Scenario::new(EnrolMember { id: 42 })).await.expect("SQLite is there");
        let [PlanReport { hit: 0, skipped: Some(why), .. }] = &*report.plans else { panic!("{report}") };
        assert!(why.starts_with("there is no server to lose the connection to"), "{why}");
    }

    #[idempotent(key = id, retain = none, in_doubt = rerun)]
    async fn tally_members(run: &mut Run<'_, Sqlite>, id: i64) -> Result<i64, sqlx::Error> {
        run.tx_step("tally", async |tx| {
            sqlx::raw_sql("UPDATE tally SET members = 1").execute(&mut **tx).await?;
            Ok(id)
        })
        .await
    }

    #[tokio::test]
    async fn a_leased_job_without_records_may_be_done_again_behind_a_worker_that_had_done_it() {
        let scenario = Scenario::new(TallyMembers { id: 42 }).setup(async |lab| {
            let sql = "CREATE TABLE tally AS SELECT 0 AS members";
            sqlx::raw_sql(sql).execute(&lab.pool(1)).await?;
            Ok(())
        });
        let report = check_zombie(scenario).await.expect("SQLite is there");
        let [PlanReport { hit, windows, skipped: None, .. }] = &*report.plans else { panic!("{report}") };
        assert!(*hit >= 4 && hit == windows, "{report}");
    }
}
