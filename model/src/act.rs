//! What a run does in the world, from its claim to its end.

use std::sync::LazyLock;

use idem_runtime::record::{Decision, Entry, Epoch, Hold, State, decide};
use idem_runtime::store::Held;

use crate::broken::Broken;
use crate::laws::Law;
use crate::row::{ARGS, Found, Write};
use crate::run::{At, Run, Step};
use crate::world::{KEY, Letter, Protocol, World};

impl World {
    /// `None` if the key is not free: a run that is answered, refused or has to wait leaves nothing behind.
    pub(crate) fn claim(&mut self, number: u8, protocol: &Protocol) -> Option<()> {
        let (epoch, attempts) = match (decide(self.row.0.as_ref(), ARGS), &self.row.0) {
            (Decision::Take { epoch, attempts }, _) => (epoch, attempts),
            (Decision::Busy { .. }, Some(entry)) if protocol.broken == Some(Broken::TakesOverTheLiving) => {
                (entry.epoch.next(), entry.attempts + 1)
            }
            _ => return None,
        };
        let hold = protocol.hold(number, epoch);
        let run = match &self.row.0 {
            Some(entry) => {
                let mut run = Run::new(number, hold, At::TakeOver(Found::of(entry), attempts));
                run.in_doubt = is_in_doubt(protocol, entry);
                run
            }
            None => {
                self.write(number, hold, Write::Claim, protocol);
                let mut run = Run::new(number, hold, At::Settle);
                run.start(protocol.job, &[], protocol.broken);
                run
            }
        };
        self.left.runs -= 1;
        self.runs.push(run);
        Some(())
    }

    /// The claim may arrive later, and so may the word that the run has ended.
    pub(crate) fn claim_unanswered(&mut self, number: u8, protocol: &Protocol) -> Option<()> {
        if self.row.0.is_some() {
            return None;
        }
        let hold = protocol.hold(number, Epoch::NONE.next());
        self.left.runs -= 1;
        self.left.losses -= 1;
        self.send(number, hold, Write::Claim);
        self.send(number, hold, Write::Fail(false));
        Some(())
    }

    pub(crate) fn act(&mut self, number: u8, protocol: &Protocol) {
        let run = self.run(number);
        let (at, again, hold) = (run.at, run.again, run.hold);
        let Some(write) = run.write() else {
            return match at {
                At::Call(place) => self.call(number, place, protocol),
                At::Ask(place) => self.ask(number, place, protocol),
                _ => unreachable!("everything else is a write"),
            };
        };
        let held = self.write(number, hold, write, protocol);
        if held == Held::Yes {
            let steps = self.row.0.as_ref().map(|entry| entry.steps.clone()).unwrap_or_default();
            let run = self.run(number);
            match at {
                At::TakeOver(..) => run.start(protocol.job, &steps, protocol.broken),
                At::Begin(place) => run.go(At::Call(place)),
                At::End(place) | At::Commit(place) => run.enter(place + 1, protocol.job, protocol.broken),
                At::Forget(_) => self.leave(number, protocol),
                At::Park(_) | At::Settle => self.runs.retain(|run| run.number != number),
                At::Call(_) | At::Ask(_) => unreachable!("nothing is written there"),
            }
            return;
        }
        // What ends the run is asked for, if it was sent before; everything else is lost with the key.
        let is_made = again
            && match protocol.broken {
                Some(Broken::SettleUnasked) => false,
                Some(Broken::SettleAssumed) => true,
                _ => self.is_made(&hold, write),
            };
        let is_over = self.run(number).is_over;
        self.runs.retain(|run| run.number != number);
        if write == Write::Settle {
            match (is_made, self.seen.settled_by == Some(number)) {
                (true, false) => self.seen.broken.insert(Law::DoneIsDone),
                // After the retention there may be no record to ask.
                (false, true) => !is_over && self.seen.broken.insert(Law::LostIsLost),
                (true, true) | (false, false) => false,
            };
        }
    }

    /// Tells whether a write that ends the run was made by an earlier try.
    fn is_made(&self, hold: &Hold, write: Write) -> bool {
        let Some(entry) = &self.row.0 else { return false };
        (entry.epoch, entry.token) == (hold.epoch, hold.token)
            && match write {
                Write::Settle => matches!(entry.state, State::Completed | State::Absent),
                Write::Park(_) => entry.state == State::Parked,
                _ => false,
            }
    }

    fn call(&mut self, number: u8, place: u32, protocol: &Protocol) {
        let step = protocol.step(place);
        let run = self.run(number);
        let (epoch, is_over) = (run.hold.epoch, run.is_over);
        match step {
            Step::Whole => {
                run.in_doubt = true;
                run.go(At::Settle);
            }
            _ => run.go(At::End(place)),
        }
        match step {
            Step::Keyed => {
                self.seen.keyed.insert(outbound(epoch, protocol));
            }
            Step::Unkeyed | Step::Whole => self.seen.unkeyed += u8::from(!is_over),
            Step::Tx => unreachable!("its effect is its commit"),
        }
    }

    /// A commit that may still arrive is fenced off by the end of the run.
    fn ask(&mut self, number: u8, place: u32, protocol: &Protocol) {
        let is_recorded =
            self.row.0.as_ref().is_some_and(|entry| {
                entry.steps.iter().any(|step| step.seq == place && step.result.is_some())
            });
        match is_recorded {
            true => self.run(number).enter(place + 1, protocol.job, protocol.broken),
            false => self.leave(number, protocol),
        }
    }

    pub(crate) fn unanswered(&mut self, number: u8, protocol: &Protocol) {
        self.left.losses -= 1;
        let run = self.run(number);
        let (hold, at) = (run.hold, run.at);
        let write = run.write().expect("what is not answered is a write");
        match at {
            At::Commit(place) if protocol.broken != Some(Broken::CommitUnasked) => run.go(At::Ask(place)),
            _ => run.again = true,
        }
        self.send(number, hold, write);
        // A run that does not know whether it has the key gives it back.
        if matches!(at, At::TakeOver(..)) {
            self.leave(number, protocol);
        }
    }

    pub(crate) fn leave(&mut self, number: u8, protocol: &Protocol) {
        let run = self.run(number);
        let forgets = protocol.broken == Some(Broken::DoubtForgotten)
            && matches!(run.at, At::TakeOver(..) | At::Park(None));
        let (hold, in_doubt) = (run.hold, run.in_doubt && !forgets);
        self.send(number, hold, Write::Fail(in_doubt));
        self.runs.retain(|run| run.number != number);
    }

    fn send(&mut self, run: u8, hold: Hold, write: Write) {
        self.letters.push(Letter { run, hold, write });
        // Those of one run are in the order of its program; between runs the order means nothing.
        self.letters.sort_by_key(|letter| letter.run);
    }
}

/// Tells whether the last run may have had the effect of the whole job.
fn is_in_doubt(protocol: &Protocol, found: &Entry) -> bool {
    protocol.job == [Step::Whole]
        && match found.state {
            State::Lapsed => true,
            State::Failed => found.payload == [1],
            _ => false,
        }
}

/// The key that the callee gets: the runtime's own, a pure function of key and step.
fn outbound(epoch: Epoch, protocol: &Protocol) -> String {
    static OUTBOUND: LazyLock<String> = LazyLock::new(|| KEY.outbound("charge"));
    match protocol.broken {
        Some(Broken::KeyOfTheClaim) => KEY.outbound(&format!("charge {epoch}")),
        _ => OUTBOUND.clone(),
    }
}
