//! The checks that users call.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use idem_runtime::{RunOn, StoreError};

use crate::code::Code;
use crate::lab::LabDatabase;
use crate::oracle::Oracle;
use crate::plan::{self, Plan, kill};
use crate::report::{Difference, Mask, Moment, Report};
use crate::scenario::Scenario;
use crate::subject::Subject;

/// How often two more clean runs are asked before a job is blamed.
const CONFIRMATIONS: usize = 2;

/// Why a check could not tell anything. Each text ends with its [`Code`].
#[derive(Debug)]
#[non_exhaustive]
pub enum Trouble {
    /// The set-up failed.
    SetUp(String),
    /// The job failed although nothing was in its way.
    CleanRun(String),
    /// The job ran longer than the scenario's limit although nothing was in its way.
    Hung {
        /// Where it was.
        at: String,
        /// What it did before.
        timeline: Vec<Moment>,
    },
    /// The job changed nothing and no observer saw anything, so that the check would prove nothing.
    NoEffect,
    /// This observer saw nothing in a clean run.
    UnseenObserver(String),
    /// Two clean runs left different effects.
    Nondeterministic(Vec<Difference>),
    /// All that a clean run changes are values that vary by nature, so that the check would prove nothing.
    OnlyMasked(Vec<Mask>),
    /// An effect of one trial was seen by an observer of the next.
    SharedState,
    /// The store failed where no fault was planted.
    Store(String),
    /// `IDEM_SCHEDULE` names no schedule.
    Schedule(String),
    /// The run in a process of its own could not be made.
    Child {
        /// What went wrong.
        why: String,
        /// What the process wrote.
        output: String,
    },
}

impl Trouble {
    pub(crate) fn store(error: StoreError) -> Self {
        Trouble::Store(error.to_string())
    }

    pub(crate) fn database(error: sqlx::Error) -> Self {
        Trouble::Store(error.to_string())
    }

    /// Returns the code of this trouble, which its text ends with.
    pub fn code(&self) -> Code {
        match self {
            Trouble::SetUp(_) => Code::SetUp,
            Trouble::CleanRun(_) => Code::CleanRun,
            Trouble::Hung { .. } => Code::Hung,
            Trouble::NoEffect => Code::NoEffect,
            Trouble::UnseenObserver(_) => Code::UnseenObserver,
            Trouble::Nondeterministic(_) => Code::Nondeterministic,
            Trouble::OnlyMasked(_) => Code::OnlyMasked,
            Trouble::SharedState => Code::SharedState,
            Trouble::Store(_) => Code::Store,
            Trouble::Schedule(_) => Code::Schedule,
            Trouble::Child { .. } => Code::Child,
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.tell(f)?;
        // Behind a list the code has a line of its own.
        let gap = match self {
            Trouble::Hung { .. }
            | Trouble::Nondeterministic(_)
            | Trouble::OnlyMasked(_)
            | Trouble::Child { .. } => "\n ",
            _ => "",
        };
        write!(f, "{gap} [{}]", self.code())
    }
}

impl Trouble {
    fn tell(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::SetUp(why) => {
                write!(f, "the set-up failed: {why}; mend the closure that is given to `Scenario::setup`")
            }
            Trouble::CleanRun(why) => {
                write!(f, "the job fails although nothing is in its way: {why}{}", remedy(why))
            }
            Trouble::Hung { at, timeline } => {
                write!(
                    f,
                    "the job still runs at its limit; it hangs at: {at}; raise `Scenario::limit` if it needs longer"
                )?;
                timeline.iter().try_for_each(|moment| {
                    write!(
                        f,
                        "\n  {:>8.1} ms  {}  {}",
                        moment.at.as_secs_f64() * 1e3,
                        moment.worker,
                        moment.what
                    )
                })
            }
            Trouble::NoEffect => f.write_str(
                "a clean run changes no table and no observer sees anything, so a check would prove nothing; \
                 let the set-up make work for the job, or add `Scenario::observe`; what it counts is behind an `Arc`, which the \
                 clones of the state share",
            ),
            Trouble::UnseenObserver(name) => write!(
                f,
                "observer `{name}` sees no effect in a clean run, so it would prove nothing; \
                 let it count what this job does, or leave it out"
            ),
            Trouble::Nondeterministic(differences) => {
                f.write_str("two clean runs leave different effects, so there is nothing to compare with; let what the job leaves follow from \
                     its arguments and the set-up alone:",
                )?;
                differences.iter().try_for_each(|difference| write!(f, "\n  {difference}"))
            }
            Trouble::OnlyMasked(masks) => {
                f.write_str(
                    "all that a clean run changes are values that vary by nature, so a check would prove nothing; \
                     let the job change something that does not, or add `Scenario::observe`:",
                )?;
                masks.iter().try_for_each(|mask| write!(f, "\n  {}.{}: {}", mask.table, mask.column, mask.because))
            }
            Trouble::SharedState => f.write_str(
                "the effects of one trial show in the next: make everything that is counted inside the closure that is \
                 given to `Scenario::state`, and give a file or a server that is made in `state_with` another name in \
                 every trial",
            ),
            Trouble::Store(why) => write!(f, "the store failed where no fault was planted: {why}; look at the database, and run the check again"),
            Trouble::Schedule(why) => f.write_str(why),
            Trouble::Child { why, output } => {
                write!(f, "the test cannot be run in a process of its own: {why}")?;
                match output.trim() {
                    "" => f.write_str("; it wrote nothing"),
                    output => write!(f, "; it wrote:\n  {}", output.replace('\n', "\n  ")),
                }
            }
        }
    }
}

