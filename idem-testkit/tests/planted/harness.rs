//! What a planted bug says of itself, and how it is shown that it is found.

use idem_runtime::RunOn;
use idem_testkit::lab::LabDatabase;
use idem_testkit::plan::Plan;
use idem_testkit::report::Failure;
use idem_testkit::{Scenario, Trouble, examine, examine_schedule};

use crate::kept::clean_up;

/// A bug that is planted.
#[derive(Debug)]
pub(crate) struct Bug {
    pub(crate) name: &'static str,
    /// What is wrong, in one sentence.
    pub(crate) what: &'static str,
    /// The real failure that it is taken from.
    pub(crate) origin: &'static str,
    /// The plan that finds it.
    pub(crate) plan: Plan,
    /// An earlier plan that may find it by luck.
    pub(crate) luck: Option<Plan>,
    /// A part of what the report says has happened.
    pub(crate) at: &'static str,
    /// A part of the hint.
    pub(crate) hint: &'static str,
}

/// Declares planted bugs: a constant and a test for each, and the list of all in `BUGS`.
macro_rules! bugs {
    ($($(#[$doc:meta])* $name:ident {
        what: $what:literal, origin: $origin:literal,
        plan: $plan:ident $(or $luck:ident)?, at: $at:literal, hint: $hint:literal,
        scenario: $scenario:expr $(,)?
    })+) => {
        pub(crate) const BUGS: &[crate::harness::Bug] = &[$(crate::harness::Bug {
            name: stringify!($name),
            what: $what,
            origin: $origin,
            plan: idem_testkit::plan::Plan::$plan,
            luck: [$(Some(idem_testkit::plan::Plan::$luck),)? None][0],
            at: $at,
            hint: $hint,
        }),+];

        $(
            $(#[$doc])*
            #[tokio::test]
            async fn $name() {
                let bug = BUGS.iter().find(|bug| bug.name == stringify!($name)).expect("it is in the list");
                crate::harness::check_found(bug, &$scenario).await;
            }
        )+
    };
}

/// How often a bug is looked for whose schedule does not find it again.
///
/// How many awaits there are in opening a connection depends on how fast its answers come. So a crash while it
/// is opened, which only broken stores show, may be at another place in the next run.
const LOOKS: usize = 3;

/// How often a schedule is tried: a statement that is under way when its run is dropped may be done or not.
const TRIES: usize = 6;

/// Checks that a full check finds the bug, and that the schedule that it prints finds it again.
pub(crate) async fn check_found<J, D, S>(bug: &Bug, scenario: &Scenario<J, D, S>)
where
    J: RunOn<D, S>,
    D: LabDatabase,
    S: Clone + Send + Sync + 'static,
{
    let Bug { name, plan, at, hint, .. } = bug;
    for look in 1..=LOOKS {
        let Some(mut failure) = find(bug, scenario, &Plan::ALL).await else { return };
        if bug.luck == Some(failure.plan) {
            let Some(without_luck) = find(bug, scenario, &[bug.plan]).await else { return };
            failure = without_luck;
        }
        assert_eq!(failure.plan, *plan, "`{name}` is found by another plan: {failure:#?}");
        assert!(failure.what.contains(at), "`{name}` is found elsewhere than {at:?}: {failure:#?}");
        assert!(!failure.timeline.is_empty(), "`{name}` has no timeline: {failure:#?}");
        assert!(!failure.differences.is_empty(), "`{name}` has no differences: {failure:#?}");
        assert!(failure.replay.contains(&failure.schedule), "`{name}` cannot be replayed: {failure:#?}");
        let hinted = failure.hint.as_ref().is_some_and(|text| text.contains(hint));
        assert!(hinted, "the hint for `{name}` does not say {hint:?}: {failure:#?}");
        if replays(bug, scenario, &failure).await {
            return;
        }
        assert!(look < LOOKS, "the schedule of `{name}` does not find it again: {failure:#?}");
    }
}

/// Tells whether the schedule alone finds the bug again.
async fn replays<J, D, S>(bug: &Bug, scenario: &Scenario<J, D, S>, failure: &Failure) -> bool
where
    J: RunOn<D, S>,
    D: LabDatabase,
    S: Clone + Send + Sync + 'static,
{
    for _ in 0..TRIES {
        match examine_schedule(scenario, &failure.schedule).await {
            Ok(None) => return true,
            Ok(Some(report)) => {
                if let Some(again) = report.failure {
                    clean_up(&again);
                    assert_eq!(again.schedule, failure.schedule, "`{}` replays another schedule", bug.name);
                    return true;
                }
            }
            Err(Trouble::Schedule(_)) => {}
            Err(trouble) => panic!("`{}` cannot be replayed: {trouble}", bug.name),
        }
    }
    false
}

/// A job that is right.
#[derive(Debug)]
pub(crate) struct Correct {
    pub(crate) name: &'static str,
    /// What it does, in a few words.
    pub(crate) what: &'static str,
}

/// Declares correct jobs: a constant and a test for each, and the list of all in `CORRECT`.
macro_rules! correct {
    ($($name:ident { $what:literal, $scenario:expr $(,)? })+) => {
        pub(crate) const CORRECT: &[crate::harness::Correct] =
            &[$(crate::harness::Correct { name: stringify!($name), what: $what }),+];

        $(
            #[test]
            fn $name() {
                crate::harness::check_quiet(stringify!($name), || $scenario);
            }
        )+
    };
}

/// How often a correct job is checked.
fn rounds() -> usize {
    match std::env::var("IDEM_ROUNDS") {
        Ok(rounds) => rounds.parse().expect("`IDEM_ROUNDS` is a number"),
        // Few enough for every run of all tests; the full proof takes 20.
        Err(_) => 1,
    }
}

/// How many checks of a correct job run at once: most of the time each waits for something.
const AT_ONCE: usize = 2;

/// Checks that no full check raises an alarm.
pub(crate) fn check_quiet<J, D, S>(name: &str, scenario: impl Fn() -> Scenario<J, D, S> + Sync)
where
    J: RunOn<D, S>,
    D: LabDatabase,
    S: Clone + Send + Sync + 'static,
{
    let round = &|round: usize| {
        // A runtime of its own for every check, which looks for tasks that are left behind on it.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let report = match runtime.expect("a runtime").block_on(examine(&scenario(), &Plan::ALL)) {
            Ok(Some(report)) => report,
            Ok(None) => return,
            Err(trouble) => panic!("`{name}` cannot be checked in round {round}: {trouble}"),
        };
        if let Some(failure) = &report.failure {
            panic!("a false alarm for `{name}` in round {round}: {failure:#?}");
        }
    };
    let rounds: Vec<usize> = (1..=rounds()).collect();
    for rounds in rounds.chunks(AT_ONCE) {
        std::thread::scope(|scope| {
            for n in rounds {
                scope.spawn(move || round(*n));
            }
        });
    }
}

