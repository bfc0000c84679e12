//! The transaction of an atomic job, as its body sees it.

use std::fmt;
use std::ops::{Deref, DerefMut};

use crate::error::{Error, StoreError};
use crate::job::Job;
use crate::key::Key;
use crate::run::task;
use crate::store::{Database, NewTask, StoreTx};

/// The one transaction around an atomic job: the effect, and the record that says it happened.
///
/// It derefs to the connection of the database driver, so a query runs on `&mut **tx`. The body
/// neither commits nor rolls back: returning `Ok` commits effect and record together, returning
/// `Err` undoes both. A nested `begin` makes a savepoint, as always with sqlx.
///
/// Another job of idem that the body calls is not part of this transaction: it takes a connection of its
/// own, commits by itself, and on SQLite waits in vain for the one writer, which is this transaction. Call
/// it after this job.
///
/// A body must not send `COMMIT`, nor on MySQL a statement that commits implicitly: what is committed
/// that way is there whatever becomes of the run. The store notices it and records nothing, and the run is
/// answered with an error. On PostgreSQL a body that begins anew behind its `COMMIT` is not noticed.
///
/// # Example
///
/// ```
/// # #[cfg(feature = "sqlite")] mod example {
/// use idem_runtime::prelude::*;
/// use sqlx::Connection as _;
///
/// #[idempotent(key = id)]
/// async fn charge(tx: &mut Tx<'_, Sqlite>, id: i64) -> Result<String, sqlx::Error> {
///     sqlx::query("INSERT INTO charges (id) VALUES (?)").bind(id).execute(&mut **tx).await?;
///
///     let mut savepoint = tx.begin().await?;
///     sqlx::query("DELETE FROM charges").execute(&mut *savepoint).await?;
///     savepoint.rollback().await?;
///
///     Ok(tx.idempotency_key_for("gateway"))
/// }
/// # #[tokio::main(flavor = "current_thread")] pub async fn main() {
/// # let pool = sqlx::SqlitePool::connect("sqlite::memory:").await.unwrap();
/// # sqlx::raw_sql("CREATE TABLE charges (id INTEGER)").execute(&pool).await.unwrap();
/// # let idem = Idem::builder(pool.clone()).build().unwrap();
/// # idem.migrate().await.unwrap();
/// # let key = charge(&idem, 42).await.unwrap();
/// # assert!(key.starts_with("idem_") && *key == *charge(&idem, 42).await.unwrap());
/// # let rows: i64 = sqlx::query_scalar("SELECT count(*) FROM charges").fetch_one(&pool).await.unwrap();
/// # assert_eq!(rows, 1);
/// # }
/// # }
/// # fn main() { #[cfg(feature = "sqlite")] example::main(); }
/// ```
pub struct Tx<'t, D: Database> {
    inner: &'t mut dyn StoreTx<D>,
    key: &'t Key,
    namespace: &'t str,
    /// The step of a leased job that this is the transaction of.
    step: Option<&'t str>,
    /// What is enqueued when the body has ended, or why it cannot be.
    tasks: Result<Vec<NewTask>, StoreError>,
}

impl<'t, D: Database> Tx<'t, D> {
    pub(crate) fn new(inner: &'t mut dyn StoreTx<D>, key: &'t Key, namespace: &'t str) -> Self {
        Tx { inner, key, namespace, step: None, tasks: Ok(Vec::new()) }
    }

    pub(crate) fn for_step(self, step: &'t str) -> Self {
        Tx { step: Some(step), ..self }
    }

    /// Ends the body's part, and returns what it has enqueued.
    pub(crate) fn into_tasks(self) -> Result<Vec<NewTask>, StoreError> {
        self.tasks
    }

