//! The commands that change nothing.

use std::collections::BTreeSet;

use idem_runtime::codec::CodecError;
use idem_runtime::engine::TaskId;
use idem_runtime::key::KeyHash;
use idem_runtime::record::State;
use idem_runtime::store::{ClaimRow, Database, Holder, JobRow, StateCounts};
use idem_runtime::{Idem, KeyQuery, KeyReport, KnownKey, StoreError};
use serde::Serialize;

use crate::args::{KeyArg, Reach, StateName, state_name};
use crate::failure::Failure;
use crate::json::Json;
use crate::print::{Output, ago, counted, millis, size, spoken};
use crate::suggest::instead_of;

/// How many keys an error lists that may be meant.
const NEAR: usize = 5;

#[derive(Serialize)]
struct CountsJson {
    running: u64,
    lapsed: u64,
    failed: u64,
    parked: u64,
    completed: u64,
    rejected: u64,
    expired: u64,
}

impl From<StateCounts> for CountsJson {
    fn from(counts: StateCounts) -> Self {
        let StateCounts { running, lapsed, failed, parked, completed, rejected, expired } = counts;
        CountsJson { running, lapsed, failed, parked, completed, rejected, expired }
    }
}

#[derive(Serialize)]
struct JobJson {
    namespace: String,
    job: String,
    last_tick_unix_s: Option<i64>,
    keys: CountsJson,
}

impl From<JobRow> for JobJson {
    fn from(job: JobRow) -> Self {
        JobJson {
            namespace: job.namespace,
            job: job.name,
            last_tick_unix_s: job.last_tick.map(|tick| tick.unix()),
            keys: job.counts.into(),
        }
    }
}

/// A key, for programs.
#[derive(Serialize)]
pub(crate) struct KeyJson {
    namespace: String,
    job: String,
    key: String,
    hash: String,
    state: &'static str,
    epoch: i64,
    attempts: u32,
    changed_ago_ms: u64,
    lease_left_ms: u64,
    expires_in_ms: Option<u64>,
    result_bytes: u64,
    error: Option<String>,
    settled: Option<String>,
    parked: Option<ParkedJson>,
    /// What the callee of the call in doubt was handed.
    call_key: Option<String>,
}

#[derive(Serialize)]
struct ParkedJson {
    step: Option<String>,
    reason: String,
    drifted: bool,
}

impl From<&KnownKey> for KeyJson {
    fn from(key: &KnownKey) -> Self {
        KeyJson {
            namespace: key.namespace.clone(),
            job: key.job.clone(),
            key: key.key.clone(),
            hash: key.hash.to_string(),
            state: state_name(key.state),
            epoch: key.epoch.0,
            attempts: key.attempts,
            changed_ago_ms: millis(key.since),
            lease_left_ms: millis(key.lease_left),
            expires_in_ms: key.expires_in.map(millis),
            result_bytes: key.result_bytes,
            error: key.error.clone(),
            settled: key.settled.clone(),
            parked: key.parked.as_ref().map(|parked| ParkedJson {
                step: parked.step.clone(),
                reason: parked.reason.clone(),
                drifted: parked.drifted,
            }),
            call_key: key.call_key(),
        }
    }
}

#[derive(Serialize)]
struct PageJson<T> {
    #[serde(skip_serializing_if = "Option::is_none")]
    keys: Option<Vec<T>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    claims: Option<Vec<ClaimJson>>,
    /// What `--after` takes for the next page.
    next: Option<String>,
}

#[derive(Serialize)]
struct ClaimJson {
    namespace: String,
    job: String,
    key: String,
    hash: String,
    task: String,
    held_for_ms: u64,
    left_ms: Option<u64>,
}

impl From<&ClaimRow> for ClaimJson {
    fn from(claim: &ClaimRow) -> Self {
        ClaimJson {
            namespace: claim.namespace.clone(),
            job: claim.job.clone(),
            key: claim.key.clone(),
            hash: claim.hash.to_string(),
            task: claim.holder.task.to_string(),
            held_for_ms: millis(claim.holder.since),
            left_ms: claim.holder.left.map(millis),
        }
    }
}

