//! What sender and worker say to each other: one JSON object a line.

use serde::{Deserialize, Serialize};

use crate::events::Webhook;

/// The first line to a worker.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Hello {
    /// Not an argument of the program, since it may have a password in it.
    pub(crate) database_url: String,
    /// Marks the rows of this run of the program in the delivery log.
    pub(crate) batch: String,
    pub(crate) worker: u32,
    pub(crate) without_idem: bool,
}

/// Every other line to a worker.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Delivery {
    /// Stop there, say so and go no further: the sender is about to kill.
    pub(crate) hold: Option<Stage>,
    pub(crate) webhook: Webhook,
}

/// Where a worker is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Stage {
    /// In the job's body: the effect is written, and not committed.
    InTheJob,
    /// After the job: the effect is committed, and nothing is logged or acknowledged.
    BeforeTheAnswer,
}

/// A line from a worker.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Said {
    /// How often the job's body has begun since the line before.
    pub(crate) runs: u32,
    pub(crate) reply: Reply,
}

/// What a worker says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reply {
    /// The worker has the database open.
    Ready,
    /// The delivery is done and logged.
    Answered(How),
    /// The id was used before with another body.
    Refused { why: String },
    /// The delivery had no effect.
    Failed { why: String, retry: bool, fatal: bool },
    /// The worker stands in the job's body until it is killed.
    HeldInTheJob,
    /// The worker stands before its answer until it is killed.
    HeldBeforeTheAnswer(How),
}

/// How the job answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum How {
    /// By running.
    Ran,
    /// From the record of an earlier run.
    Replayed,
}
