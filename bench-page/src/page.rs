//! The page.

use std::fmt::{self, Write as _};

use crate::compare::{self, Beside, Dearer, Point, Reached};
use crate::figures::{Counted, Figures, Load, Row, Run, thousands};
use crate::targets::{Limit, Measure};
use crate::words::{why_behind, why_dearer};
use crate::{Contender, Form, Store};

/// Writes the page about a run, as Markdown.
pub fn page(run: &Run) -> String {
    let mut page = String::new();
    write(&mut page, run).expect("a text takes all that is written to it");
    page
}

fn write(out: &mut String, run: &Run) -> fmt::Result {
    writeln!(out, "# Benchmarks\n")?;
    writeln!(out, "<!-- Written by `scripts/bench page`. -->\n")?;
    if run.is_quick {
        writeln!(
            out,
            "> **A quick run, not for comparison.** It shows what the page looks like; its figures mean nothing.\n"
        )?;
    }
    writeln!(
        out,
        "idem beside the bare effect, beside idempotency written by hand, and beside queues that know unique tasks: what each of them\n\
         does in a second on one machine, and what it costs on any. `scripts/bench page` measures all of it again and writes this page;\n\
         [`benchmarks.json`](benchmarks.json) has every round. Where idem loses [is said first](#where-idem-loses), after what was measured and how.\n"
    )?;
    machine(out, run)?;
    how(out, run)?;
    let beside = compare::beside_others(run);
    loses(out, run, &beside)?;
    wins(out, run, &beside)?;
    timed(out, run)?;
    counted(out, run)
}

fn machine(out: &mut String, run: &Run) -> fmt::Result {
    let machine = &run.machine;
    writeln!(out, "## Machine and versions\n\n| | |\n|---|---|")?;
    writeln!(out, "| date | {} |", run.date)?;
    writeln!(out, "| processor | {} |", machine.processor)?;
    writeln!(out, "| cores | {} |", machine.cores)?;
    writeln!(out, "| memory | {:.1} GiB |", machine.memory_gib)?;
    writeln!(out, "| system | {} |", machine.system)?;
    let [before, after] = machine.load_average;
    writeln!(
        out,
        "| load average of a minute | {before:.2} as it began, {after:.2} as it ended, this run included |"
    )?;
    let [before, after] = machine.busy_beside.map(percent);
    writeln!(
        out,
        "| in use beside the run | {before} of the processors' time just before, {after} just after |"
    )?;
    writeln!(out, "| kept by the host for others | {} of the processors' time |", percent(machine.stolen))?;
    for version in &run.versions {
        writeln!(out, "| {} | {} |", version.name, version.version)?;
    }
    let mut told = Vec::new();
    for server in run.figures.iter().flat_map(|figures| &figures.servers) {
        if !told.contains(&server.store) {
            told.push(server.store);
            writeln!(out, "| {} | {}; `{}` |", server.store.name(), server.version, server.durability)?;
        }
    }
    if machine.busy_beside.iter().any(|share| *share > QUIET) || machine.stolen > QUIET {
        writeln!(
            out,
            "\n**The machine was not quiet.** Ratios stand up to that better than rates, and counts best; none of them is to be trusted in its last digit."
        )?;
    }
    writeln!(out)
}

/// The share of the processors' time that others may use of a quiet machine.
const QUIET: f64 = 0.05;

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

