//! A real process is killed at every window of a run, and what it must not leave behind is found.
#![cfg(feature = "sqlite")]

#[path = "common/kept.rs"]
mod kept;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use idem_runtime::RunOn;
use idem_runtime::prelude::*;
use idem_testkit::lab::{Lab, LabDatabase};
use idem_testkit::plan::Plan;
use idem_testkit::report::{Difference, Report};
use idem_testkit::{Scenario, Trial, Trouble, check_kill, examine};
use sqlx::Sqlite;

use self::kept::clean_up;

/// Set in the copies of this program that the testkit starts.
const CHILD: &str = "IDEM_TESTKIT_CHILD";

async fn members(lab: &Lab<Sqlite>) -> Result<(), idem_testkit::SetUpError> {
    let sql = "CREATE TABLE members (id BIGINT NOT NULL); CREATE TABLE log (id BIGINT NOT NULL)";
    sqlx::raw_sql(sql).execute(&lab.pool(1)).await?;
    Ok(())
}

/// Two writes, so that there is something in between.
#[idempotent(key = id)]
async fn enrol_member(tx: &mut Tx<'_, Sqlite>, id: i64) -> Result<(), sqlx::Error> {
    sqlx::query("INSERT INTO members (id) VALUES (?)").bind(id).execute(&mut **tx).await?;
    sqlx::query("INSERT INTO log (id) VALUES (?)").bind(id).execute(&mut **tx).await?;
    Ok(())
}

/// A place outside: a file or a folder, which outlives the process.
#[derive(Clone)]
struct Place {
    path: PathBuf,
    /// In the process that has made the place up, and not in those that take part in its trial.
    _removed: Option<Arc<Removed>>,
}

impl Place {
    fn of<D: LabDatabase>(trial: &Trial<D>, name: &str) -> Self {
        let mut removed = None;
        let path = trial.share(name, || {
            static NEXT: AtomicU64 = AtomicU64::new(0);
            let (process, next) = (std::process::id(), NEXT.fetch_add(1, SeqCst));
            let place = Removed(std::env::temp_dir().join(format!("idem_{name}_{process}_{next}")));
            // An earlier process may have had the same number.
            place.remove();
            let path = place.0.display().to_string();
            removed = Some(Arc::new(place));
            path
        });
        Place { path: PathBuf::from(path), _removed: removed }
    }
}

/// A place that is gone when it is dropped.
struct Removed(PathBuf);

impl Removed {
    fn remove(&self) {
        let _ = fs::remove_file(&self.0).or_else(|_| fs::remove_dir_all(&self.0));
    }
}

impl Drop for Removed {
    fn drop(&mut self) {
        self.remove();
    }
}

/// A file of lines.
#[derive(Clone)]
struct Outbox(Place);

impl Outbox {
    fn of<D: LabDatabase>(trial: &Trial<D>) -> Self {
        Outbox(Place::of(trial, "outbox"))
    }

    fn send(&self, line: &str) -> std::io::Result<()> {
        writeln!(fs::OpenOptions::new().create(true).append(true).open(&self.0.path)?, "{line}")
    }

    fn lines(&self) -> u64 {
        fs::read_to_string(&self.0.path).map_or(0, |text| text.lines().count() as u64)
    }
}

/// Sends before the record is there.
#[idempotent(key = id)]
async fn greet_member(tx: &mut Tx<'_, Sqlite>, id: i64, #[state] outbox: &Outbox) -> Result<(), sqlx::Error> {
    sqlx::query("INSERT INTO members (id) VALUES (?)").bind(id).execute(&mut **tx).await?;
    outbox.send("welcome")?;
    Ok(())
}

/// Runs some plans, and removes the database that a failure keeps to be looked at.
async fn examined<J, S>(scenario: &Scenario<J, Sqlite, S>, plans: &[Plan]) -> Report
where
    J: RunOn<Sqlite, S>,
    S: Clone + Send + Sync + 'static,
{
    let report = examine(scenario, plans).await.expect("the scenario is sound").expect("SQLite is there");
    if let Some(failure) = &report.failure {
        clean_up(failure);
    }
    report
}

