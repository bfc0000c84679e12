//! Looks into types and expressions, through the invisible groups that `macro_rules!` leaves.

use proc_macro2::{Delimiter, Ident, Spacing, TokenStream, TokenTree};
use quote::ToTokens;
use syn::ext::IdentExt;
use syn::{Expr, GenericArgument, PathArguments, Type};

/// Takes parentheses and invisible groups off a type.
pub(crate) fn peel(ty: &Type) -> &Type {
    match ty {
        Type::Group(group) => peel(&group.elem),
        Type::Paren(paren) => peel(&paren.elem),
        ty => ty,
    }
}

/// Takes parentheses and invisible groups off an expression.
pub(crate) fn peel_expr(expr: &Expr) -> &Expr {
    match expr {
        Expr::Group(group) => peel_expr(&group.expr),
        Expr::Paren(paren) => peel_expr(&paren.expr),
        expr => expr,
    }
}

/// Returns a type as a person would write it.
pub(crate) fn text(tokens: &impl ToTokens) -> String {
    let mut text = String::new();
    write_text(tokens.to_token_stream(), &mut text);
    text
}

fn write_text(tokens: TokenStream, text: &mut String) {
    for token in tokens {
        let (open, close) = match &token {
            TokenTree::Group(group) => match group.delimiter() {
                Delimiter::Parenthesis => ("(", ")"),
                Delimiter::Brace => ("{ ", " }"),
                Delimiter::Bracket => ("[", "]"),
                Delimiter::None => ("", ""),
            },
            TokenTree::Punct(punct) => {
                text.push(punct.as_char());
                if ",;+".contains(punct.as_char()) {
                    text.push(' ');
                }
                continue;
            }
            TokenTree::Ident(_) | TokenTree::Literal(_) => {
                if text.ends_with(|c: char| c.is_alphanumeric() || c == '_') {
                    text.push(' ');
                }
                text.push_str(&token.to_string());
                continue;
            }
        };
        let TokenTree::Group(group) = token else { continue };
        text.push_str(open);
        write_text(group.stream(), text);
        text.push_str(close);
    }
}

/// Tells whether any token satisfies `is`, at any depth.
fn any(tokens: TokenStream, is: &dyn Fn(&TokenTree) -> bool) -> bool {
    tokens.into_iter().any(|token| {
        is(&token)
            || match token {
                TokenTree::Group(group) => any(group.stream(), is),
                _ => false,
            }
    })
}

pub(crate) fn has_impl_trait(ty: &Type) -> bool {
    names(ty, "impl")
}

/// Tells whether a type has a reference in it, or a lifetime other than `'static`.
pub(crate) fn borrows(ty: &Type) -> bool {
    match peel(ty) {
        Type::Reference(_) => true,
        Type::Path(path) => path.path.segments.iter().any(|segment| match &segment.arguments {
            PathArguments::AngleBracketed(args) => args.args.iter().any(|arg| match arg {
                GenericArgument::Type(ty) => borrows(ty),
                GenericArgument::Lifetime(lifetime) => lifetime.ident != "static",
                _ => false,
            }),
            PathArguments::None | PathArguments::Parenthesized(_) => false,
        }),
        Type::Tuple(tuple) => tuple.elems.iter().any(borrows),
        Type::Array(array) => borrows(&array.elem),
        Type::Slice(slice) => borrows(&slice.elem),
        _ => false,
    }
}

/// Tells whether a type borrows for less than `'static`.
pub(crate) fn borrows_for_a_while(ty: &Type) -> bool {
    match peel(ty) {
        Type::Reference(reference) if reference.lifetime.as_ref().is_some_and(|it| it.ident == "static") => {
            borrows_for_a_while(&reference.elem)
        }
        ty => borrows(ty),
    }
}

/// Tells whether a value of the type can only stand behind a pointer.
pub(crate) fn is_unsized(ty: &Type) -> bool {
    match peel(ty) {
        Type::TraitObject(_) | Type::Slice(_) => true,
        Type::Path(path) => path.path.is_ident("str"),
        _ => false,
    }
}

/// Tells whether a type names something, anywhere in it.
pub(crate) fn names(ty: &Type, name: &str) -> bool {
    any(ty.to_token_stream(), &|token| matches!(token, TokenTree::Ident(ident) if ident == name))
}

