//! What is seen of runs from outside: their spans, events and numbers, and what is never among them.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::{fmt, io};

use idem_runtime::engine::{Engine, Enqueued};
use idem_runtime::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::Notify;
use tracing_subscriber::fmt::format::FmtSpan;

/// An argument that nobody must see.
const SECRET: &str = "hunter2";

#[derive(Debug, Serialize, Deserialize, PartialEq)]
enum Refusal {
    Declined,
    Offline,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl std::error::Error for Refusal {}

/// What the body is to do; and what it waits for.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
enum Way {
    Fine,
    Declined,
    Offline,
    Stuck,
}

#[derive(Default)]
struct Gate {
    is_in: Notify,
    never: Notify,
}

impl Gate {
    async fn go(&self, way: Way) -> Result<u8, Refusal> {
        match way {
            Way::Fine => Ok(7),
            Way::Declined => Err(Refusal::Declined),
            Way::Offline => Err(Refusal::Offline),
            Way::Stuck => {
                self.is_in.notify_one();
                self.never.notified().await;
                Ok(7)
            }
        }
    }
}

async fn settled(tx: &mut Tx<'_, Memory>, job: &Pay) -> Result<Option<u8>, Refusal> {
    match job.id {
        99 => Ok(Some(tx.get("nothing").map_or(1, |_| 2))),
        98 => Err(Refusal::Declined),
        _ => Ok(None),
    }
}

#[idempotent(
    key = id, check = settled, replay(Refusal::Declined), on_busy = error, timeout = "50ms", unique = until_executed
)]
async fn pay(
    tx: &mut Tx<'_, Memory>,
    id: i64,
    card: String,
    way: Way,
    #[state] gate: &Arc<Gate>,
) -> Result<u8, Refusal> {
    tx.set(format!("card of {id}"), card);
    gate.go(way).await
}

#[idempotent(key = id, in_doubt = park)]
async fn mail(
    run: &mut Run<'_, Memory>,
    id: i64,
    address: String,
    way: Way,
    #[state] gate: &Arc<Gate>,
) -> Result<u8, Refusal> {
    let _ = address;
    run.step("draft", async |_| Ok::<_, Refusal>(String::from(SECRET))).rerun().await?;
    run.tx_step("book", async |tx| {
        tx.set("booked", SECRET);
        Ok::<_, Refusal>(())
    })
    .await?;
    run.step(("send", id), async |_| gate.go(way).await)
        .probe(async |_| Ok(Some(9)))
        .not_done_if(|error| *error == Refusal::Offline)
        .await
}

#[idempotent(key = id, in_doubt = park, replay(Refusal::Declined))]
async fn order(id: i64, way: Way, #[state] gate: &Arc<Gate>) -> Result<u8, Refusal> {
    let _ = id;
    gate.go(way).await
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Lines {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()).unwrap()
    }

    /// What the spans of this name said as they closed, without their name.
    fn spans(&self, name: &str) -> Vec<String> {
        self.lines(|line| line["fields"]["message"] == "close" && line["span"]["name"] == name)
            .iter()
            .map(|line| {
                let fields = line["span"].as_object().unwrap().iter().filter(|(field, _)| *field != "name");
                fields.map(|(field, value)| format!("{field}={value}")).collect::<Vec<_>>().join(" ")
            })
            .collect()
    }

    fn events(&self, level: &str) -> Vec<String> {
        self.lines(|line| line["level"] == level && line["fields"]["message"] != "close")
            .iter()
            .map(|line| line["fields"]["message"].as_str().unwrap().to_owned())
            .collect()
    }

    /// The lines whose event says once more what a span around it says.
    fn repetitions(&self) -> Vec<Value> {
        self.lines(|line| {
            let spans = line["spans"].as_array().map(Vec::as_slice).unwrap_or_default();
            let event = line["fields"].as_object().unwrap();
            event.keys().any(|field| spans.iter().any(|span| span.get(field).is_some()))
        })
    }

    fn lines(&self, is_meant: impl Fn(&Value) -> bool) -> Vec<Value> {
        self.text().lines().map(|line| serde_json::from_str(line).unwrap()).filter(is_meant).collect()
    }
}

