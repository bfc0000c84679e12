//! A store that tells a [`Watch`] what it is asked to do.

use std::error::Error as StdError;
use std::sync::Arc;

use async_trait::async_trait;
use idem_runtime::StoreError;
use idem_runtime::key::KeyHash;
use idem_runtime::record::{JobId, NewRecord, Record};
use idem_runtime::store::{Begun, Claim, Committed, Database, Found, Store, StoreTx, Swept};

use crate::watch::{Ack, BODY, Watch};

pub(crate) struct WatchedStore<D: Database> {
    pub(crate) inner: Arc<dyn Store<D>>,
    pub(crate) watch: Arc<Watch>,
}

#[async_trait]
impl<D: Database> Store<D> for WatchedStore<D> {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    async fn migrate(&self) -> Result<(), StoreError> {
        self.inner.migrate().await
    }

    fn migration_sql(&self) -> String {
        self.inner.migration_sql()
    }

    async fn enrol(&self, namespace: &str, name: &str) -> Result<JobId, StoreError> {
        self.inner.enrol(namespace, name).await
    }

    async fn check_row(&self, table: &str, column: &str) -> Result<(), StoreError> {
        self.inner.check_row(table, column).await
    }

    async fn read(&self, key: KeyHash) -> Result<Option<Record>, StoreError> {
        self.watch.phase("reading the record");
        self.watch.window("before the record is read").await;
        let read = self.inner.read(key).await;
        match &read {
            Ok(Some(_)) => self.watch.note("reads the record: there is one"),
            Ok(None) => self.watch.note("reads the record: there is none"),
            Err(error) => self.watch.note(format!("reading the record fails: {error}")),
        }
        self.watch.window("after the record is read").await;
        read
    }

    async fn begin(&self, claim: &Claim<'_>) -> Result<Begun<D>, StoreError> {
        self.watch.phase("BEGIN");
        self.watch.window("before BEGIN").await;
        self.watch.note("BEGIN: locks the key and reads its record");
        let begun = self.inner.begin(claim).await;
        match &begun {
            Ok(Begun::Open { found: Found::Record(_), .. }) => self.watch.note("finds a record"),
            Ok(Begun::Open { found: Found::Absent, .. }) => self.watch.note("finds no record"),
            Ok(Begun::Open { found: Found::NoRow, .. }) => self.watch.note("finds no business row"),
            Ok(Begun::Busy) => self.watch.note("the key is held by another run"),
            Err(error) => self.watch.note(format!("BEGIN fails: {error}")),
        }
        // From here on the transaction is a local of this function: a run that ends at this window drops it.
        let begun = begun?;
        self.watch.window("after BEGIN").await;
        Ok(match begun {
            Begun::Open { tx, found } => {
                self.watch.phase(BODY);
                let watch = Arc::clone(&self.watch);
                Begun::Open { tx: Box::new(WatchedTx { inner: tx, watch }), found }
            }
            Begun::Busy => Begun::Busy,
        })
    }

    async fn sweep(&self, cursor: Option<KeyHash>, limit: u32) -> Result<Swept, StoreError> {
        self.inner.sweep(cursor, limit).await
    }
}

struct WatchedTx<D: Database> {
    inner: Box<dyn StoreTx<D>>,
    watch: Arc<Watch>,
}

#[async_trait]
impl<D: Database> StoreTx<D> for WatchedTx<D> {
    fn connection(&mut self) -> &mut D::Connection {
        self.inner.connection()
    }

    fn connection_ref(&self) -> &D::Connection {
        self.inner.connection_ref()
    }

    async fn undo(&mut self) -> Result<(), StoreError> {
        self.watch.phase("undoing the body");
        self.watch.window("before the body is undone").await;
        self.watch.note("undoes the body");
        self.inner.undo().await?;
        self.watch.window("after the body was undone").await;
        self.watch.phase(BODY);
        Ok(())
    }

    async fn undo_violation(
        &mut self,
        error: &(dyn StdError + Send + Sync + 'static),
        name: &str,
    ) -> Result<bool, StoreError> {
        self.watch.phase("undoing the body");
        self.watch.window("before the body is undone").await;
        let undone = self.inner.undo_violation(error, name).await?;
        if undone {
            self.watch.note(format!("undoes the body: `{name}` was violated"));
        }
        self.watch.window("after the body was undone").await;
        self.watch.phase(BODY);
        Ok(undone)
    }

    async fn commit(self: Box<Self>, record: Option<&NewRecord<'_>>) -> Result<Committed, StoreError> {
        let WatchedTx { inner, watch } = *self;
        watch.phase("COMMIT");
        watch.window("before COMMIT").await;
        let committed = match watch.ack {
            Ack::LostBeforeCommit => {
                watch.note("the connection breaks before COMMIT; no answer comes");
                inner.rollback().await.map(|()| Committed::Unknown)
            }
            Ack::Heard | Ack::LostAfterCommit => {
                watch.note(if record.is_some() {
                    "writes the record; COMMIT"
                } else {
                    "COMMIT, without a record"
                });
                inner.commit(record).await
            }
        };
        match &committed {
            Ok(Committed::Yes) => watch.note("committed"),
            Ok(Committed::LostRace) => watch.note("lost a race: the key is recorded; undone"),
            Ok(Committed::Unknown) => watch.note("nobody knows whether it committed"),
            Err(error) => watch.note(format!("COMMIT fails: {error}")),
        }
        watch.window("after COMMIT").await;
        match (watch.ack, committed) {
            (Ack::LostAfterCommit, Ok(Committed::Yes)) => {
                watch.note("the answer to COMMIT is lost");
                Ok(Committed::Unknown)
            }
            (_, committed) => committed,
        }
    }

    async fn rollback(self: Box<Self>) -> Result<(), StoreError> {
        let WatchedTx { inner, watch } = *self;
        watch.phase("ROLLBACK");
        watch.window("before ROLLBACK").await;
        watch.note("ROLLBACK");
        inner.rollback().await?;
        watch.window("after ROLLBACK").await;
        Ok(())
    }
}
