//! The code of every error: what its text ends with, and what is to be known of it.

use std::fmt;

use super::{
    ArgsErrorReason, Busy, DriftError, Error, KeyReused, LostClaim, Parked, RowNotFound, StoreError,
    StoreErrorKind, Timeout,
};
use crate::codec::CodecError;
use crate::engine::{PushError, TaskIdError};
use crate::key::EmptyKey;
use crate::record::Illegal;

/// Makes the codes of a crate of lines `Variant "slug": "what it means", "what to do";`. A prefix stands before each slug.
#[doc(hidden)]
#[macro_export]
macro_rules! __codes {
    (
        $(#[$about:meta])*
        pub enum Code with $prefix:literal;
        $($variant:ident $slug:literal: $meaning:literal, $remedy:literal;)+
    ) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Code {
            $(#[doc = $meaning] $variant,)+
        }

        impl Code {
            /// Every code.
            pub const ALL: &'static [Code] = &[$(Code::$variant),+];

            /// Returns the code without its `idem::`.
            pub const fn slug(self) -> &'static str {
                match self { $(Code::$variant => concat!($prefix, $slug),)+ }
            }

            /// Returns what has happened, what was changed and what was not, as Markdown.
            pub const fn meaning(self) -> &'static str {
                match self { $(Code::$variant => $meaning,)+ }
            }

            /// Returns what to write or to do, as Markdown.
            pub const fn remedy(self) -> &'static str {
                match self { $(Code::$variant => $remedy,)+ }
            }
        }

        impl ::std::fmt::Display for Code {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                write!(f, "idem::{}", self.slug())
            }
        }
    };
}

