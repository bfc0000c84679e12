//! The likely mistake behind a failure, and what mends it.

use crate::plan::{Plan, Wrong};
use crate::report::Difference;

/// Guesses the mistake from what was left.
pub(crate) fn of(plan: Plan, wrong: &Wrong) -> Option<String> {
    let more_effects = wrong.differences.iter().any(
        |difference| matches!(difference, Difference::Effects { expected, found, .. } if found > expected),
    );
    let more_rows = wrong.differences.iter().any(|difference| matches!(difference, Difference::Extra { .. }));
    let hint = match plan {
        _ if more_effects => {
            "an effect outside the database happens before the record commits: give the callee `tx.idempotency_key()`, \
             so that it can recognise the second call, or make the effect a step of a leased job"
        }
        Plan::Repeat if more_rows => {
            "a second run does the work again: is the `key` the same for both, and does the job keep records (`retain`)?"
        }
        Plan::Crash | Plan::Kill if more_rows => {
            "a crash leaves a part of the effect behind: do all writes through `tx`, not on another connection or in a task \
             of their own"
        }
        Plan::Concurrent | Plan::Interleavings if more_rows => {
            "two runs at once both do the work: is the `key` the same for both, do all writes go through `tx`, \
             and does a job without records lock its business row (`lock = row(table.column = arg)`)?"
        }
        Plan::Kill => {
            "a killed process runs no `drop` and takes its memory with it: does the job hold a lock file, tidy up on drop, \
             or keep what it needs for the next run in memory?"
        }
        _ => return None,
    };
    Some(hint.to_owned())
}
