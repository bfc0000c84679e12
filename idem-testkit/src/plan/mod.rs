//! What is tried on a job.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

/// One way to run a job more than once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Plan {
    /// The same run again and again.
    Repeat,
    /// Many runs at once.
    Concurrent,
    /// A crash at every window, then recovery.
    Crash,
    /// The answer to COMMIT is lost.
    LostAck,
    /// Somebody else's record appears while the job runs.
    Rival,
    /// Two runs, step by step, in every order.
    Interleavings,
    /// A worker that stands still, loses its claim and wakes up.
    Zombie,
    /// A process that is killed at every window, then recovery.
    Kill,
}

impl Plan {
    /// Every plan, in the order in which a full check runs them.
    pub const ALL: [Plan; 8] = [
        Plan::Repeat,
        Plan::Concurrent,
        Plan::Crash,
        Plan::LostAck,
        Plan::Rival,
        Plan::Interleavings,
        Plan::Zombie,
        Plan::Kill,
    ];

    /// Returns the plan's name, as reports and schedules write it.
    pub const fn name(self) -> &'static str {
        match self {
            Plan::Repeat => "repeat",
            Plan::Concurrent => "concurrent",
            Plan::Crash => "crash",
            Plan::LostAck => "lost_ack",
            Plan::Rival => "rival",
            Plan::Interleavings => "interleavings",
            Plan::Zombie => "zombie",
            Plan::Kill => "kill",
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Plan {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Plan::ALL
            .into_iter()
            .find(|plan| plan.name() == name)
            .ok_or_else(|| format!("there is no plan `{name}`"))
    }
}
