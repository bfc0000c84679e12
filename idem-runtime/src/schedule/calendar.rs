//! When a schedule ticks: pure, no store and no clock.

use cron_jiff::Timestamp;
use cron_jiff::Zoned;
use cron_jiff::tz::TimeZone;
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};

use super::Tick;
use crate::error::Code;
use crate::job::Schedule;

/// Why a job cannot be scheduled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScheduleError {
    /// The job states no schedule.
    #[error(
        "job `{job}` has no schedule; write `schedule = \"0 3 * * *\"` into its attribute, or give it one with `Scheduler::job_at` [{}]",
        Code::NoSchedule
    )]
    Missing {
        /// The job.
        job: &'static str,
    },
    /// The text of the schedule is not one of cron, or means a day that never comes.
    #[error(
        "the schedule `{cron}` of job `{job}` cannot be used: {why}; write minute, hour, day of the month, month and \
         day of the week, as in `0 3 * * *` [{}]",
        Code::UnusableSchedule
    )]
    Cron {
        /// The job.
        job: &'static str,
        /// The text.
        cron: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// There is no such time zone.
    #[error(
        "the schedule of job `{job}` is in time zone `{time_zone}`, which the IANA database does not have; write a name of it, \
         such as `Europe/Berlin` or `UTC` [{}]",
        Code::UnknownTimeZone
    )]
    TimeZone {
        /// The job.
        job: &'static str,
        /// The name.
        time_zone: &'static str,
    },
    /// The job is scheduled already.
    #[error("job `{job}` is in the scheduler twice; leave one of them out [{}]", Code::ScheduledTwice)]
    Twice {
        /// The job.
        job: &'static str,
    },
}

/// The ticks of a schedule.
///
/// A time of the day that a time zone leaves out comes at the end of the gap; of one that it has twice, the first counts. A
/// schedule that goes by minutes or hours (`*/30`, `0 * * * *`) leaves out what the zone leaves out and has twice what it has twice.
#[derive(Debug)]
pub(super) struct Calendar {
    cron: Cron,
    zone: TimeZone,
}

impl Calendar {
    /// Reads the schedule of a job.
    pub(super) fn new(job: &'static str, schedule: &Schedule) -> Result<Self, ScheduleError> {
        let Schedule { cron: text, time_zone, .. } = *schedule;
        let unusable = |why: String| ScheduleError::Cron { job, cron: text, why };
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let cron = parser.parse(text).map_err(|error| unusable(error.to_string()))?;
        let zone = TimeZone::get(time_zone).map_err(|_| ScheduleError::TimeZone { job, time_zone })?;
        let calendar = Calendar { cron, zone };
        match calendar.after(Tick::from_unix(0)) {
            Some(_) => Ok(calendar),
            None => Err(unusable(String::from("no such day ever comes"))),
        }
    }

    /// Returns the last tick that is not after this moment.
    pub(super) fn at_or_before(&self, moment: Tick) -> Option<Tick> {
        let found = self.cron.find_previous_occurrence(&self.zoned(moment)?, true).ok()?;
        Some(Tick::from_unix(found.timestamp().as_second()))
    }

    /// Returns the first tick after this moment.
    pub(super) fn after(&self, moment: Tick) -> Option<Tick> {
        let found = self.cron.find_next_occurrence(&self.zoned(moment)?, false).ok()?;
        Some(Tick::from_unix(found.timestamp().as_second()))
    }

