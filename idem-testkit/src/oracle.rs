//! What a clean run leaves, and what another one may leave otherwise.
//!
//! Two clean runs in fresh databases teach it: columns in which they differ, such as times and random
//! ids, vary by nature and are not compared. The second one also starts with other values of all
//! counters, so that an id that the database hands out is not taken for a part of the effect.

use std::collections::BTreeMap;
use std::time::Duration;

use idem_runtime::job::Retain;

use crate::check::Trouble;
use crate::lab::LabDatabase;
use crate::plan::law;
use crate::report::{Difference, Mask};
use crate::subject::Subject;
use crate::tables::{Table, Tables};
use crate::watch::{Ack, RecordedStep, Stop};
use crate::world::{Answer, Ended, Left, OWN_TABLES, REJECTED, World};

/// By how much the counters of the second clean run are ahead.
const AHEAD: u32 = 7;

/// Longer than the second that clocks of databases often stop at.
const NEXT_SECOND: Duration = Duration::from_millis(1_050);

/// What a run that hangs is said to answer.
pub(crate) const NO_ANSWER: &str = "no answer within the limit";

/// What a run is said to answer that fails.
pub(crate) const AN_ERROR: &str = "an error";

/// What a run is said to answer that panics.
pub(crate) const A_PANIC: &str = "a panic";

/// What a run is said to answer whose recorded steps are not those of the job.
pub(crate) const DRIFTED: &str = "the steps are not those that are recorded";

/// What a run is said to answer that does not know what has become of an effect.
pub(crate) const PARKED: &str = "it waits for a person";

/// What a clean run leaves.
#[derive(Debug, Clone)]
pub(crate) struct Oracle {
    /// What was there before.
    pub(crate) before: Left,
    pub(crate) after: Left,
    pub(crate) answer: Answer,
    /// The record, as it is stored.
    pub(crate) record: Option<Vec<u8>>,
    pub(crate) masks: Vec<Mask>,
    /// What of the masked columns is the same in two of them.
    shared: Vec<Shared>,
    /// The windows of a clean run.
    pub(crate) windows: Vec<String>,
    /// The steps of a clean run.
    pub(crate) steps: Vec<RecordedStep>,
    /// How long the slowest step of a clean run takes.
    pub(crate) slowest_step: Duration,
    observers: Vec<String>,
    /// Observers that cannot be judged, by number.
    blind: Vec<usize>,
    keeps_records: bool,
    /// Whether both clean runs gave the same answer, so that every run must.
    answers_alike: bool,
}

/// Two columns: what is drawn anew for the first one in every clean run is in the second one too.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Shared {
    column: Place,
    with: Place,
}

/// A table and a column of it.
type Place = (String, String);

struct Clean {
    before: Left,
    after: Left,
    answer: Answer,
    record: Option<Vec<u8>>,
    windows: Vec<String>,
    steps: Vec<RecordedStep>,
    slowest_step: Duration,
}

impl Oracle {
    /// Learns from two clean runs; `None` if the server is not there.
    pub(crate) async fn learn<D: LabDatabase>(subject: &dyn Subject<D>) -> Result<Option<Self>, Trouble> {
        let Some(first) = clean(subject, 0).await? else { return Ok(None) };
        if shows_the_time(&first.after.tables) {
            tokio::time::sleep(NEXT_SECOND).await;
        }
        let Some(second) = clean(subject, AHEAD).await? else { return Ok(None) };

        let observers: Vec<String> = subject.observers();
        let keeps_records = subject.spec().retain != Retain::None;
        // Whoever refuses leaves nothing but the record of it.
        let refuses = first.answer.how == REJECTED;
        if !refuses
            && first.after.tables == first.before.tables
            && first.after.effects == first.before.effects
        {
            return Err(Trouble::NoEffect);
        }
        if !refuses
            && let Some(unseen) =
                (0..observers.len()).find(|n| first.after.effects[*n] == first.before.effects[*n])
        {
            return Err(Trouble::UnseenObserver(observers[unseen].clone()));
        }
        if first.before.effects != second.before.effects {
            return Err(Trouble::SharedState);
        }
        let masks = masks(&first.after.tables, &second.after.tables);
        let mut shared = shared(&masks, &first.after.tables);
        shared.retain(|shared| shared.strays(&second.after.tables).is_empty());
        let oracle = Oracle {
            answers_alike: first.answer.bytes == second.answer.bytes,
            before: first.before,
            after: first.after,
            answer: first.answer,
            record: first.record,
            masks,
            shared,
            windows: first.windows,
            steps: first.steps,
            slowest_step: first.slowest_step.max(second.slowest_step),
            observers,
            blind: Vec::new(),
            keeps_records,
        };
        let differences = oracle.differences(&second.after);
        if !differences.is_empty() {
            return Err(Trouble::Nondeterministic(differences));
        }
        let mut before = oracle.before.clone();
        before.records = oracle.after.records;
        if !refuses && oracle.differences(&before).is_empty() {
            return Err(Trouble::OnlyMasked(oracle.masks));
        }
        Ok(Some(oracle))
    }

