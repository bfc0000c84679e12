//! What the page says about forms and contenders, and why one is behind another.

use crate::targets::Measure;
use crate::{Contender, Form, Store};

impl Contender {
    /// Says what it does, in a line.
    pub(crate) fn meaning(self) -> &'static str {
        match self {
            Contender::BareOwn => {
                "the effect alone, each caller on a connection of its own: protects nothing, and shows what the database can do"
            }
            Contender::BarePool => {
                "the same on sqlx's pool, which asks the server whether a connection is alive when it is taken and when it is given back"
            }
            Contender::OneRead => {
                "the result is read by its key, on a connection of the caller's own: the least that a replay can be"
            }
            Contender::NaivePool => {
                "look for a record, act, record, commit; no lock, so of two runs at once one fails on the record's key and is rolled back"
            }
            Contender::CarefulOwn => {
                "the same under a lock, on a connection of the caller's own; for leased jobs a claim with token and lease, and each step recorded in its transaction under that token"
            }
            Contender::FoldedOwn => {
                "idem's own protocol without the library: lock and look ride with `BEGIN`, the record with `COMMIT`, all prepared; on a connection of the caller's own"
            }
            Contender::Apalis => {
                "apalis pushes a task; any number of equal ones are queued, so a duplicate is a new task to it"
            }
            Contender::Graphile => {
                "graphile_worker adds a job with a `job_key`; a duplicate replaces the job that is queued"
            }
            Contender::Idem => {
                "the same effect as an `#[idempotent]` job, called as users call it; on a queue, a unique task of apalis"
            }
        }
    }
}

impl Form {
    /// Says what is done, in a line or two.
    pub(crate) fn meaning(self) -> &'static str {
        match self {
            Form::First => {
                "An atomic job of one `INSERT` and one `UPDATE` in one transaction; each run has a key that has not run before."
            }
            Form::Replay => {
                "The same job; each run has a key that has run before, and is answered by what is recorded."
            }
            Form::Herd => {
                "The same job; each call is sixteen runs at once that have one key, which has not run before."
            }
            Form::Steps => {
                "A leased job of three steps (`tx_step`); each is one `INSERT` with a commit of its own, and each run has a key that has not run before."
            }
            Form::Enqueue => "Each call enqueues one task that is not queued yet.",
            Form::EnqueueDuplicate => {
                "Each call is about one and the same task, which is queued already. apalis alone knows no duplicates: its figures are those of a new task."
            }
            Form::EnqueueHundred => "Each call enqueues a hundred tasks that are not queued yet.",
        }
    }

    /// Says what a rate counts.
    pub(crate) fn unit(self) -> &'static str {
        match self {
            Form::First => "runs",
            Form::Replay => "replays",
            Form::Herd => "batches of sixteen",
            Form::Steps => "jobs",
            Form::Enqueue | Form::EnqueueDuplicate | Form::EnqueueHundred => "tasks",
        }
    }
}

/// Says why idem does less than another in the same time; only where it does.
pub(crate) fn why_behind(store: Store, form: Form, other: Contender) -> &'static str {
    match (form, store, other) {
        (Form::First, _, Contender::FoldedOwn) => {
            "The protocol is the same, so this is the library's own share: it hashes key and arguments, encodes the result, has \
             connections to hand round, and looks whether a run of the key is under way in the process."
        }
        (Form::First, Store::Sqlite, _) => {
            "In the process there are no round trips to save, so nothing makes up for what idem does besides: a savepoint, \
             a record with times and fingerprint, the way to the one writer and back."
        }
        (Form::First, Store::Postgres, Contender::NaivePool | Contender::CarefulOwn) => {
            "There are fewer messages, and the statements are prepared either way, so this is the library's own share, or the machine's mood."
        }
        (Form::First, Store::Postgres, _) => {
            "The round trips are those of the bare effect, but the server has a lock, a read and an insert more to do, and more \
             work shows the more callers there are for a core."
        }
        (Form::First, Store::Mysql, _) => {
            "There are fewer messages, but what lies in them is text that MariaDB parses each time, and there is more of it: \
             `GET_LOCK`, a savepoint, `RELEASE_LOCK`. On loopback, where messages cost next to nothing, that is the dearer way."
        }
        (Form::Replay, ..) => {
            "Either way it is a read; idem's also hashes key and arguments, compares the fingerprint and whether the record has \
             expired, and decodes the result."
        }
        (Form::Herd, ..) => {
            "The batch is one run and fifteen that wait for it in the process and are answered from its record when it has committed."
        }
        (Form::Steps, Store::Sqlite, _) => {
            "Each step is a row of its own, and the outcome deletes them again; by hand a step is a number in the row of the claim."
        }
        (Form::Steps, Store::Postgres, _) => {
            "There are fewer messages, and the statements are prepared either way, but there is more to write: each step is a row of its own, and the \
             outcome deletes them again; by hand it is a number in the row of the claim."
        }
        (Form::Steps, Store::Mysql, _) => {
            "There are fewer messages, but all that writes of a leased job is text, which the server parses and plans each time; by hand it is \
             prepared. Each step is also a row of its own, and the outcome deletes them again; by hand it is a number in the row of the claim."
        }
        (Form::Enqueue, ..) => {
            "One statement looks for a record and for a claim, takes the claim and enqueues. The claim is a row of its own with two indexes; apalis alone has none, and graphile_worker's key is a column of the job."
        }
        (Form::EnqueueHundred, ..) => {
            "The one message that looks for records and for claims, takes the claims and enqueues is long, and is parsed and planned each time. A claim is a row of its own with \
             two indexes; apalis alone has none, and graphile_worker's key is a column of the job."
        }
        (Form::EnqueueDuplicate, ..) => {
            "The look for what is queued is the same long statement as for a new task."
        }
    }
}

/// Says why a count of idem's is above another's, or above its target; only where it is.
pub(crate) fn why_dearer(form: Form, measure: Measure) -> &'static str {
    match (form, measure) {
        (Form::First | Form::Herd, Measure::WalBytes) => {
            "A record has a fingerprint, its job, its times and its key in readable form; what is written by hand has some of these or none."
        }
        (Form::Steps, Measure::RoundTrips) => {
            "A step opens its transaction, does what its body says and records itself: one message beside each of the body's, and \
             none of them can ride with a statement that is the user's own. On MariaDB a claim also looks before it writes."
        }
        (Form::Steps, Measure::WalBytes) => {
            "A step is a row of its own, which the outcome deletes again, and each locks the claim; by hand it is a number in the row of the claim."
        }
        (Form::Enqueue | Form::EnqueueHundred, Measure::WalBytes) => {
            "The claim is a row of its own with two indexes; apalis alone has none, and graphile_worker's key is a column of the job."
        }
        _ => "Why is not known: it must be looked into.",
    }
}
