//! Connections that break, servers that refuse, poolers in between.

/// Lets all tasks of the runtime go on to where they wait.
#[cfg(any(feature = "postgres", feature = "mysql"))]
async fn everybody_waits() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

/// Lets a minute pass for whoever waits.
#[cfg(any(feature = "postgres", feature = "mysql"))]
async fn pass_a_minute() {
    everybody_waits().await;
    tokio::time::pause();
    tokio::time::advance(std::time::Duration::from_secs(61)).await;
    tokio::time::resume();
}

/// Runs a job, and has it lose a message from the middle of its body on. What other connections send as they are made, or end
/// what came before, is not lost.
async fn lose_in_body<T>(run: impl Future<Output = T>, world: &crate::jobs::World, lose: impl FnOnce()) -> T {
    let (ended, ()) = tokio::join!(run, async {
        world.reached().await;
        lose();
        world.let_one_pass();
    });
    ended
}

macro_rules! tests {
    () => {
        use std::sync::Arc;
        use std::time::Duration;

        use idem_runtime::{Error, StoreErrorKind};
        use idem_testkit::lab::LabDatabase;
        use idem_testkit::proxy::Loss;

        use super::lose_in_body;
        use crate::jobs::{Gateway, Receipt, Verdict, World};

        fn world() -> State {
            Arc::new(World::default())
        }

        #[tokio::test]
        async fn a_lost_answer_to_commit_is_looked_up_and_not_repeated() {
            let Some(lab) = lab().await else { return };
            let Some((proxy, options)) = Db::proxy(&lab.options(), Duration::ZERO).await else { return };
            let world = Arc::new(World::gated());
            let pool = sqlx::pool::PoolOptions::<Db>::new().max_connections(3).connect_lazy_with(options);
            let idem = idem_on(pool, &world).await;
            let _ = lose_in_body(charge(&idem, 1, 5), &world, || ()).await.unwrap();
            for payment in 42..47 {
                let lose = || proxy.lose(Loss::Answer, "COMMIT");
                let done = lose_in_body(charge(&idem, payment, 5), &world, lose).await.unwrap();
                assert!(!proxy.is_loss_pending(), "the connection did not break");
                assert!(done.is_replayed());
                assert_eq!(*done, Receipt { charge: format!("ch_{payment}") });
                assert!(charge(&idem, payment, 5).await.unwrap().is_replayed());
            }
            assert_eq!((effects(&lab).await, world.bodies()), (6, 6));
            // The same for an error that is recorded.
            world.set_gateway(Gateway::Declines);
            idem.enrol::<Judge>().await.unwrap();
            let declined = lose_in_body(judge(&idem, 42), &world, || proxy.lose(Loss::Answer, "COMMIT")).await;
            assert!(matches!(declined, Err(Error::Job(Verdict::Declined(Some(None))))));
            assert!(!proxy.is_loss_pending());
            assert_eq!(world.bodies(), 7);
        }

        #[tokio::test]
        async fn a_commit_that_never_arrived_is_worth_a_retry_and_left_nothing() {
            let Some(lab) = lab().await else { return };
            let Some((proxy, options)) = Db::proxy(&lab.options(), Duration::ZERO).await else { return };
            let world = world();
            let pool = sqlx::pool::PoolOptions::<Db>::new().max_connections(3).connect_lazy_with(options);
            let idem = idem_on(pool, &world).await;
            let _ = charge(&idem, 1, 5).await.unwrap();
            for payment in 42..47 {
                proxy.lose(Loss::Request, "COMMIT");
                let error = charge(&idem, payment, 5).await.unwrap_err();
                assert!(matches!(&error, Error::Store(e) if e.kind() == StoreErrorKind::Unavailable), "{error}");
                assert!(error.is_retryable(), "{error}");
                assert!(charge(&idem, payment, 5).await.unwrap().is_executed());
            }
            assert_eq!(effects(&lab).await, 6);
        }

        #[tokio::test]
        async fn without_a_record_a_lost_answer_to_commit_is_an_unknown_outcome() {
            let Some(lab) = lab().await else { return };
            let Some((proxy, options)) = Db::proxy(&lab.options(), Duration::ZERO).await else { return };
            let pool = sqlx::pool::PoolOptions::<Db>::new().max_connections(3).connect_lazy_with(options);
            let idem = idem_on(pool, &world()).await;
            let _ = sync_payment(&idem, 42).await.unwrap();
            proxy.lose(Loss::Answer, "COMMIT");
            let Error::Store(error) = sync_payment(&idem, 42).await.unwrap_err() else { panic!() };
            assert_eq!((error.kind(), error.is_temporary()), (StoreErrorKind::OutcomeUnknown, true));
        }

        #[tokio::test]
        async fn connections_that_died_while_idle_are_replaced_without_an_error() {
            let Some(lab) = lab().await else { return };
            let Some((proxy, options)) = Db::proxy(&lab.options(), Duration::ZERO).await else { return };
            let pool = sqlx::pool::PoolOptions::<Db>::new().max_connections(1).connect_lazy_with(options);
            let idem = idem_on(pool, &world()).await;
            for payment in 0..5 {
                assert!(charge(&idem, payment, 5).await.unwrap().is_executed());
                proxy.lose(Loss::Request, "BEGIN");
                assert!(charge(&idem, payment + 100, 5).await.unwrap().is_executed());
                assert!(!proxy.is_loss_pending());
            }
            for _ in 0..3 {
                assert!(charge(&idem, 0, 5).await.unwrap().is_replayed());
            }
            assert_eq!(effects(&lab).await, 10);
        }
    };
}

