//! The main job, run as a user runs it.

#[path = "common/program.rs"]
mod program;

use std::collections::HashSet;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use idem_testkit::lab::LabDatabase;
use serde_json::Value;
use sqlx::ConnectOptions as _;
use tempfile::TempDir;

use crate::program::refuses;

const EVENTS: u64 = 329;

fn webhook(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_webhook"));
    command.args(args);
    command
}

fn run(args: &[&str]) -> Output {
    webhook(args).output().expect("the program starts")
}

/// The table of a run, and what it said on stderr.
struct Ran {
    table: Value,
    stderr: String,
    success: bool,
}

impl Ran {
    fn of(args: &[&str]) -> Ran {
        let output = run(&[args, &["--json"]].concat());
        let stderr = String::from_utf8(output.stderr).expect("stderr is text");
        let table = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("stdout is no JSON: {error}\n{stderr}"));
        Ran { table, stderr, success: output.status.success() }
    }

    fn get(&self, field: &str) -> u64 {
        self.table[field].as_u64().unwrap_or_else(|| panic!("no number `{field}` in {}", self.table))
    }

    /// Checks what holds for every run, whatever its database.
    fn is_right(&self) {
        assert!(self.success, "{}\n{}", self.table, self.stderr);
        assert_eq!(self.table["wrong"], Value::Array(Vec::new()));
        assert_eq!(self.get("effects"), self.get("events"));
        assert_eq!(self.get("without_original"), 0);
        assert_eq!(self.get("deliveries"), self.get("lines") * self.get("copies") + self.get("redeliveries"));
        assert_eq!(
            self.get("deliveries"),
            self.get("runs") + self.get("replays") + self.get("refused"),
            "{}",
            self.table
        );
    }

    /// Checks a first run of GitHub's events with two kills.
    fn is_a_first_run(&self) {
        self.is_right();
        assert_eq!(self.get("events"), EVENTS);
        assert_eq!(self.get("effects_before"), 0);
        assert_eq!((self.get("killed_in_the_job"), self.get("killed_before_the_answer")), (1, 1));
        // Every event, and once more the one that was killed before its commit, and any that a server gave
        // up in a deadlock.
        assert_eq!(self.get("runs"), EVENTS + 1 + self.get("failed"));
        // Half a share, twice, and the two deliveries that were cut off.
        let share = EVENTS * self.get("copies") / self.get("workers");
        assert_eq!(self.get("redeliveries"), 2 * (share / 2 + 1) + self.get("failed"));
        // What was killed between commit and answer is in no log, but its redelivery is a duplicate.
        assert_eq!(self.get("duplicates"), self.get("replays"));
    }

    /// Checks a run whose events were all there before.
    fn has_no_new_effect(&self) {
        self.is_right();
        assert_eq!(self.get("effects_before"), EVENTS);
        assert_eq!(self.get("runs"), 0);
        assert_eq!(self.get("replays"), self.get("deliveries"));
        assert_eq!(self.get("duplicates"), self.get("replays") - self.get("kills"));
    }
}

fn input(folder: &TempDir, text: &str) -> PathBuf {
    let path = folder.path().join("events.jsonl");
    std::fs::write(&path, text).expect("the folder is ours");
    path
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a folder for temporary files has a plain name")
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("there is a place for temporary files")
}

fn event(delivery: &str, payload: &str) -> String {
    format!("{{\"delivery\":\"{delivery}\",\"event\":\"push\",\"payload\":{payload}}}\n")
}

#[test]
fn every_event_has_one_effect_though_workers_are_killed() {
    Ran::of(&[]).is_a_first_run();
}

#[test]
fn without_idem_the_same_run_is_seen_to_be_wrong() {
    let ran = Ran::of(&["--without-idem"]);
    assert!(!ran.success);
    // One of the kills came before a commit.
    assert_eq!(ran.get("effects"), ran.get("deliveries") - 1);
    assert_eq!(ran.get("replays"), 0);
    assert!(!ran.table["wrong"].as_array().expect("a list").is_empty());
}

