//! The parameters: the transaction or the run first, then owned arguments and `#[state]` references.

use proc_macro2::Ident;
use quote::ToTokens;
use syn::spanned::Spanned;
use syn::{Attribute, FnArg, GenericArgument, Pat, PatType, PathArguments, Signature, Type, TypePath};

use super::{attrs, scan};
use crate::codes::Code;
use crate::errors::Errors;
use crate::model::{Arg, BrokenParam, Handle, Param, State};
use crate::suggest;

/// The parameters that are as they must be, and the names of all.
#[derive(Default)]
pub(crate) struct Params {
    pub(crate) first: First,
    /// Arguments and states without mistakes, in the written order.
    pub(crate) valid: Vec<Param>,
    /// All arguments, also those with mistakes.
    pub(crate) args: Vec<BrokenParam>,
    pub(crate) state_names: Vec<Ident>,
    pub(crate) handle_name: Option<Ident>,
    /// Patterns in the place of the names of arguments, which have been reported.
    pub(crate) patterns: Vec<Pat>,
    /// Whether there is a mistake that rustc would report as well.
    pub(crate) unchecked: bool,
}

impl Params {
    pub(crate) fn arg(&self, name: &Ident) -> Option<&Ident> {
        self.args.iter().map(|arg| &arg.ident).find(|ident| *ident == name)
    }
}

/// What the first parameter is; a handle that has a mistake is `None`.
#[derive(Default)]
pub(crate) enum First {
    Tx(Option<Handle>),
    Run(Option<Handle>),
    /// Neither of them.
    #[default]
    Other,
    /// Nothing that can be told, which has been reported.
    Unclear,
}

impl First {
    /// Returns the database of an atomic job.
    pub(crate) fn atomic_on(self) -> Option<Type> {
        match self {
            First::Tx(tx) => tx.map(|tx| tx.db),
            First::Run(_) | First::Other | First::Unclear => None,
        }
    }
}

/// The types of handles, by the last segments of their paths.
#[derive(Clone, Copy, PartialEq, Eq)]
enum HandleType {
    Tx,
    Run,
}

impl HandleType {
    fn name(self) -> &'static str {
        match self {
            HandleType::Tx => "Tx",
            HandleType::Run => "Run",
        }
    }

    fn noun(self) -> &'static str {
        match self {
            HandleType::Tx => "transaction",
            HandleType::Run => "run",
        }
    }

    /// Returns the name that a parameter of this type has in examples.
    fn example(self) -> &'static str {
        match self {
            HandleType::Tx => "tx",
            HandleType::Run => "run",
        }
    }

    fn of(ty: &Type) -> Option<(HandleType, &TypePath)> {
        [HandleType::Tx, HandleType::Run].into_iter().find_map(|it| Some((it, named(ty, it.name())?)))
    }
}