/// Runs code with everything logged, down to the last trace, and every number counted. Nothing is to be said twice in a line.
fn observed<F: Future>(code: impl FnOnce() -> F) -> (F::Output, Lines, Vec<String>) {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .json()
        .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
        .with_span_events(FmtSpan::CLOSE)
        .with_writer(move || writer.clone())
        .finish();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let recorder = metrics_util::debugging::DebuggingRecorder::new();
    let numbers = recorder.snapshotter();
    let answer = metrics::with_local_recorder(&recorder, || {
        tracing::subscriber::with_default(subscriber, || runtime.block_on(code()))
    });
    assert_eq!(lines.repetitions(), [Value::Null; 0]);
    let numbers = numbers.snapshot().into_vec().into_iter().map(|(key, _, _, value)| {
        let labels: Vec<_> =
            key.key().labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
        let value = match value {
            metrics_util::debugging::DebugValue::Counter(count) => count,
            metrics_util::debugging::DebugValue::Histogram(times) => times.len() as u64,
            metrics_util::debugging::DebugValue::Gauge(_) => unreachable!("idem has no gauges"),
        };
        format!("{}{{{}}} {value}", key.key().name(), labels.join(","))
    });
    let mut numbers: Vec<_> = numbers.collect();
    numbers.sort();
    (answer, lines, numbers)
}

fn idem() -> (Idem<Memory, Arc<Gate>>, Arc<Gate>) {
    let gate = Arc::new(Gate::default());
    (Idem::memory().state(Arc::clone(&gate)).build().unwrap(), gate)
}

/// Runs an atomic job into every end that it can have.
async fn pay_in_every_way() {
    let (idem, gate) = idem();
    let pay = |id, way| pay(&idem, id, String::from(SECRET), way);
    assert!(pay(1, Way::Fine).await.unwrap().is_executed());
    assert!(pay(1, Way::Fine).await.unwrap().is_replayed());
    assert!(pay(99, Way::Fine).await.unwrap().is_adopted());
    let reused = pay(1, Way::Offline).await;
    assert!(matches!(reused, Err(Error::KeyReused(_))), "{reused:?}");
    assert!(matches!(pay(2, Way::Offline).await, Err(Error::Job(Refusal::Offline))));
    assert!(matches!(pay(3, Way::Declined).await, Err(Error::Job(Refusal::Declined))));
    assert!(matches!(pay(3, Way::Declined).await, Err(Error::Job(Refusal::Declined))));
    // A check settles nothing, whatever its error is.
    assert!(matches!(pay(98, Way::Fine).await, Err(Error::Job(Refusal::Declined))));
    assert!(matches!(pay(4, Way::Stuck).await, Err(Error::Timeout(_))));
    {
        let mut stuck = std::pin::pin!(pay(5, Way::Stuck));
        tokio::select! {
            biased;
            _ = &mut stuck => panic!("it is stuck"),
            () = gate.is_in.notified() => {}
        }
        assert!(matches!(pay(5, Way::Fine).await, Err(Error::Busy(_))));
    }
}

