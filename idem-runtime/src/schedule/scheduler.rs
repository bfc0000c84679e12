//! Starts jobs by the store's clock.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{debug, error, info, warn};

use super::calendar::{Calendar, ScheduleError};
use super::{Scheduled, Tick};
use crate::done::Done;
use crate::error::{Error, StoreError};
use crate::idem::Idem;
use crate::job::{Job, Missed, Schedule};
use crate::record::JobId;
use crate::run::RunOn;
use crate::store::{Database, Store};

/// The longest wait without a look at the store's clock, which may be set.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// The waits before a tick that did not go through is tried again: twice as long each time.
const FIRST_BACKOFF: Duration = Duration::from_secs(1);
const LONGEST_BACKOFF: Duration = Duration::from_secs(60);

/// How many missed ticks are counted at a time.
const BATCH: usize = 1_000;

/// Starts the jobs of an [`Idem`] by the store's clock: [`Idem::scheduler`].
///
/// Any number of processes may run the same jobs. The [`Tick`] is the key of the job, so its record lets one of them
/// have the effect, and the others find it done. The store remembers the last tick that a job is through with, which is how a
/// scheduler knows what was missed while no process was there; [`Missed`] says what becomes of that. A job that is
/// new to the store begins with the next tick.
///
/// A tick is through when its job is done, or has failed for good: with an error that `replay(...)` names, parked, or with a
/// key that was used for other arguments. After any other error it is tried again, after 1 second and then after twice as long each time, up
/// to a minute; with [`Missed::Latest`] until the next tick takes its place.
///
/// Each job has a task of its own, so a slow one holds up no other. Two ticks of one job never run at once in a process; while one
/// takes longer than its interval, another process may start the next.
///
/// Should the store's clock be set back, the job starts again when it has come to the last tick. Time zones are those of the IANA database that
/// is compiled in: processes of one build agree on the ticks.
///
/// # Example
///
/// ```
/// use idem_runtime::job::Schedule;
/// use idem_runtime::prelude::*;
/// use idem_runtime::schedule::{Scheduled, Tick};
///
/// #[idempotent(key = tick)]
/// async fn report(tx: &mut Tx<'_, Memory>, tick: Tick) -> Result<(), std::fmt::Error> {
///     tx.set(format!("report of {tick}"), "written");
///     Ok(())
/// }
///
/// impl Scheduled for Report {
///     fn at(tick: Tick) -> Self {
///         Report { tick }
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let idem = Idem::memory().build()?;
/// let every_morning = Schedule::new("0 3 * * *").time_zone("Europe/Berlin");
/// let scheduler = idem.scheduler().job_at::<Report>(every_morning)?;
/// scheduler.run_until(async { /* a signal to stop */ }).await;
/// # Ok(()) }
/// ```
#[must_use = "a scheduler does nothing until it is run"]
pub struct Scheduler<D: Database, S = ()> {
    idem: Idem<D, S>,
    jobs: Vec<Timed>,
}

/// A job and its ticks.
struct Timed {
    job: &'static str,
    calendar: Calendar,
    missed: Missed,
    start: Arc<dyn Start>,
}

impl<D: Database, S: Send + Sync + 'static> Idem<D, S> {
    /// Makes a scheduler without jobs.
    pub fn scheduler(&self) -> Scheduler<D, S> {
        Scheduler { idem: self.clone(), jobs: Vec::new() }
    }
}

