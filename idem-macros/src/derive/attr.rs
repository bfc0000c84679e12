//! The helper attributes of the derives.

use syn::punctuated::Punctuated;
use syn::{Attribute, Expr, Meta, Path, Token, parse_quote};

use crate::codes::Code;
use crate::errors::Errors;
use crate::suggest;

/// Reads `#[helper(crate = path)]`.
pub(super) fn krate(attrs: &[Attribute], helper: &str, errors: &mut Errors) -> Path {
    let mut krate = None;
    for meta in options(attrs, helper, errors) {
        match meta {
            Meta::NameValue(meta) if meta.path.is_ident("crate") => match meta.value {
                Expr::Path(path) if path.qself.is_none() => krate = Some(path.path),
                other => errors.push(
                    &other,
                    Code::NotAPath,
                    "`crate` must be a path; write `crate = module::name`",
                ),
            },
            other => unknown(&other, "crate", "crate = module::name", errors),
        }
    }
    krate.unwrap_or_else(|| parse_quote!(::idem_runtime))
}

/// Reads `#[helper(word)]`.
pub(super) fn has_word(attrs: &[Attribute], helper: &str, word: &str, errors: &mut Errors) -> bool {
    let mut found = false;
    for meta in options(attrs, helper, errors) {
        match meta {
            Meta::Path(path) if path.is_ident(word) => found = true,
            other => unknown(&other, word, word, errors),
        }
    }
    found
}

fn options(attrs: &[Attribute], helper: &str, errors: &mut Errors) -> Vec<Meta> {
    let mut options = Vec::new();
    for attr in attrs.iter().filter(|attr| attr.path().is_ident(helper)) {
        match attr.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated) {
            Ok(metas) => options.extend(metas),
            Err(error) => errors.push_syntax(error),
        }
    }
    options
}

/// Reports an option that is not `known`, or is not written as `form`.
fn unknown(meta: &Meta, known: &str, form: &str, errors: &mut Errors) {
    let given = meta.path().get_ident().map(ToString::to_string).unwrap_or_default();
    if given == known {
        let message = format!("`{known}` cannot be written like this; write `{form}`");
        errors.push(meta, Code::MissingValue, message);
        return;
    }
    let message = format!("there is no option `{given}`{}", suggest::instead_of(&given, &[known]));
    errors.push(meta.path(), Code::UnknownOption, message);
}