    /// Leaves out what another oracle of the same scenario leaves out, and what the clean runs of the two leave
    /// otherwise: they are further apart than those of one. Tells whether that is more.
    pub(crate) fn learn_from(&mut self, other: Oracle) -> bool {
        let known = (self.masks.len(), self.shared.len(), self.answers_alike);
        self.shared.retain(|shared| shared.strays(&other.after.tables).is_empty());
        let between = masks(&self.after.tables, &other.after.tables);
        for mask in other.masks.into_iter().chain(between) {
            if !self.masks.iter().any(|known| (&known.table, &known.column) == (&mask.table, &mask.column)) {
                self.masks.push(mask);
            }
        }
        self.answers_alike &= other.answers_alike && other.answer.bytes == self.answer.bytes;
        (self.masks.len(), self.shared.len(), self.answers_alike) != known
    }

    pub(crate) fn effects(&self) -> Vec<(String, u64)> {
        self.observers.iter().cloned().zip(self.after.effects.iter().copied()).collect()
    }

    /// Returns the final error that a clean run ends with, if it does.
    pub(crate) fn refusal(&self) -> Option<String> {
        (self.answer.how == REJECTED).then(|| self.answer.text.clone())
    }

    /// Returns the names of the job's tables in which a clean run leaves something else than it found.
    pub(crate) fn written(&self) -> Vec<String> {
        let tables = self.after.tables.0.iter();
        let changed = tables.filter(|(name, table)| self.before.tables.0.get(*name) != Some(table));
        changed.map(|(name, _)| name.clone()).filter(|name| !name.starts_with(OWN_TABLES)).collect()
    }

    /// Returns an oracle that does not judge these observers.
    pub(crate) fn blind_to(&self, observers: &[usize]) -> Self {
        Oracle { blind: observers.to_vec(), ..self.clone() }
    }

    /// Compares what a trial left with what a clean run leaves.
    pub(crate) fn differences(&self, left: &Left) -> Vec<Difference> {
        self.differences_from(&self.after, left)
    }

    pub(crate) fn differences_from(&self, expected: &Left, left: &Left) -> Vec<Difference> {
        let mut differences = Vec::new();
        let none = Table { columns: Vec::new(), rows: Vec::new() };
        let names: std::collections::BTreeSet<&String> =
            expected.tables.0.keys().chain(left.tables.0.keys()).collect();
        for name in names {
            let rows = |tables: &Tables| {
                let table = tables.0.get(name).unwrap_or(&none);
                self.rows(name, table)
            };
            let (expected, mut found) = (rows(&expected.tables), rows(&left.tables));
            for (row, times) in expected {
                let there = found.remove(&row).unwrap_or(0);
                let missing = std::iter::repeat_n(&row, times.saturating_sub(there));
                differences
                    .extend(missing.map(|row| Difference::Missing { table: name.clone(), row: row.clone() }));
                if there > times {
                    found.insert(row, there - times);
                }
            }
            for (row, times) in found {
                let extra = std::iter::repeat_n(&row, times);
                differences
                    .extend(extra.map(|row| Difference::Extra { table: name.clone(), row: row.clone() }));
            }
        }
        if differences.is_empty() {
            differences.extend(self.shared.iter().filter_map(|shared| shared.difference(&left.tables)));
        }
        for (n, (observer, (expected, found))) in
            self.observers.iter().zip(expected.effects.iter().zip(&left.effects)).enumerate()
        {
            if expected != found && !self.blind.contains(&n) {
                let (observer, expected, found) = (observer.clone(), *expected, *found);
                differences.push(Difference::Effects { observer, expected, found });
            }
        }
        if expected.records != left.records {
            let law = if left.records > expected.records { law::ONE_KEY } else { law::KEPT };
            differences.push(Difference::Law {
                law: String::from(law),
                found: format!("{} record(s), not {}", left.records, expected.records),
            });
        }
        if expected.tasks != left.tasks {
            differences.push(Difference::Law {
                law: String::from(law::ENQUEUED),
                found: format!("{} task(s) in the outbox, not {}", left.tasks, expected.tasks),
            });
        }
        differences
    }

