//! The handle that runs jobs.

use std::any::TypeId;
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tracing::{Instrument, Span};

use crate::answer::Answer;
use crate::cleanup::{self, KeepFailed};
use crate::done::Done;
use crate::error::{Error, StoreError, StoreErrorKind};
use crate::job::{Job, Lock, Unique};
use crate::observe::ObservedRun;
use crate::record::JobId;
use crate::run::{self, Ended, Flights, Heart, RunOn};
use crate::store::memory::Memory;
use crate::store::{Database, Engine, Settings, Store};

/// The handle that runs jobs against one database, with the state that they depend on.
///
/// Cloning it is cheap and shares everything. One handle per process and database is enough, and better
/// than several: runs of one key that meet in a handle share one transaction, and two handles on one
/// SQLite file wait for each other as two processes would.
///
/// `D` is the database, `S` what jobs take as `#[state]`.
///
/// # Example
///
/// ```
/// use idem_runtime::prelude::*;
///
/// #[idempotent(key = id)]
/// async fn greet(tx: &mut Tx<'_, Memory>, id: i64, #[state] greeting: &String) -> Result<(), std::fmt::Error> {
///     tx.set(format!("greeting {id}"), greeting.clone());
///     Ok(())
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let idem = Idem::memory().state(String::from("hello")).build().unwrap();
/// idem.enrol::<Greet>().await.unwrap();
/// greet(&idem, 42).await.unwrap();
/// # }
/// ```
pub struct Idem<D: Database, S = ()> {
    inner: Arc<Inner<D, S>>,
}

struct Inner<D: Database, S> {
    store: Arc<dyn Store<D>>,
    namespace: String,
    state: S,
    jobs: RwLock<HashMap<&'static str, Arc<Enrolled>>>,
    flights: Flights,
    heart: Heart,
    /// The tables of apalis are known to be prepared.
    prepared: AtomicBool,
    keep_failed: Arc<KeepFailed>,
}

/// What a run of a job comes to.
type Ran<J> = Result<Done<<J as Job>::Output>, Error<<J as Job>::Error>>;

impl<D: Database, S> Clone for Idem<D, S> {
    fn clone(&self) -> Self {
        Idem { inner: Arc::clone(&self.inner) }
    }
}

impl<D: Database, S> fmt::Debug for Idem<D, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Idem")
            .field("store", &self.inner.store.name())
            .field("namespace", &self.inner.namespace)
            .finish_non_exhaustive()
    }
}

impl Idem<Memory> {
    /// Starts a handle whose records are in this process's memory and go with it: for tests.
    pub fn memory() -> Builder<Memory> {
        Idem::with_store(Arc::new(crate::store::memory::MemoryStore::new()))
    }
}

#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
impl<D: crate::store::SqlDatabase> Idem<D> {
    /// Starts a handle on the database of a connection pool.
    ///
    /// idem takes connections out of the pool and keeps them, since asking the server whether a
    /// connection is alive, as a pool does, costs as much as a statement. Once taken they do not count against
    /// the pool's limit; [`Builder::connections`] limits them.
    ///
    /// # Example
    ///
    /// ```
    /// # #[cfg(feature = "sqlite")]
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use idem_runtime::prelude::*;
    ///
    /// let pool = sqlx::SqlitePool::connect("sqlite::memory:").await?;
    /// let idem = Idem::builder(pool).namespace("billing").build()?;
    /// idem.migrate().await?;
    /// # Ok(()) }
    /// # #[cfg(not(feature = "sqlite"))] fn main() {}
    /// ```
    pub fn builder(pool: sqlx::Pool<D>) -> Builder<D> {
        Builder::new(move |settings| D::store(pool, settings))
    }
}

impl<D: Database> Idem<D> {
    /// Starts a handle on a store of your own.
    ///
    /// The settings of the builder that are about tables and connections do not reach it.
    pub fn with_store(store: Arc<dyn Store<D>>) -> Builder<D> {
        Builder::new(move |_| Ok(store))
    }
}

