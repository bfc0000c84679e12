//! A rule that is taken out leads to something that a law forbids: the rules are needed, and the laws can fail.

use idem_model::{Broken, Law, Limits, Protocol, Step};

const LIMITS: Limits = Limits { runs: 3, lapses: 2, losses: 1, resolutions: 0, expiries: 1 };

/// What breaks which law, and the shortest job that shows it.
const BITES: [(Broken, &[Step], Law); 21] = [
    (Broken::TokenUnchecked, &[Step::Keyed], Law::StaleChangesNothing),
    (Broken::TokenUnchecked, &[Step::Keyed], Law::OneHolds),
    (Broken::EpochRestarts, &[Step::Keyed], Law::EpochGrows),
    (Broken::EpochRestartsForOneProcess, &[Step::Keyed], Law::StaleChangesNothing),
    (Broken::EpochRestartsForOneProcess, &[Step::Keyed], Law::OneHolds),
    (Broken::SettleUnchecked, &[Step::Keyed], Law::StaleChangesNothing),
    (Broken::RenewUnchecked, &[Step::Keyed], Law::StaleChangesNothing),
    (Broken::StepUnchecked, &[Step::Keyed], Law::StaleChangesNothing),
    (Broken::StepUnchecked, &[Step::Tx], Law::CommittedOnce),
    (Broken::TakesOverTheLiving, &[Step::Keyed], Law::LivingIsNotTakenOver),
    (Broken::SettledIsDeleted, &[Step::Keyed], Law::CompletedStays),
    (Broken::SettledIsDeleted, &[Step::Keyed], Law::SettledOnce),
    (Broken::IntentUnwritten, &[Step::Unkeyed], Law::NotRepeatedBlindly),
    (Broken::CommitUnasked, &[Step::Tx], Law::CommittedOnce),
    (Broken::SettleUnasked, &[Step::Keyed], Law::LostIsLost),
    (Broken::SettleAssumed, &[Step::Keyed], Law::DoneIsDone),
    (Broken::DoubtIgnored, &[Step::Unkeyed], Law::NotRepeatedBlindly),
    (Broken::DoubtPassed, &[Step::Unkeyed], Law::NothingIsSkipped),
    (Broken::DoubtForgotten, &[Step::Whole], Law::NotRepeatedBlindly),
    (Broken::BeginOverwrites, &[Step::Unkeyed], Law::RecordedStepStays),
    (Broken::KeyOfTheClaim, &[Step::Keyed], Law::OnceAtTheCallee),
];

#[test]
fn every_rule_is_needed() {
    for (broken, job, law) in BITES {
        let protocol = Protocol { job, workers: 2, limits: LIMITS, broken: Some(broken) };
        let trace = protocol.breaks(law).unwrap_or_else(|| panic!("{broken:?} does not break {law:?}"));
        println!("{broken:?}\n{trace}");
    }
}

#[test]
fn every_law_can_fail() {
    for law in Law::ALL {
        assert!(BITES.iter().any(|(.., broken)| *broken == law), "nothing breaks {law:?}");
    }
}
