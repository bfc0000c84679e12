//! What a law has at hand: a fresh database, and short words for what is done in most laws.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use idem_runtime::fingerprint::Fingerprint;
use idem_runtime::job::Retain;
use idem_runtime::key::{Key, KeyParts};
use idem_runtime::record::{JobId, NewRecord, Outcome, Record};
use idem_runtime::store::{Begun, Claim, Committed, Database, Found, KeyLock, Store, StoreTx};
use tokio::task::JoinHandle;

use super::fixture::{BoxError, Fixture};

/// How long a law waits for a key that will be freed: longer than any server takes to notice.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// How long most records of the suite are kept.
pub(super) const RETAINED: Duration = Duration::from_secs(60 * 60);

/// Fails the law with a message unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return Err(format!($($message)+).into());
        }
    };
}
pub(super) use ensure;

/// Fails the law unless both sides are equal; shows both.
macro_rules! ensure_eq {
    ($left:expr, $right:expr, $($message:tt)+) => {{
        let (left, right) = (&$left, &$right);
        if left != right {
            return Err(format!("{}: {left:?}, not {right:?}", format_args!($($message)+)).into());
        }
    }};
}
pub(super) use ensure_eq;

/// An open transaction and what was found.
pub(super) type Opened<D> = (Box<dyn StoreTx<D>>, Found);

/// One law on trial.
pub(super) struct Trial<D: Database> {
    pub(super) one: Arc<dyn Store<D>>,
    pub(super) two: Arc<dyn Store<D>>,
    pub(super) fixture: Arc<dyn Fixture<D>>,
    /// Busy is told apart from a temporary error.
    pub(super) tells_busy: bool,
    namespace: String,
}

impl<D: Database> Trial<D> {
    pub(super) fn new(fixture: Arc<dyn Fixture<D>>, lacks_busy: Option<&str>) -> Self {
        let [one, two] = fixture.stores();
        Trial { one, two, fixture, tells_busy: lacks_busy.is_none(), namespace: unique("conformance") }
    }

    /// Returns the namespace of the trial's keys.
    pub(super) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Returns a key that nobody else has: locks may reach beyond one database.
    pub(super) fn key(&self, name: &str) -> Key {
        let parts = KeyParts::of(name).expect("the suite's keys are not blank");
        Key::new(&self.namespace, "law", &parts)
    }

    /// Begins on the first handle, with patience.
    pub(super) async fn begin(&self, key: &Key) -> Result<Opened<D>, BoxError> {
        begin(&self.one, claim(key)).await
    }

    /// Begins on the second handle, with patience.
    pub(super) async fn begin_two(&self, key: &Key) -> Result<Opened<D>, BoxError> {
        begin(&self.two, claim(key)).await
    }

    /// Adds an effect in an open transaction.
    pub(super) async fn insert(&self, tx: &mut Box<dyn StoreTx<D>>, effect: &str) -> Result<(), BoxError> {
        self.fixture.insert(tx.connection(), effect).await
    }

    /// Runs a whole job on the first handle: effect `effect`, result `result`.
    pub(super) async fn complete(&self, key: &Key, effect: &str, result: &[u8]) -> Result<(), BoxError> {
        self.complete_for(key, effect, result, Retain::For(RETAINED)).await
    }

    /// The same, with a retention.
    pub(super) async fn complete_for(
        &self,
        key: &Key,
        effect: &str,
        result: &[u8],
        retain: Retain,
    ) -> Result<(), BoxError> {
        let (mut tx, found) = self.begin(key).await?;
        ensure_eq!(found, Found::Absent, "a first run found");
        self.insert(&mut tx, effect).await?;
        let committed = tx.commit(Some(&NewRecord { retain, ..record(key, result) })).await?;
        ensure_eq!(committed, Committed::Yes, "a first commit ended with");
        Ok(())
    }

    /// Lets two runs without a lock race for a key that has nothing on record: one with the effect and the result
    /// `winner` commits first, one with `loser` then loses.
    pub(super) async fn race(&self, key: &Key) -> Result<(), BoxError> {
        let (mut loser, found) = begin(&self.one, unlocked(key)).await?;
        ensure_eq!(found, Found::Absent, "the first finds");
        let (mut winner, found) = begin(&self.two, unlocked(key)).await?;
        ensure_eq!(found, Found::Absent, "the second finds");
        self.insert(&mut loser, "loser").await?;
        self.insert(&mut winner, "winner").await?;
        let committed = winner.commit(Some(&record(key, b"winner"))).await?;
        ensure_eq!(committed, Committed::Yes, "the winner's commit ended with");
        let committed = loser.commit(Some(&record(key, b"loser"))).await?;
        ensure_eq!(committed, Committed::LostRace, "the loser's commit ended with");
        Ok(())
    }

