//! The report as one page that needs nothing else: no script, no font, no network.

use std::fmt::{self, Write as _};

use super::words::{Note, Verdict, cut, printable, took, wrap};
use super::{Difference, Failure, Report};

/// How long a value is, of whatever kind; the JSON has it whole.
const VALUE: usize = 4_000;
/// How many columns that are not compared, and how many differences, are shown.
const ENTRIES: usize = 300;
/// How many moments are drawn: half of them from the beginning, half from the end.
const MOMENTS: usize = 600;

impl Report {
    /// Returns the report as a page: complete in itself, in a light or dark scheme as the reader prefers, fit for
    /// printing. Only very long values and lists are cut; [`Report::json`] has them whole.
    pub fn html(&self) -> String {
        let mut page = Page(String::new());
        head(self, &mut page);
        if let Some(failure) = &self.failure {
            self::failure(failure, &mut page);
        }
        plans(self, &mut page);
        compared(self, &mut page);
        page.0.push_str("<footer>Numbers of windows say how many were hit and how many exist.</footer>\n");
        page.0.push_str("</main>\n</body>\n</html>\n");
        page.0
    }
}

fn head(report: &Report, page: &mut Page) {
    let verdict = report.verdict();
    let words = match verdict {
        Verdict::Passed => "passed",
        Verdict::Failed => "failed",
        Verdict::NothingTested => "nothing was tested",
    };
    let [job, key, database] = [&report.job, &report.key, &report.database].map(|name| Escaped::new(name));
    let test = report.test.as_deref().map(|test| format!(" in <b>{}</b>", Escaped::new(test)));
    let test = test.unwrap_or_default();
    let check = if report.check > 1 { format!(", check {}", report.check) } else { String::new() };
    // The policy is a second lock behind the escaping.
    page.add(format_args!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <title>{words}: {job}, key {key}, on {database}</title>\n<style>\n{}</style>\n</head>\n<body>\n<main>\n\
         <h1>{job}</h1>\n\
         <p class=\"of\">key <b>{key}</b> on <b>{database}</b>{test}{check}, {} of {} windows hit in {}</p>\n\
         <p><span class=\"verdict {}\">{words}</span></p>\n",
        include_str!("page.css"),
        report.hit(),
        report.windows(),
        took(report.took),
        verdict.name(),
    ));
}

fn failure(failure: &Failure, page: &mut Page) {
    let what = Escaped::new(&failure.what);
    page.add(format_args!(
        "<h2>What happened</h2>\n<p class=\"what\"><b>{}</b>: {what}</p>\n<dl>\n",
        failure.plan
    ));
    if let Some(hint) = &failure.hint {
        page.add(format_args!("<dt>hint</dt><dd>{}</dd>\n", Escaped::new(hint)));
    }
    // Whole, for they are there to be copied.
    let copied = [
        ("schedule", Some(&failure.schedule)),
        ("replay it", Some(&failure.replay)),
        ("database kept as", failure.kept.as_ref()),
    ];
    for (name, text) in copied {
        if let Some(text) = text {
            page.add(format_args!("<dt>{name}</dt><dd><code>{}</code></dd>\n", Escaped::whole(text)));
        }
    }
    page.0.push_str("</dl>\n<h2>Against a clean run</h2>\n");
    differences(failure, page);
    page.0.push_str("<h2>Timeline</h2>\n");
    if failure.timeline.is_empty() {
        page.0.push_str("<p class=\"soft\">No moment was recorded.</p>\n");
    } else {
        timeline(failure, page);
    }
}