impl<D: Database, S> Idem<D, S> {
    /// Creates or upgrades idem's tables; does nothing if they are up to date.
    ///
    /// Several processes may do so at once. A SQLite file is in WAL mode from then on.
    ///
    /// # Errors
    ///
    /// The database cannot be reached or refuses; then nothing has changed.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        self.inner.store.migrate().await.map(drop)
    }

    /// Returns the SQL that [`migrate`](Self::migrate) runs on an empty database, for a migration tool.
    ///
    /// After it has run, `migrate` finds the tables up to date.
    pub fn migration_sql(&self) -> String {
        self.inner.store.migration_sql()
    }

    /// Makes a job known and checks what it needs of the database, ahead of its first run.
    ///
    /// Call it at start-up: a table or column of `lock = row(...)` that does not exist, missing
    /// tables of idem and two jobs with one name show here rather than at the first run. A job that is
    /// not enrolled is so by its first run, which costs that run one or two statements more.
    ///
    /// # Errors
    ///
    /// [`UnknownRow`](StoreErrorKind::UnknownRow), [`NotMigrated`](StoreErrorKind::NotMigrated) and
    /// [`NameTaken`](StoreErrorKind::NameTaken) in the order of the above, or the database cannot be reached.
    pub fn enrol<J: Job>(&self) -> Answer<'_, Result<(), StoreError>>
    where
        S: Sync,
    {
        let inner: &Inner<D, S> = &self.inner;
        Answer::new(async { inner.enrolled::<J>().await.map(drop) })
    }

    /// Runs a job, or answers for it from the record of an earlier run.
    ///
    /// The guarded function of the job calls this; a worker that takes jobs as serde values may do so
    /// itself. Dropping the future at any point undoes the run or leaves it done and recorded, and frees the
    /// key; of a leased job the steps that are recorded stay, and the next run goes on from them.
    ///
    /// # Errors
    ///
    /// See [`Error`]; a duplicate is not an error.
    ///
    /// # Example
    ///
    /// ```
    /// use idem_runtime::prelude::*;
    ///
    /// #[idempotent(key = id)]
    /// async fn double(tx: &mut Tx<'_, Memory>, id: i64) -> Result<i64, std::fmt::Error> {
    ///     Ok(id * 2)
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// let idem = Idem::memory().build().unwrap();
    /// let job: Double = serde_json::from_str(r#"{"id":21}"#).unwrap();
    /// assert_eq!(idem.run(job).await.unwrap(), Done::Executed(42));
    /// assert_eq!(double(&idem, 21).await.unwrap(), Done::Replayed(42));
    /// # }
    /// ```
    // Result and error have names of their own: in the place of `T`, rustc would tell of a `J::Output` besides of `J`.
    pub fn run<J, T, E>(&self, job: J) -> Answer<'_, Result<Done<T>, Error<E>>>
    where
        J: RunOn<D, S> + Job<Output = T, Error = E>,
        S: Sync,
    {
        self.inner.answer(job)
    }

    /// Runs a job; `started` is awaited as it begins, when no unique claim stands in its way.
    #[cfg(feature = "apalis")]
    pub(crate) async fn run_started<J>(
        &self,
        job: J,
        started: impl Future<Output = Result<(), run::NotBegun>> + Send,
    ) -> Ran<J>
    where
        J: RunOn<D, S>,
    {
        self.inner.run_started(job, started).await
    }

    /// Deletes the records whose retention has passed and the unique claims for a time that is over, of every namespace,
    /// and the failed keys that [`Builder::keep_failed`] names, of this one; returns how many records were deleted.
    ///
    /// It goes through the whole table in batches of 1,000 records, each in a transaction of its
    /// own, and pauses for 50 ms after each one that deleted something. Any number of sweeps may run at once.
    /// Nothing calls it by itself: give [`Cleanup`](crate::cleanup::Cleanup) to a scheduler for that. An expired record
    /// answers no more, swept or not. Parked keys stay.
    ///
    /// # Errors
    ///
    /// The database cannot be reached or refuses; batches that were done stay done.
    pub async fn sweep(&self) -> Result<u64, StoreError> {
        let Inner { store, namespace, keep_failed, .. } = &*self.inner;
        cleanup::sweep(store, namespace, keep_failed).await.map(|swept| swept.deleted)
    }

    /// Returns the namespace.
    pub fn namespace(&self) -> &str {
        &self.inner.namespace
    }

    /// Returns the state that jobs depend on.
    pub fn state(&self) -> &S {
        &self.inner.state
    }

    /// Returns the store.
    pub fn store(&self) -> &Arc<dyn Store<D>> {
        &self.inner.store
    }

    /// Checks, once, that unique claims end with the tasks of an engine.
    pub(crate) async fn check_prepared(&self, engine: Engine) -> Result<(), StoreError> {
        if self.inner.prepared.load(Ordering::Relaxed) || self.inner.store.is_prepared(engine).await? {
            self.inner.prepared.store(true, Ordering::Relaxed);
            return Ok(());
        }
        let text = "the tables of apalis are not prepared for unique jobs, whose claims would never end: call \
                    `Queue::set_up` at start-up, after apalis's own `SqliteStorage::setup` or `PostgresStorage::setup` and \
                    `Idem::migrate`";
        Err(StoreError::new(StoreErrorKind::NotMigrated, text))
    }

    pub(crate) async fn enrolled<J: Job>(&self) -> Result<Arc<Enrolled>, StoreError> {
        self.inner.enrolled::<J>().await
    }
}

