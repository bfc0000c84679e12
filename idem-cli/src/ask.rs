//! The question before something is changed.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use crate::failure::Failure;

/// Somebody who can be asked.
pub(crate) trait Ask {
    /// Asks; `None` if nobody is there.
    fn ask(&mut self, question: &str) -> Option<String>;
}

/// Who sits at the terminal.
#[derive(Debug)]
pub(crate) struct Terminal;

impl Ask for Terminal {
    fn ask(&mut self, question: &str) -> Option<String> {
        if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
            return None;
        }
        let mut stderr = std::io::stderr();
        write!(stderr, "{question}").and_then(|()| stderr.flush()).ok()?;
        let mut answer = String::new();
        std::io::stdin().lock().read_line(&mut answer).ok()?;
        Some(answer)
    }
}

/// Whether the user has said beforehand that nothing is to be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asking {
    /// Ask.
    First,
    /// `--yes`.
    Never,
}

/// Asks whether to go on; anything but yes is no.
pub(crate) fn confirm(asking: Asking, ask: &mut dyn Ask, question: &str) -> Result<(), Failure> {
    if asking == Asking::Never {
        return Ok(());
    }
    let Some(answer) = ask.ask(&format!("{question} [y/N] ")) else {
        return Err(Failure::usage(
            "this changes something, and there is no terminal to ask at; nothing was changed; give --yes if you mean it",
        ));
    };
    match answer.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Failure::failed("nothing was changed")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Says(Option<&'static str>, Vec<String>);

    impl Ask for Says {
        fn ask(&mut self, question: &str) -> Option<String> {
            self.1.push(question.to_owned());
            self.0.map(str::to_owned)
        }
    }

    #[test]
    fn only_yes_is_yes() {
        for (answer, is_yes) in
            [("y\n", true), ("YES\n", true), ("n\n", false), ("\n", false), ("", false), ("yesterday", false)]
        {
            let mut person = Says(Some(answer), vec![]);
            assert_eq!(confirm(Asking::First, &mut person, "Do it?").is_ok(), is_yes, "{answer:?}");
            assert_eq!(person.1, ["Do it? [y/N] "]);
        }
    }

    #[test]
    fn nobody_there_is_no_and_a_word_beforehand_is_enough() {
        let mut nobody = Says(None, vec![]);
        let refused = confirm(Asking::First, &mut nobody, "Do it?").unwrap_err();
        assert!(format!("{refused:?}").contains("--yes"));
        assert!(confirm(Asking::Never, &mut nobody, "Do it?").is_ok());
        assert_eq!(nobody.1.len(), 1);
    }
}
