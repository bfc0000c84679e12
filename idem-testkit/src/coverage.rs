//! Which jobs of a crate nobody checks.
//!
//! [`check_all_jobs_covered!`](crate::check_all_jobs_covered) reads the sources of the crate that calls it and
//! fails if a job has no [`Scenario`](crate::Scenario): the check that a new job is not forgotten.
//!
//! A *job* is an `async fn` under `#[idempotent]` anywhere in `src`, in the body of a `macro_rules!` too. A job
//! under `#[cfg(test)]` belongs to the tests and needs no scenario. A job has one if its struct is written in a
//! `Scenario::new(…)` somewhere in `src` or `tests`.
//!
//! This is a look at the text, not at what it means. Jobs go by the name of their struct, so two jobs of the
//! same name in different modules cover each other. A job whose name is an argument of a macro is not seen,
//! nor is a module with `#[path]` known to be a test's. And a scenario that is never given to a check, or
//! whose test is ignored, still counts.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, Ident, TokenStream, TokenTree};

use crate::code::Code;

/// Checks that every job of this crate has a scenario in its tests.
///
/// # Panics
///
/// A job has none: the message lists each with its place and says what to write. Or the crate declares no
/// job, or a file cannot be read.
///
/// # Example
///
/// ```no_run
/// # // The testkit itself has no jobs.
/// idem_testkit::check_all_jobs_covered!();
/// ```
#[macro_export]
macro_rules! check_all_jobs_covered {
    () => {
        $crate::coverage::check_crate(::core::env!("CARGO_MANIFEST_DIR"))
    };
}

/// Checks that every job of the crate in this folder has a scenario.
///
/// # Panics
///
/// As [`check_all_jobs_covered!`](crate::check_all_jobs_covered) does.
pub fn check_crate(folder: impl AsRef<Path>) {
    match uncovered_jobs(folder.as_ref()) {
        Err(why) => panic!("the jobs of this crate cannot be looked for: {why} [{}]", Code::UnreadableCrate),
        Ok(jobs) if jobs.is_empty() => {}
        Ok(jobs) => {
            let list: Vec<_> = jobs.iter().map(|job| format!("\n  {job}")).collect();
            panic!(
                "nobody checks that these jobs have a single effect:{}\n  the sources are read: a job stands by its name in \
                 `Scenario::new(…)`, not behind a macro or a function of yours [{}]",
                list.concat(),
                Code::Uncovered
            );
        }
    }
}

/// Returns the jobs of the crate in this folder that have no scenario, in order of file and line.
///
/// # Errors
///
/// A sentence: the crate declares no job at all, or a file cannot be read, or one in `src` is no Rust.
pub fn uncovered_jobs(folder: &Path) -> Result<Vec<UncoveredJob>, String> {
    let mut found = Found::default();
    for file in rust_files(&folder.join("src"))? {
        found.look_through(tokens(&file)?, &file);
    }
    let tests = folder.join("tests");
    if tests.is_dir() {
        for file in rust_files(&tests)? {
            // What is no Rust there is a fixture of some other test.
            let Ok(tokens) = tokens(&file) else { continue };
            let mut here = Found::default();
            here.look_through(tokens, &file);
            found.checked.append(&mut here.checked);
        }
    }
    let Found { mut jobs, checked, test_modules } = found;
    jobs.retain(|job| !test_modules.iter().any(|module| job.is_in(module)));
    if jobs.is_empty() {
        return Err(format!("no `#[idempotent]` function is in {}", folder.join("src").display()));
    }
    jobs.retain(|job| !checked.contains(&job.name));
    for job in &mut jobs {
        job.file = job.file.strip_prefix(folder).unwrap_or(&job.file).to_owned();
    }
    jobs.sort_by(|one, other| (&one.file, one.line).cmp(&(&other.file, other.line)));
    Ok(jobs)
}

/// A job without a scenario.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct UncoveredJob {
    /// The name of the job's struct.
    pub name: String,
    /// The name of its function.
    pub function: String,
    /// The file that declares it, in the crate's folder.
    pub file: PathBuf,
    /// The line of the function's name.
    pub line: usize,
}

impl fmt::Display for UncoveredJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let UncoveredJob { name, function, file, line } = self;
        write!(
            f,
            "{}:{line}: `{function}`; write a test with `check_single_effect(Scenario::new({name} {{ … }})).await`",
            file.display()
        )
    }
}

