//! The renderings. The samples are read best in `samples`; `UPDATE=1 cargo test` writes them anew.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use super::{Difference, Failure, Mask, Moment, PlanReport, Report, words};
use crate::plan::Plan;

/// A report of a check that found nothing wrong, with a plan that does not apply and one that was cut short.
fn fine() -> Report {
    Report {
        job: "process_payment".to_owned(),
        key: "payment_id = 42".to_owned(),
        test: None,
        check: 1,
        database: "sqlite".to_owned(),
        plans: vec![
            plan(Plan::Repeat, 3, 3, 4_210),
            plan(Plan::Concurrent, 1, 1, 61_900),
            plan(Plan::Crash, 14, 14, 310_400),
            plan(Plan::LostAck, 2, 2, 48_000),
            PlanReport {
                skipped: Some(
                    "SQLite has one writer at a time, so nobody else can write a record while the job's transaction \
                     is open"
                        .to_owned(),
                ),
                ..plan(Plan::Rival, 0, 0, 0)
            },
            plan(Plan::Interleavings, 126, 200, 10_004_900),
        ],
        masked: vec![
            mask("orders", "created_at", "2026-08-01 10:00:00.123 and 2026-08-01 10:00:00.456"),
            mask("charges", "id", "a sequence, which a rollback does not wind back"),
        ],
        effects: vec![("charges".to_owned(), 1), ("emails".to_owned(), 0)],
        refusal: None,
        took: Duration::from_micros(10_512_345),
        failure: None,
    }
}

/// A report of a job that charges twice, with two workers.
fn failed() -> Report {
    let plans = vec![
        plan(Plan::Repeat, 3, 3, 4_210),
        plan(Plan::Concurrent, 1, 1, 61_900),
        plan(Plan::Crash, 5, 14, 310_400),
    ];
    Report {
        key: "payment_id = 42, tenant = \"north\"".to_owned(),
        database: "postgres".to_owned(),
        plans,
        masked: Vec::new(),
        effects: vec![("charges".to_owned(), 1)],
        took: Duration::from_micros(402_345),
        failure: Some(failure()),
        ..fine()
    }
}

fn failure() -> Failure {
    Failure {
        plan: Plan::Crash,
        schedule: "crash:after=charge,before=commit".to_owned(),
        what: "worker A crashed after the charge and before COMMIT; worker B ran the job again and charged a second \
               time"
            .to_owned(),
        differences: vec![
            Difference::Missing {
                table: "payments".to_owned(),
                row: "id = 42, state = 'paid', charge = 'ch_1', note = null".to_owned(),
            },
            Difference::Extra {
                table: "payments".to_owned(),
                row: "id = 42, state = 'paid', charge = 'ch_2', note = null".to_owned(),
            },
            Difference::Extra {
                table: "audit".to_owned(),
                row: "payment = 42, what = 'charged again'".to_owned(),
            },
            Difference::Effects { observer: "charges".to_owned(), expected: 1, found: 2 },
            Difference::Answer {
                expected: "Ok(Receipt { charge_id: \"ch_1\" })".to_owned(),
                found: "Ok(Receipt { charge_id: \"ch_2\" })".to_owned(),
            },
            Difference::Law {
                law: "a completed record never changes".to_owned(),
                found: "the result of the record went from 17 to 21 bytes".to_owned(),
            },
        ],
        timeline: vec![
            moment(0, 'A', "begin: locks the key and reads its record"),
            moment(410, 'A', "calls the gateway: charge of 42"),
            moment(620, 'B', "begin: waits for the key"),
            moment(1_022, '-', "cuts the connection of A before COMMIT"),
            moment(1_030, 'A', "commit: the connection is gone"),
            moment(2_500, 'B', "holds the key and finds no record, since the transaction of A was rolled back by the server"),
            moment(2_740, 'B', "calls the gateway: charge of 42"),
            moment(12_950, 'B', "commit: writes the record"),
        ],
        replay: "IDEM_REPLAY='crash:after=charge,before=commit' cargo test -p shop --test payments charges_once -- \
                 --exact"
            .to_owned(),
        hint: Some(
            "the gateway is called inside of the transaction and a rollback does not undo it; give the gateway an \
             idempotency key made of the job's key, or make the job `guarded`"
                .to_owned(),
        ),
        kept: Some("idem_lab_process_payment_3".to_owned()),
    }
}