#[test]
fn a_kept_database_has_no_new_effect_the_second_time() {
    let folder = folder();
    let file = folder.path().join("kept.sqlite");
    let url = format!("sqlite://{}", text(&file));
    Ran::of(&["--database-url", &url]).is_a_first_run();
    assert!(file.exists());
    Ran::of(&["--database-url", &url]).has_no_new_effect();
    // Other events find their own effects only.
    let other = input(&folder, &(event("another", "{}") + &event("and-another", "[1]")));
    let ran = Ran::of(&["--database-url", &url, "--input", text(&other)]);
    ran.is_right();
    assert_eq!((ran.get("events"), ran.get("effects"), ran.get("effects_before")), (2, 2, 0));
}

#[test]
fn postgres_gives_the_same_table() {
    on_server::<sqlx::Postgres>();
}

#[test]
fn mysql_gives_the_same_table() {
    on_server::<sqlx::MySql>();
}

/// Runs twice on a throw-away database. If there is no server, the lab says so.
fn on_server<D: LabDatabase>() {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
    let Some(lab) = runtime.block_on(D::lab()) else { return };
    let url = lab.options().to_url_lossy();
    Ran::of(&["--database-url", url.as_str()]).is_a_first_run();
    Ran::of(&["--database-url", url.as_str(), "--seed", "7"]).has_no_new_effect();
}

#[test]
fn bad_lines_are_told_by_number_and_the_rest_is_delivered() {
    let folder = folder();
    let lines = [
        event("a", "{}"),
        String::from("{\"delivery\":\"b\",\"event\"\n"),
        String::from("{\"event\":\"push\",\"payload\":{}}\n"),
        event(" ", "{}"),
        String::from("[1,2]\n"),
        String::from("\n"),
        event("c", "null"),
    ];
    let ran = Ran::of(&["--input", text(&input(&folder, &lines.concat()))]);
    ran.is_right();
    assert_eq!((ran.get("events"), ran.get("bad_lines")), (2, 4));
    let told: Vec<&str> = ran.stderr.lines().filter(|line| line.contains("left out")).collect();
    assert_eq!(told.len(), 4, "{told:#?}");
    for (told, expected) in told.iter().zip([
        "line 2: left out: no JSON",
        "line 3: left out: no `delivery`",
        "line 4: left out: `delivery` is blank",
        "line 5: left out: not a JSON object",
    ]) {
        assert!(told.starts_with(expected), "{told}");
    }
}

#[test]
fn one_delivery_with_two_bodies_has_one_effect_and_is_told() {
    let folder = folder();
    let lines = [event("a", "{\"n\":1}"), event("b", "{}"), event("a", "{\"n\":2}")].concat();
    let ran = Ran::of(&["--input", text(&input(&folder, &lines)), "--kills", "0"]);
    ran.is_right();
    assert_eq!((ran.get("events"), ran.get("lines"), ran.get("runs")), (2, 3, 2));
    assert_eq!(ran.get("refused"), 4, "all copies of the body that came second");
    let told: Vec<&str> = ran.stderr.lines().filter(|line| line.contains("refused")).collect();
    assert_eq!(told.len(), 1, "{told:#?}");
    assert!(told[0].starts_with("line 1: ") || told[0].starts_with("line 3: "), "{}", told[0]);
    assert!(told[0].contains("other arguments"), "{}", told[0]);
}

#[test]
fn an_input_without_events_has_no_effect() {
    let folder = folder();
    let ran = Ran::of(&["--input", text(&input(&folder, ""))]);
    ran.is_right();
    assert_eq!((ran.get("deliveries"), ran.get("kills")), (0, 0));
    assert!(ran.stderr.contains("there is no event in"), "{}", ran.stderr);
}

#[test]
fn one_event_is_enough_for_many_workers_and_kills() {
    let folder = folder();
    let path = input(&folder, &event("a", "{}"));
    let ran = Ran::of(&["--input", text(&path), "--copies", "3", "--workers", "8", "--kills", "7"]);
    ran.is_right();
    assert_eq!((ran.get("effects"), ran.get("kills"), ran.get("workers")), (1, 7, 3));
}

#[test]
fn what_cannot_work_is_told_and_fails() {
    for (args, expected) in [
        (&["--input", "/nowhere/events.jsonl"][..], "cannot read /nowhere/events.jsonl"),
        (&["--database-url", "redis://localhost"], "cannot use `redis`"),
        (&["--database-url", "nothing"], "a URL begins with a scheme"),
        (&["--database-url", "sqlite::memory:"], "share no memory"),
        (&["--database-url", "sqlite:///nowhere/a.sqlite"], "unable to open database file"),
        (&["--database-url", "postgres://127.0.0.1:1/none"], "preparing PostgreSQL"),
        (&["--database-url", "mysql://127.0.0.1:1/none"], "preparing MySQL"),
        (&["--workers", "0"], "--workers"),
    ] {
        refuses(env!("CARGO_BIN_EXE_webhook"), args, expected);
    }
}

