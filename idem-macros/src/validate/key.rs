//! `key` and `fingerprint`: which arguments make two runs the same work.

use proc_macro2::{Delimiter, Ident, TokenStream, TokenTree};
use quote::ToTokens;
use syn::{Expr, ExprCall, ExprLit, ExprPath, Lit, Path, PathSegment};

use super::options::{Given, Options};
use super::params::{First, Params};
use super::{scan, value};
use crate::codes::Code;
use crate::errors::Errors;
use crate::model::{Fingerprint, Key};
use crate::suggest;

/// Functions and methods that return something else each time.
const EVER_OTHER: &[&str] = &[
    "now",
    "now_utc",
    "now_local",
    "elapsed",
    "new_v1",
    "new_v4",
    "new_v6",
    "new_v7",
    "now_v1",
    "now_v6",
    "now_v7",
    "random",
    "random_range",
    "thread_rng",
    "rng",
    "gen_range",
];

/// Crates that do nothing else.
const RANDOM_CRATES: &[&str] = &["rand", "fastrand", "getrandom"];

/// Returns what makes two runs the same work.
pub(crate) fn key(options: &Options, function: &Ident, params: &Params, errors: &mut Errors) -> Key {
    let Some(Given { expr, .. }) = &options.key else {
        // A scheduled job without arguments is told to take the tick, and to make it the key.
        let needs_tick = options.schedule.is_some() && params.args.is_empty();
        if !options.was_tried("key") && !needs_tick {
            errors.push(function, Code::MissingKey, missing(function, params));
        }
        return Key::Global;
    };
    key_of(KEY, expr, params, errors)
}

/// The option that a key is of, in the words of messages.
#[derive(Clone, Copy)]
pub(crate) struct Subject {
    pub(crate) option: &'static str,
    pub(crate) noun: &'static str,
    /// What follows from a key without arguments.
    pub(crate) then: &'static str,
    /// When that is right.
    pub(crate) right_if: &'static str,
}

const KEY: Subject = Subject {
    option: "key",
    noun: "the key",
    then: "every run would be the same work",
    right_if: "the job runs once ever",
};

/// Reads an expression over the arguments; one with a mistake stands in with the key that all have.
pub(crate) fn key_of(subject: Subject, expr: &Expr, params: &Params, errors: &mut Errors) -> Key {
    let Subject { option, noun, then, right_if } = subject;
    if value::word(expr).is_some_and(|word| word == "global") {
        if let Some(arg) = params.args.iter().find(|arg| arg.ident == "global") {
            let message =
                "`global` means one run ever and cannot be an argument's name as well; rename the argument";
            errors.push(&arg.ident, Code::ArgumentNamedGlobal, message);
        }
        return Key::Global;
    }
    if let Expr::Lit(ExprLit { lit, .. }) = scan::peel_expr(expr) {
        let (code, message) = match lit {
            Lit::Str(text) if text.value().trim().is_empty() => {
                let example = params.args.first().map_or_else(String::new, |arg| {
                    format!("the name of an argument, such as `{option} = {}`, or ", arg.ident)
                });
                (
                    Code::ConstantKey,
                    format!("{noun} must not be empty; write {example}`{option} = global` if {right_if}"),
                )
            }
            Lit::Str(text) if params.args.iter().any(|arg| arg.ident == text.value()) => {
                let name = text.value();
                let message = format!("`\"{name}\"` is a text and no argument; write `{option} = {name}`");
                (Code::ConstantKey, message)
            }
            Lit::Str(text)
                if params.args.iter().any(|arg| scan::mentions(text.to_token_stream(), &arg.ident)) =>
            {
                let text = text.to_token_stream();
                let message = format!("`{text}` is only a text; write `{option} = format!({text})`");
                (Code::ConstantKey, message)
            }
            lit => {
                let message = format!(
                    "`{}` names no argument, so {then}; write `{option} = global` if that is meant",
                    lit.to_token_stream()
                );
                (Code::ConstantKey, message)
            }
        };
        errors.push(expr, code, message);
        return Key::Global;
    }
    match uses(&format!("`{option}`"), expr, params, errors) {
        Some(uses) => Key::Of { expr: expr.clone(), uses },
        None => Key::Global,
    }
}

