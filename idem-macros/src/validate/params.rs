//! The parameters: the transaction first, then owned arguments and `#[state]` references.

use proc_macro2::Ident;
use quote::ToTokens;
use syn::spanned::Spanned;
use syn::{Attribute, FnArg, GenericArgument, Pat, PatType, PathArguments, Signature, Type, TypePath};

use super::{attrs, scan};
use crate::errors::Errors;
use crate::model::{Arg, BrokenParam, Param, State, TxParam};
use crate::suggest;

const LEASED: &str = "leased jobs are not available yet; take `tx: &mut Tx<'_, Db>` as the first parameter";

/// The parameters that are as they must be, and the names of all.
#[derive(Default)]
pub(crate) struct Params {
    pub(crate) tx: Option<TxParam>,
    /// Arguments and states without mistakes, in the written order.
    pub(crate) valid: Vec<Param>,
    /// All arguments, also those with mistakes.
    pub(crate) args: Vec<BrokenParam>,
    pub(crate) state_names: Vec<Ident>,
    pub(crate) tx_name: Option<Ident>,
    /// Whether there is a mistake that rustc would report as well.
    pub(crate) unchecked: bool,
}

impl Params {
    pub(crate) fn arg(&self, name: &Ident) -> Option<&Ident> {
        self.args.iter().map(|arg| &arg.ident).find(|ident| *ident == name)
    }
}

/// Tells the parameters apart and checks each.
pub(crate) fn params(sig: &Signature, errors: &mut Errors) -> Params {
    let mut params = Params::default();
    let (mut seen_tx, mut has_self) = (false, false);
    for (at, input) in sig.inputs.iter().enumerate() {
        let param = match input {
            FnArg::Receiver(receiver) => {
                let message =
                    "a job cannot take `self`; write a free function and take what it needs as `#[state]`";
                errors.push(receiver, message);
                has_self = true;
                continue;
            }
            FnArg::Typed(param) => param,
        };
        let is_state = param.attrs.iter().any(is_state);
        if !is_state && (named(&param.ty, "Tx").is_some() || (at == 0 && cannot_but_mean_tx(&param.ty))) {
            if std::mem::replace(&mut seen_tx, true) {
                errors.push(param, "a job has one transaction; remove this parameter");
            } else {
                params.tx_name = name_of(&param.pat).cloned();
                params.unchecked |= named(&param.ty, "Tx").is_none_or(|path| database(path).is_none());
                params.tx = tx(param, at > usize::from(has_self), errors);
            }
            continue;
        }
        check_attrs(param, errors);
        if is_state {
            params.state_names.extend(name_of(&param.pat).cloned());
            params.valid.extend(state(param, errors).map(Param::State));
        } else {
            let arg = arg(param, errors);
            if let Some(ident) = name_of(&param.pat) {
                if params.arg(ident).is_some() {
                    params.unchecked = true;
                    errors.push(
                        ident,
                        format_args!("`{ident}` is the name of two parameters; rename one of them"),
                    );
                }
                let ty = arg.as_ref().filter(|_| !params.unchecked).map(|arg| arg.ty.clone());
                params.args.push(BrokenParam { ident: ident.clone(), ty });
            }
            params.valid.extend(arg.map(Param::Arg));
        }
    }
    if !seen_tx && !has_self {
        errors.push(&sig.ident, LEASED);
    }
    params
}

fn is_state(attr: &Attribute) -> bool {
    attr.path().is_ident("state")
}

fn name_of(pat: &Pat) -> Option<&Ident> {
    match pat {
        Pat::Ident(pat) => Some(&pat.ident),
        _ => None,
    }
}

/// Returns the path of a type whose last segment is `name`, through references.
fn named<'a>(ty: &'a Type, name: &str) -> Option<&'a TypePath> {
    match scan::peel(ty) {
        Type::Reference(reference) => named(&reference.elem, name),
        Type::Path(path) if path.path.segments.last()?.ident == name => Some(path),
        _ => None,
    }
}

/// Tells whether a first parameter is meant as the transaction: no argument is `&mut`.
fn cannot_but_mean_tx(ty: &Type) -> bool {
    matches!(scan::peel(ty), Type::Reference(reference) if reference.mutability.is_some())
}

fn tx(param: &PatType, late: bool, errors: &mut Errors) -> Option<TxParam> {
    let Some(path) = named(&param.ty, "Tx") else {
        errors.push(&param.ty, LEASED);
        return None;
    };
    let name = name_of(&param.pat).map_or_else(|| String::from("tx"), ToString::to_string);
    let Some(db) = database(path) else {
        errors.push(
            &param.ty,
            format_args!("`Tx` must name its database; write `{name}: &mut Tx<'_, Postgres>`"),
        );
        return None;
    };
    let is_mut = matches!(scan::peel(&param.ty), Type::Reference(reference)
        if reference.mutability.is_some() && matches!(scan::peel(&reference.elem), Type::Path(_)));
    if !is_mut {
        let message =
            format!("`{name}` must be a `&mut` reference; write `{name}: &mut Tx<'_, {}>`", scan::text(db));
        errors.push(&param.ty, message);
        return None;
    }
    if late {
        errors.push(&param.pat, format_args!("`{name}` must be the first parameter"));
        return None;
    }
    if !matches!(&*param.pat, Pat::Ident(pat) if pat.by_ref.is_none() && pat.subpat.is_none())
        && !matches!(&*param.pat, Pat::Wild(_))
    {
        errors.push(&param.pat, "the transaction must be a plain name; write `tx`");
        return None;
    }
    check_attrs(param, errors);
    Some(TxParam {
        attrs: lint_levels(param),
        pat: (*param.pat).clone(),
        ident: name_of(&param.pat).cloned(),
        ty: (*param.ty).clone(),
        db: db.clone(),
    })
}

