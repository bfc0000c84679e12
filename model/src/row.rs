//! What a store does with the record of one key: the conditions and changes of `LeaseStore`, without a database.
//!
//! Every condition is `record::holds` and every change of state is `record::next`, as in the stores. The clock of the
//! store is the state itself: [`State::Running`] is a live lease, [`State::Lapsed`] one that has passed.

use std::hash::{Hash, Hasher};
use std::time::Duration;

use idem_runtime::fingerprint::Fingerprint;
use idem_runtime::record::{Entry, Epoch, Event, Hold, State, StepRecord, Token, holds, next};
use idem_runtime::store::Held;

use crate::broken::Broken;

/// The arguments of every run.
pub(crate) const ARGS: Fingerprint = Fingerprint::NONE;

/// The record of the key, if there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row(pub Option<Entry>);

/// What a claim believes to have found: [`Entry`], as far as it is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Found {
    /// Where the key stood.
    pub state: State,
    /// The last claim.
    pub epoch: Epoch,
    /// Its run.
    pub token: Token,
}

/// A conditional change. `Step` numbers are places.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Write {
    /// Makes a record where there is none.
    Claim,
    /// Claims over what was found; which attempt it is.
    TakeOver(Found, u32),
    /// Renews the lease.
    Renew,
    /// The intent of a step.
    BeginStep(u32),
    /// The result of a step.
    EndStep(u32),
    /// A begun step had no effect.
    ForgetStep(u32),
    /// The transaction of a step: its effect and its result.
    CommitStep(u32),
    /// The outcome.
    Settle,
    /// The run ended without one; whether the effect of the whole job is in doubt.
    Fail(bool),
    /// A person has to look: at this step, or at the whole job.
    Park(Option<u32>),
}

impl Row {
    /// Where the key stands.
    pub fn state(&self) -> State {
        self.0.as_ref().map_or(State::Absent, |entry| entry.state)
    }

    /// Tells whether a run may write, as this protocol has it.
    pub fn admits(&self, hold: &Hold, write: Write, broken: Option<Broken>) -> bool {
        let Some(entry) = &self.0 else { return false };
        let mut asked = *hold;
        let (skips_epoch, skips_token) = match (broken, write) {
            (Some(Broken::TokenUnchecked), _) => (false, true),
            (Some(Broken::EpochUnchecked), _) => (true, false),
            (Some(Broken::SettleUnchecked), Write::Settle) | (Some(Broken::RenewUnchecked), Write::Renew) => {
                (true, true)
            }
            (Some(Broken::StepUnchecked), Write::BeginStep(_) | Write::EndStep(_) | Write::CommitStep(_)) => {
                (true, true)
            }
            _ => (false, false),
        };
        if skips_epoch {
            asked.epoch = entry.epoch;
        }
        if skips_token {
            asked.token = entry.token;
        }
        holds(entry, &asked)
    }

    /// Makes a change, if what it asks for is so.
    pub fn apply(&mut self, hold: &Hold, write: Write, broken: Option<Broken>) -> Held {
        match write {
            Write::Claim => return self.claim(hold),
            Write::TakeOver(found, attempts) => return self.take_over(hold, found, attempts, broken),
            _ => {}
        }
        if !self.admits(hold, write, broken) {
            return Held::Lost;
        }
        let Some(entry) = &mut self.0 else { return Held::Lost };
        match write {
            Write::Claim | Write::TakeOver(..) => unreachable!("it has returned"),
            Write::Renew => change(entry, Event::Renew),
            Write::BeginStep(seq) => {
                let at = entry.steps.iter().position(|step| step.seq == seq);
                match at {
                    None => put_step(entry, seq, None),
                    Some(at) if broken == Some(Broken::BeginOverwrites) => entry.steps[at].result = None,
                    Some(_) => {}
                }
            }
            Write::EndStep(seq) | Write::CommitStep(seq) => put_step(entry, seq, Some(vec![])),
            Write::ForgetStep(seq) => entry.steps.retain(|step| step.seq != seq || step.result.is_some()),
            Write::Settle => {
                change(entry, Event::Complete);
                entry.steps.clear();
                if broken == Some(Broken::SettledIsDeleted) {
                    self.0 = None;
                }
            }
            Write::Fail(in_doubt) => {
                change(entry, Event::Fail);
                entry.payload = vec![u8::from(in_doubt)];
                if matches!(broken, Some(Broken::EpochRestarts | Broken::EpochRestartsForOneProcess)) {
                    entry.epoch = Epoch::NONE;
                }
            }
            Write::Park(step) => {
                change(entry, Event::Park);
                entry.payload = step.iter().map(|seq| u8::try_from(*seq).expect("few steps")).collect();
            }
        }
        Held::Yes
    }