impl<D: Database, S: Send + Sync + 'static> Scheduler<D, S> {
    /// Adds a job, by the schedule that its attribute states.
    ///
    /// # Errors
    ///
    /// The job states no schedule, or one that cannot be used; or it was added before.
    pub fn job<J: Scheduled + RunOn<D, S>>(self) -> Result<Self, ScheduleError> {
        match J::SPEC.schedule {
            Some(schedule) => self.job_at::<J>(schedule),
            None => Err(ScheduleError::Missing { job: J::SPEC.name }),
        }
    }

    /// Adds a job, by this schedule and not by its own.
    ///
    /// # Errors
    ///
    /// The schedule cannot be used, or the job was added before.
    pub fn job_at<J: Scheduled + RunOn<D, S>>(mut self, schedule: Schedule) -> Result<Self, ScheduleError> {
        let job = J::SPEC.name;
        if self.jobs.iter().any(|timed| timed.job == job) {
            return Err(ScheduleError::Twice { job });
        }
        let calendar = Calendar::new(job, &schedule)?;
        let start = Arc::new(RunHere::<D, S, J> { idem: self.idem.clone(), job: PhantomData });
        self.jobs.push(Timed { job, calendar, missed: schedule.missed, start });
        Ok(self)
    }

    /// Starts jobs for ever. Dropping the future stops it, and drops the runs that are under way, as [`Idem::run`] can be.
    pub async fn run(self) -> Infallible {
        self.run_until(std::future::pending()).await
    }

    /// Starts jobs until `signal` is there, lets those that run come to their end, and returns what the signal returned.
    ///
    /// Dropping the future drops the runs that are under way.
    pub async fn run_until<T>(self, signal: impl Future<Output = T>) -> T {
        let (stop, stopped) = watch::channel(false);
        // Dropping the set ends its tasks.
        let mut tasks = JoinSet::new();
        for timed in self.jobs {
            let (store, stopped) = (Arc::clone(self.idem.store()), stopped.clone());
            let counted_up_to = Tick::from_unix(i64::MIN);
            let turns = Turns { store, timed, stopped, counted_up_to, next: None, warned_of: None };
            tasks.spawn(turns.run());
        }
        let answer = signal.await;
        // Without jobs nobody listens.
        let _ = stop.send(true);
        while tasks.join_next().await.is_some() {}
        answer
    }
}

impl<D: Database, S> fmt::Debug for Scheduler<D, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let jobs: Vec<&str> = self.jobs.iter().map(|timed| timed.job).collect();
        f.debug_struct("Scheduler").field("jobs", &jobs).finish_non_exhaustive()
    }
}

/// What starts the ticks of one job. Where it starts them is its own affair.
#[async_trait]
trait Start: Send + Sync {
    /// Returns the number of the job in the store.
    async fn enrol(&self) -> Result<JobId, StoreError>;

    /// Starts a tick, and returns when it is known what became of it.
    async fn start(&self, tick: Tick) -> Started;
}