on_each_database!(tests);

#[cfg(any(feature = "postgres", feature = "mysql"))]
macro_rules! server_tests {
    (read_only: $read_only:literal) => {
        use std::sync::Arc;
        use std::sync::atomic::{AtomicBool, Ordering};
        use std::time::Duration;

        use idem_runtime::{Error, StoreErrorKind};
        use idem_testkit::lab::LabDatabase;

        use super::{everybody_waits, pass_a_minute};
        use crate::jobs::World;

        #[tokio::test]
        async fn a_commit_that_is_never_answered_is_looked_up() {
            let Some(lab) = lab().await else { return };
            let Some((proxy, options)) = Db::proxy(&lab.options(), Duration::ZERO).await else { return };
            let world = Arc::new(World::gated());
            let pool = sqlx::pool::PoolOptions::<Db>::new().max_connections(3).connect_lazy_with(options);
            let idem = idem_on(pool, &world).await;
            idem.enrol::<Charge>().await.unwrap();
            let run = tokio::time::timeout(Duration::from_secs(90), charge(&idem, 42, 5));
            let (committed, ()) = tokio::join!(run, async {
                world.reached().await;
                proxy.silence();
                everybody_waits().await;
                world.open_gate();
                pass_a_minute().await;
            });
            let committed = committed.expect("it is given up");
            let Err(Error::Store(error)) = committed else { panic!("{committed:?}") };
            assert_eq!((error.kind(), error.is_temporary()), (StoreErrorKind::Unavailable, true), "{error}");
            assert_eq!(effects(&lab).await, 0);
            assert!(charge(&idem, 42, 5).await.unwrap().is_executed());
        }

        /// As after a switch-over, where the old primary goes on as a replica.
        #[tokio::test]
        async fn a_connection_that_may_only_read_by_now_fails_one_run() {
            let Some(lab) = lab().await else { return };
            let world = Arc::new(World::default());
            let _ = charge(&idem(&lab, &world).await, 1, 5).await.unwrap();
            let is_replica = Arc::new(AtomicBool::new(true));
            let now = Arc::clone(&is_replica);
            let pool = sqlx::pool::PoolOptions::<Db>::new()
                .max_connections(1)
                .after_connect(move |connection, _| {
                    let sql = if now.load(Ordering::SeqCst) { $read_only } else { "SELECT 1" };
                    Box::pin(async move { sqlx::raw_sql(sql).execute(connection).await.map(drop) })
                })
                .connect_lazy_with(lab.options());
            let idem = idem_on(pool, &world).await;
            // What is answered from a record does not mind.
            assert!(charge(&idem, 1, 5).await.unwrap().is_replayed());
            is_replica.store(false, Ordering::SeqCst);
            assert!(matches!(charge(&idem, 42, 5).await, Err(Error::Job(_))));
            assert!(charge(&idem, 42, 5).await.unwrap().is_executed());
        }
    };
}