fn differences(failure: &Failure, page: &mut Page) {
    if failure.differences.is_empty() {
        page.0.push_str("<p class=\"soft\">Nothing that a clean run leaves is different.</p>\n");
        return;
    }
    page.0.push_str("<table class=\"diff\">\n");
    for (at, difference) in failure.differences.iter().enumerate().take(ENTRIES) {
        let (class, sign) = match difference {
            Difference::Missing { .. } => ("missing", "-"),
            Difference::Extra { .. } => ("extra", "+"),
            _ => ("other", "!"),
        };
        page.add(format_args!("<tr class=\"{class}\"><td class=\"sign\">{sign}</td>"));
        match difference {
            Difference::Missing { table, .. } | Difference::Extra { table, .. } => {
                let parts = failure.row(at, VALUE).unwrap_or_default();
                let [before, changed, after] = parts.each_ref().map(|part| Escaped::new(part));
                page.add(format_args!(
                    "<td class=\"kind\">{class} row in {}</td><td class=\"row\">{before}",
                    Escaped::new(table)
                ));
                if !parts[1].is_empty() {
                    page.add(format_args!("<mark>{changed}</mark>"));
                }
                page.add(format_args!("{after}</td>"));
            }
            Difference::Effects { observer, expected, found } => page.add(format_args!(
                "<td class=\"kind\">effect {}</td><td>\
                 <span class=\"side\">expected</span>{expected}<br><span class=\"side\">found</span><b>{found}</b></td>",
                Escaped::new(observer)
            )),
            Difference::Answer { expected, found } => page.add(format_args!(
                "<td class=\"kind\">answer</td><td>\
                 <span class=\"side\">expected</span><span class=\"row\">{}</span><br>\
                 <span class=\"side\">found</span><span class=\"row\">{}</span></td>",
                Escaped::new(expected),
                Escaped::new(found)
            )),
            Difference::Law { law, found } => page.add(format_args!(
                "<td class=\"kind\">law broken</td><td>{}<br>\
                 <span class=\"side\">found</span><span class=\"row\">{}</span></td>",
                Escaped::new(law),
                Escaped::new(found)
            )),
        }
        page.0.push_str("</tr>\n");
    }
    page.0.push_str("</table>\n");
    page.left_out(failure.differences.len().saturating_sub(ENTRIES), "differences");
}

fn plans(report: &Report, page: &mut Page) {
    page.0.push_str(
        "<h2>Plans</h2>\n<table>\n<tr><th>plan</th><th class=\"number\">windows</th><th class=\"number\">time</th>\
         <th></th></tr>\n",
    );
    let hits = |hit, windows| if windows == 0 { "-".to_owned() } else { format!("{hit} of {windows}") };
    for plan in &report.plans {
        page.add(format_args!(
            "<tr><td class=\"name\">{}</td><td class=\"number\">{}</td><td class=\"number\">{}</td><td>",
            plan.plan,
            hits(plan.hit, plan.windows),
            took(plan.took),
        ));
        for note in report.notes(plan) {
            match note {
                Note::Failed => page.0.push_str("<span class=\"bad\">failed</span> "),
                Note::Remark(remark) => {
                    page.add(format_args!("<span class=\"soft\">{}</span>", Escaped::new(&remark)));
                }
            }
        }
        page.0.push_str("</td></tr>\n");
    }
    page.add(format_args!(
        "<tr class=\"sum\"><td>together</td><td class=\"number\">{}</td><td class=\"number\">{}</td><td></td></tr>\n\
         </table>\n",
        hits(report.hit(), report.windows()),
        took(report.took),
    ));
    let not_run: Vec<&str> = report.not_run().into_iter().map(|plan| plan.name()).collect();
    if !not_run.is_empty() {
        page.add(format_args!("<p class=\"soft\">Not run: {}</p>\n", not_run.join(", ")));
    }
}

fn compared(report: &Report, page: &mut Page) {
    page.0.push_str("<h2>Effects in a clean run</h2>\n");
    for effect in report.effects_in_words() {
        page.add(format_args!("<p>{}</p>\n", Escaped::new(&effect)));
    }
    page.0.push_str("<h2>Not compared</h2>\n");
    if report.masked.is_empty() {
        page.0.push_str("<p>No column is left out.</p>\n");
        return;
    }
    page.0.push_str("<table>\n<tr><th>column</th><th>because</th></tr>\n");
    for mask in report.masked.iter().take(ENTRIES) {
        let because = Escaped::new(&mask.because);
        page.add(format_args!(
            "<tr><td>{}</td><td class=\"row\">{because}</td></tr>\n",
            Escaped::new(&mask.name())
        ));
    }
    page.0.push_str("</table>\n");
    page.left_out(report.masked.len().saturating_sub(ENTRIES), "columns");
}

