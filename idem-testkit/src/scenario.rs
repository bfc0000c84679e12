//! A job, and all that it needs to run in a test.

use std::error::Error as StdError;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use idem_runtime::store::Store;
use idem_runtime::{RunOn, codec};

use crate::code::Code;
use crate::lab::{Lab, LabDatabase};
use crate::trial::Trial;

/// What a set-up may fail with.
pub type SetUpError = Box<dyn StdError + Send + Sync + 'static>;

/// What a job may take as `#[state]` in a test: every worker of a trial gets a clone of it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the state of a trial [idem::state_of_a_trial]",
    label = "every worker of a trial gets a clone of its state",
    note = "it must be `Clone`, `Send` and `Sync`: derive `Clone`, and put what the workers share, such as a count, behind an `Arc`"
)]
pub trait TrialState: Clone + Send + Sync + 'static {}

#[diagnostic::do_not_recommend]
impl<S: Clone + Send + Sync + 'static> TrialState for S {}

/// What an observer may answer: any integer.
#[diagnostic::on_unimplemented(
    message = "an observer cannot answer with `{Self}` [idem::no_count]",
    label = "this is no integer",
    note = "return how often the effect has happened, as any integer; a count that has to be awaited is for `observe_async`"
)]
pub trait Count: TryInto<u64> {}

#[diagnostic::do_not_recommend]
impl<N: TryInto<u64>> Count for N {}

/// A job, and all that it needs to run in a test.
///
/// Every trial of a check gets a fresh, empty database, the set-up, and a state of its own.
///
/// # Example
///
/// ```
/// use idem_runtime::prelude::*;
/// use idem_testkit::{Scenario, check_repeat};
///
/// #[idempotent(key = id)]
/// async fn enrol_member(tx: &mut Tx<'_, Sqlite>, id: i64) -> Result<(), sqlx::Error> {
///     sqlx::query("INSERT INTO members (id) VALUES (?)").bind(id).execute(&mut **tx).await?;
///     Ok(())
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// check_repeat(Scenario::new(EnrolMember { id: 42 }).setup(async |lab| {
///     sqlx::query("CREATE TABLE members (id BIGINT NOT NULL)").execute(&lab.pool(1)).await?;
///     Ok(())
/// }))
/// .await;
/// # }
/// ```
#[must_use = "a scenario does nothing until it is given to a check"]
pub struct Scenario<J, D: LabDatabase, S = ()> {
    pub(crate) make: Arc<dyn Fn() -> J + Send + Sync>,
    pub(crate) state: Box<MakeState<D, S>>,
    pub(crate) worker_state: Box<Remake<S>>,
    pub(crate) observers: Vec<Named<S, u64>>,
    pub(crate) outages: Vec<Named<S, ()>>,
    pub(crate) settings: Settings<D>,
}

/// What of a scenario does not depend on the job or the state.
pub(crate) struct Settings<D: LabDatabase> {
    pub(crate) set_up: Option<Box<dyn SetUp<D>>>,
    pub(crate) store: Option<Box<WrapStore<D>>>,
    pub(crate) limit: Duration,
    pub(crate) test: Option<String>,
    /// Runs leave tasks behind that go on for good, such as those of a client of something else.
    pub(crate) leaves_tasks: AtomicBool,
}

/// Makes the state of a trial.
type MakeState<D, S> = dyn Fn(&Trial<D>) -> S + Send + Sync;

/// Makes a worker's state of its trial's.
pub(crate) type Remake<S> = dyn Fn(&S) -> S + Send + Sync;

/// What is done with the state of a trial, and how reports call it: an observer counts an effect, an outage lets a
/// service fail.
pub(crate) struct Named<S, T> {
    pub(crate) name: String,
    pub(crate) run: Box<RunOnState<S, T>>,
}

type RunOnState<S, T> = dyn Fn(&S) -> Pin<Box<dyn Future<Output = T> + '_>> + Send + Sync;

/// Puts another store in front of the database's own.
pub(crate) type WrapStore<D> = dyn Fn(Arc<dyn Store<D>>) -> Arc<dyn Store<D>> + Send + Sync;

impl<J, D: LabDatabase> Scenario<J, D> {
    /// Starts with a job and nothing else: an empty database, no state.
    ///
    /// # Panics
    ///
    /// The job's arguments do not survive serde, so that it could not travel on a queue either.
    pub fn new(job: J) -> Self
    where
        J: idem_runtime::Job,
    {
        let name = J::SPEC.name;
        let bytes = codec::encode(&job).unwrap_or_else(|error| {
            panic!(
                "the arguments of job `{name}` cannot be encoded: {error}; mend their `Serialize` [{}]",
                Code::Arguments
            )
        });
        Scenario {
            make: Arc::new(move || {
                codec::decode(&bytes).unwrap_or_else(|error| {
                    panic!("the arguments of job `{name}` do not survive serde: {error}; let `Deserialize` read what `Serialize` writes [{}]", Code::Arguments)
                })
            }),
            state: Box::new(|_| ()),
            worker_state: Box::new(|_| ()),
            observers: Vec::new(),
            outages: Vec::new(),
            settings: Settings {
                set_up: None,
                store: None,
                limit: Duration::from_secs(20),
                test: None,
                leaves_tasks: AtomicBool::new(false),
            },
        }
    }