fn missing(function: &Ident, params: &Params) -> String {
    let example = params.args.first().map_or_else(|| String::from("global"), |arg| arg.ident.to_string());
    format!("`{function}` must say what makes two runs the same work; write `key = {example}`")
}

/// Returns the arguments that an expression names, or reports why it cannot stand for `subject`.
pub(crate) fn uses(subject: &str, expr: &Expr, params: &Params, errors: &mut Errors) -> Option<Vec<Ident>> {
    let mut walk = Walk { subject, params, uses: Vec::new(), faulty: false, errors };
    walk.expr(expr);
    if walk.faulty {
        return None;
    }
    if walk.uses.is_empty() {
        let message = format!(
            "{subject} names no argument, so every run would have the same; write the name of {}",
            params
                .args
                .first()
                .map_or_else(|| String::from("an argument"), |arg| format!("one, such as `{}`", arg.ident))
        );
        errors.push(expr, Code::ConstantKey, message);
        return None;
    }
    Some(walk.uses)
}

/// Goes through an expression as far as it is plain; what stands in closures, blocks and macros is only searched, for
/// arguments and for values that are others each time.
struct Walk<'a> {
    subject: &'a str,
    params: &'a Params,
    uses: Vec<Ident>,
    faulty: bool,
    errors: &'a mut Errors,
}

impl Walk<'_> {
    fn expr(&mut self, expr: &Expr) {
        match scan::peel_expr(expr) {
            Expr::Path(path) => self.name(path),
            Expr::Field(field) => self.expr(&field.base),
            Expr::Tuple(tuple) => tuple.elems.iter().for_each(|elem| self.expr(elem)),
            Expr::Array(array) => array.elems.iter().for_each(|elem| self.expr(elem)),
            Expr::Reference(reference) => self.expr(&reference.expr),
            Expr::Unary(unary) => self.expr(&unary.expr),
            Expr::Cast(cast) => self.expr(&cast.expr),
            Expr::Binary(binary) => {
                self.expr(&binary.left);
                self.expr(&binary.right);
            }
            Expr::Index(index) => {
                self.expr(&index.expr);
                self.expr(&index.index);
            }
            Expr::Call(call) => self.call(call),
            Expr::MethodCall(call) => {
                if EVER_OTHER.iter().any(|name| call.method == name) {
                    return self.ever_other(call);
                }
                self.expr(&call.receiver);
                for arg in &call.args {
                    match self.function(arg) {
                        Some(path) if is_ever_other(&path.path) => self.ever_other(path),
                        Some(_) => {}
                        None => self.expr(arg),
                    }
                }
            }
            Expr::Lit(_) => {}
            other => self.search(other.to_token_stream()),
        }
    }

    /// A name on its own: an argument, a constant, or a mistake.
    fn name(&mut self, path: &ExprPath) {
        let Some(name) = path.path.get_ident() else {
            if is_ever_other(&path.path) {
                self.ever_other(path);
            }
            return;
        };
        if self.params.arg(name).is_some() {
            // The name as it stands here: a macro may have given the parameter another context.
            self.add(name.clone());
            return;
        }
        let text = name.to_string();
        if self.params.state_names.contains(name) {
            let message = format!(
                "{} cannot name the `#[state]` parameter `{name}`, which is no part of the job",
                self.subject
            );
            return self.fault(name, Code::StateInKey, &with_example(message, self.params));
        }
        if self.params.handle_name.as_ref() == Some(name) {
            let message = match self.params.first {
                First::Run(_) => format!("{} cannot name `{name}`: every run is another", self.subject),
                First::Tx(_) | First::Other | First::Unclear => format!(
                    "{} cannot name the transaction `{name}`, which is another in every run",
                    self.subject
                ),
            };
            return self.fault(name, Code::HandleInKey, &with_example(message, self.params));
        }
        if text.starts_with(char::is_uppercase) {
            // A constant: rustc knows whether it exists.
            return;
        }
        if self.params.patterns.iter().any(|pat| scan::mentions(pat.to_token_stream(), name)) {
            // The pattern is the mistake.
            self.faulty = true;
            return;
        }
        let instead = instead_of(&text, self.params);
        self.fault(
            name,
            Code::UnknownArgument,
            &format!("{} names `{name}`, which is no argument of this job{instead}", self.subject),
        );
    }

    fn call(&mut self, call: &ExprCall) {
        if let Expr::Path(path) = scan::peel_expr(&call.func)
            && is_ever_other(&path.path)
        {
            return self.ever_other(call);
        }
        call.args.iter().for_each(|arg| self.expr(arg));
    }

    /// Returns the name that a method is given, as in `email.map(normalize)`, if it is none of the job's: rustc knows
    /// whether there is such a function.
    fn function<'e>(&self, arg: &'e Expr) -> Option<&'e ExprPath> {
        let Expr::Path(path) = scan::peel_expr(arg) else { return None };
        let name = path.path.get_ident()?;
        let is_of_the_job = self.params.arg(name).is_some()
            || self.params.state_names.contains(name)
            || self.params.handle_name.as_ref() == Some(name);
        (!is_of_the_job).then_some(path)
    }

    fn ever_other(&mut self, call: &impl ToTokens) {
        let message =
            format!("`{}` is another in every run, so no run would ever be a repetition", scan::text(call));
        let message = match self.uses.is_empty() {
            true => with_example(message, self.params),
            false => format!("{message}; leave it out, or write an argument in its place"),
        };
        self.fault(call, Code::UnrepeatableKey, &message);
    }

    fn search(&mut self, tokens: TokenStream) {
        for arg in &self.params.args {
            if scan::mentions(tokens.clone(), &arg.ident) {
                self.add(arg.ident.clone());
            }
        }
        self.search_for_chance(&scan::flat(tokens));
    }

    /// Finds `Utc::now`, `rand::any(..)` and `.elapsed()` in tokens that need not be Rust, as those of a macro.
    fn search_for_chance(&mut self, tokens: &[TokenTree]) {
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            match token {
                TokenTree::Group(group) => self.search_for_chance(&scan::flat(group.stream())),
                TokenTree::Ident(_) => {
                    let name = Name::at(tokens, at);
                    if name.is_ever_other() {
                        let culprit: TokenStream = tokens[name.start..name.end()].iter().cloned().collect();
                        self.ever_other(&culprit);
                    }
                    at = name.end;
                    continue;
                }
                TokenTree::Punct(_) | TokenTree::Literal(_) => {}
            }
            at += 1;
        }
    }

    fn add(&mut self, arg: Ident) {
        if !self.uses.contains(&arg) {
            self.uses.push(arg);
        }
    }

    fn fault(&mut self, culprit: &impl ToTokens, code: Code, message: &str) {
        self.errors.push(culprit, code, message);
        self.faulty = true;
    }
}