/// How wide the drawing is, unless there are very many workers.
const DRAWING: usize = 1_030;
/// Where the times end and the lanes begin.
const TIMES: usize = 74;
/// From one line to the next.
const LINE: usize = 17;
/// The height of the names of the workers.
const NAMES: usize = 30;
/// How many workers have their words next to their lane. With more, the lanes are narrow and all words are to their
/// right.
const WIDE_LANES: usize = 3;
/// A generous tenth of a char's width in the monospaced fonts in use.
const CHAR_TENTHS: usize = 74;
/// How many lines one moment takes.
const MOMENT_LINES: usize = 12;

/// Where the lanes are, in pixels.
struct Lanes {
    /// From one lane to the next.
    pitch: usize,
    /// Where words of the testkit begin, and those of workers if lanes are narrow.
    words: usize,
    narrow: bool,
    /// How many chars a line of a worker and one of the testkit have.
    chars: usize,
    wide_chars: usize,
    width: usize,
}

impl Lanes {
    fn new(workers: usize) -> Lanes {
        let narrow = workers > WIDE_LANES;
        let pitch = if narrow { 26 } else { (DRAWING - TIMES) / workers.max(1) };
        let words = if narrow { TIMES + workers * pitch + 12 } else { TIMES + 34 };
        let chars = |width: usize| (width * 10 / CHAR_TENTHS).max(30);
        let wide_chars = chars(DRAWING.saturating_sub(words + 12));
        let width = DRAWING.max(words + wide_chars * CHAR_TENTHS / 10);
        // The letter of a worker takes three.
        let chars = if narrow { wide_chars - 3 } else { chars(pitch - 44) };
        Lanes { pitch, words, narrow, chars, wide_chars, width }
    }

    /// Returns the middle of a lane.
    fn middle(&self, lane: usize) -> usize {
        TIMES + 20 + lane * self.pitch
    }
}

/// One row of the drawing.
struct Row<'a> {
    time: String,
    /// The worker's lane; nothing for the testkit, and for what is left out.
    lane: Option<usize>,
    class: &'a str,
    lines: Vec<String>,
    top: usize,
}

impl Row<'_> {
    fn height(&self) -> usize {
        self.lines.len() * LINE + 10
    }
}

/// Draws the timeline: time goes down, each worker has a lane, and its moments are points on it with a bar from the
/// first to the last. What the testkit does goes across all lanes, and so does what was found in the end.
fn timeline(failure: &Failure, page: &mut Page) {
    let workers = failure.workers();
    let lanes = Lanes::new(workers.len());
    let rows = rows(failure, &workers, &lanes);
    let end = rows.last().map_or(NAMES, |row| row.top);
    let height = rows.last().map_or(NAMES, |row| row.top + row.height()) + 4;
    page.add(format_args!(
        "<div class=\"scroll\"><svg width=\"{0}\" height=\"{height}\" viewBox=\"0 0 {0} {height}\">\n",
        lanes.width
    ));
    page.add(format_args!("<text class=\"time head\" x=\"{}\" y=\"18\">ms</text>\n", TIMES - 8));

    // Bands first, then lanes, then what is written over both.
    for row in rows.iter().filter(|row| row.lane.is_none()) {
        let (class, left, right) = (row.class, TIMES, lanes.width);
        page.add(format_args!(
            "<rect class=\"{class}\" x=\"{left}\" y=\"{0}\" width=\"{1}\" height=\"{2}\"/>\
             <line class=\"{class}-edge\" x1=\"{left}\" y1=\"{0}\" x2=\"{right}\" y2=\"{0}\"/>\n",
            row.top + 1,
            right - left,
            row.height() - 2,
        ));
    }
    for (lane, worker) in workers.iter().enumerate() {
        let (x, color) = (lanes.middle(lane), lane % 4);
        let name = if lanes.narrow { worker.to_string() } else { format!("worker {worker}") };
        let at = if lanes.narrow { x - 4 } else { x + 14 };
        page.add(format_args!(
            "<text class=\"head w{color}\" x=\"{at}\" y=\"18\">{}</text>\
             <line class=\"lane w{color}\" x1=\"{x}\" y1=\"{NAMES}\" x2=\"{x}\" y2=\"{end}\"/>\n",
            Escaped::new(&name)
        ));
        let mut points = rows.iter().filter(|row| row.lane == Some(lane)).map(|row| row.top + LINE / 2 + 4);
        if let Some(first) = points.next() {
            let last = points.next_back().unwrap_or(first);
            page.add(format_args!(
                "<line class=\"bar w{color}\" x1=\"{x}\" y1=\"{first}\" x2=\"{x}\" y2=\"{last}\"/>\n"
            ));
        }
    }
    for row in &rows {
        draw(row, &workers, &lanes, page);
    }
    page.0.push_str("</svg></div>\n");
}