impl UncoveredJob {
    /// Tells whether the job is in this module, or below it.
    fn is_in(&self, module: &Path) -> bool {
        self.file.starts_with(module) || self.file == module.with_extension("rs")
    }
}

#[derive(Default)]
struct Found {
    jobs: Vec<UncoveredJob>,
    /// What is written in a `Scenario::new(…)`.
    checked: BTreeSet<String>,
    /// Modules under `#[cfg(test)]` that are files: the path without `.rs`.
    test_modules: Vec<PathBuf>,
}

impl Found {
    fn look_through(&mut self, tokens: TokenStream, file: &Path) {
        self.look(&tokens.into_iter().collect::<Vec<_>>(), file, false);
    }

    fn look(&mut self, tokens: &[TokenTree], file: &Path, in_test: bool) {
        for (n, token) in tokens.iter().enumerate() {
            let TokenTree::Group(group) = token else { continue };
            let inside: Vec<TokenTree> = group.stream().into_iter().collect();
            let is_attribute = group.delimiter() == Delimiter::Bracket && is(tokens, n.wrapping_sub(1), '#');
            if is_attribute {
                let item = &tokens[n + 1..];
                if is_cfg_test(&inside) {
                    self.test_modules.extend(module_file(item, file));
                } else if let Some(options) = idempotent_options(&inside)
                    && !in_test
                    && !attributes_of(tokens, n).any(|attribute| is_cfg_test(&attribute))
                {
                    self.jobs.extend(job(&options, item, file));
                }
                continue;
            }
            if group.delimiter() == Delimiter::Parenthesis && is_scenario_new(&tokens[..n]) {
                idents(group.stream(), &mut self.checked);
            }
            let is_test = group.delimiter() == Delimiter::Brace
                && attributes_of(tokens, n).any(|attribute| is_cfg_test(&attribute));
            self.look(&inside, file, in_test || is_test);
        }
    }
}

/// Returns the contents of the attributes of the item that the token `n` is in.
fn attributes_of(tokens: &[TokenTree], n: usize) -> impl Iterator<Item = Vec<TokenTree>> {
    // An item begins after the one before it, which ends in braces or a semicolon.
    let ends = |token: &TokenTree| match token {
        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
        TokenTree::Punct(punct) => punct.as_char() == ';',
        _ => false,
    };
    let begins = tokens[..n].iter().rposition(ends).map_or(0, |end| end + 1);
    (begins.max(1)..n).filter_map(move |n| match &tokens[n] {
        TokenTree::Group(group) if group.delimiter() == Delimiter::Bracket && is(tokens, n - 1, '#') => {
            Some(group.stream().into_iter().collect())
        }
        _ => None,
    })
}

/// Tells whether an attribute is `cfg(test)` or `cfg(all(test, …))`.
fn is_cfg_test(attribute: &[TokenTree]) -> bool {
    fn holds_test(tokens: TokenStream) -> bool {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        tokens.iter().enumerate().any(|(n, token)| match token {
            TokenTree::Ident(ident) => ident == "test",
            TokenTree::Group(group) => n > 0 && is_ident(&tokens[n - 1], "all") && holds_test(group.stream()),
            _ => false,
        })
    }
    match attribute {
        [cfg, TokenTree::Group(group)] => is_ident(cfg, "cfg") && holds_test(group.stream()),
        _ => false,
    }
}

/// Returns the options of an attribute that ends in `idempotent`.
fn idempotent_options(attribute: &[TokenTree]) -> Option<Vec<TokenTree>> {
    let (path, options) = match attribute {
        [path @ .., TokenTree::Group(options)] => (path, options.stream().into_iter().collect()),
        path => (path, Vec::new()),
    };
    is_ident(path.last()?, "idempotent").then_some(options)
}

/// Reads a job from its options and what follows its attribute.
fn job(options: &[TokenTree], item: &[TokenTree], file: &Path) -> Option<UncoveredJob> {
    // The function's name comes before its first braces.
    let head = item.split(|token| matches!(token, TokenTree::Group(g) if g.delimiter() == Delimiter::Brace));
    let head = head.into_iter().next()?;
    let at = head.iter().position(|token| is_ident(token, "fn"))?;
    let TokenTree::Ident(function) = head.get(at + 1)? else { return None };
    let given = options.windows(3).enumerate().find_map(|(n, option)| match option {
        [job, TokenTree::Punct(equals), TokenTree::Ident(name)]
            if is_ident(job, "job") && equals.as_char() == '=' && (n == 0 || is(options, n - 1, ',')) =>
        {
            Some(plain(name))
        }
        _ => None,
    });
    let function_name = plain(function);
    Some(UncoveredJob {
        name: given.unwrap_or_else(|| camel(&function_name)),
        function: function_name,
        file: file.to_owned(),
        line: function.span().start().line,
    })
}

