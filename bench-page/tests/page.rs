//! The page says what the figures say, and nothing else.

use idem_bench_page::{
    Contender, Counted, Figures, Form, Load, Machine, Round, Row, Run, Server, Store, page,
};

use Contender::{BareOwn, CarefulOwn, FoldedOwn, Idem, NaivePool};

/// A contender whose slowest calls take a millisecond, with its rate in each round.
fn row(form: Form, callers: usize, contender: Contender, rates: &[f64]) -> Row {
    let round = |&per_second: &f64| Round { per_second, p50_us: 500, p99_us: 1_000 };
    let load = Load { callers, queued: None };
    Row { store: Store::Postgres, form, load, contender, rounds: rates.iter().map(round).collect() }
}

fn counted(form: Form, contender: Contender, round_trips: f64, wal_bytes: i64) -> Counted {
    let (writes, wal_bytes) = (Some(1), Some(wal_bytes));
    Counted { store: Store::Postgres, form, contender, round_trips, writes, wal_bytes }
}

fn run(rows: Vec<Row>, counted: Vec<Counted>) -> Run {
    Run {
        is_quick: false,
        date: String::from("2030-12-31"),
        machine: Machine {
            processor: String::from("an abacus"),
            cores: 10,
            memory_gib: 0.5,
            system: String::from("beads, Linux 7.0"),
            load_average: [0.25, 1.75],
            busy_beside: [0.01, 0.02],
            stolen: 0.0,
        },
        versions: Vec::new(),
        figures: vec![Figures {
            rounds: 3,
            millis: 700,
            network_ms: 0,
            records_before: 0,
            calls_counted: 40,
            servers: vec![Server {
                store: Store::Postgres,
                version: String::from("99"),
                durability: String::from("fsync=on"),
            }],
            rows,
            counted,
        }],
    }
}

/// What stands below a heading, up to the next one.
fn below<'p>(page: &'p str, heading: &str) -> &'p str {
    let (_, below) =
        page.split_once(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("no {heading}:\n{page}"));
    below.split("\n#").next().expect("a split has a first part")
}

const NOTHING: &str = "Nowhere in this run.";

#[test]
fn a_row_is_lost_below_the_other_and_not_lost_above_it() {
    let first = |callers, contender, rate| row(Form::First, callers, contender, &[rate]);
    let page = page(&run(
        vec![
            first(1, BareOwn, 100.0),
            first(1, CarefulOwn, 80.0),
            first(1, FoldedOwn, 121.0),
            first(1, Idem, 99.0),
            first(8, BareOwn, 1_000.0),
            first(8, CarefulOwn, 900.0),
            first(8, FoldedOwn, 891.0),
            first(8, Idem, 810.0),
        ],
        Vec::new(),
    ));
    let lost = below(&page, "### To others");
    assert!(
        lost.contains("of _folded by hand, own connection_: 0.82 with 1 caller; 0.91 with 8 callers"),
        "{lost}"
    );
    assert!(lost.contains("of _careful by hand, own connection_: 0.90 with 8 callers"), "{lost}");
    assert!(!lost.contains("1.24"), "{lost}");
    assert!(!lost.contains("bare effect"), "what protects nothing is no rival: {lost}");
    let won = below(&page, "## Where it does not");
    assert!(won.contains("of _careful by hand, own connection_: 1.24 with 1 caller.\n"), "{won}");
    assert!(!won.contains("folded"), "{won}");
    let floor = below(&page, "### To no protection at all");
    assert!(floor.contains("of _bare effect, own connection_: 0.99 with 1 caller; 0.81 with 8"), "{floor}");
    // 0.99 of the bare effect with one caller is enough, and 0.81 with eight is just enough.
    assert!(below(&page, "### Behind its targets").contains(NOTHING), "{page}");
}

#[test]
fn who_loses_nowhere_is_told_no_reasons() {
    let replays = [(NaivePool, 100.0), (CarefulOwn, 200.0), (Idem, 600.0)];
    let rows = replays.map(|(contender, rate)| row(Form::Replay, 1, contender, &[rate]));
    let counts = [(NaivePool, 5.0), (Idem, 1.0)].map(|(who, trips)| {
        let writes = Some(0);
        Counted { writes, ..counted(Form::Replay, who, trips, 0) }
    });
    let page = page(&run(rows.into(), counts.into()));
    for heading in
        ["### To others", "### In what is counted", "### In its slowest calls", "### Behind its targets"]
    {
        let below = below(&page, heading);
        assert!(below.contains(NOTHING) && !below.contains("* **"), "{heading}: {below}");
    }
    assert!(!below(&page, "## Where it does not").contains(NOTHING));
}

#[test]
fn a_ratio_is_the_median_of_those_inside_the_rounds() {
    let rows = vec![
        row(Form::First, 8, CarefulOwn, &[100.0, 200.0, 400.0]),
        row(Form::First, 8, Idem, &[50.0, 180.0, 800.0]),
    ];
    let page = page(&run(rows, Vec::new()));
    let lost = below(&page, "### To others");
    assert!(lost.contains("0.90 with 8 callers (0.50 to 2.00: the rounds disagree)"), "{lost}");
    assert!(page.contains("| **idem** | **0.90**, 180/s, 0.50 / 1.00 |"), "{page}");
}

