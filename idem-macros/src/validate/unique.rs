//! `unique`, `unique_by` and `on_duplicate`: what of a job there is only one of.

use proc_macro2::Ident;
use syn::LitStr;

use super::duration::only_duration;
use super::key::{Subject, key_of};
use super::options::{Given, GivenParts, Options, Parts};
use super::params::{First, Params};
use super::{scan, value};
use crate::codes::Code;
use crate::errors::Errors;
use crate::model::{Key, OnDuplicate, Unique, UniqueMode};
use crate::suggest;

pub(super) const MODES: &[&str] = &[
    "until_executing",
    "until_executed",
    "until_expired",
    "while_executing",
    "until_and_while_executing",
    "keep_latest",
];
const ON_DUPLICATE: &[&str] = &["skip", "error", "replace", "reschedule"];
const BY: Subject = Subject {
    option: "unique_by",
    noun: "`unique_by`",
    then: "all tasks of the job would be the same one",
    right_if: "there is one for the whole job",
};

/// Returns what of the job there is only one of, if that was said without a mistake.
pub(crate) fn unique(options: &Options, params: &Params, errors: &mut Errors) -> Option<Unique> {
    let by = options.unique_by.as_ref().and_then(|given| by(given, params, errors));
    let on_duplicate = options.on_duplicate.as_ref().and_then(|given| on_duplicate(given, errors));
    let Some(given) = &options.unique else {
        check_nothing_without_unique(options, errors);
        return None;
    };
    let mode = mode(given, errors)?;
    if let Some(on_duplicate) = &options.on_duplicate {
        check_has_duplicates(mode, &on_duplicate.name, errors);
    }
    let (queue_key, run_key) = match by {
        None => (None, None),
        Some(By::Both(key)) => (Some(key.clone()), Some(key)),
        Some(By::Each { queue, run }) => {
            check_phases(mode, &scan::text(&given.expr), queue.as_ref(), run.as_ref(), errors);
            (queue.map(|part| part.key), run.map(|part| part.key))
        }
    };
    Some(Unique {
        mode,
        on_duplicate,
        queue_key: queue_key.filter(|_| mode.in_queue()),
        run_key: run_key.filter(|_| mode.in_run()),
    })
}

/// Checks that a task can have newer arguments than another one of its claim: those of one key are held to be the same.
pub(crate) fn check_newer_arguments(
    options: &Options,
    key: &Key,
    unique: Option<&Unique>,
    params: &Params,
    errors: &mut Errors,
) {
    let is_latest = |unique: &&Unique| matches!(unique.mode, UniqueMode::KeepLatest);
    let (Some(given), Some(unique)) = (&options.unique, unique.filter(is_latest)) else { return };
    let has_no_record = matches!(params.first, First::Tx(_)) && options.keeps_no_record();
    let (shown, uses): (_, &[Ident]) = match key {
        Key::Global => (String::from("global"), &[]),
        Key::Of { expr, uses } => (scan::text(expr), uses),
    };
    let may_differ = match &unique.queue_key {
        Some(Key::Of { uses: by, .. }) => uses.iter().any(|of_key| !by.contains(of_key)),
        Some(Key::Global) => !uses.is_empty(),
        None => false,
    };
    if has_no_record || options.key.is_none() || may_differ {
        return;
    }
    let Some(missing) = params.args.iter().find(|arg| !uses.contains(&arg.ident)) else { return };
    let missing = &missing.ident;
    let newer = match key {
        Key::Global => missing.to_string(),
        Key::Of { .. } => format!("({shown}, {missing})"),
    };
    let message = format!(
        "`keep_latest` keeps the newest arguments, but runs of one key must have the same ones, and `{missing}` is not in the \
         key; write `key = {newer}, unique_by = {shown}`"
    );
    errors.push(&given.expr, Code::KeepLatestByKey, message);
}

/// `unique` is missing once, however many options need it.
fn check_nothing_without_unique(options: &Options, errors: &mut Errors) {
    let by = options.unique_by.as_ref().map(|given| &given.name);
    let on_duplicate = options.on_duplicate.as_ref().map(|given| &given.name);
    if let Some(name) = by.or(on_duplicate)
        && !options.was_tried("unique")
    {
        let message = format!(
            "`{name}` cannot stand without `unique`, which says what there is only one of; \
             write `unique = until_executed` as well"
        );
        errors.push(name, Code::MissingUnique, message);
    }
}

fn mode(Given { expr, .. }: &Given, errors: &mut Errors) -> Option<UniqueMode> {
    let Some((word, args)) = value::word_or_call(expr) else {
        let text = value::string(expr).map(LitStr::value);
        let instead = match text.filter(|text| MODES.contains(&text.as_str())) {
            Some(mode) => format!(" without quotes; write `{mode}`"),
            None => suggest::instead_of("", MODES),
        };
        errors.push(expr, Code::UnknownValue, format_args!("`unique` must be a word{instead}"));
        return None;
    };
    match (word.to_string().as_str(), args) {
        ("until_executing", None) => return Some(UniqueMode::UntilExecuting),
        ("until_executed", None) => return Some(UniqueMode::UntilExecuted),
        ("while_executing", None) => return Some(UniqueMode::WhileExecuting),
        ("until_and_while_executing", None) => return Some(UniqueMode::UntilAndWhileExecuting),
        ("keep_latest", None) => return Some(UniqueMode::KeepLatest),
        ("until_expired", args) => {
            return only_duration(expr, word, args, "until_expired(\"1h\")", errors)
                .map(UniqueMode::UntilExpired);
        }
        (known, Some(_)) if MODES.contains(&known) => {
            errors.push(
                expr,
                Code::TakesNothing,
                format_args!("`{word}` takes nothing; write `unique = {word}`"),
            );
        }
        (other, _) => {
            let instead = match meant(other) {
                Some(mode) => format!("; write `{mode}`"),
                None => suggest::instead_of(other, MODES),
            };
            errors.push(word, Code::UnknownValue, format_args!("`unique` cannot be `{word}`{instead}"));
        }
    }
    None
}