/// What became of a tick.
enum Started {
    /// The job is done.
    Done(&'static str),
    /// The job will never be done.
    GivenUp(String),
    /// Another run has what this one needs: most likely it is the same tick, in another process.
    Busy(String),
    /// The job is to be started again.
    Failed(String),
}

/// Runs the job in this process.
struct RunHere<D: Database, S, J> {
    idem: Idem<D, S>,
    job: PhantomData<fn() -> J>,
}

#[async_trait]
impl<D, S, J> Start for RunHere<D, S, J>
where
    D: Database,
    S: Send + Sync + 'static,
    J: Scheduled + RunOn<D, S>,
{
    async fn enrol(&self) -> Result<JobId, StoreError> {
        Ok(self.idem.enrolled::<J>().await?.id)
    }

    async fn start(&self, tick: Tick) -> Started {
        match self.idem.run(J::at(tick)).await {
            Ok(Done::Executed(_)) => Started::Done("executed"),
            Ok(Done::Replayed(_)) => Started::Done("replayed"),
            Ok(Done::Adopted(_)) => Started::Done("adopted"),
            Err(Error::Busy(busy)) => Started::Busy(busy.says()),
            Err(error) => failed::<J>(&error),
        }
    }
}

/// Tells an error after which the job will never be done from one after which it may.
fn failed<J: Job>(error: &Error<J::Error>) -> Started {
    let text = error.text(J::describe_error);
    let is_final = match error {
        Error::Job(error) => J::final_error(error).is_some(),
        Error::Parked(_) | Error::KeyReused(_) => true,
        Error::Busy(_)
        | Error::RowNotFound(_)
        | Error::Timeout(_)
        | Error::LostClaim(_)
        | Error::Drift(_)
        | Error::Args(_)
        | Error::Store(_) => false,
    };
    if is_final { Started::GivenUp(text) } else { Started::Failed(text) }
}

/// The task of one job.
struct Turns<D: Database> {
    store: Arc<dyn Store<D>>,
    timed: Timed,
    stopped: watch::Receiver<bool>,
    /// Up to which tick it was told what is missed.
    counted_up_to: Tick,
    /// A last tick, and the one after it.
    next: Option<(Tick, Option<Tick>)>,
    /// The last tick that was told to be in the future.
    warned_of: Option<Tick>,
}

/// What a turn came to.
enum Turn {
    /// A tick is through; others may be due.
    Through,
    /// No tick is due before this time has passed.
    Idle(Duration),
    /// A tick did not go through.
    Failed {
        tick: Tick,
        /// When another tick takes its place.
        until_next: Duration,
    },
}

impl<D: Database> Turns<D> {
    async fn run(mut self) {
        let name = self.timed.job;
        let mut backoff = Backoff::default();
        let mut failing = None;
        let mut known = None;
        while !*self.stopped.borrow() {
            let turn = match self.job(&mut known).await {
                Ok(job) => self.turn(job).await,
                Err(error) => Err(error),
            };
            let pause = match turn {
                Ok(Turn::Through) => {
                    backoff = Backoff::default();
                    continue;
                }
                Ok(Turn::Idle(pause)) => {
                    backoff = Backoff::default();
                    pause
                }
                Ok(Turn::Failed { tick, until_next }) => {
                    if failing.replace(tick) != Some(tick) {
                        backoff = Backoff::default();
                    }
                    backoff.next().min(until_next)
                }
                Err(error) => {
                    let again_in = backoff.next();
                    warn!(job = name, %error, ?again_in, "the schedule cannot be kept");
                    again_in
                }
            };
            self.pause(pause).await;
        }
    }

    async fn job(&self, known: &mut Option<JobId>) -> Result<JobId, StoreError> {
        match *known {
            Some(job) => Ok(job),
            None => Ok(*known.insert(self.timed.start.enrol().await?)),
        }
    }

    /// Looks at the clock and at the last tick, and starts the tick that is due, if one is.
    async fn turn(&mut self, job: JobId) -> Result<Turn, StoreError> {
        let clock = self.store.now().await?;
        let now = Tick::from_unix(i64::try_from(clock.as_secs()).unwrap_or(i64::MAX));
        let Some(last) = self.store.last_tick(job).await? else {
            let first = self.timed.calendar.at_or_before(now).unwrap_or(now);
            if self.store.advance_tick(job, None, first).await? {
                info!(job = self.timed.job, behind = %first, "the schedule begins");
            }
            return Ok(Turn::Through);
        };
        let next = self.next_after(last);
        let Some(next) = next.filter(|next| *next <= now) else {
            self.warn_if_in_the_future(last, now);
            return Ok(Turn::Idle(until(next, clock)));
        };
        let tick = match self.timed.missed {
            Missed::Latest => self.timed.calendar.at_or_before(now).unwrap_or(next),
            Missed::All => next,
        };
        self.tell_missed(last, tick, now);
        let name = self.timed.job;
        let is_through = match self.start(tick).await {
            Started::Done(how) => {
                debug!(job = name, %tick, how, "a tick is through");
                true
            }
            Started::GivenUp(error) => {
                error!(job = name, %tick, error, "a tick has failed for good");
                true
            }
            Started::Busy(why) => {
                info!(job = name, %tick, why, "a tick has to wait; it is looked at again");
                false
            }
            Started::Failed(error) => {
                warn!(job = name, %tick, error, "a tick did not go through; it is tried again");
                false
            }
        };
        if !is_through {
            let until_next = match self.timed.missed {
                Missed::Latest => until(self.timed.calendar.after(tick), self.store.now().await?),
                Missed::All => LONGEST_BACKOFF,
            };
            return Ok(Turn::Failed { tick, until_next });
        }
        // If it is another tick by now, another process has gone on, and the next turn goes on from there.
        self.store.advance_tick(job, Some(last), tick).await?;
        Ok(Turn::Through)
    }

