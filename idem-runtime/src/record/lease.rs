//! What is recorded of a leased job: who has the key, how far the work has come, and what a run that
//! finds it may do.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Event, Outcome, Record, State, next};
use crate::fingerprint::Fingerprint;
use crate::key::KeyHash;

/// The number of a claim of a key: it grows with each run that takes the key, for as long as there is a record.
///
/// It is a fencing token: hand it to a system that keeps the highest number it has seen, and that system
/// refuses a run that was overtaken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Epoch(pub i64);

impl Epoch {
    /// The epoch of a key that no leased run has had.
    pub const NONE: Epoch = Epoch(0);

    /// Returns the epoch of the run that takes the key next.
    #[must_use]
    pub fn next(self) -> Epoch {
        Epoch(self.0.saturating_add(1))
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A random number that no other run has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Token(pub i64);

/// A run's right to a key. Whatever the run writes is written only while the store agrees that it has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hold {
    /// The key.
    pub key: KeyHash,
    /// The number of the claim.
    pub epoch: Epoch,
    /// The run.
    pub token: Token,
}

/// What is recorded of a key, whoever recorded it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where the key stands, by the store's clock: [`Absent`](State::Absent) for a record that has expired.
    pub state: State,
    /// The last claim; [`Epoch::NONE`] if an atomic job made the record, in place of no other.
    pub epoch: Epoch,
    /// The run of the last claim.
    pub token: Token,
    /// How many runs have begun since the key was absent.
    pub attempts: u32,
    /// The arguments.
    pub fingerprint: Fingerprint,
    /// How much of the lease is left, by the store's clock; zero if no run has the key.
    pub lease_left: Duration,
    /// The result or final error, encoded; [`Trouble`] of a failed key, [`Parked`] of a parked one.
    pub payload: Vec<u8>,
    /// The steps of a run that has no outcome yet, in order.
    pub steps: Vec<StepRecord>,
}

impl Entry {
    /// Returns the record that answers, if the key has an outcome.
    pub fn record(&self) -> Option<Record> {
        let outcome = Outcome::of(self.state)?;
        Some(Record { outcome, fingerprint: self.fingerprint, result: self.payload.clone() })
    }
}

/// A recorded step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepRecord {
    /// Its place among the steps of the key, from 0.
    pub seq: u32,
    /// Its name, with its index if it has one.
    pub name: String,
    /// Its result, encoded, with a mark before it if a person has given it; `None` if it was begun and nobody knows what
    /// became of it.
    pub result: Option<Vec<u8>>,
}

/// Why the last run of a key failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// The error, as far as it can be written.
    pub error: String,
    /// Whether an effect of the whole job may have happened.
    pub in_doubt: bool,
    /// Whether a person has ended the run, who knows of no doubt: then it is as if its lease had passed.
    #[serde(default)]
    pub released: bool,
    /// What a person has said of it since, and why; the next run goes by that.
    #[serde(default)]
    pub settled: Option<String>,
    /// Where the key was parked when the person said it: until the next run, that can be corrected.
    #[serde(default)]
    pub parked: Option<Parked>,
    /// The place of the step that was parked, which has no row any more if it is said not to be done.
    #[serde(default)]
    pub seq: Option<u32>,
}

impl Trouble {
    /// Why a run failed that no person has said anything of.
    pub fn of(error: String, in_doubt: bool) -> Self {
        Trouble { error, in_doubt, released: false, settled: None, parked: None, seq: None }
    }
}

/// Where a key was parked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parked {
    /// The step; `None` for the job as a whole.
    pub step: Option<String>,
    /// Why.
    pub reason: String,
    /// The error that the run before ended with, if it was recorded.
    #[serde(default)]
    pub error: Option<String>,
    /// Whether it is for the recorded steps, which are not those of the code, and for no doubt (`drift = park`).
    #[serde(default)]
    pub drifted: bool,
}

impl Parked {
    /// A key that is parked because of a doubt.
    pub(crate) fn of(step: Option<String>, reason: String) -> Self {
        Parked { step, reason, error: None, drifted: false }
    }
}