/// Returns the mode that other words stand for.
fn meant(word: &str) -> Option<&'static str> {
    Some(match word {
        "until_completed" | "until_done" | "until_finished" | "until_success" => "until_executed",
        "until_started" | "until_running" => "until_executing",
        "while_running" | "running" => "while_executing",
        "until_and_while_running" => "until_and_while_executing",
        "latest" | "newest" | "keep_newest" | "replace" => "keep_latest",
        _ => return None,
    })
}

/// What was said instead of the key.
#[expect(clippy::large_enum_variant, reason = "a handful of values that live for one expansion")]
enum By {
    /// `unique_by = expr`: in queue and run.
    Both(Key),
    /// `unique_by(queue = expr, run = expr)`.
    Each { queue: Option<Part>, run: Option<Part> },
}

struct Part {
    word: Ident,
    key: Key,
}

fn by(given: &GivenParts, params: &Params, errors: &mut Errors) -> Option<By> {
    let parts = match &given.value {
        Parts::Whole(expr) => return Some(By::Both(key_of(BY, expr, params, errors))),
        Parts::Each(parts) => parts,
    };
    let (mut queue, mut run) = (None, None);
    for part in parts {
        let Some((word, expr)) = value::part(part) else {
            let message = format!(
                "`unique_by(...)` must say which part this is; write `unique_by = {}`, or \
                 `unique_by(queue = …, run = …)`",
                scan::text(part)
            );
            errors.push(part, Code::UnnamedPart, message);
            return None;
        };
        let text = word.to_string();
        let slot = match text.as_str() {
            "queue" => &mut queue,
            "run" => &mut run,
            other => {
                let instead = suggest::instead_of(other, &["queue", "run"]);
                errors.push(
                    word,
                    Code::UnknownPart,
                    format_args!("`unique_by` has no part `{word}`{instead}"),
                );
                return None;
            }
        };
        if slot.is_some() {
            errors.push(word, Code::GivenTwice, format_args!("`{word}` is given twice; remove one of them"));
            return None;
        }
        *slot = Some(Part { word: word.clone(), key: key_of(BY, expr, params, errors) });
    }
    Some(By::Each { queue, run })
}

/// Checks that a mode has the phases that parts of `unique_by` are for.
fn check_phases(mode: UniqueMode, name: &str, queue: Option<&Part>, run: Option<&Part>, errors: &mut Errors) {
    if let Some(Part { word, .. }) = queue
        && !mode.in_queue()
    {
        let message = format!(
            "`{word}` cannot stand with `{name}`, which takes no claim in the queue; remove it, or write \
             `unique = until_and_while_executing`"
        );
        errors.push(word, Code::PartWithoutPhase, message);
    }
    if let Some(Part { word, .. }) = run
        && !mode.in_run()
    {
        let message = format!(
            "`{word}` cannot stand with `{name}`, which takes no claim for a run; remove it, or write \
             `unique = until_and_while_executing`"
        );
        errors.push(word, Code::PartWithoutPhase, message);
    }
}

/// Checks that there is something to say about a duplicate.
fn check_has_duplicates(mode: UniqueMode, on_duplicate: &Ident, errors: &mut Errors) {
    let message = match mode {
        UniqueMode::WhileExecuting => {
            "`on_duplicate` cannot stand with `while_executing`, under which no task in the queue is a duplicate; remove \
             it, or write `on_busy` for a run that meets another"
        }
        UniqueMode::KeepLatest => {
            "`on_duplicate` cannot stand with `keep_latest`, which always replaces the task that waits; remove it"
        }
        UniqueMode::UntilExecuting
        | UniqueMode::UntilExecuted
        | UniqueMode::UntilExpired(_)
        | UniqueMode::UntilAndWhileExecuting => return,
    };
    errors.push(on_duplicate, Code::NoDuplicates, message);
}

fn on_duplicate(Given { expr, .. }: &Given, errors: &mut Errors) -> Option<OnDuplicate> {
    let Some((word, args)) = value::word_or_call(expr) else {
        errors.push(
            expr,
            Code::UnknownValue,
            "`on_duplicate` must be `skip`, `error`, `replace` or `reschedule(\"5s\")`",
        );
        return None;
    };
    match (word.to_string().as_str(), args) {
        ("skip", None) => return Some(OnDuplicate::Skip),
        ("error", None) => return Some(OnDuplicate::Error),
        ("replace", None) => return Some(OnDuplicate::Replace),
        ("reschedule", args) => {
            return only_duration(expr, word, args, "reschedule(\"5s\")", errors)
                .map(OnDuplicate::Reschedule);
        }
        ("skip" | "error" | "replace", Some(_)) => {
            errors.push(
                expr,
                Code::TakesNothing,
                format_args!("`{word}` takes nothing; write `on_duplicate = {word}`"),
            );
        }
        (other, _) => {
            let instead = suggest::instead_of(other, ON_DUPLICATE);
            errors.push(word, Code::UnknownValue, format_args!("`on_duplicate` cannot be `{word}`{instead}"));
        }
    }
    None
}