#[derive(Serialize)]
struct HolderJson {
    task: String,
    held_for_ms: u64,
    left_ms: Option<u64>,
}

#[derive(Serialize)]
struct ReportJson {
    #[serde(flatten)]
    key: KeyJson,
    steps: Vec<StepJson>,
    audit: Vec<AuditJson>,
    claim: Option<HolderJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<Json>,
}

#[derive(Serialize)]
struct StepJson {
    name: String,
    is_done: bool,
    is_given: bool,
    call_key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<Json>,
}

#[derive(Serialize)]
struct AuditJson {
    epoch: i64,
    action: String,
    why: String,
    ago_ms: u64,
}

#[derive(Serialize)]
struct StatsJson {
    keys: CountsJson,
    jobs: Vec<JobJson>,
    claims: u64,
    outbox: u64,
    outbox_oldest_ms: Option<u64>,
    tables: Vec<TableJson>,
}

#[derive(Serialize)]
struct TableJson {
    name: String,
    bytes: u64,
}

/// Makes the query of a listing.
pub(crate) fn query<D: Database>(
    idem: &Idem<D>,
    reach: &Reach,
    job: Option<&str>,
    containing: Option<&str>,
    limit: u32,
    after: Option<KeyHash>,
) -> KeyQuery {
    // One more, to know whether there is a next page.
    let mut query = KeyQuery::new().limit(limit + 1);
    if !reach.all_namespaces {
        query = query.namespace(idem.namespace());
    }
    if let Some(job) = job {
        query = query.job(job);
    }
    if let Some(text) = containing {
        query = query.containing(text);
    }
    match after {
        Some(after) => query.after(after),
        None => query,
    }
}

/// Cuts a page at its limit, and returns where the next one begins.
fn cut<T>(rows: &mut Vec<T>, limit: u32, hash: impl Fn(&T) -> KeyHash) -> Option<KeyHash> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let has_more = rows.len() > limit;
    rows.truncate(limit);
    rows.last().filter(|_| has_more).map(hash)
}

/// Lists keys; tells whether there are any.
pub(crate) async fn keys<D: Database>(
    idem: &Idem<D>,
    query: KeyQuery,
    states: &[StateName],
    limit: u32,
    output: &mut Output,
) -> Result<bool, Failure> {
    let query = match states {
        [] => query,
        states => query.states(states.iter().map(|state| state.state())),
    };
    let mut keys = idem.operator().keys(&query).await?;
    let next = cut(&mut keys, limit, |key| key.hash);
    if output.json {
        let rows = keys.iter().map(KeyJson::from).collect();
        output.value(&PageJson { keys: Some(rows), claims: None, next: next.map(|next| next.to_string()) });
        return Ok(!keys.is_empty());
    }
    if keys.is_empty() {
        output.line("no keys");
        return Ok(false);
    }
    let rows = keys.iter().map(|key| {
        [
            job_of(idem, &key.namespace, &key.job),
            shortened(&key.key),
            match key.settled {
                Some(_) => format!("{}, settled", state_name(key.state)),
                None => state_name(key.state).to_owned(),
            },
            key.epoch.to_string(),
            ago(key.since),
            shortened(&note(key)),
            key.hash.to_string(),
        ]
    });
    output.table(["JOB", "KEY", "STATE", "EPOCH", "CHANGED", "NOTE", "HASH"], rows.collect());
    if let Some(next) = next {
        output.line(format!("\nThere are more: --after {next}"));
    }
    Ok(true)
}

/// Lists unique claims; tells whether there are any.
pub(crate) async fn claims<D: Database>(
    idem: &Idem<D>,
    query: &KeyQuery,
    limit: u32,
    output: &mut Output,
) -> Result<bool, Failure> {
    let mut claims = idem.operator().claims(query).await?;
    let next = cut(&mut claims, limit, |claim| claim.hash);
    if output.json {
        let rows = claims.iter().map(ClaimJson::from).collect();
        output.value(&PageJson::<KeyJson> {
            keys: None,
            claims: Some(rows),
            next: next.map(|next| next.to_string()),
        });
        return Ok(!claims.is_empty());
    }
    if claims.is_empty() {
        output.line("no unique claims");
        return Ok(false);
    }
    let rows = claims.iter().map(|claim| {
        [
            job_of(idem, &claim.namespace, &claim.job),
            shortened(&claim.key),
            claim.holder.task.to_string(),
            ago(claim.holder.since),
            claim
                .holder
                .left
                .map_or_else(|| String::from("with the task"), |left| format!("in {}", spoken(left))),
        ]
    });
    output.table(["JOB", "UNIQUE", "TASK", "CLAIMED", "ENDS"], rows.collect());
    if let Some(next) = next {
        output.line(format!("\nThere are more: --after {next}"));
    }
    Ok(true)
}

