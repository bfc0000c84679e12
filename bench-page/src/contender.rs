//! Who is measured, doing what, on which store.

use serde::{Deserialize, Serialize};

/// Where the records, the tasks and the effects are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Store {
    /// A file, in the process.
    Sqlite,
    /// A server.
    Postgres,
    /// MariaDB, a server, by MySQL's protocol.
    Mysql,
}

impl Store {
    /// Returns the name of the database that is measured.
    pub fn name(self) -> &'static str {
        match self {
            Store::Sqlite => "SQLite",
            Store::Postgres => "PostgreSQL",
            Store::Mysql => "MariaDB",
        }
    }
}

/// What is done over and over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// Atomic jobs, each with a key of its own.
    First,
    /// Atomic jobs, each with a key that has run.
    Replay,
    /// Sixteen runs of one fresh key at once.
    Herd,
    /// Leased jobs of three steps, each with a key of its own.
    Steps,
    /// One task is enqueued, and is new.
    Enqueue,
    /// One task is enqueued that is queued already.
    EnqueueDuplicate,
    /// A hundred tasks are enqueued by one call, and are new.
    EnqueueHundred,
}

impl Form {
    /// Returns what a heading says.
    pub fn name(self) -> &'static str {
        match self {
            Form::First => "first runs",
            Form::Replay => "replays",
            Form::Herd => "sixteen runs of one key at once",
            Form::Steps => "leased jobs of three steps",
            Form::Enqueue => "enqueueing, new",
            Form::EnqueueDuplicate => "enqueueing, duplicate",
            Form::EnqueueHundred => "enqueueing, a hundred new at once",
        }
    }
}

/// One way to do it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Contender {
    /// The effect alone, each worker on its own connection.
    BareOwn,
    /// The effect alone, on connections of a pool.
    BarePool,
    /// The read of a result, and nothing else.
    OneRead,
    /// Look, act, record, without a lock, on connections of a pool.
    NaivePool,
    /// Look, act, record, under a lock, each worker on its own connection.
    CarefulOwn,
    /// As few messages as can be, each worker on its own connection.
    FoldedOwn,
    /// apalis without idem: as many equal tasks as are pushed.
    Apalis,
    /// graphile_worker, with a `job_key` that makes a task unique.
    Graphile,
    /// idem.
    Idem,
}

impl Contender {
    /// Returns its name.
    pub fn name(self) -> &'static str {
        match self {
            Contender::BareOwn => "bare effect, own connection",
            Contender::BarePool => "bare effect, pool as it comes",
            Contender::OneRead => "one prepared read",
            Contender::NaivePool => "naive by hand, pool as it comes",
            Contender::CarefulOwn => "careful by hand, own connection",
            Contender::FoldedOwn => "folded by hand, own connection",
            Contender::Apalis => "apalis alone",
            Contender::Graphile => "graphile_worker with job_key",
            Contender::Idem => "idem",
        }
    }

    /// Tells whether it only shows what is possible: it protects nothing, and so is no alternative to idem.
    pub fn is_floor(self) -> bool {
        matches!(self, Contender::BareOwn | Contender::BarePool | Contender::OneRead)
    }
}
