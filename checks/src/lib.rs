//! Checks of the repository itself: what its documents say is so.

pub mod generated;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Returns the folder of the repository.
pub fn root() -> PathBuf {
    let checks = Path::new(env!("CARGO_MANIFEST_DIR"));
    checks.parent().expect("the package is a folder of the repository").to_owned()
}

/// Reads a file of the repository.
///
/// # Panics
///
/// There is no such file.
pub fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Returns the Rust files below a folder of the repository, by their paths from that folder, in order.
///
/// # Panics
///
/// The folder cannot be read.
pub fn rust_files(folder: impl AsRef<Path>) -> Vec<String> {
    fn visit(folder: &Path, from: &str, files: &mut Vec<String>) {
        let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        for entry in entries {
            let path = entry.expect("a folder can be listed").path();
            let name = path.file_name().and_then(|name| name.to_str()).expect("names are UTF-8");
            let name = format!("{from}{name}");
            if path.is_dir() {
                visit(&path, &format!("{name}/"), files);
            } else if name.ends_with(".rs") {
                files.push(name);
            }
        }
    }
    let mut files = Vec::new();
    visit(&root().join(folder), "", &mut files);
    files.sort();
    files
}

/// Returns what stands between back quotes in a text of Markdown, outside of its code blocks.
pub fn code_spans(markdown: &str) -> Vec<&str> {
    let mut is_block = false;
    let lines = markdown.lines().filter(|line| {
        let is_fence = line.trim_start().starts_with("```");
        is_block ^= is_fence;
        !is_block && !is_fence
    });
    lines.flat_map(|line| line.split('`').skip(1).step_by(2)).collect()
}

/// Returns the lines of the code blocks in this language.
pub fn block_lines<'m>(markdown: &'m str, language: &str) -> Vec<&'m str> {
    let mut is_meant = false;
    let mut lines = Vec::new();
    for line in markdown.lines() {
        match line.trim_start().strip_prefix("```") {
            Some(begun) => is_meant = begun == language,
            None if is_meant => lines.push(line),
            None => {}
        }
    }
    lines
}

/// Runs a command and returns what it prints, errors too.
///
/// # Panics
///
/// It cannot be run, or does not succeed.
pub fn said_by(command: &mut Command) -> String {
    // What cargo tells the tests that it runs is not for another cargo.
    let output = command.env_remove("CARGO_MANIFEST_DIR").output();
    let output = output.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success(), "{command:?} ended with {}:\n{said}", output.status);
    said
}