fn plan(plan: Plan, hit: usize, windows: usize, micros: u64) -> PlanReport {
    PlanReport { plan, windows, hit, took: Duration::from_micros(micros), bound: None, skipped: None }
}

fn mask(table: &str, column: &str, because: &str) -> Mask {
    Mask { table: table.to_owned(), column: column.to_owned(), because: because.to_owned() }
}

fn moment(micros: u64, worker: char, what: &str) -> Moment {
    Moment { at: Duration::from_micros(micros), worker, what: what.to_owned() }
}

fn with(change: impl FnOnce(&mut Failure)) -> Report {
    let mut failure = failure();
    change(&mut failure);
    Report { failure: Some(failure), ..failed() }
}

/// A report with more of everything than is shown.
fn huge() -> Report {
    let mut report = with(|failure| {
        failure.timeline = (0..1_000)
            .map(|at| moment(at * 1_000, char::from(b'A' + (at % 26) as u8), &format!("step {at}")))
            .collect();
        failure.differences = (0..1_000)
            .map(|at| Difference::Extra { table: "orders".to_owned(), row: format!("id = {at}") })
            .collect();
    });
    report.masked = (0..1_000).map(|at| mask("orders", &format!("column_{at}"), "random")).collect();
    report
}

#[track_caller]
fn check_sample(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/report/samples").join(name);
    if env::var_os("UPDATE").is_some() {
        fs::write(&path, format!("{text}\n")).expect("the sample can be written");
    }
    let recorded = fs::read_to_string(&path).expect("the sample can be read");
    assert!(format!("{text}\n") == recorded, "the text has changed; does it still read well?\n{text}");
}

/// Checks that every tag is closed, in order, and that no `<` or `&` stands alone.
#[track_caller]
fn check_markup(page: &str) {
    let mut open = Vec::new();
    let body = page.strip_prefix("<!doctype html>").expect("a page says that it is HTML");
    for part in body.split('<').skip(1) {
        let (tag, text) = part.split_once('>').unwrap_or_else(|| panic!("a tag does not end: {part}"));
        assert!(!text.contains('>') || open.last() == Some(&"style"), "a `>` stands alone: {part}");
        let name = tag.trim_end_matches('/').split(' ').next().unwrap_or_default();
        match name.strip_prefix('/') {
            Some(name) => assert_eq!(open.pop(), Some(name), "{part}"),
            None if tag.ends_with('/') || ["meta", "br"].contains(&name) => {}
            None => open.push(name),
        }
    }
    assert!(open.is_empty(), "left open: {open:?}");
    for part in page.split('&').skip(1) {
        let known = ["amp;", "lt;", "gt;", "quot;", "#39;"].iter().any(|entity| part.starts_with(entity));
        assert!(known, "a `&` stands alone: {part}");
    }
}

/// A directory of its own for one test, which is gone at the end.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Dir {
        let dir = env::temp_dir().join(format!("idem-report-{name}-{}", std::process::id()));
        assert!(!dir.exists(), "{} is in the way", dir.display());
        Dir(dir)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn the_texts_read_as_recorded() {
    check_sample("fine.txt", &fine().to_string());
    check_sample("failed.txt", &failed().to_string());
    check_sample("narrow.txt", &four_workers().to_string());
}

/// More workers than have a column each, rows too long to show and values that nobody would print.
fn four_workers() -> Report {
    let long = |charge: &str| {
        format!("id = 42, before = '{}', charge = {charge}, after = '{}'", "x".repeat(500), "y".repeat(500))
    };
    with(|failure| {
        failure.timeline =
            (0..8).map(|at| moment(at * 300, char::from(b'A' + (at % 4) as u8), "begin")).collect();
        failure.timeline.push(moment(2_400, '-', "lets all of them go on"));
        failure.differences = vec![
            Difference::Missing { table: "payments".to_owned(), row: long("'ch_1'") },
            Difference::Extra { table: "payments".to_owned(), row: long("'ch_2'") },
            Difference::Extra {
                table: "notes".to_owned(),
                row: "text = 'one\ntwo \u{1b}[31mred'".to_owned(),
            },
        ];
        failure.hint = None;
        failure.kept = None;
    })
}