/// Writes a function's name as the attribute writes that of its struct.
fn camel(function: &str) -> String {
    let capitalized = |word: &str| {
        let mut chars = word.chars();
        chars.next().map(|first| first.to_uppercase().chain(chars).collect::<String>()).unwrap_or_default()
    };
    function.split('_').map(capitalized).collect()
}

/// Tells whether tokens end in `Scenario::new`, perhaps with types in between.
fn is_scenario_new(tokens: &[TokenTree]) -> bool {
    let [before @ .., first, second, new] = tokens else { return false };
    if !is_ident(new, "new") || !is_punct(first, ':') || !is_punct(second, ':') {
        return false;
    }
    let mut before = before;
    if before.last().is_some_and(|token| is_punct(token, '>')) {
        let mut open = 0;
        while let [rest @ .., token] = before {
            before = rest;
            open += i32::from(is_punct(token, '>')) - i32::from(is_punct(token, '<'));
            if open == 0 {
                break;
            }
        }
        if let [rest @ .., first, second] = before
            && is_punct(first, ':')
            && is_punct(second, ':')
        {
            before = rest;
        }
    }
    before.last().is_some_and(|token| is_ident(token, "Scenario"))
}

fn idents(tokens: TokenStream, into: &mut BTreeSet<String>) {
    for token in tokens {
        match token {
            TokenTree::Ident(ident) => {
                into.insert(plain(&ident));
            }
            TokenTree::Group(group) => idents(group.stream(), into),
            TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
    }
}

/// Returns the path, without `.rs`, of a module that is declared here and is a file.
fn module_file(item: &[TokenTree], file: &Path) -> Option<PathBuf> {
    let at = item.iter().position(|token| is_ident(token, "mod"))?;
    // Nothing but other attributes and the visibility comes before it.
    let is_plain = |token: &TokenTree| match token {
        TokenTree::Ident(ident) => ident == "pub",
        TokenTree::Group(group) => group.delimiter() != Delimiter::Brace,
        TokenTree::Punct(punct) => punct.as_char() == '#',
        TokenTree::Literal(_) => false,
    };
    let TokenTree::Ident(name) = item.get(at + 1)? else { return None };
    if !item[..at].iter().all(is_plain) || !is(item, at + 2, ';') {
        return None;
    }
    let folder = file.parent()?;
    let folder = match file.file_stem()?.to_str()? {
        "lib" | "main" | "mod" => folder.to_owned(),
        stem => folder.join(stem),
    };
    Some(folder.join(plain(name)))
}

fn is(tokens: &[TokenTree], n: usize, punct: char) -> bool {
    tokens.get(n).is_some_and(|token| is_punct(token, punct))
}

fn is_punct(token: &TokenTree, char: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == char)
}

fn is_ident(token: &TokenTree, name: &str) -> bool {
    matches!(token, TokenTree::Ident(ident) if ident == name)
}

/// Returns a name without `r#`.
fn plain(ident: &Ident) -> String {
    let name = ident.to_string();
    name.strip_prefix("r#").map(str::to_owned).unwrap_or(name)
}

fn tokens(file: &Path) -> Result<TokenStream, String> {
    let text = fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    text.parse().map_err(|error| format!("{} is no Rust: {error}", file.display()))
}

/// Returns all `.rs` files of a folder and those below it, in order.
fn rust_files(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let cannot = |error: std::io::Error| format!("{}: {error}", folder.display());
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder).map_err(cannot)? {
        entries.push(entry.map_err(cannot)?);
    }
    entries.sort_by_key(fs::DirEntry::file_name);
    let mut files = Vec::new();
    for entry in entries {
        // A link is not followed: it may lead in a circle.
        let kind = entry.file_type().map_err(cannot)?;
        let path = entry.path();
        if kind.is_dir() {
            files.extend(rust_files(&path)?);
        } else if kind.is_file() && path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(files)
}
