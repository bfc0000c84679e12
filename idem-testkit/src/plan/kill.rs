//! A real process that is killed at every window of a run: the machine that loses its power, `kill -9`,
//! the out-of-memory killer.
//!
//! The windows are those of the crash plan. For each one the plan prepares a database, starts the program of
//! the tests again with nothing but the test that called, and lets that *child* work on the database. The
//! child does all that the test does before the check, comes to the check, runs the job to the window, says
//! so and stands still with its transaction open. It is killed (SIGKILL on Unix), and recovery and judgement
//! happen here. A child never runs past its run: it stands still or ends its process.
//!
//! What sets this apart from the crash plan: no destructor runs, nothing in memory survives, and the
//! database learns of the death from the operating system alone.
//!
//! A state in memory dies with the child, so an observer that counts there cannot see what the child did.
//! The child says what it has counted; where less than that is seen here after its death, the observer is not
//! judged, and the report says so. A state that is outside, a server or a file, is judged in full, and so is an
//! effect that was under way and shows only after the kill.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Mutex, Once, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::crash::{Windows, unrelated_work};
use super::{Plan, Went, judge_in_doubt, wrong};
use crate::check::Trouble;
use crate::lab::{Lab, LabDatabase};
use crate::oracle::Oracle;
use crate::report::{Difference, Moment, Report};
use crate::subject::Subject;
use crate::trial::Trial;
use crate::watch::{Ack, Stop, slug};
use crate::world::{Ended, World};

/// Tells a process that it is a child, and what it is to do.
const CHILD: &str = "IDEM_TESTKIT_CHILD";

/// What a child's word to its parent begins with.
const WORD: &str = "idem-testkit child: ";

/// How much of what a child writes is kept for a message.
const OUTPUT_BYTES_MAX: usize = 16 * 1024;

pub(crate) async fn run<D: LabDatabase>(
    subject: &dyn Subject<D>,
    oracle: &Oracle,
    call: &Call,
    only: Option<&str>,
) -> Result<Went, Trouble> {
    let Some(test) = call.test() else {
        let why = "the process to kill would run this test again, by its name, which its thread does not have; to have \
                   it killed too, write `Scenario::test(\"module::name\")`";
        return Ok(Went { skipped: Some(String::from(why)), ..Went::default() });
    };
    let mut went = Went::default();
    let mut unseen = BTreeSet::new();
    let mut windows = Windows::of(oracle);
    while let Some(window) = windows.next(only) {
        let Some(world) = World::new(subject).await? else { break };
        let child = Child {
            id: call.id.clone(),
            nth: call.nth,
            window: window.clone(),
            place: world.lab.place(),
            shared: world.trial.shared(),
        };
        let later = world.timeline.elapsed();
        let said = child.start(test.to_owned(), subject.settings().limit).await?;
        let moments = said.moments.into_iter();
        world.timeline.take_over(
            later,
            moments.map(|(at, worker, what)| Moment { at: Duration::from_micros(at), worker, what }),
        );
        windows.seen(said.windows);
        if said.end == End::GotThrough {
            continue;
        }
        windows.hit();
        world.timeline.note('-', "kills the process of A");
        let effects = said.effects.into_iter().zip(world.effects().await).enumerate();
        // What shows here and did not there was under way, and is outside: it is judged.
        let died: Vec<usize> = effects.filter(|(_, (child, here))| child > here).map(|(n, _)| n).collect();
        let mut differences: Vec<Difference> =
            unrelated_work(&world, &world.lab.pool(2)).await?.into_iter().collect();
        let recovered = world.recover_after_a_death('B').await?;
        differences.extend(judge_in_doubt(&world, &oracle.blind_to(&died), &[recovered]).await?);
        unseen.extend(died);
        if !differences.is_empty() {
            let what = format!("the worker's process was killed at {window}, and the job ran again");
            went.wrong = Some(wrong(world, slug(&window), what, differences));
            break;
        }
    }
    (went.windows, went.hit) = windows.count();
    if !unseen.is_empty() {
        let observers = subject.observers();
        let names: Vec<_> = unseen.iter().map(|n| format!("`{}`", observers[*n])).collect();
        went.skipped = Some(format!(
            "not judged where a kill took the count along: {}; to have it judged, count in a file or on a server, with \
             `Scenario::state_with`",
            names.join(", ")
        ));
    }
    Ok(went)
}