#[test]
fn lines_stay_narrow_unless_they_are_there_to_be_copied() {
    for report in [fine(), failed(), huge(), four_workers()] {
        for line in report.to_string().lines() {
            let copied = ["schedule:", "replay it:"].iter().any(|label| line.trim_start().starts_with(label));
            assert!(copied || words::length(line) <= 110, "{line}");
            assert_eq!(line, line.trim_end());
        }
    }
}

#[test]
fn what_is_copied_is_whole_everywhere() {
    let replay = format!("IDEM_REPLAY='{}' cargo test", "crash,".repeat(2_000));
    let report = with(|failure| {
        failure.replay.clone_from(&replay);
        failure.schedule = "step,".repeat(2_000);
    });
    assert!(report.to_string().contains(&format!("  replay it: {replay}\n")));
    assert!(report.to_string().contains(&"step,".repeat(2_000)));
    assert!(report.html().contains(&replay.replace('\'', "&#39;")));
    assert!(report.html().contains(&"step,".repeat(2_000)));
}

#[test]
fn a_report_of_nothing_does_not_pass() {
    let nothing = Report { plans: Vec::new(), ..fine() };
    assert!(nothing.to_string().starts_with("NOTHING WAS TESTED"), "{nothing}");
    assert!(nothing.html().contains("nothing was tested"));
    let skipped = Report { plans: vec![plan(Plan::Crash, 0, 7, 0)], ..fine() };
    assert!(skipped.to_string().starts_with("NOTHING WAS TESTED"), "{skipped}");
    let parsed: Value = serde_json::from_str(&skipped.json()).unwrap();
    assert_eq!(parsed["verdict"], "nothing_tested");
}

#[test]
fn what_was_not_tried_is_said() {
    let text = fine().to_string();
    for said in
        ["74 not hit", "skipped: SQLite", "not run: zombie, outage, kill", "orders.created_at", "saw nothing"]
    {
        assert!(text.contains(said), "{said}");
        assert!(fine().html().to_lowercase().contains(&said.to_lowercase()), "{said}");
    }
    // The plan that failed need not be among those that are done.
    let cut_short = Report { plans: Vec::new(), ..failed() };
    assert!(cut_short.to_string().starts_with("FAILED"));
    assert!(!cut_short.to_string().contains("repeat, concurrent, crash, lost_ack"), "{cut_short}");
    let blind = Report { effects: Vec::new(), ..fine() };
    assert!(blind.to_string().contains("only the database is compared"));
    // A set-up that forgets a row looks like this.
    let refused = Report { refusal: Some("AlreadyCancelled".to_owned()), ..fine() };
    for said in [refused.to_string(), refused.html()] {
        let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(said.contains("ends with the final error AlreadyCancelled"), "{said}");
    }
}

#[test]
fn every_difference_is_shown() {
    let (text, html) = (failed().to_string(), failed().html());
    for shown in [
        "- missing row in payments: id = 42, state = 'paid', charge = 'ch_1', note = null",
        "+ extra row in payments:   id = 42, state = 'paid', charge = 'ch_2', note = null",
        "! effect charges: expected 1, found 2",
        "! law broken: a completed record never changes",
    ] {
        assert!(text.contains(shown), "{shown}");
    }
    // What differs is marked, and nothing else.
    let marked: Vec<&str> =
        html.split("<mark>").skip(1).map(|part| part.split_once("</mark>").unwrap().0).collect();
    assert_eq!(marked, ["1", "2"]);
    let same = with(|failure| failure.differences.clear());
    assert!(same.to_string().contains("nothing that a clean run leaves is different"));
    check_markup(&same.html());
}

#[test]
fn what_differs_in_a_long_row_is_not_cut() {
    let text = four_workers().to_string();
    assert!(text.contains("charge = 'ch_1'") && text.contains("charge = 'ch_2'"), "{text}");
    let changed = |row: &str| row.chars().filter(|char| "12".contains(*char)).collect::<String>();
    let failure = four_workers().failure.unwrap();
    for most in [60, 110, 300] {
        for (at, charge) in [(0, "1"), (1, "2")] {
            let row = failure.row(at, most).unwrap();
            assert_eq!(changed(&row[1]), charge);
            assert!(words::length(&row.concat()) <= most, "{row:?}");
        }
    }
    assert_eq!(failure.row(2, 300).unwrap()[1], "");
}

