//! The names of steps, as far as they stand in the body as literals; what cannot be seen, a run checks.

use proc_macro2::{Delimiter, Group, Ident, Span, TokenStream, TokenTree};
use quote::ToTokens;
use syn::ext::IdentExt;
use syn::parse::{ParseStream, Parser};
use syn::{Expr, Lit, LitStr, Pat, Token};

use super::scan::{flat, generics, is, is_brace, is_punct, past_function};
use super::{names, scan, value};
use crate::codes::Code;
use crate::errors::Errors;

/// Checks the name of every `run.step(...)` and `run.tx_step(...)` in a body.
pub(crate) fn check(body: &TokenTree, run: &Ident, errors: &mut Errors) {
    let mut search = Search { run, found: Vec::new() };
    search.tokens(body.to_token_stream(), Place::Once);
    let mut seen: Vec<&Step> = Vec::new();
    for step in &search.found {
        let text = step.name.value();
        if let Some(fault) = names::fault(&text) {
            errors.push(
                &step.name,
                Code::StepName,
                format_args!("the name of a step {fault}; write `{run}.step(\"charge\", …)`"),
            );
        } else if let (Place::Loop, Index::None | Index::Literal(_)) = (step.place, &step.index) {
            let message = format!(
                "`{text}` stands in a loop, so a second turn would have the same step; write `({text:?}, i)`"
            );
            errors.push(&step.name, Code::StepInLoop, message);
        } else if let Some(first) = seen.iter().find(|first| first.may_be(step)) {
            let first = line(first.name.span())
                .map_or_else(String::new, |line| format!(", the first of them in line {line}"));
            let message = format!("`{text}` is the name of two steps{first}; give this one another name");
            errors.push(&step.name, Code::StepTwice, message);
        } else {
            seen.push(step);
        }
    }
}

/// Returns the line of a span, which only rustc knows.
fn line(span: Span) -> Option<usize> {
    proc_macro::is_available().then(|| span.unwrap().line())
}

struct Step {
    name: LitStr,
    index: Index,
    place: Place,
}

impl Step {
    /// Tells whether both can have the same name in one run; indexes that are computed may meet.
    fn may_be(&self, other: &Step) -> bool {
        self.name.value() == other.name.value()
            && match (&self.index, &other.index) {
                (Index::None, Index::None) | (Index::Computed, Index::Computed) => true,
                (Index::Literal(a), Index::Literal(b)) => a == b,
                (Index::Literal(_), Index::Computed) | (Index::Computed, Index::Literal(_)) => true,
                (Index::None, _) | (_, Index::None) => false,
            }
    }
}

/// What stands beside the name in `("name", index)`.
enum Index {
    None,
    Literal(String),
    Computed,
}

/// How often a place in the body is passed.
#[derive(Clone, Copy)]
enum Place {
    Once,
    Loop,
}

struct Search<'a> {
    run: &'a Ident,
    found: Vec<Step>,
}

impl Search<'_> {
    fn tokens(&mut self, tokens: TokenStream, place: Place) {
        let tokens = flat(tokens);
        let mut at = 0;
        while at < tokens.len() {
            let behind_dot = at > 0 && is_punct(&tokens[at - 1], '.');
            at += match &tokens[at] {
                TokenTree::Ident(word) if is(word, "fn") => past_function(&tokens[at..]),
                TokenTree::Ident(word) if is(word, "for") || is(word, "while") || is(word, "loop") => {
                    self.repetition(&tokens[at..], place)
                }
                TokenTree::Ident(word) if word.unraw() == self.run.unraw() && !behind_dot => {
                    self.found.extend(args(&tokens[at + 1..]).and_then(|args| step(args, place)));
                    1
                }
                TokenTree::Group(group) => {
                    self.tokens(group.stream(), place);
                    1
                }
                TokenTree::Ident(_) | TokenTree::Punct(_) | TokenTree::Literal(_) => 1,
            };
        }
    }

    /// Searches a loop, and returns the number of its tokens; 1 if this is none, as in `impl Trait for Type`.
    fn repetition(&mut self, tokens: &[TokenTree], place: Place) -> usize {
        let Some(Header { repeated, body }) = header(tokens) else { return 1 };
        let once = tokens[1..body].iter().cloned().collect();
        self.tokens(once, if repeated { Place::Loop } else { place });
        self.tokens(tokens[body].to_token_stream(), Place::Loop);
        body + 1
    }
}

/// Where the body of a loop is, and whether what stands before it is repeated as well.
struct Header {
    repeated: bool,
    body: usize,
}

fn header(tokens: &[TokenTree]) -> Option<Header> {
    // A body that may be half-written does not parse; the header of a loop does, or it is not looked at.
    let header = |input: ParseStream<'_>| {
        let repeated = if input.parse::<Option<Token![for]>>()?.is_some() {
            Pat::parse_multi_with_leading_vert(input)?;
            input.parse::<Token![in]>()?;
            Expr::parse_without_eager_brace(input)?;
            false
        } else if input.parse::<Option<Token![while]>>()?.is_some() {
            Expr::parse_without_eager_brace(input)?;
            true
        } else {
            input.parse::<Token![loop]>()?;
            false
        };
        let rest: TokenStream = input.parse()?;
        Ok((repeated, rest.into_iter().count()))
    };
    let (repeated, rest) = header.parse2(tokens.iter().cloned().collect()).ok()?;
    let body = tokens.len() - rest;
    tokens.get(body).filter(|token| is_brace(token)).map(|_| Header { repeated, body })
}

/// Returns the arguments of `.step(...)` and `.tx_step(...)`, also behind `::<…>`.
fn args(tokens: &[TokenTree]) -> Option<&Group> {
    let [dot, TokenTree::Ident(method), rest @ ..] = tokens else { return None };
    if !is_punct(dot, '.') || !(is(method, "step") || is(method, "tx_step")) {
        return None;
    }
    let args = match rest {
        [colon, _, rest @ ..] if is_punct(colon, ':') => &rest[generics(rest)..],
        rest => rest,
    };
    match args.first()? {
        TokenTree::Group(group) if group.delimiter() == Delimiter::Parenthesis => Some(group),
        _ => None,
    }
}

/// Reads the first argument of a step.
fn step(args: &Group, place: Place) -> Option<Step> {
    let name = args.stream().into_iter().take_while(|token| !is_punct(token, ','));
    let name: Expr = syn::parse2(name.collect()).ok()?;
    if let Some(name) = value::string(&name) {
        return Some(Step { name: name.clone(), index: Index::None, place });
    }
    let Expr::Tuple(tuple) = scan::peel_expr(&name) else { return None };
    let (name, index, 2) = (tuple.elems.first()?, tuple.elems.last()?, tuple.elems.len()) else {
        return None;
    };
    let index = match scan::peel_expr(index) {
        Expr::Lit(index) => match &index.lit {
            Lit::Int(number) => Index::Literal(number.base10_digits().to_owned()),
            other => Index::Literal(other.to_token_stream().to_string()),
        },
        _ => Index::Computed,
    };
    Some(Step { name: value::string(name)?.clone(), index, place })
}