/// Tells whether a function returns something else each time.
fn is_ever_other(path: &Path) -> bool {
    let is_one_of =
        |segment: Option<&PathSegment>, names| segment.is_some_and(|segment| is_one(&segment.ident, names));
    is_one_of(path.segments.last(), EVER_OTHER) || is_one_of(path.segments.first(), RANDOM_CRATES)
}

fn is_one(word: &Ident, names: &[&str]) -> bool {
    names.iter().any(|name| word == name)
}

/// A name among tokens, with all that stands before it, joined by `::`.
struct Name<'t> {
    first: &'t Ident,
    last: &'t Ident,
    /// Where it begins, with its `::` if it has one.
    start: usize,
    /// Where it ends.
    end: usize,
    /// Something stands before it: `Utc::<name>`, which is `DateTime::<Utc>::now` from `now` on.
    is_qualified: bool,
    is_method: bool,
    /// The arguments that it is called with, and where they end.
    call: Option<usize>,
}

impl<'t> Name<'t> {
    fn at(tokens: &'t [TokenTree], at: usize) -> Self {
        let is = |at: usize, char| tokens.get(at).is_some_and(|token| scan::is_punct(token, char));
        let is_before = |back: usize, char| at.checked_sub(back).is_some_and(|at| is(at, char));
        let word = |at: usize| match tokens.get(at) {
            Some(TokenTree::Ident(word)) => Some(word),
            _ => None,
        };
        let first = word(at).expect("a name begins with a word");
        let (mut last, mut end) = (first, at + 1);
        while is(end, ':')
            && is(end + 1, ':')
            && let Some(next) = word(end + 2)
        {
            (last, end) = (next, end + 3);
        }
        let has_colons = is_before(1, ':') && is_before(2, ':');
        let is_qualified =
            has_colons && (is_before(3, '>') || at.checked_sub(3).is_some_and(|at| word(at).is_some()));
        let generics = match is(end, ':') && is(end + 1, ':') && is(end + 2, '<') {
            true => 2 + scan::generics(&tokens[end + 2..]),
            false => 0,
        };
        let called = matches!(tokens.get(end + generics), Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Parenthesis);
        Name {
            first,
            last,
            start: if has_colons && !is_qualified { at - 2 } else { at },
            end,
            is_qualified,
            is_method: is_before(1, '.') && !is_before(2, '.'),
            call: called.then_some(end + generics + 1),
        }
    }