#[test]
fn what_is_printed_as_equal_is_not_lost() {
    let rows = |own| vec![row(Form::First, 8, CarefulOwn, &[1000.0]), row(Form::First, 8, Idem, &[own])];
    let equal = page(&run(rows(995.1), Vec::new()));
    assert!(below(&equal, "### To others").contains(NOTHING), "{equal}");
    assert!(below(&equal, "## Where it does not").contains("1.00 with 8 callers"), "{equal}");
    let behind = page(&run(rows(994.9), Vec::new()));
    assert!(below(&behind, "### To others").contains("0.99 with 8 callers"), "{behind}");
}

#[test]
fn a_rate_below_its_target_is_behind_it() {
    let rows = |own| vec![row(Form::First, 1, BareOwn, &[100.0]), row(Form::First, 1, Idem, &[own])];
    let text = "0.97 of _bare effect, own connection_ with 1 caller; the target is 0.98";
    let missed = page(&run(rows(97.0), Vec::new()));
    assert!(below(&missed, "### Behind its targets").contains(text), "{missed}");
    assert!(!below(&missed, "## Where it does not").contains("the target is"), "{missed}");
    let met = page(&run(rows(98.0), Vec::new()));
    assert!(below(&met, "### Behind its targets").contains(NOTHING), "{met}");
    assert!(below(&met, "## Where it does not").contains("the target is 0.98"), "{met}");
}

#[test]
fn a_count_above_its_target_is_behind_it() {
    let counts =
        |trips, wal| vec![counted(Form::First, BareOwn, 4.0, 300), counted(Form::First, Idem, trips, wal)];
    let missed = page(&run(Vec::new(), counts(4.5, 521)));
    let lost = below(&missed, "### Behind its targets");
    assert!(lost.contains("4.50 round trips; the target is 4 at most, as for the bare effect"), "{lost}");
    assert!(
        lost.contains("521 bytes of WAL; the target is 520 at most, 220 more than for the bare effect"),
        "{lost}"
    );
    assert!(!lost.contains("writing"), "{lost}");
    let met = page(&run(Vec::new(), counts(4.0, 520)));
    assert!(below(&met, "### Behind its targets").contains(NOTHING), "{met}");
    assert!(
        below(&met, "## Where it does not").contains("1 writing transaction; the target is 1 at most"),
        "{met}"
    );
}

#[test]
fn a_count_above_anothers_is_lost_and_the_bare_effect_is_no_other() {
    let counts = vec![
        counted(Form::First, BareOwn, 4.0, 300),
        counted(Form::First, CarefulOwn, 7.0, 450),
        counted(Form::First, Idem, 4.0, 500),
    ];
    let page = page(&run(Vec::new(), counts));
    let lost = below(&page, "### In what is counted");
    assert!(lost.contains("_careful by hand, own connection_: 500 bytes of WAL beside 450."), "{lost}");
    assert_eq!(lost.matches("* **").count(), 1, "{lost}");
}

#[test]
fn slow_calls_are_lost_from_a_tenth_more_on() {
    let own = |p99_us| {
        let mut own = row(Form::First, 1, Idem, &[2000.0]);
        own.rounds[0].p99_us = p99_us;
        page(&run(vec![row(Form::First, 1, CarefulOwn, &[1000.0]), own], Vec::new()))
    };
    let slow = own(1_101);
    assert!(
        below(&slow, "### In its slowest calls").contains("1.10 ms beside 1.00 ms with 1 caller"),
        "{slow}"
    );
    assert!(below(&own(1_100), "### In its slowest calls").contains(NOTHING));
}

#[test]
fn a_quick_run_and_a_busy_machine_are_told_of() {
    let calm = run(Vec::new(), Vec::new());
    assert!(!page(&calm).contains("quick run"));
    assert!(!page(&calm).contains("not quiet"));
    let quick = page(&Run { is_quick: true, ..calm.clone() });
    assert!(quick.contains("**A quick run, not for comparison.**"));
    let machine = Machine { busy_beside: [0.0, 0.3], ..calm.machine.clone() };
    let busy = page(&Run { machine, ..calm.clone() });
    assert!(busy.contains("0 % of the processors' time just before, 30 % just after"));
    assert!(busy.contains("**The machine was not quiet.**"));
    let machine = Machine { stolen: 0.2, ..calm.machine.clone() };
    assert!(page(&Run { machine, ..calm }).contains("**The machine was not quiet.**"));
}

#[test]
fn figures_are_read_as_they_were_printed() {
    let mut all = run(
        vec![row(Form::EnqueueHundred, 8, Idem, &[1.5])],
        vec![counted(Form::Enqueue, Contender::Graphile, 3.0, 7)],
    );
    all.figures[0].rows[0].load.queued = Some(1_000_000);
    let text = serde_json::to_string(&all).unwrap();
    assert_eq!(serde_json::from_str::<Run>(&text).unwrap(), all);
}
