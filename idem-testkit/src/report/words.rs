//! What the text and the page share: verdict, notes, times and lengths.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Difference, Failure, Mask, Moment, PlanReport, Report};
use crate::plan::Plan;

/// What the report comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Every window that was hit left one effect.
    Passed,
    /// One did not.
    Failed,
    /// No window was hit, so nothing is known.
    NothingTested,
}

impl Verdict {
    /// Returns the verdict's name, as the JSON has it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Verdict::Passed => "passed",
            Verdict::Failed => "failed",
            Verdict::NothingTested => "nothing_tested",
        }
    }
}

/// Something to know about a plan.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Note {
    /// The plan found the failure.
    Failed,
    /// A remark, such as why the plan was skipped.
    Remark(String),
}

impl Report {
    pub(super) fn verdict(&self) -> Verdict {
        if self.failure.is_some() {
            Verdict::Failed
        } else if self.hit() == 0 {
            Verdict::NothingTested
        } else {
            Verdict::Passed
        }
    }

    pub(super) fn hit(&self) -> usize {
        self.plans.iter().map(|plan| plan.hit).sum()
    }

    pub(super) fn windows(&self) -> usize {
        self.plans.iter().map(|plan| plan.windows).sum()
    }

    /// Returns what has to be said about a plan, so that windows that were left out do not go unseen.
    pub(super) fn notes(&self, plan: &PlanReport) -> Vec<Note> {
        let failed = self.failure.as_ref().is_some_and(|failure| failure.plan == plan.plan);
        let mut notes = Vec::new();
        if failed {
            notes.push(Note::Failed);
        }
        notes.extend(plan.bound.as_deref().map(|bound| Note::Remark(printable(bound).to_string())));
        match &plan.skipped {
            // What applies in part has been tried.
            Some(why) if plan.hit > 0 => notes.push(Note::Remark(printable(why))),
            Some(why) => notes.push(Note::Remark(format!("skipped: {}", printable(why)))),
            // After a failure nothing runs, so it is plain why.
            None if !failed && plan.hit < plan.windows => {
                notes.push(Note::Remark(format!("{} not hit", plan.windows - plan.hit)));
            }
            None => {}
        }
        notes
    }

    /// Returns the plans of which the report says nothing else.
    pub(super) fn not_run(&self) -> Vec<Plan> {
        let found = self.failure.as_ref().map(|failure| failure.plan);
        let ran: Vec<Plan> = self.plans.iter().map(|plan| plan.plan).chain(found).collect();
        Plan::ALL.into_iter().filter(|plan| !ran.contains(plan)).collect()
    }

    /// Returns a sentence for each observer, and one for the final error that the run ends with.
    pub(super) fn effects_in_words(&self) -> Vec<String> {
        let mut words: Vec<String> = match self.effects.as_slice() {
            [] => vec!["none is observed; only the database is compared".to_owned()],
            effects => effects
                .iter()
                .map(|(observer, times)| match times {
                    0 => format!("{} 0 (the observer saw nothing)", printable(observer)),
                    _ => format!("{} {times}", printable(observer)),
                })
                .collect(),
        };
        words.extend(
            self.refusal.iter().map(|refusal| format!("it ends with the final error {}", printable(refusal))),
        );
        words
    }
}

impl Mask {
    pub(super) fn name(&self) -> String {
        printable(&format!("{}.{}", self.table, self.column))
    }
}

impl Failure {
    /// Returns the workers of the timeline, without the testkit.
    pub(super) fn workers(&self) -> Vec<char> {
        let workers: BTreeSet<char> = self.timeline.iter().filter_map(Moment::worker).collect();
        workers.into_iter().collect()
    }

