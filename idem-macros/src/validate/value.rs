//! The forms that the value of an option can have.

use proc_macro2::Ident;
use syn::punctuated::Punctuated;
use syn::{Expr, ExprLit, Lit, LitStr, Path, Token};

use super::options::Given;
use super::scan;
use crate::codes::Code;
use crate::errors::Errors;

/// Returns the word of `option = word`.
pub(crate) fn word(expr: &Expr) -> Option<&Ident> {
    match scan::peel_expr(expr) {
        Expr::Path(path) if path.qself.is_none() => path.path.get_ident(),
        _ => None,
    }
}

/// Returns the word and the arguments of `option = word(...)`.
pub(crate) fn call(expr: &Expr) -> Option<(&Ident, &Punctuated<Expr, Token![,]>)> {
    match scan::peel_expr(expr) {
        Expr::Call(call) => word(&call.func).map(|word| (word, &call.args)),
        _ => None,
    }
}

/// Returns the word of `option = word` or `option = word(...)`, and the arguments of the latter.
pub(crate) fn word_or_call(expr: &Expr) -> Option<(&Ident, Option<&Punctuated<Expr, Token![,]>>)> {
    match call(expr) {
        Some((word, args)) => Some((word, Some(args))),
        None => word(expr).map(|word| (word, None)),
    }
}

/// Returns the word and what stands behind it of `word = expr`.
pub(crate) fn part(expr: &Expr) -> Option<(&Ident, &Expr)> {
    match scan::peel_expr(expr) {
        Expr::Assign(assign) => word(&assign.left).map(|word| (word, &*assign.right)),
        _ => None,
    }
}

/// Returns the text of `option = "text"`.
pub(crate) fn string(expr: &Expr) -> Option<&LitStr> {
    match scan::peel_expr(expr) {
        Expr::Lit(ExprLit { lit: Lit::Str(lit), .. }) => Some(lit),
        _ => None,
    }
}

/// Returns the path of `option = path`, or reports that it is none.
pub(crate) fn path(given: &Given, errors: &mut Errors) -> Option<Path> {
    match scan::peel_expr(&given.expr) {
        Expr::Path(path) if path.qself.is_none() => Some(path.path.clone()),
        _ => {
            let name = &given.name;
            errors.push(
                &given.expr,
                Code::NotAPath,
                format_args!("`{name}` must be a path; write `{name} = module::name`"),
            );
            None
        }
    }
}