// What runs borrow for as long as they last: it can be sent if the state is `Sync`, and `Idem` only if it is `Send` too.
impl<D: Database, S> Inner<D, S> {
    fn answer<J>(&self, job: J) -> Answer<'_, Ran<J>>
    where
        J: RunOn<D, S>,
        S: Sync,
    {
        Answer::new(self.run_started(job, std::future::ready(Ok(()))))
    }

    async fn run_started<J>(
        &self,
        job: J,
        started: impl Future<Output = Result<(), run::NotBegun>> + Send,
    ) -> Ran<J>
    where
        J: RunOn<D, S>,
    {
        let observed = ObservedRun::new(J::SPEC.name);
        let span = observed.span();
        let ended = self.ended(job, started, span).instrument(span.clone()).await;
        observed.end(&ended);
        ended.map_err(|failed| failed.error)
    }

    async fn ended<J>(
        &self,
        job: J,
        started: impl Future<Output = Result<(), run::NotBegun>> + Send,
        span: &Span,
    ) -> Ended<J::Output, J::Error>
    where
        J: RunOn<D, S>,
    {
        let enrolled = self.enrolled::<J>().await?;
        let context = run::Context {
            store: &self.store,
            flights: &self.flights,
            heart: &self.heart,
            namespace: &self.namespace,
            state: &self.state,
            keep_failed: &self.keep_failed,
            enrolled: &enrolled,
            span,
        };
        if J::SPEC.unique.is_some_and(Unique::in_run) {
            return run::run_unique(context, job, started).await;
        }
        started.await?;
        job.run_on(context).await
    }

    async fn enrolled<J: Job>(&self) -> Result<Arc<Enrolled>, StoreError> {
        let spec = J::SPEC;
        let known = self.jobs.read().unwrap_or_else(PoisonError::into_inner).get(spec.name).cloned();
        if let Some(enrolled) = known {
            return enrolled.of::<J>(spec.name);
        }
        if let Lock::BusinessRow { table, column } = spec.lock {
            self.store.check_row(table, column).await?;
        }
        let id = self.store.enrol(&self.namespace, spec.name).await?;
        let mut jobs = self.jobs.write().unwrap_or_else(PoisonError::into_inner);
        let enrolled = jobs.entry(spec.name).or_insert_with(|| Arc::new(Enrolled::new::<J>(id)));
        Arc::clone(enrolled).of::<J>(spec.name)
    }
}

/// A job as this process knows it.
#[derive(Debug)]
pub(crate) struct Enrolled {
    pub(crate) id: JobId,
    job: TypeId,
    type_name: &'static str,
    /// How far the last runs speak for another replay: 0 to 3, as a branch predictor counts.
    replays: AtomicU8,
}

impl Enrolled {
    fn new<J: Job>(id: JobId) -> Self {
        Enrolled {
            id,
            job: TypeId::of::<J>(),
            type_name: std::any::type_name::<J>(),
            replays: AtomicU8::new(0),
        }
    }

    fn of<J: Job>(self: Arc<Self>, name: &str) -> Result<Arc<Self>, StoreError> {
        if self.job == TypeId::of::<J>() {
            return Ok(self);
        }
        Err(StoreError::new(
            StoreErrorKind::NameTaken,
            format!(
                "`{}` and `{}` are both called `{name}`, so they would answer for each other; \
                 give one of them another `name = \"…\"`",
                self.type_name,
                std::any::type_name::<J>()
            ),
        ))
    }

    pub(crate) fn expects_replay(&self) -> bool {
        self.replays.load(Ordering::Relaxed) >= 2
    }

    pub(crate) fn replayed(&self) {
        // A lost update only makes the guess a little worse.
        self.replays.store((self.replays.load(Ordering::Relaxed) + 1).min(3), Ordering::Relaxed);
    }

    pub(crate) fn ran(&self) {
        self.replays.store(self.replays.load(Ordering::Relaxed).saturating_sub(1), Ordering::Relaxed);
    }
}