    fn claim(&mut self, hold: &Hold) -> Held {
        match self.0 {
            Some(_) => Held::Lost,
            None => {
                let state = next(State::Absent, Event::Begin).expect("nobody has the key");
                self.0 = Some(claimed(state, hold, 1, vec![]));
                Held::Yes
            }
        }
    }

    fn take_over(&mut self, hold: &Hold, found: Found, attempts: u32, broken: Option<Broken>) -> Held {
        let Some(entry) = self.0.as_mut().filter(|entry| found == Found::of(entry)) else {
            return Held::Lost;
        };
        let state = match next(entry.state, Event::Begin) {
            Err(_) if broken == Some(Broken::TakesOverTheLiving) => State::Running,
            begun => begun.expect("a claim is made over what a run may take"),
        };
        let steps = std::mem::take(&mut entry.steps);
        *entry = claimed(state, hold, attempts, steps);
        Held::Yes
    }

    /// A person settles what is in doubt: it is done, or it may be done. Until the next run the person may think again:
    /// returns what was said before, if anything was.
    pub fn resolve(&mut self, is_done: bool) -> Option<Option<bool>> {
        let entry = self.0.as_mut()?;
        let (state, parked, said) = match (entry.state, &*entry.payload) {
            (State::Parked, parked) => (State::Parked, parked.to_vec(), None),
            (State::Failed, [_, said, parked @ ..]) => {
                (next(State::Failed, Event::Correct).ok()?, parked.to_vec(), Some(*said == 1))
            }
            _ => return None,
        };
        let parked_step = parked.first().map(|seq| u32::from(*seq));
        let event = if is_done && parked_step.is_none() { Event::Complete } else { Event::Release };
        entry.state = next(state, event).ok()?;
        if let Some(seq) = parked_step {
            match is_done {
                true => put_step(entry, seq, Some(vec![])),
                false => entry.steps.retain(|step| step.seq != seq),
            }
        }
        entry.payload = [&[0, u8::from(is_done)], &*parked].concat();
        Some(said)
    }

    /// A person ends the claim of a run; what is in doubt is as if its lease had passed.
    pub fn release(&mut self) -> Option<()> {
        let entry = self.0.as_mut().filter(|entry| matches!(entry.state, State::Running | State::Lapsed))?;
        change(entry, Event::Release);
        entry.payload = vec![1];
        Some(())
    }

    /// Lets the clock of the store pass the end of the lease, or of the retention.
    pub fn pass(&mut self, event: Event) -> Option<()> {
        let entry = self.0.as_mut()?;
        entry.state = next(entry.state, event).ok()?;
        entry.lease_left = Duration::ZERO;
        Some(())
    }

    /// Deletes a record that has expired.
    pub fn sweep(&mut self) -> Option<()> {
        self.0.take_if(|entry| entry.state == State::Absent).map(|_| ())
    }
}

impl Found {
    /// What a claim that finds this believes.
    pub fn of(entry: &Entry) -> Self {
        Found { state: entry.state, epoch: entry.epoch, token: entry.token }
    }
}

fn claimed(state: State, hold: &Hold, attempts: u32, steps: Vec<StepRecord>) -> Entry {
    Entry {
        state,
        epoch: hold.epoch,
        token: hold.token,
        attempts,
        fingerprint: ARGS,
        lease_left: LEASE,
        payload: vec![],
        steps,
    }
}

/// The protocol never changes a state that the life cycle does not let it.
fn change(entry: &mut Entry, event: Event) {
    entry.state = next(entry.state, event).expect("a run that has the key may end and renew it");
    entry.lease_left = if entry.state == State::Running { LEASE } else { Duration::ZERO };
}

fn put_step(entry: &mut Entry, seq: u32, result: Option<Vec<u8>>) {
    match entry.steps.binary_search_by_key(&seq, |step| step.seq) {
        Ok(at) => entry.steps[at].result = result,
        Err(at) => entry.steps.insert(at, StepRecord { seq, name: String::new(), result }),
    }
}

/// What a live lease has left. How much does not matter: it lasts until it lapses.
const LEASE: Duration = Duration::from_secs(30);

impl Hash for Row {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.0.is_some().hash(hasher);
        let Some(Entry { state, epoch, token, attempts, fingerprint: _, lease_left: _, payload, steps }) =
            &self.0
        else {
            return;
        };
        (state, epoch, token, attempts, payload, steps.len()).hash(hasher);
        for StepRecord { seq, name: _, result } in steps {
            (seq, result).hash(hasher);
        }
    }
}