/// Tells whether a job is within reach.
fn reaches<D: Database>(idem: &Idem<D>, reach: &Reach, job: &JobRow) -> bool {
    reach.all_namespaces || job.namespace == idem.namespace()
}

/// Returns the jobs within reach.
async fn jobs_of<D: Database>(idem: &Idem<D>, reach: &Reach) -> Result<Vec<JobRow>, Failure> {
    let mut jobs = idem.operator().jobs().await?;
    jobs.retain(|job| reaches(idem, reach, job));
    Ok(jobs)
}

/// Says that no job within reach is called so, and which may be meant; `None` if one is.
pub(crate) async fn no_job<D: Database>(
    idem: &Idem<D>,
    reach: &Reach,
    name: &str,
) -> Result<Option<String>, Failure> {
    let jobs = idem.operator().jobs().await?;
    let (within, without): (Vec<_>, Vec<_>) = jobs.iter().partition(|job| reaches(idem, reach, job));
    if within.iter().any(|job| job.name == name) {
        return Ok(None);
    }
    let place = match reach.all_namespaces {
        true => String::from("any namespace"),
        false => format!("namespace {}", idem.namespace()),
    };
    let hint = match without.iter().find(|job| job.name == name) {
        Some(job) => format!("; it is in namespace {}: give --namespace {}", job.namespace, job.namespace),
        None => {
            let names: BTreeSet<_> = within.iter().map(|job| job.name.as_str()).collect();
            instead_of(name, &Vec::from_iter(names))
        }
    };
    Ok(Some(format!("no job is called {name} in {place}{hint}")))
}

pub(crate) async fn jobs<D: Database>(
    idem: &Idem<D>,
    reach: &Reach,
    output: &mut Output,
) -> Result<(), Failure> {
    let jobs = jobs_of(idem, reach).await?;
    if output.json {
        let rows: Vec<_> = jobs.into_iter().map(JobJson::from).collect();
        output.value(&rows);
        return Ok(());
    }
    if jobs.is_empty() {
        output.line(format!(
            "no jobs in namespace {}; --all-namespaces shows those of others",
            idem.namespace()
        ));
        return Ok(());
    }
    let now = idem.store().now().await?;
    let rows = jobs.iter().map(|job| {
        let tick = job.last_tick.and_then(|tick| u64::try_from(tick.unix()).ok());
        let tick = tick.map(|tick| ago(now.saturating_sub(std::time::Duration::from_secs(tick))));
        let [running, lapsed, failed, parked, completed, rejected, expired] =
            State::ALL.map(|state| number(job.counts.of(state)));
        let name = job_of(idem, &job.namespace, &job.name);
        [name, running, lapsed, failed, parked, completed, rejected, expired, tick.unwrap_or_default()]
    });
    output.table(
        ["JOB", "RUNNING", "LAPSED", "FAILED", "PARKED", "COMPLETED", "REJECTED", "EXPIRED", "LAST TICK"],
        rows.collect(),
    );
    Ok(())
}