    /// Makes the state of every trial, which jobs take as `#[state]`.
    ///
    /// All workers of a trial get clones of one state, so what they share must be behind an `Arc`. See
    /// [`worker_state`](Scenario::worker_state) for what they do not share.
    ///
    /// The plan [`Kill`](crate::plan::Plan::Kill) runs the job in a process of its own, with whose death a fake in
    /// memory forgets what it was told. One that a later run must find as it was left, such as a bank that captures
    /// what it has authorized, is for [`state_with`](Scenario::state_with).
    pub fn state<T>(self, make: impl Fn() -> T + Send + Sync + 'static) -> Scenario<J, D, T>
    where
        J: RunOn<D, T>,
        T: TrialState,
    {
        self.state_with(move |_| make())
    }

    /// Makes the state of every trial from what belongs to it: a pool on its database ([`Trial::pool`]), or something
    /// that outlives the process, such as a server or a file.
    ///
    /// The plan [`Kill`](crate::plan::Plan::Kill) runs the job in a process of its own, which makes a
    /// state of its own; [`Trial::share`] lets both find the same server or file.
    ///
    /// # Example
    ///
    /// ```
    /// # use idem_runtime::prelude::*;
    /// # use idem_testkit::{Scenario, check_repeat};
    /// # use std::path::PathBuf;
    /// use std::sync::atomic::{AtomicUsize, Ordering};
    ///
    /// # #[idempotent(key = id)]
    /// # async fn enrol_member(tx: &mut Tx<'_, Sqlite>, id: i64, #[state] _mails: &PathBuf) -> Result<(), sqlx::Error> {
    /// #     sqlx::query("INSERT INTO members (id) VALUES (?)").bind(id).execute(&mut **tx).await?;
    /// #     Ok(())
    /// # }
    /// // Each trial has a file of its own, which both of its processes find.
    /// static TRIALS: AtomicUsize = AtomicUsize::new(0);
    ///
    /// # let scenario =
    /// Scenario::new(EnrolMember { id: 42 }).state_with(|trial| {
    ///     PathBuf::from(trial.share("mails", || {
    ///         let (test, trial) = (std::process::id(), TRIALS.fetch_add(1, Ordering::Relaxed));
    ///         std::env::temp_dir().join(format!("mails-{test}-{trial}")).display().to_string()
    ///     }))
    /// })
    /// # ;
    /// ```
    pub fn state_with<T>(self, make: impl Fn(&Trial<D>) -> T + Send + Sync + 'static) -> Scenario<J, D, T>
    where
        J: RunOn<D, T>,
        T: TrialState,
    {
        Scenario {
            make: self.make,
            state: Box::new(make),
            worker_state: Box::new(T::clone),
            observers: self.observers.into_iter().map(Named::without_state).collect(),
            outages: self.outages.into_iter().map(Named::without_state).collect(),
            settings: self.settings,
        }
    }
}

impl<T: 'static> Named<(), T> {
    /// Does the same in a scenario that has got a state since.
    fn without_state<S>(self) -> Named<S, T> {
        Named { name: self.name, run: Box::new(move |_| (self.run)(&())) }
    }
}

impl<J, D: LabDatabase, S: 'static> Scenario<J, D, S> {
    /// Prepares the database of every trial, after idem's own tables are there.
    ///
    /// `?` takes every error in it.
    pub fn setup(
        mut self,
        set_up: impl AsyncFn(&Lab<D>) -> Result<(), SetUpError> + Send + Sync + 'static,
    ) -> Self {
        self.settings.set_up = Some(Box::new(set_up));
        self
    }

    /// Makes the state of every worker out of that of its trial, as a process does that starts: what it
    /// holds in memory is made anew, what is outside of it stays.
    ///
    /// Without this all workers of a trial get clones of one state, and a job that remembers in memory what
    /// it has done looks right.
    pub fn worker_state(mut self, make: impl Fn(&S) -> S + Send + Sync + 'static) -> Self {
        self.worker_state = Box::new(make);
        self
    }

    /// Counts an effect outside the database: charges, mails.
    ///
    /// `count` returns how often the effect has happened in the trial whose state it is given, as any integer. Count what
    /// the callee has done, not how often it was called: a job that is right calls again under the same key after a crash.
    ///
    /// A killed process takes with it what it counted in its own memory. The plan
    /// [`Kill`](crate::plan::Plan::Kill) therefore judges an observer only where it counts outside the
    /// process, in a server or a file that [`Scenario::state_with`] shares, and reports the others.
    pub fn observe<N: Count>(
        self,
        name: impl Into<String>,
        count: impl Fn(&S) -> N + Send + Sync + 'static,
    ) -> Self {
        let count = Arc::new(count);
        self.observe_async(name, async move |state| count(state))
    }

