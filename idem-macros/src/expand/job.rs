//! `impl Job`: what does not depend on the database.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::ext::IdentExt;
use syn::{Expr, Path};

use super::{own, spans, spec};
use crate::model::{Fingerprint, Job, Key, Kind, Lock};

pub(super) fn job_impl(job: &Job) -> TokenStream {
    let Job { krate, function, struct_name, .. } = job;
    let (output, error) = spans::split(&function.returns, krate);
    let spec = spec::spec(job);
    let key = key_method(krate, "key", &job.key);
    let unique = job.spec.unique.as_ref();
    let queue_key = unique.and_then(|unique| unique.queue_key.as_ref());
    let queue_key = queue_key.map(|key| key_method(krate, "queue_key", key));
    let run_key = unique.and_then(|unique| unique.run_key.as_ref()).map(|key| run_key(krate, key));
    let fingerprint = fingerprint(job);
    let replay = (!job.replay.is_empty()).then(|| replay(job, &error));
    let describe_error = describe_error(krate);
    let (kind, row) = match &job.kind {
        Kind::Atomic { lock, .. } => (own("Atomic"), row(krate, lock)),
        Kind::Leased { .. } => (own("Leased"), None),
    };
    quote_spanned! {Span::mixed_site()=>
        impl #krate::Job for #struct_name {
            type Kind = #krate::job::#kind;
            type Output = #output;
            type Error = #error;
            const SPEC: #krate::job::JobSpec = #spec;
            #key
            #queue_key
            #run_key
            #fingerprint
            #row
            #replay
            #describe_error
        }
    }
}

/// Returns the method of this name that makes a key.
fn key_method(krate: &Path, name: &str, key: &Key) -> TokenStream {
    let (name, parts) = (own(name), parts(krate, key));
    quote_spanned! {Span::mixed_site()=>
        fn #name(&self) -> ::core::result::Result<#krate::key::KeyParts, #krate::key::EmptyKey> {
            #parts
        }
    }
}

fn run_key(krate: &Path, key: &Key) -> TokenStream {
    let parts = parts(krate, key);
    quote_spanned! {Span::mixed_site()=>
        fn run_key(
            &self,
        ) -> ::core::result::Result<::core::option::Option<#krate::key::KeyParts>, #krate::key::EmptyKey> {
            #parts.map(::core::option::Option::Some)
        }
    }
}

/// Returns what makes the parts of a key of `self`.
fn parts(krate: &Path, key: &Key) -> TokenStream {
    match key {
        Key::Global => {
            let global = quote_spanned!(Span::mixed_site()=> #krate::key::KeyParts::global());
            quote_spanned!(Span::mixed_site()=> ::core::result::Result::Ok(#global))
        }
        Key::Of { expr, uses } => {
            let (bindings, part) = (bindings(uses), part(krate, expr));
            quote_spanned!(Span::mixed_site()=> #bindings #krate::key::KeyParts::of(&#part))
        }
    }
}

/// Returns the expression as a part of a key, which only looks at it; a tuple element by element.
fn part(krate: &Path, expr: &Expr) -> TokenStream {
    match expr {
        Expr::Group(group) => part(krate, &group.expr),
        Expr::Paren(paren) => part(krate, &paren.expr),
        Expr::Tuple(tuple) => {
            let elems = tuple.elems.iter().map(|elem| part(krate, elem));
            quote_spanned!(Span::mixed_site()=> (#(#elems,)*))
        }
        expr => {
            let (start, end) = spans::ends(expr);
            let (krate, value) = (spans::krate_at(krate, start), reference(expr));
            let call = spans::parenthesized(end, quote_spanned!(start=> &#value));
            quote_spanned!(start=> #krate::key::part #call)
        }
    }
}

/// Binds the arguments that an expression names to references. It may give one of the names to something else.
fn bindings(uses: &[Ident]) -> TokenStream {
    quote_spanned! {Span::mixed_site()=>
        #[allow(unused_variables)]
        let Self { #(#uses,)* .. } = self;
    }
}

/// Returns a reference to the value of an expression, at the expression's span.
fn reference(expr: &Expr) -> TokenStream {
    let (start, _) = spans::ends(expr);
    match expr {
        Expr::Binary(_) | Expr::Cast(_) | Expr::Range(_) => quote_spanned!(start=> &(#expr)),
        expr => quote_spanned!(start=> &#expr),
    }
}

fn fingerprint(job: &Job) -> Option<TokenStream> {
    let Job { krate, function, fingerprint: Fingerprint(compared), .. } = job;
    if compared.is_empty() {
        return None;
    }
    let args = function.args().filter(|arg| compared.contains(&arg.ident)).map(|arg| {
        let ident = &arg.ident;
        let name = ident.unraw().to_string();
        let value = spans::carried(arg, krate, "give", quote_spanned!(Span::mixed_site()=> &self.#ident));
        quote_spanned!(Span::mixed_site()=> .arg(#name, #value)?)
    });
    Some(quote_spanned! {Span::mixed_site()=>
        fn fingerprint(&self) -> ::core::result::Result<#krate::fingerprint::Fingerprint, #krate::codec::CodecError> {
            ::core::result::Result::Ok(#krate::fingerprint::Fingerprint::builder() #(#args)* .finish())
        }
    })
}

fn row(krate: &Path, lock: &Lock) -> Option<TokenStream> {
    let Lock::BusinessRow(row) = lock else { return None };
    let bindings = bindings(&row.uses);
    let (start, end) = spans::ends(&row.value);
    let value = spans::parenthesized(end, reference(&row.value));
    let at_value = spans::krate_at(krate, start);
    let value = quote_spanned!(start=> #at_value::store::RowKey::row_value #value);
    Some(quote_spanned! {Span::mixed_site()=>
        fn row(&self) -> ::core::option::Option<#krate::store::RowValue> {
            #bindings
            ::core::option::Option::Some(#value)
        }
    })
}

fn replay(job: &Job, error_ty: &TokenStream) -> TokenStream {
    let Job { krate, replay, .. } = job;
    let (error, bytes) = (own("error"), own("bytes"));
    let encoded = spans::final_error(error_ty, krate, "encode_error", quote!(#error));
    let decoded = spans::final_error(error_ty, krate, "decode_error", quote!(#bytes));
    quote_spanned! {Span::mixed_site()=>
        fn final_error(
            #error: &Self::Error,
        ) -> ::core::option::Option<::core::result::Result<::std::vec::Vec<u8>, #krate::codec::CodecError>> {
            match #error {
                #(#replay)|* => ::core::option::Option::Some(#encoded),
                #[allow(unreachable_patterns)]
                _ => ::core::option::Option::None,
            }
        }
        fn decode_error(#bytes: &[u8]) -> ::core::result::Result<Self::Error, #krate::codec::CodecError> {
            #decoded
        }
    }
}

/// Returns what is said of a failed run: the error as text, if its type has one.
fn describe_error(krate: &Path) -> TokenStream {
    let error = own("error");
    quote_spanned! {Span::mixed_site()=>
        fn describe_error(#error: &Self::Error) -> ::std::string::String {
            use #krate::__private::describe::{ViaDebug as _, ViaDisplay as _, ViaName as _};
            (&&&#krate::__private::describe::Described(#error)).idem_text()
        }
    }
}
