//! `impl Job`: what does not depend on the database.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, quote_spanned};
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{Expr, Path};

use super::{halves, own, spec};
use crate::model::{Fingerprint, Job, Key, Lock};

pub(super) fn job_impl(job: &Job) -> TokenStream {
    let Job { krate, function, struct_name, .. } = job;
    let (output, error) = halves(krate, &function.returns);
    let spec = spec::spec(job);
    let key = key(krate, &job.key);
    let fingerprint = fingerprint(krate, &job.fingerprint);
    let row = row(krate, &job.spec.lock);
    let replay = (!job.replay.is_empty()).then(|| replay(job, &error));
    quote_spanned! {Span::mixed_site()=>
        impl #krate::Job for #struct_name {
            type Output = #output;
            type Error = #error;
            const SPEC: #krate::job::JobSpec = #spec;
            #key
            #fingerprint
            #row
            #replay
        }
    }
}

fn key(krate: &Path, key: &Key) -> TokenStream {
    let (bindings, parts) = match key {
        Key::Global => (
            None,
            quote_spanned!(Span::mixed_site()=> ::core::result::Result::Ok(#krate::key::KeyParts::global())),
        ),
        Key::Of { expr, uses } => {
            let expr = by_reference(expr);
            let part = quote_spanned!(expr.span()=> &#expr);
            (Some(bindings(uses)), quote_spanned!(Span::mixed_site()=> #krate::key::KeyParts::of(#part)))
        }
    };
    quote_spanned! {Span::mixed_site()=>
        fn key(&self) -> ::core::result::Result<#krate::key::KeyParts, #krate::key::EmptyKey> {
            #bindings
            #parts
        }
    }
}

/// Binds the arguments that an expression names to references.
fn bindings(uses: &[Ident]) -> TokenStream {
    quote_spanned!(Span::mixed_site()=> let Self { #(#uses,)* .. } = self;)
}

/// Wraps an expression so that it is only looked at: a tuple's elements one by one, since a field in
/// a tuple would be moved out of its argument.
fn by_reference(expr: &Expr) -> TokenStream {
    match expr {
        Expr::Group(group) => by_reference(&group.expr),
        Expr::Paren(paren) => by_reference(&paren.expr),
        Expr::Tuple(tuple) => {
            let elems = tuple.elems.iter().map(|elem| {
                let elem_ref = by_reference(elem);
                quote_spanned!(elem.span()=> &#elem_ref)
            });
            quote_spanned!(tuple.span()=> (#(#elems,)*))
        }
        Expr::Path(_) | Expr::Field(_) | Expr::Lit(_) | Expr::Call(_) | Expr::MethodCall(_) => {
            expr.to_token_stream()
        }
        other => quote_spanned!(other.span()=> (#other)),
    }
}

fn fingerprint(krate: &Path, fingerprint: &Fingerprint) -> Option<TokenStream> {
    let Fingerprint(args) = fingerprint;
    if args.is_empty() {
        return None;
    }
    let names = args.iter().map(|arg| arg.unraw().to_string());
    Some(quote_spanned! {Span::mixed_site()=>
        fn fingerprint(&self) -> ::core::result::Result<#krate::fingerprint::Fingerprint, #krate::codec::CodecError> {
            ::core::result::Result::Ok(
                #krate::fingerprint::Fingerprint::builder() #(.arg(#names, &self.#args)?)* .finish(),
            )
        }
    })
}

fn row(krate: &Path, lock: &Lock) -> Option<TokenStream> {
    let Lock::BusinessRow(row) = lock else { return None };
    let bindings = bindings(&row.uses);
    let value = by_reference(&row.value);
    let value = quote_spanned!(row.value.span()=> &#value);
    Some(quote_spanned! {Span::mixed_site()=>
        fn row(&self) -> ::core::option::Option<#krate::store::RowValue> {
            #bindings
            ::core::option::Option::Some(#krate::store::RowKey::row_value(#value))
        }
    })
}

fn replay(job: &Job, error_ty: &TokenStream) -> TokenStream {
    let Job { krate, replay, .. } = job;
    let (error, bytes) = (own("error"), own("bytes"));
    quote_spanned! {Span::mixed_site()=>
        fn final_error(
            #error: &Self::Error,
        ) -> ::core::option::Option<::core::result::Result<::std::vec::Vec<u8>, #krate::codec::CodecError>> {
            match #error {
                #(#replay)|* => ::core::option::Option::Some(#krate::job::encode_final_error::<#error_ty>(#error)),
                #[allow(unreachable_patterns)]
                _ => ::core::option::Option::None,
            }
        }
        fn decode_error(#bytes: &[u8]) -> ::core::result::Result<Self::Error, #krate::codec::CodecError> {
            #krate::job::decode_final_error::<#error_ty>(#bytes)
        }
    }
}
