//! What a job answers.

macro_rules! tests {
    () => {
        use std::sync::Arc;
        use std::time::Duration;

        use idem_runtime::{Done, Error, Idem, StoreErrorKind};

        use crate::jobs::{Gateway, PaymentError, Receipt, Verdict, World};

        fn world() -> State {
            Arc::new(World::default())
        }

        fn receipt(payment: i64) -> Receipt {
            Receipt { charge: format!("ch_{payment}") }
        }

        #[tokio::test]
        async fn the_first_run_executes_and_every_other_one_replays_its_result() {
            let Some(lab) = lab().await else { return };
            let world = world();
            let idem = idem(&lab, &world).await;
            assert_eq!(charge(&idem, 42, 5).await.unwrap(), Done::Executed(receipt(42)));
            for _ in 0..6 {
                assert_eq!(charge(&idem, 42, 5).await.unwrap(), Done::Replayed(receipt(42)));
            }
            let other_process = idem_on(lab.pool(2), &world).await;
            assert_eq!(charge(&other_process, 42, 5).await.unwrap(), Done::Replayed(receipt(42)));
            assert_eq!((effects(&lab).await, world.bodies()), (1, 1));
            assert_eq!(charge(&idem, 43, 5).await.unwrap(), Done::Executed(receipt(43)));
            assert_eq!(effects(&lab).await, 2);
        }

        #[tokio::test]
        async fn a_job_as_a_value_is_the_same_job() {
            let Some(lab) = lab().await else { return };
            let idem = idem(&lab, &world()).await;
            assert!(charge(&idem, 42, 5).await.unwrap().is_executed());
            assert!(idem.run(Charge { payment: 42, amount: 5 }).await.unwrap().is_replayed());
            assert_eq!(effects(&lab).await, 1);
        }

        #[tokio::test]
        async fn the_same_key_with_other_arguments_is_refused_and_names_both_fingerprints() {
            let Some(lab) = lab().await else { return };
            let idem = idem(&lab, &world()).await;
            let _ = charge(&idem, 42, 5).await.unwrap();
            // Once through an open transaction and, when replays are expected, through a plain read.
            for _ in 0..4 {
                let Error::KeyReused(reused) = charge(&idem, 42, 6).await.unwrap_err() else { panic!("not refused") };
                assert_eq!((reused.job, reused.key.as_str()), ("charge", "42"));
                assert_ne!(reused.recorded, reused.given);
            }
            assert_eq!(effects(&lab).await, 1);
        }

        #[tokio::test]
        async fn a_failed_body_leaves_nothing_and_the_key_free() {
            let Some(lab) = lab().await else { return };
            let world = world();
            let idem = idem(&lab, &world).await;
            world.set_gateway(Gateway::IsDown);
            for _ in 0..2 {
                assert!(matches!(pay(&idem, 42).await, Err(Error::Job(PaymentError::Down))));
                assert_eq!(effects(&lab).await, 0);
            }
            world.set_gateway(Gateway::Charges);
            assert_eq!(pay(&idem, 42).await.unwrap(), Done::Executed(receipt(42)));
            assert_eq!((effects(&lab).await, world.bodies()), (1, 3));
        }

        #[tokio::test]
        async fn a_duplicate_at_the_callee_is_adopted_as_success() {
            let Some(lab) = lab().await else { return };
            let world = world();
            let idem = idem(&lab, &world).await;
            world.set_gateway(Gateway::SaysDuplicate);
            let first = Receipt { charge: String::from("ch_first") };
            assert_eq!(pay(&idem, 42).await.unwrap(), Done::Adopted(first.clone()));
            assert_eq!(pay(&idem, 42).await.unwrap(), Done::Replayed(first));
            // What the body did before the error is undone; what the adoption does is not.
            assert_eq!(effects(&lab).await, 0);
            assert_eq!(count(&lab, "SELECT count(*) FROM payments WHERE charge = 'ch_first'").await, 1);
            assert_eq!(world.bodies(), 1);
        }

        #[tokio::test]
        async fn work_that_the_business_state_shows_done_is_adopted_without_a_body() {
            let Some(lab) = lab().await else { return };
            let world = world();
            let idem = idem(&lab, &world).await;
            sqlx::query("UPDATE payments SET charge = 'by hand' WHERE id = 42")
                .execute(&mut lab.connect().await)
                .await
                .unwrap();
            let by_hand = Receipt { charge: String::from("by hand") };
            assert_eq!(pay(&idem, 42).await.unwrap(), Done::Adopted(by_hand.clone()));
            assert_eq!(pay(&idem, 42).await.unwrap(), Done::Replayed(by_hand));
            assert_eq!((effects(&lab).await, world.bodies()), (0, 0));
        }

        /// Somebody else pays by hand while the job waits for the row.
        #[tokio::test]
        async fn a_check_sees_the_row_as_it_is_once_it_is_locked() {
            use sqlx::Connection as _;

            let Some(waiting) = <Db as crate::answers::Waits>::WAITING else { return };
            let Some(lab) = lab().await else { return };
            let world = world();
            let idem = idem(&lab, &world).await;
            idem.enrol::<Pay>().await.unwrap();
            let mut other = lab.connect().await;
            let mut by_hand = other.begin().await.unwrap();
            let sql = "UPDATE payments SET charge = 'by hand' WHERE id = 42";
            sqlx::query(sql).execute(&mut *by_hand).await.unwrap();
            let (paid, ()) = tokio::join!(pay(&idem, 42), async {
                while count(&lab, waiting).await == 0 {
                    // InnoDB shows the same picture again to whoever looks more often than every 100 ms.
                    tokio::time::sleep(Duration::from_millis(150)).await;
                }
                by_hand.commit().await.unwrap();
            });
            assert_eq!(paid.unwrap(), Done::Adopted(Receipt { charge: String::from("by hand") }));
            assert_eq!((effects(&lab).await, world.bodies()), (0, 0));
        }

        /// Whoever holds the row does other work, so there is nobody to leave this one to.
        #[tokio::test]
        async fn a_run_leaves_nothing_to_whoever_holds_its_row() {
            use sqlx::Connection as _;

            if <Db as crate::answers::Waits>::WAITING.is_none() {
                return;
            }
            let Some(lab) = lab().await else { return };
            let idem = idem(&lab, &world()).await;
            idem.enrol::<ChargeRowOrSkip>().await.unwrap();
            let mut other = lab.connect().await;
            let mut by_hand = other.begin().await.unwrap();
            let sql = "UPDATE payments SET charge = 'by hand' WHERE id = 42";
            sqlx::query(sql).execute(&mut *by_hand).await.unwrap();
            let error = charge_row_or_skip(&idem, 42).await.unwrap_err();
            assert!(error.is_retryable(), "{error}");
            let Error::Busy(busy) = &error else { panic!("{error}") };
            assert_eq!((busy.skipped, busy.row_of), (false, Some("payments")));
            assert!(error.to_string().contains("another transaction has it; nothing was done"), "{error}");
            by_hand.commit().await.unwrap();
            assert!(charge_row_or_skip(&idem, 42).await.unwrap().is_executed());
            assert_eq!(effects(&lab).await, 1);
        }

        #[tokio::test]
        async fn a_business_row_that_does_not_exist_is_named() {
            let Some(lab) = lab().await else { return };
            let world = world();
            let idem = idem(&lab, &world).await;
            let Error::RowNotFound(error) = pay(&idem, 999).await.unwrap_err() else { panic!("found") };
            assert_eq!((error.job, error.table, error.column, error.key.as_str()), ("pay", "payments", "id", "999"));
            assert_eq!(world.bodies(), 0);
        }

        #[tokio::test]
        async fn a_violated_constraint_is_adopted_by_its_name_and_no_other() {
            let Some(lab) = lab().await else { return };
            let idem = idem(&lab, &world()).await;
            let id = subscribe(&idem, 7, 1).await.unwrap();
            assert!(id.is_executed());
            assert_eq!(effects(&lab).await, 1);
            assert_eq!(subscribe(&idem, 7, 2).await.unwrap(), Done::Adopted(*id));
            assert_eq!(subscribe(&idem, 7, 2).await.unwrap(), Done::Replayed(*id));
            assert!(matches!(subscribe_wrongly(&idem, 7).await, Err(Error::Job(PaymentError::Database(_)))));
            assert_eq!(effects(&lab).await, 1);
            assert_eq!(count(&lab, "SELECT count(*) FROM subscriptions").await, 1);
        }

        #[tokio::test]
        async fn a_final_error_is_replayed_and_any_other_runs_again() {
            let Some(lab) = lab().await else { return };
            let world = world();
            let idem = idem(&lab, &world).await;
            world.set_gateway(Gateway::IsDown);
            assert!(matches!(judge(&idem, 42).await, Err(Error::Job(Verdict::Down))));
            world.set_gateway(Gateway::Declines);
            let declined = Verdict::Declined(Some(None));
            assert_eq!(judge(&idem, 42).await.unwrap_err().into_job().unwrap(), declined);
            world.set_gateway(Gateway::Charges);
            for _ in 0..4 {
                assert_eq!(judge(&idem, 42).await.unwrap_err().into_job().unwrap(), declined);
            }
            // The body's effect is undone, its verdict is not.
            assert_eq!((effects(&lab).await, world.bodies()), (0, 2));
        }

        #[tokio::test]
        async fn a_job_that_keeps_no_record_runs_every_time() {
            let Some(lab) = lab().await else { return };
            let idem = idem(&lab, &world()).await;
            for _ in 0..3 {
                assert!(sync_payment(&idem, 42).await.unwrap().is_executed());
            }
            assert_eq!(effects(&lab).await, 3);
            assert_eq!(count(&lab, "SELECT count(*) FROM idem_records").await, 0);
        }

        #[tokio::test]
        async fn a_body_over_its_limit_is_undone_and_the_key_is_free() {
            let Some(lab) = lab().await else { return };
            let world = Arc::new(World::gated());
            let idem = idem(&lab, &world).await;
            let error = hang(&idem, 42).await.unwrap_err();
            assert!(matches!(&error, Error::Timeout(timeout) if timeout.limit == Duration::from_millis(100)), "{error}");
            assert!(error.is_retryable());
            world.open_gate();
            // In another process, whose job of that name has more time.
            let other = self::idem(&lab, &world).await;
            assert!(hang_on(&other, 42).await.unwrap().is_executed());
            assert_eq!(effects(&lab).await, 1);
        }

        #[tokio::test]
        async fn a_result_over_the_limit_is_an_error_and_nothing_is_done() {
            let Some(lab) = lab().await else { return };
            let idem = idem(&lab, &world()).await;
            let error = grow(&idem, 42, 1024 * 1024 + 1).await.unwrap_err();
            let Error::Store(error) = error else { panic!("{error}") };
            assert_eq!(error.kind(), StoreErrorKind::Unrecordable);
            assert!(error.to_string().contains("`grow`"), "{error}");
            assert_eq!(effects(&lab).await, 0);
            let bytes = 1024 * 1024 - 64;
            assert_eq!(grow(&idem, 43, bytes).await.unwrap().len(), bytes);
            assert_eq!(grow(&idem, 43, bytes).await.unwrap(), Done::Replayed("x".repeat(bytes)));
        }

        #[tokio::test]
        async fn a_record_that_cannot_be_read_any_more_is_an_error_and_never_a_second_run() {
            let Some(lab) = lab().await else { return };
            let old = idem(&lab, &world()).await;
            let _ = before::version_one(&old, 42).await.unwrap();
            let new = idem(&lab, &world()).await;
            for _ in 0..3 {
                let error = before::version_two(&new, 42).await.unwrap_err();
                let Error::Store(error) = error else { panic!("{error}") };
                assert_eq!(error.kind(), StoreErrorKind::Unreadable);
                let text = error.to_string();
                assert!(text.contains("`versioned`") && text.contains("`42`") && text.contains("`[0]`"), "{text}");
            }
            assert_eq!(effects(&lab).await, 1);
        }

        #[tokio::test]
        async fn a_savepoint_inside_a_job_never_ends_its_transaction() {
            let Some(lab) = lab().await else { return };
            let idem = idem(&lab, &world()).await;
            for payment in 0..3 {
                assert!(nest(&idem, payment).await.unwrap().is_executed());
                assert!(nest(&idem, payment).await.unwrap().is_replayed());
            }
            assert_eq!(effects(&lab).await, 3);
        }

        #[tokio::test]
        async fn a_nested_begin_that_fails_records_nothing_and_spoils_no_other_run() {
            let Some(lab) = lab().await else { return };
            let idem = idem_on(lab.pool(1), &world()).await;
            for notice in [false, true, false] {
                let error = nest_wrongly(&idem, 42, notice).await.unwrap_err();
                assert_eq!(matches!(error, Error::Job(_)), notice, "{error}");
                assert_eq!(effects(&lab).await, 0);
                assert_eq!(count(&lab, "SELECT count(*) FROM idem_records").await, 0);
            }
            for payment in 0..3 {
                assert!(nest(&idem, payment).await.unwrap().is_executed());
            }
            assert_eq!(effects(&lab).await, 3);
        }

        /// A job whose records were switched off runs alone for its key also while old records are there.
        #[tokio::test]
        async fn a_job_without_records_is_locked_beside_an_old_record() {
            let Some(lab) = lab().await else { return };
            let open = world();
            let _ = charge_or_wait(&idem(&lab, &open).await, 42).await.unwrap();
            let world = Arc::new(World::gated());
            let here = idem(&lab, &world).await;
            let options = sqlx::pool::PoolOptions::new();
            let there = idem_on(
                options.max_connections(2).connect_lazy_with(crate::answers::impatient::<Db>(&lab)),
                &world,
            )
            .await;
            there.enrol::<ChargeUnrecorded>().await.unwrap();
            let (held, refused) = tokio::join!(charge_unrecorded(&here, 42), async {
                world.reached().await;
                let refused = charge_unrecorded(&there, 42).await;
                world.open_gate();
                refused
            });
            assert!(held.unwrap().is_executed());
            assert!(refused.unwrap_err().is_retryable());
            assert!(charge_unrecorded(&there, 42).await.unwrap().is_executed());
            assert_eq!(effects(&lab).await, 3);
        }

        /// The transaction of a replay ends behind its answer; until then it is no run that has the key.
        #[tokio::test]
        async fn what_follows_a_replay_at_once_is_answered_too() {
            let Some(lab) = lab().await else { return };
            let idem = idem(&lab, &world()).await;
            for payment in 0..20 {
                let _ = charge_or_fail(&idem, payment).await.unwrap();
                // The first of a key opens a transaction, as long as no replays are expected.
                for _ in 0..2 {
                    assert!(charge_or_fail(&idem, payment).await.unwrap().is_replayed());
                }
            }
            assert_eq!(effects(&lab).await, 20);
        }

        /// Replays that meet in one process are not busy with anything.
        #[tokio::test]
        async fn replays_at_once_are_answered_also_where_nobody_waits() {
            let Some(lab) = lab().await else { return };
            let idem = idem(&lab, &world()).await;
            let _ = charge_or_skip(&idem, 42).await.unwrap();
            for _ in 0..4 {
                let (one, other) = tokio::join!(charge_or_skip(&idem, 42), charge_or_skip(&idem, 42));
                assert!(one.unwrap().is_replayed() && other.unwrap().is_replayed());
            }
        }

        #[tokio::test]
        async fn a_run_that_does_not_wait_is_told_at_once() {
            let Some(lab) = lab().await else { return };
            let world = Arc::new(World::gated());
            let idem = idem(&lab, &world).await;
            let (holder, waited) = tokio::join!(charge_or_fail(&idem, 42), async {
                world.reached().await;
                let mut waited = Duration::MAX;
                // One of them may have to connect first, and the machine may be busy with something else.
                for _ in 0..100 {
                    if waited < Duration::from_millis(50) {
                        break;
                    }
                    let error = charge_or_fail(&idem, 42).await.unwrap_err();
                    assert!(error.is_retryable());
                    let Error::Busy(busy) = error else { panic!("{error}") };
                    assert!(!busy.skipped);
                    waited = waited.min(busy.waited);
                }
                world.open_gate();
                waited
            });
            assert!(holder.unwrap().is_executed());
            assert!(waited < Duration::from_millis(50), "{waited:?}");
            assert!(charge_or_fail(&idem, 42).await.unwrap().is_replayed());
        }

        #[tokio::test]
        async fn a_run_that_leaves_the_work_to_the_other_one_is_not_worth_a_retry() {
            let Some(lab) = lab().await else { return };
            let world = Arc::new(World::gated());
            let idem = idem(&lab, &world).await;
            let (holder, skipped) = tokio::join!(charge_or_skip(&idem, 42), async {
                world.reached().await;
                let skipped = charge_or_skip(&idem, 42).await;
                world.open_gate();
                skipped
            });
            assert!(holder.unwrap().is_executed());
            let error = skipped.unwrap_err();
            assert!(matches!(&error, Error::Busy(busy) if busy.skipped), "{error}");
            assert!(!error.is_retryable());
        }

        #[tokio::test]
        async fn a_run_that_waits_gives_up_in_time_here_and_in_another_process() {
            let Some(lab) = lab().await else { return };
            let world = Arc::new(World::gated());
            let here = idem(&lab, &world).await;
            let options = sqlx::pool::PoolOptions::new();
            let there = idem_on(options.max_connections(2).connect_lazy_with(crate::answers::impatient::<Db>(&lab)), &world).await;
            // Known beforehand, since making a job known writes.
            there.enrol::<ChargeOrWait>().await.unwrap();
            let (holder, busy) = tokio::join!(charge_or_wait(&here, 42), async {
                world.reached().await;
                let busy = [charge_or_wait(&here, 42).await, charge_or_wait(&there, 42).await];
                world.open_gate();
                busy
            });
            assert!(holder.unwrap().is_executed());
            for busy in busy {
                let error = busy.unwrap_err();
                // SQLite cannot tell whose transaction it waits for.
                assert!(matches!(&error, Error::Busy(_)) || matches!(&error, Error::Store(e) if e.kind() == StoreErrorKind::Conflict), "{error}");
                assert!(error.is_retryable());
            }
            assert!(charge_or_wait(&there, 42).await.unwrap().is_replayed());
            assert_eq!(effects(&lab).await, 1);
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn sixteen_runs_at_once_in_two_processes_have_one_effect_and_one_answer() {
            let Some(lab) = lab().await else { return };
            let world = world();
            let handles = [idem(&lab, &world).await, idem(&lab, &world).await];
            for payment in 0..10 {
                let barrier = Arc::new(tokio::sync::Barrier::new(16));
                let runs: Vec<_> = (0..16)
                    .map(|n: usize| {
                        let (idem, barrier) = (handles[n % 2].clone(), Arc::clone(&barrier));
                        tokio::spawn(async move {
                            barrier.wait().await;
                            charge(&idem, payment, 5).await.unwrap()
                        })
                    })
                    .collect();
                let mut executed = 0;
                for run in runs {
                    let done = run.await.unwrap();
                    executed += u32::from(done.is_executed());
                    assert_eq!(*done, receipt(payment));
                }
                assert_eq!(executed, 1);
            }
            assert_eq!((effects(&lab).await, world.bodies()), (10, 10));
        }

        #[tokio::test]
        async fn the_loser_of_a_race_without_a_lock_returns_the_winners_result() {
            let Some(lab) = lab().await else { return };
            if <Db as sqlx::Database>::NAME == "SQLite" {
                // SQLite has one writer at a time, so there is no race to lose.
                return;
            }
            let world = Arc::new(World::gated());
            let idem = idem(&lab, &world).await;
            let (one, other, ()) = tokio::join!(charge_unlocked(&idem, 1_000), charge_unlocked(&idem, 1_000), async {
                while world.bodies() < 2 {
                    world.reached().await;
                }
                world.open_gate();
            });
            let (one, other) = (one.unwrap(), other.unwrap());
            assert_eq!(*one, *other);
            assert_eq!(u32::from(one.is_executed()) + u32::from(other.is_executed()), 1);
            assert_eq!((effects(&lab).await, world.bodies()), (1, 2));
        }

        #[tokio::test]
        async fn namespaces_do_not_know_each_other() {
            let Some(lab) = lab().await else { return };
            let build = |namespace: &str| {
                Idem::builder(lab.pool(2)).namespace(namespace).state(world()).build().unwrap()
            };
            let (billing, shipping) = (build("billing"), build("shipping"));
            billing.migrate().await.unwrap();
            assert!(charge(&billing, 42, 5).await.unwrap().is_executed());
            assert!(charge(&shipping, 42, 5).await.unwrap().is_executed());
            assert!(charge(&build("billing"), 42, 5).await.unwrap().is_replayed());
            assert_eq!(effects(&lab).await, 2);
        }

        #[tokio::test]
        async fn equal_keys_in_two_places_of_one_server_do_not_wait_for_each_other() {
            let (Some(one), Some(other)) = (lab().await, lab().await) else { return };
            let world = Arc::new(World::gated());
            let holder = idem(&one, &world).await;
            let free = idem(&other, &self::world()).await;
            let (held, free) = tokio::join!(charge(&holder, 42, 5), async {
                world.reached().await;
                let done = charge(&free, 42, 5).await;
                world.open_gate();
                done
            });
            assert!(held.unwrap().is_executed() && free.unwrap().is_executed());
        }

        #[tokio::test]
        async fn names_that_cannot_stand_in_sql_are_refused() {
            let Some(lab) = lab().await else { return };
            for prefix in ["", "1x", "a-b", "x; DROP TABLE y", "ä", &"x".repeat(33)] {
                let error = Idem::builder(lab.pool(1)).table_prefix(prefix).build().unwrap_err();
                assert_eq!(error.kind(), StoreErrorKind::Misconfigured, "{prefix:?}");
            }
            for namespace in ["", "a b", "a'b", &"x".repeat(65)] {
                let error = Idem::builder(lab.pool(1)).namespace(namespace).build().unwrap_err();
                assert_eq!(error.kind(), StoreErrorKind::Misconfigured, "{namespace:?}");
            }
        }

        #[tokio::test]
        async fn a_row_that_does_not_exist_in_the_schema_shows_at_start_up() {
            let Some(lab) = lab().await else { return };
            let idem = idem(&lab, &world()).await;
            let error = idem.enrol::<Misnamed>().await.unwrap_err();
            assert_eq!(error.kind(), StoreErrorKind::UnknownRow);
            assert!(error.to_string().contains("payments.idd"), "{error}");
            assert!(matches!(misnamed(&idem, 42).await, Err(Error::Store(_))));
            assert_eq!(effects(&lab).await, 0);
        }

        #[tokio::test]
        async fn two_jobs_with_one_name_do_not_answer_for_each_other() {
            let Some(lab) = lab().await else { return };
            let idem = idem(&lab, &world()).await;
            idem.enrol::<before::VersionOne>().await.unwrap();
            let error = idem.enrol::<before::VersionTwo>().await.unwrap_err();
            assert_eq!(error.kind(), StoreErrorKind::NameTaken);
        }

        #[tokio::test]
        async fn missing_tables_say_what_to_do() {
            let Some(lab) = lab().await else { return };
            let idem = Idem::builder(lab.pool(1)).state(world()).build().unwrap();
            let Error::Store(error) = charge(&idem, 42, 5).await.unwrap_err() else { panic!() };
            assert_eq!(error.kind(), StoreErrorKind::NotMigrated);
            assert!(error.to_string().contains("Idem::migrate"), "{error}");
        }

        #[tokio::test]
        async fn a_closed_pool_is_an_error_and_no_hang() {
            let Some(lab) = lab().await else { return };
            let pool = lab.pool(1);
            let idem = idem_on(pool.clone(), &world()).await;
            pool.close().await;
            let Error::Store(error) = charge(&idem, 42, 5).await.unwrap_err() else { panic!() };
            assert_eq!((error.kind(), error.is_temporary()), (StoreErrorKind::Unavailable, false));
        }

        #[tokio::test]
        async fn the_printed_migration_makes_the_same_tables() {
            let Some(lab) = lab().await else { return };
            let idem = Idem::builder(lab.pool(1)).state(world()).build().unwrap();
            sqlx::raw_sql(sqlx::AssertSqlSafe(idem.migration_sql())).execute(&mut lab.connect().await).await.unwrap();
            idem.migrate().await.unwrap();
            assert!(charge(&idem, 42, 5).await.unwrap().is_executed());
        }

        #[tokio::test]
        async fn a_sweep_deletes_what_has_expired_and_nothing_else() {
            let Some(lab) = lab().await else { return };
            let idem = idem(&lab, &world()).await;
            for payment in 0..20 {
                let _ = charge(&idem, payment, 5).await.unwrap();
            }
            let _ = grow(&idem, 1, 1).await.unwrap();
            let sql = "UPDATE idem_records SET expires_at = completed_at WHERE readable IN ('1', '2', '3')";
            sqlx::query(sql).execute(&mut lab.connect().await).await.unwrap();
            let sql = "UPDATE idem_records SET expires_at = NULL WHERE readable = '1' AND job = (SELECT id FROM idem_jobs WHERE name = 'grow')";
            sqlx::query(sql).execute(&mut lab.connect().await).await.unwrap();
            assert_eq!(idem.sweep().await.unwrap(), 3);
            assert_eq!(idem.sweep().await.unwrap(), 0);
            assert_eq!(count(&lab, "SELECT count(*) FROM idem_records").await, 18);
            assert!(charge(&idem, 1, 5).await.unwrap().is_executed());
            assert!(charge(&idem, 4, 5).await.unwrap().is_replayed());
        }

        #[tokio::test]
        async fn an_expired_record_answers_no_more_even_before_it_is_swept() {
            let Some(lab) = lab().await else { return };
            let idem = idem(&lab, &world()).await;
            let _ = charge(&idem, 42, 5).await.unwrap();
            for _ in 0..3 {
                assert!(charge(&idem, 42, 5).await.unwrap().is_replayed());
            }
            let sql = "UPDATE idem_records SET expires_at = completed_at";
            sqlx::query(sql).execute(&mut lab.connect().await).await.unwrap();
            assert!(charge(&idem, 42, 6).await.unwrap().is_executed());
            assert!(charge(&idem, 42, 6).await.unwrap().is_replayed());
            assert_eq!(effects(&lab).await, 2);
        }
    };
}

/// Tells how many transactions in this database wait for a row.
trait Waits {
    /// `None` where there are no locks of rows to wait for.
    const WAITING: Option<&'static str>;
}

impl Waits for sqlx::Sqlite {
    const WAITING: Option<&'static str> = None;
}

#[cfg(feature = "postgres")]
impl Waits for sqlx::Postgres {
    const WAITING: Option<&'static str> = Some(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' \
         AND query LIKE '%FROM payments WHERE id = ''42''%'",
    );
}