#[cfg(feature = "postgres")]
mod postgres_silence {
    use crate::jobs::postgres::*;
    server_tests!(read_only: "SET default_transaction_read_only = on");
}

#[cfg(feature = "mysql")]
mod mysql_silence {
    use crate::jobs::mysql::*;
    server_tests!(read_only: "SET SESSION TRANSACTION READ ONLY");
}

mod sqlite_files {
    use std::sync::Arc;

    use idem_runtime::{Error, Idem, StoreErrorKind};
    use sqlx::SqlitePool;

    use crate::jobs::World;
    use crate::jobs::sqlite::*;

    #[tokio::test]
    async fn a_database_that_may_only_be_read_is_named_as_such() {
        let lab = lab().await.unwrap();
        let world = Arc::new(World::default());
        let writer = idem(&lab, &world).await;
        let _ = sync_payment(&writer, 1).await.unwrap();
        let pool = SqlitePool::connect_lazy_with(lab.options().read_only(true));
        let reader = Idem::builder(pool).state(world).build().unwrap();
        let Error::Store(error) = charge(&reader, 42, 5).await.unwrap_err() else { panic!() };
        assert_eq!((error.kind(), error.is_temporary()), (StoreErrorKind::ReadOnly, false), "{error}");
    }

    #[tokio::test]
    async fn a_private_in_memory_database_is_refused_and_a_shared_one_works() {
        let world = Arc::new(World::default());
        let private = sqlx::sqlite::SqliteConnectOptions::new().in_memory(true);
        let error = Idem::builder(SqlitePool::connect_lazy_with(private)).build().unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Misconfigured);
        let pool = SqlitePool::connect("sqlite::memory:").await.unwrap();
        sqlx::raw_sql(TABLES).execute(&pool).await.unwrap();
        let idem = idem_on(pool.clone(), &world).await;
        assert!(charge(&idem, 42, 5).await.unwrap().is_executed());
        assert!(charge(&idem, 42, 5).await.unwrap().is_replayed());
        let effects: i64 = sqlx::query_scalar("SELECT count(*) FROM charges").fetch_one(&pool).await.unwrap();
        assert_eq!(effects, 1);
    }

    #[tokio::test]
    async fn a_writer_in_another_process_is_a_conflict_worth_a_retry() {
        let lab = lab().await.unwrap();
        let world = Arc::new(World::default());
        let options = lab.options().busy_timeout(std::time::Duration::from_millis(20));
        let idem = idem_on(SqlitePool::connect_lazy_with(options), &world).await;
        idem.enrol::<ChargeOrFail>().await.unwrap();
        let mut other = lab.connect().await;
        sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
        let Error::Store(error) = charge_or_fail(&idem, 42).await.unwrap_err() else { panic!() };
        assert_eq!((error.kind(), error.is_temporary()), (StoreErrorKind::Conflict, true));
        sqlx::raw_sql("COMMIT").execute(&mut other).await.unwrap();
        assert!(charge_or_fail(&idem, 42).await.unwrap().is_executed());
    }
}

#[cfg(feature = "postgres")]
mod postgres_server {
    use std::sync::Arc;
    use std::time::Duration;

    use idem_runtime::{Error, Idem, StoreErrorKind};
    use idem_testkit::lab::LabDatabase as _;
    use idem_testkit::servers::Server;
    use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
    use sqlx::{AssertSqlSafe, ConnectOptions as _};

    use super::pass_a_minute;
    use crate::jobs::World;
    use crate::jobs::postgres::*;