    /// Returns at most `limit` ticks after one moment and up to another, in order.
    pub(super) fn between(
        &self,
        after: Tick,
        up_to: Tick,
        limit: usize,
    ) -> impl Iterator<Item = Tick> + use<'_> {
        std::iter::successors(self.after(after), |tick| self.after(*tick))
            .take_while(move |tick| *tick <= up_to)
            .take(limit)
    }

    /// `None` for a moment that no calendar reaches.
    fn zoned(&self, moment: Tick) -> Option<Zoned> {
        Timestamp::from_second(moment.unix()).ok().map(|moment| moment.to_zoned(self.zone.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calendar(cron: &'static str, zone: &'static str) -> Calendar {
        Calendar::new("j", &Schedule::new(cron).time_zone(zone)).expect("the schedule is right")
    }

    fn tick(text: &str) -> Tick {
        Tick::from_unix(text.parse::<Timestamp>().expect("a time").as_second())
    }

    /// The ticks after one moment and up to another, forwards; backwards they must be the same.
    fn ticks(calendar: &Calendar, after: &str, up_to: &str) -> Vec<String> {
        let (after, up_to) = (tick(after), tick(up_to));
        let forwards: Vec<Tick> = calendar.between(after, up_to, 1_000).collect();
        let before = |tick: &Tick| calendar.at_or_before(Tick::from_unix(tick.unix() - 1));
        let mut backwards: Vec<Tick> = std::iter::successors(calendar.at_or_before(up_to), before)
            .take_while(|tick| *tick > after)
            .collect();
        backwards.reverse();
        assert_eq!(forwards, backwards);
        forwards.iter().map(Tick::to_string).collect()
    }

    #[test]
    fn a_time_of_the_day_that_is_left_out_comes_once_after_the_gap() {
        let berlin = calendar("30 2 * * *", "Europe/Berlin");
        assert_eq!(
            ticks(&berlin, "2026-03-27T12:00:00Z", "2026-03-30T12:00:00Z"),
            ["2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]
        );
    }

    #[test]
    fn a_time_of_the_day_that_comes_twice_ticks_once() {
        let berlin = calendar("30 2 * * *", "Europe/Berlin");
        assert_eq!(
            ticks(&berlin, "2026-10-23T12:00:00Z", "2026-10-26T12:00:00Z"),
            ["2026-10-24T00:30:00Z", "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]
        );
    }

    #[test]
    fn a_schedule_of_minutes_follows_the_clock_on_the_wall() {
        let berlin = calendar("*/30 * * * *", "Europe/Berlin");
        assert_eq!(
            ticks(&berlin, "2026-03-29T00:15:00Z", "2026-03-29T01:45:00Z"),
            ["2026-03-29T00:30:00Z", "2026-03-29T01:00:00Z", "2026-03-29T01:30:00Z"]
        );
        assert_eq!(
            ticks(&berlin, "2026-10-25T00:15:00Z", "2026-10-25T02:15:00Z"),
            ["2026-10-25T00:30:00Z", "2026-10-25T01:00:00Z", "2026-10-25T01:30:00Z", "2026-10-25T02:00:00Z"]
        );
    }

    #[test]
    fn forwards_and_backwards_agree_in_every_minute_around_a_change() {
        for text in ["30 2 * * *", "0 3 * * *", "15 2,3 * * *", "59 2 * * 0", "*/20 * * * *", "0 */2 * * *"] {
            let berlin = calendar(text, "Europe/Berlin");
            for start in ["2026-03-28T20:00:00Z", "2026-10-24T20:00:00Z"].map(tick) {
                let start = start.unix();
                let ticks: Vec<Tick> =
                    berlin.between(Tick::from_unix(start), Tick::from_unix(start + 200_000), 1_000).collect();
                assert!(!ticks.is_empty(), "{text}");
                for moment in (0..12 * 60).map(|minute| Tick::from_unix(start + minute * 60)) {
                    // What is beyond these two days is not looked for.
                    if let Some(next) = ticks.iter().find(|tick| **tick > moment) {
                        assert_eq!(berlin.after(moment), Some(*next), "{text} after {moment}");
                    }
                    if let Some(last) = ticks.iter().rev().find(|tick| **tick <= moment) {
                        assert_eq!(berlin.at_or_before(moment), Some(*last), "{text} before {moment}");
                    }
                }
            }
        }
    }

    #[test]
    fn days_of_the_month_and_of_the_week_are_alternatives() {
        let either = calendar("0 0 13 * 5", "UTC");
        assert_eq!(
            ticks(&either, "2026-12-05T00:00:00Z", "2026-12-18T12:00:00Z"),
            ["2026-12-11T00:00:00Z", "2026-12-13T00:00:00Z", "2026-12-18T00:00:00Z"]
        );
    }

    #[test]
    fn sunday_is_0_and_7() {
        for text in ["0 0 * * 0", "0 0 * * 7", "0 0 * * SUN"] {
            let sundays = calendar(text, "UTC");
            assert_eq!(
                ticks(&sundays, "2026-11-01T12:00:00Z", "2026-11-16T00:00:00Z"),
                ["2026-11-08T00:00:00Z", "2026-11-15T00:00:00Z"]
            );
        }
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let refused = |schedule: Schedule| {
            Calendar::new("report", &schedule).expect_err("it cannot be used").to_string()
        };
        for cron in ["", "hello", "61 * * * *", "0 0 30 2 *", "* * * * * *", "0 0 1 1 * 2030"] {
            let error = refused(Schedule::new(cron));
            assert!(error.starts_with(&format!("the schedule `{cron}` of job `report` cannot")), "{error}");
            assert!(error.contains("`0 3 * * *`"), "{error}");
        }
        let error = refused(Schedule::new("0 3 * * *").time_zone("Europe/Berlinn"));
        assert!(error.contains("`report`") && error.contains("`Europe/Berlinn`"), "{error}");
        assert!(error.contains("such as `Europe/Berlin`"), "{error}");
    }
}
