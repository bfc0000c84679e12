//! The options of the attribute. One that does not parse is reported and the next one is tried.

use proc_macro2::{Group, Ident, TokenStream, TokenTree};
use syn::ext::IdentExt;
use syn::parse::{Parse, ParseStream, Parser};
use syn::punctuated::Punctuated;
use syn::{Expr, Pat, Token, token};

use crate::errors::Errors;
use crate::model::{RawArm, RawOption, RawValue};

/// Parses a comma-separated list of options.
pub(crate) fn options(args: TokenStream, errors: &mut Errors) -> Vec<RawOption> {
    let parse = |input: ParseStream<'_>| {
        let mut options = Vec::new();
        while !input.is_empty() {
            let name = input.call(Ident::parse_any)?;
            let value =
                value(&name, input).and_then(|value| match input.is_empty() || input.peek(Token![,]) {
                    true => Ok(value),
                    false => Err(input.error("expected `,` before the next option")),
                });
            let value = value.unwrap_or_else(|error| {
                errors.push_syntax(error);
                RawValue::Broken
            });
            options.push(RawOption { name, value });
            skip_to_comma(input)?;
            input.parse::<Option<Token![,]>>()?;
        }
        Ok(options)
    };
    parse.parse2(args).unwrap_or_else(|error| {
        errors.push_syntax(error);
        Vec::new()
    })
}

/// Skips what is left of a broken option.
fn skip_to_comma(input: ParseStream<'_>) -> syn::Result<()> {
    while !input.is_empty() && !input.peek(Token![,]) {
        input.parse::<TokenTree>()?;
    }
    Ok(())
}

fn value(name: &Ident, input: ParseStream<'_>) -> syn::Result<RawValue> {
    if input.is_empty() || input.peek(Token![,]) {
        Ok(RawValue::Missing)
    } else if input.peek(token::Paren) {
        list(name, &input.parse()?)
    } else if input.peek(Token![=]) && !input.peek(Token![==]) && !input.peek(Token![=>]) {
        input.parse::<Token![=]>()?;
        if input.is_empty() || input.peek(Token![,]) {
            return Ok(RawValue::Missing);
        }
        input.parse().map(RawValue::Expr)
    } else {
        Err(input.error(format!("expected `=`, `(` or `,` behind `{name}`")))
    }
}

fn list(name: &Ident, group: &Group) -> syn::Result<RawValue> {
    Ok(if name == "adopt" {
        let arms = Punctuated::<RawArm, Token![,]>::parse_terminated.parse2(group.stream())?;
        RawValue::Arms(arms.into_iter().collect())
    } else if name == "replay" {
        let patterns = Punctuated::<Pattern, Token![,]>::parse_terminated.parse2(group.stream())?;
        RawValue::Patterns(patterns.into_iter().map(|pattern| pattern.0).collect())
    } else if name == "unique_by" || name == "schedule" {
        let parts = Punctuated::<Expr, Token![,]>::parse_terminated.parse2(group.stream())?;
        RawValue::Parts(parts.into_iter().collect())
    } else {
        RawValue::List
    })
}

struct Pattern(Pat);

impl Parse for Pattern {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        Pat::parse_multi_with_leading_vert(input).map(Pattern)
    }
}

impl Parse for RawArm {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let Pattern(pat) = input.parse()?;
        let guard = match input.parse::<Option<Token![if]>>()? {
            Some(_) => Some(input.parse()?),
            None => None,
        };
        let value = match input.parse::<Option<Token![=>]>>()? {
            Some(_) => Some(input.parse()?),
            None => None,
        };
        Ok(RawArm { pat, guard, value })
    }
}
