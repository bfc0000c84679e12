//! The codes of what the testkit itself refuses or misses.

idem_runtime::__private::codes! {
    /// Why a test can tell nothing: the text of each such error or panic ends with its code, as in
    /// `[idem::testkit::no_effect]`.
    ///
    /// That a job has no single effect is a finding, and has a report and no code.
    ///
    /// # Example
    ///
    /// ```
    /// use idem_testkit::Code;
    ///
    /// assert_eq!(Code::NoEffect.to_string(), "idem::testkit::no_effect");
    /// ```
    pub enum Code with "testkit::";

    SetUp "set_up":
        "The closure that was given to `Scenario::setup` has failed. Nothing was checked.",
        "Mend the set-up. It runs in a fresh database, after idem's own tables are there, before every trial.";
    CleanRun "clean_run":
        "The job fails, or panics, although nothing is in its way. Nothing was checked.",
        "Let `Scenario::setup` make the tables and rows that the job needs, and `Scenario::state` what it takes as `#[state]`. A job that is to fail is checked if `replay(…)` names its error. The text has the job's error, with a code of its own if it is one of idem's.";
    Hung "hung":
        "The job still runs at the scenario's limit although nothing is in its way. Nothing was checked.",
        "Look at the place that the text names; raise the limit with `Scenario::limit(Duration::from_secs(60))` if the job needs longer.";
    NoEffect "no_effect":
        "A clean run changes no table, and no observer sees anything, so a check would prove nothing.",
        "Let the set-up make work for the job; count effects outside of the database with `Scenario::observe(\"charges\", …)`.";
    UnseenObserver "unseen_observer":
        "An observer sees no effect in a clean run, so it would prove nothing.",
        "Let it count what this job does, in the state that the job is given, or leave it out.";
    Nondeterministic "nondeterministic":
        "Two clean runs leave different effects: other rows, or another number of them. There is nothing to compare with.",
        "Let what the job leaves follow from its arguments and the set-up alone. Columns that differ by nature, such as times and random ids, are found and left out by themselves.";
    OnlyMasked "only_masked":
        "All that a clean run changes are values that differ by nature, so a check would prove nothing.",
        "Let the job change something that does not, or count its effect with `Scenario::observe`.";
    SharedState "shared_state":
        "The effects of one trial show in the next, so nothing can be counted.",
        "Make everything that is counted inside of the closure that is given to `Scenario::state`, which is called once a trial.";
    Store "store":
        "The store, or the database, failed where the check had planted no fault. This says nothing about the job.",
        "Look at the server, and run the check again. The text has the store's error, with a code of its own.";
    Schedule "schedule":
        "`IDEM_SCHEDULE` names no schedule of this job.",
        "Copy the line from a report, such as `IDEM_SCHEDULE=crash/3`, or leave the variable unset to run all schedules.";
    Child "child":
        "The test cannot be run in a process of its own, which `check_kill` and `check_single_effect` need.",
        "Let the test come to its check in the same way in every process; write `Scenario::test(\"module::name\")` if its name is not that of its thread.";
    Arguments "arguments":
        "The arguments of the job do not survive serde, so it could not travel on a queue either.",
        "Derive `Serialize` and `Deserialize` so that one reads what the other writes.";
    Unshared "unshared":
        "A process that was started for a trial asks for what the test's own process did not share.",
        "Call `Trial::share` with the same names in every process, before anything depends on which one it is.";
    Uncovered "uncovered":
        "Jobs of this crate have no test that checks that their effect is a single one.",
        "Write the tests that the text names: `check_single_effect(Scenario::new(Job { … })).await`.";
    UnreadableCrate "unreadable_crate":
        "The jobs of a crate cannot be looked for: it declares none, or a file cannot be read.",
        "Call `check_all_jobs_covered!()` from a test of the crate whose `src` declares the jobs.";
    Server "server":
        "A database server that the tests ask for is not there, or cannot be used.",
        "Run the tests with `scripts/test`, install the server, or let its variable, such as `IDEM_TEST_POSTGRES`, name one: `postgres://user:password@host/database`. `IDEM_REQUIRE` says which ones must be there.";
    NoTable "no_table":
        "A test asks for a table that the database does not have.",
        "Write its name as the database has it; `Tables` prints what is there.";
    ReportFolder "report_folder":
        "`IDEM_REPORT` names a folder that cannot be written.",
        "Let it name a folder that the test may make or write to.";
}

