//! Handles that are given to sqlx as they are: `.execute(tx)` instead of `.execute(&mut **tx)`.
//!
//! What rustc says of them is sqlx's, of sixty lines, and names no remedy.

use proc_macro2::{Delimiter, Ident, Spacing, TokenStream, TokenTree};
use quote::ToTokens;
use syn::ext::IdentExt;

use super::scan::{flat, generics, is, is_punct, mentions, past_function};
use crate::codes::Code;
use crate::errors::Errors;

/// The methods of a query that take a connection, which is what they end with.
const ENDS: &[&str] =
    &["execute", "execute_many", "fetch", "fetch_all", "fetch_many", "fetch_one", "fetch_optional"];

/// Checks every `sqlx::query…(…)` of a body, and tells whether one has a fault, which rustc would tell of as well.
pub(crate) fn check(body: &TokenTree, tx: Option<&Ident>, errors: &mut Errors) -> bool {
    let mut search = Search { handles: tx.cloned().into_iter().collect(), errors, faulty: false };
    search.tokens(body.to_token_stream());
    search.faulty
}

struct Search<'a> {
    /// The names of transactions at this place.
    handles: Vec<Ident>,
    errors: &'a mut Errors,
    faulty: bool,
}

impl Search<'_> {
    fn tokens(&mut self, tokens: TokenStream) {
        self.flat_tokens(&flat(tokens));
    }

    /// Goes through the tokens of one group. A name that is given to something else there is no handle any more.
    fn flat_tokens(&mut self, tokens: &[TokenTree]) {
        let handles = self.handles.clone();
        let mut at = 0;
        while at < tokens.len() {
            at += match &tokens[at] {
                TokenTree::Ident(word) if is(word, "fn") => past_function(&tokens[at..]),
                TokenTree::Ident(word) if is(word, "let") => {
                    self.rebound(tokens[at..].iter().take_while(|token| !is_punct(token, '=')));
                    1
                }
                TokenTree::Ident(word) if is(word, "for") => {
                    self.rebound(tokens[at..].iter().take_while(|token| !is_word(token, "in")));
                    1
                }
                TokenTree::Punct(arrow) if arrow.as_char() == '=' && arrow.spacing() == Spacing::Joint => {
                    // The pattern of an arm, if it is one.
                    self.rebound(tokens[..at].iter().rev().take_while(|token| !is_punct(token, ',')));
                    1
                }
                TokenTree::Punct(bar) if bar.as_char() == '|' => {
                    self.rebound(tokens[at + 1..].iter().take_while(|token| !is_punct(token, '|')));
                    1
                }
                TokenTree::Ident(word) if is(word, "sqlx") => {
                    self.query(&tokens[at + 1..]);
                    1
                }
                TokenTree::Ident(word) if is(word, "tx_step") => {
                    1 + tokens.get(at + 1).map_or(0, |args| self.step(args))
                }
                TokenTree::Group(group) => {
                    self.tokens(group.stream());
                    1
                }
                TokenTree::Ident(_) | TokenTree::Punct(_) | TokenTree::Literal(_) => 1,
            };
        }
        self.handles = handles;
    }

    /// Forgets the handles whose names a pattern takes.
    fn rebound<'t>(&mut self, pattern: impl Iterator<Item = &'t TokenTree>) {
        let pattern: TokenStream = pattern.cloned().collect();
        self.handles.retain(|handle| !mentions(pattern.clone(), handle));
    }

    /// Searches the closure of a step, whose parameter is a handle; returns the number of tokens, 0 if it is none.
    fn step(&mut self, args: &TokenTree) -> usize {
        let TokenTree::Group(group) = args else { return 0 };
        let args = flat(group.stream());
        let bars: Vec<usize> = (0..args.len()).filter(|at| is_punct(&args[*at], '|')).collect();
        let [open, close, ..] = bars[..] else { return 0 };
        let handles = self.handles.clone();
        if let Some(TokenTree::Ident(name)) = args.get(open + 1) {
            self.handles.push(name.clone());
        }
        self.flat_tokens(&args[close + 1..]);
        self.handles = handles;
        1
    }

    /// Follows the calls behind `sqlx` to the one that takes the connection.
    fn query(&mut self, tokens: &[TokenTree]) {
        let [colon, _, TokenTree::Ident(query), rest @ ..] = tokens else { return };
        if !is_punct(colon, ':') || !(query.to_string().starts_with("query") || is(query, "raw_sql")) {
            return;
        }
        let mut rest = match rest {
            [bang, rest @ ..] if is_punct(bang, '!') => rest,
            rest => rest,
        };
        let mut method = query;
        loop {
            if let [colon, _, behind @ ..] = rest
                && is_punct(colon, ':')
            {
                rest = &behind[generics(behind)..];
            }
            let [TokenTree::Group(args), behind @ ..] = rest else { return };
            if args.delimiter() != Delimiter::Parenthesis {
                return;
            }
            if ENDS.iter().any(|end| is(method, end)) {
                return self.end(method, &args.stream());
            }
            let [dot, TokenTree::Ident(next), behind @ ..] = behind else { return };
            if !is_punct(dot, '.') {
                return;
            }
            (method, rest) = (next, behind);
        }
    }

    /// Reports a handle that stands where the connection should.
    fn end(&mut self, method: &Ident, args: &TokenStream) {
        let args = flat(args.clone());
        let [before @ .., TokenTree::Ident(name)] = args.as_slice() else { return };
        let depth = before.iter().filter(|token| is_punct(token, '*')).count();
        let plain = before.iter().all(|token| match token {
            TokenTree::Ident(word) => is(word, "mut"),
            token => is_punct(token, '&') || is_punct(token, '*'),
        });
        if plain && depth < 2 && self.handles.iter().any(|handle| handle.unraw() == name.unraw()) {
            self.faulty = true;
            let message =
                format!("`{name}` is no connection but leads to one; write `.{method}(&mut **{name})`");
            self.errors.push(&args.into_iter().collect::<TokenStream>(), Code::HandleAsConnection, message);
        }
    }
}

fn is_word(token: &TokenTree, text: &str) -> bool {
    matches!(token, TokenTree::Ident(word) if is(word, text))
}
