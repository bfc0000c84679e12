//! Where idem is ahead, and where it is behind.

use crate::figures::{Counted, Figures, Load, Row, Run};
use crate::targets::{COUNTS, CountTarget, Limit, Measure, RATES, RateTarget};
use crate::{Contender, Form, Store};

/// What idem did beside one other contender, under each load.
pub(crate) struct Beside {
    pub(crate) store: Store,
    pub(crate) form: Form,
    pub(crate) other: Contender,
    pub(crate) points: Vec<Point>,
}

/// Both of them under one load.
pub(crate) struct Point {
    pub(crate) load: Load,
    /// idem's rate as a share of the other's in the same round, the median.
    pub(crate) ratio: f64,
    /// The smallest of the rounds.
    pub(crate) least: f64,
    /// The largest of the rounds.
    pub(crate) most: f64,
    /// The time that nearly all calls stay below, idem's and the other's, in microseconds.
    pub(crate) p99_us: [f64; 2],
}

/// Compares idem with every other contender that did the same.
pub(crate) fn beside_others(run: &Run) -> Vec<Beside> {
    let mut all: Vec<Beside> = Vec::new();
    for figures in &run.figures {
        for other in figures.rows.iter().filter(|row| row.contender != Contender::Idem) {
            let Some(own) = idem_beside(figures, other) else { continue };
            let (store, form) = (other.store, other.form);
            let place = all.iter().position(|beside| {
                (beside.store, beside.form, beside.other) == (store, form, other.contender)
            });
            let place = place.unwrap_or_else(|| {
                all.push(Beside { store, form, other: other.contender, points: Vec::new() });
                all.len() - 1
            });
            all[place].points.push(point(own, other));
        }
    }
    all
}

fn idem_beside<'f>(figures: &'f Figures, other: &Row) -> Option<&'f Row> {
    let is_own = |row: &&Row| {
        row.contender == Contender::Idem
            && (row.store, row.form, row.load) == (other.store, other.form, other.load)
    };
    figures.rows.iter().find(is_own)
}

fn point(own: &Row, other: &Row) -> Point {
    Point {
        load: own.load,
        ratio: as_printed(own.ratio(other)),
        least: own.ratios(other).fold(f64::INFINITY, f64::min),
        most: own.ratios(other).fold(0.0, f64::max),
        p99_us: [own.p99_us(), other.p99_us()],
    }
}

/// Rounds as the page does, so that what it prints as 1.00 is not behind.
fn as_printed(ratio: f64) -> f64 {
    (ratio * 100.0).round() / 100.0
}

impl Point {
    /// Tells whether idem did less than the other in the same time.
    pub(crate) fn is_behind(&self) -> bool {
        self.ratio < 1.0
    }

    /// Tells whether the rounds disagree about which of the two is faster.
    pub(crate) fn is_in_doubt(&self) -> bool {
        self.least < 1.0 && self.most > 1.0
    }

    /// Tells whether idem's slowest calls take longer than the other's by more than a tenth.
    pub(crate) fn is_slow_at_worst(&self) -> bool {
        self.p99_us[0] > 1.1 * self.p99_us[1]
    }
}

/// A target, and what was measured.
pub(crate) struct Reached<T: 'static> {
    pub(crate) target: &'static T,
    pub(crate) store: Store,
    pub(crate) measured: f64,
    pub(crate) limit: f64,
    pub(crate) is_met: bool,
}

/// Compares idem with the rates that it is to reach.
pub(crate) fn rate_targets(beside: &[Beside]) -> Vec<Reached<RateTarget>> {
    let reached = |target: &'static RateTarget| {
        let beside = beside.iter().find(|beside| {
            (beside.store, beside.form, beside.other) == (target.store, target.form, target.against)
        })?;
        let point = beside.points.iter().find(|point| point.load.callers == target.callers)?;
        Some(Reached {
            target,
            store: target.store,
            measured: point.ratio,
            limit: target.at_least,
            is_met: point.ratio >= target.at_least,
        })
    };
    RATES.iter().filter_map(reached).collect()
}

/// Compares idem with the counts that it is not to exceed.
pub(crate) fn count_targets(run: &Run) -> Vec<Reached<CountTarget>> {
    let mut all = Vec::new();
    for own in counted(run).filter(|counted| counted.contender == Contender::Idem) {
        for target in COUNTS.iter().filter(|target| target.form == own.form) {
            let Some(measured) = target.measure.of(own) else { continue };
            let limit = match target.at_most {
                Limit::Is(limit) => limit,
                Limit::BeyondBare(more) => {
                    let is_bare = |other: &&Counted| {
                        (other.store, other.form, other.contender)
                            == (own.store, own.form, Contender::BareOwn)
                    };
                    let bare = counted(run).find(is_bare).and_then(|bare| target.measure.of(bare));
                    let Some(bare) = bare else { continue };
                    bare + more
                }
            };
            all.push(Reached { target, store: own.store, measured, limit, is_met: measured <= limit });
        }
    }
    all
}

/// A count of idem's that is above another's.
pub(crate) struct Dearer {
    pub(crate) store: Store,
    pub(crate) form: Form,
    pub(crate) other: Contender,
    pub(crate) measure: Measure,
    pub(crate) own: f64,
    pub(crate) others: f64,
}

/// Finds what costs more with idem than with another contender that is no floor.
pub(crate) fn dearer(run: &Run) -> Vec<Dearer> {
    let mut all = Vec::new();
    for own in counted(run).filter(|counted| counted.contender == Contender::Idem) {
        let is_rival = |other: &&Counted| {
            (other.store, other.form) == (own.store, own.form)
                && other.contender != Contender::Idem
                && !other.contender.is_floor()
        };
        for other in counted(run).filter(is_rival) {
            for measure in Measure::ALL {
                if let (Some(measured), Some(others)) = (measure.of(own), measure.of(other))
                    && measured > others
                {
                    all.push(Dearer {
                        store: own.store,
                        form: own.form,
                        other: other.contender,
                        measure,
                        own: measured,
                        others,
                    });
                }
            }
        }
    }
    all
}

fn counted(run: &Run) -> impl Iterator<Item = &Counted> {
    run.figures.iter().flat_map(|figures| &figures.counted)
}