    #[tokio::test]
    async fn a_server_that_may_only_be_read_is_named_as_such() {
        let Some(lab) = lab().await else { return };
        let world = Arc::new(World::default());
        let writer = idem(&lab, &world).await;
        let _ = charge(&writer, 1, 5).await.unwrap();
        writer.enrol::<Retired>().await.unwrap();
        let options = lab.options().options([("default_transaction_read_only", "on")]);
        let reader =
            Idem::builder(PgPoolOptions::new().connect_lazy_with(options)).state(world).build().unwrap();
        assert!(charge(&reader, 1, 5).await.unwrap().is_replayed());
        let Error::Store(error) = retired(&reader, 2).await.unwrap_err() else { panic!() };
        assert_eq!((error.kind(), error.is_temporary()), (StoreErrorKind::ReadOnly, false), "{error}");
    }

    /// Does nothing, so that the record is the first thing that is written.
    #[idem_runtime::idempotent(key = id)]
    async fn retired(tx: &mut idem_runtime::Tx<'_, sqlx::Postgres>, id: i64) -> Result<(), sqlx::Error> {
        let _ = (tx, id);
        Ok(())
    }

    /// Whatever becomes of a commit that was given up while the server was at it: what the run answers is so.
    #[tokio::test]
    async fn a_commit_that_takes_too_long_is_answered_as_it_ended() {
        let Some(lab) = lab().await else { return };
        let world = Arc::new(World::gated());
        let idem = idem(&lab, &world).await;
        idem.enrol::<Charge>().await.unwrap();
        sqlx::raw_sql(
            "CREATE FUNCTION check_long() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN PERFORM pg_sleep(1.5); RETURN NULL; END $$; \
             CREATE CONSTRAINT TRIGGER check_long AFTER INSERT ON charges DEFERRABLE INITIALLY DEFERRED \
             FOR EACH ROW EXECUTE FUNCTION check_long()",
        )
        .execute(&mut lab.connect().await)
        .await
        .unwrap();
        let began = std::time::Instant::now();
        let (committed, ()) = tokio::join!(charge(&idem, 42, 5), async {
            world.reached().await;
            world.open_gate();
            pass_a_minute().await;
        });
        let left = effects(&lab).await;
        match &committed {
            Ok(done) => assert!(done.is_replayed() && left == 1, "{done:?}, {left} effects"),
            Err(error) => assert!(error.is_retryable() && left == 0, "{error}, {left} effects"),
        }
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
        let again = charge(&idem, 42, 5).await.unwrap();
        assert_eq!((again.is_replayed(), effects(&lab).await), (committed.is_ok(), 1));
    }

    /// What is sent first asks for the key and does not wait for it.
    #[tokio::test]
    async fn a_begin_meets_silence_no_longer_than_a_read() {
        let Some(lab) = lab().await else { return };
        let Some((proxy, options)) = Db::proxy(&lab.options(), Duration::ZERO).await else { return };
        let pool = PgPoolOptions::new().max_connections(1).acquire_timeout(Duration::from_secs(4));
        let idem = idem_on(pool.connect_lazy_with(options), &Arc::new(World::default())).await;
        let _ = charge(&idem, 42, 5).await.unwrap();
        proxy.silence();
        // It would wait 10 seconds more for the key.
        let run = tokio::time::timeout(Duration::from_secs(10), charge(&idem, 43, 5)).await;
        assert!(run.expect("it takes another connection").unwrap().is_executed());
    }

