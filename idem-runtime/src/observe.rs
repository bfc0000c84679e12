//! What can be seen of runs from outside: spans and events of [`tracing`](https://docs.rs/tracing), and, with the
//! feature `metrics`, numbers for the recorder of [`metrics`](https://docs.rs/metrics) that the process has installed.
//!
//! # Spans
//!
//! Each call of a job is a span `idem.run` at level info, and each step of a leased job one `idem.step` inside of it.
//! What the body logs is inside of them too.
//!
//! | field | of | is |
//! |---|---|---|
//! | `job` | run | the job's name |
//! | `key` | run | the key, readable |
//! | `epoch` | run | the number of its claim, of a leased job that runs, or is parked |
//! | `attempt` | run | which attempt it is, of a leased job that runs |
//! | `step` | step | its name, with its index |
//! | `outcome` | both | how it ended, recorded as it ends |
//!
//! # Outcomes
//!
//! | of a run | means |
//! |---|---|
//! | `executed`, `replayed`, `adopted` | as [`Done`] says |
//! | `failed` | the job's own error; the next run has the key |
//! | `rejected` | the job's own error, and it is final |
//! | `superseded` | it did not begin: a newer task of a `keep_latest` job does the work, or has done it |
//! | `dropped`, `panicked` | nobody waits for the answer any more; what that undoes says [`Idem::run`](crate::Idem::run) |
//! | any other | the [code](Code::slug) of the error, as in `busy` |
//!
//! A step is `executed`, `skipped` (an earlier run has taken it), `adopted` (a probe found its effect) or `failed`; or it has no
//! outcome, if the run ended in it.
//!
//! # Events
//!
//! A duplicate is logged at info, and never as a failure: it says what answered it, or which task is the one. What needs
//! a person's eye is a warning: a lost claim, a key that is parked just now, a task that has used up its attempts or that no run can do.
//! A key that is found parked again is at info, and so is a task that is tried again, or whose error is final. Ordinary progress is at debug.
//!
//! What is logged of a run is inside of its span, and does not repeat what that says. A warning has the `hash` of the key
//! besides: who is shown nothing less than warnings is not shown the span. Queues, workers, relays and schedulers log outside of
//! runs. What a worker logs of a task has the key of the job, and a warning its `hash`, unless the payload cannot be read or the key is empty;
//! it does not repeat why a run has not done the work, but has the `code`.
//!
//! | field | is |
//! |---|---|
//! | `job`, `key` | the job and the readable key, outside of runs |
//! | `hash` | the hash of a key, as `idem explain` takes it |
//! | `task` | the id of a task |
//! | `of`, `by`, `again` | another task: the one that a duplicate has met, that does the work, that was enqueued to do it |
//! | `attempt`, `after` | which attempt of a task has failed; how long it waits |
//! | `why` | why a task or a tick waits, or is left alone, where there is no `code` |
//! | `step`, `reason` | what is parked, and why |
//! | `error` | what went wrong, as idem, a store or, in an event of a scheduler, a job says it |
//! | `code` | the [code](Code) of an error; a job's own error has none |
//!
//! # What is not shown
//!
//! Arguments, results, tokens and database URLs are in no span, event or number. The readable **key** is in the span of a
//! run, in events outside of runs, in the error texts and in the record: where it would be a secret, make it the key by a digest or an id of it. The texts of a
//! job's own errors (their `Display`, else their `Debug`) are kept in the record of a failed run of a leased job, 1,000 characters of
//! each, and logged by a scheduler: what they say is up to the job.
//!
//! # Numbers
//!
//! Their names are the constants below. Labels are `job` and `outcome`, so there are as many series as jobs times
//! outcomes, whatever the keys. Without the feature `metrics` nothing is counted.

#[cfg(feature = "metrics")]
use std::time::Instant;

use tracing::{Instrument, Span, field, info_span};

use crate::done::Done;
use crate::engine::{Enqueued, PushError};
use crate::error::Code;
use crate::run::{Ended, Failed, StepName};

/// Runs that have ended, by `job` and `outcome`: a counter.
pub const RUNS: &str = "idem_runs_total";

/// How long runs took in seconds, waiting for other runs included, by `job` and `outcome`: a histogram.
pub const RUN_SECONDS: &str = "idem_run_duration_seconds";

/// Steps of leased jobs, by `job` and `outcome`: a counter.
pub const STEPS: &str = "idem_steps_total";

/// Jobs that were to be enqueued, by `job` and what became of them (`new`, `duplicate`, `replaced`, `coalesced`,
/// `deferred`, `already_done`, `refused`): a counter.
pub const PUSHES: &str = "idem_pushes_total";

/// What clean-ups have deleted, by `what` (`records`, `claims`, `failed_keys`): a counter.
pub const SWEPT: &str = "idem_swept_total";

