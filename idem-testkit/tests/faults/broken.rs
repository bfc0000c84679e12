//! A good store with one method replaced.

use std::error::Error as StdError;
use std::sync::Arc;

use async_trait::async_trait;
use idem_runtime::StoreError;
use idem_runtime::key::KeyHash;
use idem_runtime::record::{JobId, NewRecord, Record};
use idem_runtime::store::{Begun, Claim, Committed, Database, Store, StoreTx, Swept};
use idem_testkit::conformance::{BoxError, Fixture, NestedEnd};

/// What a store does wrong. Every default does it right.
#[async_trait]
pub(crate) trait Fault<D: Database>: Send + Sync + 'static {
    async fn migrate(&self, good: &Good<D>) -> Result<(), StoreError> {
        good.migrate().await
    }

    async fn enrol(&self, good: &Good<D>, namespace: &str, name: &str) -> Result<JobId, StoreError> {
        good.enrol(namespace, name).await
    }

    async fn check_row(&self, good: &Good<D>, table: &str, column: &str) -> Result<(), StoreError> {
        good.check_row(table, column).await
    }

    async fn read(&self, good: &Good<D>, key: KeyHash) -> Result<Option<Record>, StoreError> {
        good.read(key).await
    }

    async fn begin(&self, good: &Good<D>, claim: &Claim<'_>) -> Result<Begun<D>, StoreError> {
        good.begin(claim).await
    }

    async fn sweep(&self, good: &Good<D>, cursor: Option<KeyHash>, limit: u32) -> Result<Swept, StoreError> {
        good.sweep(cursor, limit).await
    }

    async fn undo(&self, tx: &mut dyn StoreTx<D>) -> Result<(), StoreError> {
        tx.undo().await
    }

    async fn undo_violation(
        &self,
        tx: &mut dyn StoreTx<D>,
        error: &(dyn StdError + Send + Sync + 'static),
        name: &str,
    ) -> Result<bool, StoreError> {
        tx.undo_violation(error, name).await
    }

    async fn commit(
        &self,
        good: &Good<D>,
        tx: Box<dyn StoreTx<D>>,
        record: Option<&NewRecord<'_>>,
    ) -> Result<Committed, StoreError> {
        let _ = good;
        tx.commit(record).await
    }

    async fn rollback(&self, tx: Box<dyn StoreTx<D>>) -> Result<(), StoreError> {
        tx.rollback().await
    }

    fn dropped(&self, tx: Box<dyn StoreTx<D>>) {
        drop(tx);
    }

    /// The prefix of the tables that a store takes which was given `prefix`.
    fn prefix<'a>(&self, prefix: &'a str) -> &'a str {
        prefix
    }

    /// What a nested transaction on the store's connection does.
    async fn insert_nested(
        &self,
        good: &dyn Fixture<D>,
        connection: &mut D::Connection,
        effect: &str,
        end: NestedEnd,
    ) -> Result<(), BoxError> {
        good.insert_nested(connection, effect, end).await
    }

    /// The store's connections have been killed.
    fn killed(&self) {}
}

pub(crate) type Good<D> = Arc<dyn Store<D>>;

pub(crate) struct BrokenStore<D: Database> {
    pub(crate) good: Good<D>,
    pub(crate) fault: Arc<dyn Fault<D>>,
}

#[async_trait]
impl<D: Database> Store<D> for BrokenStore<D> {
    fn name(&self) -> &'static str {
        self.good.name()
    }

    async fn migrate(&self) -> Result<(), StoreError> {
        self.fault.migrate(&self.good).await
    }

    fn migration_sql(&self) -> String {
        self.good.migration_sql()
    }

    async fn enrol(&self, namespace: &str, name: &str) -> Result<JobId, StoreError> {
        self.fault.enrol(&self.good, namespace, name).await
    }

    async fn check_row(&self, table: &str, column: &str) -> Result<(), StoreError> {
        self.fault.check_row(&self.good, table, column).await
    }

    async fn read(&self, key: KeyHash) -> Result<Option<Record>, StoreError> {
        self.fault.read(&self.good, key).await
    }

    async fn begin(&self, claim: &Claim<'_>) -> Result<Begun<D>, StoreError> {
        Ok(match self.fault.begin(&self.good, claim).await? {
            Begun::Busy => Begun::Busy,
            Begun::Open { tx, found } => {
                let (good, fault) = (Arc::clone(&self.good), Arc::clone(&self.fault));
                Begun::Open { tx: Box::new(BrokenTx { tx: Some(tx), good, fault }), found }
            }
        })
    }

    async fn sweep(&self, cursor: Option<KeyHash>, limit: u32) -> Result<Swept, StoreError> {
        self.fault.sweep(&self.good, cursor, limit).await
    }
}

struct BrokenTx<D: Database> {
    /// There until the transaction ends.
    tx: Option<Box<dyn StoreTx<D>>>,
    good: Good<D>,
    fault: Arc<dyn Fault<D>>,
}

impl<D: Database> BrokenTx<D> {
    fn open(&mut self) -> &mut dyn StoreTx<D> {
        &mut **self.tx.as_mut().expect("the transaction is open")
    }
}

#[async_trait]
impl<D: Database> StoreTx<D> for BrokenTx<D> {
    fn connection(&mut self) -> &mut D::Connection {
        self.open().connection()
    }

    fn connection_ref(&self) -> &D::Connection {
        self.tx.as_ref().expect("the transaction is open").connection_ref()
    }

    async fn undo(&mut self) -> Result<(), StoreError> {
        let fault = Arc::clone(&self.fault);
        fault.undo(self.open()).await
    }

    async fn undo_violation(
        &mut self,
        error: &(dyn StdError + Send + Sync + 'static),
        name: &str,
    ) -> Result<bool, StoreError> {
        let fault = Arc::clone(&self.fault);
        fault.undo_violation(self.open(), error, name).await
    }

    async fn commit(mut self: Box<Self>, record: Option<&NewRecord<'_>>) -> Result<Committed, StoreError> {
        let tx = self.tx.take().expect("the transaction is open");
        self.fault.commit(&self.good, tx, record).await
    }

    async fn rollback(mut self: Box<Self>) -> Result<(), StoreError> {
        let tx = self.tx.take().expect("the transaction is open");
        self.fault.rollback(tx).await
    }
}

impl<D: Database> Drop for BrokenTx<D> {
    fn drop(&mut self) {
        if let Some(tx) = self.tx.take() {
            self.fault.dropped(tx);
        }
    }
}