fn how(out: &mut String, run: &Run) -> fmt::Result {
    writeln!(out, "## How it is measured\n")?;
    for figures in &run.figures {
        let mut forms: Vec<Form> = figures.rows.iter().map(|row| row.form).collect();
        forms.sort_unstable();
        forms.dedup();
        let forms: Vec<&str> = forms.into_iter().map(Form::name).collect();
        writeln!(
            out,
            "* {}: {} rounds, and one before that warms up. In a round each contender runs for {} ms, one after the other.",
            forms.join("; "),
            figures.rounds,
            figures.millis,
        )?;
    }
    let calls = run.figures.iter().map(|figures| figures.calls_counted).max().unwrap_or(0);
    writeln!(
        out,
        "* All are in one process beside the servers, which are fresh and as they come. Callers are tasks of one tokio runtime, and each calls again as soon as it has its answer.\n\
         * A **ratio** is taken inside a round, to the first contender of the table, and is the median over the rounds. Rates, and the times that half of the calls (p50)\n  \
         and all but one of a hundred (p99) stay below, are medians over the rounds too.\n\
         * After jobs the tables are looked through, and queues must say what is new: something protected that had happened twice would have been an error, and no page.\n\
         * Counts are taken of {calls} calls, one after the other: round trips by a proxy between client and server, on average; transactions that write, and bytes of the\n  \
         write-ahead log (WAL), by PostgreSQL's own books, the median.\n",
    )?;
    writeln!(out, "| contender | what it does |\n|---|---|")?;
    let mut contenders: Vec<Contender> =
        run.figures.iter().flat_map(|figures| &figures.rows).map(|row| row.contender).collect();
    contenders.sort_unstable();
    contenders.dedup();
    for contender in contenders {
        writeln!(out, "| {} | {} |", contender.name(), contender.meaning())?;
    }
    writeln!(out)
}

fn loses(out: &mut String, run: &Run, beside: &[Beside]) -> fmt::Result {
    writeln!(out, "## Where idem loses\n")?;
    writeln!(
        out,
        "Computed from the figures of this run: each row whose ratio, as it is printed, is below 1.00, or below a target.\n\
         Where idem was ahead in one round and behind in another, the rounds that differ most are in brackets.\n"
    )?;

    writeln!(out, "### To others\n")?;
    let rivals = beside.iter().filter(|beside| !beside.other.is_floor());
    bullets(
        out,
        rivals.filter_map(|beside| {
            let rates = rates(beside, Point::is_behind)?;
            Some(format!("{rates} {}", why_behind(beside.store, beside.form, beside.other)))
        }),
    )?;

    writeln!(out, "### In what is counted\n")?;
    bullets(out, compare::dearer(run).iter().map(dearer))?;

    writeln!(out, "### In its slowest calls\n")?;
    writeln!(
        out,
        "Where the time that all calls but one of a hundred stay below is longer than the other's by more than a tenth.\n"
    )?;
    let rivals = beside.iter().filter(|beside| !beside.other.is_floor());
    bullets(out, rivals.filter_map(slowest))?;

    writeln!(out, "### Behind its targets\n")?;
    writeln!(
        out,
        "The targets of rates are what protocols written by hand reached on PostgreSQL before there was idem; there are none for the other databases.\n\
         Those of counts hold for every database. They are what [the README](../README.md#what-a-run-costs) says a run costs, and for the round trips\n\
         of a leased job what it takes by hand if each step is one statement.\n"
    )?;
    let missed_rates =
        compare::rate_targets(beside).into_iter().filter(|reached| !reached.is_met).map(|reached| {
            let target = reached.target;
            let why = why_behind(target.store, target.form, target.against);
            format!("{}. {why}", rate_target(&reached))
        });
    let missed_counts =
        compare::count_targets(run).into_iter().filter(|reached| !reached.is_met).map(|reached| {
            format!("{}. {}", count_target(&reached), why_dearer(reached.target.form, reached.target.measure))
        });
    bullets(out, missed_rates.chain(missed_counts))?;

    writeln!(out, "### To no protection at all\n")?;
    writeln!(out, "What protection costs, where it costs something.\n")?;
    let floors = beside.iter().filter(|beside| beside.other.is_floor());
    bullets(out, floors.filter_map(|beside| rates(beside, Point::is_behind)))?;

    writeln!(out, "### What is not measured\n")?;
    writeln!(
        out,
        "* More than one machine: a network between client and server, which favours whoever sends fewer messages; `scripts/bench --network-ms 1` shows that.\n\
         * More than one process, and keys that processes contend for.\n\
         * Tables that have grown; `scripts/bench --records 3000000` shows that for idem's own.\n\
         * Effects elsewhere: what a provider takes for its answer dwarfs all of this.\n\
         * Tasks as workers run them: that is apalis's own pace.\n\
         * MySQL itself, Redis, and workflow engines.\n"
    )
}

