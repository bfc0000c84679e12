//! What the programs that are jobs of their own have in common: they say what cannot work.

use std::process::Command;
use std::time::{Duration, Instant};

/// Checks that a program ends at once with a text that says what is wrong, and with nothing else.
pub(crate) fn refuses(program: &str, args: &[&str], expected: &str) {
    let started = Instant::now();
    let output = Command::new(program).args(args).output().expect("the program starts");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{args:?}");
    assert!(output.stdout.is_empty(), "{args:?}");
    assert!(stderr.contains(expected), "{args:?}: {stderr}");
    assert!(!stderr.contains("panicked"), "{args:?}: {stderr}");
    assert!(started.elapsed() < Duration::from_secs(20), "{args:?} took {:?}", started.elapsed());
}
