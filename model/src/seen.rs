//! What somebody saw who sees everything: the effects, and which run had the key. No run and no store knows it.

use std::collections::BTreeSet;

use idem_runtime::record::{Epoch, State, StepRecord};
use idem_runtime::store::Held;

use crate::laws::Law;
use crate::row::{Row, Write};

/// What has happened to the key and outside.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Seen {
    /// The run that has the key: that of the last claim, until it ends.
    pub holder: Option<u8>,
    /// The last claim since there is a record.
    pub epoch: Option<Epoch>,
    /// The keys under which the callee that takes keys had an effect.
    pub keyed: BTreeSet<String>,
    /// The effects of the callee that takes none.
    pub unkeyed: u8,
    /// How often a person said that it may be called again.
    pub reruns: u8,
    /// A person said that it had the effect.
    pub vouched: bool,
    /// The committed effects of the transaction.
    pub committed: u8,
    /// The outcomes that were written, with what they enqueue.
    pub settled: u8,
    /// The run that wrote the last outcome.
    pub settled_by: Option<u8>,
    /// The laws that a change of the record has broken.
    pub broken: BTreeSet<Law>,
}

impl Seen {
    /// Takes note of a write.
    pub fn write(&mut self, run: u8, write: Write, held: Held, before: &Row, after: &Row) {
        if held != Held::Yes {
            return;
        }
        match write {
            Write::Claim | Write::TakeOver(..) => return self.claim(run, before, after),
            Write::CommitStep(_) => self.committed += 1,
            Write::Settle => {
                self.settled += 1;
                self.settled_by = Some(run);
            }
            _ => {}
        }
        let is_effect = matches!(write, Write::CommitStep(_) | Write::Settle);
        if (before != after || is_effect) && self.holder != Some(run) {
            self.broken.insert(Law::StaleChangesNothing);
        }
        if write != Write::Settle && has_lost_a_result(before, after) {
            self.broken.insert(Law::RecordedStepStays);
        }
        if matches!(write, Write::Settle | Write::Fail(_) | Write::Park(_)) {
            self.holder = None;
        }
    }

    fn claim(&mut self, run: u8, before: &Row, after: &Row) {
        let epoch = after.0.as_ref().map(|entry| entry.epoch);
        if before.state() == State::Running {
            self.broken.insert(Law::LivingIsNotTakenOver);
        }
        if epoch <= self.epoch {
            self.broken.insert(Law::EpochGrows);
        }
        if self.settled > 0 {
            self.broken.insert(Law::CompletedStays);
        }
        self.holder = Some(run);
        self.epoch = epoch;
    }

    /// The retention has passed: what follows is about another piece of work.
    pub fn expire(&mut self) {
        *self = Seen {
            holder: self.holder,
            epoch: self.epoch,
            keyed: std::mem::take(&mut self.keyed),
            settled_by: self.settled_by,
            broken: std::mem::take(&mut self.broken),
            ..Seen::default()
        };
    }
}

fn has_lost_a_result(before: &Row, after: &Row) -> bool {
    let results = |row: &Row| -> Vec<u32> {
        let steps: &[StepRecord] = row.0.as_ref().map_or(&[], |entry| &entry.steps);
        steps.iter().filter(|step| step.result.is_some()).map(|step| step.seq).collect()
    };
    let after = results(after);
    results(before).iter().any(|seq| !after.contains(seq))
}