impl std::error::Error for Trouble {}

/// Says what may help a job that fails by itself. An error of idem's own, which has a code, says that itself.
fn remedy(why: &str) -> &'static str {
    if why.contains("[idem::") {
        ""
    } else if why.contains("database is locked") {
        "; if the body writes on a connection of its own, that waits for the job's transaction: write through `tx`"
    } else {
        "; let `Scenario::setup` make the tables and rows, and `Scenario::state` the services, that it needs; \
         an error that is final can be checked if `replay(...)` names it, and one that passes is for the queue, so let the \
         services work"
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Difference::Missing { table, row } => write!(f, "- {table}: {row}"),
            Difference::Extra { table, row } => write!(f, "+ {table}: {row}"),
            Difference::Effects { observer, expected, found } => {
                write!(f, "effect `{observer}`: {expected} in a clean run, {found} here")
            }
            Difference::Answer { expected, found } => write!(f, "answer: {expected} expected, {found} came"),
            Difference::Law { law, found } => write!(f, "law: {law}; found: {found}"),
        }
    }
}

/// Runs some plans on a job and reports what they found; nothing runs after the first failure.
///
/// `None` if the database's server is not there, which is said on standard error. With
/// `IDEM_SCHEDULE` in the environment only that schedule runs.
///
/// # Errors
///
/// [`Trouble`]: the scenario cannot be checked at all.
pub async fn examine<J, D, S>(scenario: &Scenario<J, D, S>, plans: &[Plan]) -> Result<Option<Report>, Trouble>
where
    J: RunOn<D, S>,
    D: LabDatabase,
    S: Send + Sync + 'static,
{
    examine_only(scenario, plans, plan::only()?).await
}

/// Runs one schedule on a job, such as `crash/3`, as `IDEM_SCHEDULE` does.
///
/// # Errors
///
/// [`Trouble`]: the scenario cannot be checked at all, or there is no such schedule.
#[doc(hidden)]
pub async fn examine_schedule<J, D, S>(
    scenario: &Scenario<J, D, S>,
    schedule: &str,
) -> Result<Option<Report>, Trouble>
where
    J: RunOn<D, S>,
    D: LabDatabase,
    S: Send + Sync + 'static,
{
    let only = plan::parse(schedule)?;
    examine_only(scenario, &[only.0], Some(only)).await
}

