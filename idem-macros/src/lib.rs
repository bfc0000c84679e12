//! The attribute of idem; use it through `idem-runtime`.
//!
//! A small compiler in passes: `parse` reads tokens into a raw job, `validate` checks every rule and
//! fills in every default, `expand` writes the valid job as Rust. `model` is what they hand on.

mod codes;
mod errors;
mod suggest;

mod parse;

mod model;

mod validate;

mod expand;

mod derive;

#[cfg(test)]
mod tests;

use proc_macro::TokenStream;

use crate::errors::Errors;

/// The attribute itself. `idem-runtime` re-exports it as `idem_runtime::idempotent`, with the documentation
/// of every option.
#[proc_macro_attribute]
pub fn idempotent(args: TokenStream, item: TokenStream) -> TokenStream {
    expand_idempotent(args.into(), item.into()).into()
}

fn expand_idempotent(
    args: proc_macro2::TokenStream,
    item: proc_macro2::TokenStream,
) -> proc_macro2::TokenStream {
    let mut errors = Errors::default();
    let Some(function) = parse::function(item, &mut errors) else {
        return errors.into_compile_errors();
    };
    let options = parse::options(args, &mut errors);
    match validate::job(function, options, &mut errors) {
        Ok(job) => expand::job(&job),
        Err(broken) => {
            let mut tokens = errors.into_compile_errors();
            tokens.extend(expand::broken(&broken));
            tokens
        }
    }
}

/// Makes a type of your own a part of keys.
///
/// A struct with one field, named or not, is written as that field, so wrapping an id keeps its
/// history. A struct with several fields is a group of them, an enum a group of its variant's name and
/// fields. Type parameters get the bound `KeyPart`.
///
/// `#[key_part(crate = path)]` names the runtime crate if it is not `::idem_runtime`.
#[proc_macro_derive(KeyPart, attributes(key_part))]
pub fn key_part(input: TokenStream) -> TokenStream {
    derive::key_part(input.into()).into()
}

/// Makes each field of a struct available to the `#[state]` parameters of jobs, by its type.
///
/// `#[provides(skip)]` leaves a field out, which all but one of several fields of one type need.
/// `#[provides(crate = path)]` on the struct names the runtime crate if it is not `::idem_runtime`.
#[proc_macro_derive(Provides, attributes(provides))]
pub fn provides(input: TokenStream) -> TokenStream {
    derive::provides(input.into()).into()
}
