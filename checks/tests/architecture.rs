//! `ARCHITECTURE.md` is true: its map has every file and no other, and what it says is absent is absent.

use std::collections::{BTreeMap, BTreeSet};

use idem_checks::{code_spans, read, root, rust_files};
use serde_json::Value;

/// The crates whose files the map lists one by one.
const MAPPED: [&str; 3] = ["idem-macros/src", "idem-runtime/src", "idem-testkit/src"];

/// The first cells of the table below the line that begins with this crate's folder, as paths.
fn map_of(folder: &str) -> BTreeSet<String> {
    let text = read("ARCHITECTURE.md");
    let heading = format!("`{folder}`");
    let (_, below) = text.split_once(&format!("\n{heading}")).expect("the map has the crate");
    let rows =
        below.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    let cells = rows.filter_map(|row| row.split('|').nth(1));
    cells.flat_map(code_spans).flat_map(alternatives).collect()
}

/// `a/{b,c}/` is `a/b/` and `a/c/`.
fn alternatives(path: &str) -> Vec<String> {
    match path.split_once('{').and_then(|(before, rest)| Some((before, rest.split_once('}')?))) {
        None => vec![path.to_owned()],
        Some((before, (names, after))) => {
            names.split(',').map(|name| format!("{before}{name}{after}")).collect()
        }
    }
}

#[test]
fn the_map_has_every_file_and_no_other() {
    let mut wrong = Vec::new();
    for folder in MAPPED {
        let map = map_of(folder);
        for path in &map {
            if !root().join(folder).join(path).exists() {
                wrong.push(format!("{folder}/{path} is in the map and not there"));
            }
        }
        for file in rust_files(folder) {
            // They are their folders, or their crate.
            let stands_for_more = file.ends_with("mod.rs") || file == "lib.rs";
            let is_there = map
                .iter()
                .any(|path| *path == file || path.ends_with('/') && file.starts_with(path.as_str()));
            if !is_there && !stands_for_more {
                wrong.push(format!("{folder}/{file} is not in the map"));
            }
        }
    }
    assert!(wrong.is_empty(), "ARCHITECTURE.md:\n{}", wrong.join("\n"));
}

#[test]
fn the_map_has_every_package() {
    let text = read("ARCHITECTURE.md");
    let (_, map) = text.split_once("## The map").expect("there is a map");
    for package in packages() {
        let folder = package.folder;
        assert!(map.contains(&format!("| `{folder}` |")), "the table of crates lacks `{folder}`");
    }
}

struct Package {
    name: String,
    folder: String,
    /// All of them, those of tests and builds included.
    depends_on: BTreeSet<String>,
}

fn packages() -> Vec<Package> {
    let cargo = std::env::var_os("CARGO").expect("cargo runs the tests");
    let output = std::process::Command::new(cargo)
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .current_dir(root())
        .output()
        .expect("cargo can be run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo prints JSON");
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let packages = metadata["packages"].as_array().expect("there are packages").iter();
    packages
        .map(|package| {
            let manifest = text(&package["manifest_path"]);
            let folder = std::path::Path::new(&manifest).parent().and_then(|folder| folder.file_name());
            Package {
                name: text(&package["name"]),
                folder: folder.and_then(|name| name.to_str()).expect("a folder has a name").to_owned(),
                depends_on: package["dependencies"]
                    .as_array()
                    .expect("there is a list")
                    .iter()
                    .map(|dependency| text(&dependency["name"]))
                    .collect(),
            }
        })
        .collect()
}

#[test]
fn dependencies_point_one_way() {
    // A package depends on those before it, and on no other of the workspace.
    let layers: BTreeMap<&str, u8> = [
        ("idem-macros", 0),
        ("idem-runtime", 1),
        ("idem-testkit", 2),
        ("idem-cli", 3),
        ("idem-examples", 3),
        ("idem-model", 3),
        ("idem-bench-page", 0),
        ("idem-bench", 4),
        ("idem-ui-tests", 4),
        ("idem-checks", 5),
    ]
    .into();
    for package in packages() {
        let layer = layers.get(package.name.as_str());
        let layer = layer.unwrap_or_else(|| panic!("`{}` has no layer here", package.name));
        for other in &package.depends_on {
            let Some(below) = layers.get(other.as_str()) else { continue };
            assert!(below < layer, "`{}` depends on `{other}`", package.name);
        }
    }
}

#[test]
fn every_package_is_under_the_lints() {
    assert!(read("Cargo.toml").contains("unsafe_code = \"forbid\""));
    for package in packages() {
        let manifest = read(format!("{}/Cargo.toml", package.folder));
        assert!(manifest.contains("[lints]\nworkspace = true"), "`{}`", package.name);
    }
}

/// The lines of code below a path, without comments and tests, each with its place.
fn code(path: &str) -> Vec<(String, String)> {
    let files = if path.ends_with(".rs") {
        vec![path.to_owned()]
    } else {
        rust_files(path).into_iter().map(|file| format!("{path}/{file}")).collect()
    };
    assert!(!files.is_empty(), "{path} has no code");
    let mut lines = Vec::new();
    for file in files {
        let text = read(&file);
        let text = text.split("#[cfg(test)]\nmod tests").next().expect("a split has a first part");
        for (number, line) in text.lines().enumerate() {
            let line = line.split("//").next().expect("a split has a first part");
            lines.push((format!("{file}:{}", number + 1), line.to_owned()));
        }
    }
    lines
}

/// Fails if one of these words is in the code below a path, other than in lines that have one of the exceptions.
fn assert_absent(path: &str, words: &[&str], except: &[&str]) {
    for (place, line) in code(path) {
        for word in words {
            let is_excepted = except.iter().any(|except| line.contains(except));
            assert!(!line.contains(word) || is_excepted, "{place} has `{word}`: {}", line.trim());
        }
    }
}