pub(crate) async fn stats<D: Database>(
    idem: &Idem<D>,
    reach: &Reach,
    output: &mut Output,
) -> Result<(), Failure> {
    let volume = idem.operator().volume().await?;
    let jobs = jobs_of(idem, reach).await?;
    let mut total = StateCounts::default();
    for job in &jobs {
        for state in State::ALL {
            total.add(state, job.counts.of(state));
        }
    }
    if output.json {
        output.value(&StatsJson {
            keys: total.into(),
            jobs: jobs.into_iter().map(JobJson::from).collect(),
            claims: volume.claims,
            outbox: volume.outbox,
            outbox_oldest_ms: volume.outbox_oldest.map(millis),
            tables: volume.tables.into_iter().map(|(name, bytes)| TableJson { name, bytes }).collect(),
        });
        return Ok(());
    }
    output.field(
        "keys",
        match reach.all_namespaces {
            true => format!("{} in all namespaces", total.total()),
            false => format!("{} in namespace {}", total.total(), idem.namespace()),
        },
    );
    for state in State::ALL {
        output.field(&format!("  {}", state_name(state)), total.of(state).to_string());
    }
    output.field("claims", format!("{} in the database", volume.claims));
    output.field(
        "outbox",
        match volume.outbox_oldest {
            Some(oldest) => {
                format!("{} in the database, the oldest put there {}", volume.outbox, ago(oldest))
            }
            None => String::from("empty"),
        },
    );
    if !volume.tables.is_empty() {
        output.line("");
        let rows = volume.tables.into_iter().map(|(name, bytes)| [name, size(bytes)]);
        output.table(["TABLE", "ON DISK"], rows.collect());
    }
    Ok(())
}

pub(crate) async fn explain<D: Database>(
    idem: &Idem<D>,
    key: &KeyArg,
    show_result: bool,
    output: &mut Output,
) -> Result<(), Failure> {
    let report = find(idem, &key.key, key.job.as_deref()).await?;
    let shown = |what: &str, result: Option<Result<Json, CodecError>>| {
        let result = result.filter(|_| show_result).transpose();
        result.map_err(|error| Failure::failed(format!("{what} cannot be shown: {error}")))
    };
    let result = shown("the result", report.result())?;
    let of_steps =
        report.steps.iter().map(|step| shown(&format!("the result of step `{}`", step.name), step.result()));
    let of_steps: Vec<Option<Json>> = of_steps.collect::<Result<_, _>>()?;
    if output.json {
        output.value(&ReportJson {
            key: KeyJson::from(&report.key),
            steps: report
                .steps
                .iter()
                .zip(of_steps)
                .map(|(step, result)| StepJson {
                    name: step.name.clone(),
                    is_done: step.is_done,
                    is_given: step.is_given,
                    call_key: step.call_key.clone(),
                    result,
                })
                .collect(),
            audit: report
                .audit
                .iter()
                .map(|note| AuditJson {
                    epoch: note.epoch.0,
                    action: note.action.clone(),
                    why: note.why.clone(),
                    ago_ms: millis(note.age),
                })
                .collect(),
            claim: report.claim.map(|Holder { task, since, left, .. }| HolderJson {
                task: task.to_string(),
                held_for_ms: millis(since),
                left_ms: left.map(millis),
            }),
            result,
        });
        return Ok(());
    }
    let text = |result| serde_json::to_string(&result).expect("names are texts");
    let of_steps = show_result.then(|| of_steps.into_iter().map(|result| result.map(text)).collect());
    print_report(&report, result.map(text), of_steps, output);
    Ok(())
}

/// Prints what is known of a key, with its result and those of its steps if they are given.
fn print_report(
    report: &KeyReport,
    result: Option<String>,
    of_steps: Option<Vec<Option<String>>>,
    output: &mut Output,
) {
    for (name, value) in facts(report, result) {
        output.field(name, value);
    }
    if !report.steps.is_empty() {
        output.line("\nSTEPS");
        let rows = report.steps.iter().map(|step| {
            let state = match (step.is_done, step.is_given) {
                (true, true) => "done, as a person has said",
                (true, false) => "done",
                (false, _) => "begun, in doubt",
            };
            [step.name.clone(), String::from(state), step.call_key.clone()]
        });
        match of_steps {
            None => output.table(["STEP", "STATE", "KEY OF THE CALL"], rows.collect()),
            Some(results) => {
                let rows = rows
                    .zip(results)
                    .map(|([name, state, key], result)| [name, state, key, result.unwrap_or_default()]);
                output.table(["STEP", "STATE", "KEY OF THE CALL", "RESULT"], rows.collect());
            }
        }
    }
    if !report.audit.is_empty() {
        output.line("\nAUDIT");
        let rows = report
            .audit
            .iter()
            .map(|note| [ago(note.age), note.epoch.to_string(), note.action.clone(), note.why.clone()]);
        output.table(["WHEN", "EPOCH", "ACTION", "WHY"], rows.collect());
    }
}

