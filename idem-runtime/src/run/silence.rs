//! How long a store may be silent. A connection whose other end is gone without a word stays silent for as long as TCP tries,
//! which may be for ever, and the run, its key and its connection with it.

use std::time::Duration;

use tokio::time::Instant;
use tracing::debug;

use crate::error::{StoreError, StoreErrorKind};
use crate::record::{Hold, NewRecord};
use crate::store::{Committed, Database, Held, NewTask, StoreTx, TxStep};

/// How long a write of a leased run may go unanswered; longer if the lease is. Within that a store that finds the connection silent
/// which it has kept, by default after the 30 seconds that sqlx's pool waits, writes on another one.
pub(super) const SILENCE_MAX: Duration = Duration::from_secs(40);

/// How long the end of a transaction may go unanswered at the least.
const END_SILENCE_MAX: Duration = Duration::from_secs(60);

/// Limits how long a store may be silent.
pub(super) async fn answered<T>(
    limit: Duration,
    asked: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    let silent = |limit| {
        let text = format!(
            "the store did not answer a leased run for {limit:?}, so nobody knows whether its write was made; run it again: its \
             record decides"
        );
        Err(StoreError::new(StoreErrorKind::OutcomeUnknown, text).temporary())
    };
    within(limit, asked, silent).await
}

/// Waits for a store, and makes of its silence what the caller says.
async fn within<T>(
    limit: Duration,
    asked: impl Future<Output = Result<T, StoreError>>,
    silent: impl FnOnce(Duration) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    tokio::time::timeout(limit, asked).await.unwrap_or_else(|_| {
        debug!(?limit, "the store does not answer");
        silent(limit)
    })
}

/// An open transaction, whose end is not waited for for ever.
///
/// A commit may lawfully take long, where much is to be checked, or to be copied to another server first. So it gets as long as the
/// transaction has taken until then, or as the job's `timeout` says, and a minute at the least. Who gives it up knows nothing of its
/// outcome, and closes the connection.
pub(super) struct Bounded<D: Database> {
    pub(super) tx: Box<dyn StoreTx<D>>,
    began: Instant,
    timeout: Option<Duration>,
}

impl<D: Database> Bounded<D> {
    /// Takes a transaction that began just now.
    pub(super) fn new(tx: Box<dyn StoreTx<D>>, timeout: Option<Duration>) -> Self {
        Bounded { tx, began: Instant::now(), timeout }
    }

    pub(super) async fn undo(&mut self) -> Result<(), StoreError> {
        within(self.limit(), self.tx.undo(), nothing_committed("undo the body")).await
    }

    /// Puts what the body has enqueued into the outbox, and returns its encoded result. Where there is nothing to put, the
    /// store is not asked.
    pub(super) async fn enqueued(
        &mut self,
        encoded: Result<Vec<u8>, StoreError>,
        tasks: Result<Vec<NewTask>, StoreError>,
    ) -> Result<Vec<u8>, StoreError> {
        let (encoded, tasks) = (encoded?, tasks?);
        if !tasks.is_empty() {
            within(self.limit(), self.tx.enqueue(&tasks), nothing_committed("enqueue")).await?;
        }
        Ok(encoded)
    }

    pub(super) async fn commit(self, record: Option<&NewRecord<'_>>) -> Result<Committed, StoreError> {
        within(self.limit(), self.tx.commit(record), |_| Ok(Committed::Unknown)).await
    }

    pub(super) async fn commit_step(self, hold: &Hold, step: &TxStep<'_>) -> Result<Held, StoreError> {
        within(self.limit(), self.tx.commit_step(hold, step), |_| Ok(Held::Unknown)).await
    }

    /// Ends the transaction and undoes everything. If that fails, or takes too long, the connection is closed, which does so as well.
    pub(super) async fn rollback(self) {
        let ended = within(self.limit(), self.tx.rollback(), nothing_committed("roll back")).await;
        if let Err(error) = ended {
            debug!(%error, "rolling back failed");
        }
    }

    fn limit(&self) -> Duration {
        self.began.elapsed().max(self.timeout.unwrap_or_default()).max(END_SILENCE_MAX)
    }
}

/// What the silence of a store means that was told to do `what`.
fn nothing_committed(what: &str) -> impl FnOnce(Duration) -> Result<(), StoreError> {
    move |limit| {
        let text = format!(
            "the store was told to {what}, and did not answer for {limit:?}; nothing was committed; run it again"
        );
        Err(StoreError::new(StoreErrorKind::Unavailable, text).temporary())
    }
}
