//! `lock`, for each kind of job, and `on_busy`.

use std::time::Duration;

use proc_macro2::Ident;
use syn::{Expr, Member};

use super::duration::{duration, only_duration};
use super::key::uses;
use super::options::{Given, Options};
use super::params::Params;
use super::unique::MODES;
use super::{scan, value};
use crate::codes::Code;
use crate::errors::Errors;
use crate::model::{Lock, OnBusy, RowLock, Unique, UniqueMode};
use crate::suggest;

const LOCKS: &[&str] = &["row", "advisory", "none"];
const ROW_FORM: &str = "write `row(payments.id = payment_id)`";
const LEASE_FORM: &str = "write `lock = lease(\"30s\")`";
const LEASE: Duration = Duration::from_secs(30);
/// Three heartbeats of 100 ms; one that is late is then no lost claim.
const LEASE_MIN: Duration = Duration::from_millis(300);
const ON_BUSY: &[&str] = &["wait", "skip", "error", "reschedule"];
const WAIT: OnBusy = OnBusy::Wait(Duration::from_secs(10));
const RESCHEDULE: OnBusy = OnBusy::Reschedule(Duration::from_secs(5));

/// Returns how runs of one key of an atomic job keep out of each other's way.
pub(crate) fn lock(options: &Options, params: &Params, unique: Option<&Unique>, errors: &mut Errors) -> Lock {
    let Some(Given { name, expr }) = &options.lock else { return Lock::Row };
    let Some((word, args)) = value::word_or_call(expr) else {
        errors.push(
            expr,
            Code::UnknownValue,
            "`lock` must be `row`, `row(table.column = arg)`, `advisory` or `none`",
        );
        return Lock::Row;
    };
    match (word.to_string().as_str(), args) {
        ("row", None) => return Lock::Row,
        ("advisory", None) => return Lock::Advisory,
        ("none", None) => {
            check_no_lock(options, unique, errors);
            check_guarded(name, options, errors);
            return Lock::None;
        }
        ("row", Some(args)) => {
            let mut args = args.iter();
            match (args.next(), args.next()) {
                (Some(arg), None) => return row(arg, params, errors).map_or(Lock::Row, Lock::BusinessRow),
                _ => errors.push(expr, Code::InvalidRow, format_args!("`row` takes one column; {ROW_FORM}")),
            }
        }
        ("advisory" | "none", Some(_)) => {
            errors.push(
                expr,
                Code::TakesNothing,
                format_args!("`{word}` takes nothing; write `lock = {word}`"),
            );
        }
        ("lease", _) => {
            let message = "`lease` cannot stand on an atomic job, which holds its key by its transaction; \
                           write `lock = row`";
            errors.push(expr, Code::LeaseOnAtomicJob, message);
        }
        (other, _) => {
            let instead = match MODES.contains(&other) {
                true => format!("; write `unique = {}`", scan::text(expr)),
                false => suggest::instead_of(other, LOCKS),
            };
            errors.push(word, Code::UnknownValue, format_args!("there is no lock `{word}`{instead}"));
        }
    }
    Lock::Row
}

/// Checks that nothing needs the lock that an atomic job does without.
fn check_no_lock(options: &Options, unique: Option<&Unique>, errors: &mut Errors) {
    match (unique, &options.unique, &options.on_busy) {
        // The key of the runs excludes them then.
        (Some(Unique { run_key: Some(_), .. }), _, _) => {}
        (Some(Unique { mode, .. }), Some(given), _) if mode.in_run() => {
            let mode = scan::text(&given.expr);
            let message = format!(
                "`{mode}` cannot stand with `lock = none`: nothing would keep the runs apart; remove \
                 `lock = none`, or say with `unique_by(run = …)` which runs must not meet"
            );
            errors.push(&given.expr, Code::UniqueWithoutLock, message);
        }
        (_, _, Some(on_busy)) => {
            let message = "`on_busy` cannot stand with `lock = none`: without a lock no run is ever busy; \
                           remove one of them";
            errors.push(&on_busy.name, Code::BusyWithoutLock, message);
        }
        (_, _, None) => {}
    }
}

/// Checks that a job without a lock has a record, or something else that can tell a second run of the work.
fn check_guarded(lock: &Ident, options: &Options, errors: &mut Errors) {
    let Options { unique, check, adopt, .. } = options;
    let is_guarded = unique.is_some() || check.is_some() || !adopt.is_empty();
    let is_meant = ["unique", "check", "adopt"].into_iter().any(|guard| options.was_tried(guard));
    if options.keeps_no_record() && !is_guarded && !is_meant {
        let message = "`lock = none` cannot stand with `retain = none`: without a lock and a record nothing keeps a \
                       second run from the work; remove one of them";
        errors.push(lock, Code::NothingGuarded, message);
    }
}

