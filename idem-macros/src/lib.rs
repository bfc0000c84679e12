//! The attribute of idem; use it through `idem-runtime`.
//!
//! A small compiler in passes: `parse` reads tokens into a raw job, `validate` checks every rule and
//! fills in every default, `expand` writes the valid job as Rust. `model` is what they hand on.

mod errors;
mod suggest;

mod parse;

mod model;

mod validate;

mod expand;

mod derive;

use proc_macro::TokenStream;

use crate::errors::Errors;

/// Makes an async fn a job that is safe to run again.
#[proc_macro_attribute]
pub fn idempotent(args: TokenStream, item: TokenStream) -> TokenStream {
    expand_idempotent(args.into(), item.into()).into()
}

fn expand_idempotent(
    args: proc_macro2::TokenStream,
    item: proc_macro2::TokenStream,
) -> proc_macro2::TokenStream {
    let mut errors = Errors::default();
    let function = match parse::function(item.clone()) {
        Ok(function) => function,
        Err(error) => return error.into_compile_error(),
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

/// Derives `KeyPart`.
#[proc_macro_derive(KeyPart, attributes(key_part))]
pub fn key_part(input: TokenStream) -> TokenStream {
    derive::key_part(input.into()).into()
}

/// Derives `Provides` for each field.
#[proc_macro_derive(Provides, attributes(provides))]
pub fn provides(input: TokenStream) -> TokenStream {
    derive::provides(input.into()).into()
}
