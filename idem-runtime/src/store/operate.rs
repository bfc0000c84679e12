//! The part of a store that people look into, who know the jobs by name and not by type.

use std::time::Duration;

use async_trait::async_trait;

use super::Holder;
use crate::engine::TaskId;
use crate::error::StoreError;
use crate::key::KeyHash;
use crate::record::{Entry, State};
use crate::schedule::Tick;

/// What people look at: keys of every namespace and job in any state, unique claims, and how much there is.
#[async_trait]
pub trait OperateStore: Send + Sync + 'static {
    /// Returns keys, expired ones too.
    async fn keys(&self, filter: &KeyFilter<'_>) -> Result<Vec<KeyRow>, StoreError>;

    /// Returns the jobs that are known, by namespace and name, and how many keys each has in every state.
    ///
    /// It looks at every record.
    async fn jobs(&self) -> Result<Vec<JobRow>, StoreError>;

    /// Returns unique claims that are held, in the order of their hashes; states and order of the filter mean nothing here.
    async fn claims(&self, filter: &KeyFilter<'_>) -> Result<Vec<ClaimRow>, StoreError>;

    /// Ends the claims of a task that are not for a time, and notes it in the audit of each; returns how many there were.
    async fn release_claims(&self, task: TaskId, action: &str, why: &str) -> Result<u64, StoreError>;

    /// Returns how much there is beside the records.
    async fn volume(&self) -> Result<Volume, StoreError>;
}

/// Which keys [`OperateStore::keys`] returns.
#[derive(Debug, Clone, Copy)]
pub struct KeyFilter<'a> {
    /// The namespace; `None` for all.
    pub namespace: Option<&'a str>,
    /// The job; `None` for all.
    pub job: Option<&'a str>,
    /// The states; [`Absent`](State::Absent) is a record that has expired.
    pub states: &'a [State],
    /// A text that the readable key contains, in this case.
    pub containing: Option<&'a str>,
    /// This key alone.
    pub key: Option<KeyHash>,
    /// Only keys whose hashes come after this one.
    pub after: Option<KeyHash>,
    /// Which come first.
    pub order: KeyOrder,
    /// At most so many.
    pub limit: u32,
}

/// The order of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyOrder {
    /// By their hashes, which means nothing but is always the same.
    Hash,
    /// Those whose state has not changed for the longest time come first.
    LongestUnchanged,
}

/// A key, in whatever state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRow {
    /// The namespace.
    pub namespace: String,
    /// The job's name.
    pub job: String,
    /// The key.
    pub hash: KeyHash,
    /// The key, readable.
    pub key: String,
    /// How long ago its state changed, by the store's clock.
    pub since: Duration,
    /// How long it still answers; zero if it has expired, `None` if it never does or has no outcome.
    pub expires_in: Option<Duration>,
    /// How long the result or the final error is, in bytes.
    pub result_bytes: u64,
    /// What is recorded, without steps, and without the payload of an outcome.
    pub entry: Entry,
}

/// A job, and how many keys it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobRow {
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
    /// The last tick of its schedule that is done with.
    pub last_tick: Option<Tick>,
    /// Its keys by state.
    pub counts: StateCounts,
}

/// How many keys there are in each state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StateCounts {
    /// Under a lease.
    pub running: u64,
    /// Whose lease has passed.
    pub lapsed: u64,
    /// Whose last run failed.
    pub failed: u64,
    /// That wait for a person.
    pub parked: u64,
    /// With a result.
    pub completed: u64,
    /// With a final error.
    pub rejected: u64,
    /// Whose time is over, and which the next sweep deletes.
    pub expired: u64,
}

impl StateCounts {
    /// Returns how many there are in a state.
    pub fn of(&self, state: State) -> u64 {
        match state {
            State::Absent => self.expired,
            State::Running => self.running,
            State::Lapsed => self.lapsed,
            State::Failed => self.failed,
            State::Parked => self.parked,
            State::Completed => self.completed,
            State::Rejected => self.rejected,
        }
    }

    /// Counts so many more in a state.
    pub fn add(&mut self, state: State, more: u64) {
        *match state {
            State::Absent => &mut self.expired,
            State::Running => &mut self.running,
            State::Lapsed => &mut self.lapsed,
            State::Failed => &mut self.failed,
            State::Parked => &mut self.parked,
            State::Completed => &mut self.completed,
            State::Rejected => &mut self.rejected,
        } += more;
    }

    /// Returns how many there are.
    pub fn total(&self) -> u64 {
        let StateCounts { running, lapsed, failed, parked, completed, rejected, expired } = *self;
        running + lapsed + failed + parked + completed + rejected + expired
    }
}

/// A unique claim that is held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimRow {
    /// The namespace.
    pub namespace: String,
    /// The job's name.
    pub job: String,
    /// What is unique.
    pub hash: KeyHash,
    /// What is unique, readable.
    pub key: String,
    /// Who has it.
    pub holder: Holder,
}

/// How much there is beside the records, in all namespaces.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Volume {
    /// How many unique claims there are, those whose time is over included.
    pub claims: u64,
    /// How many of these the next sweep deletes.
    pub expired_claims: u64,
    /// How many tasks are in the outbox.
    pub outbox: u64,
    /// How long the oldest of these is there, by the store's clock.
    pub outbox_oldest: Option<Duration>,
    /// What each table takes on disk with its indexes, in bytes; empty if the database does not tell.
    pub tables: Vec<(String, u64)>,
}
