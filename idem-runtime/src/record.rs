//! The record of a key, and its life.
//!
//! [`next`] is the whole life cycle, pure: no store, no clock, no async. The protocol asks it what a
//! run may do and what it leaves behind; stores persist the answer.

use std::fmt;

use crate::fingerprint::Fingerprint;
use crate::job::Retain;
use crate::key::Key;

/// Where a key stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// Nothing is recorded, or what was has expired.
    Absent,
    /// A transaction holds the key. It is never durable: if the transaction ends otherwise than by
    /// a commit with a record, the key is absent again.
    Running,
    /// The effect is durable and its result is recorded.
    Completed,
    /// The job failed with a final error, which is recorded.
    Rejected,
}

/// What can happen to a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    /// A run wants to begin.
    Begin,
    /// The run did the work, or found it done.
    Complete,
    /// The run ended with an error that is final.
    Reject,
    /// The run ended in any other way: error, panic, timeout, crash.
    Abandon,
    /// The retention has passed, by the store's clock.
    Expire,
}

/// An event that cannot happen to a key in this state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a key that is {state:?} cannot {event:?}")]
pub struct Illegal {
    /// The state.
    pub state: State,
    /// The event.
    pub event: Event,
}

/// Returns where a key stands after an event.
///
/// # Errors
///
/// [`Illegal`], if the event cannot happen to a key in this state. That a completed or rejected key
/// cannot begin is the promise of idem.
///
/// # Example
///
/// ```
/// use idem_runtime::record::{Event, State, next};
///
/// assert_eq!(next(State::Absent, Event::Begin), Ok(State::Running));
/// assert_eq!(next(State::Running, Event::Complete), Ok(State::Completed));
/// assert!(next(State::Completed, Event::Begin).is_err());
/// ```
pub fn next(state: State, event: Event) -> Result<State, Illegal> {
    match (state, event) {
        (State::Absent, Event::Begin) => Ok(State::Running),
        (State::Running, Event::Complete) => Ok(State::Completed),
        (State::Running, Event::Reject) => Ok(State::Rejected),
        (State::Running, Event::Abandon) => Ok(State::Absent),
        (State::Completed | State::Rejected, Event::Expire) => Ok(State::Absent),

        (State::Absent, Event::Complete | Event::Reject | Event::Abandon | Event::Expire)
        | (State::Running, Event::Begin | Event::Expire)
        | (
            State::Completed | State::Rejected,
            Event::Begin | Event::Complete | Event::Reject | Event::Abandon,
        ) => Err(Illegal { state, event }),
    }
}

/// How a recorded run ended: the two states that are durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// With a result.
    Completed,
    /// With a final error.
    Rejected,
}

impl Outcome {
    /// Returns the outcome that a key in `state` has on record; `None` if there is no record.
    pub fn of(state: State) -> Option<Outcome> {
        match state {
            State::Completed => Some(Outcome::Completed),
            State::Rejected => Some(Outcome::Rejected),
            State::Absent | State::Running => None,
        }
    }

    /// Returns the state of a key with this outcome.
    pub fn state(self) -> State {
        match self {
            Outcome::Completed => State::Completed,
            Outcome::Rejected => State::Rejected,
        }
    }

    /// Returns the number that SQL stores keep.
    pub fn code(self) -> i16 {
        match self {
            Outcome::Completed => 1,
            Outcome::Rejected => 2,
        }
    }

    /// Reads what [`code`](Self::code) gave; `None` for a number that this version does not know.
    pub fn from_code(code: i16) -> Option<Outcome> {
        match code {
            1 => Some(Outcome::Completed),
            2 => Some(Outcome::Rejected),
            _ => None,
        }
    }
}

/// The number of a job in a store, which its records carry instead of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobId(pub i32);

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a store returns for a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// How the run ended.
    pub outcome: Outcome,
    /// The arguments of the run.
    pub fingerprint: Fingerprint,
    /// The result or the final error, encoded.
    pub result: Vec<u8>,
}

/// What a store writes for a key.
#[derive(Debug, Clone, Copy)]
pub struct NewRecord<'a> {
    /// The key.
    pub key: &'a Key,
    /// The job.
    pub job: JobId,
    /// How the run ended.
    pub outcome: Outcome,
    /// The arguments of the run.
    pub fingerprint: Fingerprint,
    /// The result or the final error, encoded.
    pub result: &'a [u8],
    /// How long the record answers.
    pub retain: Retain,
}

/// What a run may do, given what is recorded.
#[derive(Debug, PartialEq, Eq)]
pub enum Admission {
    /// Run the body.
    Run,
    /// Answer from the record.
    Replay,
    /// Refuse: the key belongs to a run with these other arguments.
    Refuse {
        /// The fingerprint of the recorded run.
        recorded: Fingerprint,
    },
}

/// Decides what a run with these arguments may do.
pub fn admit(recorded: Option<&Record>, given: Fingerprint) -> Admission {
    let state = recorded.map_or(State::Absent, |record| record.outcome.state());
    match (next(state, Event::Begin), recorded) {
        (Err(_), Some(record)) if !record.fingerprint.agrees_with(given) => {
            Admission::Refuse { recorded: record.fingerprint }
        }
        (Err(_), _) => Admission::Replay,
        (Ok(_), _) => Admission::Run,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATES: [State; 4] = [State::Absent, State::Running, State::Completed, State::Rejected];
    const EVENTS: [Event; 5] = [Event::Begin, Event::Complete, Event::Reject, Event::Abandon, Event::Expire];

    #[test]
    fn exactly_six_transitions_are_legal() {
        let legal = STATES
            .iter()
            .flat_map(|state| EVENTS.iter().map(|event| (*state, *event)))
            .filter(|(state, event)| next(*state, *event).is_ok())
            .count();
        assert_eq!(legal, 6);
    }

    #[test]
    fn only_an_absent_key_begins() {
        for state in STATES {
            assert_eq!(next(state, Event::Begin).is_ok(), state == State::Absent, "{state:?}");
        }
    }

    #[test]
    fn only_expiry_leaves_a_recorded_state() {
        for state in [State::Completed, State::Rejected] {
            for event in EVENTS {
                assert_eq!(next(state, event).is_ok(), event == Event::Expire, "{state:?} {event:?}");
            }
        }
    }

    #[test]
    fn outcomes_keep_their_codes() {
        for outcome in [Outcome::Completed, Outcome::Rejected] {
            assert_eq!(Outcome::from_code(outcome.code()), Some(outcome));
            assert_eq!(Outcome::of(outcome.state()), Some(outcome));
        }
        assert_eq!(Outcome::from_code(0), None);
    }

    #[test]
    fn a_record_admits_only_runs_with_its_arguments() {
        let one = Fingerprint::from_bits(1);
        let other = Fingerprint::from_bits(2);
        for outcome in [Outcome::Completed, Outcome::Rejected] {
            let record = Record { outcome, fingerprint: one, result: vec![] };
            assert_eq!(admit(Some(&record), one), Admission::Replay);
            assert_eq!(admit(Some(&record), Fingerprint::NONE), Admission::Replay);
            assert_eq!(admit(Some(&record), other), Admission::Refuse { recorded: one });
        }
        assert_eq!(admit(None, one), Admission::Run);
    }
}