async fn examine_only<D: LabDatabase>(
    subject: &dyn Subject<D>,
    plans: &[Plan],
    only: Option<(Plan, String)>,
) -> Result<Option<Report>, Trouble> {
    let began = Instant::now();
    let call = kill::Call::of(subject, subject.key()?.readable(), plans);
    if let Some(child) = kill::Child::of_this_process() {
        return child.meet(&call, subject).await.map(Some);
    }
    let Some(mut oracle) = Oracle::learn(subject).await? else { return Ok(None) };
    let mut report = Report {
        masked: oracle.masks.clone(),
        effects: oracle.effects(),
        refusal: oracle.refusal(),
        ..call.report()
    };
    for plan in plans {
        let only = match &only {
            Some((named, _)) if named != plan => continue,
            Some((_, schedule)) => Some(schedule.as_str()),
            None => None,
        };
        let (mut ran, mut failure) = plan::run(*plan, subject, &oracle, &call, only).await?;
        // Before the job is blamed more clean runs are asked whether what differs varies by nature.
        for _ in 0..CONFIRMATIONS {
            if failure.is_none() {
                break;
            }
            let Some(other) = Oracle::learn(subject).await? else { break };
            if oracle.learn_from(other) {
                (ran, failure) = plan::run(*plan, subject, &oracle, &call, only).await?;
            }
        }
        report.masked.clone_from(&oracle.masks);
        report.plans.push(ran);
        if let Some((failure, lab)) = failure {
            lab.keep();
            report.failure = Some(failure);
            break;
        }
    }
    report.took = began.elapsed();
    Ok(Some(report))
}

/// Examines, writes the report where `IDEM_REPORT` says, and panics if the effect was not single.
async fn check<J, D, S>(scenario: Scenario<J, D, S>, plans: &[Plan]) -> Option<Report>
where
    J: RunOn<D, S>,
    D: LabDatabase,
    S: Send + Sync + 'static,
{
    let report = match examine(&scenario, plans).await {
        Ok(report) => report?,
        Err(trouble) => panic!("job `{}` cannot be checked: {trouble}", J::SPEC.name),
    };
    if let Some(folder) = std::env::var_os("IDEM_REPORT") {
        report.write(folder).unwrap_or_else(|error| no_folder(&error));
    }
    if report.failure.is_some() {
        panic!("{report}");
    }
    println!("{report}");
    Some(report)
}

/// Refuses the folder for reports.
pub(crate) fn no_folder<T>(error: &std::io::Error) -> T {
    panic!("`IDEM_REPORT` names a folder that cannot be written: {error} [{}]", Code::ReportFolder)
}

macro_rules! checks {
    ($($(#[$doc:meta])* $name:ident: $plans:expr;)+) => {$(
        $(#[$doc])*
        ///
        /// Returns the report, or `None` if the database's server is not there.
        ///
        /// # Panics
        ///
        /// The job does not have a single effect: the message is the report. Or the scenario cannot be
        /// checked: see [`Trouble`].
        pub fn $name<J, D, S>(scenario: Scenario<J, D, S>) -> Checked
        where
            J: RunOn<D, S>,
            D: LabDatabase,
            S: Send + Sync + 'static,
        {
            Checked(Box::pin(check(scenario, $plans)))
        }
    )+};
}

/// What a check comes to, once this is awaited; nothing is checked before.
// The future of an `async fn` repeats its bounds, and rustc tells of a state that is missing three times (decision 0021).
#[must_use = "nothing is checked unless this is awaited"]
pub struct Checked(Pin<Box<dyn Future<Output = Option<Report>>>>);

impl Future for Checked {
    type Output = Option<Report>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Report>> {
        self.0.as_mut().poll(cx)
    }
}

impl fmt::Debug for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checked").finish_non_exhaustive()
    }
}

checks! {
    /// Checks that a job has a single effect, whatever happens while it runs: all plans.
    check_single_effect: &Plan::ALL;
    /// Checks that the same run again and again has a single effect.
    check_repeat: &[Plan::Repeat];
    /// Checks that many runs at once have a single effect.
    check_concurrent: &[Plan::Concurrent];
    /// Checks that a job has a single effect after a crash at any window and recovery.
    check_crash: &[Plan::Crash];
    /// Checks that a job has a single effect when the answer to COMMIT is lost.
    check_lost_ack: &[Plan::LostAck];
    /// Checks that somebody else's record answers, and the own effect is undone.
    check_rival: &[Plan::Rival];
    /// Checks that two runs have a single effect in every order of their steps with at most two changes of turn.
    check_interleavings: &[Plan::Interleavings];
    /// Checks that a worker that lost its claim changes nothing.
    check_zombie: &[Plan::Zombie];
    /// Checks that a job has a single effect when something fails once and works the next time: the database refuses to
    /// write to a table, or a service that [`Scenario::outage`] names is out.
    check_outage: &[Plan::Outage];
    /// Checks that a job has a single effect after its process was killed at any window and recovery.
    check_kill: &[Plan::Kill];
}
