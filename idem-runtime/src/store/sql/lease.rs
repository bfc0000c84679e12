//! How the databases keep leased jobs: in the table of the records, with an outcome that is none yet.

use std::time::Duration;

use super::unknown_outcome;
use crate::fingerprint::Fingerprint;
use crate::job::Retain;
use crate::record::{Entry, Epoch, Hold, Outcome, State, Token};
use crate::store::{Lease, RETAIN_MILLIS_MAX, retain_millis};

pub(super) const RUNNING: i16 = 3;
pub(super) const FAILED: i16 = 4;
pub(super) const PARKED: i16 = 5;

/// Returns what a table keeps in the column `outcome` of a key that is put into this state.
///
/// That a lease has lapsed, or a record expired, is a matter of the store's clock, which no column says.
pub(in crate::store) fn state_code(state: State) -> i16 {
    match state {
        State::Running | State::Lapsed => RUNNING,
        State::Failed => FAILED,
        State::Parked => PARKED,
        State::Completed | State::Absent => Outcome::Completed.code(),
        State::Rejected => Outcome::Rejected.code(),
    }
}

/// Returns the first and the last of the numbers that the column `outcome` may have of a key in this state.
pub(in crate::store) fn state_codes(state: State) -> (i16, i16) {
    match state {
        State::Absent => (Outcome::Completed.code(), Outcome::Rejected.code()),
        state => (state_code(state), state_code(state)),
    }
}

/// Tells whether a record is that of a leased job without an outcome.
pub(super) fn is_unfinished(code: i16) -> bool {
    matches!(code, RUNNING | FAILED | PARKED)
}

/// The columns of an entry, as all databases keep them.
pub(in crate::store) struct EntryColumns {
    pub(in crate::store) outcome: i16,
    pub(in crate::store) expired: bool,
    pub(in crate::store) epoch: i64,
    pub(in crate::store) token: i64,
    pub(in crate::store) attempts: i32,
    pub(in crate::store) fingerprint: i64,
    /// In milliseconds; not above zero if it has passed.
    pub(in crate::store) lease_left: i64,
    pub(in crate::store) result: Vec<u8>,
}

impl EntryColumns {
    /// Makes an entry without steps.
    pub(in crate::store) fn read(self) -> Result<Entry, sqlx::Error> {
        let lease_left = Duration::from_millis(u64::try_from(self.lease_left).unwrap_or(0));
        let state = match self.outcome {
            RUNNING if lease_left.is_zero() => State::Lapsed,
            RUNNING => State::Running,
            FAILED => State::Failed,
            PARKED => State::Parked,
            _ if self.expired => State::Absent,
            code => Outcome::from_code(code).ok_or_else(|| unknown_outcome(code))?.state(),
        };
        let lease_left = if state == State::Running { lease_left } else { Duration::ZERO };
        Ok(Entry {
            state,
            epoch: Epoch(self.epoch),
            token: Token(self.token),
            attempts: u32::try_from(self.attempts).unwrap_or(0),
            fingerprint: Fingerprint::from_bits(self.fingerprint),
            lease_left,
            payload: self.result,
            steps: Vec::new(),
        })
    }
}

/// Turns a lease into the milliseconds that a store adds to its clock.
///
/// Longer than a thousand years is as good as that: no database's clock reaches much farther.
pub(in crate::store) fn lease_millis(lease: Duration) -> i64 {
    retain_millis(Retain::For(lease)).unwrap_or(RETAIN_MILLIS_MAX)
}

/// Returns the leases that are not among the tokens of those that were renewed.
pub(in crate::store) fn lost(leases: &[Lease], renewed: &[i64]) -> Vec<Hold> {
    let is_lost = |lease: &&Lease| !renewed.contains(&lease.hold.token.0);
    leases.iter().filter(is_lost).map(|lease| lease.hold).collect()
}