fn wins(out: &mut String, run: &Run, beside: &[Beside]) -> fmt::Result {
    writeln!(out, "## Where it does not\n")?;
    writeln!(out, "The other side of the same comparisons: equal or ahead.\n")?;
    bullets(out, beside.iter().filter_map(|beside| rates(beside, |point| !point.is_behind())))?;
    writeln!(out, "Targets that are met:\n")?;
    let met_rates = compare::rate_targets(beside).into_iter().filter(|reached| reached.is_met);
    let met_counts = compare::count_targets(run).into_iter().filter(|reached| reached.is_met);
    let met_rates = met_rates.map(|reached| rate_target(&reached));
    bullets(out, met_rates.chain(met_counts.map(|reached| count_target(&reached))))
}

/// Writes a list, or that there is nothing.
fn bullets(out: &mut String, items: impl Iterator<Item = String>) -> fmt::Result {
    let mut items = items.peekable();
    if items.peek().is_none() {
        return writeln!(out, "Nowhere in this run.\n");
    }
    for item in items {
        writeln!(out, "* {item}")?;
    }
    writeln!(out)
}

fn place(store: Store, form: Form) -> String {
    format!("{}, {}", store.name(), form.name())
}

/// Lists the rates that are as asked for, beside one contender.
fn rates(beside: &Beside, is_meant: impl Fn(&Point) -> bool) -> Option<String> {
    let points = beside.points.iter().filter(|point| is_meant(point)).map(|point| {
        let spread = match point.is_in_doubt() {
            true => format!(" ({:.2} to {:.2}: the rounds disagree)", point.least, point.most),
            false => String::new(),
        };
        format!("{:.2} with {}{spread}", point.ratio, point.load)
    });
    let points: Vec<String> = points.collect();
    let place = place(beside.store, beside.form);
    (!points.is_empty()).then(|| format!("**{place}**, of _{}_: {}.", beside.other.name(), points.join("; ")))
}

fn slowest(beside: &Beside) -> Option<String> {
    let points = beside.points.iter().filter(|point| point.is_slow_at_worst()).map(|point| {
        let [own, other] = point.p99_us.map(millis);
        format!("{own} beside {other} with {}", point.load)
    });
    let points: Vec<String> = points.collect();
    let place = place(beside.store, beside.form);
    (!points.is_empty()).then(|| format!("**{place}**, _{}_: {}.", beside.other.name(), points.join("; ")))
}

fn dearer(dearer: &Dearer) -> String {
    format!(
        "**{}**, _{}_: {} beside {}. {}",
        place(dearer.store, dearer.form),
        dearer.other.name(),
        amount(dearer.measure, dearer.own),
        count(dearer.others),
        why_dearer(dearer.form, dearer.measure),
    )
}

fn rate_target(reached: &Reached<crate::targets::RateTarget>) -> String {
    let target = reached.target;
    format!(
        "**{}**: {:.2} of _{}_ with {}; the target is {:.2}",
        place(reached.store, target.form),
        reached.measured,
        target.against.name(),
        Load { callers: target.callers, queued: None },
        reached.limit,
    )
}

fn count_target(reached: &Reached<crate::targets::CountTarget>) -> String {
    let target = reached.target;
    let bare = match target.at_most {
        Limit::Is(_) => String::new(),
        Limit::BeyondBare(0.0) => String::from(", as for the bare effect"),
        Limit::BeyondBare(more) => format!(", {} more than for the bare effect", count(more)),
    };
    format!(
        "**{}**: {}; the target is {} at most{bare}",
        place(reached.store, target.form),
        amount(target.measure, reached.measured),
        count(reached.limit),
    )
}

