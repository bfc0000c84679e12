//! `docs/errors.md` is written from the code: from the catalogues of codes, and from what the compiler says to the UI
//! cases. Every code is met in one of them, and every message names a code that exists.

use std::fmt::Write;

use idem_checks::{generated, read, rust_files};
use idem_runtime::Code as RunCode;
use idem_testkit::Code as TestCode;

use self::codes::Code;

#[path = "../../idem-macros/src/codes.rs"]
mod codes;

const CASES: &str = "ui-tests/tests/fail";

/// What `docs/errors.md` says of one code.
struct Entry {
    /// The code without its `idem::`.
    slug: String,
    meaning: String,
    remedy: String,
    example: Option<Example>,
}

/// A job with the mistake, and the message about it.
struct Example {
    /// The name of the UI case.
    name: String,
    source: String,
    message: String,
}

#[test]
fn errors_md_says_what_the_code_says() {
    generated::check("docs/errors.md", &render(), "errors");
}

/// Where a code can have no case, the reason stands here.
const WITHOUT_CASE: &[(Code, &str)] = &[
    (Code::StateOfATrial, "the cases have no store, which the testkit needs; `newcomer.rs` meets it"),
    (Code::NoCount, "the cases have no store, which the testkit needs; `newcomer.rs` meets it"),
];

#[test]
fn every_compile_error_is_met_in_a_ui_case() {
    let cases = cases();
    for code in Code::ALL {
        let is_met = cases.iter().any(|case| case.blocks.iter().any(|block| block.codes() == [code.slug()]));
        let is_excused = WITHOUT_CASE.iter().any(|(excused, _)| excused == code);
        assert!(is_met != is_excused, "{code}: met in a UI case: {is_met}, excused: {is_excused}");
    }
}

#[test]
fn every_message_of_a_ui_case_names_one_code_that_exists() {
    for case in cases() {
        for block in &case.blocks {
            let (head, codes) = (block.head(), block.codes());
            // What has a code of rustc is a message of rustc; if the words are idem's, they name a code as well.
            let is_of_rustc = head.starts_with("error[E");
            let is_right = match codes.as_slice() {
                [] => is_of_rustc,
                [slug] => exists(slug) && head.ends_with(&format!(" [idem::{slug}]")),
                _ => false,
            };
            assert!(is_right, "{CASES}/{}.stderr: {head}", case.name);
        }
    }
}

#[test]
fn the_texts_of_traits_name_one_code_that_exists() {
    for folder in ["idem-runtime/src", "idem-testkit/src"] {
        let mut found = 0;
        for file in rust_files(folder) {
            let source = read(format!("{folder}/{file}"));
            for text in source.split("#[diagnostic::on_unimplemented(").skip(1) {
                found += 1;
                let message = text.lines().find(|line| line.trim_start().starts_with("message = "));
                let message = message.unwrap_or_else(|| panic!("{file}: a text has no message"));
                let is_right = matches!(codes_in(message).as_slice(), [slug] if exists(slug))
                    && message.trim_end().ends_with("]\",");
                assert!(is_right, "{file}: {message}");
            }
        }
        assert!(found > 0, "{folder}: there are no texts of traits any more");
    }
}