/// Returns what is known of a key, line by line, with the result if it is given.
pub(crate) fn facts(report: &KeyReport, result: Option<String>) -> Vec<(&'static str, String)> {
    let key = &report.key;
    let mut facts = vec![
        ("job", format!("{} in namespace {}", key.job, key.namespace)),
        ("key", key.key.clone()),
        ("hash", key.hash.to_string()),
        ("state", format!("{}, {}", state_name(key.state), ago(key.since))),
        ("epoch", key.epoch.to_string()),
    ];
    if key.attempts > 0 {
        facts.push(("attempts", key.attempts.to_string()));
    }
    if key.state == State::Running {
        facts.push(("lease left", spoken(key.lease_left)));
    }
    match (key.state, key.expires_in) {
        (State::Completed | State::Rejected, Some(left)) => {
            facts.push(("expires", format!("in {}", spoken(left))))
        }
        (State::Completed | State::Rejected, None) => facts.push(("expires", String::from("never"))),
        (State::Absent, _) => {
            let text = "no more: its time is over, or somebody has forgotten it, as the audit says then";
            facts.push(("answers", String::from(text)));
        }
        _ => {}
    }
    let recorded = match key.state {
        State::Completed => Some("result"),
        State::Rejected => Some("final error"),
        _ => None,
    };
    if let Some(name) = recorded {
        let hidden =
            || format!("{}; `explain --show-result` shows it", counted(key.result_bytes, "byte", "bytes"));
        facts.push((name, result.unwrap_or_else(hidden)));
    }
    if let Some(error) = &key.error {
        facts.push(("last error", error.clone()));
    }
    if let Some(settled) = &key.settled {
        facts.push(("settled", format!("{settled}; it waits for its next run")));
    }
    if let Some(parked) = &key.parked {
        facts.push((
            "parked at",
            parked.step.as_ref().map_or_else(|| String::from("its body"), |step| format!("step `{step}`")),
        ));
        facts.push(("because", parked.reason.clone()));
    }
    if let Some(called) = key.call_key() {
        facts.push(("key of call", format!("{called}, if its callee takes one")));
    }
    if let Some(claim) = &report.claim {
        facts.push(("unique claim", format!("task {}, {}", claim.task, ago(claim.since))));
    }
    facts
}

/// Finds the key that is meant.
pub(crate) async fn find<D: Database>(
    idem: &Idem<D>,
    key: &str,
    job: Option<&str>,
) -> Result<KeyReport, Failure> {
    let operator = idem.operator();
    let namespace = idem.namespace();
    if let Some(hash) = KeyHash::from_hex(key) {
        match operator.explain(hash).await? {
            // What looks like a hash may be how a key reads.
            None => {}
            Some(report) if report.key.namespace != namespace => {
                return Err(Failure::failed(format!(
                    "key {:?} ({hash}) is of namespace {}; give --namespace {}",
                    report.key.key, report.key.namespace, report.key.namespace
                )));
            }
            Some(report) if job.is_some_and(|job| job != report.key.job) => {
                return Err(Failure::failed(format!(
                    "key {:?} ({hash}) is of job {}, not of {}",
                    report.key.key,
                    report.key.job,
                    job.unwrap_or_default()
                )));
            }
            Some(report) => return Ok(report),
        }
    }
    let mut query = KeyQuery::new().namespace(namespace).containing(key);
    if let Some(job) = job {
        query = query.job(job);
    }
    let claimed = query.clone();
    // The key itself may come behind others that contain it.
    let (mut exact, mut near) = (Vec::new(), Vec::new());
    let sort = |known: KnownKey| match known.key == key {
        true => exact.push(known),
        false if near.len() < NEAR => near.push(known),
        false => {}
    };
    page_by_page(query, async |query| operator.keys(query).await, |known| known.hash, sort).await?;
    match exact.as_slice() {
        [one] => operator
            .explain(one.hash)
            .await?
            .ok_or_else(|| Failure::failed(format!("key {key:?} ({}) has just been deleted", one.hash))),
        [] => {
            let (mut of, mut listing) = (String::new(), String::from("idem list"));
            if let Some(job) = job {
                if let Some(said) = no_job(idem, &Reach { all_namespaces: false }, job).await? {
                    return Err(Failure::failed(said));
                }
                of = format!(" of job {job}");
                listing = format!("{listing} --job {job}");
            }
            let claims = claims_where(idem, claimed, |claim| claim.key == key).await?;
            let hint = match (claims.first(), near.is_empty()) {
                (Some(claim), _) => format!(
                    "; but task {} of job {} has had that unique claim for {}: it waits, or has failed and is tried again",
                    claim.holder.task,
                    claim.job,
                    spoken(claim.holder.since)
                ),
                (None, false) => format!("; near it are:{}", suggestions(&near)),
                (None, true) => format!("; `{listing}` shows what there is"),
            };
            Err(Failure::failed(format!(
                "nothing is recorded of a key {key:?}{of} in namespace {namespace}{hint}; a job with a transaction is on record only \
                 once it is done: what became of its task is in the queue"
            )))
        }
        several => Err(Failure::failed(format!(
            "several keys read {key:?}; give the hash of one, or --job:{}",
            suggestions(several)
        ))),
    }
}