/// Runs some plans; `None` if there is no server.
async fn find<J, D, S>(bug: &Bug, scenario: &Scenario<J, D, S>, plans: &[Plan]) -> Option<Failure>
where
    J: RunOn<D, S>,
    D: LabDatabase,
    S: Clone + Send + Sync + 'static,
{
    let report = match examine(scenario, plans).await {
        Ok(report) => report?,
        Err(trouble) => panic!("`{}` cannot be checked: {trouble}", bug.name),
    };
    let failure = report.failure.clone();
    let failure = failure.unwrap_or_else(|| panic!("`{}` is not found: {report:#?}", bug.name));
    clean_up(&failure);
    Some(failure)
}

/// A provider outside the database: it charges, and knows the keys that it was given.
pub(crate) mod gateway {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

    use tokio::task::yield_now;

    #[derive(Debug, Clone, Default)]
    pub(crate) struct Gateway {
        charges: Arc<Mutex<Vec<Option<String>>>>,
        in_flight: Arc<Mutex<Vec<String>>>,
        refunds: Arc<AtomicU64>,
        outage: Arc<Mutex<Option<Outage>>>,
    }

    /// When the next call fails.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) enum Outage {
        BeforeItIsDone,
        AfterItIsDone,
    }

    /// The provider does not answer.
    #[derive(Debug)]
    pub(crate) struct NoAnswer;

    /// The provider is at work on a request with this key.
    #[derive(Debug)]
    pub(crate) struct InFlight;

    /// The provider has a charge of this reference.
    #[derive(Debug)]
    pub(crate) struct Taken;

    impl Gateway {
        /// Charges, whatever has been charged before.
        pub(crate) async fn charge(&self) {
            yield_now().await;
            self.charge_now();
            yield_now().await;
        }

        pub(crate) fn charge_now(&self) {
            lock(&self.charges).push(None);
        }

        /// Charges, unless this key was charged.
        pub(crate) async fn charge_once(&self, key: impl Into<String>) {
            let key = Some(key.into());
            yield_now().await;
            {
                let mut charges = lock(&self.charges);
                if !charges.contains(&key) {
                    charges.push(key);
                }
            }
            yield_now().await;
        }

        /// Charges once for every key, and refuses a key that it is at work on: a caller who hangs up leaves it
        /// at work for a while.
        pub(crate) async fn charge_or_refuse(&self, key: String) -> Result<(), InFlight> {
            if lock(&self.charges).contains(&Some(key.clone())) {
                return Ok(());
            }
            {
                let mut in_flight = lock(&self.in_flight);
                if in_flight.contains(&key) {
                    return Err(InFlight);
                }
                in_flight.push(key.clone());
            }
            yield_now().await;
            lock(&self.charges).push(Some(key.clone()));
            lock(&self.in_flight).retain(|other| *other != key);
            Ok(())
        }

        /// Lets the next call to [`try_charge`](Self::try_charge) fail.
        pub(crate) fn fail_once(&self, outage: Outage) {
            *lock(&self.outage) = Some(outage);
        }

        /// Charges, unless this key was charged: with no key, whatever was charged before. It may not answer.
        pub(crate) async fn try_charge(&self, key: Option<String>) -> Result<(), NoAnswer> {
            let outage = lock(&self.outage).take();
            if outage == Some(Outage::BeforeItIsDone) {
                return Err(NoAnswer);
            }
            match key {
                Some(key) => self.charge_once(key).await,
                None => self.charge().await,
            }
            if outage.is_some() { Err(NoAnswer) } else { Ok(()) }
        }

        /// Charges, unless there is a charge of this reference: that is an error, and no answer.
        pub(crate) async fn charge_new(&self, reference: String) -> Result<(), Taken> {
            yield_now().await;
            let reference = Some(reference);
            let is_new = {
                let mut charges = lock(&self.charges);
                let is_new = !charges.contains(&reference);
                if is_new {
                    charges.push(reference);
                }
                is_new
            };
            yield_now().await;
            if is_new { Ok(()) } else { Err(Taken) }
        }

        /// Finds the charge of this reference.
        pub(crate) async fn find(&self, reference: String) -> bool {
            yield_now().await;
            lock(&self.charges).contains(&Some(reference))
        }

        /// Tells whether there is any charge.
        pub(crate) async fn has_charged(&self) -> bool {
            yield_now().await;
            let charged = self.charges() > 0;
            yield_now().await;
            charged
        }

        pub(crate) fn charges(&self) -> u64 {
            lock(&self.charges).len() as u64
        }

        pub(crate) fn refund(&self) {
            self.refunds.fetch_add(1, Ordering::SeqCst);
        }

        pub(crate) fn refunds(&self) -> u64 {
            self.refunds.load(Ordering::SeqCst)
        }
    }

    pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
        mutex.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The tables that the jobs work on.
