//! Rules about the function itself: what it is made of beside its parameters and its result.

use syn::{Safety, Signature};

use crate::codes::Code;
use crate::errors::Errors;

/// Tells whether rustc can check the body of such a function.
pub(crate) fn can_be_checked(sig: &Signature) -> bool {
    sig.constness.is_none() && sig.variadic.is_none()
}

/// Checks that the function is a plain async fn.
pub(crate) fn check(sig: &Signature, errors: &mut Errors) {
    let name = &sig.ident;
    if sig.asyncness.is_none() {
        errors.push(
            &sig.fn_token,
            Code::NotAsync,
            format_args!("`{name}` must be async; write `async fn {name}`"),
        );
    }
    if let Some(constness) = &sig.constness {
        errors.push(constness, Code::ConstFn, format_args!("`{name}` cannot be const; remove `const`"));
    }
    if let Safety::Unsafe(keyword) = &sig.safety {
        errors.push(
            keyword,
            Code::UnsafeFn,
            format_args!("`{name}` cannot be unsafe; put the unsafe call into a block of its body"),
        );
    }
    if let Some(abi) = &sig.abi {
        errors.push(abi, Code::ExternFn, format_args!("`{name}` cannot have a foreign ABI; remove `extern`"));
    }
    if let Some(variadic) = &sig.variadic {
        errors.push(
            variadic,
            Code::VariadicFn,
            format_args!("`{name}` cannot be variadic; take a `Vec` of the further arguments"),
        );
    }
    if !sig.generics.params.is_empty() {
        errors.push(
            &sig.generics.params,
            Code::GenericFn,
            format_args!(
                "`{name}` cannot be generic: its records belong to one type; write a job for each type"
            ),
        );
    } else if let Some(clause) = &sig.generics.where_clause {
        errors.push(
            clause,
            Code::GenericFn,
            format_args!("`{name}` cannot have a `where` clause; remove it"),
        );
    }
}
