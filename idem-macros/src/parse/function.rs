//! The function under the attribute.

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use syn::parse::{Parse, ParseStream};
use syn::{Attribute, ForeignItemFn, Item, Signature, Visibility};

use crate::codes::Code;
use crate::errors::Errors;
use crate::model::RawFunction;

/// Parses the item under the attribute, or reports that it is no function.
pub(crate) fn function(item: TokenStream, errors: &mut Errors) -> Option<RawFunction> {
    match syn::parse2(item.clone()) {
        Ok(function) => return Some(function),
        Err(error) => {
            if let Ok(ForeignItemFn { sig, semi_token, .. }) = syn::parse2(item.clone()) {
                let message = format!("`{0}` must have a body; write `async fn {0}(…) {{ … }}`", sig.ident);
                errors.push(&semi_token, Code::WithoutBody, message);
            } else if let Some((what, culprit)) = no_function(item) {
                let message =
                    format!("{what} cannot be a job; write `#[idempotent(key = …)]` on an `async fn`");
                errors.push(&culprit, Code::NotAFunction, message);
            } else {
                errors.push_syntax(error);
            }
        }
    }
    None
}

impl Parse for RawFunction {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let attrs = input.call(Attribute::parse_outer)?;
        let vis: Visibility = input.parse()?;
        let sig: Signature = input.parse()?;
        if input.peek(syn::Token![;]) {
            return Err(input.error("expected a body"));
        }
        // The body is kept as it is: half-written code is rustc's to explain, and completion needs its spans.
        let body: TokenTree = input.parse()?;
        Ok(RawFunction { attrs, vis, sig, body })
    }
}

/// Names what the attribute stands on instead of a function.
fn no_function(item: TokenStream) -> Option<(&'static str, TokenStream)> {
    Some(match syn::parse2(item).ok()? {
        Item::Struct(item) => ("a struct", item.struct_token.into_token_stream()),
        Item::Enum(item) => ("an enum", item.enum_token.into_token_stream()),
        Item::Impl(item) => ("an impl", item.impl_token.into_token_stream()),
        Item::Trait(item) => ("a trait", item.trait_token.into_token_stream()),
        Item::Mod(item) => ("a module", item.mod_token.into_token_stream()),
        Item::Const(item) => ("a constant", item.const_token.into_token_stream()),
        Item::Static(item) => ("a static", item.static_token.into_token_stream()),
        Item::Union(item) => ("a union", item.union_token.into_token_stream()),
        Item::Use(item) => ("an import", item.use_token.into_token_stream()),
        Item::ExternCrate(item) => ("an import", item.crate_token.into_token_stream()),
        Item::Macro(item) => ("a macro", item.mac.path.into_token_stream()),
        Item::ForeignMod(item) => ("an extern block", item.abi.into_token_stream()),
        Item::Type(item) => ("a type alias", item.type_token.into_token_stream()),
        _ => return None,
    })
}
