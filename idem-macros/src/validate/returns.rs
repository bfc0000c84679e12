//! The result of the function. What cannot be seen here, as with an alias, the trait `JobResult` checks.

use syn::{GenericArgument, PathArguments, ReturnType, Signature, Type, TypeParamBound};

use super::scan;
use crate::codes::Code;
use crate::errors::Errors;
use crate::model::Returns;

/// Checks that the function returns an owned `Result`.
pub(crate) fn returns(sig: &Signature, errors: &mut Errors) -> Option<Returns> {
    let ReturnType::Type(_, ty) = &sig.output else {
        let message = format!("`{}` must return a `Result`; write `-> Result<(), YourError>`", sig.ident);
        errors.push(&sig.ident, Code::NotAResult, message);
        return None;
    };
    if scan::has_impl_trait(ty) {
        // Without `async` it stands for what that returns.
        sig.asyncness?;
        errors.push(
            ty,
            Code::ImplTrait,
            "the result of a job cannot be an `impl Trait`: a record needs its type; name the type",
        );
        return None;
    }
    if cannot_be_result(scan::peel(ty)) {
        errors.push(
            ty,
            Code::NotAResult,
            format_args!(
                "`{}` must return a `Result`; write `-> Result<{}, YourError>`",
                sig.ident,
                scan::text(ty)
            ),
        );
        return None;
    }
    let halves = halves(ty);
    if let Some((output, _)) = &halves
        && scan::borrows(output)
    {
        let owned = scan::owned_form(output).map_or_else(String::new, |owned| format!("; write `{owned}`"));
        errors.push(
            output,
            Code::BorrowedResult,
            format_args!("the result of a job must be owned, so that it can be recorded{owned}"),
        );
        return None;
    }
    if let Some((_, error)) = &halves
        && scan::borrows_for_a_while(error)
    {
        let owned = scan::owned_form(error).map_or_else(String::new, |owned| format!("; write `{owned}`"));
        let message = format!("the error of a job must be owned, so that it can outlast the run{owned}");
        errors.push(error, Code::BorrowedResult, message);
        return None;
    }
    if let Some((_, error)) = &halves
        && let Some(object) = local_object(error)
    {
        let shown = scan::text(error);
        let message = format!(
            "`{shown}` cannot be the error of a job, which goes to other threads; write `Box<{object} + Send + Sync>`, or, as a queue asks for, a type \
             of your own"
        );
        errors.push(error, Code::ErrorNotSend, message);
        return None;
    }
    Some(Returns { ty: (**ty).clone(), halves })
}

/// Tells whether rustc would report of a return type that it borrows from nothing.
pub(crate) fn borrows(sig: &Signature) -> bool {
    let ReturnType::Type(_, ty) = &sig.output else { return false };
    halves(ty).is_some_and(|(output, error)| scan::borrows(&output) || scan::borrows_for_a_while(&error))
}

/// The trait of errors, whose objects say themselves whether they can go to another thread.
const ERRORS: &[&str] = &["Error", "error::Error", "std::error::Error", "core::error::Error"];

/// Returns the trait object of `Box<dyn std::error::Error>`, which cannot go to another thread.
fn local_object(ty: &Type) -> Option<String> {
    let Type::Path(path) = scan::peel(ty) else { return None };
    let last = path.path.segments.last().filter(|last| last.ident == "Box")?;
    let PathArguments::AngleBracketed(args) = &last.arguments else { return None };
    let Some(GenericArgument::Type(object)) = args.args.first() else { return None };
    let Type::TraitObject(object) = scan::peel(object) else { return None };
    let path_of = |bound: &TypeParamBound| match bound {
        TypeParamBound::Trait(bound) => scan::text(&bound.path),
        _ => String::new(),
    };
    let paths: Vec<String> = object.bounds.iter().map(path_of).collect();
    let is_error = paths.iter().any(|path| ERRORS.contains(&path.trim_start_matches("::")));
    let goes = paths.iter().any(|path| path.ends_with("Send"));
    let bounds = object.bounds.iter().map(scan::text).filter(|bound| !bound.ends_with("Sync"));
    let bounds: Vec<String> = bounds.collect();
    (is_error && !goes).then(|| format!("dyn {}", bounds.join(" + ")))
}

/// Types of the standard library that are returned by mistake; rustc knows them only by their paths.
const NO_RESULTS: &[&str] = &[
    "bool", "char", "u8", "u16", "u32", "u64", "u128", "usize", "i8", "i16", "i32", "i64", "i128", "isize",
    "f32", "f64", "String", "Option", "Vec", "Box", "HashMap", "HashSet", "BTreeMap", "BTreeSet",
];

fn cannot_be_result(ty: &Type) -> bool {
    match ty {
        Type::Path(path) => {
            path.path.get_ident().is_some_and(|ident| NO_RESULTS.iter().any(|name| ident == name))
                || path.path.segments.last().is_some_and(|last| {
                    !last.arguments.is_empty() && NO_RESULTS.iter().any(|name| last.ident == name)
                })
        }
        Type::Macro(_) | Type::Verbatim(_) => false,
        Type::Never(_) => true,
        _ => !matches!(ty, Type::Infer(_)),
    }
}

/// Splits the standard library's `Result<T, E>`. Any other path is that of an alias, which may put something around
/// its error, as `error_stack::Result<T, C>` does.
fn halves(ty: &Type) -> Option<(Type, Type)> {
    let Type::Path(path) = scan::peel(ty) else { return None };
    let segments = &path.path.segments;
    let names: Vec<String> = segments.iter().map(|segment| segment.ident.to_string()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let (["Result"] | ["std" | "core", "result", "Result"]) = names[..] else { return None };
    let last = segments.last()?;
    let PathArguments::AngleBracketed(args) = &last.arguments else { return None };
    let mut args = args.args.iter();
    match (args.next(), args.next(), args.next()) {
        (Some(GenericArgument::Type(output)), Some(GenericArgument::Type(error)), None) => {
            Some((output.clone(), error.clone()))
        }
        _ => None,
    }
}
