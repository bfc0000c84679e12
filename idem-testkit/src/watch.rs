//! What one worker does, window by window.
//!
//! A *window* is a point where a worker may be gone or overtaken: every await of a run, and both sides of
//! every call of the store. A [`Watch`] counts them as a run passes by. It can let the run end at one, as a
//! crash would, or hold it there until it is told to go on.
//!
//! How many awaits a run has must not depend on how fast it is answered. So while it is polled, no answer of a
//! database in this process comes ([`Turn`]): it waits for each. And when it waits, it gets the answer as a whole
//! ([`ARRIVAL`]).

use std::future::{Future, pending, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::report::Moment;

/// How long a run whose awaits are counted lets an answer arrive before it goes on.
///
/// An answer comes in parts, and a run that is faster than they are waits for each: it would have more awaits
/// than one that is not. So every run gets its answers as a whole.
const ARRIVAL: Duration = Duration::from_millis(1);

/// How long an answer is held back at most: a run that blocks its thread until it comes would wait for ever.
const HOLD: Duration = Duration::from_millis(500);

/// How long statements of a run that crashes have to notice it.
const DYING: Duration = Duration::from_millis(2);

/// Whose turn it is: that of a run that is polled, or that of the database which answers it.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    whose: Mutex<Whose>,
    passes: Condvar,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Whose {
    #[default]
    Database,
    Run,
    /// The run is gone with what it had sent last.
    Nobody,
}

impl Turn {
    /// Waits while the run is polled; tells whether the statement may go on.
    pub(crate) fn wait(&self) -> bool {
        let whose = self.whose.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.passes.wait_timeout_while(whose, HOLD, |whose| *whose == Whose::Run);
        let mut whose = waited.unwrap_or_else(PoisonError::into_inner).0;
        if *whose == Whose::Run {
            *whose = Whose::Database;
        }
        *whose == Whose::Database
    }

    fn pass_to(&self, whose: Whose) {
        *self.whose.lock().unwrap_or_else(PoisonError::into_inner) = whose;
        self.passes.notify_all();
    }
}

/// What all workers of a trial did, in order.
#[derive(Debug, Clone)]
pub(crate) struct Timeline {
    began: Instant,
    moments: Arc<Mutex<Vec<Moment>>>,
}

impl Timeline {
    pub(crate) fn new() -> Self {
        Timeline { began: Instant::now(), moments: Arc::default() }
    }

    pub(crate) fn note(&self, worker: char, what: impl Into<String>) {
        let moment = Moment { at: self.began.elapsed(), worker, what: what.into() };
        self.moments.lock().unwrap_or_else(PoisonError::into_inner).push(moment);
    }

    /// Takes over what a worker did in another process, whose clock started `later`.
    pub(crate) fn take_over(&self, later: Duration, moments: impl IntoIterator<Item = Moment>) {
        let moved = moments.into_iter().map(|moment| Moment { at: moment.at + later, ..moment });
        self.moments.lock().unwrap_or_else(PoisonError::into_inner).extend(moved);
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    pub(crate) fn moments(&self) -> Vec<Moment> {
        self.moments.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The phase in which the body runs.
pub(crate) const BODY: &str = "the body";

/// What becomes of the run at its windows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum Stop {
    /// It goes through.
    #[default]
    Never,
    /// It ends at the window of this name, written as a report or as a schedule does.
    At(String),
    /// It waits at every window until it is told to go on.
    Everywhere,
}

/// How the store's COMMIT is made to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Ack {
    /// As it is.
    #[default]
    Heard,
    /// The run's COMMIT of this number, from 1, is done, but the answer is lost.
    LostAfterCommit(usize),
    /// The connection breaks before the COMMIT of this number, so that nobody answers.
    LostBeforeCommit(usize),
}

/// A step that a run has taken and recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RecordedStep {
    pub(crate) name: String,
    /// It calls somebody, and writes nothing in the job's database.
    pub(crate) is_call: bool,
}

/// Counts the windows of one worker.
#[derive(Debug)]
pub(crate) struct Watch {
    pub(crate) worker: char,
    pub(crate) timeline: Timeline,
    /// The run's, or its database's.
    pub(crate) turn: Arc<Turn>,
    ack: Ack,
    state: Mutex<State>,
    /// Told when a run that waits may go on.
    go_on: Notify,
}

#[derive(Debug)]
struct State {
    stop: Stop,
    /// Where the run is: `start`, `begin`, `body` and so on.
    phase: &'static str,
    /// The awaits of this phase.
    awaits: usize,
    /// The windows that were passed, or reached. No two have the same name.
    windows: Vec<String>,
    /// The run has reached the window where it ends.
    stopped: bool,
    /// The run stands at a window and has not been told to go on.
    waiting: bool,
    /// How many windows the run may still pass before it waits.
    permits: usize,
    /// How many times the run has committed.
    commits: usize,
    steps: Vec<RecordedStep>,
    /// When the step began that the run is at.
    step_began: Instant,
    /// How long the slowest step took.
    slowest: Duration,
    /// The run was told that another one has the key, and looks again by itself.
    is_turned_away: bool,
    /// The whole worker stands still, its heartbeat too.
    is_frozen: bool,
}

impl State {
    /// Notes a window and returns its full name.
    fn reach(&mut self, name: String) -> String {
        let times =
            1 + self.windows.iter().filter(|window| window.strip_prefix(&name).is_some_and(is_again)).count();
        let name = if times == 1 { name } else { format!("{name}, time {times}") };
        self.windows.push(name.clone());
        // The awaits of the store's calls end no step.
        if self.phase == BODY || !name.starts_with("await") {
            let now = Instant::now();
            self.slowest = self.slowest.max(now - self.step_began);
            self.step_began = now;
        }
        name
    }

    fn ends_at(&self, window: &str) -> bool {
        matches!(&self.stop, Stop::At(at) if slug(at) == slug(window))
    }

    fn reach_await(&mut self) -> String {
        self.awaits += 1;
        let name = format!("await {} of {}", self.awaits, self.phase);
        self.reach(name)
    }
}

/// Names a window as a schedule does.
pub(crate) fn slug(window: &str) -> String {
    window.replace(", ", "-").replace(' ', "-")
}

fn is_again(rest: &str) -> bool {
    rest.is_empty() || rest.starts_with(", time ")
}

impl Watch {
    pub(crate) fn new(worker: char, timeline: Timeline, stop: Stop, ack: Ack) -> Self {
        let state = State {
            stop,
            phase: "start",
            awaits: 0,
            windows: Vec::new(),
            stopped: false,
            waiting: false,
            permits: 0,
            commits: 0,
            steps: Vec::new(),
            step_began: Instant::now(),
            slowest: Duration::ZERO,
            is_turned_away: false,
            is_frozen: false,
        };
        Watch { worker, timeline, turn: Arc::default(), ack, state: Mutex::new(state), go_on: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn note(&self, what: impl Into<String>) {
        self.timeline.note(self.worker, what);
    }

    pub(crate) fn phase(&self, phase: &'static str) {
        let mut state = self.state();
        state.phase = phase;
        state.awaits = 0;
    }

    /// Counts a COMMIT, and returns how it is made to look.
    pub(crate) fn next_ack(&self) -> Ack {
        let mut state = self.state();
        state.commits += 1;
        match self.ack {
            Ack::LostAfterCommit(number) | Ack::LostBeforeCommit(number) if number != state.commits => {
                Ack::Heard
            }
            ack => ack,
        }
    }

    /// Notes that a step is on record.
    pub(crate) fn recorded(&self, name: &str, is_call: bool) {
        self.state().steps.push(RecordedStep { name: name.to_owned(), is_call });
    }

    /// Returns the steps that have been recorded.
    pub(crate) fn steps(&self) -> Vec<RecordedStep> {
        self.state().steps.clone()
    }

    /// Returns how many times the run has committed.
    pub(crate) fn commits(&self) -> usize {
        self.state().commits
    }

    /// Notes that another run has the key: this one waits, and looks again by itself.
    pub(crate) fn turned_away(&self) {
        self.state().is_turned_away = true;
    }

    /// Lets the whole worker stand still until it is set free, its heartbeat too.
    pub(crate) fn freeze(&self) {
        self.state().is_frozen = true;
    }

    /// Waits while the worker stands still.
    pub(crate) async fn awake(&self) {
        loop {
            let mut go_on = pin!(self.go_on.notified());
            go_on.as_mut().enable();
            if !self.state().is_frozen {
                return;
            }
            go_on.await;
        }
    }

    /// Returns the windows that the run has passed or reached.
    pub(crate) fn windows(&self) -> Vec<String> {
        self.state().windows.clone()
    }

    /// Returns how long the slowest step took from one window to the next.
    pub(crate) fn slowest_step(&self) -> Duration {
        self.state().slowest
    }

    /// Returns the window that the run was at last.
    pub(crate) fn last(&self) -> String {
        self.state().windows.last().cloned().unwrap_or_else(|| String::from("its start"))
    }

    /// Passes a window at the side of a store's call.
    pub(crate) async fn window(&self, name: &str) {
        if self.reach(name.to_owned()) {
            pending::<()>().await;
        }
        loop {
            let mut go_on = pin!(self.go_on.notified());
            go_on.as_mut().enable();
            {
                let mut state = self.state();
                state.waiting = state.stop == Stop::Everywhere && state.permits == 0;
                state.permits = state.permits.saturating_sub(1);
                if !state.waiting {
                    return;
                }
            }
            go_on.await;
        }
    }

    /// Lets everything go through from now on: what a run has left behind is not stopped any more.
    pub(crate) fn set_free(&self) {
        let mut state = self.state();
        state.stop = Stop::Never;
        state.is_frozen = false;
        drop(state);
        self.go_on.notify_waiters();
    }

    /// Notes a window; tells whether the run ends there.
    fn reach(&self, name: String) -> bool {
        let mut state = self.state();
        let name = state.reach(name);
        state.stopped = state.ends_at(&name);
        state.stopped
    }

    /// Notes an await; tells whether the run ends there.
    fn reach_await(&self) -> bool {
        let mut state = self.state();
        if !state.stopped {
            let name = state.reach_await();
            state.stopped = state.ends_at(&name);
        }
        state.stopped
    }

    /// Ends the statement that a run was waiting for when it crashed. That it might have been done all the same is what
    /// the next window is about.
    pub(crate) fn lose_statement(&self) {
        self.turn.pass_to(Whose::Nobody);
        // The whole thread waits: nothing else of this worker is to be lost with it.
        std::thread::sleep(DYING);
        self.turn.pass_to(Whose::Database);
    }

    /// Lets the statement be done that a run was waiting for when it crashed.
    pub(crate) fn finish_statement(&self) {
        self.turn.pass_to(Whose::Database);
    }

    /// Runs to the end, or to the window where the run ends: `None` then, and the run is dropped. What it was waiting for
    /// is to be lost or finished by the caller.
    pub(crate) async fn run<F: Future>(&self, run: F) -> Option<Ran<F::Output>> {
        let mut run = pin!(run);
        let is_counted = matches!(self.state().stop, Stop::At(_));
        let mut asleep = false;
        let mut answer_arrives = pin!(tokio::time::sleep(Duration::ZERO));
        let ended = poll_fn(|cx| {
            if is_counted && asleep {
                asleep = false;
                answer_arrives.as_mut().reset(tokio::time::Instant::now() + ARRIVAL);
            }
            ready!(answer_arrives.as_mut().poll(cx));
            if is_counted {
                self.turn.pass_to(Whose::Run);
            }
            let polled = match poll_caught(run.as_mut(), cx) {
                Poll::Ready(ran) => Poll::Ready(Some(ran)),
                Poll::Pending if self.reach_await() => return Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            };
            asleep = polled.is_pending();
            self.turn.pass_to(Whose::Database);
            polled
        })
        .await;
        match &ended {
            Some(_) => self.set_free(),
            None => self.note(format!("crashes: {}", self.last())),
        }
        ended
    }

    /// Lets a run that waits at a window go on to the next one.
    ///
    /// A run that does not get there within `patience` waits for somebody else, most likely for a lock.
    pub(crate) async fn step<F: Future + Unpin>(&self, run: &mut F, patience: Duration) -> Step<F::Output> {
        {
            let mut state = self.state();
            state.permits = usize::from(state.waiting);
        }
        self.go_on.notify_waiters();
        let mut asleep = false;
        let mut to_the_next = poll_fn(|cx| {
            // An await inside the body ends the step when its answer has come.
            if asleep {
                asleep = false;
                return Poll::Ready(Step::Window(self.state().reach_await()));
            }
            self.turn.pass_to(Whose::Run);
            let polled = poll_caught(Pin::new(&mut *run), cx);
            self.turn.pass_to(Whose::Database);
            match polled {
                Poll::Ready(ran) => Poll::Ready(Step::Ended(ran)),
                Poll::Pending => {
                    if std::mem::take(&mut self.state().is_turned_away) {
                        return Poll::Ready(Step::Blocked);
                    }
                    if self.state().waiting {
                        return Poll::Ready(Step::Window(self.last()));
                    }
                    asleep = self.state().phase == BODY;
                    Poll::Pending
                }
            }
        });
        match tokio::time::timeout(patience, &mut to_the_next).await {
            Ok(Step::Ended(ran)) => {
                self.set_free();
                Step::Ended(ran)
            }
            Ok(step) => step,
            Err(_) => Step::Blocked,
        }
    }
}

/// How a run ended.
#[derive(Debug)]
pub(crate) enum Ran<T> {
    /// It returned.
    Returned(T),
    /// It panicked, with this message.
    Panicked(String),
}

/// How a step ended.
#[derive(Debug)]
pub(crate) enum Step<T> {
    /// At the next window.
    Window(String),
    /// The run waits for somebody else.
    Blocked,
    /// The run is over.
    Ended(Ran<T>),
}

fn poll_caught<F: Future>(run: Pin<&mut F>, cx: &mut Context<'_>) -> Poll<Ran<F::Output>> {
    match catch_unwind(AssertUnwindSafe(|| run.poll(cx))) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(output)) => Poll::Ready(Ran::Returned(output)),
        Err(panic) => {
            let message = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
            let message = message.or_else(|| panic.downcast_ref::<String>().cloned());
            Poll::Ready(Ran::Panicked(message.unwrap_or_else(|| String::from("a value that is no text"))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asks a database on another thread, and gives it all the time that it needs before it looks for the answer.
    async fn ask(turn: Arc<Turn>) {
        let (answer, answered) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            turn.wait();
            let _ = answer.send(());
        });
        std::thread::sleep(Duration::from_millis(5));
        answered.await.expect("it is answered");
    }

    #[tokio::test]
    async fn every_answer_is_waited_for_however_fast_it_comes() {
        let watch = Watch::new('A', Timeline::new(), Stop::At(String::new()), Ack::Heard);
        let turn = &watch.turn;
        let run = async {
            for _ in 0..3 {
                ask(Arc::clone(turn)).await;
            }
        };
        assert!(watch.run(run).await.is_some());
        assert_eq!(watch.windows(), ["await 1 of start", "await 2 of start", "await 3 of start"]);
    }

    #[tokio::test]
    async fn what_a_run_waits_for_as_it_crashes_is_lost_or_done() {
        for is_lost in [true, false] {
            let at = Stop::At(String::from("await 1 of start"));
            let watch = Watch::new('A', Timeline::new(), at, Ack::Heard);
            let turn = Arc::clone(&watch.turn);
            let (says, said) = std::sync::mpsc::channel();
            let run = async {
                std::thread::spawn(move || says.send(turn.wait()));
                pending::<()>().await;
            };
            assert!(watch.run(run).await.is_none());
            match is_lost {
                true => watch.turn.pass_to(Whose::Nobody),
                false => watch.finish_statement(),
            }
            assert_eq!(said.recv().expect("it comes back"), !is_lost);
        }
    }

    #[tokio::test]
    async fn a_run_that_blocks_its_thread_gets_its_answer_all_the_same() {
        let watch = Watch::new('A', Timeline::new(), Stop::At(String::new()), Ack::Heard);
        let turn = Arc::clone(&watch.turn);
        let run = async {
            assert!(std::thread::spawn(move || turn.wait()).join().expect("it comes back"));
        };
        assert!(watch.run(run).await.is_some());
        assert!(watch.windows().is_empty());
    }
}