async fn examine_greeting() -> Report {
    let scenario = Scenario::new(GreetMember { id: 42 })
        .setup(members)
        .state_with(Outbox::of)
        .observe("greetings", Outbox::lines)
        .setup(members);
    examined(&scenario, &[Plan::Kill]).await
}

fn of_kill(report: &Report) -> &idem_testkit::report::PlanReport {
    report.plans.iter().find(|plan| plan.plan == Plan::Kill).expect("the plan ran")
}

#[tokio::test]
async fn a_good_job_survives_a_kill_at_every_window() {
    let report = check_kill(Scenario::new(EnrolMember { id: 42 }).setup(members)).await;
    let report = report.expect("SQLite is there");
    let kill = of_kill(&report);
    assert!(kill.hit > 5 && kill.hit == kill.windows, "{report}");
    assert_eq!(kill.skipped, None);
    println!("{} children took {:?}", kill.hit + 1, kill.took);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_with_many_threads_can_be_killed_too() {
    let report = check_kill(Scenario::new(EnrolMember { id: 42 }).setup(members)).await;
    let report = report.expect("SQLite is there");
    assert!(of_kill(&report).hit > 5, "{report}");
    println!("{} children took {:?}", of_kill(&report).hit + 1, of_kill(&report).took);
}

#[tokio::test]
async fn an_effect_outside_before_the_record_is_caught() {
    let report = examine_greeting().await;
    let failure = report.failure.expect("the second greeting is found");
    let effects = Difference::Effects { observer: String::from("greetings"), expected: 1, found: 2 };
    assert_eq!(failure.differences, [effects]);
    let said: Vec<_> = failure.timeline.iter().map(|moment| (moment.worker, &*moment.what)).collect();
    let killed = said.iter().position(|said| *said == ('-', "kills the process of A")).expect("it is said");
    assert!(said[..killed].iter().any(|(worker, what)| *worker == 'A' && what.starts_with("BEGIN")));
    assert!(said[killed..].iter().any(|(worker, what)| *worker == 'B' && what.starts_with("executed")));
    let test = " an_effect_outside_before_the_record_is_caught -- --exact";
    assert!(failure.schedule.starts_with("kill/") && failure.replay.ends_with(test), "{}", failure.replay);
}

#[test]
fn the_line_of_a_report_replays_one_window() {
    let copy = |schedule: Option<&str>| {
        let mut copy = Command::new(std::env::current_exe().expect("this program has a path"));
        copy.args(["only_what_the_schedule_says", "--exact", "--nocapture"]);
        copy.envs(schedule.map(|schedule| ("IDEM_SCHEDULE", schedule)));
        let output = copy.output().expect("this program can be run again");
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    };
    let all = copy(None);
    let schedule = all.split("<<").nth(1).and_then(|text| text.split(">>").next()).expect("it is printed");
    assert_eq!(schedule, "kill/before-COMMIT", "{all}");
    let again = copy(Some(schedule));
    assert!(again.contains(&format!("hit 1, <<{schedule}>>")), "{again}");
    for harmless in ["kill/before-BEGIN", "kill/after-BEGIN"] {
        let again = copy(Some(harmless));
        assert!(again.contains("hit 1, <<none>>"), "{again}");
    }
    let unknown = copy(Some("kill/before-lunch"));
    assert!(unknown.contains("kill has no schedule `before-lunch` on this job"), "{unknown}");
}

/// Not much of a test by itself: others run it with schedules.
#[tokio::test]
async fn only_what_the_schedule_says() {
    let report = examine_greeting().await;
    let schedule = report.failure.as_ref().map_or("none", |failure| &failure.schedule);
    println!("hit {}, <<{schedule}>>", of_kill(&report).hit);
}

/// Sends through a step, whose outcome nobody knows when the process is killed in between.
macro_rules! sending {
    ($name:ident, $in_doubt:ident) => {
        #[idempotent(key = id, in_doubt = $in_doubt)]
        async fn $name(
            run: &mut Run<'_, Sqlite>,
            id: i64,
            #[state] outbox: &Outbox,
        ) -> Result<(), sqlx::Error> {
            run.step("welcome", async |_| {
                outbox.send("welcome")?;
                tokio::task::yield_now().await;
                Ok::<_, sqlx::Error>(())
            })
            .await?;
            let sql = "INSERT INTO members (id) VALUES (?)";
            run.tx_step("member", async |tx| sqlx::query(sql).bind(id).execute(&mut **tx).await.map(drop))
                .await
        }
    };
}

sending!(welcome_or_park, park);
sending!(welcome_again, rerun);

fn sends<J: RunOn<Sqlite, Outbox>>(job: J) -> Scenario<J, Sqlite, Outbox> {
    Scenario::new(job).setup(members).state_with(Outbox::of).observe("greetings", Outbox::lines)
}

#[tokio::test]
async fn a_leased_job_that_parks_survives_a_kill_at_every_window() {
    let report = check_kill(sends(WelcomeOrPark { id: 42 })).await.expect("SQLite is there");
    let kill = of_kill(&report);
    assert!(kill.hit > 10 && kill.hit == kill.windows, "{report}");
    assert_eq!(kill.skipped, None);
    println!("{} children took {:?}", kill.hit + 1, kill.took);
}

#[tokio::test]
async fn a_killed_run_that_is_run_again_without_a_key_is_caught() {
    let report = examined(&sends(WelcomeAgain { id: 42 }), &[Plan::Kill]).await;
    let failure = report.failure.expect("the second greeting is found");
    let effects = Difference::Effects { observer: String::from("greetings"), expected: 1, found: 2 };
    assert_eq!(failure.differences, [effects]);
    assert!(failure.hint.expect("there is a hint").contains("`.park()`"));
    let said = |what: &str| failure.timeline.iter().any(|moment| moment.what.starts_with(what));
    assert!(said("finds a claim whose lease is over"), "nobody says that a killed run failed");
}

/// Counts in the memory of its process.
#[derive(Clone, Default)]
struct Counter(Arc<AtomicU64>);

#[idempotent(key = id)]
async fn count_member(
    tx: &mut Tx<'_, Sqlite>,
    id: i64,
    #[state] counter: &Counter,
) -> Result<(), sqlx::Error> {
    counter.0.fetch_add(1, SeqCst);
    sqlx::query("INSERT INTO members (id) VALUES (?)").bind(id).execute(&mut **tx).await?;
    Ok(())
}

#[tokio::test]
async fn what_is_counted_in_memory_dies_with_the_process_and_is_not_judged() {
    let scenario = Scenario::new(CountMember { id: 42 })
        .setup(members)
        .state(Counter::default)
        .observe("counted", |counter| counter.0.load(SeqCst));
    let report = check_kill(scenario).await.expect("SQLite is there");
    let kill = of_kill(&report);
    assert!(kill.hit == kill.windows && kill.hit > 5);
    let skipped = kill.skipped.as_deref().expect("it is said");
    assert!(
        skipped.contains("took the count along: `counted`;") && skipped.contains("state_with"),
        "{skipped}"
    );
    let text = report.to_string();
    assert!(!text.contains("skipped"), "what was tried is not called skipped: {text}");
}

/// A folder that a process of its own makes folders in, some time after it was asked to.
#[derive(Clone)]
struct Slow(Place);

impl Slow {
    fn of<D: LabDatabase>(trial: &Trial<D>) -> Self {
        Slow(Place::of(trial, "slow"))
    }

    async fn make(&self, name: String) -> std::io::Result<()> {
        let folder = self.0.path.join(name);
        let mut shell = Command::new("sh");
        shell.args(["-c", "sleep 0.02; mkdir -p \"$0\""]).arg(folder);
        tokio::task::spawn_blocking(move || shell.status()).await??;
        Ok(())
    }

    fn made(&self) -> u64 {
        fs::read_dir(&self.0.path).map_or(0, |folders| folders.count() as u64)
    }
}

#[idempotent(key = id, in_doubt = rerun)]
async fn make_once(run: &mut Run<'_, Sqlite>, id: i64, #[state] slow: &Slow) -> Result<i64, std::io::Error> {
    run.step("make", async |key| slow.make(key).await).await?;
    Ok(id)
}

#[idempotent(key = id, in_doubt = rerun)]
async fn make_again(run: &mut Run<'_, Sqlite>, id: i64, #[state] slow: &Slow) -> Result<i64, std::io::Error> {
    // The number of the process is another one each time.
    run.step("make", async |_| slow.make(std::process::id().to_string()).await).await?;
    Ok(id)
}

#[tokio::test]
async fn an_effect_that_shows_only_after_the_kill_is_judged() {
    let scenario = Scenario::new(MakeOnce { id: 42 }).state_with(Slow::of).observe("made", Slow::made);
    let report = check_kill(scenario).await.expect("SQLite is there");
    let kill = of_kill(&report);
    assert!(kill.hit == kill.windows && kill.hit > 5 && kill.skipped.is_none(), "{report}");
}

#[tokio::test]
async fn a_second_effect_that_shows_only_after_the_kill_is_caught() {
    let scenario = Scenario::new(MakeAgain { id: 42 }).state_with(Slow::of).observe("made", Slow::made);
    let report = examined(&scenario, &[Plan::Kill]).await;
    let failure = report.failure.expect("the second effect is found");
    assert_eq!(failure.differences.len(), 1, "{:?}", failure.differences);
    let difference = &failure.differences[0];
    assert!(matches!(difference, Difference::Effects { expected: 1, found: 2, .. }), "{difference:?}");
}

/// Holds a file that is gone when it is dropped: a dropped run tidies up, a killed process does not.
struct LockFile(PathBuf);

impl LockFile {
    fn take(path: &Path) -> std::io::Result<Self> {
        fs::OpenOptions::new().write(true).create_new(true).open(path)?;
        Ok(LockFile(path.to_owned()))
    }
}

impl Drop for LockFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[idempotent(key = id)]
async fn lock_member(tx: &mut Tx<'_, Sqlite>, id: i64, #[state] outbox: &Outbox) -> Result<(), sqlx::Error> {
    let _lock = LockFile::take(&outbox.0.path)?;
    // An await that always is one, however fast the database answers.
    tokio::task::yield_now().await;
    sqlx::query("INSERT INTO members (id) VALUES (?)").bind(id).execute(&mut **tx).await?;
    Ok(())
}

#[tokio::test]
async fn what_only_a_destructor_tidies_up_passes_the_crash_plan_and_is_caught_by_a_kill() {
    let scenario = Scenario::new(LockMember { id: 42 }).setup(members).state_with(Outbox::of).setup(members);
    let report = examined(&scenario, &[Plan::Crash, Plan::Kill]).await;
    assert!(report.plans[0].plan == Plan::Crash && report.plans[0].hit > 5, "{report}");
    let failure = report.failure.expect("the lock file is found");
    assert_eq!(failure.plan, Plan::Kill);
    assert!(failure.hint.expect("there is a hint").contains("drop"));
}

/// A bank in memory, which captures what it has authorized.
#[derive(Clone, Default)]
struct Bank(Arc<Mutex<Vec<String>>>);

impl Bank {
    fn authorize(&self, key: String) -> String {
        self.0.lock().unwrap().push(key.clone());
        key
    }

    fn capture(&self, authorization: &String) -> Result<(), sqlx::Error> {
        let is_known = self.0.lock().unwrap().contains(authorization);
        is_known.then_some(()).ok_or_else(|| sqlx::Error::Configuration("no such authorization".into()))
    }
}

#[idempotent(key = id, in_doubt = rerun)]
async fn capture(run: &mut Run<'_, Sqlite>, id: i64, #[state] bank: &Bank) -> Result<(), sqlx::Error> {
    let authorized = run.step("authorize", async |key| Ok::<_, sqlx::Error>(bank.authorize(key))).await?;
    run.step("capture", async |_| bank.capture(&authorized)).await?;
    let sql = "INSERT INTO members (id) VALUES (?)";
    run.tx_step("member", async |tx| sqlx::query(sql).bind(id).execute(&mut **tx).await.map(drop)).await
}

#[tokio::test]
async fn a_fake_in_memory_that_died_with_its_process_is_named_in_the_hint() {
    let scenario = Scenario::new(Capture { id: 42 }).setup(members).state(Bank::default);
    let report = examined(&scenario, &[Plan::Crash, Plan::Kill]).await;
    let failure = report.failure.expect("the bank of this process has authorized nothing");
    assert_eq!(failure.plan, Plan::Kill);
    let hint = failure.hint.expect("there is a hint");
    assert!(hint.contains("`Scenario::state_with`"), "{hint}");
}

#[test]
fn a_thread_without_the_name_of_a_test_skips_the_plan_and_says_what_to_do() {
    // A scenario without a name passes in the child too, where nobody waits for it.
    let report = std::thread::spawn(|| run(check_kill(Scenario::new(EnrolMember { id: 42 }).setup(members))));
    let report = report.join().expect("it passes").expect("SQLite is there");
    let kill = of_kill(&report);
    assert_eq!((kill.hit, kill.windows), (0, 0));
    let skipped = kill.skipped.as_deref().expect("it is said");
    assert!(skipped.contains("write `Scenario::test(\"module::name\")`"), "{skipped}");
}

#[test]
fn a_name_given_by_hand_serves_a_thread_without_one() {
    let scenario = Scenario::new(EnrolMember { id: 42 }).setup(members);
    let scenario = scenario.test("a_name_given_by_hand_serves_a_thread_without_one");
    let report = std::thread::spawn(|| run(check_kill(scenario))).join().expect("it passes");
    assert!(of_kill(&report.expect("SQLite is there")).hit > 5);
}

fn run<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime can be made").block_on(future)
}