/// Tells the installed recorder what idem's numbers are, in words and units.
///
/// Call it once, after the recorder was installed; without it the numbers are there all the same.
#[cfg(feature = "metrics")]
pub fn describe() {
    use metrics::{Unit, describe_counter, describe_histogram};

    describe_counter!(RUNS, Unit::Count, "Runs that have ended, by job and outcome.");
    describe_histogram!(RUN_SECONDS, Unit::Seconds, "How long runs took, by job and outcome.");
    describe_counter!(STEPS, Unit::Count, "Steps of leased jobs, by job and outcome.");
    describe_counter!(PUSHES, Unit::Count, "Jobs that were to be enqueued, by job and what became of them.");
    describe_counter!(SWEPT, Unit::Count, "What clean-ups have deleted.");
}

/// A run, as it is seen from outside: one that is dropped without an end has an outcome too.
pub(crate) struct ObservedRun {
    job: &'static str,
    span: Span,
    #[cfg(feature = "metrics")]
    started: Instant,
    has_ended: bool,
}

impl ObservedRun {
    pub(crate) fn new(job: &'static str) -> Self {
        ObservedRun {
            job,
            span: info_span!(
                "idem.run",
                job,
                key = field::Empty,
                epoch = field::Empty,
                attempt = field::Empty,
                outcome = field::Empty
            ),
            #[cfg(feature = "metrics")]
            started: Instant::now(),
            has_ended: false,
        }
    }

    pub(crate) fn span(&self) -> &Span {
        &self.span
    }

    pub(crate) fn end<T, E>(mut self, ended: &Ended<T, E>) {
        self.has_ended = true;
        self.record(match ended {
            Ok(Done::Executed(_)) => "executed",
            Ok(Done::Replayed(_)) => "replayed",
            Ok(Done::Adopted(_)) => "adopted",
            Err(Failed { is_rejected: true, .. }) => "rejected",
            Err(Failed { is_superseded: true, .. }) => "superseded",
            Err(Failed { error, .. }) => error.code().map_or("failed", Code::slug),
        });
    }

    fn record(&self, outcome: &'static str) {
        self.span.record("outcome", outcome);
        count(RUNS, self.job, outcome);
        #[cfg(feature = "metrics")]
        metrics::histogram!(RUN_SECONDS, "job" => self.job, "outcome" => outcome)
            .record(self.started.elapsed());
    }
}

impl Drop for ObservedRun {
    fn drop(&mut self) {
        if !self.has_ended {
            self.record(if std::thread::panicking() { "panicked" } else { "dropped" });
        }
    }
}

/// How a step came by its result.
pub(crate) enum Taken<T> {
    Executed(T),
    Skipped(T),
    Adopted(T),
}

/// Takes a step, so that it is seen from outside.
pub(crate) async fn step<T, E>(
    job: &'static str,
    name: &StepName,
    taking: impl Future<Output = Result<Taken<T>, E>>,
) -> Result<T, E> {
    let span = info_span!("idem.step", step = %name, outcome = field::Empty);
    let (outcome, taken) = match taking.instrument(span.clone()).await {
        Ok(Taken::Executed(value)) => ("executed", Ok(value)),
        Ok(Taken::Skipped(value)) => ("skipped", Ok(value)),
        Ok(Taken::Adopted(value)) => ("adopted", Ok(value)),
        Err(error) => ("failed", Err(error)),
    };
    span.record("outcome", outcome);
    count(STEPS, job, outcome);
    taken
}

/// Counts what became of a job that was to be enqueued.
pub(crate) fn pushed(job: &'static str, answer: &Result<Enqueued, PushError>) {
    let outcome = match answer {
        Ok(Enqueued::New(_)) => "new",
        Ok(Enqueued::Duplicate { .. }) | Err(PushError::Duplicate { .. }) => "duplicate",
        Ok(Enqueued::Replaced(_)) => "replaced",
        Ok(Enqueued::Coalesced(_)) => "coalesced",
        Ok(Enqueued::Deferred { .. }) => "deferred",
        Ok(Enqueued::AlreadyDone) => "already_done",
        Err(_) => "refused",
    };
    count(PUSHES, job, outcome);
}

/// Counts what a clean-up has deleted.
#[cfg(feature = "metrics")]
pub(crate) fn swept(what: &'static str, deleted: u64) {
    metrics::counter!(SWEPT, "what" => what).increment(deleted);
}

#[cfg(feature = "metrics")]
fn count(number: &'static str, job: &'static str, outcome: &'static str) {
    metrics::counter!(number, "job" => job, "outcome" => outcome).increment(1);
}

#[cfg(not(feature = "metrics"))]
pub(crate) fn swept(_: &'static str, _: u64) {}

#[cfg(not(feature = "metrics"))]
fn count(_: &'static str, _: &'static str, _: &'static str) {}