/// What a run may do, given what is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Take the key: nobody has it. Epoch and attempt of the claim.
    Take {
        /// The number of the claim.
        epoch: Epoch,
        /// Which attempt it is, from 1.
        attempts: u32,
    },
    /// Answer from the record.
    Replay,
    /// Another run has the key.
    Busy {
        /// How much of its lease is left.
        lease_left: Duration,
    },
    /// The key waits for a person.
    Parked,
    /// Refuse: the key belongs to a run with these other arguments.
    Refuse {
        /// The fingerprint of the recorded run.
        recorded: Fingerprint,
    },
}

/// Decides what a run with these arguments may do.
pub fn decide(found: Option<&Entry>, given: Fingerprint) -> Decision {
    let Some(entry) = found else { return Decision::Take { epoch: Epoch::NONE.next(), attempts: 1 } };
    if entry.state != State::Absent && !entry.fingerprint.agrees_with(given) {
        return Decision::Refuse { recorded: entry.fingerprint };
    }
    match (next(entry.state, Event::Begin), entry.state) {
        // The epoch goes on where an expired record left it.
        (Ok(_), State::Absent) => Decision::Take { epoch: entry.epoch.next(), attempts: 1 },
        (Ok(_), _) => {
            Decision::Take { epoch: entry.epoch.next(), attempts: entry.attempts.saturating_add(1) }
        }
        (Err(_), State::Parked) => Decision::Parked,
        (Err(_), State::Completed | State::Rejected) => Decision::Replay,
        (Err(_), State::Absent | State::Running | State::Lapsed | State::Failed) => {
            Decision::Busy { lease_left: entry.lease_left }
        }
    }
}

/// Tells whether a run may still write: nobody has taken the key over, and the run has not ended.
///
/// This is the condition on every write of a leased run. A lease that is over does not end it, being taken over does.
pub fn holds(entry: &Entry, hold: &Hold) -> bool {
    next(entry.state, Event::Renew).is_ok() && entry.epoch == hold.epoch && entry.token == hold.token
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(state: State) -> Entry {
        Entry {
            state,
            epoch: Epoch(3),
            token: Token(7),
            attempts: 2,
            fingerprint: Fingerprint::from_bits(1),
            lease_left: Duration::from_secs(9),
            payload: vec![],
            steps: vec![],
        }
    }

    #[test]
    fn the_epoch_grows_with_every_claim_and_never_starts_again() {
        let given = Fingerprint::from_bits(1);
        assert_eq!(decide(None, given), Decision::Take { epoch: Epoch(1), attempts: 1 });
        for state in [State::Lapsed, State::Failed] {
            assert_eq!(decide(Some(&entry(state)), given), Decision::Take { epoch: Epoch(4), attempts: 3 });
        }
        assert_eq!(
            decide(Some(&entry(State::Absent)), given),
            Decision::Take { epoch: Epoch(4), attempts: 1 }
        );
    }

    #[test]
    fn a_live_claim_is_never_taken_over() {
        let decided = decide(Some(&entry(State::Running)), Fingerprint::from_bits(1));
        assert_eq!(decided, Decision::Busy { lease_left: Duration::from_secs(9) });
    }

    #[test]
    fn other_arguments_are_refused_whatever_the_key_is_doing() {
        let other = Fingerprint::from_bits(2);
        for state in
            [State::Running, State::Lapsed, State::Failed, State::Parked, State::Completed, State::Rejected]
        {
            let recorded = Fingerprint::from_bits(1);
            assert_eq!(decide(Some(&entry(state)), other), Decision::Refuse { recorded }, "{state:?}");
        }
        assert!(matches!(decide(Some(&entry(State::Absent)), other), Decision::Take { .. }));
    }

    #[test]
    fn only_the_run_of_the_last_claim_holds_the_key() {
        let key = KeyHash::from_bytes([0; 16]);
        let own = Hold { key, epoch: Epoch(3), token: Token(7) };
        for state in [State::Running, State::Lapsed] {
            assert!(holds(&entry(state), &own), "{state:?}");
            assert!(!holds(&entry(state), &Hold { epoch: Epoch(2), ..own }), "{state:?}");
            assert!(!holds(&entry(state), &Hold { token: Token(8), ..own }), "{state:?}");
        }
        for state in [State::Absent, State::Failed, State::Parked, State::Completed, State::Rejected] {
            assert!(!holds(&entry(state), &own), "{state:?}");
        }
    }
}
