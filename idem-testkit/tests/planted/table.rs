//! The list of all planted bugs and correct jobs, as `docs/planted-bugs.md` shows it.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::harness::{Bug, Correct};
use crate::{
    correct, correct_leased, elsewhere, errors, keys, leased, leased_stores, memory, outside, stores,
    unrecorded,
};

/// A family of bugs, with its heading.
const FAMILIES: [(&str, &[Bug]); 9] = [
    ("Effects outside the database", outside::BUGS),
    ("Effects and claims that are not in the transaction", elsewhere::BUGS),
    ("What a process remembers", memory::BUGS),
    ("Errors that pass", errors::BUGS),
    ("Keys", keys::BUGS),
    ("Jobs that keep no record", unrecorded::BUGS),
    ("Broken stores under a job that is right", stores::BUGS),
    ("Leased jobs", leased::BUGS),
    ("Broken stores under a leased job that is right", leased_stores::BUGS),
];

const CORRECT: [(&str, &[Correct]); 3] = [
    ("Correct jobs", correct::CORRECT),
    ("Correct leased jobs", correct_leased::CORRECT),
    ("Correct jobs behind errors that pass", errors::CORRECT),
];

/// What the testkit does not find, and why.
const NOT_FOUND: &[(&str, &str)] = &[
    (
        "a clean run that is wrong itself: three calls under one key, so that two of them do nothing",
        "two clean runs are the measure of all others; only the user knows what they should do",
    ),
    (
        "a `retain` that is shorter than the time between deliveries",
        "no plan waits that long, and a test cannot move the clock of a database",
    ),
    (
        "a duplicate that is told by a window of time of minutes",
        "the same; a window of milliseconds is found",
    ),
    (
        "an error of a query that is swallowed, or that of a service which the scenario does not name",
        "the database refuses writes, and answers questions; only the user knows how a fake is made to fail",
    ),
    (
        "a key that names the process, or a lock in a `static`",
        "all workers of a trial are in one process, except under plan `kill`; what is in the state is found with \
         `Scenario::worker_state`",
    ),
    (
        "a store that acknowledges a commit before it is durable",
        "a crash of a future leaves the task that commits alive; plan `kill` ends it",
    ),
    (
        "a store that takes an unknown or lost commit for done",
        "the answer is lost above the store under test; the conformance suite does it below",
    ),
    (
        "a store that answers for another key, drops fingerprints or mixes up job numbers",
        "a check runs one job with one key; the conformance suite runs many",
    ),
    (
        "a sweep that deletes live records, when nobody sweeps",
        "no plan sweeps; the conformance suite does. A store that sweeps as it begins is found",
    ),
    (
        "looking, and then acting on another connection to the same SQLite file",
        "SQLite refuses the second writer while the run is open, so already the clean run fails",
    ),
    (
        "a store that compares epochs alone, or tokens alone; a key that two runs are told they have, under a job whose \
         steps are all recorded or keyed",
        "one fence is enough for what these plans do, and fences and keys make the rest harmless; the conformance suite \
         tries each fence by itself",
    ),
    (
        "a store that loses what is enqueued",
        "it loses it in the clean runs too, which are the measure; the conformance suite does not",
    ),
    (
        "a value that is counted up twice before a run parks",
        "who parks may have stopped anywhere, so of its tables only the numbers of rows are judged, and the effects \
         that observers count",
    ),
    (
        "a guard that takes a job for done after three attempts or more",
        "one trial crashes a job twice, none more often",
    ),
    (
        "a body that blocks its thread for longer than its lease",
        "the workers of a trial share a thread, so nobody takes the key meanwhile",
    ),
    (
        "steps that a new version of the code has not, or has elsewhere",
        "a check runs one version of a job; steps that change by themselves are found",
    ),
    ("`COMMIT` in the body", "already the clean run fails, with a message that says so"),
];

/// What can be planted only where two transactions write at once.
const LATER: &[&str] = &[
    "on PostgreSQL and MySQL: a `check` that looks before the body acts, under `lock = none` and `retain = none`; a lost \
     race that is reported as won (plan `rival`); a key that is not locked under a job that reads and writes one row",
];

fn table() -> String {
    let mut text = String::from(
        "# Planted bugs\n\n\
         Does the testkit find anything? Each job and each store below has one bug, taken from the failure of a real\n\
         system. The test of its name shows that a full check finds it by the plan that stands here, says what is\n\
         different and what mends it, and finds it again by the schedule that it prints. The jobs at the end are right,\n\
         and no check of them raises an alarm.\n\n\
         Written by `UPDATE=1 cargo test -p idem-testkit --test planted`, which is also what compares it. The bugs are\n\
         in [`idem-testkit/tests/planted`](../idem-testkit/tests/planted). All run on SQLite.\n\n",
    );
    let bugs: usize = FAMILIES.iter().map(|(_, bugs)| bugs.len()).sum();
    let write = &mut text;
    let jobs: usize = CORRECT.iter().map(|(_, jobs)| jobs.len()).sum();
    writeln!(write, "{bugs} bugs, all found; {jobs} correct jobs.\n").expect(STRING);
    for (family, bugs) in FAMILIES {
        writeln!(write, "## {family}\n\n| bug | taken from | found by | where | hint |").expect(STRING);
        writeln!(write, "|---|---|---|---|---|").expect(STRING);
        for Bug { name, what, origin, plan, luck, at, hint } in bugs {
            let luck = luck.map(|luck| format!(", by luck `{luck}`")).unwrap_or_default();
            let name = name.replace('_', " ");
            writeln!(write, "| **{name}**: {what} | {origin} | `{plan}`{luck} | {at} | … {hint} … |")
                .expect(STRING);
        }
        writeln!(write).expect(STRING);
    }
    writeln!(write, "## Not found\n\n| bug | because |\n|---|---|").expect(STRING);
    for (bug, because) in NOT_FOUND {
        writeln!(write, "| {bug} | {because} |").expect(STRING);
    }
    writeln!(write, "\nNot planted yet:\n").expect(STRING);
    for later in LATER {
        writeln!(write, "* {later}").expect(STRING);
    }
    for (family, jobs) in CORRECT {
        writeln!(write, "\n## {family}\n\n| job | does |\n|---|---|").expect(STRING);
        for job in jobs {
            writeln!(write, "| {} | {} |", job.name.replace('_', " "), job.what).expect(STRING);
        }
    }
    text
}

const STRING: &str = "a string takes everything";

#[test]
fn the_list_in_the_documentation_is_this_one() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/planted-bugs.md");
    let table = table();
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&path, &table).expect("the documentation can be written");
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == table,
        "docs/planted-bugs.md is not what the bugs say; run UPDATE=1 cargo test -p idem-testkit --test planted"
    );
}

#[test]
fn there_are_enough_of_both() {
    let bugs: Vec<&str> = FAMILIES.iter().flat_map(|(_, bugs)| *bugs).map(|bug| bug.name).collect();
    assert!(bugs.len() >= 25, "{} bugs", bugs.len());
    let jobs: usize = CORRECT.iter().map(|(_, jobs)| jobs.len()).sum();
    assert!(jobs >= 60, "{jobs} correct jobs");
    let different: std::collections::BTreeSet<_> = bugs.iter().collect();
    assert_eq!(different.len(), bugs.len(), "every bug has a name of its own");
}
