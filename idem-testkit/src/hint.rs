//! The likely mistake behind a failure, and what mends it.

use std::collections::BTreeMap;

use idem_runtime::job::{JobSpec, Lock, Retain};

use crate::oracle::{A_PANIC, AN_ERROR, DRIFTED, NO_ANSWER, PARKED};
use crate::plan::{Plan, law};
use crate::report::Difference;

const RECORD_DOES_NOT_ANSWER: &str = "the record of a run does not answer the next one: is `retain` shorter than deliveries are apart? in a \
         store, a live record is neither lost, replaced nor swept";

const FAILS_AFTER_A_KILL: &str = "a killed process takes its memory with it and runs no `drop`: a fake in memory is \
         empty for the next run, so let it be a server or a file that is shared with `Scenario::state_with`; or does the \
         job hold a lock file, tidy up on drop, or keep in memory what the next run needs?";

const DRAWN_TWICE: &str = "an id that is drawn anew in every run is written in two places, and whoever resumes draws another one \
         for the second: draw it in a step, which returns it, or make it of the key";

/// Guesses the mistake from what was left.
pub(crate) fn of(plan: Plan, spec: &JobSpec, differences: &[Difference]) -> Option<String> {
    let seen = Seen::of(plan, differences);
    if plan == Plan::Kill && seen.fails() && !seen.broken(law::UNRELATED_WORK) {
        return Some(String::from(FAILS_AFTER_A_KILL));
    }
    if plan == Plan::Outage {
        return Some(outage(&seen).to_owned());
    }
    if seen.broken(law::DRAWN_ONCE) {
        return Some(String::from(DRAWN_TWICE));
    }
    let leased = matches!(spec.lock, Lock::Lease(_)).then(|| leased(&seen, spec.steps)).flatten();
    leased.or_else(|| any_job(&seen, spec.retain != Retain::None)).map(str::to_owned)
}

/// What is different, in kinds.
struct Seen<'a> {
    plan: Plan,
    differences: &'a [Difference],
    more_effects: bool,
    more_rows: bool,
    /// Something is there that should not be, or not so.
    more: bool,
    /// Something is missing.
    less: bool,
}

impl<'a> Seen<'a> {
    fn of(plan: Plan, differences: &'a [Difference]) -> Self {
        let any = |what: fn(&Difference) -> bool| differences.iter().any(what);
        let more_effects = any(
            |difference| matches!(difference, Difference::Effects { expected, found, .. } if found > expected),
        );
        let net = rows(differences);
        let less = any(
            |difference| matches!(difference, Difference::Effects { expected, found, .. } if found < expected),
        ) || net.values().any(|rows| *rows < 0);
        // A row with other values is missing and extra at once.
        let more_rows = net.values().any(|rows| *rows > 0);
        let more = more_effects || more_rows || (!net.is_empty() && !less);
        Seen { plan, differences, more_effects, more_rows, more, less }
    }

    fn broken(&self, named: &str) -> bool {
        let is_named =
            |difference: &Difference| matches!(difference, Difference::Law { law, .. } if law == named);
        self.differences.iter().any(is_named)
    }

    /// Some run answered with a text that begins so.
    fn answered(&self, beginning: &str) -> bool {
        let begins_so = |difference: &Difference| matches!(difference, Difference::Answer { found, .. } if found.starts_with(beginning));
        self.differences.iter().any(begins_so)
    }

    /// Some run answered with another value than it should.
    fn answers_otherwise(&self) -> bool {
        self.differences.iter().any(|difference| matches!(difference, Difference::Answer { .. }))
    }

    /// All that is wrong is what some run answered, which is no error.
    fn only_answers_otherwise(&self) -> bool {
        let is_answer = |difference: &Difference| matches!(difference, Difference::Answer { .. });
        self.answers_otherwise() && self.differences.iter().all(is_answer) && !self.fails()
    }

    /// Some run ended with an error, or in a panic.
    fn fails(&self) -> bool {
        self.answered(AN_ERROR) || self.answered(A_PANIC)
    }

