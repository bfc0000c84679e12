//! What the program `fleet` needs that is the same on every database: how its processes talk, and what is counted.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

/// The first line to a worker.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Hello {
    /// Not an argument of the program, since it may have a password in it.
    pub database_url: String,
    /// The worker's name at apalis, which no other start of a worker may have.
    pub name: String,
    /// Run the effect as it is, to see what idem is there to prevent.
    pub without_idem: bool,
}

/// Where a worker is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// In the job's body: the effect is written, and not committed.
    InTheJob,
    /// After the job: the effect is committed, and apalis has not heard of it.
    BeforeTheAnswer,
}

/// What a worker says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Said {
    /// The job's body has begun.
    Runs,
    /// The worker stands there until it is killed.
    Held(Stage),
}

/// The `#[state]` of the job: it tells of runs, and stops one where a worker is to be killed. Clones
/// are the same desk.
#[derive(Clone)]
pub struct Desk {
    tell: fn(Said),
    hold: Arc<AtomicU8>,
}

impl Default for Desk {
    /// Makes a desk that tells nobody.
    fn default() -> Self {
        Desk::new(|_| {})
    }
}

impl Desk {
    /// Makes a desk that tells by `tell`.
    pub fn new(tell: fn(Said)) -> Self {
        Desk { tell, hold: Arc::default() }
    }

    /// Lets the next run that comes to `stage` stop there for good.
    pub fn hold(&self, stage: Stage) {
        self.hold.store(bit(stage), Ordering::SeqCst);
    }

    /// Tells that the body has begun.
    pub fn runs(&self) {
        (self.tell)(Said::Runs);
    }

    /// Stops for good if a run is to stop at `stage`.
    pub async fn pass(&self, stage: Stage) {
        if self.hold.compare_exchange(bit(stage), 0, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
            (self.tell)(Said::Held(stage));
            std::future::pending().await
        }
    }
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk").finish_non_exhaustive()
    }
}

fn bit(stage: Stage) -> u8 {
    match stage {
        Stage::InTheJob => 1,
        Stage::BeforeTheAnswer => 2,
    }
}

/// What the endpoint is sent.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Change {
    /// The user's new address.
    pub email: String,
}

/// What the endpoint answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// The user.
    pub user_id: i64,
    /// The number of this change among those of the user.
    pub version: i64,
    /// What became of the task.
    pub enqueued: Answer,
    /// The task that does the work.
    pub task: Option<String>,
}

/// What became of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It is in the queue.
    New,
    /// Another task that waits does its work.
    Duplicate,
}

/// What the database says.
///
/// A *change* is a row that the endpoint has committed, with the user's version that it made. An *effect* is a row that
/// the job has committed: the version that its task was enqueued for, and the version of the user that it saw.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counted {
    /// Changes.
    pub changes: u64,
    /// Changes that were given no task of their own, since one that waits does their work.
    pub coalesced: u64,
    /// Effects.
    pub effects: u64,
    /// Changes that no effect has seen: there is none of this user that saw this version or a later one.
    pub lost: u64,
    /// Effects beyond the first of one task.
    pub doubled: u64,
    /// Tasks that apalis has given up.
    pub given_up: u64,
}

/// The fleet's database.
#[async_trait]
pub trait Site: Send + Sync {
    /// Makes the tables: its own, those of idem and those of apalis.
    async fn prepare(&self) -> anyhow::Result<()>;

    /// Returns the endpoint.
    async fn endpoint(&self) -> anyhow::Result<axum::Router>;

    /// Is a worker, until apalis ends it.
    async fn work(&self, name: &str, desk: Desk, without_idem: bool) -> anyhow::Result<()>;

    /// Counts what is there, on a new connection of its own.
    async fn count(&self) -> anyhow::Result<Counted>;

    /// Returns user and version of every change, read on a new connection of its own.
    async fn changes(&self) -> anyhow::Result<Vec<(i64, i64)>>;

    /// Counts the tasks that are still to be done, and those that are.
    async fn tasks(&self) -> anyhow::Result<(u64, u64)>;
}