/// Returns how long a claim of a leased job lasts without a heartbeat.
pub(crate) fn lease(given: Option<&Given>, errors: &mut Errors) -> Duration {
    let Some(Given { expr, .. }) = given else { return LEASE };
    let Some((word, args)) = value::word_or_call(expr) else {
        errors.push(
            expr,
            Code::UnknownValue,
            format_args!("`lock` of a leased job must be a lease; {LEASE_FORM}"),
        );
        return LEASE;
    };
    match (word.to_string().as_str(), args) {
        ("lease", Some(args)) => match (args.first(), args.len()) {
            (Some(limit), 1) => return lease_of(limit, errors),
            _ => errors.push(
                expr,
                Code::TakesOneDuration,
                format_args!("`lease` takes one duration; {LEASE_FORM}"),
            ),
        },
        ("lease", None) => {
            errors.push(word, Code::TakesOneDuration, format_args!("`lease` must say how long; {LEASE_FORM}"))
        }
        ("row", Some(_)) => {
            let message = format!(
                "`row(...)` cannot stand on a leased job, which has no transaction to hold a row by; {LEASE_FORM}"
            );
            errors.push(expr, Code::LockOnLeasedJob, message);
        }
        ("row" | "advisory" | "none", _) => {
            let message = format!(
                "`{word}` cannot stand on a leased job, which holds its key by a lease; {LEASE_FORM}"
            );
            errors.push(expr, Code::LockOnLeasedJob, message);
        }
        (other, _) => {
            let instead = suggest::closest(other, &["lease"])
                .map_or_else(|| format!("; {LEASE_FORM}"), |meant| format!("; did you mean `{meant}`?"));
            errors.push(word, Code::UnknownValue, format_args!("there is no lock `{word}`{instead}"));
        }
    }
    LEASE
}

fn lease_of(limit: &Expr, errors: &mut Errors) -> Duration {
    let Some(lease) = duration("`lease`", "lease(\"30s\")", limit, errors) else { return LEASE };
    if lease < LEASE_MIN {
        let message = "`lease` cannot be shorter than three heartbeats of 100 ms each; \
                       write `lease(\"300ms\")` or more";
        errors.push(limit, Code::LeaseTooShort, message);
        return LEASE;
    }
    lease
}

/// Reads `table.column = value`, with or without a schema.
fn row(arg: &Expr, params: &Params, errors: &mut Errors) -> Option<RowLock> {
    let Expr::Assign(assign) = scan::peel_expr(arg) else {
        errors.push(
            arg,
            Code::InvalidRow,
            format_args!("`row` must say which value finds the row; {ROW_FORM}"),
        );
        return None;
    };
    let mut names = Vec::new();
    if !collect_names(&assign.left, &mut names) {
        let message = format!("table and column must be plain identifiers; {ROW_FORM}");
        errors.push(&assign.left, Code::InvalidRow, message);
        return None;
    }
    let value = (*assign.right).clone();
    let uses = uses("`row(...)`", &value, params, errors)?;
    match names.as_slice() {
        [table, column] => Some(RowLock { table: table.clone(), column: column.clone(), value, uses }),
        [schema, table, column] => {
            Some(RowLock { table: format!("{schema}.{table}"), column: column.clone(), value, uses })
        }
        _ => {
            let message =
                format!("`row` must name a table and its column, at most with a schema; {ROW_FORM}");
            errors.push(&assign.left, Code::InvalidRow, message);
            None
        }
    }
}

/// Collects the names of `schema.table.column`; tells whether it is made of plain identifiers alone.
fn collect_names(expr: &Expr, names: &mut Vec<String>) -> bool {
    use syn::ext::IdentExt;
    let name = match scan::peel_expr(expr) {
        Expr::Path(_) => value::word(expr),
        Expr::Field(field) => match &field.member {
            Member::Named(name) if collect_names(&field.base, names) => Some(name),
            _ => None,
        },
        _ => None,
    };
    let Some(name) = name.map(|name| name.unraw().to_string()) else { return false };
    let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    names.push(name);
    plain
}

/// Returns what a run does when another run holds its key.
pub(crate) fn on_busy(given: Option<&Given>, unique: Option<&Unique>, errors: &mut Errors) -> OnBusy {
    let Some(Given { expr, .. }) = given else {
        return match unique {
            // To wait for another run would keep a worker from all other tasks.
            Some(unique) if unique.mode.in_run() => RESCHEDULE,
            // And its claim has ended by then, so that others would be enqueued, and wait beside it.
            Some(Unique { mode: UniqueMode::UntilExecuting, .. }) => RESCHEDULE,
            _ => WAIT,
        };
    };
    let Some((word, args)) = value::word_or_call(expr) else {
        errors.push(
            expr,
            Code::UnknownValue,
            "`on_busy` must be `wait(\"10s\")`, `skip`, `error` or `reschedule(\"5s\")`",
        );
        return WAIT;
    };
    match (word.to_string().as_str(), args) {
        ("skip", None) => return OnBusy::Skip,
        ("error", None) => return OnBusy::Error,
        ("wait", args) => {
            return only_duration(expr, word, args, "wait(\"10s\")", errors).map_or(WAIT, OnBusy::Wait);
        }
        ("reschedule", args) => {
            return only_duration(expr, word, args, "reschedule(\"5s\")", errors)
                .map_or(WAIT, OnBusy::Reschedule);
        }
        ("skip" | "error", Some(_)) => errors.push(
            expr,
            Code::TakesNothing,
            format_args!("`{word}` takes nothing; write `on_busy = {word}`"),
        ),
        (other, _) => {
            let instead = suggest::instead_of(other, ON_BUSY);
            errors.push(word, Code::UnknownValue, format_args!("`on_busy` cannot be `{word}`{instead}"));
        }
    }
    WAIT
}