    /// One message waits for the key, and then for the row, for as long as it may each time.
    #[tokio::test]
    async fn who_waits_for_two_locks_is_not_taken_for_silent() {
        // A machine that stands still for a moment may hold a lock for longer than it is waited for.
        for _ in 0..5 {
            let Some(lab) = lab().await else { return };
            let world = Arc::new(World::gated());
            let other = idem(&lab, &world).await;
            let pool = PgPoolOptions::new().max_connections(1).acquire_timeout(Duration::from_secs(1));
            let pool = pool.connect_lazy_with(lab.options());
            let waiting = Idem::builder(pool).state(Arc::clone(&world)).build().unwrap();
            let before = match patient(&waiting, 43).await {
                Err(error) if error.is_retryable() => continue,
                before => *before.unwrap(),
            };
            let mut row = lab.connect().await;
            sqlx::raw_sql("BEGIN; SELECT 1 FROM payments WHERE id = 42 FOR UPDATE")
                .execute(&mut row)
                .await
                .unwrap();
            let (_, waited, ()) = tokio::join!(
                in_the_way(&other, 42),
                async {
                    world.reached().await;
                    patient(&waiting, 42).await
                },
                async {
                    // Each is less than it may wait, and both are more than that and the patience with a silent server.
                    tokio::time::sleep(Duration::from_millis(2200)).await;
                    world.open_gate();
                    tokio::time::sleep(Duration::from_millis(2400)).await;
                    sqlx::raw_sql("ROLLBACK").execute(&mut row).await.unwrap();
                },
            );
            match waited {
                Err(Error::Busy(_)) => {}
                waited => {
                    assert_eq!(*waited.unwrap(), before, "it has taken another connection");
                    return;
                }
            }
        }
        panic!("each time a lock was held for too long");
    }