fn render() -> String {
    let cases = cases();
    let entry = |slug: &str, meaning: &str, remedy: &str| Entry {
        slug: slug.to_owned(),
        meaning: meaning.to_owned(),
        remedy: remedy.to_owned(),
        example: example(&cases, slug),
    };
    let compile: Vec<_> = Code::ALL.iter().map(|c| entry(c.slug(), c.meaning(), c.remedy())).collect();
    let run: Vec<_> = RunCode::ALL.iter().map(|c| entry(c.slug(), c.meaning(), c.remedy())).collect();
    let test: Vec<_> = TestCode::ALL.iter().map(|c| entry(c.slug(), c.meaning(), c.remedy())).collect();
    let mut index: Vec<&str> =
        compile.iter().chain(&run).chain(&test).map(|entry| entry.slug.as_str()).collect();
    index.sort_unstable();
    for pair in index.windows(2) {
        assert_ne!(pair[0], pair[1], "two errors have one code, and one anchor in docs/errors.md");
    }
    let mut text = String::from(
        "# Errors\n\n\
         <!-- Generated from the code. `IDEM_BLESS=1 cargo test -p idem-checks --test errors` writes it anew. -->\n\n\
         Each message of idem ends with a code, such as `[idem::missing_key]`. Here is what each of them means and what to \
         write instead.\nThe text of a message may change; its code stays.\n\n\
         This file is generated: the texts are those of the code, the examples are UI tests, and the messages are what the \
         compiler\nprints for them. `IDEM_BLESS=1 cargo test -p idem-checks --test errors` writes it anew.\n\n\
         ## All codes\n\n",
    );
    for slug in index {
        let _ = writeln!(text, "* [`idem::{slug}`](#{})", anchor(slug));
    }
    section(
        &mut text,
        "Compile errors",
        "What the compiler says of a job that could not hold what it promises, or of its uses.",
        &compile,
    );
    section(&mut text, "Run-time errors", "What a run, a push or an operation answers.", &run);
    section(&mut text, "Errors of the testkit", "Why a check can tell nothing.", &test);
    text
}

/// Returns the anchor that a heading `idem::slug` gets.
fn anchor(slug: &str) -> String {
    format!("idem{}", slug.replace("::", ""))
}

fn section(text: &mut String, title: &str, about: &str, entries: &[Entry]) {
    let to_do = if title == "Compile errors" { "What to write" } else { "What to do" };
    if entries.is_empty() {
        return;
    }
    let _ = write!(text, "\n## {title}\n\n{about}\n");
    for Entry { slug, meaning, remedy, example } in entries {
        let _ = write!(text, "\n### idem::{slug}\n\n{meaning}\n\n**{to_do}.** {remedy}\n");
        if let Some(Example { name, source, message }) = example {
            let _ = write!(
                text,
                "\n<details><summary>Example</summary>\n\n[`{name}.rs`](../{CASES}/{name}.rs)\n\n\
                 ```rust,compile_fail\n{source}\n```\n\n```text\n{message}\n```\n\n</details>\n"
            );
        }
    }
}

/// Returns the case that shows an error best: it alone, in few words.
fn example(cases: &[Case], slug: &str) -> Option<Example> {
    let shows = cases.iter().filter_map(|case| {
        let block = case.blocks.iter().find(|block| block.codes() == [slug])?;
        Some((case.blocks.len(), block.0.len(), case, block))
    });
    let (_, _, case, block) = shows.min_by_key(|(blocks, length, case, _)| (*blocks, *length, &case.name))?;
    let source = case.source.trim().to_owned();
    Some(Example { name: case.name.clone(), source, message: block.0.clone() })
}

/// A UI case that does not compile.
struct Case {
    name: String,
    source: String,
    blocks: Vec<Block>,
}

/// One error, as the compiler prints it.
struct Block(String);

impl Block {
    /// Returns the message, which may have several lines, without the place.
    fn head(&self) -> String {
        let lines = self.0.lines().take_while(|line| !line.trim_start().starts_with("-->"));
        lines.collect::<Vec<_>>().join("\n")
    }

    fn codes(&self) -> Vec<String> {
        codes_in(&self.head())
    }
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for file in rust_files(CASES) {
        let name = file.trim_end_matches(".rs").to_owned();
        let mut blocks: Vec<Block> = Vec::new();
        for line in read(format!("{CASES}/{name}.stderr")).lines() {
            match blocks.last_mut() {
                Some(block) if !line.starts_with("error") => block.0.extend(["\n", line]),
                _ => blocks.push(Block(line.to_owned())),
            }
        }
        for block in &mut blocks {
            block.0.truncate(block.0.trim_end().len());
        }
        cases.push(Case { name, source: read(format!("{CASES}/{file}")), blocks });
    }
    assert!(!cases.is_empty(), "there are no UI cases in {CASES}");
    cases
}

/// Returns the codes that a text names, without `idem::`.
fn codes_in(text: &str) -> Vec<String> {
    text.split("[idem::").skip(1).filter_map(|rest| Some(rest.split_once(']')?.0.to_owned())).collect()
}

fn exists(slug: &str) -> bool {
    Code::ALL.iter().any(|code| code.slug() == slug)
}
