//! The kind of job that the first parameter makes, and the options that only such a job has.

use proc_macro2::Ident;
use syn::{Expr, ExprPath};

use super::options::{Given, Options};
use super::params::{First, Params};
use super::{lock, scan, value};
use crate::codes::Code;
use crate::errors::Errors;
use crate::model::{Drift, InDoubt, Kind, Unique};
use crate::suggest;

/// Returns the kind of the job, unless a mistake leaves it open.
pub(crate) fn kind(
    function: &Ident,
    params: &Params,
    options: &Options,
    unique: Option<&Unique>,
    errors: &mut Errors,
) -> Option<Kind> {
    match &params.first {
        First::Tx(tx) => {
            if let Some(in_doubt) = &options.in_doubt {
                let message = "`in_doubt` cannot stand on an atomic job: its effects are in the transaction, \
                               so none is ever in doubt; remove it, or take `run: &mut Run<'_, Db>` in the place of \
                               the transaction if the job calls somebody";
                errors.push(&in_doubt.name, Code::InDoubtOnAtomicJob, message);
            }
            check_no_drift(options, errors);
            let lock = lock::lock(options, params, unique, errors);
            Some(Kind::Atomic { tx: tx.clone()?, lock })
        }
        First::Run(run) => {
            let in_doubt = match &options.in_doubt {
                Some(given) => in_doubt_of_steps(given, errors),
                None => {
                    missing(options, function, MISSING_WITH_STEPS, errors);
                    None
                }
            };
            let drift = drift(options.drift.as_ref(), errors);
            let lease = lock::lease(options.lock.as_ref(), errors);
            Some(Kind::Leased { run: Some(run.clone()?), lease, in_doubt: in_doubt?, drift })
        }
        First::Other => {
            let Some(given) = &options.in_doubt else {
                // The transaction may be what is missing; then the other options are right as they are.
                missing(options, function, MISSING, errors);
                return None;
            };
            let in_doubt = in_doubt(given, errors);
            check_no_drift(options, errors);
            let lease = lock::lease(options.lock.as_ref(), errors);
            Some(Kind::Leased { run: None, lease, in_doubt: in_doubt?, drift: Drift::Refuse })
        }
        First::Unclear => None,
    }
}

const MISSING: &str = "must say what becomes of work that was cut off, or take `tx: &mut Tx<'_, Db>` if all of it is in \
    one database;\nwrite `in_doubt = rerun` if it can be repeated, `in_doubt = probe(path)` if it can be looked up, or \
    `in_doubt = park` if a person must decide";

const MISSING_WITH_STEPS: &str = "must say what becomes of a step that was cut off; write `in_doubt = rerun` if it can be \
    repeated under its key,\nor `in_doubt = park` if a person must decide; a step says otherwise with `.rerun()`, \
    `.probe(path)` or `.park()`";

fn missing(options: &Options, function: &Ident, what: &str, errors: &mut Errors) {
    if !options.was_tried("in_doubt") {
        errors.push(function, Code::MissingInDoubt, format_args!("`{function}` {what}"));
    }
}

/// Reads what becomes of a job without steps.
fn in_doubt(given: &Given, errors: &mut Errors) -> Option<InDoubt> {
    match answer(given, errors)? {
        Answer::Rerun => Some(InDoubt::Rerun),
        Answer::Park => Some(InDoubt::Park),
        Answer::Probe(Some(Expr::Path(ExprPath { qself: None, path, .. }))) => {
            Some(InDoubt::Probe(path.clone()))
        }
        Answer::Probe(_) => {
            let message = "`probe` takes the path of the function that looks; write `in_doubt = probe(path)`";
            errors.push(&given.expr, Code::NotAPath, message);
            None
        }
    }
}

/// Reads what becomes of a step that says nothing else.
fn in_doubt_of_steps(given: &Given, errors: &mut Errors) -> Option<InDoubt> {
    match answer(given, errors)? {
        Answer::Rerun => Some(InDoubt::Rerun),
        Answer::Park => Some(InDoubt::Park),
        Answer::Probe(probe) => {
            let path = probe.map_or_else(|| String::from("path"), scan::text);
            let message = format!(
                "`probe` belongs to one step, not to all of them; write `.probe({path})` at the step and \
                 `in_doubt = rerun` or `park` here"
            );
            errors.push(&given.expr, Code::ProbeOfAllSteps, message);
            None
        }
    }
}

enum Answer<'a> {
    Rerun,
    Park,
    /// `probe(path)` or `probe = path`, with what stands there, if it is one thing.
    Probe(Option<&'a Expr>),
}

fn answer<'a>(Given { expr, .. }: &'a Given, errors: &mut Errors) -> Option<Answer<'a>> {
    if let Expr::Assign(assign) = scan::peel_expr(expr)
        && value::word(&assign.left).is_some_and(|word| word == "probe")
    {
        return Some(Answer::Probe(Some(scan::peel_expr(&assign.right))));
    }
    let Some((word, args)) = value::word_or_call(expr) else {
        errors.push(expr, Code::UnknownValue, "`in_doubt` must be `rerun`, `probe(path)` or `park`");
        return None;
    };
    match (word.to_string().as_str(), args) {
        ("rerun", None) => return Some(Answer::Rerun),
        ("park", None) => return Some(Answer::Park),
        ("probe", args) => {
            let only = args.filter(|args| args.len() == 1).and_then(|args| args.first());
            return Some(Answer::Probe(only.map(scan::peel_expr)));
        }
        ("rerun" | "park", Some(_)) => {
            errors.push(
                expr,
                Code::TakesNothing,
                format_args!("`{word}` takes nothing; write `in_doubt = {word}`"),
            );
        }
        (other, _) => {
            let instead = suggest::instead_of(other, &["rerun", "probe", "park"]);
            errors.push(word, Code::UnknownValue, format_args!("`in_doubt` cannot be `{word}`{instead}"));
        }
    }
    None
}

/// Reads what a run does whose recorded steps are not the first ones that the body takes.
fn drift(given: Option<&Given>, errors: &mut Errors) -> Drift {
    let Some(Given { expr, .. }) = given else { return Drift::Refuse };
    let Some(word) = value::word(expr) else {
        errors.push(expr, Code::UnknownValue, "`drift` must be `refuse`, `resume` or `park`");
        return Drift::Refuse;
    };
    match word.to_string().as_str() {
        "refuse" => Drift::Refuse,
        "resume" => Drift::Resume,
        "park" => Drift::Park,
        other => {
            let instead = suggest::instead_of(other, &["refuse", "resume", "park"]);
            errors.push(word, Code::UnknownValue, format_args!("`drift` cannot be `{word}`{instead}"));
            Drift::Refuse
        }
    }
}

fn check_no_drift(options: &Options, errors: &mut Errors) {
    if let Some(drift) = &options.drift {
        let message = "`drift` cannot stand on a job without steps: nothing recorded can differ from the body; \
                       remove it";
        errors.push(&drift.name, Code::DriftWithoutSteps, message);
    }
}
