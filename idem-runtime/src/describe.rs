//! What can be said of an error whose type is known only where the job is: its `Display`, else its `Debug`,
//! else the name of its type. The traits are tried in the order of the references in front of [`Described`].
//! Their method has a name that no trait of the user's has: that would be tried as well.

use std::fmt::{Debug, Display};

/// An error to be described.
#[derive(Debug)]
pub struct Described<'e, E>(pub &'e E);

/// It can be displayed.
pub trait ViaDisplay {
    /// Returns what it says.
    fn idem_text(&self) -> String;
}

impl<E: Display> ViaDisplay for &&Described<'_, E> {
    fn idem_text(&self) -> String {
        self.0.to_string()
    }
}

/// It can be debugged.
pub trait ViaDebug {
    /// Returns what it says.
    fn idem_text(&self) -> String;
}

impl<E: Debug> ViaDebug for &Described<'_, E> {
    fn idem_text(&self) -> String {
        format!("{:?}", self.0)
    }
}

/// It has a type.
pub trait ViaName {
    /// Returns the type's name.
    fn idem_text(&self) -> String;
}

impl<E> ViaName for Described<'_, E> {
    fn idem_text(&self) -> String {
        String::from(std::any::type_name::<E>())
    }
}

#[cfg(test)]
#[allow(clippy::needless_borrow, reason = "generated code cannot know how many references are needed")]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Shown;

    impl Display for Shown {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("shown")
        }
    }

    #[derive(Debug)]
    #[expect(dead_code, reason = "it is read by `Debug`")]
    struct Debugged(i32);

    struct Nameless;

    #[test]
    fn an_error_says_what_it_can() {
        assert_eq!((&&&Described(&Shown)).idem_text(), "shown");
        assert_eq!((&&&Described(&Debugged(3))).idem_text(), "Debugged(3)");
        assert!((&&&Described(&Nameless)).idem_text().ends_with("Nameless"));
    }
}