/// One call of a check, as the same test makes it in another process.
#[derive(Debug)]
pub(crate) struct Call {
    id: CallId,
    /// How many calls like this one the test made before.
    before: usize,
    /// How many of them kill.
    nth: usize,
    /// Whether it kills at all.
    kills: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct CallId {
    /// As the test harness names it.
    test: Option<String>,
    job: String,
    key: String,
    database: String,
}

impl CallId {
    /// Tells whether this is the call in another process, where the test's thread may not be named.
    fn is_like(&self, other: &CallId) -> bool {
        (&self.job, &self.key, &self.database) == (&other.job, &other.key, &other.database)
    }
}

impl Call {
    /// Identifies the call that is made now.
    pub(crate) fn of<D: LabDatabase>(subject: &dyn Subject<D>, key: &str, plans: &[Plan]) -> Self {
        static CALLS: Mutex<BTreeMap<CallId, (usize, usize)>> = Mutex::new(BTreeMap::new());
        let id = CallId {
            test: subject.settings().test.clone().or_else(this_test),
            job: subject.spec().name.to_owned(),
            key: key.to_owned(),
            database: D::SHORT_NAME.to_owned(),
        };
        let kills = plans.contains(&Plan::Kill);
        let mut calls = CALLS.lock().unwrap_or_else(PoisonError::into_inner);
        let made = calls.entry(id.clone()).or_insert((0, 0));
        let (before, nth) = *made;
        *made = (before + 1, nth + usize::from(kills));
        Call { id, before, nth, kills }
    }

    /// Returns the report of this call before any plan has run; it is all that a child gets of a check that it
    /// passes by.
    pub(crate) fn report(&self) -> Report {
        Report {
            job: self.id.job.clone(),
            key: self.id.key.clone(),
            test: self.id.test.clone(),
            check: self.before + 1,
            database: self.id.database.clone(),
            plans: Vec::new(),
            masked: Vec::new(),
            effects: Vec::new(),
            refusal: None,
            took: Duration::ZERO,
            failure: None,
        }
    }

    /// Returns the name of the test that called, if it is known.
    pub(crate) fn test(&self) -> Option<&str> {
        self.id.test.as_deref()
    }
}

/// Returns the name of the test on whose thread this is: the test harness names the thread after it.
fn this_test() -> Option<String> {
    let name = std::thread::current().name()?.to_owned();
    (name != "main" && !name.starts_with("tokio")).then_some(name)
}

/// What a child is to do.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Child {
    id: CallId,
    nth: usize,
    /// Where to stand still.
    window: String,
    /// The database, as the parent names it.
    place: String,
    /// What the state shares.
    shared: BTreeMap<String, String>,
}

/// What a child says to its parent, once.
#[derive(Debug, Serialize, Deserialize)]
struct Said {
    end: End,
    windows: Vec<String>,
    /// What its observers count.
    effects: Vec<u64>,
    /// Microseconds since it began, the worker, and what it did.
    moments: Vec<(u64, char, String)>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
enum End {
    /// At the window, until it is killed.
    StandsStill,
    /// It did not come to the window.
    GotThrough,
}

// The child's side.
impl Child {
    /// Tells what this process is to do, if it is a child.
    pub(crate) fn of_this_process() -> Option<Self> {
        let orders = std::env::var(CHILD).ok()?;
        Some(serde_json::from_str(&orders).expect("a parent writes orders that its child can read"))
    }

    /// Comes to a check: does not return from the one that was meant, and passes by all others.
    pub(crate) async fn meet<D: LabDatabase>(
        self,
        call: &Call,
        subject: &dyn Subject<D>,
    ) -> Result<Report, Trouble> {
        end_with_parent();
        if !call.kills || !call.id.is_like(&self.id) || call.nth != self.nth {
            return Ok(call.report());
        }
        let lab = Lab::<D>::attached(&self.place)
            .ok_or_else(|| Trouble::Store(String::from("the parent names a place that is no database")))?;
        let trial = Trial::joined(lab.options(), self.shared);
        let world = World::on(subject, lab, trial);
        let worker = world.worker('A', Stop::At(self.window), Ack::Heard)?;
        let mut run = worker.start();
        // What is lent is not dropped: the run keeps all that it holds.
        let ended = tokio::time::timeout(subject.settings().limit, worker.watch.run(&mut run)).await;
        let end = match ended {
            Ok(None) => {
                worker.watch.finish_statement();
                End::StandsStill
            }
            Ok(Some(ran)) => match worker.ended(ran) {
                Ended::Answered(_) => End::GotThrough,
                Ended::Again(why)
                | Ended::Failed(why)
                | Ended::Drifted(why)
                | Ended::Parked(why)
                | Ended::Panicked(why)
                | Ended::Hung(why) => {
                    panic!("the job fails although nothing is in its way: {why}")
                }
            },
            Err(_) => panic!("the job still runs at its limit; it hangs at: {}", worker.watch.last()),
        };
        let moments = world.timeline.moments().into_iter();
        say(&Said {
            windows: worker.watch.windows(),
            effects: world.effects().await,
            moments: moments
                .map(|moment| (moment.at.as_micros() as u64, moment.worker, moment.what))
                .collect(),
            end,
        });
        loop {
            // The thread of the test is not to do anything more, not even what other tasks would do on it. The
            // parent kills a child that stands still and waits for the end of one that got through; both end
            // here, since a child that its parent lets go of ends by itself.
            std::thread::park();
        }
    }
}

/// Says something to the parent, on a line of its own, past the test harness.
fn say(said: &Said) {
    let word = serde_json::to_string(said).expect("numbers and texts can be written as JSON");
    let mut out = std::io::stdout().lock();
    let written = write!(out, "\n{WORD}{word}\n").and_then(|()| out.flush());
    written.expect("the parent listens");
}

/// Ends this process as soon as its parent lets go of it, or is gone.
fn end_with_parent() {
    static WATCHED: Once = Once::new();
    WATCHED.call_once(|| {
        std::thread::spawn(|| {
            // A parent never says anything; the pipe ends with it.
            let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
            std::process::exit(0);
        });
    });
}

// The parent's side.
impl Child {
    /// Starts the test as a child, waits for its word, and kills it.
    async fn start(self, test: String, limit: Duration) -> Result<Said, Trouble> {
        let started = tokio::task::spawn_blocking(move || self.start_and_kill(&test, limit));
        started.await.map_err(|error| Trouble::Store(error.to_string()))?
    }

