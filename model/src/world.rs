//! The store, the runs and the network between them, and all that can happen next.

use std::sync::LazyLock;

use idem_runtime::key::{Key, KeyParts};
use idem_runtime::record::{Epoch, Event, Hold, State, Token};
use idem_runtime::store::Held;
use stateright::{Model, Property};

use crate::broken::Broken;
use crate::laws::{Law, reached};
use crate::row::{Row, Write};
use crate::run::{At, Job, Run, Step};
use crate::seen::Seen;

/// What is checked: a job, how much may happen to it, and the rule that is left out.
#[derive(Debug, Clone, Copy)]
pub struct Protocol {
    /// The job.
    pub job: Job,
    /// How many runs may be under way at once.
    pub workers: usize,
    /// How often what may happen.
    pub limits: Limits,
    /// The rule that is left out.
    pub broken: Option<Broken>,
}

/// How often something may happen. All of it together makes the space finite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Limits {
    /// Runs that begin.
    pub runs: u8,
    /// Leases that pass.
    pub lapses: u8,
    /// Answers that are lost.
    pub losses: u8,
    /// Keys that a person settles.
    pub resolutions: u8,
    /// Retentions that pass.
    pub expiries: u8,
}

/// A state of it all.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct World {
    /// What the store has.
    pub row: Row,
    /// The runs that are under way. Each stands still for as long as it likes.
    pub runs: Vec<Run>,
    /// Writes that nobody waits for any more: each is applied at some time, or never.
    pub letters: Vec<Letter>,
    /// What happened.
    pub seen: Seen,
    /// What may still happen.
    pub left: Limits,
}

/// A write under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Letter {
    /// Who sent it.
    pub run: u8,
    /// With what right.
    pub hold: Hold,
    /// What.
    pub write: Write,
}

/// Something that happens. Runs go by their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// A run begins: it has the key, or has found that it may take it over.
    Claim(u8),
    /// A run begins, is not answered and ends.
    ClaimUnanswered(u8),
    /// A run does what it does next, and is answered.
    Do(u8, At),
    /// A run writes and is not answered: it may be applied later, or never.
    Unanswered(u8, At),
    /// The callee says that the call has certainly had no effect.
    Refuse(u8),
    /// A run ends without an outcome: it fails, takes too long, is dropped or killed. It says so on record, later or never.
    Leave(u8),
    /// The heart renews the lease of a run.
    Renew(u8),
    /// A write that nobody waits for is applied.
    Arrive(Letter),
    /// The lease passes.
    Lapse,
    /// A person says that the run which has the key is dead.
    Release,
    /// A person says that the parked effect did not happen.
    Rerun,
    /// A person says that the parked effect happened.
    Done,
    /// The retention passes.
    Expire,
    /// The expired record is deleted.
    Sweep,
}

impl Model for Protocol {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World {
            row: Row(None),
            runs: vec![],
            letters: vec![],
            seen: Seen::default(),
            left: self.limits,
        }]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        let left = &world.left;
        for run in &world.runs {
            actions.push(Action::Do(run.number, run.at));
            if left.losses > 0 && run.write().is_some() {
                actions.push(Action::Unanswered(run.number, run.at));
            }
            if matches!(run.at, At::Call(place) if self.step(place) == Step::Unkeyed) {
                actions.push(Action::Refuse(run.number));
            }
            if run.has_begun() {
                actions.push(Action::Renew(run.number));
                actions.push(Action::Leave(run.number));
            }
        }
        actions.extend(world.letters.iter().map(|letter| Action::Arrive(*letter)));
        if left.runs > 0 && world.runs.len() < self.workers {
            let number = self.limits.runs - left.runs + 1;
            actions.push(Action::Claim(number));
            if left.losses > 0 {
                actions.push(Action::ClaimUnanswered(number));
            }
        }
        if left.lapses > 0 {
            actions.push(Action::Lapse);
        }
        if left.resolutions > 0 {
            actions.extend([Action::Release, Action::Rerun, Action::Done]);
        }
        if left.expiries > 0 {
            actions.push(Action::Expire);
        }
        actions.push(Action::Sweep);
    }

    fn next_state(&self, last: &World, action: Action) -> Option<World> {
        let mut world = last.clone();
        match action {
            Action::Claim(run) => world.claim(run, self)?,
            Action::ClaimUnanswered(run) => world.claim_unanswered(run, self)?,
            Action::Do(run, _) => world.act(run, self),
            Action::Unanswered(run, _) => world.unanswered(run, self),
            Action::Refuse(run) => {
                let run = world.run(run);
                let At::Call(place) = run.at else { unreachable!("a call is refused") };
                run.go(At::Forget(place));
            }
            Action::Leave(run) => world.leave(run, self),
            Action::Renew(run) => {
                let hold = world.run(run).hold;
                // A heart that finds the key lost ends the run, as `Leave` does with a word that never arrives.
                world.write(run, hold, Write::Renew, self);
            }
            Action::Arrive(letter) => {
                world.write(letter.run, letter.hold, letter.write, self);
                // What changes nothing may as well never arrive.
                if world != *last {
                    let at = world.letters.iter().position(|other| *other == letter)?;
                    world.letters.remove(at);
                }
            }
            Action::Lapse => {
                world.row.pass(Event::Lapse)?;
                world.left.lapses -= 1;
            }
            Action::Release => {
                world.row.release()?;
                world.left.resolutions -= 1;
            }
            Action::Rerun | Action::Done => {
                let is_done = action == Action::Done;
                let said = world.row.resolve(is_done)?;
                world.left.resolutions -= 1;
                // What is taken back allows nothing any more.
                world.seen.reruns -= u8::from(said == Some(false));
                world.seen.vouched |= is_done;
                world.seen.reruns += u8::from(!is_done);
                world.seen.settled += u8::from(world.row.state() == State::Completed);
            }
            Action::Expire => {
                world.row.pass(Event::Expire)?;
                world.left.expiries -= 1;
                world.seen.expire();
                world.runs.iter_mut().for_each(|run| run.is_over = true);
            }
            Action::Sweep => {
                world.row.sweep()?;
                world.seen.epoch = None;
            }
        }
        (world != *last).then_some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        Law::ALL.into_iter().map(Law::property).chain(reached()).collect()
    }
}

impl Protocol {
    pub(crate) fn step(&self, place: u32) -> Step {
        self.job[usize::try_from(place).expect("few steps")]
    }

    /// What a run may write with, if it gets the key.
    pub(crate) fn hold(&self, run: u8, epoch: Epoch) -> Hold {
        let token = match self.broken {
            Some(Broken::EpochRestartsForOneProcess) => Token(1),
            _ => Token(run.into()),
        };
        Hold { key: KEY.hash(), epoch, token }
    }
}

impl World {
    /// Tells whether another run has the key since.
    pub fn is_overtaken(&self, run: &Run) -> bool {
        run.has_begun() && self.seen.holder.is_some_and(|holder| holder != run.number)
    }

    pub(crate) fn run(&mut self, number: u8) -> &mut Run {
        self.runs.iter_mut().find(|run| run.number == number).expect("actions are of runs under way")
    }

    pub(crate) fn write(&mut self, run: u8, hold: Hold, write: Write, protocol: &Protocol) -> Held {
        let before = self.row.clone();
        let held = self.row.apply(&hold, write, protocol.broken);
        self.seen.write(run, write, held, &before, &self.row);
        held
    }
}

/// The key that all runs are of.
pub(crate) static KEY: LazyLock<Key> = LazyLock::new(|| {
    let parts = KeyParts::of(&42).expect("a number makes a key");
    Key::new("model", "job", &parts)
});