pub(crate) mod tables {
    use idem_runtime::prelude::*;
    use idem_testkit::Lab;
    use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
    use sqlx::{ConnectOptions as _, Sqlite};

    const TABLES: &str = "
        CREATE TABLE payments (id INTEGER PRIMARY KEY, status TEXT NOT NULL DEFAULT 'new');
        CREATE TABLE entries (payment BIGINT NOT NULL, note TEXT NOT NULL);
        CREATE TABLE balances (account TEXT PRIMARY KEY, cents BIGINT NOT NULL);
        CREATE TABLE members (id BIGINT NOT NULL);
        CREATE UNIQUE INDEX one_membership ON members (id);
        INSERT INTO payments (id) VALUES (41), (42), (43);
        INSERT INTO balances VALUES ('shop', 100);
    ";

    pub(crate) async fn set_up(lab: &Lab<Sqlite>) -> Result<(), idem_testkit::SetUpError> {
        sqlx::raw_sql(TABLES).execute(&mut lab.connect().await).await?;
        Ok(())
    }

    /// Writes an entry and moves the balance: an effect that shows when it happens twice or by half.
    pub(crate) async fn post(connection: &mut SqliteConnection, payment: i64) -> Result<(), sqlx::Error> {
        entry(connection, payment, "posted").await?;
        sqlx::query("UPDATE balances SET cents = cents + 5 WHERE account = 'shop'")
            .execute(connection)
            .await?;
        Ok(())
    }