#[cfg(all(test, feature = "sqlite", feature = "postgres"))]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::convert::Infallible;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use idem_runtime::prelude::*;
    use serde::{Deserialize, Serialize, Serializer};

    use super::Code;
    use crate::coverage::check_crate;
    use crate::servers::Server;
    use crate::tables::Tables;
    use crate::{Scenario, Trial, Trouble};

    #[derive(Debug, Clone, Deserialize)]
    struct Locked;

    impl Serialize for Locked {
        fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("it is locked"))
        }
    }

    #[idempotent(key = id)]
    async fn open(tx: &mut Tx<'_, Sqlite>, id: i64, safe: Locked) -> Result<(), Infallible> {
        let _ = (tx, id, safe);
        Ok(())
    }

    /// Returns what code says as it panics.
    fn panics<T>(code: impl FnOnce() -> T) -> String {
        let panic = catch_unwind(AssertUnwindSafe(code)).err().expect("it panics");
        panic.downcast_ref::<String>().expect("it is a text").clone()
    }

    /// Returns the text of an error, or a panic, of this code.
    fn example(code: Code) -> String {
        let says = |trouble: Trouble| {
            assert_eq!(trouble.code(), code);
            trouble.to_string()
        };
        let why = || String::from("no such table");
        let fixture = |name| format!("{}/tests/fixtures/coverage/{name}", env!("CARGO_MANIFEST_DIR"));
        match code {
            Code::SetUp => says(Trouble::SetUp(why())),
            Code::CleanRun => says(Trouble::CleanRun(why())),
            Code::Hung => says(Trouble::Hung { at: why(), timeline: Vec::new() }),
            Code::NoEffect => says(Trouble::NoEffect),
            Code::UnseenObserver => says(Trouble::UnseenObserver(why())),
            Code::Nondeterministic => says(Trouble::Nondeterministic(Vec::new())),
            Code::OnlyMasked => says(Trouble::OnlyMasked(Vec::new())),
            Code::SharedState => says(Trouble::SharedState),
            Code::Store => says(Trouble::Store(why())),
            Code::Schedule => says(crate::plan::parse("crash").expect_err("it has no window")),
            Code::Child => says(Trouble::Child { why: why(), output: String::from("one\ntwo\n") }),
            Code::Arguments => panics(|| Scenario::<_, Sqlite>::new(Open { id: 42, safe: Locked })),
            Code::Unshared => {
                let options = sqlx::sqlite::SqliteConnectOptions::new();
                panics(|| Trial::<Sqlite>::joined(options, BTreeMap::new()).share("url", String::new))
            }
            Code::Uncovered => panics(|| check_crate(fixture("some_uncovered"))),
            Code::UnreadableCrate => panics(|| check_crate(fixture("no_job"))),
            Code::Server => {
                let error = "hunter2".parse::<sqlx::postgres::PgConnectOptions>().expect_err("it is no URL");
                panics(|| crate::lab::no_url::<()>(Server::Postgres, &error))
            }
            Code::NoTable => panics(|| Tables::default()["payments"].clone()),
            Code::ReportFolder => {
                panics(|| crate::check::no_folder::<()>(&std::io::ErrorKind::NotFound.into()))
            }
        }
    }

    #[test]
    fn each_text_ends_with_its_code_and_names_it_once() {
        for code in Code::ALL {
            let text = example(*code);
            assert!(text.ends_with(&format!(" [{code}]")), "{text}");
            assert_eq!(text.matches(&code.to_string()).count(), 1, "{text}");
            assert!(!text.contains("hunter2"), "an address may have a password in it: {text}");
        }
    }

    #[test]
    fn codes_have_names_of_their_own_and_sentences() {
        let slugs: BTreeSet<_> = Code::ALL.iter().map(|code| code.slug()).collect();
        assert_eq!(slugs.len(), Code::ALL.len());
        for code in Code::ALL {
            let slug = code.slug();
            assert!(slug.chars().all(|c| c.is_ascii_lowercase() || "_:".contains(c)), "{slug}");
            for text in [code.meaning(), code.remedy()] {
                assert!(text.ends_with('.') && !text.contains("  "), "{slug}: {text}");
                assert_eq!(text.matches('`').count() % 2, 0, "{slug}: {text}");
            }
        }
    }
}
