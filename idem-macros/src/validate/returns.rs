//! The result of the function. What cannot be seen here, as with an alias, the trait `JobResult` checks.

use syn::{GenericArgument, PathArguments, ReturnType, Signature, Type};

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
    Some(Returns { ty: (**ty).clone(), halves })
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
