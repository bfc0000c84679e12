//! What must hold in every state, and what must be reached in some.

use idem_runtime::record::State;
use stateright::Property;

use crate::row::Write;
use crate::run::{Run, Step};
use crate::world::{Protocol, World};

/// A promise of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Law {
    /// The effect of a `tx_step` is committed at most once.
    CommittedOnce,
    /// An effect at a callee that takes no key is not had again, unless a person said so.
    NotRepeatedBlindly,
    /// A callee that takes the key has one effect, however often it is called.
    OnceAtTheCallee,
    /// An outcome is written, and what it enqueues is enqueued, at most once.
    SettledOnce,
    /// A completed key is not begun again before its retention has passed.
    CompletedStays,
    /// A run that was overtaken, or has ended, changes nothing in the store.
    StaleChangesNothing,
    /// A claim has a higher epoch than every one before it, as long as there is a record.
    EpochGrows,
    /// Of all runs at most one may write.
    OneHolds,
    /// A claim whose lease is live is not taken over.
    LivingIsNotTakenOver,
    /// The result of a step stays until there is an outcome.
    RecordedStepStays,
    /// A run that says it has lost the key has not completed it.
    LostIsLost,
    /// A run that says it has completed the key has.
    DoneIsDone,
    /// A completed key has had all its effects, as far as no person has vouched for one.
    NothingIsSkipped,
}

impl Law {
    /// Every law.
    pub const ALL: [Law; 13] = [
        Law::CommittedOnce,
        Law::NotRepeatedBlindly,
        Law::OnceAtTheCallee,
        Law::SettledOnce,
        Law::CompletedStays,
        Law::StaleChangesNothing,
        Law::EpochGrows,
        Law::OneHolds,
        Law::LivingIsNotTakenOver,
        Law::RecordedStepStays,
        Law::LostIsLost,
        Law::DoneIsDone,
        Law::NothingIsSkipped,
    ];

    /// What it says.
    pub fn name(self) -> &'static str {
        self.says().0
    }

    pub(crate) fn property(self) -> Property<Protocol> {
        let (name, condition) = self.says();
        Property::always(name, condition)
    }

    fn says(self) -> (&'static str, Condition) {
        match self {
            Law::CommittedOnce => {
                ("the effect of a tx_step is committed at most once", |_, world| world.seen.committed <= 1)
            }
            Law::NotRepeatedBlindly => ("an effect in doubt is not repeated blindly", |_, world| {
                world.seen.unkeyed <= 1 + world.seen.reruns
            }),
            Law::OnceAtTheCallee => {
                ("a callee that takes the key has one effect", |_, world| world.seen.keyed.len() <= 1)
            }
            Law::SettledOnce => ("an outcome is written at most once", |_, world| world.seen.settled <= 1),
            Law::OneHolds => ("at most one run may write", |protocol, world| {
                let may_write = |run: &&Run| {
                    run.has_begun() && world.row.admits(&run.hold, Write::Renew, protocol.broken)
                };
                world.runs.iter().filter(may_write).count() <= 1
            }),
            Law::CompletedStays => ("a completed key is not begun again", |_, world| {
                !world.seen.broken.contains(&Law::CompletedStays)
            }),
            Law::StaleChangesNothing => {
                ("a run that was overtaken or has ended changes nothing", |_, world| {
                    !world.seen.broken.contains(&Law::StaleChangesNothing)
                })
            }
            Law::EpochGrows => {
                ("the epoch grows with every claim", |_, world| !world.seen.broken.contains(&Law::EpochGrows))
            }
            Law::LivingIsNotTakenOver => ("a live claim is not taken over", |_, world| {
                !world.seen.broken.contains(&Law::LivingIsNotTakenOver)
            }),
            Law::RecordedStepStays => ("the result of a step stays until there is an outcome", |_, world| {
                !world.seen.broken.contains(&Law::RecordedStepStays)
            }),
            Law::LostIsLost => ("a run that says it has lost the key has not completed it", |_, world| {
                !world.seen.broken.contains(&Law::LostIsLost)
            }),
            Law::DoneIsDone => ("a run that says it has completed the key has", |_, world| {
                !world.seen.broken.contains(&Law::DoneIsDone)
            }),
            Law::NothingIsSkipped => ("a completed key has had all its effects", |protocol, world| {
                let has_had = |step: &Step| match step {
                    Step::Keyed => !world.seen.keyed.is_empty(),
                    Step::Unkeyed | Step::Whole => world.seen.unkeyed > 0 || world.seen.vouched,
                    Step::Tx => world.seen.committed > 0,
                };
                world.row.state() != State::Completed || protocol.job.iter().all(has_had)
            }),
        }
    }
}

type Condition = fn(&Protocol, &World) -> bool;

/// What must be reached, or the laws hold of nothing.
pub(crate) fn reached() -> impl Iterator<Item = Property<Protocol>> {
    let reached: [(&'static str, Condition); 3] = [
        ("completed", |_, world| world.row.state() == State::Completed),
        ("parked", |_, world| world.row.state() == State::Parked),
        ("taken over, while the late run goes on", |_, world| {
            world.runs.iter().any(|run| world.is_overtaken(run))
        }),
    ];
    reached.into_iter().map(|(name, condition)| Property::sometimes(name, condition))
}
