//! Sorts the attributes of the function: whose they are once there are two functions and a struct.

use proc_macro2::{Ident, Span};
use syn::parse::Parser;
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{Attribute, FnArg, Meta, Token};

use crate::codes::Code;
use crate::errors::Errors;
use crate::model::{Attrs, RawFunction};

/// Sorts the attributes of the function.
pub(crate) fn sort(attrs: &[Attribute]) -> Attrs {
    let mut sorted = Attrs::default();
    for attr in attrs {
        sorted.lints.extend(allowed(attr));
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
    conditionals(meta)?.into_iter().next()
}

/// Returns the attributes that a `cfg_attr` sets.
fn conditionals(meta: &Meta) -> Option<Vec<Meta>> {
    let list = meta.require_list().ok()?;
    let metas = Punctuated::<Meta, Token![,]>::parse_terminated.parse2(list.tokens.clone()).ok()?;
    Some(metas.into_iter().skip(1).collect())
}

/// Returns the attribute that allows the same lints: types of the signature, which they may be about, stand in other
/// items too. What is expected there is expected of the body.
fn allowed(attr: &Attribute) -> Option<Attribute> {
    let mut attr = attr.clone();
    let is = |meta: &Meta, name| meta.path().is_ident(name);
    match &mut attr.meta {
        meta if is(meta, "allow") => {}
        Meta::List(list) if list.path.is_ident("expect") => {
            list.path = Ident::new("allow", list.path.span().resolved_at(Span::mixed_site())).into();
        }
        meta if is(meta, "cfg_attr") => {
            conditionals(meta)?.iter().all(|meta| is(meta, "allow")).then_some(())?;
        }
        _ => return None,
    }
    Some(attr)
}

/// Takes off and reports a second `#[idempotent]`, which would make a job of the function in the first one's expansion.
pub(crate) fn take_second(function: &mut RawFunction, errors: &mut Errors) {
    function.attrs.retain(|attr| {
        let is_second = attr.path().segments.last().is_some_and(|last| last.ident == "idempotent");
        if is_second {
            errors.push(attr, Code::GivenTwice, "`#[idempotent]` is given twice; remove one of them");
        }
        !is_second
    });
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