/// Returns the owned type that stands for a borrowed one.
pub(crate) fn owned_form(ty: &Type) -> Option<String> {
    let elem = match peel(ty) {
        Type::Reference(reference) => peel(&reference.elem),
        ty if is_unsized(ty) => ty,
        _ => return None,
    };
    Some(match elem {
        Type::Slice(slice) => format!("Vec<{}>", text(&slice.elem)),
        Type::Path(path) if path.path.is_ident("str") => String::from("String"),
        Type::Path(path) if path.path.segments.last().is_some_and(|last| last.ident == "Path") => {
            String::from("PathBuf")
        }
        Type::Path(_) | Type::Tuple(_) | Type::Array(_) if !borrows(elem) => text(elem),
        _ => return None,
    })
}

/// Tells whether `name` occurs as a word, also as `{name}` in a string that a macro formats; the name of a field is
/// another one.
pub(crate) fn mentions(tokens: TokenStream, name: &Ident) -> bool {
    mentioned(&flat(tokens), &name.unraw().to_string(), false)
}

fn mentioned(tokens: &[TokenTree], name: &str, are_fields: bool) -> bool {
    tokens.iter().enumerate().any(|(at, token)| match token {
        TokenTree::Ident(ident) => ident.unraw() == name && !is_field(tokens, at, are_fields),
        TokenTree::Literal(literal) => literal
            .to_string()
            .split('{')
            .skip(1)
            .any(|rest| rest.strip_prefix(name).is_some_and(|rest| rest.starts_with(['}', ':']))),
        TokenTree::Group(group) => {
            // Braces elsewhere may be a macro's, as those of `json!({ id: 1 })`, which takes the value of `id`.
            let behind_a_name = at.checked_sub(1).is_some_and(|before| {
                matches!(tokens[before], TokenTree::Ident(_)) || is_punct(&tokens[before], '>')
            });
            mentioned(&flat(group.stream()), name, is_brace(token) && behind_a_name)
        }
        TokenTree::Punct(_) => false,
    })
}

/// Tells whether a word is a field: behind a single `.`, or before a single `:` among the fields of a struct.
fn is_field(tokens: &[TokenTree], at: usize, are_fields: bool) -> bool {
    let is_dot = |back: usize| at.checked_sub(back).is_some_and(|at| is_punct(&tokens[at], '.'));
    let is_colon = matches!(tokens.get(at + 1), Some(TokenTree::Punct(punct)) if punct.as_char() == ':' && punct.spacing() == Spacing::Alone);
    (is_dot(1) && !is_dot(2)) || (are_fields && is_colon)
}

/// Takes off the invisible groups that `macro_rules!` leaves.
pub(crate) fn flat(tokens: TokenStream) -> Vec<TokenTree> {
    tokens
        .into_iter()
        .flat_map(|token| match token {
            TokenTree::Group(group) if group.delimiter() == Delimiter::None => flat(group.stream()),
            token => vec![token],
        })
        .collect()
}

pub(crate) fn is(word: &Ident, text: &str) -> bool {
    *word == text
}

pub(crate) fn is_punct(token: &TokenTree, char: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == char)
}

pub(crate) fn is_brace(token: &TokenTree) -> bool {
    matches!(token, TokenTree::Group(group) if group.delimiter() == Delimiter::Brace)
}

/// Returns the number of tokens from `<` to its `>`.
pub(crate) fn generics(tokens: &[TokenTree]) -> usize {
    let mut depth = 0;
    let mut arrow = false;
    for (at, token) in tokens.iter().enumerate() {
        if is_punct(token, '<') {
            depth += 1;
        } else if is_punct(token, '>') && !arrow {
            depth -= 1;
        }
        if depth == 0 {
            return at + 1;
        }
        arrow = matches!(token, TokenTree::Punct(punct) if punct.as_char() == '-' && punct.spacing() == Spacing::Joint);
    }
    tokens.len()
}

/// Returns the number of tokens of a function in the body, which has no part in the run; 1 for a type `fn(u8)`.
pub(crate) fn past_function(tokens: &[TokenTree]) -> usize {
    match tokens.get(1) {
        Some(TokenTree::Ident(_)) => {
            let end = tokens.iter().position(|token| is_brace(token) || is_punct(token, ';'));
            end.map_or(tokens.len(), |end| end + 1)
        }
        _ => 1,
    }
}