__codes! {
    /// What kind of error it is: each error's text ends with its code, as in `[idem::busy]`.
    ///
    /// Codes stay the same when texts change, so they are what to search for, and what to count by. Whether another
    /// try may help is a separate fact: [`Error::is_retryable`], [`StoreError::is_temporary`].
    ///
    /// # Example
    ///
    /// ```
    /// use idem_runtime::Code;
    ///
    /// assert_eq!(Code::Busy.to_string(), "idem::busy");
    /// assert!(Code::ALL.contains(&Code::Busy));
    /// ```
    pub enum Code with "";

    Busy "busy":
        "Another run has the key, or another transaction the row of `lock = row(table.column = argument)`, and this run has waited for as long as the job's `on_busy` says. \
         It has done nothing.",
        "Run the job again later: `Error::is_retryable` is `true`, but for a key that is held and `on_busy = skip`, which leaves the work to the other run. \
         Wait longer with `on_busy = wait(\"30s\")`; let an engine deliver the task again with `on_busy = reschedule(\"5s\")`.";
    KeyReused "key_reused":
        "The key has been used with other arguments: what is recorded for it has another fingerprint. The job did not run, and the record is as it was.",
        "Give other work another key: make what tells it apart a part of it, as in `key = (order_id, line)`. An argument that may differ \
         between runs of the same work, such as the time of the request, is left out with `fingerprint = ignore(requested_at)`. A retry does not help.";
    RowNotFound "row_not_found":
        "`lock = row(table.column = argument)` has found no row to lock. The body did not run, and nothing was recorded.",
        "Insert the row, commit it, and then run the job; write `lock = row` if the job itself makes the row. `Error::is_retryable` is `false`, \
         as waiting alone makes no row.";
    Timeout "timeout":
        "The body took longer than the job's `timeout`, and was dropped. What an atomic job did in its database is undone; the recorded steps of a leased job stay. \
         A call of somebody else that was under way may have come through.",
        "Run the job again: `Error::is_retryable` is `true`. Raise `timeout = \"5m\"` if the work takes this long, or look for what it waited for.";
    LostClaim "lost_claim":
        "The run of a leased job does not have its key any more: its lease passed and another run took over, the store could not be reached for a whole lease, or a person has \
         released the key (`idem release`). \
         Recorded steps stay; what this run did since the last one is not recorded.",
        "Run the job again: `Error::is_retryable` is `true`, and whoever has the key by then answers. If it happens often, write a longer lease, \
         `lock = lease(\"2m\")`, and look for bodies that block their thread, so that the heartbeat cannot renew it.";
    Parked "parked":
        "The job does not know whether an effect has happened, so it waits for a person; or its recorded steps are not those of the code, and it says \
         `drift = park`. Nothing runs under the key until then; recorded steps stay.",
        "Find out at the callee what has happened, and say so: `idem.resolve::<Job>(hash, epoch, resolution)`, with the key and the epoch of the error or of `Idem::parked`; \
         without the job's code, the command `idem resolve` does the same. \
         Let the job find out by itself with `in_doubt = probe(path)`. If it is for the steps, deploy code that has them and resolve with `Resolution::rerun`, or \
         `Idem::forget` the key. A retry does not help.";
    Drift "drift":
        "An earlier run has recorded steps that this code does not have in their places. Nothing more was done; the steps stay.",
        "Run code that still has the recorded steps, or say what is to happen: `drift = resume` goes on by the names of the steps, `drift = park` waits for a person. \
         Rename a step only when no key is half-way (`Idem::unfinished`).";
    EmptyKey "empty_key":
        "The key has no content: a text in it is blank, or there is nothing in it at all. Unrelated runs would share it, so nothing was done.",
        "Make the key of what every run has, such as an id of the event; check texts that come from outside before the job is made. A retry does not help.";
    Unserializable "unserializable":
        "Serde cannot encode a value: its own `Serialize` refuses it, or JSON, as which apalis carries arguments, does not give it back as it is. If it is an argument, nothing was done.",
        "Look at the field that the text names, and at its `Serialize`; leave out what is no part of the work with `#[serde(skip)]`, or pass it as `#[state]`. A retry does not help.";
    Unavailable "unavailable":
        "The database cannot be reached, or the connection broke. What a transaction had done is undone, unless it was committing: that would be `idem::outcome_unknown`. \
         Steps that are recorded stay.",
        "Run the job again when the database answers, if `StoreError::is_temporary` says so. Otherwise the pool is closed, TLS fails or the file cannot be opened: \
         look at the URL of the pool, and close the pool only after the last run.";
    Exhausted "exhausted":
        "No connection, or no turn to write, became free in time. Nothing was done by this call.",
        "Run the job again: `StoreError::is_temporary` is `true`. Allow more with `Idem::builder(pool).connections(16)` and `PoolOptions::max_connections`, \
         and look for bodies that hold their transaction for long.";
    Conflict "conflict":
        "Several transactions were in each other's way, and the database, or idem, gave this one up: a deadlock, a serialization failure, a lock that was not free in time, \
         a unique claim that changed hands. What it did is undone.",
        "Run the job again: `StoreError::is_temporary` is `true`. If it happens often, let jobs lock their rows in one order, and keep transactions short.";
    NotMigrated "not_migrated":
        "The tables of idem, or those of the engine, are not in this database and schema; or those of the engine are not prepared for unique jobs. Nothing was done.",
        "Call `idem.migrate().await?` at start-up, or run the SQL of `Idem::migration_sql` with your own migrations. For apalis call its own `setup`, then `Idem::migrate`, then `Queue::set_up`. \
         If that was done, the pool is connected elsewhere: compare its URL, `Builder::schema` and `Builder::table_prefix`. A retry does not help.";
    ReadOnly "read_only":
        "The database may only be read: it is a replica, a file without the right to write, or a transaction that says so. Nothing was changed.",
        "Give idem a pool that is connected to the primary, as a user that may write. A retry does not help.";
    UnknownRow "unknown_row":
        "`lock = row(table.column = argument)` names a table or a column that this database does not have, or that the user may not read. The job is not known yet, and did not run.",
        "Write the names as the database has them, create the table before the job is enrolled, or write `lock = row` to lock the key alone. A retry does not help.";
    NameTaken "name_taken":
        "Two jobs of this process have one name, so each would answer with the records of the other. The second one did not run.",
        "Give one of them a name of its own: `#[idempotent(name = \"charge_card\", …)]`. Records stay with the name. A retry does not help.";
    Unrecordable "unrecordable":
        "The result, a final error, a step or a task cannot be recorded: serde cannot encode it, or it is larger than 1 MiB. An atomic job has committed nothing; \
         of a leased job the effect of this step has no record.",
        "Return a small value that serde can encode: keep what is large in a table of yours, and return its id. A retry does not help before that.";
    Unreadable "unreadable":
        "What is stored cannot be read into the type that the code has now. The job was not run again, and what is stored is as it was.",
        "Let the type read what older code wrote: `#[serde(default)]` for a new field, `#[serde(alias = \"old_name\")]` for a renamed one; or run the code that wrote it. A key whose result a person has given in a wrong type can be forgotten, with `Idem::forget` or `idem forget`; then the job is done again. A retry does not help.";
    StepName "bad_step_name":
        "A step has no name, a name with square brackets at its end, or the name that another step of the run has. The step was not taken; those before it stay.",
        "Give every step a name of its own; in a loop write `run.step((\"mail\", user_id), …)`. A retry does not help.";
    Stale "stale":
        "The key is not as the caller believes: its epoch or its state has changed, it is another job's, or nothing is recorded of it. Nothing was changed.",
        "Look at it again with `Idem::explain`, and decide anew with the epoch that it has now.";
    OutcomeUnknown "outcome_unknown":
        "The connection broke during a COMMIT, and the record could not be read afterwards: it was done and recorded, or neither. Or it broke as tasks were enqueued: they are, or are not.",
        "Run the job again, or push it again: `StoreError::is_temporary` is `true`. The record decides, so nothing is done twice; a job with `retain = none` has none, so look first whether it is done. A task that waits with the unique claim makes a duplicate of the next.";
    Misconfigured "misconfigured":
        "The settings of idem, of the pool or of the database cannot work together. Nothing was done.",
        "Write what the text says. A retry does not help.";
    Refused "refused":
        "The database, or idem, has refused for a reason that no other code names. The transaction is undone.",
        "Read what the text says; the error of the driver is its `source()`. A body must hand on the errors of its statements, and leave COMMIT to idem. A retry seldom helps.";
    Duplicate "duplicate":
        "Another task has the unique claim, and the job says `on_duplicate = error`. The job was not enqueued; the other task does the work.",
        "Take it as done, or write `on_duplicate = skip`: the answer is `Enqueued::Duplicate` then. A retry helps only after the other task is over.";
    TaskId "task_id":
        "A text is not the id of a task of idem's: a ULID, 26 letters and digits. No task was touched.",
        "Use the id as `Enqueued` gives it; let only `Queue` enqueue what a handler of idem's runs.";
    Panicked "panicked":
        "The body of a job panicked under a worker of apalis. What an atomic job did is undone; the recorded steps of a leased job stay. The worker goes on.",
        "Mend the panic, and return an error instead. apalis delivers the task again for as long as it has attempts.";
    AttemptsUsedUp "attempts_used_up":
        "A task of apalis has used up its attempts, has begun once more, and its worker has died again. It was killed without another run, and its unique claim has ended.",
        "Find out what of the job ends its process, such as memory or a stack that overflows. To have the task run again, set its status to `Pending` and its attempts to 0.";
    NoSchedule "no_schedule":
        "A job was given to a scheduler, but it states no schedule. The scheduler was not made.",
        "Write `schedule = \"0 3 * * *\"` into its attribute, or give it one with `Scheduler::job_at`.";
    UnusableSchedule "unusable_schedule":
        "The text of a schedule is not one of cron, or means a day that never comes. The scheduler was not made.",
        "Write minute, hour, day of the month, month and day of the week: `0 3 * * *` is every day at three.";
    UnknownTimeZone "unknown_time_zone":
        "The IANA database has no time zone of this name. The scheduler was not made.",
        "Write a name of it, such as `Europe/Berlin` or `UTC`: `Schedule::new(\"0 3 * * *\").time_zone(\"Europe/Berlin\")`.";
    ScheduledTwice "scheduled_twice":
        "A scheduler was given the same job twice. The scheduler was not made.",
        "Leave one of them out, or write one schedule that has the ticks of both.";
    IllegalEvent "illegal_event":
        "An event cannot happen to a key in this state. Only stores, and tests of them, meet this; nothing was changed.",
        "Let the store say what it found, and leave to `record::next` and `record::decide` what follows from it.";
}

