//! What is logged of tasks.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::util::SubscriberInitExt as _;

/// The log of a test, whose workers are in its thread.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Collects what this thread logs, at `info` and above.
    pub(crate) fn listen(&self) -> impl Drop + use<> {
        // While one subscriber is all there is, tracing asks the thread that comes to a line first whether anybody wants it,
        // and remembers the answer for all threads; so another one is there, which wants nothing.
        let _ = tracing_subscriber::fmt().with_max_level(LevelFilter::OFF).try_init();
        let log = self.clone();
        tracing_subscriber::fmt().with_writer(move || log.clone()).with_ansi(false).set_default()
    }

    /// Returns the lines about a task, outside of its runs, without the time.
    pub(crate) fn of_task(&self, task: &str) -> Vec<String> {
        let log = String::from_utf8(self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()).unwrap();
        let task = format!(" task={task}");
        let about = log.lines().filter(|line| line.contains(&task));
        about.map(|line| line.split_once(' ').unwrap().1.trim_start().to_owned()).collect()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