/// The settings of an [`Idem`].
///
/// Begin with `Idem::builder`, [`Idem::memory`] or [`Idem::with_store`].
///
/// # Example
///
/// ```
/// use idem_runtime::prelude::*;
///
/// let idem = Idem::memory().namespace("billing").build().unwrap();
/// assert_eq!(idem.namespace(), "billing");
/// assert!(Idem::memory().namespace("no blanks").build().is_err());
/// ```
#[must_use]
pub struct Builder<D: Database, S = ()> {
    #[expect(clippy::type_complexity, reason = "named once, here")]
    store: Box<dyn FnOnce(Settings) -> Result<Arc<dyn Store<D>>, StoreError>>,
    settings: Settings,
    namespace: String,
    state: S,
    keep_failed: KeepFailed,
}

impl<D: Database> Builder<D> {
    fn new(store: impl FnOnce(Settings) -> Result<Arc<dyn Store<D>>, StoreError> + 'static) -> Self {
        Builder {
            store: Box::new(store),
            settings: Settings::default(),
            namespace: String::from("default"),
            state: (),
            keep_failed: KeepFailed::new(),
        }
    }
}

impl<D: Database, S> Builder<D, S> {
    /// Keeps the keys of this application apart from those of others in the same database.
    ///
    /// 1 to 64 characters out of `a-z A-Z 0-9 _ . : -`; the default is `default`. Every key depends on
    /// it: another namespace knows nothing of this one's runs.
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = namespace.into();
        self
    }

    /// Begins the names of idem's tables with `prefix` instead of `idem_`.
    ///
    /// A plain identifier of at most 32 characters. The tables are `…records`, `…jobs`, `…steps`,
    /// `…outbox`, `…claims`, `…audit` and `…migrations`.
    pub fn table_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.settings.table_prefix = prefix.into();
        self
    }

    /// Puts idem's tables into this schema (PostgreSQL) or database (MySQL), which must exist.
    ///
    /// A plain identifier of at most 63 characters. SQLite has no schemas: [`build`](Self::build) refuses it.
    pub fn schema(mut self, schema: impl Into<String>) -> Self {
        self.settings.schema = Some(schema.into());
        self
    }

    /// Limits the connections that idem keeps; the default is the pool's own limit, and on SQLite 4.
    /// On a server there is one more, on which leases are renewed while leased jobs run, and on PostgreSQL one that listens
    /// while runs wait for leased ones. On SQLite the limit is that of the connections that read, and one more writes.
    ///
    /// A run holds one while its transaction is open, and waits for one for as long as the pool's
    /// `acquire_timeout`.
    pub fn connections(mut self, max: u32) -> Self {
        self.settings.connections = Some(max);
        self
    }

    /// Sets what jobs take as `#[state]`; see [`Provides`](crate::Provides).
    pub fn state<T>(self, state: T) -> Builder<D, T> {
        let Builder { store, settings, namespace, keep_failed, .. } = self;
        Builder { store, settings, namespace, state, keep_failed }
    }

    /// Lets a clean-up forget keys of a leased job whose last run failed this long ago; the default is to keep them for
    /// ever, so that their recorded steps are never taken twice.
    ///
    /// A key that is forgotten has no steps any more, and the next run of it begins anew. It is noted in the audit of
    /// the key. A clean-up is [`Idem::sweep`], or the job [`Cleanup`](cleanup::Cleanup).
    pub fn keep_failed<J: Job>(mut self, keep: Duration) -> Self {
        self.keep_failed.insert(J::SPEC.name, keep);
        self
    }

    /// Returns the handle. Nothing is sent to the database yet.
    ///
    /// # Errors
    ///
    /// [`Misconfigured`](StoreErrorKind::Misconfigured): a name that cannot be one, a limit of no
    /// connections, or a pool that cannot serve, such as one of private in-memory databases.
    pub fn build(self) -> Result<Idem<D, S>, StoreError> {
        let Builder { store, settings, namespace, state, keep_failed } = self;
        let plain = |c: char| c.is_ascii_alphanumeric() || "_.:-".contains(c);
        if namespace.is_empty() || namespace.len() > 64 || !namespace.chars().all(plain) {
            return Err(StoreError::new(
                StoreErrorKind::Misconfigured,
                format!("namespace {namespace:?} must be 1 to 64 characters out of a-z A-Z 0-9 _ . : -"),
            ));
        }
        settings.check()?;
        let store = store(settings)?;
        let jobs = RwLock::new(HashMap::new());
        Ok(Idem {
            inner: Arc::new(Inner {
                store,
                namespace,
                state,
                jobs,
                flights: Flights::default(),
                heart: Heart::default(),
                prepared: AtomicBool::new(false),
                keep_failed: Arc::new(keep_failed),
            }),
        })
    }
}

impl<D: Database, S> fmt::Debug for Builder<D, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("namespace", &self.namespace)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}
