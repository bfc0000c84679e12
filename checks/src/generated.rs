//! Files that are written from the code.

use std::fs;

use crate::{read, root};

/// Compares a generated file with what is written there; with `IDEM_BLESS=1` in the environment, writes it anew.
///
/// `path` begins at the workspace, `test` is the name of the test file that generates it.
///
/// # Panics
///
/// The file says something else, and the message shows what; or it cannot be read or written.
#[track_caller]
pub fn check(path: &str, generated: &str, test: &str) {
    if std::env::var_os("IDEM_BLESS").is_some_and(|value| value == "1") {
        fs::write(root().join(path), generated)
            .unwrap_or_else(|error| panic!("{path} cannot be written: {error}"));
        return;
    }
    let written = read(path);
    if let Some(difference) = difference(&written, generated) {
        panic!(
            "{path} is stale; `IDEM_BLESS=1 cargo test -p idem-checks --test {test}` writes it anew\n{difference}"
        );
    }
}

/// How many lines of a difference are shown.
const LINES_SHOWN: usize = 40;

/// Shows the lines from the first to the last one that differ: `-` was written, `+` is to be.
fn difference(written: &str, generated: &str) -> Option<String> {
    let (old, new): (Vec<&str>, Vec<&str>) = (written.split('\n').collect(), generated.split('\n').collect());
    let same_at_start = old.iter().zip(&new).take_while(|(old, new)| old == new).count();
    let (old, new) = (&old[same_at_start..], &new[same_at_start..]);
    let same_at_end = old.iter().rev().zip(new.iter().rev()).take_while(|(old, new)| old == new).count();
    let (old, new) = (&old[..old.len() - same_at_end], &new[..new.len() - same_at_end]);
    if old.is_empty() && new.is_empty() {
        return None;
    }
    let old = old.iter().map(|line| format!("- {line}"));
    let new = new.iter().map(|line| format!("+ {line}"));
    let lines: Vec<String> = old.take(LINES_SHOWN).chain(new.take(LINES_SHOWN)).collect();
    Some(format!("from line {}:\n{}", same_at_start + 1, lines.join("\n")))
}

#[cfg(test)]
mod tests {
    use super::difference;

    #[test]
    fn a_difference_shows_the_lines_that_differ_and_no_others() {
        assert_eq!(difference("a\nb\n", "a\nb\n"), None);
        assert_eq!(difference("a\nb\nc\n", "a\nx\nc\n").unwrap(), "from line 2:\n- b\n+ x");
        assert_eq!(difference("a\nc\n", "a\nb\nc\n").unwrap(), "from line 2:\n+ b");
        assert_eq!(difference("a\na\n", "a\n").unwrap(), "from line 2:\n- a");
    }
}
