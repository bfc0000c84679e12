//! The helper attributes of the derives.

use syn::meta::ParseNestedMeta;
use syn::{Attribute, Path, parse_quote};

use crate::errors::Errors;
use crate::suggest;

/// Reads `#[helper(crate = path)]`.
pub(super) fn krate(attrs: &[Attribute], helper: &str, errors: &mut Errors) -> Path {
    let mut krate = None;
    read(attrs, helper, errors, |meta| {
        if !meta.path.is_ident("crate") {
            return Err(unknown(&meta, "crate"));
        }
        krate = Some(meta.value()?.call(Path::parse_mod_style)?);
        Ok(())
    });
    krate.unwrap_or_else(|| parse_quote!(::idem_runtime))
}

/// Reads `#[helper(word)]`.
pub(super) fn has_word(attrs: &[Attribute], helper: &str, word: &str, errors: &mut Errors) -> bool {
    let mut found = false;
    read(attrs, helper, errors, |meta| {
        found |= meta.path.is_ident(word);
        if meta.path.is_ident(word) { Ok(()) } else { Err(unknown(&meta, word)) }
    });
    found
}

fn read(
    attrs: &[Attribute],
    helper: &str,
    errors: &mut Errors,
    mut each: impl FnMut(ParseNestedMeta<'_>) -> syn::Result<()>,
) {
    for attr in attrs.iter().filter(|attr| attr.path().is_ident(helper)) {
        if let Err(error) = attr.parse_nested_meta(&mut each) {
            errors.add(error);
        }
    }
}

fn unknown(meta: &ParseNestedMeta<'_>, known: &str) -> syn::Error {
    let given = meta.path.get_ident().map(ToString::to_string).unwrap_or_default();
    meta.error(format!("there is no option `{given}`{}", suggest::instead_of(&given, &[known])))
}
