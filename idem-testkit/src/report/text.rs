//! The report for a terminal.

use std::fmt;

use super::words::{Note, Verdict, cut, length, printable, took, wrap};
use super::{Difference, Failure, Moment, Report};

/// How wide a line is, as far as possible.
const WIDTH: usize = 110;
/// How long the heading shows a job's name or key.
const NAME: usize = 60;
/// How long a value is, of whatever kind; the JSON has it whole.
const VALUE: usize = 300;
/// How long a sentence is: what happened, and the hint.
const SENTENCE: usize = 1_000;
/// How many columns that are not compared, and how many differences, are shown.
const ENTRIES: usize = 30;
/// How many moments are shown: half of them from the beginning, half from the end.
const MOMENTS: usize = 60;
/// How many workers have a column each.
const COLUMNS: usize = 3;
/// How many lines one moment takes.
const MOMENT_LINES: usize = 3;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = Lines(Vec::new());
        heading(self, &mut lines);
        lines.push("");
        plans(self, &mut lines);
        lines.push("");
        lines.labelled("effects in a clean run: ", &self.effects_in_words().join(", "));
        masked(self, &mut lines);
        if let Some(failure) = &self.failure {
            lines.push("");
            self::failure(failure, &mut lines);
        }
        f.write_str(&lines.0.join("\n"))
    }
}

fn heading(report: &Report, lines: &mut Lines) {
    let verdict = match report.verdict() {
        Verdict::Passed => "passed",
        Verdict::Failed => "FAILED",
        Verdict::NothingTested => "NOTHING WAS TESTED",
    };
    let [job, key, database] =
        [&report.job, &report.key, &report.database].map(|name| cut(&printable(name), NAME));
    lines.push(&format!("{verdict}: {job}, key `{key}`, on {database}"));
}

fn plans(report: &Report, lines: &mut Lines) {
    let mut rows = vec![["plan", "windows", "time"].map(str::to_owned)];
    let hits = |hit, windows| if windows == 0 { "-".to_owned() } else { format!("{hit} of {windows}") };
    rows.extend(
        report
            .plans
            .iter()
            .map(|plan| [plan.plan.to_string(), hits(plan.hit, plan.windows), took(plan.took)]),
    );
    rows.push(["together".to_owned(), hits(report.hit(), report.windows()), took(report.took)]);

    let width = |column: usize| rows.iter().map(|row| length(&row[column])).max().unwrap_or(0);
    let widths = [width(0), width(1), width(2)];
    let indent = " ".repeat(2 + widths.iter().sum::<usize>() + 3 * 3);
    for (at, [name, windows, time]) in rows.iter().enumerate() {
        let row = format!("  {name:0$}   {windows:>1$}   {time:>2$}   ", widths[0], widths[1], widths[2]);
        // The first row is the heading, the last one the sum.
        let plan = at.checked_sub(1).and_then(|at| report.plans.get(at));
        let notes = plan.map(|plan| report.notes(plan)).unwrap_or_default();
        let notes = notes.into_iter().map(|note| match note {
            Note::Failed => "FAILED".to_owned(),
            Note::Remark(remark) => remark,
        });
        lines.hanging(&row, &indent, &cut(&notes.collect::<Vec<_>>().join("; "), VALUE));
    }
    let not_run: Vec<&str> = report.not_run().into_iter().map(|plan| plan.name()).collect();
    if !not_run.is_empty() {
        lines.push("");
        lines.labelled("not run: ", &not_run.join(", "));
    }
}

fn masked(report: &Report, lines: &mut Lines) {
    if report.masked.is_empty() {
        lines.labelled("compared: ", "every column of every table");
    }
    let mut label = "  not compared: ";
    let indent = " ".repeat(label.len());
    for mask in report.masked.iter().take(ENTRIES) {
        let because = printable(&mask.because);
        lines.hanging(label, &indent, &cut(&format!("{} ({because})", mask.name()), VALUE));
        label = &indent;
    }
    lines.left_out(&indent, report.masked.len().saturating_sub(ENTRIES), "columns");
}

fn failure(failure: &Failure, lines: &mut Lines) {
    lines.hanging(&format!("FAILED in {}: ", failure.plan), "  ", &cut(&printable(&failure.what), SENTENCE));
    lines.push("");
    differences(failure, lines);
    lines.push("");
    timeline(failure, lines);
    lines.push("");
    // Whole and on one line, for they are there to be copied.
    lines.push(&format!("  schedule:  {}", printable(&failure.schedule)));
    lines.push(&format!("  replay it: {}", printable(&failure.replay)));
    if let Some(hint) = &failure.hint {
        lines.labelled("hint:      ", &cut(&printable(hint), SENTENCE));
    }
    if let Some(kept) = &failure.kept {
        lines.push(&format!("  kept:      the database, as {}", printable(kept)));
    }
}

