//! How a law is broken, step by step.

use std::collections::BTreeSet;
use std::fmt;

use stateright::{Checker, HasDiscoveries, Model, Path};

use crate::laws::Law;
use crate::row::{Row, Write};
use crate::run::At;
use crate::world::{Action, Protocol, World};

/// The shortest way to break a law.
#[derive(Debug, Clone)]
pub struct Trace {
    law: Law,
    path: Vec<(World, Option<Action>)>,
}

impl Protocol {
    /// Looks for the shortest way to break a law; `None` if no state breaks it.
    pub fn breaks(&self, law: Law) -> Option<Trace> {
        let mut path = self.discovery(law, usize::MAX)?;
        // The checker gives one of the first, not the very first.
        while let Some(shorter) = self.discovery(law, path.len() - 2) {
            path = shorter;
        }
        Some(Trace { law, path })
    }

    fn discovery(&self, law: Law, actions_max: usize) -> Option<Vec<(World, Option<Action>)>> {
        let checker = self
            .checker()
            .target_max_depth(actions_max.saturating_add(2))
            .finish_when(HasDiscoveries::AnyOf(BTreeSet::from([law.name()])))
            .spawn_bfs()
            .join();
        checker.discovery(law.name()).map(Path::into_vec)
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "not so: {}", self.law.name())?;
        for (number, pair) in self.path.windows(2).enumerate() {
            let [(_, Some(action)), (world, _)] = pair else { break };
            let (action, row, seen) = (action.to_string(), world.row.to_string(), &world.seen);
            let effects = (seen.keyed.len(), seen.unkeyed, seen.committed);
            writeln!(f, "{:3}. {action:52} {row:52} effects {effects:?}", number + 1)?;
        }
        Ok(())
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Claim(run) => write!(f, "run {run} begins"),
            Action::ClaimUnanswered(run) => write!(f, "run {run} claims, unanswered, and ends"),
            Action::Do(run, at) => write!(f, "run {run} {at}"),
            Action::Unanswered(run, at) => write!(f, "run {run} {at}, unanswered"),
            Action::Refuse(run) => write!(f, "the callee refuses run {run}"),
            Action::Leave(run) => write!(f, "run {run} ends without an outcome"),
            Action::Renew(run) => write!(f, "run {run} renews its lease"),
            Action::Arrive(letter) => write!(f, "late, run {} {}", letter.run, letter.write),
            Action::Lapse => f.write_str("the lease passes"),
            Action::Release => f.write_str("a person says: the run is dead"),
            Action::Rerun => f.write_str("a person says: not done"),
            Action::Done => f.write_str("a person says: done"),
            Action::Expire => f.write_str("the retention passes"),
            Action::Sweep => f.write_str("the record is deleted"),
        }
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            At::TakeOver(found, attempts) => Write::TakeOver(found, attempts).fmt(f),
            At::Begin(place) => Write::BeginStep(place).fmt(f),
            At::Call(place) => write!(f, "calls for step {place}"),
            At::End(place) => Write::EndStep(place).fmt(f),
            At::Forget(place) => Write::ForgetStep(place).fmt(f),
            At::Commit(place) => Write::CommitStep(place).fmt(f),
            At::Ask(place) => write!(f, "asks for step {place}"),
            At::Park(step) => Write::Park(step).fmt(f),
            At::Settle => Write::Settle.fmt(f),
        }
    }
}

impl fmt::Display for Write {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Write::Claim => f.write_str("claims"),
            Write::TakeOver(found, _) => write!(f, "takes over what was {:?}, {}", found.state, found.epoch),
            Write::Renew => f.write_str("renews its lease"),
            Write::BeginStep(seq) => write!(f, "writes the intent of step {seq}"),
            Write::EndStep(seq) => write!(f, "writes the result of step {seq}"),
            Write::ForgetStep(seq) => write!(f, "takes back the intent of step {seq}"),
            Write::CommitStep(seq) => write!(f, "commits step {seq}"),
            Write::Settle => f.write_str("writes the outcome"),
            Write::Fail(false) => f.write_str("writes that it failed"),
            Write::Fail(true) => f.write_str("writes that it failed in doubt"),
            Write::Park(Some(seq)) => write!(f, "parks at step {seq}"),
            Write::Park(None) => f.write_str("parks"),
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(entry) = &self.0 else { return f.write_str("no record") };
        write!(f, "{:?}, epoch {}, token {}", entry.state, entry.epoch, entry.token.0)?;
        for step in &entry.steps {
            let is = if step.result.is_some() { "done" } else { "begun" };
            write!(f, ", {} {is}", step.seq)?;
        }
        Ok(())
    }
}