/// Errors of one code each: their text is what `says` returns, and the code behind it. A text around one of them has
/// a code of its own, and takes what it says alone.
macro_rules! one_code {
    ($($error:ty => $code:ident;)+) => {$(
        impl $error {
            /// Returns the error's code, which its text ends with.
            pub const fn code(&self) -> Code {
                Code::$code
            }
        }

        impl fmt::Display for $error {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{} [{}]", self.says(), self.code())
            }
        }

        impl std::error::Error for $error {}
    )+};
}

one_code! {
    Busy => Busy;
    KeyReused => KeyReused;
    RowNotFound => RowNotFound;
    Timeout => Timeout;
    LostClaim => LostClaim;
    Parked => Parked;
    DriftError => Drift;
    EmptyKey => EmptyKey;
    TaskIdError => TaskId;
    Illegal => IllegalEvent;
}

impl<E> Error<E> {
    /// Returns the error's code, which its text ends with; `None` for the job's own error.
    pub fn code(&self) -> Option<Code> {
        Some(match self {
            Error::Job(_) => return None,
            Error::Busy(error) => error.code(),
            Error::KeyReused(error) => error.code(),
            Error::RowNotFound(error) => error.code(),
            Error::Timeout(error) => error.code(),
            Error::LostClaim(error) => error.code(),
            Error::Parked(error) => error.code(),
            Error::Drift(error) => error.code(),
            Error::Args(error) => error.code(),
            Error::Store(error) => error.code(),
        })
    }
}