    fn is_interrupted(&self) -> bool {
        matches!(self.plan, Plan::Crash | Plan::Kill | Plan::LostAck)
    }

    fn is_at_once(&self) -> bool {
        matches!(self.plan, Plan::Concurrent | Plan::Interleavings)
    }
}

/// What jobs do wrong behind an error that passes.
fn outage(seen: &Seen<'_>) -> &'static str {
    if seen.broken(law::UNRELATED_WORK) {
        "a run that ended with an error keeps a transaction open, or a lock: begin through `tx.begin()`, which ends with its \
         guard, and give back on every way out what the body holds"
    } else if seen.fails() || seen.answered(NO_ANSWER) {
        "a run that failed is in the way of the next one: a flag, a mark or a claim that it has set before the error is not \
         taken back; leave what has begun to idem, and write through `tx`, or in a step, what is done"
    } else if seen.more_effects || seen.more_rows {
        "behind an error more is done than without it: nobody knows what a call has done that ended with an error, so the \
         next one takes the same key, and so does whatever is done in its place; `not_done_if(..)` is for errors that say for \
         certain that nothing was done"
    } else {
        "an error that passes was taken for an answer: hand it on with `?`, so that the job runs again; `replay(..)` and \
         `adopt(..)` name errors that stay; remember nothing that the error undoes, and undo nothing that a step has recorded, \
         since the next run skips it"
    }
}

/// What only leased jobs do wrong, and their stores.
fn leased(seen: &Seen<'_>, steps: bool) -> Option<&'static str> {
    let interrupted = seen.is_interrupted();
    if seen.broken(law::UNRELATED_WORK) || seen.broken(law::ONE_KEY) {
        return None;
    }
    if seen.answered(NO_ANSWER) {
        return interrupted.then_some(
            "a run that is gone keeps its key, or a lock: in a store, that a run failed is written, a lease passes by \
             itself, and a transaction that is dropped ends; in a `tx_step`, begin through `tx.begin()`",
        );
    }
    Some(if seen.answered(DRIFTED) {
        "whoever resumes must come to the same steps in the same order: no attempt, time or chance in the name of a \
         step, and no step behind a question that is answered otherwise the next time: ask it in a step of its own; a step \
         that may be left out needs `drift = resume`"
    } else if seen.broken(law::FENCED) {
        "a write of a run that has lost its key was taken for made: in a store, every write of a leased run asks for \
         its epoch and its token, and says so if the run has lost them"
    } else if seen.broken(law::STAYS_PARKED) {
        "a key that is parked waits until a person has looked: in a store, parking is written if the run has the key, \
         and nothing takes a parked key over"
    } else if seen.broken(law::ENQUEUED) {
        "enqueue with `run.enqueue(..)`; in a store, tasks are written in the transaction of the outcome, if the run \
         has the key"
    } else if seen.plan == Plan::Zombie && seen.more_effects {
        "a worker that stood still goes on with its call when its lease has passed: give the callee the key that its \
         step is given, or `run.epoch()` if it refuses lower ones; a probe cannot see a call that is yet to come"
    } else if seen.plan == Plan::Zombie && seen.more {
        "a worker that stood still goes on with its writes when its lease has passed: write in `run.tx_step(..)`, \
         whose COMMIT asks whether the run has the key"
    } else if seen.is_at_once() && (seen.more || seen.less || seen.answered(PARKED)) {
        "two runs had the key at once: does the body block its thread, so that the lease is not renewed? in a store, \
         a key is claimed and taken over in one statement that asks for what was found, and leases are renewed"
    } else if interrupted && seen.more_effects && steps {
        "an effect outside the database happens again when the job resumes: make it a step, `run.step(..)`, and give \
         the callee the key that its step is given; an id that the job draws is drawn in a step; an observer counts what the callee has done, not its calls; for a callee that takes none write `.park()`, or `.probe(..)`; a \
         probe must find what the callee has done; enqueue with `run.enqueue(..)`"
    } else if interrupted && seen.more_effects {
        "nobody knows what a run has done that was cut off: give the callee a key that is made out of the arguments \
         alone, or write `in_doubt = park`, or `in_doubt = probe(..)`; a probe must find what the callee has done"
    } else if interrupted && seen.less {
        "a run takes for done what is not, or lacks what it had: what a step returns is all that whoever resumes gets, \
         through serde; ask whether something is done in `check`, a probe or a step, and never before the steps, since the \
         answer is another one half-way; answer the errors of a callee with `?`; `check` and a probe must find what has happened and nothing else"
    } else if interrupted && seen.more && steps {
        "a part of the effect commits apart from the record of its step: write it in `run.tx_step(..)`, not through a \
         pool or in a task; and what a step returns is all that whoever resumes gets, so leave nothing in \
         a variable, and ask the world in a step, since it answers otherwise half-way"
    } else if interrupted && steps && seen.only_answers_otherwise() {
        "whoever resumes answers otherwise than who began: what a step returns is all that it gets, through serde, so leave \
         nothing in a variable, ask the world in a step, since it answers otherwise half-way, and return from the step \
         what the job needs afterwards"
    } else if interrupted && seen.more {
        "the job writes again what it has written: make the effect harmless twice, or take a `run: &mut Run<'_, Db>` \
         and write it in `run.tx_step(..)`"
    } else if seen.plan == Plan::Repeat && seen.more && !seen.broken(law::ONE_EXECUTES) {
        "every run does the work: with `retain = none` no record answers, so leave `retain` out, or make the effect \
         harmless twice, such as a call with a key that is made out of the arguments"
    } else {
        return None;
    })
}

/// What jobs of every kind do wrong, and those in one transaction.
fn any_job(seen: &Seen<'_>, records: bool) -> Option<&'static str> {
    let Seen { plan, more_effects, more, less, .. } = *seen;
    let (interrupted, at_once) = (seen.is_interrupted(), seen.is_at_once());
    Some(if seen.broken(law::UNRELATED_WORK) || (seen.answered(NO_ANSWER) && interrupted) {
        "a crash leaves a transaction open on a connection that is used again: begin through `tx.begin()`, which \
         ends with its guard, and send no BEGIN of your own; in a store, a transaction that is dropped must end"
    } else if plan == Plan::Kill && !more_effects {
        "a killed process runs no `drop` and takes its memory with it: does the job hold a lock file, tidy up on drop, \
         or keep what it needs for the next run in memory?"
    } else if seen.broken(law::ONE_KEY) {
        "the runs had different keys: make `key` out of the arguments alone, without a clock, chance, a counter, a \
         global or the order of a map"
    } else if !records && plan == Plan::Repeat {
        "every run does the work, since `retain = none` keeps no record: leave `retain` out, or make the effect \
         harmless twice, such as an upsert under `tx.idempotency_key()`"
    } else if !records && at_once && more {
        "two runs at once both found nothing done, and no record decides between them: leave `retain` out; or look \
         and act under a lock, `lock = row(table.column = arg)` rather than `lock = none`"
    } else if seen.broken(law::ANSWERED_FROM_THE_RECORD) {
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
    } else if seen.broken(law::ONE_EXECUTES) || seen.broken(law::KEPT) {
        RECORD_DOES_NOT_ANSWER
    } else if more_effects {
        "an effect outside the database happens once for every run: give the callee `tx.idempotency_key()`"
    } else if at_once && more {
        "two runs at once both do the work: do all writes through `tx`, and look at what they depend on through `tx`"
    } else if more {
        "a second run does the work again: do all writes through `tx`, so that they commit with the record"
    } else if seen.answers_otherwise() {
        "a later run answers otherwise than the first: the result must survive being recorded, so return what \
         serde carries without loss, or keep it in a table and return its id"
    } else if less {
        "a run takes for done what is not: decide by `tx` and the record alone"
    } else {
        return None;
    })
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