    /// Tells the session that it runs in.
    #[idem_runtime::idempotent(key = id, lock = row(payments.id = id), on_busy = wait("3s"))]
    async fn patient(tx: &mut idem_runtime::Tx<'_, sqlx::Postgres>, id: i64) -> Result<i32, sqlx::Error> {
        let _ = id;
        sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut **tx).await
    }

    /// Has the key of [`patient`], without the row, and leaves no record.
    #[idem_runtime::idempotent(key = id, name = "patient")]
    async fn in_the_way(
        tx: &mut idem_runtime::Tx<'_, sqlx::Postgres>,
        id: i64,
        #[state] world: &State,
    ) -> Result<i32, sqlx::Error> {
        let _ = (tx, id);
        world.pass_gate().await;
        Err(sqlx::Error::RowNotFound)
    }

    #[tokio::test]
    async fn results_come_back_whatever_the_session_says_of_strings_and_bytes() {
        let Some(lab) = lab().await else { return };
        let options =
            lab.options().options([("standard_conforming_strings", "off"), ("bytea_output", "escape")]);
        let idem =
            idem_on(PgPoolOptions::new().connect_lazy_with(options), &Arc::new(World::default())).await;
        let first = charge(&idem, 42, 5).await.unwrap();
        for _ in 0..4 {
            let again = charge(&idem, 42, 5).await.unwrap();
            assert!(again.is_replayed());
            assert_eq!(*again, *first);
        }
    }

    #[tokio::test]
    async fn a_wrong_address_is_an_error_that_says_so() {
        let options: PgConnectOptions = "postgres://nobody@127.0.0.1:1/nothing".parse().unwrap();
        let pool =
            PgPoolOptions::new().acquire_timeout(Duration::from_millis(300)).connect_lazy_with(options);
        let idem = Idem::builder(pool).state(Arc::new(World::default())).build().unwrap();
        let Error::Store(error) = charge(&idem, 42, 5).await.unwrap_err() else { panic!() };
        assert!(error.is_temporary());
        assert!(error.to_string().contains("connecting to the database"), "{error}");
    }

    #[tokio::test]
    async fn a_deferred_constraint_that_fails_at_commit_leaves_nothing() {
        let Some(lab) = lab().await else { return };
        let idem = idem(&lab, &Arc::new(World::default())).await;
        sqlx::raw_sql(
            "CREATE TABLE known (id bigint PRIMARY KEY); \
             ALTER TABLE charges ADD CONSTRAINT known_payment FOREIGN KEY (payment) REFERENCES known (id) \
             DEFERRABLE INITIALLY DEFERRED",
        )
        .execute(&mut lab.connect().await)
        .await
        .unwrap();
        let Error::Store(error) = charge(&idem, 42, 5).await.unwrap_err() else { panic!() };
        assert!(error.to_string().contains("known_payment"), "{error}");
        assert_eq!(effects(&lab).await, 0);
        sqlx::query("INSERT INTO known VALUES (42)").execute(&mut lab.connect().await).await.unwrap();
        assert!(charge(&idem, 42, 5).await.unwrap().is_executed());
    }

    #[tokio::test]
    async fn behind_a_transaction_pooler_it_falls_back_by_itself() {
        let Some(lab) = lab().await else { return };
        let Some(url) = Server::PgBouncer.url() else { return };
        // The pooler gives no say in the search path, so the tables are named by their schema.
        let schema: String =
            sqlx::query_scalar("SELECT current_schema()").fetch_one(&mut lab.connect().await).await.unwrap();
        let user: String =
            sqlx::query_scalar("SELECT current_user").fetch_one(&mut lab.connect().await).await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(format!("ALTER ROLE {user} SET search_path = public")))
            .execute(&mut lab.connect().await)
            .await
            .unwrap();
        let options: PgConnectOptions = url.parse().unwrap();
        let pool = || {
            PgPoolOptions::new()
                .max_connections(6)
                .connect_lazy_with(options.clone().statement_cache_capacity(0))
        };
        let world = Arc::new(World::default());
        let build = || Idem::builder(pool()).schema(&schema).state(Arc::clone(&world)).build().unwrap();
        let handles = [build(), build()];
        handles[0].migrate().await.unwrap();
        let name: &'static str = Box::leak(schema.clone().into_boxed_str());
        let mut runs = tokio::task::JoinSet::new();
        for n in 0..200_usize {
            let idem = handles[n % 2].clone();
            runs.spawn(async move {
                pooled(&idem, i64::try_from(n / 4).unwrap(), name.to_owned()).await.unwrap()
            });
        }
        let done = runs.join_all().await;
        assert_eq!(done.iter().filter(|done| done.is_executed()).count(), 50);
        for n in 0..50 {
            assert!(pooled(&handles[1], n, name.to_owned()).await.unwrap().is_replayed());
        }
        assert_eq!(effects(&lab).await, 50);
        assert_eq!(handles[0].sweep().await.unwrap(), 0);
    }

    #[idem_runtime::idempotent(key = id)]
    async fn pooled(
        tx: &mut idem_runtime::Tx<'_, sqlx::Postgres>,
        id: i64,
        schema: String,
    ) -> Result<(), sqlx::Error> {
        let sql = format!("INSERT INTO {schema}.charges (payment, note) VALUES ({id}, 'effect')");
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut **tx).await?;
        Ok(())
    }

    /// Whatever isolation the sessions come with, and although no record would refuse the second effect.
    #[tokio::test]
    async fn a_check_sees_what_the_run_before_it_has_committed() {
        for isolation in ["read committed", "repeatable read", "serializable"] {
            let Some(lab) = lab().await else { return };
            let name = format!("idem check {isolation}");
            let options = lab.options().options([("default_transaction_isolation", isolation)]);
            let options = options.application_name(&name);
            for with_row in [false, true] {
                let world = Arc::new(World::gated());
                let connect = || PgPoolOptions::new().connect_lazy_with(options.clone());
                let (one, two) = (idem_on(connect(), &world).await, idem_on(connect(), &world).await);
                let payment = if with_row { 43 } else { 42 };
                let charge = async |idem| match with_row {
                    false => charge_checked(idem, payment).await.unwrap(),
                    true => charge_row_checked(idem, payment).await.unwrap(),
                };
                let (first, second, ()) = tokio::join!(
                    charge(&one),
                    async {
                        world.reached().await;
                        charge(&two).await
                    },
                    async {
                        while advisory_locks(&lab, &name, false).await == 0 {
                            tokio::time::sleep(Duration::from_millis(5)).await;
                        }
                        world.open_gate();
                    },
                );
                assert!(first.is_executed() && second.is_adopted(), "{isolation}: {first:?}, {second:?}");
                // Who does not have to wait is told the same, and nobody keeps a lock.
                assert!(charge(&one).await.is_adopted());
            }
            assert_eq!(effects(&lab).await, 2, "{isolation}");
            assert_eq!(advisory_locks(&lab, &name, true).await, 0, "{isolation}");
        }
    }

    /// Counts the advisory locks that sessions of this name have, or those that they wait for.
    async fn advisory_locks(lab: &idem_testkit::Lab<Db>, name: &str, granted: bool) -> i64 {
        let sql = "SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid) \
                   WHERE locktype = 'advisory' AND granted = $1 AND application_name = $2";
        let count = sqlx::query_scalar(sql).bind(granted).bind(name);
        count.fetch_one(&mut lab.connect().await).await.unwrap()
    }

    #[tokio::test]
    async fn migrations_at_once_see_each_other_under_any_isolation() {
        let Some(lab) = lab().await else { return };
        let name = "idem migrations at once";
        let options = lab.options().options([("default_transaction_isolation", "repeatable read")]);
        let options = options.application_name(name);
        let pool = PgPoolOptions::new().connect_lazy_with(options);
        let [one, two] = [(); 2].map(|()| Idem::builder(pool.clone()).build().unwrap());
        // The other one has begun when this one waits for its turn.
        let mut turn = lab.connect().await;
        sqlx::raw_sql("SELECT pg_advisory_lock(1768187245)").execute(&mut turn).await.unwrap();
        let (first, second, ()) = tokio::join!(one.migrate(), two.migrate(), async {
            while advisory_locks(&lab, name, false).await < 2 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            sqlx::raw_sql("SELECT pg_advisory_unlock(1768187245)").execute(&mut turn).await.unwrap();
        });
        first.unwrap();
        second.unwrap();
    }

    /// A limit on statements says nothing of who holds what.
    #[tokio::test]
    async fn a_begin_that_is_cut_off_is_not_skipped() {
        let Some(lab) = lab().await else { return };
        let world = Arc::new(World::default());
        let idem = idem(&lab, &world).await;
        idem.enrol::<ChargeRowOrSkip>().await.unwrap();
        let options = lab.options().options([("statement_timeout", "1s")]);
        let limited = PgPoolOptions::new().connect_lazy_with(options);
        let limited = Idem::builder(limited).state(world).build().unwrap();
        limited.enrol::<ChargeRowOrSkip>().await.unwrap();
        let mut other = lab.connect().await;
        sqlx::raw_sql("BEGIN; LOCK TABLE payments").execute(&mut other).await.unwrap();
        let error = charge_row_or_skip(&limited, 42).await.unwrap_err();
        assert!(error.is_retryable() && matches!(error, Error::Store(_)), "{error}");
        sqlx::raw_sql("ROLLBACK").execute(&mut other).await.unwrap();
        assert!(charge_row_or_skip(&idem, 42).await.unwrap().is_executed());
    }

    /// Nor of whether there is such a row.
    #[tokio::test]
    async fn a_table_that_cannot_be_looked_at_in_time_is_worth_a_retry() {
        let Some(lab) = lab().await else { return };
        let world = Arc::new(World::default());
        idem(&lab, &world).await;
        let options = lab.options().options([("statement_timeout", "1s")]);
        let limited = PgPoolOptions::new().connect_lazy_with(options);
        let limited = Idem::builder(limited).state(world).build().unwrap();
        let mut other = lab.connect().await;
        sqlx::raw_sql("BEGIN; LOCK TABLE payments").execute(&mut other).await.unwrap();
        let Error::Store(error) = charge_row_or_skip(&limited, 42).await.unwrap_err() else { panic!() };
        assert_eq!((error.kind(), error.is_temporary()), (StoreErrorKind::Conflict, true), "{error}");
        sqlx::raw_sql("ROLLBACK").execute(&mut other).await.unwrap();
        assert!(charge_row_or_skip(&limited, 42).await.unwrap().is_executed());
    }

    #[tokio::test]
    async fn the_bodys_own_lock_timeout_is_left_alone() {
        let Some(lab) = lab().await else { return };
        let options = lab.options().options([("lock_timeout", "7s")]);
        let idem =
            idem_on(PgPoolOptions::new().connect_lazy_with(options), &Arc::new(World::default())).await;
        assert_eq!(*setting(&idem, 42).await.unwrap(), "7s");
        let _ = lab.options().connect().await.unwrap();
    }

    /// Locks a row, which is when idem sets a timeout of its own.
    #[idem_runtime::idempotent(key = id, lock = row(payments.id = id))]
    async fn setting(tx: &mut idem_runtime::Tx<'_, sqlx::Postgres>, id: i64) -> Result<String, sqlx::Error> {
        let _ = id;
        sqlx::query_scalar("SELECT current_setting('lock_timeout')").fetch_one(&mut **tx).await
    }
}