    /// Finds what is there more often than a clean run leaves it, in a trial that may have stopped anywhere on its way:
    /// effects elsewhere, and rows in tables that have more of them than before a clean run and after it.
    pub(crate) fn too_much(&self, left: &Left) -> Vec<Difference> {
        let rows = |tables: &Tables, name: &str| tables.0.get(name).map_or(0, |table| table.rows.len());
        let is_too_much = |difference: &Difference| match difference {
            Difference::Extra { table, .. } => {
                let most = rows(&self.before.tables, table).max(rows(&self.after.tables, table));
                rows(&left.tables, table) > most
            }
            Difference::Effects { expected, found, .. } => found > expected,
            _ => false,
        };
        self.differences(left).into_iter().filter(is_too_much).collect()
    }

    /// Compares an answer with the first one of its trial, and with a clean run's if these are all alike.
    pub(crate) fn answer(&self, first: Option<&Answer>, ended: &Ended) -> Option<Difference> {
        let expected = match first {
            Some(first) if !self.answers_alike => first,
            _ => &self.answer,
        };
        let found = match ended {
            // A job without records runs again, and may answer otherwise.
            Ended::Answered(_) if !self.keeps_records || (first.is_none() && !self.answers_alike) => {
                return None;
            }
            Ended::Answered(answer) if answer.bytes == expected.bytes => return None,
            Ended::Answered(answer) => format!("{}: {}", answer.how, answer.text),
            Ended::Again(why) | Ended::Failed(why) => format!("{AN_ERROR}: {why}"),
            Ended::Drifted(why) => format!("{DRIFTED}: {why}"),
            Ended::Parked(why) => format!("{PARKED}: {why}"),
            Ended::Panicked(why) => format!("{A_PANIC}: {why}"),
            Ended::Hung(at) => format!("{NO_ANSWER}; it hung at {at}"),
        };
        Some(Difference::Answer { expected: expected.text.clone(), found })
    }

    /// Returns the rows of a table without what is masked, and how often each is there.
    fn rows(&self, name: &str, table: &Table) -> BTreeMap<String, usize> {
        let masked =
            |column: &String| self.masks.iter().any(|mask| mask.table == name && mask.column == *column);
        let mut rows = BTreeMap::new();
        for row in &table.rows {
            let cells: Vec<String> = table
                .columns
                .iter()
                .zip(row)
                .map(|(column, value)| match value {
                    // That there is a value is a part of the effect, whatever it is.
                    Some(_) if masked(column) => format!("{column} = …"),
                    value => format!("{column} = {}", value.as_deref().unwrap_or("NULL")),
                })
                .collect();
            *rows.entry(cells.join(", ")).or_insert(0) += 1;
        }
        rows
    }
}

impl Shared {
    /// Returns the values of the first column that are not in the second one.
    fn strays<'t>(&self, tables: &'t Tables) -> Vec<&'t str> {
        let there = values(tables, &self.with);
        let mut strays: Vec<_> =
            values(tables, &self.column).into_iter().filter(|value| is_drawn(value)).collect();
        strays.retain(|value| !there.contains(value));
        strays
    }

    fn difference(&self, tables: &Tables) -> Option<Difference> {
        let stray = (*self.strays(tables).first()?).to_owned();
        let [(table, column), (other, with)] = [&self.column, &self.with];
        Some(Difference::Law {
            law: String::from(law::DRAWN_ONCE),
            found: format!("{table}.{column} has {stray}, which {other}.{with} has not"),
        })
    }
}

/// Finds which masked columns have what is drawn anew in every run from another one.
fn shared(masks: &[Mask], tables: &Tables) -> Vec<Shared> {
    let places: Vec<Place> = masks.iter().map(|mask| (mask.table.clone(), mask.column.clone())).collect();
    let mut shared = Vec::new();
    for column in places.iter().filter(|place| values(tables, place).into_iter().any(is_drawn)) {
        for with in places.iter().filter(|with| *with != column) {
            let pair = Shared { column: column.clone(), with: with.clone() };
            if pair.strays(tables).is_empty() {
                shared.push(pair);
            }
        }
    }
    shared
}

