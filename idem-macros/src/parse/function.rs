//! The function under the attribute.

use proc_macro2::{TokenStream, TokenTree};
use syn::parse::{Parse, ParseStream};
use syn::{Attribute, Item, Signature, Token, Visibility};

use crate::model::RawFunction;

/// Parses the item under the attribute.
pub(crate) fn function(item: TokenStream) -> syn::Result<RawFunction> {
    syn::parse2(item.clone()).map_err(|error| no_function(item).unwrap_or(error))
}

impl Parse for RawFunction {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let attrs = input.call(Attribute::parse_outer)?;
        let vis: Visibility = input.parse()?;
        let sig: Signature = input.parse()?;
        if input.peek(Token![;]) {
            return Err(input.error(format!("`{}` must have a body", sig.ident)));
        }
        // The body is kept as it is: half-written code is rustc's to explain, and completion needs its spans.
        let body: TokenTree = input.parse()?;
        Ok(RawFunction { attrs, vis, sig, body })
    }
}

/// Names what the attribute stands on instead of a function.
fn no_function(item: TokenStream) -> Option<syn::Error> {
    use quote::ToTokens;
    let (what, culprit) = match syn::parse2(item).ok()? {
        Item::Struct(item) => ("a struct", item.struct_token.into_token_stream()),
        Item::Enum(item) => ("an enum", item.enum_token.into_token_stream()),
        Item::Impl(item) => ("an impl", item.impl_token.into_token_stream()),
        Item::Trait(item) => ("a trait", item.trait_token.into_token_stream()),
        Item::Mod(item) => ("a module", item.mod_token.into_token_stream()),
        Item::Const(item) => ("a constant", item.const_token.into_token_stream()),
        Item::Static(item) => ("a static", item.static_token.into_token_stream()),
        Item::Type(item) => ("a type alias", item.type_token.into_token_stream()),
        _ => return None,
    };
    let message = format!("{what} cannot be a job; write `#[idempotent(key = …)]` on an `async fn`");
    Some(syn::Error::new_spanned(culprit, message))
}