#[test]
fn parse_knows_no_later_pass() {
    assert_absent("idem-macros/src/parse", &["crate::validate", "crate::expand", "Default"], &[]);
}

#[test]
fn validate_writes_no_rust() {
    assert_absent(
        "idem-macros/src/validate",
        &["quote!", "quote_spanned!"],
        &["parse_quote!(::idem_runtime)"],
    );
}

#[test]
fn expand_reports_no_errors() {
    let words = ["Errors", "syn::Error", "syn::Result", "compile_error", "panic!"];
    assert_absent("idem-macros/src/expand", &words, &[]);
    for (place, line) in code("idem-macros/src/expand") {
        let is_signature = line.trim_start().starts_with("pub(") || line.trim_start().starts_with("fn ");
        // What stands in a quotation has the whole path of `Result`.
        let returns_one = line.contains("-> Result<");
        assert!(!(is_signature && returns_one), "{place}: {}", line.trim());
    }
}

#[test]
fn the_record_knows_no_store_no_clock_and_no_async() {
    let words = ["crate::store", "crate::run", "tokio", "async ", ".await", "Instant", "SystemTime", "sqlx"];
    assert_absent("idem-runtime/src/record", &words, &[]);
}

#[test]
fn a_store_decides_nothing_about_a_run() {
    let words = [
        "Admission",
        "Decision",
        "OnBusy",
        "on_busy",
        "record::decide",
        "record::admit",
        "fingerprint ==",
        "fingerprint !=",
    ];
    assert_absent("idem-runtime/src/store", &words, &[]);
}

#[test]
fn the_time_of_day_decides_nothing_outside_of_the_memory_store() {
    for file in rust_files("idem-runtime/src") {
        // The memory store's clock is the process's; and ids of tasks sort by their time, which decides nothing.
        if file.starts_with("store/memory/") || file == "engine/task_id.rs" {
            continue;
        }
        assert_absent(
            &format!("idem-runtime/src/{file}"),
            &["SystemTime", "Utc::now", "now_utc", "Timestamp::now"],
            &[],
        );
    }
}

#[test]
fn the_runtime_has_no_fault_points() {
    let words = ["fail_point", "failpoint", "inject", "Fault", "fault_"];
    // A setting of PostgreSQL's.
    assert_absent("idem-runtime/src", &words, &["default_transaction_isolation"]);
}

#[test]
fn no_statement_touches_rows_without_a_condition() {
    // Leases are renewed where they are joined to a list of the claims that are meant.
    let renewals = ["SET lease_until = ", "SET r.lease_until = "];
    let mut statements = 0;
    for store in ["sqlite", "postgres", "mysql"] {
        for file in rust_files(format!("idem-runtime/src/store/{store}")) {
            let lines = code(&format!("idem-runtime/src/store/{store}/{file}"));
            for (at, (place, line)) in lines.iter().enumerate() {
                for begin in changes(line) {
                    statements += 1;
                    let first = std::iter::once(&line[begin..]);
                    let text = first.chain(lines[at + 1..].iter().map(|(_, line)| line.as_str()));
                    let text: Vec<_> = text.take(40).collect();
                    let text = text.join(" ");
                    // It ends with its literal, or where the next one of the same literal begins.
                    let statement = text.split(['"', ';']).next().expect("a split has a first part");
                    // Or goes on behind a value that is put in.
                    let is_conditional = match statement.trim_end().ends_with('=') {
                        true => text.contains("WHERE"),
                        false => statement.contains("WHERE"),
                    };
                    let is_excepted = renewals.iter().any(|set| statement.contains(set));
                    assert!(is_conditional || is_excepted, "{place}: {statement}");
                }
            }
        }
    }
    assert!(statements >= 60, "only {statements} were found: is the test blind?");
}

/// Returns where in a line statements begin that update or delete: no lock, no trigger, no clause of an insert.
fn changes(line: &str) -> Vec<usize> {
    let updates = line.match_indices("UPDATE ").filter(|(at, _)| {
        let other = ["FOR ", "KEY ", "DO ", "AFTER ", "BEFORE ", "OR ", "ON "];
        !other.iter().any(|other| line[..*at].ends_with(other))
    });
    updates.chain(line.match_indices("DELETE FROM ")).map(|(at, _)| at).collect()
}

/// The SQL that makes all tables.
fn migrations() -> String {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().build().expect("there are threads");
    runtime.block_on(async {
        let pool = sqlx::SqlitePool::connect_lazy("sqlite::memory:").expect("the URL is one");
        idem_runtime::Idem::builder(pool).build().expect("the pool serves").migration_sql()
    })
}

#[test]
fn the_tables_are_those_of_the_migrations() {
    let text = read("ARCHITECTURE.md");
    let (_, below) = text.split_once("## The tables").expect("there is a section");
    let section = below.split("\n## ").next().expect("a split has a first part");
    let told: BTreeSet<String> = section
        .lines()
        .filter_map(|line| {
            line.strip_prefix("| `idem_")?.split('`').next().map(|name| format!("idem_{name}"))
        })
        .collect();

    let sql = migrations();
    let made: BTreeSet<String> = sql
        .split("CREATE TABLE ")
        .skip(1)
        .map(|after| after.trim_start_matches("IF NOT EXISTS "))
        .map(|after| after.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect())
        .collect();
    assert_eq!(told, made);
    let count = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"][made.len()];
    assert!(read("README.md").contains(&format!("{count} tables")), "the README counts {count} tables");
}
