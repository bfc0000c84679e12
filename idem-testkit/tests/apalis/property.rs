//! Random sequences of what may happen to tasks, beside a plain model of who has which claim.
//!
//! No workers: what they do to the tables is done here, so that thousands of steps take seconds.

use std::collections::{BTreeMap, HashMap};

use idem_runtime::engine::{Enqueued, PushError, TaskId};
use idem_runtime::key::{Key, KeyParts};
use idem_runtime::record::{self, Moment};
use idem_testkit::lab::LabDatabase as _;

use crate::desk::Desk;
use crate::jobs::*;
use crate::sqlite::{Db, read};

const KEYS: i64 = 3;
const STEPS: usize = 1_500;
const SEEDS: [u64; 3] = [1, 2, 3];

/// Numbers that are the same for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(high).expect("31 bits fit") % limit
    }

    fn one_of<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        (!from.is_empty()).then(|| from[self.below(from.len())])
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Strategy {
    Skip,
    Error,
    Replace,
    Latest,
    UntilStart,
}

const STRATEGIES: [Strategy; 5] =
    [Strategy::Skip, Strategy::Error, Strategy::Replace, Strategy::Latest, Strategy::UntilStart];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waits,
    /// A worker has it in its hands.
    Taken,
    Failed,
    Over,
    Deleted,
}

#[derive(Debug, Clone, Copy)]
struct ModelTask {
    strategy: Strategy,
    key: i64,
    note: i64,
    state: State,
    attempts: i64,
}

/// How often a task is tried.
const ATTEMPTS: i64 = 3;

/// What should be so.
#[derive(Default)]
struct Model {
    tasks: HashMap<TaskId, ModelTask>,
    holders: BTreeMap<(Strategy, i64), TaskId>,
    /// The newest arguments of a `keep_latest` job, by its key.
    newest: BTreeMap<i64, i64>,
    /// Those with which its last body began.
    began: BTreeMap<i64, i64>,
    superseded: u32,
}

impl Model {
    fn in_state(&self, states: &[State]) -> Vec<TaskId> {
        let mut ids: Vec<TaskId> = Vec::new();
        ids.extend(self.tasks.iter().filter(|(_, task)| states.contains(&task.state)).map(|(id, _)| *id));
        // Every task has another note, and ids of one millisecond have no order: a seed is to be one sequence.
        ids.sort_by_key(|id| self.tasks[id].note);
        ids
    }

    fn add(&mut self, id: TaskId, strategy: Strategy, key: i64, note: i64) {
        let task = ModelTask { strategy, key, note, state: State::Waits, attempts: 0 };
        assert!(self.tasks.insert(id, task).is_none(), "an id is given once");
        self.holders.insert((strategy, key), id);
    }

    /// Ends the claim of a task, if it has it.
    fn free(&mut self, id: TaskId) {
        self.holders.retain(|_, holder| *holder != id);
    }

    /// No body begins with older arguments than one before it, and no task is dropped that has the newest.
    fn begin_latest(&mut self, id: TaskId, latest: &record::Latest, at: &str) {
        let ModelTask { key, note, .. } = self.tasks[&id];
        match latest {
            record::Latest::Goes => {
                let before = self.began.insert(key, note);
                assert!(before <= Some(note), "{at}: {note} begins after {before:?}");
                self.free(id);
            }
            record::Latest::Gone => panic!("{at}: the worker has the task"),
            record::Latest::Superseded(_) => {
                let newest = self.newest[&key];
                assert!(note < newest, "{at}: {note} is superseded, and the newest is {newest}");
                self.superseded += 1;
            }
        }
    }

    fn set(&mut self, id: TaskId, state: State) {
        self.tasks.get_mut(&id).expect("it is there").state = state;
        if matches!(state, State::Over | State::Deleted) {
            self.free(id);
        }
    }
}

#[tokio::test]
async fn random_sequences_never_leave_two_holders_or_lose_a_task() {
    for seed in SEEDS {
        run(seed).await;
    }
}