#[cfg(feature = "mysql")]
impl Waits for sqlx::MySql {
    const WAITING: Option<&'static str> = Some(
        "SELECT count(*) FROM information_schema.innodb_trx t JOIN information_schema.processlist p \
         ON p.id = t.trx_mysql_thread_id WHERE t.trx_state = 'LOCK WAIT' AND p.db = DATABASE()",
    );
}

/// How to connect for those who do not wait long for the database itself.
trait Impatient: idem_testkit::lab::LabDatabase {
    fn impatient(options: idem_testkit::lab::OptionsOf<Self>) -> idem_testkit::lab::OptionsOf<Self> {
        options
    }
}

impl Impatient for sqlx::Sqlite {
    fn impatient(options: sqlx::sqlite::SqliteConnectOptions) -> sqlx::sqlite::SqliteConnectOptions {
        options.busy_timeout(std::time::Duration::from_millis(50))
    }
}

#[cfg(feature = "postgres")]
impl Impatient for sqlx::Postgres {}

#[cfg(feature = "mysql")]
impl Impatient for sqlx::MySql {}

fn impatient<D: Impatient>(lab: &idem_testkit::lab::Lab<D>) -> idem_testkit::lab::OptionsOf<D> {
    D::impatient(lab.options())
}

on_each_database!(tests);