    /// Counts an effect outside the database that has to be asked for: at a server, in a file.
    ///
    /// See [`observe`](Self::observe).
    pub fn observe_async<N: Count>(
        mut self,
        name: impl Into<String>,
        count: impl AsyncFn(&S) -> N + Send + Sync + 'static,
    ) -> Self {
        let name = name.into();
        let observer: Arc<(String, _)> = Arc::new((name.clone(), count));
        let run: Box<RunOnState<S, u64>> = Box::new(move |state| {
            let observer = Arc::clone(&observer);
            Box::pin(async move {
                let (name, count) = &*observer;
                let counted = count(state).await.try_into();
                counted.unwrap_or_else(|_| {
                    panic!("observer `{name}` counted a number that is none of effects: it is below 0")
                })
            })
        });
        self.observers.push(Named { name, run });
        self
    }

    /// Names a service that can fail: `fail` lets the next call to it, in the trial whose state it is given, end with an
    /// error, and the calls after that work again.
    ///
    /// The plan [`Outage`](crate::plan::Plan::Outage) lets it fail once, and the job run again. A call that fails has
    /// done its work or has not, and nobody can tell which: a fake that can fail in both ways has two names.
    /// What the job needs of its database fails without being named.
    ///
    /// # Example
    ///
    /// ```
    /// # use idem_runtime::prelude::*;
    /// # use idem_testkit::{Scenario, check_outage};
    /// # use std::sync::{Arc, Mutex};
    /// #[derive(Clone, Default)]
    /// struct Bank(Arc<Mutex<Account>>);
    ///
    /// #[derive(Default)]
    /// struct Account {
    ///     charges: Vec<String>,
    ///     is_out: bool,
    /// }
    ///
    /// impl Bank {
    ///     async fn charge(&self, key: String) -> Result<(), String> {
    ///         let mut account = self.0.lock().unwrap();
    ///         if std::mem::take(&mut account.is_out) {
    ///             return Err(String::from("the bank does not answer"));
    ///         }
    ///         if !account.charges.contains(&key) {
    ///             account.charges.push(key);
    ///         }
    ///         Ok(())
    ///     }
    /// }
    ///
    /// # #[idempotent(key = id, in_doubt = rerun)]
    /// # async fn charge(run: &mut Run<'_, Sqlite>, id: i64, #[state] bank: &Bank) -> Result<i64, String> {
    /// #     run.step("charge", async |key| bank.charge(key).await).await?;
    /// #     Ok(id)
    /// # }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// let scenario = Scenario::new(Charge { id: 42 })
    ///     .state(Bank::default)
    ///     .observe("charges", |bank: &Bank| bank.0.lock().unwrap().charges.len())
    ///     .outage("the bank", async |bank: &Bank| bank.0.lock().unwrap().is_out = true);
    /// check_outage(scenario).await;
    /// # }
    /// ```
    pub fn outage(mut self, name: impl Into<String>, fail: impl AsyncFn(&S) + Send + Sync + 'static) -> Self {
        let fail = Arc::new(fail);
        let run: Box<RunOnState<S, ()>> = Box::new(move |state| {
            let fail = Arc::clone(&fail);
            Box::pin(async move { fail(state).await })
        });
        self.outages.push(Named { name: name.into(), run });
        self
    }

    /// Puts another store in front of the database's own, to test a store rather than a job.
    pub fn store(
        mut self,
        wrap: impl Fn(Arc<dyn Store<D>>) -> Arc<dyn Store<D>> + Send + Sync + 'static,
    ) -> Self {
        self.settings.store = Some(Box::new(wrap));
        self
    }

    /// Names the test that calls the check, as the test harness does: `module::name`.
    ///
    /// The plan [`Kill`](crate::plan::Plan::Kill) starts that test again in a process of its own. Without
    /// this the thread's name is taken, which the usual harness sets; a check in a task or a thread of its
    /// own has to say it.
    pub fn test(mut self, name: impl Into<String>) -> Self {
        self.settings.test = Some(name.into());
        self
    }

    /// Limits every single run; the default is 20 seconds.
    pub fn limit(mut self, limit: Duration) -> Self {
        self.settings.limit = limit;
        self
    }
}

impl<J, D: LabDatabase, S> fmt::Debug for Scenario<J, D, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let observers: Vec<_> = self.observers.iter().map(|observer| &observer.name).collect();
        f.debug_struct("Scenario").field("observers", &observers).finish_non_exhaustive()
    }
}

/// A set-up whose type is forgotten.
pub(crate) trait SetUp<D: LabDatabase>: Send + Sync {
    fn run<'a>(&'a self, lab: &'a Lab<D>) -> Pin<Box<dyn Future<Output = Result<(), SetUpError>> + 'a>>;
}

impl<D: LabDatabase, F: AsyncFn(&Lab<D>) -> Result<(), SetUpError> + Send + Sync> SetUp<D> for F {
    fn run<'a>(&'a self, lab: &'a Lab<D>) -> Pin<Box<dyn Future<Output = Result<(), SetUpError>> + 'a>> {
        Box::pin(self(lab))
    }
}