/// Examines a scenario whose children go wrong, and returns why and what they wrote.
async fn trouble(scenario: Scenario<EnrolMember, Sqlite>) -> (String, String) {
    match examine(&scenario.setup(members), &[Plan::Kill]).await {
        Err(Trouble::Child { why, output }) => (why, output),
        other => panic!("no trouble with the child: {other:?}"),
    }
}

#[tokio::test]
async fn a_wrong_name_is_told() {
    let (why, _) = trouble(Scenario::new(EnrolMember { id: 42 }).test("nobody::calls_it_so")).await;
    assert!(why.contains("knows no test `nobody::calls_it_so`") && why.contains("--list"), "{why}");
}

#[tokio::test]
async fn a_child_that_does_not_come_to_the_check_is_told() {
    if std::env::var_os(CHILD).is_some() {
        return;
    }
    let (why, _) = trouble(Scenario::new(EnrolMember { id: 42 })).await;
    assert!(why.contains("ended there without coming to this check"), "{why}");
}

#[tokio::test]
async fn a_child_that_fails_on_its_way_is_told_with_its_output() {
    assert!(std::env::var_os(CHILD).is_none(), "the planted failure");
    let (why, output) = trouble(Scenario::new(EnrolMember { id: 42 })).await;
    assert!(why.contains("failed there before it came to the window"), "{why}");
    assert!(output.contains("the planted failure"), "{output}");
}