    /// Enqueues another job, once: it is put into the outbox in this transaction, with the effect.
    ///
    /// If the body returns an error, or the transaction does not commit, nothing is enqueued.
    /// [`Queue::relay`](crate::engine::Queue::relay) takes it on to an engine in the same database,
    /// [`Idem::relay`](crate::Idem::relay) to one elsewhere. Where the job is to have its unique claim at once, and you are
    /// to know of a duplicate, push it with [`Queue::push_in`](crate::engine::Queue::push_in) on this connection instead.
    ///
    /// A job whose arguments make no key, or cannot be encoded, fails the run when the body has ended, and nothing is committed.
    /// Cost: one round trip for all that a body enqueues, and a row each until it is relayed.
    ///
    /// # Example
    ///
    /// ```
    /// use idem_runtime::prelude::*;
    /// use std::convert::Infallible;
    ///
    /// #[idempotent(key = booking)]
    /// async fn mail(tx: &mut Tx<'_, Memory>, booking: i64) -> Result<(), Infallible> {
    ///     Ok(tx.set(format!("mail {booking}"), "sent"))
    /// }
    ///
    /// #[idempotent(key = booking)]
    /// async fn confirm(tx: &mut Tx<'_, Memory>, booking: i64) -> Result<(), Infallible> {
    ///     tx.set(format!("booking {booking}"), "confirmed");
    ///     tx.enqueue(Mail { booking });
    ///     Ok(())
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// let idem = Idem::memory().build().unwrap();
    /// for _ in 0..2 {
    ///     confirm(&idem, 42).await.unwrap();
    /// }
    /// let sent = idem.relay(async |task| idem.run(task.decode::<Mail>()?).await.map(drop)).await;
    /// assert_eq!(sent.unwrap(), 1);
    /// # }
    /// ```
    pub fn enqueue<J: Job>(&mut self, job: J) {
        match (&mut self.tasks, task(self.namespace, &job)) {
            (Ok(tasks), Ok(task)) => tasks.push(task),
            (Ok(_), Err(error)) => self.tasks = Err(error),
            // The first one says enough.
            (Err(_), _) => {}
        }
    }

    /// Returns the key to hand to a callee that takes one: the same for every run of this job and key.
    ///
    /// It is a pure function of namespace, job name and key (in a `tx_step`, of its step too), so it survives crashes and redeploys. It is
    /// 37 characters long, `idem_` and 32 hexadecimal digits. For a second callee in the same job use [`idempotency_key_for`](Self::idempotency_key_for).
    pub fn idempotency_key(&self) -> String {
        self.key.outbound(self.step.unwrap_or(""))
    }

    /// Returns the key to hand to the callee named `step`: the same for every run of this job and key.
    pub fn idempotency_key_for(&self, step: &str) -> String {
        match self.step {
            None => self.key.outbound(step),
            // No name of a step has a slash in it.
            Some(own) => self.key.outbound(&format!("{own}/{step}")),
        }
    }

    /// Undoes what the body did and keeps the transaction and its lock. `adopt` does this.
    ///
    /// # Errors
    ///
    /// The store's, if the connection broke.
    #[doc(hidden)]
    pub async fn undo<E>(&mut self) -> Result<(), Error<E>> {
        self.tasks = Ok(Vec::new());
        self.inner.undo().await.map_err(Error::Store)
    }

    /// Undoes what the body did if `error` is a violation of the unique constraint `name`, and
    /// tells whether it was. `adopt(constraint("…"))` does this.
    ///
    /// # Errors
    ///
    /// The store's, if the connection broke.
    #[doc(hidden)]
    pub async fn undo_violation<E>(
        &mut self,
        error: &(dyn std::error::Error + Send + Sync + 'static),
        name: &str,
    ) -> Result<bool, Error<E>> {
        let undone = self.inner.undo_violation(error, name).await.map_err(Error::<E>::Store)?;
        if undone {
            self.tasks = Ok(Vec::new());
        }
        Ok(undone)
    }
}

impl<D: Database> Deref for Tx<'_, D> {
    type Target = D::Connection;

    fn deref(&self) -> &D::Connection {
        self.inner.connection_ref()
    }
}

impl<D: Database> DerefMut for Tx<'_, D> {
    fn deref_mut(&mut self) -> &mut D::Connection {
        self.inner.connection()
    }
}

impl<D: Database> fmt::Debug for Tx<'_, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tx").field("key", &self.key).finish_non_exhaustive()
    }
}