#[test]
fn rows_of_a_table_are_paired_in_their_order() {
    let row = |missing, table: &str, row: &str| {
        let (table, row) = (table.to_owned(), row.to_owned());
        if missing { Difference::Missing { table, row } } else { Difference::Extra { table, row } }
    };
    let report = with(|failure| {
        failure.differences = vec![
            row(true, "a", "id = 1, x = 1"),
            row(true, "a", "id = 2, x = 1"),
            row(false, "b", "id = 1, x = 5"),
            row(false, "a", "id = 1, x = 3"),
            row(false, "a", "id = 2, x = 4"),
            row(false, "a", "id = 3, x = 5"),
        ];
    });
    let failure = report.failure.unwrap();
    let parts: Vec<_> = (0..6).map(|at| failure.row(at, 100).unwrap().join("|")).collect();
    assert_eq!(
        parts,
        [
            "id = 1, x = |1|",
            "id = 2, x = |1|",
            "id = 1, x = 5||",
            "id = 1, x = |3|",
            "id = 2, x = |4|",
            "id = 3, x = 5||",
        ]
    );
}

#[test]
fn what_two_rows_share_is_counted_once() {
    let report = with(|failure| {
        failure.differences = vec![
            Difference::Missing { table: "a".to_owned(), row: "aaa".to_owned() },
            Difference::Extra { table: "a".to_owned(), row: "aa".to_owned() },
        ];
    });
    let failure = report.failure.unwrap();
    assert_eq!(failure.row(0, 100).unwrap(), ["aa", "a", ""]);
    assert_eq!(failure.row(1, 100).unwrap(), ["aa", "", ""]);
}

#[test]
fn a_timeline_without_moments_is_no_drawing() {
    let report = with(|failure| failure.timeline.clear());
    assert!(report.to_string().contains("timeline: no moment was recorded"));
    assert!(!report.html().contains("<svg"));
    check_markup(&report.html());
    // The testkit alone is no worker.
    let report = with(|failure| failure.timeline = vec![moment(5, '-', "stops")]);
    assert!(report.to_string().contains("-- stops"));
    check_markup(&report.html());
}

#[test]
fn workers_stand_side_by_side() {
    let text = failed().to_string();
    // The last line with the words, for the sentence of the failure has some of them as well.
    let line =
        |what: &str| text.lines().rfind(|line| line.contains(what)).unwrap_or_else(|| panic!("{what}"));
    let column = |what: &str| words::length(line(what).split_once(what).unwrap().0);
    let (a, b) = (column("worker A"), column("worker B"));
    assert!(a < b);
    assert_eq!(column("begin: locks"), a);
    assert_eq!(column("commit: the connection is gone"), a);
    assert_eq!(column("begin: waits"), b);
    assert_eq!(column("holds the key"), b);
    // A long word of the one keeps its distance from the other.
    let long = with(|failure| failure.timeline[0].what = "x".repeat(500)).to_string();
    let lines: Vec<&str> = long.lines().filter(|line| line.ends_with("xxx")).collect();
    assert_eq!(lines.len(), 3, "{long}");
    assert!(lines.iter().all(|line| words::length(line) == b - 2), "{long}");
}

#[test]
fn the_drawing_has_a_lane_for_each_worker_and_a_point_for_each_moment() {
    let page = failed().html();
    assert_eq!(page.matches("class=\"lane ").count(), 2);
    assert_eq!(page.matches("class=\"bar ").count(), 2);
    assert_eq!(page.matches("<circle ").count(), 7);
    assert_eq!(page.matches("<rect class=\"testkit\"").count(), 1);
    assert_eq!(page.matches("<rect class=\"end\"").count(), 1);
    // Each on the lane of its worker, at its words.
    for (color, worker, words) in
        [("w0", 'A', "commit: the connection is gone"), ("w1", 'B', "begin: waits for the key")]
    {
        let (_, lane) =
            page.split_once(&format!("worker {worker}</text><line class=\"lane {color}\" x1=\"")).unwrap();
        let x = lane.split('"').next().unwrap();
        let row = page.lines().find(|line| line.contains(words)).unwrap();
        assert!(row.contains(&format!("<circle class=\"{color}\" cx=\"{x}\"")), "{row}");
    }
    let page = huge().html();
    assert_eq!(page.matches("class=\"lane ").count(), 26);
    assert_eq!(page.matches("<circle ").count(), 600);
}

