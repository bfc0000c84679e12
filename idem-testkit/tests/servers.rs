//! Says on which servers this run of the tests was, and fails if one that `IDEM_REQUIRE` asks for is missing.
//!
//! It has a `main` of its own because the usual harness hides what a passing test prints.

use std::{
    env,
    panic::{UnwindSafe, catch_unwind},
    process::{Command, ExitCode},
};

use idem_testkit::servers::{Server, untested};

/// Set in the copies of this program that are meant to fail; they only look for the servers.
const ONLY_LOOK: &str = "IDEM_SERVERS_ONLY_LOOK";

fn main() -> ExitCode {
    if env::var_os(ONLY_LOOK).is_some() {
        untested();
        return ExitCode::SUCCESS;
    }
    let outcomes = [
        check("servers_asked_for_are_there", report),
        // The one that a test never starts for itself.
        check("a_missing_server_fails", || check_copy_fails("pgbouncer", "`IDEM_TEST_PGBOUNCER` is not set")),
        check("an_unknown_server_fails", || check_copy_fails("oracle", "`oracle`, which is none of")),
    ];
    let passed = outcomes.iter().filter(|passed| **passed).count();
    let failed = outcomes.len() - passed;
    println!("{passed} passed, {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn check(name: &str, test: impl FnOnce() + UnwindSafe) -> bool {
    let passed = catch_unwind(test).is_ok();
    println!("{name}: {}", if passed { "ok" } else { "FAILED" });
    passed
}

fn report() {
    let untested = untested();
    let tested: Vec<_> = Server::ALL.into_iter().filter(|server| !untested.contains(server)).collect();
    println!("tested on: sqlite{}", list(", ", &tested));
    if !untested.is_empty() {
        println!("not tested: {} (scripts/test starts them)", list("", &untested));
    }
}

fn list(before: &str, servers: &[Server]) -> String {
    if servers.is_empty() {
        return String::new();
    }
    let names: Vec<_> = servers.iter().map(|server| server.name()).collect();
    format!("{before}{}", names.join(", "))
}

/// Runs a copy of this program that has no servers and is asked for one, and checks that it fails for that reason.
fn check_copy_fails(require: &str, reason: &str) {
    let mut copy = Command::new(env::current_exe().expect("this program has a path"));
    copy.env(ONLY_LOOK, "1").env("IDEM_REQUIRE", require);
    for server in Server::ALL {
        copy.env_remove(server.variable());
    }
    let output = copy.output().expect("this program can be run again");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "the copy passed");
    assert!(errors.contains(reason), "another reason: {errors}");
}
