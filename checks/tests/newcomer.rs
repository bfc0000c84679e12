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
    mistakes_are_told(&folder);
}

/// Scenarios of a job that takes a `Bank` as its state, and what each is told. The UI cases have no testkit.
const MISTAKES: [(&str, &str); 3] = [
    (".state(|| Bank)", "error[E0277]: `Bank` cannot be the state of a trial [idem::state_of_a_trial]"),
    (
        ".state(|| Arc::new(Bank)).observe(\"calls\", async |_: &Arc<Bank>| 1_u64)",
        "cannot answer with `{async closure",
    ),
    (
        ".state(|| Arc::new(Bank)).observe(\"calls\", |_: &Arc<Bank>| \"one\")",
        "error[E0277]: an observer cannot answer with `&str` [idem::no_count]",
    ),
];

fn mistakes_are_told(folder: &Path) {
    for (at, (scenario, told)) in MISTAKES.iter().enumerate() {
        let file = folder.join("tests/mistake.rs");
        let state = if scenario.contains("Arc") { "Arc<Bank>" } else { "Bank" };
        let code = format!(
            "use std::sync::Arc;\n\n\
             use idem_runtime::prelude::*;\n\
             use idem_testkit::Scenario;\n\n\
             struct Bank;\n\n\
             #[idempotent(key = id)]\n\
             async fn charge(_tx: &mut Tx<'_, Sqlite>, id: i64, #[state] _bank: &{state}) -> Result<(), sqlx::Error> {{\n    \
                 Ok(())\n\
             }}\n\n\
             #[test]\n\
             fn mistake_{at}() {{\n    \
                 let _ = Scenario::new(Charge {{ id: 42 }}){scenario};\n    \
                 let _: Option<Arc<Bank>> = None;\n\
             }}\n"
        );
        fs::write(&file, code).expect("a file can be written");
        let said = refused(folder, &["check", "--test", "mistake"]);
        fs::remove_file(&file).expect("the file is there");
        assert!(said.contains(told), "{scenario} is told:\n{said}");
        assert_eq!(said.matches("error[").count(), 1, "{scenario} is told more than once:\n{said}");
    }
}

fn cargo(folder: &Path, words: &[&str]) -> String {
    said_by(&mut command(folder, words))
}

/// Returns what cargo says of code that does not compile.
fn refused(folder: &Path, words: &[&str]) -> String {
    let output = command(folder, words).env_remove("CARGO_MANIFEST_DIR").output().expect("cargo is there");
    assert!(!output.status.success(), "{words:?} finds no mistake");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn command(folder: &Path, words: &[&str]) -> Command {
    // What the workspace has built serves here too.
    let built =
        Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("it is in the folder of what is built");
    let mut command = Command::new("cargo");
    command.args(words).current_dir(folder).env("CARGO_TARGET_DIR", built);
    command
}
