//! The record of a key, and its life.
//!
//! [`next`] is the whole life cycle, pure: no store, no clock, no async. The protocol asks it what a
//! run may do and what it leaves behind; stores persist the answer.

mod latest;
mod lease;

use std::fmt;

pub use self::latest::{Latest, Moment, Move, Places, latest};
pub use self::lease::{Decision, Entry, Epoch, Hold, Parked, StepRecord, Token, Trouble, decide, holds};

use crate::fingerprint::Fingerprint;
use crate::job::Retain;
use crate::key::Key;

/// Where a key stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// Nothing is recorded, or what was has expired.
    Absent,
    /// A run has the key. Of an atomic job this is never durable: if its transaction ends otherwise than by
    /// a commit with a record, the key is absent again. Of a leased job it is, with the run's lease.
    Running,
    /// A run has the key, but its lease is over by the store's clock: any run may take the key over. Until
    /// one does, the late run may still write.
    Lapsed,
    /// The last run of a leased job ended without an outcome; another may take up what it left.
    Failed,
    /// A leased job does not know whether an effect has happened, and waits for a person.
    Parked,
    /// The effect is durable and its result is recorded.
    Completed,
    /// The job failed with a final error, which is recorded.
    Rejected,
}

impl State {
    /// Every state, in the order in which they are listed: those without an outcome first, what counts no more last.
    pub const ALL: [State; 7] = [
        State::Running,
        State::Lapsed,
        State::Failed,
        State::Parked,
        State::Completed,
        State::Rejected,
        State::Absent,
    ];
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
    /// The run of an atomic job ended in any other way: error, panic, timeout, crash.
    Abandon,
    /// The run of a leased job ended with an error that is not final, or gave up.
    Fail,
    /// The run of a leased job does not know whether an effect has happened.
    Park,
    /// The run of a leased job is still there.
    Renew,
    /// The lease has passed, by the store's clock.
    Lapse,
    /// By the word of a person the job may go on: a parked effect did not happen, or its outcome is known, or the run that has
    /// the key is dead.
    Release,
    /// What a person has said of a parked key was a mistake, and no run has begun since: it is parked again, for the next word.
    Correct,
    /// The retention has passed, by the store's clock.
    Expire,
    /// What is recorded of a key that no run has is to count no more, by the word of a person or of a clean-up.
    Forget,
}

/// An event that cannot happen to a key in this state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Illegal {
    /// The state.
    pub state: State,
    /// The event.
    pub event: Event,
}

impl Illegal {
    /// Returns what it says, without its code.
    pub(crate) fn says(&self) -> String {
        let Illegal { state, event } = self;
        format!("event {event:?} cannot happen to a key that is {state:?}; nothing was changed")
    }
}

/// Returns where a key stands after an event.
///
/// # Errors
///
/// [`Illegal`], if the event cannot happen to a key in this state. That a completed or rejected key
/// cannot begin is the promise of idem; that a running one cannot is the promise of a lease.
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
        (State::Absent | State::Lapsed | State::Failed, Event::Begin) => Ok(State::Running),
        (State::Running | State::Lapsed, Event::Renew) => Ok(State::Running),
        (State::Running, Event::Lapse) => Ok(State::Lapsed),
        (State::Running | State::Lapsed | State::Parked, Event::Complete) => Ok(State::Completed),
        (State::Running | State::Lapsed, Event::Reject) => Ok(State::Rejected),
        (State::Running | State::Lapsed, Event::Fail) => Ok(State::Failed),
        (State::Running | State::Lapsed, Event::Park) => Ok(State::Parked),
        (State::Running, Event::Abandon) => Ok(State::Absent),
        (State::Running | State::Lapsed | State::Parked, Event::Release) => Ok(State::Failed),
        (State::Failed, Event::Correct) => Ok(State::Parked),
        (State::Completed | State::Rejected, Event::Expire) => Ok(State::Absent),
        (State::Failed | State::Parked | State::Completed | State::Rejected, Event::Forget) => {
            Ok(State::Absent)
        }

        (
            State::Absent,
            Event::Complete
            | Event::Reject
            | Event::Abandon
            | Event::Fail
            | Event::Park
            | Event::Renew
            | Event::Lapse
            | Event::Release
            | Event::Correct
            | Event::Expire
            | Event::Forget,
        )
        | (State::Running, Event::Begin | Event::Correct | Event::Expire | Event::Forget)
        | (State::Lapsed, Event::Abandon | Event::Lapse | Event::Correct | Event::Expire | Event::Forget)
        | (
            State::Failed,
            Event::Complete
            | Event::Reject
            | Event::Abandon
            | Event::Fail
            | Event::Park
            | Event::Renew
            | Event::Lapse
            | Event::Release
            | Event::Expire,
        )
        | (
            State::Parked,
            Event::Begin
            | Event::Reject
            | Event::Abandon
            | Event::Fail
            | Event::Park
            | Event::Renew
            | Event::Lapse
            | Event::Correct
            | Event::Expire,
        )
        | (
            State::Completed | State::Rejected,
            Event::Begin
            | Event::Complete
            | Event::Reject
            | Event::Abandon
            | Event::Fail
            | Event::Park
            | Event::Renew
            | Event::Lapse
            | Event::Release
            | Event::Correct,
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
            State::Absent | State::Running | State::Lapsed | State::Failed | State::Parked => None,
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

    const EVENTS: [Event; 12] = [
        Event::Begin,
        Event::Complete,
        Event::Reject,
        Event::Abandon,
        Event::Fail,
        Event::Park,
        Event::Renew,
        Event::Lapse,
        Event::Release,
        Event::Correct,
        Event::Expire,
        Event::Forget,
    ];

    #[test]
    fn exactly_twenty_six_transitions_are_legal() {
        let legal = State::ALL
            .iter()
            .flat_map(|state| EVENTS.iter().map(|event| (*state, *event)))
            .filter(|(state, event)| next(*state, *event).is_ok())
            .count();
        assert_eq!(legal, 26);
    }

    #[test]
    fn only_a_key_that_nobody_has_begins() {
        for state in State::ALL {
            let free = matches!(state, State::Absent | State::Lapsed | State::Failed);
            assert_eq!(next(state, Event::Begin).is_ok(), free, "{state:?}");
        }
    }

    #[test]
    fn a_parked_key_waits_for_a_person() {
        let leaves = |event: &Event| next(State::Parked, *event).is_ok();
        assert!(EVENTS.iter().filter(|event| leaves(event)).eq(&[
            Event::Complete,
            Event::Release,
            Event::Forget
        ]));
    }

    #[test]
    fn only_expiry_and_a_persons_word_leave_a_recorded_state() {
        for state in [State::Completed, State::Rejected] {
            for event in EVENTS {
                let leaves = matches!(event, Event::Expire | Event::Forget);
                assert_eq!(next(state, event).is_ok(), leaves, "{state:?} {event:?}");
            }
        }
    }

    #[test]
    fn a_key_that_a_run_may_have_is_not_forgotten() {
        for state in [State::Running, State::Lapsed] {
            assert!(next(state, Event::Forget).is_err(), "{state:?}");
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