#[test]
fn there_is_a_limit_on_every_list() {
    let (text, page) = (huge().to_string(), huge().html());
    for left_out in ["970 more columns", "970 more differences", "940 more moments"] {
        assert!(text.contains(left_out), "{left_out}\n{text}");
    }
    for shown in ["A: step 0\n", "step 29\n", "step 970\n", "step 999\n"] {
        assert!(text.contains(shown), "{shown}");
    }
    assert!(!text.contains("step 30\n") && !text.contains("step 969\n"));
    for left_out in ["700 more columns", "700 more differences", "400 more moments"] {
        assert!(page.contains(left_out), "{left_out}");
    }
    assert_eq!(page.matches("<tr class=\"extra\">").count(), 300);
    assert_eq!(page.matches("<td>orders.column_").count(), 300);
    let place = |what: &str| page.find(what).unwrap_or_else(|| panic!("{what}"));
    assert!(place(">step 299<") < place("400 more moments"));
    assert!(place("400 more moments") < place(">step 700<"));
    check_markup(&page);
    let parsed: Value = serde_json::from_str(&huge().json()).unwrap();
    assert_eq!(parsed["failure"]["timeline"].as_array().unwrap().len(), 1_000);
    assert_eq!(parsed["failure"]["differences"].as_array().unwrap().len(), 1_000);
}

#[test]
fn a_page_says_what_a_report_says_and_never_does_it() {
    let evil = "</title><script>alert(1)</script>\" onload='x' &amp; <!--".to_owned();
    let mut report = with(|failure| {
        failure.schedule.clone_from(&evil);
        failure.what.clone_from(&evil);
        failure.replay.clone_from(&evil);
        failure.hint = Some(evil.clone());
        failure.kept = Some(evil.clone());
        failure.timeline =
            vec![moment(0, '<', &evil), moment(1, '&', &evil), moment(2, '-', &evil), moment(3, '"', &evil)];
        let text = || evil.clone();
        failure.differences = vec![
            Difference::Missing { table: text(), row: text() },
            Difference::Extra { table: text(), row: format!("{evil}<b>") },
            Difference::Extra { table: "other".to_owned(), row: text() },
            Difference::Effects { observer: text(), expected: 1, found: 2 },
            Difference::Answer { expected: text(), found: text() },
            Difference::Law { law: text(), found: text() },
        ];
    });
    report.job.clone_from(&evil);
    report.key.clone_from(&evil);
    report.database.clone_from(&evil);
    report.plans[0].skipped = Some(evil.clone());
    report.masked = vec![mask(&evil, &evil, &evil)];
    report.effects = vec![(evil.clone(), 1)];

    for timeline in 1..=4 {
        // With few workers and with many, whose drawings differ.
        let mut report = report.clone();
        if let Some(failure) = &mut report.failure {
            failure.timeline.truncate(timeline);
            failure.timeline.push(moment(4, 'Z', &evil));
        }
        let page = report.html();
        check_markup(&page);
        assert!(!page.contains("<script") && !page.contains("<!--") && !page.contains("onload='"));
    }
    let page = report.html();
    let told =
        "&lt;/title&gt;&lt;script&gt;alert(1)&lt;/script&gt;&quot; onload=&#39;x&#39; &amp;amp; &lt;!--";
    assert!(page.contains(&format!("<h1>{told}</h1>")));
    // The three names twice, for they are the title as well; 20 other places; and in the drawing, whose narrow lanes
    // break it into lines, what goes across.
    assert_eq!(page.matches(told).count(), 6 + 20 + 2);
}

#[test]
fn a_page_needs_nothing_else() {
    for report in [fine(), failed(), huge(), four_workers()] {
        let page = report.html();
        check_markup(&page);
        for outside in ["http:", "https:", "//", "src=", "href=", "url(", "@import", "<script", "<link"] {
            assert!(!page.contains(outside), "{outside}");
        }
        assert!(page.contains("prefers-color-scheme: dark") && page.contains("@media print"));
    }
}