#[tokio::test]
async fn a_child_that_says_nothing_is_given_up() {
    if std::env::var_os(CHILD).is_some() {
        std::future::pending::<()>().await;
    }
    let scenario = Scenario::new(EnrolMember { id: 42 }).limit(Duration::from_secs(2));
    let (why, _) = trouble(scenario).await;
    assert!(why.contains("says nothing within 4s"), "{why}");
}

#[tokio::test]
async fn each_call_of_a_check_is_found_again_and_no_child_goes_past_it() {
    let child = std::env::var_os(CHILD);
    for time in 0..2 {
        let report = check_kill(Scenario::new(EnrolMember { id: 42 }).setup(members)).await;
        let report = report.expect("SQLite is there");
        match &child {
            None => assert!(of_kill(&report).hit > 5, "{report}"),
            // Only the first call can be passed by, on the way to the second.
            Some(orders) => {
                assert!(report.plans.is_empty());
                assert!(time == 0 && orders.to_string_lossy().contains(r#""nth":1"#), "a child went past");
            }
        }
    }
    assert!(child.is_none(), "a child went past its run");
}

#[tokio::test]
async fn calls_for_the_same_key_are_told_apart() {
    let share = |name: &'static str| {
        Scenario::new(GreetMember { id: 42 })
            .setup(members)
            // A child that took the first call for the second would find nothing shared by this name.
            .state_with(move |trial| Outbox(Place::of(trial, name)))
    };
    for name in ["one", "two"] {
        let report = check_kill(share(name)).await.expect("SQLite is there");
        assert!(report.plans.is_empty() || of_kill(&report).hit > 5, "{report}");
    }
}