fn values<'t>(tables: &'t Tables, (table, column): &Place) -> Vec<&'t str> {
    let Some(table) = tables.0.get(table) else { return Vec::new() };
    let Some(at) = table.columns.iter().position(|other| other == column) else { return Vec::new() };
    table.rows.iter().filter_map(|row| row[at].as_deref()).collect()
}

/// How long a value is at least that is not the same in two places by chance.
const DRAWN: usize = 24;

/// Tells whether a value is drawn out of so many that no two are the same by chance. Times are, for they are coarse.
fn is_drawn(value: &str) -> bool {
    value.len() >= DRAWN && !is_time(value, now())
}

async fn clean<D: LabDatabase>(subject: &dyn Subject<D>, ahead: u32) -> Result<Option<Clean>, Trouble> {
    let Some(world) = World::new(subject).await? else { return Ok(None) };
    if ahead > 0 {
        D::skip_ids(&mut *world.outside().await, ahead).await.map_err(Trouble::database)?;
    }
    let before = world.left().await?;
    // At no window of this name: its windows are counted as those of a run that is to crash.
    let worker = world.worker('A', Stop::At(String::new()), Ack::Heard)?;
    let ended = worker.run().await;
    let (windows, steps) = (worker.watch.windows(), worker.watch.steps());
    let slowest_step = worker.watch.slowest_step();
    drop(worker);
    let answer = match ended {
        Some(Ended::Answered(answer)) => answer,
        Some(Ended::Again(why) | Ended::Failed(why) | Ended::Drifted(why) | Ended::Parked(why)) => {
            return Err(Trouble::CleanRun(why));
        }
        Some(Ended::Panicked(why)) => return Err(Trouble::CleanRun(format!("the body panicked: {why}"))),
        Some(Ended::Hung(at)) => return Err(Trouble::Hung { at, timeline: world.timeline.moments() }),
        None => return Err(Trouble::CleanRun(String::from("it crashed"))),
    };
    let after = world.left().await?;
    let record = world.record().await?.map(|record| record.result);
    Ok(Some(Clean { before, after, answer, record, windows, steps, slowest_step }))
}

/// Finds the columns in which two clean runs differ.
fn masks(first: &Tables, second: &Tables) -> Vec<Mask> {
    let mut masks = Vec::new();
    for (name, table) in &first.0 {
        let Some(other) = second.0.get(name).filter(|other| other.columns == table.columns) else { continue };
        for (n, column) in table.columns.iter().enumerate() {
            let values = |table: &Table| {
                let mut values: Vec<_> = table.rows.iter().map(|row| row[n].clone()).collect();
                values.sort();
                values
            };
            let (one, two) = (values(table), values(other));
            // Another number of rows is another effect, not another value.
            if one.len() == two.len()
                && let Some((one, two)) = one.iter().zip(&two).find(|(one, two)| one != two)
            {
                let text = |value: &Option<String>| value.clone().unwrap_or_else(|| String::from("NULL"));
                let because = format!("{} in one clean run, {} in another", text(one), text(two));
                masks.push(Mask { table: name.clone(), column: column.clone(), because });
            }
        }
    }
    masks
}

/// Tells whether there is something that looks like the current time, which clocks of databases often give
/// to the second.
fn shows_the_time(tables: &Tables) -> bool {
    let now = now();
    tables.0.values().flat_map(|table| &table.rows).flatten().flatten().any(|value| is_time(value, now))
}

/// Returns the seconds since 1970.
fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Finds a date, a time of day, or the seconds since 1970 of about now, anywhere in a value.
fn is_time(value: &str, now: u64) -> bool {
    let bytes = value.as_bytes();
    let is_like = |window: &[u8], like: &[u8]| {
        window.iter().zip(like).all(|(byte, like)| match like {
            b'0' => byte.is_ascii_digit(),
            like => byte == like,
        })
    };
    let looks_like = |like: &[u8]| bytes.windows(like.len()).any(|window| is_like(window, like));
    let is_now = |digits: &str| {
        digits.get(..10).and_then(|seconds| seconds.parse::<u64>().ok()).is_some_and(|s| s.abs_diff(now) < 60)
    };
    looks_like(b"0000-00-00")
        || looks_like(b"00:00:00")
        || value.split(|c: char| !c.is_ascii_digit()).any(is_now)
}