    /// Starts a tick in a task of its own, so that a panic is a failure like others.
    async fn start(&self, tick: Tick) -> Started {
        let start = Arc::clone(&self.timed.start);
        let mut task = JoinSet::new();
        task.spawn(async move { start.start(tick).await });
        match task.join_next().await.expect("there is one task") {
            Ok(started) => started,
            Err(error) => Started::Failed(error.to_string()),
        }
    }

    /// Returns the tick after the last one, which is looked for once.
    fn next_after(&mut self, last: Tick) -> Option<Tick> {
        match self.next {
            Some((known, next)) if known == last => next,
            _ => self.next.insert((last, self.timed.calendar.after(last))).1,
        }
    }

    /// Says which ticks before or behind the one that is due were missed, once for each.
    fn tell_missed(&mut self, last: Tick, tick: Tick, now: Tick) {
        if tick <= self.counted_up_to {
            return;
        }
        let Timed { job, calendar, missed, .. } = &self.timed;
        let range = match missed {
            Missed::Latest => (last, Tick::from_unix(tick.unix() - 1)),
            Missed::All => (last, now),
        };
        let mut missed_ticks = calendar.between(range.0, range.1, BATCH);
        let first = missed_ticks.next();
        let (count, end) = missed_ticks.fold((1, first), |(count, _), tick| (count + 1, Some(tick)));
        self.counted_up_to = tick;
        let (Some(first), Some(end)) = (first, end) else { return };
        let more = count == BATCH;
        match missed {
            Missed::Latest => {
                warn!(job, count, more, %first, last = %end, "ticks were missed and are skipped");
            }
            Missed::All if count > 1 => {
                info!(job, count, more, %first, last = %end, "ticks were missed and are made up for");
                self.counted_up_to = end;
            }
            Missed::All => {}
        }
    }

    fn warn_if_in_the_future(&mut self, last: Tick, now: Tick) {
        if last > now && self.warned_of.replace(last) != Some(last) {
            warn!(
                job = self.timed.job, %last, %now,
                "the store's clock was set back; the job starts again behind its last tick"
            );
        }
    }

    /// Waits, unless it is to stop.
    async fn pause(&mut self, pause: Duration) {
        // An error says that there is no scheduler any more, and this task with it.
        let _ = tokio::time::timeout(pause, self.stopped.wait_for(|stop| *stop)).await;
    }
}

/// Returns how long to wait for a tick, at most so long that the clock is not set in the meantime unseen.
fn until(next: Option<Tick>, clock: Duration) -> Duration {
    let next = next.and_then(|next| u64::try_from(next.unix()).ok());
    next.map_or(LONGEST_WAIT, |next| Duration::from_secs(next).saturating_sub(clock).min(LONGEST_WAIT))
}

/// How long to wait after one failure more.
#[derive(Default)]
struct Backoff(u32);

impl Backoff {
    fn next(&mut self) -> Duration {
        let backoff = FIRST_BACKOFF.saturating_mul(2_u32.saturating_pow(self.0)).min(LONGEST_BACKOFF);
        self.0 = self.0.saturating_add(1);
        backoff
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_waits_double_up_to_a_minute() {
        let mut backoff = Backoff::default();
        let waits: Vec<u64> = std::iter::repeat_with(|| backoff.next().as_secs()).take(8).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
    }
}
