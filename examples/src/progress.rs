//! What happens, on stderr while it happens.

use std::collections::HashSet;
use std::io::{IsTerminal as _, Write as _};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How often the live line is drawn again.
const REDRAW: Duration = Duration::from_millis(50);

/// How many problems are told before the rest is only counted.
const PROBLEMS_MAX: usize = 100;

/// The width of the bar.
const BAR: u64 = 24;

/// A live line if stderr is a terminal; otherwise a line for every quarter of the work.
#[derive(Debug)]
pub struct Progress {
    live: bool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    what: &'static str,
    noted: &'static str,
    expected: u64,
    done: u64,
    notes: u64,
    drawn: Option<Instant>,
    quarters: u64,
    problems: HashSet<usize>,
    untold: usize,
}

impl Progress {
    /// Begins a line such as `delivered 7 of 9, 3 times the job ran`: `what` was done, and `noted`.
    pub fn new(what: &'static str, noted: &'static str) -> Progress {
        let state = State {
            what,
            noted,
            expected: 0,
            done: 0,
            notes: 0,
            drawn: None,
            quarters: 0,
            problems: HashSet::new(),
            untold: 0,
        };
        Progress { live: std::io::stderr().is_terminal(), state: Mutex::new(state) }
    }

    /// Expects so many more to be done.
    pub fn expect(&self, more: u64) {
        self.state().expected += more;
    }

    /// Counts what is to be noted, and is none of those that are expected.
    pub fn note(&self) {
        self.state().notes += 1;
    }

    /// Counts one that is done, and whether it is to be noted.
    pub fn done(&self, noted: bool) {
        let state = &mut *self.state();
        state.done += 1;
        state.notes += u64::from(noted);
        if self.live {
            if state.drawn.is_none_or(|drawn| drawn.elapsed() >= REDRAW) {
                state.draw();
            }
            return;
        }
        let quarters = state.done * 4 / state.expected.max(1);
        if quarters > state.quarters {
            state.quarters = quarters;
            eprintln!("{}", state.line());
        }
    }

    /// Tells something that stays on the screen.
    pub fn say(&self, text: &str) {
        let state = &mut *self.state();
        if state.drawn.take().is_some() {
            eprint!("\r\x1b[2K");
        }
        eprintln!("{text}");
    }

    /// Tells what is wrong with a line of the input, once.
    pub fn problem(&self, line: usize, what: &str) {
        let known = {
            let state = &mut *self.state();
            let known = !state.problems.insert(line);
            let too_many = state.problems.len() > PROBLEMS_MAX;
            state.untold += usize::from(!known && too_many);
            known || too_many
        };
        if !known {
            self.say(&format!("line {line}: {what}"));
        }
    }

    /// Clears the live line.
    pub fn finish(&self) {
        let untold = self.state().untold;
        if untold > 0 {
            self.say(&format!("… and {untold} more lines with problems"));
        }
        let state = &mut *self.state();
        if state.drawn.take().is_some() {
            eprint!("\r\x1b[2K");
            let _ = std::io::stderr().flush();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Only numbers: a panic elsewhere leaves nothing half-done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.finish();
    }
}

impl State {
    fn draw(&mut self) {
        self.drawn = Some(Instant::now());
        let done = (self.done * BAR / self.expected.max(1)).min(BAR);
        let bar: String = (0..BAR).map(|at| if at < done { '█' } else { '░' }).collect();
        eprint!("\r\x1b[2K{bar} {}", self.line());
        let _ = std::io::stderr().flush();
    }

    fn line(&self) -> String {
        format!("{} {} of {}, {} {}", self.what, self.done, self.expected, self.notes, self.noted)
    }
}
