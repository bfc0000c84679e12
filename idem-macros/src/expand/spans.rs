//! Spans for generated types that rustc may have to underline.
//!
//! rustc shows equal errors at one place once. So every type that contains one of the user's has that
//! one's span, wherever it is generated, and a type that cannot stand in a job is one error, at the type.

use proc_macro2::{Delimiter, Group, Ident, Span, TokenStream};
use quote::{ToTokens, quote_spanned};
use syn::{Path, Type};

use crate::model::{Arg, Job, Returns};

/// Returns the spans of the first and the last token.
pub(super) fn ends(tokens: &impl ToTokens) -> (Span, Span) {
    let mut tokens = tokens.to_token_stream().into_iter().map(|token| token.span());
    let first = tokens.next().unwrap_or_else(Span::mixed_site);
    (first, tokens.last().unwrap_or(first))
}

/// Returns a parameter's name for generated code that uses it: the user may have called it `_unused`,
/// and lints forgive an expansion to use that.
pub(super) fn quiet(ident: &Ident) -> Ident {
    let span = ident.span().resolved_at(Span::call_site());
    // Where a span is resolved says which words are keywords: to a user of the edition 2021 this one is a name.
    if ident == "gen" {
        return Ident::new_raw("gen", span);
    }
    let mut ident = ident.clone();
    ident.set_span(span);
    ident
}

/// Returns the path of the runtime crate at a span.
pub(super) fn krate_at(krate: &Path, span: Span) -> Path {
    let mut krate = krate.clone();
    if let Some(colons) = &mut krate.leading_colon {
        colons.spans = [span; 2];
    }
    // `$crate` means what it does because of its span.
    for segment in krate.segments.iter_mut().filter(|segment| segment.ident != "$crate") {
        segment.ident.set_span(span);
    }
    krate
}

/// Returns `(tokens)`; a call ends where its parenthesis does.
pub(super) fn parenthesized(end: Span, tokens: TokenStream) -> Group {
    let mut group = Group::new(Delimiter::Parenthesis, tokens);
    group.set_span(end);
    group
}

/// Returns `<ty as krate::job::JobArg<_>>::name(value)`, which is an error if the type is no argument.
pub(super) fn carried(arg: &Arg, krate: &Path, name: &str, value: TokenStream) -> TokenStream {
    let ty = &arg.ty;
    let (start, end) = ends(ty);
    let krate = krate_at(krate, start);
    let name = Ident::new(name, end);
    let call = parenthesized(end, value);
    let of = quote_spanned!(start=> #krate::job::JobArg<_>);
    let name = quote_spanned!(end=> ::#name #call);
    quote_spanned!(start=> <#ty as #of> #name)
}

/// Returns `<ty as krate::job::FinalError>::name(value)`, which is an error if the type cannot be replayed.
pub(super) fn final_error(ty: &TokenStream, krate: &Path, name: &str, value: TokenStream) -> TokenStream {
    let (start, end) = ends(ty);
    let krate = krate_at(krate, start);
    let name = Ident::new(name, end);
    let call = parenthesized(end, value);
    let name = quote_spanned!(end=> ::#name #call);
    quote_spanned!(start=> <#ty as #krate::job::FinalError> #name)
}

/// Returns the types of result and error as rustc splits the return type: an error if it is no `Result`.
pub(super) fn split(returns: &Returns, krate: &Path) -> (TokenStream, TokenStream) {
    match &returns.halves {
        Some((output, error)) => (output.to_token_stream(), error.to_token_stream()),
        None => {
            let ty = returns.ty.to_token_stream();
            let half = |name| projection(&returns.ty, krate, &ty, "job::JobResult", name);
            (half("Output"), half("Error"))
        }
    }
}

/// Returns `<ty as krate::of>::name` at the span of `place`.
pub(super) fn projection(place: &Type, krate: &Path, ty: &TokenStream, of: &str, name: &str) -> TokenStream {
    let (start, end) = ends(place);
    let krate = krate_at(krate, start);
    let of = of.split("::").map(|segment| Ident::new(segment, start));
    let name = Ident::new(name, end);
    let name = quote_spanned!(end=> ::#name);
    quote_spanned!(start=> <#ty as #krate #(::#of)*> #name)
}

/// Returns `Result<krate::wrapper<Output>, krate::Error<Error>>` at the return type's span.
pub(super) fn result(job: &Job, wrapper: &TokenStream) -> TokenStream {
    let (start, end) = ends(&job.function.returns.ty);
    let (output, error) = super::halves(job);
    let krate = krate_at(&job.krate, start);
    let error = quote_spanned!(start=> #krate::Error<#error>);
    let close = quote_spanned!(end=> >);
    quote_spanned!(start=> ::core::result::Result<#krate::#wrapper<#output>, #error #close)
}