    /// Returns the row of a difference in three parts, of which the middle one is what the row of the other sign, if
    /// there is one, has otherwise. Together they have at most
    /// `most` chars, a quarter for each of what both rows have.
    pub(super) fn row(&self, at: usize, most: usize) -> Option<[String; 3]> {
        let (Difference::Missing { row, .. } | Difference::Extra { row, .. }) = &self.differences[at] else {
            return None;
        };
        let row = printable(row);
        let Some(other) = self.counterpart(at) else {
            return Some([cut(&row, most), String::new(), String::new()]);
        };
        let (row, other): (Vec<char>, Vec<char>) =
            (row.chars().collect(), printable(other).chars().collect());
        let same = |(a, b): &(&char, &char)| a == b;
        let before = row.iter().zip(&other).take_while(same).count();
        let after = row[before..].iter().rev().zip(other[before..].iter().rev()).take_while(same).count();
        let [before, changed, after] =
            [&row[..before], &row[before..row.len() - after], &row[row.len() - after..]]
                .map(|part| part.iter().collect::<String>());
        if row.len() <= most {
            return Some([before, changed, after]);
        }
        Some([cut(&before, most / 4), cut(&changed, most / 2), cut(&after, most / 4)])
    }

    /// Returns the row that is there in place of a missing one, or is missing in place of an extra one: the first of
    /// a table with the first, and so on.
    fn counterpart(&self, at: usize) -> Option<&str> {
        let sides = |difference: &Difference| match difference {
            Difference::Missing { table, .. } => Some((true, table.clone())),
            Difference::Extra { table, .. } => Some((false, table.clone())),
            _ => None,
        };
        let (missing, table) = sides(&self.differences[at])?;
        let like = |missing| {
            let of = Some((missing, table.clone()));
            move |difference: &&Difference| sides(difference) == of
        };
        let earlier = self.differences[..at].iter().filter(like(missing)).count();
        let other = self.differences.iter().filter(like(!missing)).nth(earlier)?;
        match other {
            Difference::Missing { row, .. } | Difference::Extra { row, .. } => Some(row),
            _ => None,
        }
    }
}

impl Moment {
    /// Returns the worker, or nothing for the testkit.
    pub(super) fn worker(&self) -> Option<char> {
        (self.worker != '-').then_some(self.worker)
    }

    /// Returns the time in milliseconds.
    pub(super) fn millis(&self) -> String {
        format!("{:.2}", self.at.as_secs_f64() * 1e3)
    }
}

/// Returns a duration with a unit that suits it.
pub(super) fn took(duration: Duration) -> String {
    // The limits lie where rounding reaches the next unit.
    if duration < Duration::from_micros(999_950) {
        format!("{:.1} ms", duration.as_secs_f64() * 1e3)
    } else if duration < Duration::from_millis(59_995) {
        format!("{:.2} s", duration.as_secs_f64())
    } else {
        let secs = (duration + Duration::from_millis(500)).as_secs();
        format!("{} min {:02} s", secs / 60, secs % 60)
    }
}

/// Returns the text on one line, with characters that would steer a terminal or cannot be seen written out.
pub(super) fn printable(text: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' => {
                printable.extend(char.escape_unicode());
            }
            _ if char.is_control() => printable.extend(char.escape_default()),
            _ => printable.push(char),
        }
    }
    printable
}

/// Returns the text with `…` for its middle if it has more than `most` chars.
pub(super) fn cut(text: &str, most: usize) -> String {
    let chars: Vec<char> = text.chars().collect();
    if chars.len() <= most {
        return text.to_owned();
    }
    let kept = most.saturating_sub(1);
    let (head, tail) = (kept.div_ceil(2), kept / 2);
    chars[..head].iter().chain(['…'].iter()).chain(&chars[chars.len() - tail..]).collect()
}

/// Returns the text in lines of at most `width` chars, broken after a space where one is near.
///
/// No space is lost: two rows that differ in one still differ here.
pub(super) fn wrap(text: &str, width: usize) -> Vec<String> {
    let width = width.max(1);
    let chars: Vec<char> = text.chars().collect();
    let mut rest = &chars[..];
    let mut lines = Vec::new();
    while rest.len() > width {
        let space = rest[..width].iter().rposition(|char| *char == ' ').map(|at| at + 1);
        let line = space.filter(|space| *space > width / 3).unwrap_or(width);
        lines.push(rest[..line].iter().collect());
        rest = &rest[line..];
    }
    lines.push(rest.iter().collect());
    lines
}

/// Returns the length in chars. East Asian characters take two columns of most terminals; nothing here minds.
pub(super) fn length(text: &str) -> usize {
    text.chars().count()
}