#[test]
fn a_terminal_is_not_steered() {
    let text = four_workers().to_string();
    assert!(text.contains("one\\ntwo \\u{1b}[31mred"), "{text}");
    let report = with(|failure| failure.what = "a\r\nb\u{202e}c\u{0}".to_owned());
    for rendered in [report.to_string(), report.html()] {
        assert!(rendered.contains("a\\r\\nb\\u{202e}c\\u{0}"), "{rendered}");
        assert!(!rendered.contains(['\u{202e}', '\u{0}', '\r', '\u{1b}']));
    }
}

#[test]
fn a_long_value_loses_its_middle() {
    assert_eq!(words::cut("abcdefgh", 8), "abcdefgh");
    assert_eq!(words::cut("abcdefghi", 8), "abcd…ghi");
    assert_eq!(words::cut("äöüäöüäöü", 4), "äö…ü");
    assert_eq!(words::cut("abc", 1), "…");
    let wordy = with(|failure| {
        failure.what = "word ".repeat(10_000);
        failure.hint = Some("hint ".repeat(10_000));
    });
    assert!(wordy.to_string().len() < 6_000 && wordy.to_string().contains('…'));
    let long = Report { job: "j".repeat(500), key: "k".repeat(500), ..fine() };
    assert!(long.to_string().lines().next().is_some_and(|heading| words::length(heading) < 160));
}

#[test]
fn lines_break_after_spaces_and_lose_none() {
    assert_eq!(words::wrap("one two three", 8), ["one two ", "three"]);
    assert_eq!(words::wrap("onetwothree", 4), ["onet", "woth", "ree"]);
    assert_eq!(words::wrap("", 4), [""]);
    assert_eq!(words::wrap("abcd", 4), ["abcd"]);
    // A break near the beginning would waste the line.
    assert_eq!(words::wrap("a bcdefghijklm", 9), ["a bcdefgh", "ijklm"]);
    let spaces = "a  b   c    d ";
    assert_eq!(words::wrap(spaces, 3).concat(), spaces);
}

#[test]
fn durations_have_the_unit_that_suits_them() {
    let took = |micros| words::took(Duration::from_micros(micros));
    assert_eq!(took(0), "0.0 ms");
    assert_eq!(took(4_210), "4.2 ms");
    assert_eq!(took(999_949), "999.9 ms");
    assert_eq!(took(999_950), "1.00 s");
    assert_eq!(took(59_994_000), "59.99 s");
    assert_eq!(took(59_999_000), "1 min 00 s");
    assert_eq!(took(183_400_000), "3 min 03 s");
}

#[test]
fn the_json_has_the_documented_fields() {
    let parsed: Value = serde_json::from_str(&failed().json()).unwrap();
    let names = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
    let expected = |names: &str| names.split(' ').map(str::to_owned).collect::<BTreeSet<_>>();
    assert_eq!(
        names(&parsed),
        expected("format verdict job key test check database plans masked effects refusal took_us failure")
    );
    assert_eq!(parsed["format"], 1);
    assert_eq!(parsed["verdict"], "failed");
    assert_eq!(parsed["took_us"], 402_345);
    assert_eq!(
        parsed["plans"][2],
        json!({ "plan": "crash", "windows": 14, "hit": 5, "took_us": 310_400, "bound": null, "skipped": null })
    );
    assert_eq!(parsed["effects"], json!([{ "observer": "charges", "times": 1 }]));
    let failure = &parsed["failure"];
    assert_eq!(names(failure), expected("plan schedule what differences timeline replay hint kept"));
    assert_eq!(
        failure["timeline"][0],
        json!({ "at_us": 0, "worker": "A", "what": "begin: locks the key and reads its record" })
    );
    let kinds: BTreeSet<_> = failure["differences"]
        .as_array()
        .unwrap()
        .iter()
        .map(|difference| &difference["kind"])
        .map(Value::to_string)
        .collect();
    assert_eq!(kinds, expected("\"missing\" \"extra\" \"effects\" \"answer\" \"law\""));
    assert_eq!(
        failure["differences"][3],
        json!({ "kind": "effects", "observer": "charges", "expected": 1, "found": 2 })
    );

    let parsed: Value = serde_json::from_str(&fine().json()).unwrap();
    assert_eq!(parsed["verdict"], "passed");
    assert_eq!(parsed["failure"], Value::Null);
    assert_eq!(names(&parsed["masked"][0]), expected("table column because"));
}

