//! One run of the job: where it stands, and what it does next. It follows `run/leased.rs` and `run/steps.rs`.

use idem_runtime::record::{Hold, StepRecord};

use crate::broken::Broken;
use crate::row::{Found, Write};

/// A step of the job. The number of a step is its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// Calls somebody who takes the key: `in_doubt = rerun`.
    Keyed,
    /// Calls somebody who takes none: `in_doubt = park`, so its intent is written before.
    Unkeyed,
    /// Has its effect in the store's database.
    Tx,
    /// The body of a job without steps, `in_doubt = park`: the same as [`Unkeyed`](Self::Unkeyed), but what is recorded
    /// of it is the claim alone.
    Whole,
}

/// The steps of a job, in order.
pub(crate) type Job = &'static [Step];

/// What a run does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum At {
    /// It takes the key over from what it has found, for this attempt.
    TakeOver(Found, u32),
    /// It writes the intent of a step.
    Begin(u32),
    /// It calls somebody.
    Call(u32),
    /// It writes the result of the call.
    End(u32),
    /// It takes the intent back.
    Forget(u32),
    /// It commits the transaction of a step.
    Commit(u32),
    /// It looks whether the transaction was committed.
    Ask(u32),
    /// It stops for a person.
    Park(Option<u32>),
    /// It writes the outcome.
    Settle,
}

/// What a run has loaded of a step with its claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Loaded {
    Nothing,
    Begun,
    Done,
}

const STEPS_MAX: usize = 3;

/// A run between its claim and its end.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Run {
    /// Which run it is, from 1.
    pub number: u8,
    /// What it may write with.
    pub hold: Hold,
    /// Where it stands.
    pub at: At,
    /// Its last write was not answered, and is made again.
    pub again: bool,
    /// The effect of the whole job may have happened, by this run or an earlier one.
    pub in_doubt: bool,
    /// The retention that it ran under has passed: what it does to others is not promised any more.
    pub is_over: bool,
    loaded: [Loaded; STEPS_MAX],
}

impl Run {
    /// A run that does this next.
    pub fn new(number: u8, hold: Hold, at: At) -> Self {
        let loaded = [Loaded::Nothing; STEPS_MAX];
        Run { number, hold, at, again: false, in_doubt: false, is_over: false, loaded }
    }

    /// Begins the body, with the steps of earlier runs.
    pub fn start(&mut self, job: Job, steps: &[StepRecord], broken: Option<Broken>) {
        for step in steps {
            let place = usize::try_from(step.seq).expect("few steps");
            self.loaded[place] = if step.result.is_some() { Loaded::Done } else { Loaded::Begun };
        }
        match self.in_doubt {
            true => self.go(At::Park(None)),
            false => self.enter(0, job, broken),
        }
    }

    /// Comes to a step, or to the end of the body.
    pub fn enter(&mut self, place: u32, job: Job, broken: Option<Broken>) {
        let index = usize::try_from(place).expect("few steps");
        let Some(step) = job.get(index) else { return self.go(At::Settle) };
        // What has been passed is not looked at again.
        let loaded = std::mem::replace(&mut self.loaded[index], Loaded::Nothing);
        match (step, loaded) {
            (_, Loaded::Done) => self.enter(place + 1, job, broken),
            (_, Loaded::Begun) if broken == Some(Broken::DoubtPassed) => self.enter(place + 1, job, broken),
            (Step::Tx, _) => self.go(At::Commit(place)),
            (Step::Keyed | Step::Whole, _) => self.go(At::Call(place)),
            (Step::Unkeyed, _) if broken == Some(Broken::IntentUnwritten) => self.go(At::Call(place)),
            (Step::Unkeyed, Loaded::Nothing) => self.go(At::Begin(place)),
            (Step::Unkeyed, Loaded::Begun) if broken == Some(Broken::DoubtIgnored) => {
                self.go(At::Call(place))
            }
            (Step::Unkeyed, Loaded::Begun) => self.go(At::Park(Some(place))),
        }
    }

    /// Goes on to something new.
    pub fn go(&mut self, at: At) {
        self.at = at;
        self.again = false;
    }

    /// Tells whether it has had the key; before, it has only found it free.
    pub fn has_begun(&self) -> bool {
        !matches!(self.at, At::TakeOver(..))
    }

    /// What it writes where it stands; `None` if it does something else there.
    pub fn write(&self) -> Option<Write> {
        match self.at {
            At::TakeOver(found, attempts) => Some(Write::TakeOver(found, attempts)),
            At::Begin(place) => Some(Write::BeginStep(place)),
            At::End(place) => Some(Write::EndStep(place)),
            At::Forget(place) => Some(Write::ForgetStep(place)),
            At::Commit(place) => Some(Write::CommitStep(place)),
            At::Park(place) => Some(Write::Park(place)),
            At::Settle => Some(Write::Settle),
            At::Call(_) | At::Ask(_) => None,
        }
    }
}