    /// Checks how often an effect has happened.
    pub(super) async fn ensure_count(&self, effect: &str, expected: u64) -> Result<(), BoxError> {
        let counted = self.fixture.count(effect).await?;
        ensure_eq!(counted, expected, "the number of effects `{effect}` is");
        Ok(())
    }

    /// Checks what a key has on record, by `read` and by `begin`, on both handles.
    pub(super) async fn ensure_recorded(&self, key: &Key, expected: Option<&[u8]>) -> Result<(), BoxError> {
        for store in [&self.one, &self.two] {
            let read = store.read(key.hash()).await?.map(|record| record.result);
            ensure_eq!(read.as_deref(), expected, "`read` returns");
            let (tx, found) = begin(store, claim(key)).await?;
            let begun = match &found {
                Found::Record(record) => Some(&*record.result),
                Found::Absent => None,
                Found::NoRow => return Err("`begin` asked for a row that nobody named".into()),
            };
            ensure_eq!(begun, expected, "`begin` finds");
            tx.rollback().await?;
        }
        Ok(())
    }

    /// Checks that a key has nothing on record, that its lock is free, and that an effect never happened.
    pub(super) async fn ensure_untouched(&self, key: &Key, effect: &str) -> Result<(), BoxError> {
        let (tx, found) = self.begin_two(key).await?;
        ensure_eq!(found, Found::Absent, "`begin` finds");
        tx.rollback().await?;
        self.ensure_count(effect, 0).await?;
        self.ensure_recorded(key, None).await
    }

    /// Begins on the second handle in a task, and returns when it waits for the lock.
    pub(super) async fn waiting_twin(&self, key: &Key) -> Result<Twin<D>, BoxError> {
        let (store, key) = (Arc::clone(&self.two), key.clone());
        let mut twin = tokio::spawn(async move { begin(&store, claim(&key)).await });
        tokio::select! {
            biased;
            begun = &mut twin => {
                let (_, found) = begun??;
                Err(format!("a twin did not wait for the lock and found {found:?}").into())
            }
            blocked = self.fixture.until_blocked() => {
                blocked?;
                ensure!(!twin.is_finished(), "a twin did not wait for the lock");
                Ok(Twin(twin))
            }
        }
    }
}

/// A `begin` that waits; dropping it drops the future of the `begin`.
pub(super) struct Twin<D: Database>(JoinHandle<Result<Opened<D>, BoxError>>);

impl<D: Database> Twin<D> {
    /// Returns what the twin found in the end.
    pub(super) async fn opened(mut self) -> Result<Opened<D>, BoxError> {
        (&mut self.0).await?
    }

    /// Drops the future of the `begin`, and returns when it is dropped.
    pub(super) async fn give_up(mut self) {
        self.0.abort();
        // The result does not matter: aborted, or through before it.
        let _ = (&mut self.0).await;
    }
}

impl<D: Database> Drop for Twin<D> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Begins, where the key is to be had in the end.
pub(super) async fn begin<D: Database>(
    store: &Arc<dyn Store<D>>,
    claim: Claim<'_>,
) -> Result<Opened<D>, BoxError> {
    match store.begin(&claim).await? {
        Begun::Open { tx, found } => Ok((tx, found)),
        Begun::Busy => Err(format!("the key was busy for {:?}", claim.wait).into()),
        Begun::RowBusy => Err(format!("the business row was busy for {:?}", claim.wait).into()),
    }
}

/// A claim with the lock of the key, patience and an undo.
pub(super) fn claim(key: &Key) -> Claim<'_> {
    Claim { key, lock: KeyLock::Key, wait: PATIENCE, records: true, row: None, undo: true }
}

/// A claim without a lock.
pub(super) fn unlocked(key: &Key) -> Claim<'_> {
    Claim { lock: KeyLock::None, ..claim(key) }
}

/// A completed record with the suite's fingerprint.
pub(super) fn record<'a>(key: &'a Key, result: &'a [u8]) -> NewRecord<'a> {
    NewRecord {
        key,
        job: JobId(1),
        outcome: Outcome::Completed,
        fingerprint: Fingerprint::from_bits(42),
        result,
        retain: Retain::For(RETAINED),
    }
}

/// What a store returns for [`record`].
pub(super) fn recorded(result: &[u8]) -> Record {
    Record { outcome: Outcome::Completed, fingerprint: Fingerprint::from_bits(42), result: result.to_vec() }
}

/// Polls a future at most `polls` times, each when it asks for it, and drops it after that.
///
/// Returns its output if it came to its end.
pub(super) async fn drop_after<F: Future>(polls: usize, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut left = polls;
    poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match future.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Returns a name that nobody else has, on this server or any other.
pub(super) fn unique(name: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{name}_{:x}_{nanos:x}_{next}", std::process::id())
}