fn differences(failure: &Failure, lines: &mut Lines) {
    if failure.differences.is_empty() {
        lines.push("  nothing that a clean run leaves is different");
        return;
    }
    lines.push("  against a clean run:");
    let label = |difference: &Difference| match difference {
        Difference::Missing { table, .. } => format!("- missing row in {}: ", cut(&printable(table), NAME)),
        Difference::Extra { table, .. } => format!("+ extra row in {}: ", cut(&printable(table), NAME)),
        Difference::Effects { observer, .. } => format!("! effect {}: ", cut(&printable(observer), NAME)),
        Difference::Answer { .. } => "! answer: ".to_owned(),
        Difference::Law { .. } => "! law broken: ".to_owned(),
    };
    let shown = &failure.differences[..failure.differences.len().min(ENTRIES)];
    // Rows begin at the same column, so that one can be read against the other.
    let rows = shown
        .iter()
        .filter(|difference| matches!(difference, Difference::Missing { .. } | Difference::Extra { .. }));
    let width = rows.map(|difference| length(&label(difference))).max().unwrap_or(0);
    for (at, difference) in shown.iter().enumerate() {
        let mut label = format!("    {}", label(difference));
        match difference {
            Difference::Missing { .. } | Difference::Extra { .. } => {
                let row = failure.row(at, VALUE).unwrap_or_default().concat();
                lines.hanging(&format!("{label:0$}", width + 4), &" ".repeat(width + 4), &row);
            }
            Difference::Effects { expected, found, .. } => {
                label.push_str(&format!("expected {expected}, found {found}"));
                lines.push(&label);
            }
            Difference::Answer { expected, found } => {
                let indent = " ".repeat(length(&label));
                lines.hanging(&format!("{label}expected "), &indent, &cut(&printable(expected), VALUE));
                lines.hanging(&format!("{indent}found    "), &indent, &cut(&printable(found), VALUE));
            }
            Difference::Law { law, found } => {
                let indent = " ".repeat(length(&label));
                lines.hanging(&label, &indent, &cut(&printable(law), VALUE));
                lines.hanging(&format!("{indent}found: "), &indent, &cut(&printable(found), VALUE));
            }
        }
    }
    lines.left_out("    ", failure.differences.len() - shown.len(), "differences");
}

fn timeline(failure: &Failure, lines: &mut Lines) {
    if failure.timeline.is_empty() {
        lines.push("  timeline: no moment was recorded");
        return;
    }
    let workers = failure.workers();
    let times = failure.timeline.iter().map(|moment| length(&moment.millis())).max().unwrap_or(0).max(2);
    let columns = if workers.len() > COLUMNS { 1 } else { workers.len().max(1) };
    // A column and the gap after it.
    let pitch = (WIDTH - times - 4) / columns;

    lines.push("  timeline:");
    let mut heading = format!("  {:>times$}  ", "ms");
    if workers.len() <= COLUMNS {
        for worker in &workers {
            heading.push_str(&format!("{:pitch$}", format!("worker {worker}")));
        }
    }
    lines.push(&heading);
    let left_out = failure.timeline.len().saturating_sub(MOMENTS);
    for (at, moment) in failure.timeline.iter().enumerate() {
        if left_out > 0 && at == MOMENTS / 2 {
            lines.left_out(&" ".repeat(times + 4), left_out, "moments");
        }
        if (MOMENTS / 2..MOMENTS / 2 + left_out).contains(&at) {
            continue;
        }
        let (column, what) = place(moment, &workers);
        let width = if moment.worker().is_some() { pitch - 2 } else { WIDTH - times - 4 };
        let mut time = moment.millis();
        for line in wrap(&cut(&what, width * MOMENT_LINES), width) {
            lines.push(&format!("  {time:>times$}  {}{line}", " ".repeat(column * pitch)));
            time.clear();
        }
    }
}

/// Returns a moment's column and what it says: where there are too many workers for columns, the letter as well.
fn place(moment: &Moment, workers: &[char]) -> (usize, String) {
    let what = printable(&moment.what);
    match moment.worker() {
        None => (0, format!("-- {what}")),
        Some(worker) if workers.len() > COLUMNS => (0, format!("{}: {what}", printable(&worker.to_string()))),
        Some(worker) => (workers.iter().position(|other| *other == worker).unwrap_or(0), what),
    }
}

/// The lines so far.
struct Lines(Vec<String>);

impl Lines {
    fn push(&mut self, line: &str) {
        self.0.push(line.trim_end().to_owned());
    }

    /// Adds a text after `first`, with `indent` before every further line.
    fn hanging(&mut self, first: &str, indent: &str, text: &str) {
        let width = WIDTH.saturating_sub(length(first).max(length(indent))).max(WIDTH / 4);
        let mut before = first;
        for line in wrap(text, width) {
            self.push(&format!("{before}{line}"));
            before = indent;
        }
    }

    fn labelled(&mut self, label: &str, text: &str) {
        self.hanging(&format!("  {label}"), &" ".repeat(2 + length(label)), text);
    }

    fn left_out(&mut self, indent: &str, count: usize, what: &str) {
        if count > 0 {
            self.push(&format!("{indent}… {count} more {what}, which the JSON has"));
        }
    }
}