fn draw(row: &Row<'_>, workers: &[char], lanes: &Lanes, page: &mut Page) {
    let base = row.top + LINE;
    page.add(format_args!("<text class=\"time\" x=\"{}\" y=\"{base}\">{}</text>", TIMES - 8, row.time));
    let mut x = lanes.words;
    if let Some(lane) = row.lane {
        let (middle, y, color) = (lanes.middle(lane), row.top + LINE / 2 + 4, lane % 4);
        if lanes.narrow {
            page.add(format_args!(
                "<line class=\"rule\" x1=\"{middle}\" y1=\"{y}\" x2=\"{}\" y2=\"{y}\"/>\
                 <text class=\"head w{color}\" x=\"{x}\" y=\"{base}\">{}</text>",
                x - 6,
                Escaped::new(&workers[lane].to_string())
            ));
            x += 20;
        } else {
            x = middle + 14;
        }
        page.add(format_args!("<circle class=\"w{color}\" cx=\"{middle}\" cy=\"{y}\" r=\"5\"/>"));
    }
    for (at, line) in row.lines.iter().enumerate() {
        let (y, line) = (base + at * LINE, Escaped::new(line));
        page.add(format_args!("<text class=\"{}-text\" x=\"{x}\" y=\"{y}\">{line}</text>", row.class));
    }
    page.0.push('\n');
}

fn rows<'a>(failure: &Failure, workers: &[char], lanes: &Lanes) -> Vec<Row<'a>> {
    let mut rows: Vec<Row<'a>> = Vec::new();
    let mut top = NAMES;
    let mut add = |time: String, lane: Option<usize>, class: &'a str, text: &str| {
        let chars = if lane.is_some() { lanes.chars } else { lanes.wide_chars };
        let lines = wrap(&cut(&printable(text), chars * MOMENT_LINES), chars);
        let row = Row { time, lane, class, lines, top };
        top += row.height();
        rows.push(row);
    };
    let left_out = failure.timeline.len().saturating_sub(MOMENTS);
    for (at, moment) in failure.timeline.iter().enumerate() {
        if left_out > 0 && at == MOMENTS / 2 {
            add(String::new(), None, "testkit", &format!("… {left_out} more moments, which the JSON has"));
        }
        if (MOMENTS / 2..MOMENTS / 2 + left_out).contains(&at) {
            continue;
        }
        match moment.worker() {
            Some(worker) => {
                let lane = workers.iter().position(|other| *other == worker);
                add(moment.millis(), lane, "moment", &moment.what);
            }
            None => add(moment.millis(), None, "testkit", &moment.what),
        }
    }
    add(String::new(), None, "end", &format!("in the end: {}", failure.what));
    rows
}

/// The page so far. Whatever comes from a report goes through [`Escaped`] first.
struct Page(String);

impl Page {
    fn add(&mut self, markup: fmt::Arguments<'_>) {
        self.0.write_fmt(markup).expect("a string takes whatever is written");
    }

    fn left_out(&mut self, count: usize, what: &str) {
        if count > 0 {
            self.add(format_args!("<p class=\"soft\">… {count} more {what}, which the JSON has.</p>\n"));
        }
    }
}

/// A text that says in HTML what it says, as an element's content or a quoted attribute.
struct Escaped(String);

impl Escaped {
    fn new(text: &str) -> Escaped {
        Escaped::whole(&cut(text, VALUE))
    }

    /// Does not cut the text.
    fn whole(text: &str) -> Escaped {
        let mut escaped = String::with_capacity(text.len());
        for char in printable(text).chars() {
            match char {
                '&' => escaped.push_str("&amp;"),
                '<' => escaped.push_str("&lt;"),
                '>' => escaped.push_str("&gt;"),
                '"' => escaped.push_str("&quot;"),
                '\'' => escaped.push_str("&#39;"),
                _ => escaped.push(char),
            }
        }
        Escaped(escaped)
    }
}

impl fmt::Display for Escaped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