#[test]
fn every_run_of_an_atomic_job_is_a_span_with_its_outcome() {
    let ((), lines, numbers) = observed(pay_in_every_way);
    let expected = [
        (1, "executed"),
        (1, "replayed"),
        (99, "adopted"),
        (1, "key_reused"),
        (2, "failed"),
        (3, "rejected"),
        (3, "rejected"),
        (98, "failed"),
        (4, "timeout"),
        (5, "busy"),
        (5, "dropped"),
    ];
    let expected: Vec<_> = expected
        .iter()
        .map(|(id, outcome)| format!(r#"job="pay" key="{id}" outcome="{outcome}""#))
        .map(|span| sorted(&span))
        .collect();
    let spans: Vec<_> = lines.spans("idem.run").iter().map(|span| sorted(span)).collect();
    assert_eq!(spans, expected);

    let runs = |outcome, count| format!("idem_runs_total{{job=pay,outcome={outcome}}} {count}");
    for (outcome, count) in
        [("executed", 1), ("replayed", 1), ("adopted", 1), ("rejected", 2), ("busy", 1), ("dropped", 1)]
    {
        assert!(numbers.contains(&runs(outcome, count)), "{outcome} in {numbers:#?}");
        let times = format!("idem_run_duration_seconds{{job=pay,outcome={outcome}}} {count}");
        assert!(numbers.contains(&times), "{outcome} in {numbers:#?}");
    }
}

/// The fields of a span in an order of their own.
fn sorted(fields: &str) -> String {
    let mut fields: Vec<_> = fields.split(' ').collect();
    fields.sort_unstable();
    fields.join(" ")
}

#[test]
fn duplicates_are_told_at_info_and_nothing_is_a_failure() {
    let ((), lines, _) = observed(pay_in_every_way);
    let told = lines.events("INFO");
    for told_of in [
        "duplicate: answered from the record",
        "duplicate: another run holds the key",
        "adopted: the work had been done already",
        "rejected: the error is final and recorded",
    ] {
        assert!(told.iter().any(|event| event == told_of), "{told_of:?} in {told:#?}");
    }
    assert_eq!(lines.events("WARN"), [""; 0]);
    assert_eq!(lines.events("ERROR"), [""; 0]);
}

/// Runs a job with steps: cut off in the last one, then gone on with.
async fn mail_in_two_runs() {
    let (idem, gate) = idem();
    let mail = |id, way| mail(&idem, id, String::from(SECRET), way);
    {
        let mut stuck = std::pin::pin!(mail(1, Way::Stuck));
        tokio::select! {
            biased;
            _ = &mut stuck => panic!("it is stuck"),
            () = gate.is_in.notified() => {}
        }
    }
    let id = |way| Mail { id: 1, address: String::from(SECRET), way };
    while idem.explain(&id(Way::Stuck)).await.unwrap().unwrap().state == idem_runtime::record::State::Running
    {
        tokio::task::yield_now().await;
    }
    assert_eq!(*mail(1, Way::Stuck).await.unwrap(), 9);
    assert!(matches!(mail(2, Way::Offline).await, Err(Error::Job(Refusal::Offline))));
}

#[test]
fn the_span_of_a_leased_job_has_its_claim_and_one_span_for_each_step() {
    let ((), lines, numbers) = observed(mail_in_two_runs);
    let runs: Vec<_> = lines.spans("idem.run").iter().map(|span| sorted(span)).collect();
    let run = |attempt, id, outcome| {
        sorted(&format!(r#"attempt={attempt} epoch={attempt} job="mail" key="{id}" outcome="{outcome}""#))
    };
    assert_eq!(runs, [run(1, 1, "dropped"), run(2, 1, "executed"), run(1, 2, "failed")]);

    let step = |name, outcome| sorted(&format!(r#"outcome="{outcome}" step="{name}""#));
    let steps: Vec<_> = lines.spans("idem.step").iter().map(|span| sorted(span)).collect();
    assert_eq!(
        steps,
        [
            step("draft", "executed"),
            step("book", "executed"),
            // The run was dropped in it.
            String::from(r#"step="send[1]""#),
            step("draft", "skipped"),
            step("book", "skipped"),
            step("send[1]", "adopted"),
            step("draft", "executed"),
            step("book", "executed"),
            step("send[2]", "failed"),
        ]
    );
    for (outcome, count) in [("executed", 4), ("skipped", 2), ("adopted", 1), ("failed", 1)] {
        let counted = format!("idem_steps_total{{job=mail,outcome={outcome}}} {count}");
        assert!(numbers.contains(&counted), "{counted} in {numbers:#?}");
    }
    assert!(
        lines
            .events("INFO")
            .iter()
            .any(|event| event == "ended without an outcome; the next run has the key")
    );
}

#[test]
fn runs_that_are_parked_rejected_or_panic_have_their_outcomes() {
    let ((), lines, numbers) = observed(|| async {
        let (idem, gate) = idem();
        {
            let mut stuck = std::pin::pin!(order(&idem, 1, Way::Stuck));
            tokio::select! {
                biased;
                _ = &mut stuck => panic!("it is stuck"),
                () = gate.is_in.notified() => {}
            }
        }
        for _ in 0..2 {
            assert!(matches!(order(&idem, 1, Way::Stuck).await, Err(Error::Parked(_))));
        }
        for _ in 0..2 {
            assert!(matches!(order(&idem, 2, Way::Declined).await, Err(Error::Job(Refusal::Declined))));
        }

        #[idempotent(key = id)]
        async fn trip(tx: &mut Tx<'_, Memory>, id: i64) -> Result<(), Infallible> {
            tx.set("id", id.to_string());
            panic!("on purpose");
        }
        let idem = Idem::memory().build().unwrap();
        assert!(tokio::spawn(async move { trip(&idem, 1).await }).await.unwrap_err().is_panic());
    });
    let runs = lines.spans("idem.run").join("\n");
    assert!(runs.contains(r#"outcome="panicked""#), "{runs}");
    // Under which epoch it is parked, the run that parks it says, and one that only finds it parked.
    let parked: Vec<_> = runs.lines().filter(|run| run.contains(r#"outcome="parked""#)).collect();
    assert_eq!(parked.len(), 2, "{runs}");
    assert!(parked.iter().all(|run| run.contains("epoch=2 ")), "{parked:?}");
    // A person has to look, once.
    let warned = lines.lines(|line| line["level"] == "WARN");
    assert_eq!(warned.len(), 1, "{warned:#?}");
    let fields = warned[0]["fields"].as_object().unwrap();
    assert_eq!(fields["message"], "parked: a person has to look");
    assert!(fields["hash"].as_str().is_some_and(|hash| hash.len() == 32), "{fields:?}");
    assert!(
        fields["reason"].as_str().is_some_and(|reason| reason.starts_with("an earlier run")),
        "{fields:?}"
    );
    let again = lines.lines(|line| line["fields"]["message"] == "parked already: it waits for a person");
    assert_eq!(again.len(), 1, "{again:#?}");
    assert_eq!((&again[0]["level"], &again[0]["fields"]["reason"]), (&"INFO".into(), &Value::Null));
    for counted in ["{job=order,outcome=rejected} 2", "{job=trip,outcome=panicked} 1"] {
        assert!(numbers.contains(&format!("idem_runs_total{counted}")), "{numbers:#?}");
    }
}

/// Two processes keep one schedule, and the other one is at the tick that is due.
#[cfg(feature = "schedule")]
#[test]
fn a_tick_that_runs_elsewhere_is_no_failure() {
    use idem_runtime::schedule::Tick;
    use idem_runtime::store::memory::MemoryStore;
    use idem_runtime::store::{ScheduleStore, Store};

    #[idempotent(key = tick, schedule = "* * * * *", on_busy = error, in_doubt = rerun)]
    async fn minutely(tick: Tick, #[state] gate: &Arc<Gate>) -> Result<u8, Refusal> {
        let _ = tick;
        gate.go(Way::Stuck).await
    }

    let ((), lines, _) = observed(|| async {
        let (store, gate) = (MemoryStore::new(), Arc::new(Gate::default()));
        let process = || Idem::with_store(Arc::new(store.clone())).state(Arc::clone(&gate)).build().unwrap();
        // In the middle of a minute, which does not end meanwhile.
        let into_the_minute = store.now().await.unwrap().as_secs() % 60;
        store.advance(std::time::Duration::from_secs(90 - into_the_minute));
        let now = store.now().await.unwrap().as_secs();
        let due = Tick::from_unix(i64::try_from(now - now % 60).unwrap());
        let job = store.enrol("default", "minutely").await.unwrap();
        assert!(store.advance_tick(job, None, Tick::from_unix(due.unix() - 60)).await.unwrap());
        let elsewhere = process();
        let mut run = std::pin::pin!(minutely(&elsewhere, due));
        tokio::select! {
            biased;
            _ = &mut run => panic!("it is stuck"),
            () = gate.is_in.notified() => {}
        }
        let running = tokio::spawn(process().scheduler().job::<Minutely>().unwrap().run());
        // The store in memory never waits, so these are enough for a turn.
        for _ in 0..200 {
            tokio::task::yield_now().await;
        }
        running.abort();
    });
    let told = lines.events("INFO");
    assert!(told.iter().any(|event| event.starts_with("a tick has to wait")), "{told:#?}");
    assert_eq!(lines.events("WARN"), [""; 0]);
}

#[test]
fn pushes_and_clean_ups_are_counted() {
    let ((), lines, numbers) = observed(|| async {
        let (idem, _) = idem();
        let queue = idem.queue(Engine::Outbox);
        let job = || Pay { id: 1, card: String::from(SECRET), way: Way::Fine };
        assert!(matches!(queue.push(job()).await.unwrap(), Enqueued::New(_)));
        assert!(matches!(queue.push(job()).await.unwrap(), Enqueued::Duplicate { .. }));
        idem.sweep().await.unwrap();
    });
    for counted in [
        "idem_pushes_total{job=pay,outcome=new} 1",
        "idem_pushes_total{job=pay,outcome=duplicate} 1",
        "idem_swept_total{what=records} 0",
    ] {
        assert!(numbers.iter().any(|number| number == counted), "{counted} in {numbers:#?}");
    }
    assert!(lines.events("INFO").iter().any(|event| event == "duplicate: not enqueued"));
}

#[test]
fn arguments_and_results_are_in_no_line_and_no_number() {
    for (what, (_, lines, numbers)) in
        [("pay", observed(pay_in_every_way)), ("mail", observed(mail_in_two_runs))]
    {
        assert!(lines.text().contains(&format!(r#""job":"{what}""#)));
        assert!(!lines.text().contains(SECRET), "{}", lines.text());
        assert!(!numbers.join("\n").contains(SECRET), "{numbers:#?}");
    }
}

/// Tasks, as apalis gives them to a worker.
#[cfg(feature = "apalis")]
mod tasks {
    use apalis_core::error::{AbortError, BoxDynError};
    use apalis_core::task::builder::TaskBuilder;
    use apalis_core::task::from_request::FromRequest as _;
    use idem_runtime::engine::TaskId;
    use idem_runtime::engine::apalis::{Delivery, Payload, Ran};
    use idem_runtime::key::{Key, KeyHash};
    use serde_json::json;

    use super::*;

    const TASK: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";

    #[idempotent(key = id, replay(Refusal::Declined), on_busy = error)]
    async fn fetch(
        tx: &mut Tx<'_, Memory>,
        id: i64,
        card: String,
        way: Way,
        #[state] gate: &Arc<Gate>,
    ) -> Result<u8, Refusal> {
        tx.set(format!("card of {id}"), card);
        if id == 13 {
            panic!("on purpose");
        }
        gate.go(way).await
    }

    fn hash_of(id: i64) -> KeyHash {
        Key::new("default", "fetch", &idem_runtime::key::KeyParts::of(&id).unwrap()).hash()
    }

    /// Lets a worker make an attempt, of two, of a task.
    async fn attempt(
        idem: &Idem<Memory, Arc<Gate>>,
        engine: Engine,
        attempt: usize,
        id: i64,
        way: Way,
    ) -> Result<Ran<u8>, BoxDynError> {
        let job = Fetch { id, card: String::from(SECRET), way };
        let task: TaskId = TASK.parse().unwrap();
        let task = TaskBuilder::new(Payload::new(&job).unwrap())
            .task_id(task.into())
            .attempt(attempt)
            .max_attempts(2)
            .build();
        let Ok(delivery) = Delivery::from_request(&task).await;
        idem.queue(engine).handler::<Fetch>()(task.args, delivery).await
    }

    /// The events of the task, with their levels: those outside of runs.
    fn told(lines: &Lines) -> Vec<Value> {
        assert!(!lines.text().contains(SECRET), "{}", lines.text());
        let of_tasks = lines.lines(|line| line["fields"].get("task").is_some());
        assert!(of_tasks.iter().all(|line| line.get("span").is_none()), "{of_tasks:#?}");
        of_tasks
            .into_iter()
            .map(|mut line| {
                let level = line["level"].take();
                let mut fields = line["fields"].take();
                fields["level"] = level;
                fields
            })
            .collect()
    }

    /// An event of the task, which has the key `id`, with what it says `besides`. A warning has the hash.
    fn event(level: &str, message: &str, id: i64, besides: Value) -> Value {
        let mut event = json!({ "level": level, "message": message, "job": "fetch", "key": id.to_string(), "task": TASK });
        let fields = event.as_object_mut().unwrap();
        if level == "WARN" {
            fields.insert(String::from("hash"), hash_of(id).to_string().into());
        }
        fields.extend(besides.as_object().unwrap().clone());
        event
    }

    #[test]
    fn a_task_that_uses_up_its_attempts_is_a_warning() {
        for engine in [Engine::Apalis, Engine::Outbox] {
            for (id, code) in [(1, None), (13, Some("idem::panicked"))] {
                let (answer, lines, _) = observed(async || {
                    attempt(&idem().0, engine, 2, id, Way::Offline).await.map_err(|error| error.to_string())
                });
                assert!(answer.is_err());
                let message = "failed for the last time: its attempts are used up";
                let mut expected = event("WARN", message, id, json!({ "attempt": 2 }));
                if let Some(code) = code {
                    expected["code"] = code.into();
                }
                assert_eq!(told(&lines), [expected], "{engine:?}");
            }
        }
    }

    /// The engine is not in this database, so nobody here knows what it does.
    #[test]
    fn a_task_of_an_engine_elsewhere_that_fails_is_told_at_info() {
        let (answer, lines, _) = observed(async || {
            attempt(&idem().0, Engine::Outbox, 1, 1, Way::Offline).await.map_err(|error| error.to_string())
        });
        assert!(answer.is_err());
        let message = "failed; whether it is tried again is up to its engine";
        let expected = event("INFO", message, 1, json!({ "attempt": 1 }));
        assert_eq!(told(&lines), [expected]);
    }

    #[test]
    fn a_task_whose_error_is_final_is_told_at_info() {
        let (is_aborted, lines, _) = observed(async || {
            let error = attempt(&idem().0, Engine::Outbox, 2, 1, Way::Declined).await.unwrap_err();
            error.is::<AbortError>()
        });
        assert!(is_aborted);
        let expected = event("INFO", "failed for good: its error is final", 1, json!({ "attempt": 2 }));
        assert_eq!(told(&lines), [expected]);
        assert_eq!(lines.events("WARN"), [""; 0]);
    }

    /// Its key has run with other arguments, so no further run can do it.
    #[test]
    fn a_task_that_is_killed_for_its_arguments_is_a_warning() {
        let (is_aborted, lines, _) = observed(async || {
            let (idem, _) = idem();
            fetch(&idem, 1, String::from("another"), Way::Fine).await.unwrap();
            let error = attempt(&idem, Engine::Outbox, 2, 1, Way::Fine).await.unwrap_err();
            error.is::<AbortError>()
        });
        assert!(is_aborted);
        let killed = event("WARN", "killed: no run can do it", 1, json!({ "code": "idem::key_reused" }));
        assert_eq!(told(&lines), [killed]);
    }

    /// What keeps it waiting has been said by the run, at length.
    #[test]
    fn a_task_that_has_to_wait_tells_its_key_and_the_code() {
        let ((), lines, _) = observed(async || {
            let (idem, gate) = idem();
            let mut stuck = std::pin::pin!(fetch(&idem, 1, String::from(SECRET), Way::Stuck));
            tokio::select! {
                biased;
                _ = &mut stuck => panic!("it is stuck"),
                () = gate.is_in.notified() => {}
            }
            // One of the outbox is enqueued again behind its relay, and no store of apalis's is here.
            assert!(matches!(
                attempt(&idem, Engine::Outbox, 2, 1, Way::Stuck).await,
                Ok(Ran::PutBack { .. })
            ));
            assert!(attempt(&idem, Engine::Apalis, 2, 1, Way::Stuck).await.is_err());
        });
        let told = told(&lines);
        let messages: Vec<_> = told.iter().map(|event| event["message"].as_str().unwrap()).collect();
        assert_eq!(messages, ["enqueued again", "left alone: it is not this worker's any more"], "{told:#?}");
        for event in &told {
            assert_eq!((&event["key"], &event["code"]), (&"1".into(), &"idem::busy".into()), "{event:#}");
            assert_eq!(event.get("why"), None, "{event:#}");
        }
    }
}

#[test]
fn what_the_body_logs_is_inside_of_the_run() {
    #[idempotent(key = id)]
    async fn talk(tx: &mut Tx<'_, Memory>, id: i64) -> Result<(), Infallible> {
        tx.set("id", id.to_string());
        tracing::info!("hello from the body");
        Ok(())
    }
    let ((), lines, _) = observed(|| async {
        talk(&Idem::memory().build().unwrap(), 5).await.unwrap();
        tracing::info!("hello from outside");
    });
    let said = |text: &str| lines.lines(|line| line["fields"]["message"] == text).pop().unwrap();
    assert_eq!(said("hello from the body")["span"]["key"], "5");
    assert_eq!(said("hello from outside")["span"], Value::Null);
}
