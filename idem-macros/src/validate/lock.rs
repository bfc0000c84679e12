//! `lock` and `on_busy`.

use std::time::Duration;

use syn::spanned::Spanned;
use syn::{Expr, Member};

use super::duration::duration;
use super::key::uses;
use super::options::Given;
use super::params::Params;
use super::{scan, value};
use crate::errors::Errors;
use crate::model::{Lock, OnBusy, RowLock};
use crate::suggest;

const LOCKS: &[&str] = &["row", "advisory", "none"];
const ROW_FORM: &str = "write `row(payments.id = payment_id)`";
const ON_BUSY: &[&str] = &["wait", "skip", "error"];
const WAIT: OnBusy = OnBusy::Wait(Duration::from_secs(10));

/// Returns how runs of one key keep out of each other's way.
pub(crate) fn lock(given: Option<&Given>, params: &Params, errors: &mut Errors) -> Lock {
    let Some(Given { expr, .. }) = given else { return Lock::Row };
    let (word, args) = match (value::word(expr), value::call(expr)) {
        (Some(word), _) => (word, None),
        (None, Some((word, args))) => (word, Some(args)),
        (None, None) => {
            errors.push(expr, "`lock` must be `row`, `row(table.column = arg)`, `advisory` or `none`");
            return Lock::Row;
        }
    };
    match (word.to_string().as_str(), args) {
        ("row", None) => return Lock::Row,
        ("advisory", None) => return Lock::Advisory,
        ("none", None) => return Lock::None,
        ("row", Some(args)) => {
            let mut args = args.iter();
            match (args.next(), args.next()) {
                (Some(arg), None) => return row(arg, params, errors).map_or(Lock::Row, Lock::BusinessRow),
                _ => errors.push(expr, format_args!("`row` takes one column; {ROW_FORM}")),
            }
        }
        ("advisory" | "none", Some(_)) => {
            errors.push(expr, format_args!("`{word}` takes nothing; write `lock = {word}`"));
        }
        ("lease", _) => {
            let message = "`lease` is for leased jobs, which are not available yet; write `lock = row`";
            errors.push(expr, message);
        }
        (other, _) => {
            errors.push(word, format_args!("there is no lock `{word}`{}", suggest::instead_of(other, LOCKS)));
        }
    }
    Lock::Row
}

/// Reads `table.column = value`, with or without a schema.
fn row(arg: &Expr, params: &Params, errors: &mut Errors) -> Option<RowLock> {
    let Expr::Assign(assign) = scan::peel_expr(arg) else {
        errors.push(arg, format_args!("`row` must say which value finds the row; {ROW_FORM}"));
        return None;
    };
    let mut names = Vec::new();
    if !collect_names(&assign.left, &mut names) {
        let message = format!("table and column must be plain identifiers; {ROW_FORM}");
        errors.push(&assign.left, message);
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
            errors.push(&assign.left, message);
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
pub(crate) fn on_busy(given: Option<&Given>, errors: &mut Errors) -> OnBusy {
    let Some(Given { expr, .. }) = given else { return WAIT };
    if let Some(word) = value::word(expr) {
        match word.to_string().as_str() {
            "skip" => return OnBusy::Skip,
            "error" => return OnBusy::Error,
            "wait" => errors.push(word, "`wait` must say how long; write `wait(\"10s\")`"),
            "reschedule" => not_available(expr, errors),
            other => errors.push(
                word,
                format_args!("`on_busy` cannot be `{word}`{}", suggest::instead_of(other, ON_BUSY)),
            ),
        }
        return WAIT;
    }
    let Some((word, args)) = value::call(expr) else {
        errors.push(expr, "`on_busy` must be `wait(\"10s\")`, `skip` or `error`");
        return WAIT;
    };
    match (word.to_string().as_str(), args.first(), args.len()) {
        ("wait", Some(limit), 1) => {
            return duration("`wait`", "wait(\"10s\")", limit, errors).map_or(WAIT, OnBusy::Wait);
        }
        ("wait", _, _) => errors.push_at(expr.span(), "`wait` takes one duration; write `wait(\"10s\")`"),
        ("reschedule", _, _) => not_available(expr, errors),
        ("skip" | "error", _, _) => {
            errors.push(expr, format_args!("`{word}` takes nothing; write `on_busy = {word}`"))
        }
        (other, _, _) => {
            errors.push(
                word,
                format_args!("`on_busy` cannot be `{word}`{}", suggest::instead_of(other, ON_BUSY)),
            );
        }
    }
    WAIT
}

fn not_available(expr: &Expr, errors: &mut Errors) {
    errors.push(expr, "`reschedule` is not available yet; write `on_busy = wait(\"10s\")`");
}
