//! The memory store.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use idem_runtime::store::Store;
use idem_runtime::store::memory::{Memory as Db, MemoryConnection, MemoryStore};

use crate::conformance::{Ability, BoxError, Fixture, Harness};

/// Tests the memory store.
#[derive(Debug, Default)]
pub struct Memory {}

impl Memory {
    /// Makes the harness.
    pub fn new() -> Self {
        Self::default()
    }
}

#[async_trait]
impl Harness for Memory {
    type Db = Db;

    fn name(&self) -> String {
        String::from("memory")
    }

    fn lacks(&self, ability: Ability) -> Option<&'static str> {
        match ability {
            Ability::ConcurrentTransactions | Ability::BusyToldApart => None,
            Ability::NestedTransactions => Some("the connection is a map, without nested transactions"),
            Ability::EndedTransactions => Some("a body cannot end the transaction"),
            Ability::UniqueConstraints => Some("there are no constraints in memory"),
            Ability::BusinessRows => Some("there are no rows in memory"),
            Ability::Tables => Some("there are no tables in memory"),
            Ability::LostConnections => Some("there are no connections to lose in memory"),
            Ability::TasksInTransactions => Some("the connection is a map, which holds no tasks"),
        }
    }

    async fn open(&self) -> Result<Arc<dyn Fixture<Db>>, BoxError> {
        Ok(Arc::new(MemoryFixture { store: MemoryStore::new(), inserted: AtomicU64::new(0) }))
    }
}

struct MemoryFixture {
    store: MemoryStore,
    /// Every effect has a name of its own, so that a second one shows.
    inserted: AtomicU64,
}

#[async_trait]
impl Fixture<Db> for MemoryFixture {
    fn stores(&self) -> [Arc<dyn Store<Db>>; 2] {
        [Arc::new(self.store.clone()), Arc::new(self.store.clone())]
    }

    async fn insert(&self, connection: &mut MemoryConnection, effect: &str) -> Result<(), BoxError> {
        let number = self.inserted.fetch_add(1, Ordering::Relaxed);
        connection.set(format!("{number} {effect}"), "");
        Ok(())
    }

    async fn count(&self, effect: &str) -> Result<u64, BoxError> {
        let is_it = |name: &&String| name.split_once(' ').is_some_and(|(_, name)| name == effect);
        Ok(self.store.effects().keys().filter(is_it).count() as u64)
    }

    async fn let_pass(&self, time: Duration) -> Result<(), BoxError> {
        self.store.advance(time);
        Ok(())
    }
}