/// Returns the last type argument of `Tx<'_, Db>`.
fn database(path: &TypePath) -> Option<&Type> {
    let PathArguments::AngleBracketed(args) = &path.path.segments.last()?.arguments else {
        return None;
    };
    args.args.iter().rev().find_map(|arg| match arg {
        GenericArgument::Type(ty) => Some(ty),
        _ => None,
    })
}

fn state(param: &PatType, errors: &mut Errors) -> Option<State> {
    let reference = match scan::peel(&param.ty) {
        Type::Reference(reference) if reference.mutability.is_none() && reference.lifetime.is_none() => {
            reference
        }
        Type::Reference(reference) => {
            let message = format!(
                "`#[state]` must be a plain shared reference; write `{}: &{}`",
                scan::text(&param.pat),
                scan::text(&reference.elem)
            );
            errors.push(&param.ty, message);
            return None;
        }
        ty => {
            let message = format!(
                "`#[state]` must be a reference; write `{}: &{}`",
                scan::text(&param.pat),
                scan::text(ty)
            );
            errors.push(&param.ty, message);
            return None;
        }
    };
    if scan::has_impl_trait(&param.ty) {
        errors.push(&param.ty, "`#[state]` cannot be an `impl Trait`; name the type, or write `&dyn Trait`");
        return None;
    }
    Some(State {
        attrs: lint_levels(param),
        pat: (*param.pat).clone(),
        ident: name_of(&param.pat).cloned(),
        ty: (*param.ty).clone(),
        target: (*reference.elem).clone(),
    })
}

fn arg(param: &PatType, errors: &mut Errors) -> Option<Arg> {
    let ident = match &*param.pat {
        Pat::Ident(pat) if pat.by_ref.is_none() && pat.subpat.is_none() => pat.ident.clone(),
        Pat::Wild(wild) => {
            errors
                .push(wild, "an argument must have a name, which the job's struct takes over; write `_name`");
            return None;
        }
        pat => {
            let message = "an argument must be a plain name; give it one and take it apart in the body";
            errors.push(pat, message);
            return None;
        }
    };
    let ty = &*param.ty;
    if let Type::Ptr(_) | Type::FnPtr(_) = scan::peel(ty) {
        let message =
            format!("`{ident}` cannot be a pointer: it means nothing to a later run; take what it points to");
        errors.push(ty, message);
        return None;
    }
    if scan::has_impl_trait(ty) {
        errors.push(
            ty,
            format_args!("`{ident}` cannot be an `impl Trait`: a job is a value of one type; name the type"),
        );
        return None;
    }
    if scan::borrows(ty) {
        errors.push(ty, borrowed(&ident, ty));
        return None;
    }
    let docs = param.attrs.iter().filter(|attr| attr.path().is_ident("doc")).cloned().collect();
    Some(Arg { docs, attrs: lint_levels(param), pat: (*param.pat).clone(), ident, ty: ty.clone() })
}

fn borrowed(ident: &Ident, ty: &Type) -> String {
    let must = format!("`{ident}` must be owned, so that the job can be stored");
    match scan::owned_form(ty) {
        Some(owned) if owned == "String" || owned == "PathBuf" || owned.starts_with("Vec<") => {
            format!("{must}; write `{ident}: {owned}`")
        }
        Some(owned) => {
            format!("{must}; write `{ident}: {owned}`, or `#[state] {ident}: &{owned}` if it is a dependency")
        }
        None => format!("{must}; replace the borrowed parts of `{}`", scan::text(ty)),
    }
}

/// Lets `#[state]`, doc comments and lint levels through.
fn check_attrs(param: &PatType, errors: &mut Errors) {
    for attr in &param.attrs {
        if attrs::is_lint_level(attr) || attr.path().is_ident("doc") {
            continue;
        }
        if is_state(attr) {
            if !matches!(attr.meta, syn::Meta::Path(_)) {
                errors.push(attr, "`#[state]` takes no options; write `#[state]`");
            }
            continue;
        }
        let name = attr.path().to_token_stream().to_string();
        let message = match suggest::closest(&name, &["state"]) {
            Some(_) => format!("there is no attribute `{name}` for a parameter; did you mean `#[state]`?"),
            None => format!("a parameter of a job cannot have the attribute `{name}`; remove it"),
        };
        errors.push_at(attr.path().span(), message);
    }
}

fn lint_levels(param: &PatType) -> Vec<Attribute> {
    param.attrs.iter().filter(|attr| attrs::is_lint_level(attr)).cloned().collect()
}