fn timed(out: &mut String, run: &Run) -> fmt::Result {
    writeln!(out, "## All that was timed\n")?;
    writeln!(
        out,
        "A cell is the ratio to the first row, how many a second, and p50 / p99 in milliseconds.\n"
    )?;
    for figures in &run.figures {
        let mut tables: Vec<(Store, Form)> = Vec::new();
        for row in &figures.rows {
            if !tables.contains(&(row.store, row.form)) {
                tables.push((row.store, row.form));
            }
        }
        for (store, form) in tables {
            table(out, figures, store, form)?;
        }
    }
    Ok(())
}

fn table(out: &mut String, figures: &Figures, store: Store, form: Form) -> fmt::Result {
    let rows: Vec<&Row> = figures.rows.iter().filter(|row| (row.store, row.form) == (store, form)).collect();
    let (mut loads, mut contenders) = (Vec::new(), Vec::new());
    for row in &rows {
        if !loads.contains(&row.load) {
            loads.push(row.load);
        }
        if !contenders.contains(&row.contender) {
            contenders.push(row.contender);
        }
    }
    writeln!(out, "### {}\n\n{} A rate counts {}.\n", place(store, form), form.meaning(), form.unit())?;
    write!(out, "| |")?;
    for load in &loads {
        write!(out, " {load} |")?;
    }
    writeln!(out, "\n|---|{}", "---|".repeat(loads.len()))?;
    for contender in contenders {
        let mark = if contender == Contender::Idem { "**" } else { "" };
        write!(out, "| {mark}{}{mark} |", contender.name())?;
        for load in &loads {
            match rows.iter().find(|row| row.contender == contender && row.load == *load) {
                Some(row) => write!(
                    out,
                    " {mark}{:.2}{mark}, {}/s, {} / {} |",
                    row.ratio(figures.base(row)),
                    thousands(row.per_second()),
                    millis(row.p50_us()).trim_end_matches(" ms"),
                    millis(row.p99_us()).trim_end_matches(" ms"),
                )?,
                None => write!(out, " |")?,
            }
        }
        writeln!(out)?;
    }
    writeln!(out)
}

fn millis(us: f64) -> String {
    format!("{:.2} ms", us / 1000.0)
}

fn counted(out: &mut String, run: &Run) -> fmt::Result {
    writeln!(out, "## All that was counted\n")?;
    writeln!(
        out,
        "A call of each; counts hold on any machine. SQLite has no messages. MariaDB's transactions and the bytes of its log are not counted.\n"
    )?;
    writeln!(
        out,
        "| | | {} | {} | {} |",
        Measure::ALL[0].name(),
        Measure::ALL[1].name(),
        Measure::ALL[2].name()
    )?;
    writeln!(out, "|---|---|---|---|---|")?;
    for counted in run.figures.iter().flat_map(|figures| &figures.counted) {
        let Counted { store, form, contender, .. } = counted;
        let mark = if *contender == Contender::Idem { "**" } else { "" };
        write!(out, "| {} | {mark}{}{mark} |", place(*store, *form), contender.name())?;
        for measure in Measure::ALL {
            match measure.of(counted) {
                Some(value) => write!(out, " {} |", count(value))?,
                None => write!(out, " – |")?,
            }
        }
        writeln!(out)?;
    }
    Ok(())
}

fn amount(measure: Measure, value: f64) -> String {
    let name = if value == 1.0 { measure.name_of_one() } else { measure.name() };
    format!("{} {name}", count(value))
}

/// Writes an average: as a whole number if it is one.
fn count(value: f64) -> String {
    match value.fract() == 0.0 {
        true => thousands(value),
        false => format!("{value:.2}"),
    }
}
