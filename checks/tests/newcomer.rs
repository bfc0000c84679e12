//! The crate that the README tells people to make, beside this repository: its dependencies, its jobs and its test as they stand there.

use std::fs;
use std::path::Path;
use std::process::Command;

use idem_checks::{block_lines, read, root, said_by};

/// What the README's snippets are in the crate, in their order.
const FILES: [&str; 4] =
    ["src/main.rs", "src/bin/elsewhere.rs", "tests/single_effect.rs", "src/bin/worker.rs"];

#[test]
fn the_crate_of_the_readme_builds_runs_and_passes_its_test() {
    let readme = read("README.md");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("newcomer");
    for part in ["src/bin", "tests"] {
        fs::create_dir_all(folder.join(part)).expect("a folder can be made");
    }
    let here = root().display().to_string();
    let dependencies = block_lines(&readme, "toml").join("\n").replace("../idem/", &format!("{here}/"));
    assert!(dependencies.contains(&here), "the README names no path: {dependencies}");
    // It is no member of the workspace that its folder is in.
    let package =
        "[package]\nname = \"newcomer\"\nedition = \"2024\"\ndefault-run = \"newcomer\"\n\n[workspace]\n";
    // With the profile of this workspace, so that what both build is built once.
    let workspace = read("Cargo.toml");
    let (_, profile) = workspace.split_once("[profile.dev]").expect("the workspace has a profile");
    fs::write(folder.join("Cargo.toml"), format!("{package}\n{dependencies}\n\n[profile.dev]{profile}"))
        .expect("a file can be written");
    fs::write(folder.join("Cargo.lock"), read("Cargo.lock")).expect("a file can be written");

    let snippets: Vec<&str> = readme
        .split("```rust")
        .skip(1)
        .map(|text| text.split("```").next().expect("a split has a first part"))
        .collect();
    assert_eq!(snippets.len(), FILES.len(), "the README has other snippets than this test knows");
    for (file, snippet) in FILES.iter().zip(snippets) {
        // The first line may say how the documentation's test treats it.
        let (_, code) = snippet.split_once('\n').expect("a snippet has lines");
        fs::write(folder.join(file), code).expect("a file can be written");
    }
    cargo(&folder, &["run", "--bin", "newcomer"]);
    cargo(&folder, &["run", "--bin", "elsewhere"]);
    let tested = cargo(&folder, &["test"]);
    assert!(tested.contains("test a_payment_is_charged_once ... ok"), "{tested}");
}

fn cargo(folder: &Path, words: &[&str]) -> String {
    // What the workspace has built serves here too.
    let built =
        Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("it is in the folder of what is built");
    said_by(Command::new("cargo").args(words).current_dir(folder).env("CARGO_TARGET_DIR", built))
}