async fn run(seed: u64) {
    let lab = Db::lab().await.expect("SQLite is built in");
    let pool = lab.pool(2);
    apalis_sqlite::SqliteStorage::setup(&pool).await.unwrap();
    let idem = idem_runtime::Idem::builder(pool.clone()).state(Desk::default()).build().unwrap();
    idem.migrate().await.unwrap();
    let queue = idem.queue(idem_runtime::engine::Engine::Apalis);
    queue.set_up().await.unwrap();
    let mut tables = lab.connect().await;
    let worker =
        "INSERT INTO Workers (id, worker_type, storage_name, layers, last_seen) VALUES ('w', '', '', '', 0)";
    sqlx::raw_sql(worker).execute(&mut tables).await.unwrap();
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut model = Model::default();
    for step in 0..STEPS {
        let at = format!("seed {seed}, step {step}");
        let note = i64::try_from(step).expect("there are not so many steps");
        match random.below(14) {
            0..5 => {
                let strategy = random.one_of(&STRATEGIES).expect("there are some");
                let key = i64::try_from(random.below(3)).expect("it is small") % KEYS;
                let answer = push(&queue, strategy, key, note).await;
                check_push(&mut model, strategy, key, note, answer, &at);
            }
            5..7 => {
                let Some(id) = random.one_of(&model.in_state(&[State::Waits, State::Failed])) else {
                    continue;
                };
                let sql = "UPDATE Jobs SET status = 'Queued', lock_by = 'w' WHERE id = $1 AND (status = 'Pending' \
                           OR status = 'Failed' AND attempts < max_attempts)";
                assert_eq!(change(&mut tables, sql, id).await, 1, "{at}");
                model.set(id, State::Taken);
            }
            7..10 => {
                // Its body starts; what is unique until then lets go.
                let Some(id) = random.one_of(&model.in_state(&[State::Taken])) else { continue };
                match model.tasks[&id].strategy {
                    Strategy::UntilStart => {
                        let had_it = model.holders.values().any(|holder| *holder == id);
                        assert_eq!(queue.release(id).await.unwrap(), had_it, "{at}");
                        model.free(id);
                    }
                    Strategy::Latest => {
                        let parts = KeyParts::of(&model.tasks[&id].key).unwrap();
                        let claim = Key::new("default", "latest", &parts);
                        let latest =
                            idem.store().keep_latest(Moment::Begins, &claim, id, Some("w")).await.unwrap();
                        model.begin_latest(id, &latest, &at);
                    }
                    Strategy::Skip | Strategy::Error | Strategy::Replace => {}
                }
            }
            10 => {
                let Some(id) = random.one_of(&model.in_state(&[State::Taken])) else { continue };
                let sql = "UPDATE Jobs SET status = 'Done', attempts = attempts + 1 WHERE id = $1 AND lock_by = 'w'";
                assert_eq!(change(&mut tables, sql, id).await, 1, "{at}");
                model.set(id, State::Over);
            }
            11 => {
                let Some(id) = random.one_of(&model.in_state(&[State::Taken])) else { continue };
                let sql = "UPDATE Jobs SET status = 'Failed', attempts = attempts + 1 WHERE id = $1 AND lock_by = 'w'";
                assert_eq!(change(&mut tables, sql, id).await, 1, "{at}");
                let task = model.tasks.get_mut(&id).expect("it is there");
                task.attempts += 1;
                let state = if task.attempts >= ATTEMPTS { State::Over } else { State::Failed };
                model.set(id, state);
            }
            12 => {
                // Its worker died: it is rescued, or a late word of that worker comes.
                let Some(id) = random.one_of(&model.in_state(&[State::Taken])) else { continue };
                let sql = "UPDATE Jobs SET status = 'Pending', lock_by = NULL, attempts = attempts + 1 WHERE id = $1 AND lock_by = 'w'";
                assert_eq!(change(&mut tables, sql, id).await, 1, "{at}");
                let late =
                    "UPDATE Jobs SET status = 'Running', lock_by = 'w' WHERE id = $1 AND status = 'Pending'";
                assert_eq!(change(&mut tables, late, id).await, 0, "{at}");
                model.tasks.get_mut(&id).expect("it is there").attempts += 1;
                model.set(id, State::Waits);
            }
            _ => {
                let all = [State::Waits, State::Taken, State::Failed, State::Over];
                let Some(id) = random.one_of(&model.in_state(&all)) else { continue };
                let (sql, state) = match random.below(2) {
                    0 => ("UPDATE Jobs SET status = 'Killed' WHERE id = $1", State::Over),
                    _ => ("DELETE FROM Jobs WHERE id = $1", State::Deleted),
                };
                assert_eq!(change(&mut tables, sql, id).await, 1, "{at}");
                model.set(id, state);
            }
        }
        check(&mut tables, &model, &at).await;
    }
    assert!(model.tasks.len() > STEPS / 20, "{} tasks", model.tasks.len());
    assert!(model.superseded > 5, "{} superseded", model.superseded);
}