    pub(crate) async fn entry(
        connection: &mut SqliteConnection,
        payment: i64,
        note: &str,
    ) -> Result<(), sqlx::Error> {
        let insert =
            sqlx::query("INSERT INTO entries (payment, note) VALUES (?, ?)").bind(payment).bind(note);
        insert.execute(connection).await.map(drop)
    }

    /// Writes the status of a payment.
    pub(crate) async fn status(
        connection: &mut SqliteConnection,
        payment: i64,
        status: &str,
    ) -> Result<(), sqlx::Error> {
        let update = sqlx::query("UPDATE payments SET status = ? WHERE id = ?").bind(status).bind(payment);
        update.execute(connection).await.map(drop)
    }

    /// The file of the database that a transaction is in.
    pub(crate) async fn file(connection: &mut SqliteConnection) -> Result<String, sqlx::Error> {
        sqlx::query_scalar("SELECT file FROM pragma_database_list WHERE name = 'main'")
            .fetch_one(connection)
            .await
    }

    /// Connects to the same database past the transaction.
    pub(crate) async fn own_connection(tx: &mut Tx<'_, Sqlite>) -> Result<SqliteConnection, sqlx::Error> {
        let file = file(tx).await?;
        SqliteConnectOptions::new().filename(file).connect().await
    }
}

/// A provider, and the database of the jobs past their runs.
pub(crate) mod shop {
    use std::cell::RefCell;
    use std::path::PathBuf;

    use idem_runtime::prelude::*;
    use idem_testkit::lab::LabDatabase;
    use idem_testkit::{Lab, Scenario, SetUpError, Trial};
    use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
    use sqlx::{ConnectOptions as _, Sqlite};

    use super::gateway::Gateway;
    use super::tables;

    #[derive(Debug, Clone, Provides)]
    pub(crate) struct Shop {
        pub(crate) gateway: Gateway,
        pub(crate) ledger: Ledger,
    }

    /// The database of the jobs, on connections of its own.
    #[derive(Debug, Clone)]
    pub(crate) struct Ledger(PathBuf);

    impl Ledger {
        pub(crate) async fn connect(&self) -> Result<SqliteConnection, sqlx::Error> {
            SqliteConnectOptions::new().filename(&self.0).connect().await
        }

        /// Writes and commits.
        pub(crate) async fn entry(&self, id: i64, note: &str) -> Result<(), sqlx::Error> {
            tables::entry(&mut self.connect().await?, id, note).await
        }

        pub(crate) async fn mark(&self, id: i64, status: &str) -> Result<(), sqlx::Error> {
            let update = sqlx::query("UPDATE payments SET status = ? WHERE id = ?").bind(status).bind(id);
            update.execute(&mut self.connect().await?).await.map(drop)
        }

        pub(crate) async fn status(&self, id: i64) -> Result<String, sqlx::Error> {
            let status = sqlx::query_scalar("SELECT status FROM payments WHERE id = ?").bind(id);
            status.fetch_one(&mut self.connect().await?).await
        }
    }

    std::thread_local! {
        /// The file of the trial that this thread is at: a state is made right after the set-up.
        static FILE: RefCell<PathBuf> = const { RefCell::new(PathBuf::new()) };
    }

    async fn set_up(lab: &Lab<Sqlite>) -> Result<(), SetUpError> {
        FILE.set(lab.options().get_filename().to_path_buf());
        tables::set_up(lab).await
    }

    fn open<D: LabDatabase>(trial: &Trial<D>) -> Shop {
        let file = trial.share("file", || FILE.with_borrow(|file| file.display().to_string()));
        Shop { gateway: Gateway::default(), ledger: Ledger(PathBuf::from(file)) }
    }

    /// A job that writes to the database past its run.
    pub(crate) fn writing<J: idem_runtime::RunOn<Sqlite, Shop>>(job: J) -> Scenario<J, Sqlite, Shop> {
        Scenario::new(job).setup(set_up).state_with(open)
    }
}