    fn is_ever_other(&self) -> bool {
        let is_path = self.first != self.last || self.is_qualified;
        let is_of_a_crate =
            is_path && !self.is_qualified && !self.is_method && is_one(self.first, RANDOM_CRATES);
        // A field is no method, and a name on its own may be given to anything by the expression itself.
        is_of_a_crate || ((is_path || self.call.is_some()) && is_one(self.last, EVER_OTHER))
    }

    /// Returns where it ends with its arguments.
    fn end(&self) -> usize {
        self.call.unwrap_or(self.end)
    }
}

/// Returns the ending of a message about a name that no argument has.
fn instead_of(given: &str, params: &Params) -> String {
    let known: Vec<String> = params.args.iter().map(|arg| arg.ident.to_string()).collect();
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    suggest::instead_of(given, &known)
}

fn with_example(message: String, params: &Params) -> String {
    match params.args.first() {
        Some(arg) => format!("{message}; write an argument, such as `{}`", arg.ident),
        None => message,
    }
}

/// Returns the arguments that a second run of a key must share.
pub(crate) fn fingerprint(
    given: Option<&Given>,
    key: &Key,
    params: &Params,
    errors: &mut Errors,
) -> Fingerprint {
    let all = || params.args.iter().map(|arg| arg.ident.clone());
    let Some(Given { expr, .. }) = given else { return Fingerprint(all().collect()) };
    match (value::word(expr), value::call(expr)) {
        (Some(word), _) if word == "args" => {}
        (Some(word), _) if word == "none" => return Fingerprint(Vec::new()),
        (None, Some((word, args))) if word == "ignore" => {
            if args.is_empty() {
                errors.push(
                    expr,
                    Code::IgnoreWithoutArgument,
                    "`ignore` must name arguments; write `fingerprint = args` to ignore none",
                );
            }
            let ignored: Vec<&Ident> =
                args.iter().filter_map(|arg| ignored(arg, key, params, errors)).collect();
            return Fingerprint(all().filter(|arg| !ignored.contains(&arg)).collect());
        }
        (Some(word), _) | (_, Some((word, _))) => {
            let instead = suggest::instead_of(&word.to_string(), &["args", "ignore", "none"]);
            errors.push(word, Code::UnknownValue, format_args!("`fingerprint` cannot be `{word}`{instead}"));
        }
        (None, None) => {
            errors.push(expr, Code::UnknownValue, "`fingerprint` must be `args`, `ignore(arg, …)` or `none`");
        }
    }
    Fingerprint(all().collect())
}

fn ignored<'a>(arg: &'a Expr, key: &Key, params: &Params, errors: &mut Errors) -> Option<&'a Ident> {
    let Some(name) = value::word(arg) else {
        errors.push(
            arg,
            Code::IgnoreWithoutArgument,
            "`ignore` takes names of arguments; write `ignore(note)`",
        );
        return None;
    };
    if params.arg(name).is_none() {
        let instead = instead_of(&name.to_string(), params);
        errors.push(
            name,
            Code::UnknownArgument,
            format_args!("`ignore` names `{name}`, which is no argument of this job{instead}"),
        );
        return None;
    }
    if matches!(key, Key::Of { expr, .. } if has_whole(expr, name)) {
        errors.push(
            name,
            Code::IgnoreOfKey,
            format_args!(
                "`{name}` is in the key, so runs of one key never differ in it; remove it from `ignore`"
            ),
        );
        return None;
    }
    Some(name)
}

/// Tells whether a key has the argument in it, and not only something of it.
fn has_whole(key: &Expr, arg: &Ident) -> bool {
    match scan::peel_expr(key) {
        Expr::Tuple(tuple) => tuple.elems.iter().any(|elem| has_whole(elem, arg)),
        Expr::Reference(reference) => has_whole(&reference.expr, arg),
        key => value::word(key).is_some_and(|word| word == arg),
    }
}
