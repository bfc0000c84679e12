//! What the README tells people to type works, and what it points at is there.
//!
//! Its snippets are tests of the documentation, see the end of `idem-testkit/src/lib.rs`. What it types to the command `idem` is
//! run in the tests of `idem-cli`, on a database that has something to show.

use std::collections::BTreeSet;
use std::process::Command;

use idem_checks::{block_lines, code_spans, read, root, rust_files, said_by};

/// How a command of the README is tried.
enum Trial {
    /// It is run as it stands, and what it prints has this.
    Run(&'static str),
    /// It is run with this instead of its last word, since it would take too long, and prints this.
    RunWith(&'static str, &'static str),
    /// It is what runs the tests, this one too.
    RunsThis,
    /// It is the same as this one but for its last words, or a part of it.
    PartOf(&'static str),
}

use Trial::{PartOf, Run, RunWith, RunsThis};

/// Every command of the README.
const COMMANDS: &[(&str, Trial)] = &[
    ("cargo run -p idem-examples --bin webhook", Run("effects")),
    ("cargo run -p idem-examples --bin payment", Run("")),
    ("scripts/test", RunsThis),
    ("cargo install --path idem-cli", PartOf("scripts/test")),
    ("cargo doc -p idem-runtime --all-features --no-deps --open", PartOf("scripts/test")),
    ("cargo test --workspace --all-features", PartOf("scripts/test")),
    ("scripts/servers run -- cargo test --workspace --all-features", PartOf("scripts/test")),
    ("scripts/bench", RunWith("--help", "--databases")),
    ("scripts/bench --help", Run("--databases")),
    ("scripts/bench queue", RunWith("--help", "queue")),
    ("scripts/bench page", RunWith("--help", "docs/benchmarks.md")),
];

/// The commands that the README tells people to type, in a block or in a line of text.
fn commands(readme: &str) -> BTreeSet<String> {
    let is_command = |text: &&str| text.starts_with("cargo ") || text.starts_with("scripts/");
    let spans = code_spans(readme).into_iter().chain(block_lines(readme, "sh"));
    spans.map(str::trim).filter(is_command).map(str::to_owned).collect()
}

#[test]
fn every_command_is_tried_here() {
    let told = commands(&read("README.md"));
    let known: BTreeSet<String> = COMMANDS.iter().map(|(command, _)| (*command).to_owned()).collect();
    assert_eq!(told, known, "the README (left) and the list of its commands in this file (right)");
    for (command, trial) in COMMANDS {
        if let PartOf(whole) = trial {
            assert!(known.contains(*whole), "`{command}` is said to be a part of `{whole}`");
        }
    }
}

#[test]
fn every_command_works() {
    for (command, trial) in COMMANDS {
        match trial {
            Run(prints) => run(command, &[], prints),
            RunWith(last, prints) => run(command, &[last], prints),
            RunsThis => {
                assert!(read(".ci/run").contains(&format!("exec {command}")), "`{command}` is what is run");
            }
            PartOf(_) => {}
        }
    }
}

fn run(command: &str, more: &[&str], prints: &str) {
    let mut words = command.split(' ').chain(more.iter().copied());
    let program = words.next().expect("a command has a first word");
    let program = if program.contains('/') { root().join(program) } else { program.into() };
    let said = said_by(Command::new(program).args(words).current_dir(root()));
    assert!(said.contains(prints), "`{command}` does not print {prints:?}:\n{said}");
}

#[test]
fn links_lead_somewhere() {
    for page in ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "docs/decisions/README.md"] {
        let text = read(page);
        let from = root().join(page);
        let folder = from.parent().expect("a page is in a folder");
        let mut links = 0;
        for after in text.split("](").skip(1) {
            let link = after.split(')').next().expect("a split has a first part");
            let path = link.split('#').next().expect("a split has a first part");
            if link.contains("://") || path.is_empty() {
                continue;
            }
            links += 1;
            assert!(folder.join(path).exists(), "{page} points at {path}, which is not there");
        }
        assert!(links > 0 || page == "CHANGELOG.md", "{page} has no links: is the test blind?");
    }
}

#[test]
fn every_example_is_in_the_table_of_patterns() {
    let readme = read("README.md");
    let table = section(&readme, "Ten patterns");
    for entry in std::fs::read_dir(root().join("examples/src/bin")).expect("there are examples") {
        let name = entry.expect("a folder can be listed").file_name().into_string().expect("names are UTF-8");
        let name = name.trim_end_matches(".rs");
        // It is the world outside of the others.
        if name != "provider" {
            assert!(table.contains(&format!("[{name}](")), "{name}");
        }
    }
    let numbers =
        table.lines().filter_map(|line| line.strip_prefix("| ")?.split(' ').next()?.parse::<u8>().ok());
    assert_eq!(numbers.collect::<Vec<_>>(), (1..=10).collect::<Vec<_>>());
}

fn section<'r>(readme: &'r str, title: &str) -> &'r str {
    let (_, below) = readme.split_once(&format!("\n## {title}\n")).expect("there is a section");
    below.split("\n## ").next().expect("a split has a first part")
}

#[test]
fn the_messages_that_it_explains_are_those_of_the_code() {
    let files =
        rust_files("idem-runtime/src").into_iter().map(|file| read(format!("idem-runtime/src/{file}")));
    // A literal may go on in the next line.
    let code: Vec<String> = files
        .map(|text| text.lines().map(|line| line.trim_start().trim_end_matches('\\')).collect())
        .collect();
    let readme = read("README.md");
    let table = section(&readme, "When something is wrong");
    let messages = table.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let mut known = 0;
    for message in messages {
        known += 1;
        for part in message.split(['…', 'X', 'Y']).map(str::trim).filter(|part| part.len() > 3) {
            assert!(code.iter().any(|code| code.contains(part)), "no error says {part:?}");
        }
    }
    assert!(known >= 10, "only {known} messages were found: is the test blind?");
}
