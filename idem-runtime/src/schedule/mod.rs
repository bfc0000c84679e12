//! Jobs that the clock starts.
//!
//! The [`Tick`] of a schedule is the one argument of its job, and its key: however many processes start the job for a
//! tick, its record lets one of them run. What starts jobs is the `Scheduler` of the feature `schedule`.

#[cfg(feature = "schedule")]
mod calendar;
#[cfg(feature = "schedule")]
mod scheduler;

use std::fmt;

use serde::{Deserialize, Serialize};

#[cfg(feature = "schedule")]
pub use self::calendar::ScheduleError;
#[cfg(feature = "schedule")]
pub use self::scheduler::Scheduler;
use crate::job::Job;
use crate::key::{KeyPart, KeyWriter};

/// A moment at which a schedule starts a job: the one argument of a scheduled job, and its key.
///
/// It is the moment that the schedule names, whenever the run really begins, so all processes agree on it. It prints as
/// RFC 3339 in UTC.
///
/// # Example
///
/// ```
/// use idem_runtime::schedule::Tick;
///
/// assert_eq!(Tick::from_unix(1_795_575_600).to_string(), "2026-11-25T03:00:00Z");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Tick(i64);

impl Tick {
    /// Makes a tick of the seconds since 1970 began in UTC.
    pub const fn from_unix(seconds: i64) -> Self {
        Tick(seconds)
    }

    /// Returns the seconds since 1970 began in UTC.
    pub const fn unix(self) -> i64 {
        self.0
    }

    /// Returns year, month and day in UTC, in the Gregorian calendar.
    pub const fn date(self) -> (i64, u8, u8) {
        // Counted in eras of 400 years that begin on the 1st of March, so that the leap day comes last.
        let days = self.0.div_euclid(86_400) + 719_468;
        let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let from_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * from_march + 2) / 5 + 1;
        let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
        let year = era * 400 + year_of_era + if month <= 2 { 1 } else { 0 };
        (year, month as u8, day as u8)
    }
}

impl fmt::Display for Tick {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = self.date();
        let second = self.0.rem_euclid(86_400);
        let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }
}

impl KeyPart for Tick {
    fn write(&self, key: &mut KeyWriter) {
        key.named("tick", &self.0.to_be_bytes(), self);
    }
}

/// A job that the clock starts: `schedule = "…"` implements it.
pub trait Scheduled: Job {
    /// Makes the job of a tick.
    fn at(tick: Tick) -> Self;
}

/// The argument of a scheduled job: a [`Tick`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the argument of a scheduled job [idem::not_a_tick]",
    label = "the clock has a `Tick` for it, not a `{Self}`",
    note = "take `tick: Tick` (from `idem_runtime::schedule`), and make everything else of it inside the job"
)]
pub trait FromTick {
    /// Makes the argument.
    fn from_tick(tick: Tick) -> Self;
}

impl FromTick for Tick {
    fn from_tick(tick: Tick) -> Self {
        tick
    }
}