#[test]
fn a_report_is_written_to_a_new_directory() {
    let root = Dir::new("new");
    let dir = root.0.join("deep/er");
    let path = failed().write(&dir).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), failed().html());
    assert_eq!(fs::read_to_string(path.with_extension("json")).unwrap(), failed().json());
    // The last report stays, and no draft is left over.
    let again = Report { took: Duration::ZERO, ..failed() };
    assert_eq!(again.write(&dir).unwrap(), path);
    assert_eq!(fs::read_to_string(&path).unwrap(), again.html());
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 2);
}

#[test]
fn a_directory_that_cannot_be_made_is_named() {
    let dir = Dir::new("refused");
    fs::create_dir(&dir.0).unwrap();
    let file = dir.0.join("file");
    fs::write(&file, "").unwrap();
    let error = fine().write(file.join("below")).unwrap_err();
    assert!(error.to_string().contains("file"), "{error}");
}

#[test]
fn two_keys_never_share_a_file() {
    let name = |job: &str, database: &str, key: &str| {
        let report =
            Report { job: job.to_owned(), database: database.to_owned(), key: key.to_owned(), ..fine() };
        report.file_name()
    };
    assert_eq!(name("ship", "mysql", "42"), "ship-mysql-42");
    let of = |test: &str| Report { test: Some(test.to_owned()), ..fine() }.file_name();
    let page = Report { test: Some("a::<b>".to_owned()), ..fine() }.html();
    assert!(page.contains("</b> in <b>a::&lt;b&gt;</b>, "), "{page}");
    let second = |test: Option<&str>| Report { test: test.map(str::to_owned), check: 2, ..fine() };
    let page = second(Some("it_pays")).html();
    assert!(page.contains("</b> in <b>it_pays</b>, check 2, "), "{page}");
    let file = second(Some("it_pays")).file_name();
    assert!(file.starts_with("process_payment-sqlite-payment_id-42-it_pays-2-"), "{file}");
    // Two checks of a test, and a test that is named after them.
    assert_eq!(
        BTreeSet::from([&file, &of("it_pays"), &of("it_pays-2"), &second(None).file_name(), &of("2")]).len(),
        5
    );
    let pays = of("billing::tests::it_pays");
    assert_eq!(pays, "process_payment-sqlite-payment_id-42-it_pays-7546d4e4c3ed6f90");
    assert_eq!(
        BTreeSet::from([&pays, &of("shop::tests::it_pays"), &of("billing::tests::it_ships")]).len(),
        3
    );
    let long = "k".repeat(40);
    assert_eq!(name("ship", "mysql", &long), format!("ship-mysql-{long}"));
    let names = [
        name("ship", "mysql", "42"),
        name("Ship", "mysql", "42"),
        name("ship", "mysql", "a b"),
        name("ship", "mysql", "a.b"),
        name("ship", "mysql", "a-b"),
        name("ship", "mysql", "A-B"),
        name("ship", "mysql", "../../a/b"),
        name("ship-mysql", "a", "b"),
        name("ship", "mysql-a", "b"),
        name("ship", "mysql", ""),
        name("ship", "mysql", "-"),
        name("ship", "mysql", "ключ"),
        name("ship", "mysql", "\0"),
        name("ship", "mysql", &format!("{}0", long.repeat(9))),
        name("ship", "mysql", &format!("{long}1")),
        name("ship", "mysql", &format!("{long}2")),
    ];
    let distinct: BTreeSet<String> = names.iter().map(|name| name.to_lowercase()).collect();
    assert_eq!(distinct.len(), names.len(), "{names:#?}");
    for name in &names {
        let plain = |char: char| char.is_ascii_alphanumeric() || "_-".contains(char);
        assert!(name.len() < 160 && name.chars().all(plain), "{name}");
    }
    // Not even what a hash makes of one is the name of another.
    let hashed = name("ship", "mysql", "a b");
    let key = hashed.strip_prefix("ship-mysql-").unwrap();
    assert_ne!(name("ship", "mysql", key), hashed);
    // The name of tomorrow is that of today.
    assert_eq!(hashed, "ship-mysql-a-b-161b7bf25f4830c4");
}