async fn change(tables: &mut sqlx::SqliteConnection, sql: &'static str, id: TaskId) -> u64 {
    sqlx::query(sql).bind(id.to_string()).execute(tables).await.unwrap().rows_affected()
}

async fn push(
    queue: &idem_runtime::engine::Queue<Db, Desk>,
    strategy: Strategy,
    id: i64,
    note: i64,
) -> Result<Enqueued, PushError> {
    use idem_runtime::engine::Enqueue;
    let attempts = u32::try_from(ATTEMPTS).expect("it is small");
    match strategy {
        Strategy::Skip => queue.push(Enqueue::new(UntilEnd { id, note }).attempts(attempts)).await,
        Strategy::Error => queue.push(Enqueue::new(UntilEndOrError { id, note }).attempts(attempts)).await,
        Strategy::Replace => {
            queue.push(Enqueue::new(UntilEndOrReplace { id, note }).attempts(attempts)).await
        }
        Strategy::Latest => queue.push(Enqueue::new(Latest { id, note }).attempts(attempts)).await,
        Strategy::UntilStart => queue.push(Enqueue::new(UntilStart { id, note }).attempts(attempts)).await,
    }
}

/// Checks an answer against the model, and lets the model follow.
fn check_push(
    model: &mut Model,
    strategy: Strategy,
    key: i64,
    note: i64,
    answer: Result<Enqueued, PushError>,
    at: &str,
) {
    if strategy == Strategy::Latest {
        model.newest.insert(key, note);
    }
    let holder = model.holders.get(&(strategy, key)).copied();
    // One that has been in the hands of a worker that died may have begun.
    let waits = holder.map(|id| model.tasks[&id]);
    let waits = waits.is_some_and(|task| task.state == State::Waits && task.attempts == 0);
    match (strategy, holder, answer) {
        (_, None, Ok(Enqueued::New(id))) => model.add(id, strategy, key, note),
        (Strategy::Latest, Some(_), Ok(Enqueued::New(id))) if !waits => model.add(id, strategy, key, note),
        (Strategy::Latest, Some(holder), Ok(Enqueued::Coalesced(id)))
        | (Strategy::Replace, Some(holder), Ok(Enqueued::Replaced(id)))
            if waits && id == holder =>
        {
            model.tasks.get_mut(&id).expect("it is there").note = note;
        }
        (Strategy::Skip | Strategy::UntilStart, Some(holder), Ok(Enqueued::Duplicate { of, .. }))
            if of == holder => {}
        (Strategy::Replace, Some(holder), Ok(Enqueued::Duplicate { of, .. })) if of == holder && !waits => {}
        (Strategy::Error, Some(holder), Err(PushError::Duplicate { of, .. })) if of == holder => {}
        (_, _, answer) => panic!("{at}: {strategy:?} of {key}, held by {holder:?} ({waits}): {answer:?}"),
    }
}

/// Checks that the tables are as the model.
async fn check(tables: &mut sqlx::SqliteConnection, model: &Model, at: &str) {
    let claims: Vec<(String, bool)> =
        sqlx::query_as("SELECT task, readable LIKE '%(superseded)' OR readable LIKE '%(began)' FROM idem_claims ORDER BY task")
            .fetch_all(&mut *tables)
            .await
            .unwrap();
    let mut holders: Vec<String> = model.holders.values().map(TaskId::to_string).collect();
    holders.sort_unstable();
    let claimed: Vec<&String> =
        claims.iter().filter(|(_, is_beside)| !is_beside).map(|(task, _)| task).collect();
    assert_eq!(claimed, holders.iter().collect::<Vec<_>>(), "{at}");
    for (task, _) in claims {
        let task = model.tasks[&task.parse().unwrap()];
        assert!(!matches!(task.state, State::Over | State::Deleted), "{at}: a row of {task:?} is left");
    }
    let rows = read(tables, "TRUE").await;
    let there = model.tasks.values().filter(|task| task.state != State::Deleted).count();
    assert_eq!(rows.len(), there, "{at}");
    for row in rows {
        let task = model.tasks[&row.id];
        let status: &[&str] = match task.state {
            State::Waits => &["Pending"],
            State::Taken => &["Queued", "Running"],
            State::Failed => &["Failed"],
            State::Over => &["Done", "Killed", "Failed"],
            State::Deleted => &[],
        };
        assert!(status.contains(&row.status.as_str()), "{at}: {row:?} is {task:?}");
        let expected = format!(r#"{{"id":{},"note":{}}}"#, task.key, task.note);
        assert_eq!(String::from_utf8_lossy(&row.job), expected, "{at}");
    }
}
