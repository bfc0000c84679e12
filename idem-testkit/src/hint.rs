//! The likely mistake behind a failure, and what mends it.

use std::collections::BTreeMap;

use crate::oracle::NO_ANSWER;
use crate::plan::{Plan, law};
use crate::report::Difference;

const RECORD_DOES_NOT_ANSWER: &str = "the record of a run does not answer the next one: is `retain` shorter than deliveries are apart? in a \
         store, a live record is neither lost, replaced nor swept";

/// Guesses the mistake from what was left. `records` tells whether the job keeps any.
pub(crate) fn of(plan: Plan, records: bool, differences: &[Difference]) -> Option<String> {
    let any = |what: fn(&Difference) -> bool| differences.iter().any(what);
    let broken = |named: &str| {
        differences.iter().any(|difference| matches!(difference, Difference::Law { law, .. } if law == named))
    };
    let more_effects = any(
        |difference| matches!(difference, Difference::Effects { expected, found, .. } if found > expected),
    );
    let net = rows(differences);
    let less = any(
        |difference| matches!(difference, Difference::Effects { expected, found, .. } if found < expected),
    ) || net.values().any(|rows| *rows < 0);
    // A row with other values is missing and extra at once.
    let more = more_effects || net.values().any(|rows| *rows > 0) || (!net.is_empty() && !less);
    let answered_otherwise = any(|difference| matches!(difference, Difference::Answer { .. }));
    let one_after_the_other = plan == Plan::Repeat;
    let at_once = matches!(plan, Plan::Concurrent | Plan::Interleavings);
    let interrupted = matches!(plan, Plan::Crash | Plan::Kill | Plan::LostAck);

    let hung = any(
        |difference| matches!(difference, Difference::Answer { found, .. } if found.starts_with(NO_ANSWER)),
    );

    let hint = if broken(law::UNRELATED_WORK) || (hung && interrupted) {
        "a crash leaves a transaction open on a connection that is used again: begin through `tx.begin()`, which \
         ends with its guard, and send no BEGIN of your own; in a store, a transaction that is dropped must end"
    } else if plan == Plan::Kill && !more_effects {
        "a killed process runs no `drop` and takes its memory with it: does the job hold a lock file, tidy up on drop, \
         or keep what it needs for the next run in memory?"
    } else if broken(law::ONE_KEY) {
        "the runs had different keys: make `key` out of the arguments alone, without a clock, chance, a counter, a \
         global or the order of a map"
    } else if !records && one_after_the_other {
        "every run does the work, since `retain = none` keeps no record: leave `retain` out, or make the effect \
         harmless twice, such as an upsert under `tx.idempotency_key()`"
    } else if !records && at_once && more {
        "two runs at once both found nothing done, and no record decides between them: leave `retain` out; or look \
         and act under a lock, `lock = row(table.column = arg)` rather than `lock = none`"
    } else if broken(law::ANSWERED_FROM_THE_RECORD) {
        RECORD_DOES_NOT_ANSWER
    } else if interrupted && more_effects {
        "an effect outside the database happens before the record commits: give the callee `tx.idempotency_key()`, \
         so that it can recognise the second call, or make the effect a step of a leased job"
    } else if interrupted && less {
        "a run takes for done what was undone with the one before: decide by `tx` and the record alone, not by a \
         flag, a claim or a lock elsewhere, and answer the errors of a callee with `?`"
    } else if interrupted && more {
        "a part of the effect outlives a run that did not commit: do all writes through `tx`, not on another \
         connection, in a task of their own or after a COMMIT of your own, and read through `tx` what they depend on"
    } else if broken(law::ONE_EXECUTES) || broken(law::KEPT) {
        RECORD_DOES_NOT_ANSWER
    } else if more_effects {
        "an effect outside the database happens once for every run: give the callee `tx.idempotency_key()`"
    } else if at_once && more {
        "two runs at once both do the work: do all writes through `tx`, and look at what they depend on through `tx`"
    } else if more {
        "a second run does the work again: do all writes through `tx`, so that they commit with the record"
    } else if answered_otherwise {
        "a later run answers otherwise than the first: the result must survive being recorded, so return what \
         serde carries without loss, or keep it in a table and return its id"
    } else if less {
        "a run takes for done what is not: decide by `tx` and the record alone"
    } else {
        return None;
    };
    Some(hint.to_owned())
}

/// Counts by how many rows each table that differs has more than it should.
fn rows(differences: &[Difference]) -> BTreeMap<&str, i32> {
    let mut net = BTreeMap::new();
    for difference in differences {
        match difference {
            Difference::Missing { table, .. } => *net.entry(table.as_str()).or_default() -= 1,
            Difference::Extra { table, .. } => *net.entry(table.as_str()).or_default() += 1,
            _ => {}
        }
    }
    net
}