#[cfg(feature = "mysql")]
mod mysql_server {
    use std::sync::Arc;

    use idem_runtime::{Error, Idem, StoreErrorKind};
    use sqlx::mysql::MySqlPoolOptions;
    use sqlx::{AssertSqlSafe, Executor as _};

    use crate::jobs::World;
    use crate::jobs::mysql::*;

    #[tokio::test]
    async fn a_server_that_does_not_work_at_the_time_is_worth_a_retry() {
        let Some(lab) = lab().await else { return };
        let idem = idem(&lab, &Arc::new(World::default())).await;
        let mut admin = lab.connect().await;
        // A node of a Galera cluster that is not ready, and a user who has had enough for an hour.
        for number in [1047, 1226] {
            let sql = format!(
                "CREATE TRIGGER refuses BEFORE INSERT ON idem_records FOR EACH ROW \
                 SIGNAL SQLSTATE '08S01' SET MYSQL_ERRNO = {number}"
            );
            sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut admin).await.unwrap();
            let Error::Store(error) = charge(&idem, 42, 5).await.unwrap_err() else { panic!() };
            assert_eq!((error.kind(), error.is_temporary()), (StoreErrorKind::Unavailable, true), "{error}");
            sqlx::raw_sql("DROP TRIGGER refuses").execute(&mut admin).await.unwrap();
        }
        assert!(charge(&idem, 42, 5).await.unwrap().is_executed());
    }

    /// Who waited for it would be in its way where it inserts.
    #[tokio::test]
    async fn a_sweep_waits_for_no_run() {
        let Some(lab) = lab().await else { return };
        let idem = idem(&lab, &Arc::new(World::default())).await;
        for payment in [42, 43] {
            assert!(charge(&idem, payment, 5).await.unwrap().is_executed());
        }
        let mut run = lab.connect().await;
        let replaces = "UPDATE idem_records SET expires_at = completed_at; \
                        BEGIN; SELECT 1 FROM idem_records ORDER BY `key` DESC LIMIT 1 FOR UPDATE";
        sqlx::raw_sql(replaces).execute(&mut run).await.unwrap();
        assert_eq!(idem.sweep().await.unwrap(), 1);
        sqlx::raw_sql("ROLLBACK").execute(&mut run).await.unwrap();
        assert_eq!(idem.sweep().await.unwrap(), 1);
    }

    /// A limit on statements says nothing of whether there is such a row.
    #[tokio::test]
    async fn a_table_that_cannot_be_looked_at_in_time_is_worth_a_retry() {
        let Some(lab) = lab().await else { return };
        let world = Arc::new(World::default());
        idem(&lab, &world).await;
        let limited = MySqlPoolOptions::new().after_connect(|connection, _| {
            Box::pin(async move { connection.execute("SET max_statement_time = 1").await.map(drop) })
        });
        let limited = Idem::builder(limited.connect_lazy_with(lab.options())).state(world).build().unwrap();
        let mut other = lab.connect().await;
        sqlx::raw_sql("LOCK TABLES payments WRITE").execute(&mut other).await.unwrap();
        let Error::Store(error) = charge_row_or_skip(&limited, 42).await.unwrap_err() else { panic!() };
        assert_eq!((error.kind(), error.is_temporary()), (StoreErrorKind::Conflict, true), "{error}");
        sqlx::raw_sql("UNLOCK TABLES").execute(&mut other).await.unwrap();
        assert!(charge_row_or_skip(&limited, 42).await.unwrap().is_executed());
    }
}
