//! Sorts the attributes of the function: whose they are once there are two functions and a struct.

use syn::parse::Parser;
use syn::punctuated::Punctuated;
use syn::{Attribute, FnArg, Meta, Token};

use crate::model::{Attrs, RawFunction};

/// Sorts the attributes of the function.
pub(crate) fn sort(attrs: &[Attribute]) -> Attrs {
    let mut sorted = Attrs::default();
    for attr in attrs {
        let place = match place(&attr.meta) {
            Place::Docs => &mut sorted.docs,
            Place::Everywhere => &mut sorted.cfgs,
            Place::Outer => &mut sorted.outer,
            Place::Body => &mut sorted.body,
        };
        place.push(attr.clone());
    }
    sorted
}

enum Place {
    Docs,
    Everywhere,
    Outer,
    Body,
}

fn place(meta: &Meta) -> Place {
    let name = meta.path().get_ident().map(ToString::to_string);
    match name.as_deref() {
        Some("doc") => Place::Docs,
        Some("cfg") => Place::Everywhere,
        Some("deprecated" | "must_use" | "track_caller" | "cold" | "inline") => Place::Outer,
        Some("cfg_attr") => conditional(meta).map_or(Place::Body, |inner| place(&inner)),
        _ => Place::Body,
    }
}

/// Returns the first attribute that a `cfg_attr` sets.
fn conditional(meta: &Meta) -> Option<Meta> {
    let list = meta.require_list().ok()?;
    let metas = Punctuated::<Meta, Token![,]>::parse_terminated.parse2(list.tokens.clone()).ok()?;
    metas.into_iter().nth(1)
}

/// Tells whether an attribute sets the level of lints.
pub(crate) fn is_lint_level(attr: &Attribute) -> bool {
    ["allow", "expect", "warn", "deny", "forbid"].iter().any(|level| attr.path().is_ident(level))
}

/// Takes off what only `#[idempotent]` understands.
pub(crate) fn without_helpers(mut function: RawFunction) -> RawFunction {
    for input in &mut function.sig.inputs {
        let attrs = match input {
            FnArg::Receiver(receiver) => &mut receiver.attrs,
            FnArg::Typed(param) => &mut param.attrs,
        };
        attrs.retain(is_lint_level);
    }
    function
}