fn suggestions(keys: &[KnownKey]) -> String {
    let line = |key: &KnownKey| format!(" {} ({} of job {})", key.hash, shortened(&key.key), key.job);
    keys.iter().take(NEAR).map(line).collect::<Vec<_>>().join(",")
}

/// Returns the name of a job, with its namespace if that is another.
fn job_of<D: Database>(idem: &Idem<D>, namespace: &str, job: &str) -> String {
    match namespace == idem.namespace() {
        true => job.to_owned(),
        false => format!("{namespace}:{job}"),
    }
}

/// Returns what is worth a word in a listing.
fn note(key: &KnownKey) -> String {
    match (&key.settled, &key.error, &key.parked) {
        (_, _, Some(parked)) => {
            let step = parked.step.as_ref().map_or_else(String::new, |step| format!("{step}: "));
            format!("{step}{}", parked.reason)
        }
        (Some(said), ..) | (None, Some(said), _) => said.clone(),
        _ if key.state == State::Running => format!("{} of lease left", spoken(key.lease_left)),
        _ => String::new(),
    }
}

/// Cuts a text for a table.
fn shortened(text: &str) -> String {
    const CHARS: usize = 48;
    match text.char_indices().nth(CHARS) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

fn number(count: u64) -> String {
    if count == 0 { String::from("-") } else { count.to_string() }
}

/// Returns the claims of a task, of those that end with it.
pub(crate) async fn claims_of<D: Database>(idem: &Idem<D>, task: TaskId) -> Result<Vec<ClaimRow>, Failure> {
    claims_where(idem, KeyQuery::new(), |claim| claim.holder.task == task && claim.holder.left.is_none())
        .await
}

/// Returns all claims that a query finds and that are meant.
async fn claims_where<D: Database>(
    idem: &Idem<D>,
    query: KeyQuery,
    is_meant: impl Fn(&ClaimRow) -> bool,
) -> Result<Vec<ClaimRow>, Failure> {
    let operator = idem.operator();
    let mut found = Vec::new();
    let keep = |claim| found.extend(Some(claim).filter(&is_meant));
    page_by_page(query, async |query| operator.claims(query).await, |claim| claim.hash, keep).await?;
    Ok(found)
}

/// Takes all rows that a query finds.
async fn page_by_page<T>(
    query: KeyQuery,
    read: impl AsyncFn(&KeyQuery) -> Result<Vec<T>, StoreError>,
    hash: impl Fn(&T) -> KeyHash,
    mut take: impl FnMut(T),
) -> Result<(), Failure> {
    const PAGE: u32 = 1_000;
    let mut query = query.limit(PAGE);
    loop {
        let page = read(&query).await?;
        let last = page.last().map(&hash).filter(|_| page.len() == PAGE as usize);
        page.into_iter().for_each(&mut take);
        match last {
            Some(last) => query = query.after(last),
            None => return Ok(()),
        }
    }
}
