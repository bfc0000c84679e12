//! A job without a scenario is found, wherever it is declared.

use std::panic::catch_unwind;
use std::path::PathBuf;

use idem_testkit::coverage::{check_crate, uncovered_jobs};

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/coverage")).join(name)
}

#[test]
fn a_crate_whose_jobs_all_have_scenarios_passes() {
    assert_eq!(uncovered_jobs(&fixture("all_covered")), Ok(Vec::new()));
    check_crate(fixture("all_covered"));
}

#[test]
fn every_job_without_a_scenario_is_listed_with_its_place_and_what_to_write() {
    let panic = catch_unwind(|| check_crate(fixture("some_uncovered"))).expect_err("jobs are not covered");
    let message = panic.downcast_ref::<String>().expect("it is a text");
    let write =
        |name| format!("write a test with `check_single_effect(Scenario::new({name} {{ … }})).await`");
    assert_eq!(
        *message,
        format!(
            "nobody checks that these jobs have a single effect:\
             \n  src/bin/worker.rs:2: `refund_payment`; {}\
             \n  src/lib.rs:3: `send_mail`; {}\
             \n  src/lib.rs:15: `receive_2_events`; {}\
             \n  src/lib.rs:25: `match`; {}\
             \n  the sources are read: a job stands by its name in `Scenario::new(…)`, not behind a macro or a function \
             of yours [idem::testkit::uncovered]",
            write("Refund"),
            write("SendMail"),
            write("Receive2Events"),
            write("Match"),
        )
    );
}

#[test]
fn a_crate_without_jobs_does_not_pass_as_covered() {
    let why = uncovered_jobs(&fixture("no_job")).expect_err("there is nothing to cover");
    assert!(why.starts_with("no `#[idempotent]` function is in "), "{why}");
}

#[test]
fn a_file_that_is_no_rust_is_named() {
    let why = uncovered_jobs(&fixture("not_rust")).expect_err("nobody can read it");
    assert!(why.contains("lib.rs is no Rust"), "{why}");
}

#[test]
fn the_macro_looks_at_the_crate_that_calls_it() {
    let panic = catch_unwind(|| idem_testkit::check_all_jobs_covered!()).expect_err("the testkit has no job");
    let message = panic.downcast_ref::<String>().expect("it is a text");
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src");
    let why =
        format!("no `#[idempotent]` function is in {} [idem::testkit::unreadable_crate]", here.display());
    assert!(message.ends_with(&why), "{message}");
}