impl super::ArgsError {
    /// Returns the error's code, which its text ends with.
    pub fn code(&self) -> Code {
        self.reason.code()
    }
}

impl ArgsErrorReason {
    /// Returns the error's code, which its text ends with.
    pub fn code(&self) -> Code {
        match self {
            ArgsErrorReason::EmptyKey(error) => error.code(),
            ArgsErrorReason::Unserializable(error) => error.code(),
        }
    }
}

impl CodecError {
    /// Returns the error's code, which its text ends with: [`Code::Unserializable`] of a value, [`Code::Unreadable`]
    /// of what is stored.
    pub fn code(&self) -> Code {
        self.code
    }
}

impl StoreError {
    /// Returns the error's code, which its text ends with.
    pub fn code(&self) -> Code {
        self.kind().code()
    }
}

impl StoreErrorKind {
    /// Returns the code of errors of this kind.
    pub const fn code(self) -> Code {
        match self {
            StoreErrorKind::Unavailable => Code::Unavailable,
            StoreErrorKind::Exhausted => Code::Exhausted,
            StoreErrorKind::Conflict => Code::Conflict,
            StoreErrorKind::NotMigrated => Code::NotMigrated,
            StoreErrorKind::ReadOnly => Code::ReadOnly,
            StoreErrorKind::UnknownRow => Code::UnknownRow,
            StoreErrorKind::NameTaken => Code::NameTaken,
            StoreErrorKind::Unrecordable => Code::Unrecordable,
            StoreErrorKind::Unreadable => Code::Unreadable,
            StoreErrorKind::StepName => Code::StepName,
            StoreErrorKind::Stale => Code::Stale,
            StoreErrorKind::OutcomeUnknown => Code::OutcomeUnknown,
            StoreErrorKind::Misconfigured => Code::Misconfigured,
            StoreErrorKind::Refused => Code::Refused,
        }
    }
}

impl PushError {
    /// Returns the error's code, which its text ends with.
    pub fn code(&self) -> Code {
        match self {
            PushError::Duplicate { .. } => Code::Duplicate,
            PushError::KeyReused(error) => error.code(),
            PushError::Args(error) => error.code(),
            PushError::Store(error) => error.code(),
        }
    }
}

#[cfg(feature = "schedule")]
impl crate::schedule::ScheduleError {
    /// Returns the error's code, which its text ends with.
    pub fn code(&self) -> Code {
        use crate::schedule::ScheduleError;

        match self {
            ScheduleError::Missing { .. } => Code::NoSchedule,
            ScheduleError::Cron { .. } => Code::UnusableSchedule,
            ScheduleError::TimeZone { .. } => Code::UnknownTimeZone,
            ScheduleError::Twice { .. } => Code::ScheduledTwice,
        }
    }
}
