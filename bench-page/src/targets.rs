//! What idem is to reach.

use crate::{Contender, Counted, Form, Store};

/// A share of another's rate that idem is to reach.
pub(crate) struct RateTarget {
    pub(crate) store: Store,
    pub(crate) form: Form,
    pub(crate) callers: usize,
    pub(crate) against: Contender,
    pub(crate) at_least: f64,
}

/// What the best protocols reached that were written by hand and timed before idem was written, on two cores.
pub(crate) const RATES: &[RateTarget] = &[
    rate(Form::First, 1, Contender::BareOwn, 0.98),
    rate(Form::First, 8, Contender::BareOwn, 0.81),
    rate(Form::First, 32, Contender::BareOwn, 0.80),
    // 13.5 thousand a second beside 2.5 thousand.
    rate(Form::Replay, 1, Contender::NaivePool, 5.4),
    rate(Form::Herd, 1, Contender::NaivePool, 3.6),
];

const fn rate(form: Form, callers: usize, against: Contender, at_least: f64) -> RateTarget {
    RateTarget { store: Store::Postgres, form, callers, against, at_least }
}

/// A count that idem is not to exceed, on every store where it is counted.
pub(crate) struct CountTarget {
    pub(crate) form: Form,
    pub(crate) measure: Measure,
    pub(crate) at_most: Limit,
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Measure {
    RoundTrips,
    Writes,
    WalBytes,
}

/// How much it may be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Limit {
    /// So much.
    Is(f64),
    /// So much more than for the bare effect on its own connection.
    BeyondBare(f64),
}

pub(crate) const COUNTS: &[CountTarget] = &[
    count(Form::First, Measure::RoundTrips, Limit::BeyondBare(0.0)),
    count(Form::First, Measure::Writes, Limit::Is(1.0)),
    count(Form::First, Measure::WalBytes, Limit::BeyondBare(220.0)),
    count(Form::Replay, Measure::RoundTrips, Limit::Is(1.0)),
    count(Form::Replay, Measure::Writes, Limit::Is(0.0)),
    count(Form::Replay, Measure::WalBytes, Limit::Is(0.0)),
    // Those of one run.
    count(Form::Herd, Measure::RoundTrips, Limit::Is(4.0)),
    count(Form::Herd, Measure::Writes, Limit::Is(1.0)),
    // A claim that also reads the recorded steps, and the outcome with the last step.
    count(Form::Steps, Measure::RoundTrips, Limit::Is(4.0)),
    // Claim and outcome, and one for each step.
    count(Form::Steps, Measure::Writes, Limit::Is(5.0)),
    count(Form::Enqueue, Measure::RoundTrips, Limit::Is(1.0)),
    count(Form::Enqueue, Measure::Writes, Limit::Is(1.0)),
    count(Form::EnqueueDuplicate, Measure::RoundTrips, Limit::Is(1.0)),
    count(Form::EnqueueDuplicate, Measure::Writes, Limit::Is(0.0)),
    count(Form::EnqueueDuplicate, Measure::WalBytes, Limit::Is(0.0)),
    count(Form::EnqueueHundred, Measure::RoundTrips, Limit::Is(1.0)),
    count(Form::EnqueueHundred, Measure::Writes, Limit::Is(1.0)),
];

const fn count(form: Form, measure: Measure, at_most: Limit) -> CountTarget {
    CountTarget { form, measure, at_most }
}

impl Measure {
    pub(crate) const ALL: [Measure; 3] = [Measure::RoundTrips, Measure::Writes, Measure::WalBytes];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Measure::RoundTrips => "round trips",
            Measure::Writes => "writing transactions",
            Measure::WalBytes => "bytes of WAL",
        }
    }

    pub(crate) fn name_of_one(self) -> &'static str {
        match self {
            Measure::RoundTrips => "round trip",
            Measure::Writes => "writing transaction",
            Measure::WalBytes => "byte of WAL",
        }
    }

    /// Returns this measure of what was counted, if it was.
    pub(crate) fn of(self, counted: &Counted) -> Option<f64> {
        match self {
            Measure::RoundTrips => Some(counted.round_trips),
            Measure::Writes => counted.writes.map(|writes| writes as f64),
            Measure::WalBytes => counted.wal_bytes.map(|bytes| bytes as f64),
        }
    }
}