/// Tells the parameters apart and checks each.
pub(crate) fn params(sig: &Signature, errors: &mut Errors) -> Params {
    let mut params = Params::default();
    let mut seen: Option<HandleType> = None;
    for (at, input) in sig.inputs.iter().enumerate() {
        let param = match input {
            FnArg::Receiver(receiver) => {
                let message =
                    "a job cannot take `self`; write a free function and take what it needs as `#[state]`";
                errors.push(receiver, Code::SelfReceiver, message);
                params.first = First::Unclear;
                continue;
            }
            FnArg::Typed(param) => param,
        };
        let is_state = param.attrs.iter().any(is_state);
        if !is_state && let Some((ty, path)) = HandleType::of(&param.ty) {
            match seen.replace(ty) {
                None => {
                    params.handle_name = name_of(&param.pat).cloned();
                    params.unchecked |= database(path).is_none();
                    // Behind a `self` it would be the first parameter of a free function.
                    let late = at > usize::from(sig.receiver().is_some());
                    let handle = handle(ty, path, param, late, errors);
                    params.first = match ty {
                        HandleType::Tx => First::Tx(handle),
                        HandleType::Run => First::Run(handle),
                    };
                }
                Some(first) if first == ty => {
                    errors.push(
                        param,
                        Code::SecondHandle,
                        format_args!("a job has one {}; remove this parameter", ty.noun()),
                    );
                }
                Some(_) => {
                    errors.push(
                        param,
                        Code::SecondHandle,
                        "a job takes a `Tx` or a `Run`, not both; remove one of them",
                    );
                    params.first = First::Unclear;
                }
            }
            continue;
        }
        if !is_state && at == 0 && is_mut(&param.ty) {
            params.first = First::Unclear;
            params.handle_name = name_of(&param.pat).cloned();
            params.unchecked = true;
            let database = database_in(&param.ty);
            let message = format!(
                "a job takes nothing by `&mut` but its transaction or its run; \
                 write `tx: &mut Tx<'_, {database}>` or `run: &mut Run<'_, {database}>`"
            );
            errors.push(&param.ty, Code::MutableParameter, message);
            continue;
        }
        check_attrs(param, errors);
        if is_state {
            params.state_names.extend(name_of(&param.pat).cloned());
            params.valid.extend(state(param, errors).map(Param::State));
        } else {
            let arg = arg(param, errors);
            // No function has such a parameter.
            params.unchecked |= scan::is_unsized(&param.ty) || scan::names(&param.ty, "Self");
            if !matches!(&*param.pat, Pat::Ident(_)) {
                params.patterns.push((*param.pat).clone());
            }
            if let Some(ident) = name_of(&param.pat) {
                if params.arg(ident).is_some() {
                    params.unchecked = true;
                    errors.push(
                        ident,
                        Code::ParameterTwice,
                        format_args!("`{ident}` is the name of two parameters; rename one of them"),
                    );
                }
                let ty = arg.as_ref().filter(|_| !params.unchecked).map(|arg| arg.ty.clone());
                params.args.push(BrokenParam { ident: ident.clone(), ty });
            }
            params.valid.extend(arg.map(Param::Arg));
        }
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

/// Returns the database that a type of sqlx's is about; some one, if it is about none.
fn database_in(ty: &Type) -> &'static str {
    let text = scan::text(ty);
    ["Sqlite", "MySql"].into_iter().find(|name| text.contains(name)).unwrap_or("Postgres")
}

fn is_mut(ty: &Type) -> bool {
    matches!(scan::peel(ty), Type::Reference(reference) if reference.mutability.is_some())
}

fn handle(
    handle: HandleType,
    path: &TypePath,
    param: &PatType,
    late: bool,
    errors: &mut Errors,
) -> Option<Handle> {
    let (noun, type_name, example) = (handle.noun(), handle.name(), handle.example());
    let name = name_of(&param.pat).map_or_else(|| String::from(example), ToString::to_string);
    let Some(db) = database(path) else {
        errors.push(
            &param.ty,
            Code::HandleWithoutDatabase,
            format_args!(
                "`{type_name}` must name its database; write `{name}: &mut {type_name}<'_, Postgres>`"
            ),
        );
        return None;
    };
    let is_plain_mut = matches!(scan::peel(&param.ty), Type::Reference(reference)
        if reference.mutability.is_some() && matches!(scan::peel(&reference.elem), Type::Path(_)));
    if !is_plain_mut {
        let message = format!(
            "`{name}` must be a `&mut` reference; write `{name}: &mut {type_name}<'_, {}>`",
            scan::text(db)
        );
        errors.push(&param.ty, Code::HandleNotMutable, message);
        return None;
    }
    if late {
        errors.push(
            &param.pat,
            Code::HandleNotFirst,
            format_args!("`{name}` must be the first parameter; move it to the front"),
        );
        return None;
    }
    if !matches!(&*param.pat, Pat::Ident(pat) if pat.by_ref.is_none() && pat.subpat.is_none())
        && !matches!(&*param.pat, Pat::Wild(_))
    {
        errors.push(
            &param.pat,
            Code::HandleIsPattern,
            format_args!("the {noun} must be a plain name; write `{example}`"),
        );
        return None;
    }
    check_attrs(param, errors);
    Some(Handle {
        attrs: lint_levels(param),
        pat: (*param.pat).clone(),
        ident: name_of(&param.pat).cloned(),
        ty: (*param.ty).clone(),
        db: db.clone(),
    })
}

/// Returns the last type argument of `Tx<'_, Db>` and `Run<'_, Db>`.
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
            errors.push(&param.ty, Code::StateNotShared, message);
            return None;
        }
        ty => {
            let message = format!(
                "`#[state]` must be a reference; write `{}: &{}`",
                scan::text(&param.pat),
                scan::text(ty)
            );
            errors.push(&param.ty, Code::StateNotShared, message);
            return None;
        }
    };
    if scan::has_impl_trait(&param.ty) {
        errors.push(
            &param.ty,
            Code::ImplTrait,
            "`#[state]` cannot be an `impl Trait`; name the type, or write `&dyn Trait`",
        );
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
            errors.push(
                wild,
                Code::UnnamedArgument,
                "an argument must have a name, which the job's struct takes over; write `_name`",
            );
            return None;
        }
        pat => {
            let message = "an argument must be a plain name; give it one and take it apart in the body";
            errors.push(pat, Code::UnnamedArgument, message);
            return None;
        }
    };
    let ty = &*param.ty;
    if let Type::Ptr(_) | Type::FnPtr(_) = scan::peel(ty) {
        let message =
            format!("`{ident}` cannot be a pointer: it means nothing to a later run; take what it points to");
        errors.push(ty, Code::PointerArgument, message);
        return None;
    }
    if scan::has_impl_trait(ty) {
        errors.push(
            ty,
            Code::ImplTrait,
            format_args!("`{ident}` cannot be an `impl Trait`: a job is a value of one type; name the type"),
        );
        return None;
    }
    if let Type::TraitObject(_) = scan::peel(ty) {
        let object = scan::text(ty);
        let message = format!(
            "`{ident}` cannot be a `{object}`: a job is a value of one type; name the type, or take it as `#[state]`"
        );
        errors.push(ty, Code::ImplTrait, message);
        return None;
    }
    if scan::names(ty, "Self") {
        let message =
            format!("`{ident}` cannot name `Self`: a job is a free function; write the name of the type");
        errors.push(ty, Code::SelfReceiver, message);
        return None;
    }
    if scan::borrows(ty) || scan::is_unsized(ty) {
        errors.push(ty, Code::BorrowedArgument, borrowed(&ident, ty));
        return None;
    }
    if scan::names(ty, "Rc") {
        let message = format!(
            "`{ident}` cannot have an `Rc`, which stays in its thread; write an `Arc`, or what it points to"
        );
        errors.push(ty, Code::ArgumentWithoutSerde, message);
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
                errors.push(attr, Code::StateWithOptions, "`#[state]` takes no options; write `#[state]`");
            }
            continue;
        }
        let name = attr.path().to_token_stream().to_string();
        let message = match suggest::closest(&name, &["state"]) {
            Some(_) => format!("there is no attribute `{name}` for a parameter; did you mean `#[state]`?"),
            None => format!("a parameter of a job cannot have the attribute `{name}`; remove it"),
        };
        errors.push_at(attr.path().span(), Code::ParameterAttribute, message);
    }
}

fn lint_levels(param: &PatType) -> Vec<Attribute> {
    param.attrs.iter().filter(|attr| attrs::is_lint_level(attr)).cloned().collect()
}