#[test]
fn the_table_names_what_was_asked_for() {
    let folder = folder();
    let output = run(&["--input", text(&input(&folder, &event("a", "{}")))]);
    let table = String::from_utf8(output.stdout).expect("the table is text");
    for name in ["deliveries", "runs", "replays", "effects", "duplicates", "kills", "time per delivery"] {
        assert!(table.contains(name), "{table}");
    }
    assert!(!table.contains('\x1b'), "no colours or cursor movements where no terminal is");
}

/// The processes are found through /proc, which is Linux's.
#[cfg(target_os = "linux")]
mod processes {
    use super::*;

    /// Starts a run that takes long, and waits until it is delivering.
    fn start() -> (std::process::Child, BufReader<std::process::ChildStderr>, TempDir) {
        let temporary = folder();
        let mut child = webhook(&["--copies", "500", "--kills", "0"])
            .env("TMPDIR", temporary.path())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let stderr = BufReader::new(child.stderr.take().expect("stderr is piped"));
        until("four workers", || workers(child.id()).len() == 4);
        (child, stderr, temporary)
    }

    /// Returns the state of a process and its parent, which stand behind its name in brackets.
    fn stat(id: u32) -> Option<(String, u32)> {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
        Some((fields.next()?.to_owned(), fields.next()?.parse().ok()?))
    }

    fn workers(parent: u32) -> HashSet<u32> {
        let ids = std::fs::read_dir("/proc").expect("Linux has /proc").flatten();
        ids.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter(|id| stat(*id).is_some_and(|(_, of)| of == parent))
            .collect()
    }

    /// Tells whether a process runs; one that has ended may stay listed until somebody asks for its end.
    fn is_there(id: &u32) -> bool {
        stat(*id).is_some_and(|(state, _)| state != "Z")
    }

    fn until(what: &str, holds: impl Fn() -> bool) {
        let started = Instant::now();
        while !holds() {
            assert!(started.elapsed() < Duration::from_secs(60), "waited a minute for {what}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn signal(name: &str, id: u32) {
        let status = Command::new("kill").arg(format!("-{name}")).arg(id.to_string()).status();
        assert!(status.expect("kill is there").success());
    }

    #[test]
    fn a_worker_that_dies_by_itself_is_told_and_nothing_is_left() {
        let (mut child, mut stderr, temporary) = start();
        let workers = workers(child.id());
        signal("TERM", *workers.iter().next().expect("there are four"));
        let status = child.wait().expect("it ends");
        let mut said = String::new();
        stderr.read_to_string(&mut said).expect("stderr is text");
        assert_eq!(status.code(), Some(1), "{said}");
        assert!(said.contains("died in the middle of its work"), "{said}");
        until("the workers to end", || !workers.iter().any(is_there));
        assert_eq!(std::fs::read_dir(temporary.path()).expect("it is ours").count(), 0);
    }

    #[test]
    fn after_ctrl_c_nothing_is_left() {
        let (mut child, mut stderr, temporary) = start();
        let workers = workers(child.id());
        signal("INT", child.id());
        let status = child.wait().expect("it ends");
        let mut said = String::new();
        stderr.read_to_string(&mut said).expect("stderr is text");
        assert_eq!(status.code(), Some(130), "{said}");
        assert!(said.contains("interrupted"), "{said}");
        until("the workers to end", || !workers.iter().any(is_there));
        assert_eq!(std::fs::read_dir(temporary.path()).expect("it is ours").count(), 0);
    }

    #[test]
    fn a_worker_does_not_outlive_a_killed_sender() {
        let (mut child, mut stderr, _temporary) = start();
        let mut line = String::new();
        let workers = workers(child.id());
        signal("KILL", child.id());
        child.wait().expect("it ends");
        stderr.read_line(&mut line).expect("stderr is text");
        until("the workers to end", || !workers.iter().any(is_there));
    }
}
