//! The protocol keeps every law, whatever happens within the limits.

use idem_model::{Broken, Law, Limits, Protocol, Step};
use stateright::{Checker, Model};

const STEPS: &[Step] = &[Step::Keyed, Step::Unkeyed, Step::Tx];

fn check_every_state(protocol: Protocol) -> impl Checker<Protocol> {
    let checker = protocol.checker().threads(2).spawn_bfs().join();
    println!("{} states, {} deep: {protocol:?}", checker.unique_state_count(), checker.max_depth());
    checker
}

/// Enough for a late run, the one that overtook it, and one after that.
const LIMITS: Limits = Limits { runs: 3, lapses: 2, losses: 1, resolutions: 1, expiries: 1 };

#[test]
fn two_workers_keep_every_law() {
    check_every_state(Protocol { job: STEPS, workers: 2, limits: LIMITS, broken: None }).assert_properties();
}

#[test]
fn two_lost_answers_break_no_law() {
    let limits = Limits { losses: 2, expiries: 0, ..LIMITS };
    check_every_state(Protocol { job: STEPS, workers: 2, limits, broken: None }).assert_properties();
}

#[test]
fn three_workers_keep_every_law() {
    let limits = Limits { runs: 4, resolutions: 0, expiries: 0, ..LIMITS };
    check_every_state(Protocol { job: STEPS, workers: 3, limits, broken: None }).assert_properties();
}

#[test]
fn a_key_that_is_parked_twice_keeps_every_law() {
    let limits = Limits { runs: 4, resolutions: 2, expiries: 0, ..LIMITS };
    let job = &[Step::Tx, Step::Unkeyed];
    check_every_state(Protocol { job, workers: 2, limits, broken: None }).assert_properties();
}

#[test]
fn a_job_without_steps_keeps_every_law() {
    let limits = Limits { runs: 4, ..LIMITS };
    check_every_state(Protocol { job: &[Step::Whole], workers: 3, limits, broken: None }).assert_properties();
}

#[test]
fn inside_of_the_store_the_token_alone_is_enough() {
    let broken = Some(Broken::EpochUnchecked);
    check_every_state(Protocol { job: STEPS, workers: 2, limits: LIMITS, broken }).assert_properties();
}

#[test]
fn an_epoch_that_restarts_breaks_no_law_but_its_own() {
    let broken = Some(Broken::EpochRestarts);
    let checker = check_every_state(Protocol { job: STEPS, workers: 2, limits: LIMITS, broken });
    for law in Law::ALL {
        assert_eq!(checker.discovery(law.name()).is_some(), law == Law::EpochGrows, "{law:?}");
    }
}