    fn start_and_kill(&self, test: &str, limit: Duration) -> Result<Said, Trouble> {
        let cannot = |error: std::io::Error| trouble(format!("it does not start: {error}"), "");
        let orders = serde_json::to_string(self).expect("numbers and texts can be written as JSON");
        let mut command = Command::new(std::env::current_exe().map_err(cannot)?);
        command.args([test, "--exact", "--nocapture", "--test-threads=1"]);
        if std::env::args_os().any(|arg| arg == "--ignored" || arg == "--include-ignored") {
            command.arg("--include-ignored");
        }
        // A report of a check that is passed by would take the place of the real one.
        command.env(CHILD, orders).env_remove("IDEM_REPORT");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().map_err(cannot)?;
        let (lines, heard) = mpsc::channel();
        let pipes = (process.stdout.take(), process.stderr.take());
        listen(pipes.0.expect("stdout is piped"), lines.clone());
        listen(pipes.1.expect("stderr is piped"), lines);
        // The run has its limit in the child, which says where it hangs; the way to the check has as much again.
        let limit = limit * 2;
        let heard = hear(&heard, limit);
        // An error means that it is dead already, which its status tells.
        let _ = process.kill();
        let status = process.wait().map_err(cannot)?;
        match heard {
            Heard::Word(said) if was_killed(status) => Ok(said),
            Heard::Word(_) => Err(trouble(format!("it ended before it was killed: {status}"), "")),
            Heard::Nothing(output) => {
                let why =
                    format!("it says nothing within {limit:?}; raise `Scenario::limit` if it needs longer");
                Err(trouble(why, &output))
            }
            Heard::TheEnd(output) => Err(trouble(why_it_ended(test, status, &output), &output)),
        }
    }
}

enum Heard {
    Word(Said),
    /// It wrote this, and was silent for too long.
    Nothing(String),
    /// It wrote this and ended by itself.
    TheEnd(String),
}

/// Waits for the word of a child.
fn hear(lines: &mpsc::Receiver<Vec<u8>>, limit: Duration) -> Heard {
    let began = Instant::now();
    let mut output = String::new();
    loop {
        match lines.recv_timeout(limit.saturating_sub(began.elapsed())) {
            Ok(line) => {
                let line = String::from_utf8_lossy(&line);
                if let Some((_, word)) = line.split_once(WORD)
                    && let Ok(said) = serde_json::from_str(word)
                {
                    return Heard::Word(said);
                }
                if output.len() + line.len() <= OUTPUT_BYTES_MAX {
                    output.push_str(&line);
                }
            }
            Err(RecvTimeoutError::Timeout) => return Heard::Nothing(output),
            Err(RecvTimeoutError::Disconnected) => return Heard::TheEnd(output),
        }
    }
}

/// Hands on what a child writes, line by line, on a thread of its own.
fn listen(pipe: impl Read + Send + 'static, lines: mpsc::Sender<Vec<u8>>) {
    std::thread::spawn(move || {
        let mut pipe = BufReader::new(pipe);
        loop {
            let mut line = Vec::new();
            // Nobody listens any more once the child has said its word.
            if !pipe.read_until(b'\n', &mut line).is_ok_and(|len| len > 0) || lines.send(line).is_err() {
                return;
            }
        }
    });
}

#[cfg(unix)]
fn was_killed(status: ExitStatus) -> bool {
    const SIGKILL: i32 = 9;
    std::os::unix::process::ExitStatusExt::signal(&status) == Some(SIGKILL)
}

#[cfg(not(unix))]
fn was_killed(status: ExitStatus) -> bool {
    !status.success()
}

fn why_it_ended(test: &str, status: ExitStatus, output: &str) -> String {
    if output.contains("running 0 tests") {
        return format!(
            "the test harness knows no test `{test}`; write `Scenario::test(\"module::name\")` with the name that \
             `{} --list` shows",
            std::env::args_os().next().as_deref().unwrap_or(OsStr::new("cargo test --")).display()
        );
    }
    let advice = "a test must come to its check in the same way in every process, \
                  and not depend on what an earlier check reports";
    match status.success() {
        true => format!("`{test}` ended there without coming to this check; {advice}"),
        false => format!("`{test}` failed there before it came to the window ({status}); {advice}"),
    }
}

fn trouble(why: String, output: &str) -> Trouble {
    Trouble::Child { why, output: output.to_owned() }
}
