//! A job's answer, and how it came.

use std::ops::Deref;

/// The result of a job, which says how it came.
///
/// It derefs to the result, so most callers never look:
///
/// ```
/// use idem_runtime::Done;
///
/// let done = Done::Replayed(String::from("ch_42"));
/// assert!(done.starts_with("ch_"));
/// assert!(done.is_replayed());
/// assert_eq!(done.into_inner(), "ch_42");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Done<T> {
    /// This run did the work.
    Executed(T),
    /// An earlier run did the work; this is its recorded result.
    Replayed(T),
    /// The work had been done outside idem's sight; `check` or `adopt` recognised it and it is recorded now.
    Adopted(T),
}

impl<T> Done<T> {
    /// Returns the result.
    pub fn into_inner(self) -> T {
        match self {
            Done::Executed(value) | Done::Replayed(value) | Done::Adopted(value) => value,
        }
    }

    /// Tells whether this run did the work.
    pub fn is_executed(&self) -> bool {
        matches!(self, Done::Executed(_))
    }

    /// Tells whether the result comes from an earlier run's record.
    pub fn is_replayed(&self) -> bool {
        matches!(self, Done::Replayed(_))
    }

    /// Tells whether the work had been done outside idem's sight.
    pub fn is_adopted(&self) -> bool {
        matches!(self, Done::Adopted(_))
    }

    /// Applies `f` to the result and keeps how it came.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Done<U> {
        match self {
            Done::Executed(value) => Done::Executed(f(value)),
            Done::Replayed(value) => Done::Replayed(f(value)),
            Done::Adopted(value) => Done::Adopted(f(value)),
        }
    }
}

impl<T> Deref for Done<T> {
    type Target = T;

    fn deref(&self) -> &T {
        match self {
            Done::Executed(value) | Done::Replayed(value) | Done::Adopted(value) => value,
        }
    }
}
