//! Runs all benches and writes `docs/benchmarks.md` about them; see `scripts/bench --help`.

mod machine;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};
use clap::Parser;
use idem_bench_page::{Figures, Run, Version, page};

use crate::machine::Before;

/// Runs all benches and writes a page about them.
#[derive(Debug, Parser)]
#[command(version)]
struct Options {
    /// A short run, which shows that all of it works and whose figures mean nothing
    #[arg(long, conflicts_with = "again")]
    quick: bool,
    /// Write the page again from the figures of the last run, which are in benchmarks.json
    #[arg(long)]
    again: bool,
    /// The folder to write benchmarks.md and benchmarks.json to
    #[arg(long, default_value = "docs")]
    to: PathBuf,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let figures = options.to.join("benchmarks.json");
    let run = match options.again {
        true => {
            let text = fs::read_to_string(&figures).with_context(|| figures.display().to_string())?;
            serde_json::from_str(&text).with_context(|| figures.display().to_string())?
        }
        false => {
            let run = measure(options.quick)?;
            write(&figures, &lines(&run)?)?;
            run
        }
    };
    write(&options.to.join("benchmarks.md"), &page(&run))
}

fn measure(is_quick: bool) -> anyhow::Result<Run> {
    let date = said_by(Command::new("date").args(["-u", "+%Y-%m-%d"]))?;
    let rustc = said_by(Command::new("rustc").arg("--version"))?;
    let before = Before::look()?;
    let short: &[&str] = if is_quick { &["--rounds", "3", "--millis", "30"] } else { &[] };
    let few: &[&str] = if is_quick { &["--queued", "1000"] } else { &[] };
    let figures = vec![bench("idem-bench", short)?, bench("idem-bench-queue", &[short, few].concat())?];
    let machine = before.after()?;
    let rustc = rustc.trim_start_matches("rustc ").to_owned();
    let mut versions = vec![
        Version { name: String::from("idem"), version: env!("CARGO_PKG_VERSION").to_owned() },
        Version { name: String::from("rustc"), version: rustc },
    ];
    for name in ["sqlx", "tokio", "apalis-core", "apalis-postgres", "graphile_worker"] {
        versions.push(locked(name)?);
    }
    Ok(Run { is_quick, date, machine, versions, figures })
}

/// Runs a bench, which was built into the same folder as this program.
fn bench(name: &str, options: &[&str]) -> anyhow::Result<Figures> {
    let program = std::env::current_exe()?.with_file_name(name);
    let printed = said_by(Command::new(&program).arg("--json").args(options))?;
    serde_json::from_str(&printed).with_context(|| format!("what {name} prints"))
}

/// Runs a program and returns what it prints; its errors go where ours go.
fn said_by(program: &mut Command) -> anyhow::Result<String> {
    let name = program.get_program().to_string_lossy().into_owned();
    let output = program.stderr(Stdio::inherit()).output().with_context(|| name.clone())?;
    ensure!(output.status.success(), "{name} ended with {}", output.status);
    Ok(String::from_utf8(output.stdout).with_context(|| format!("what {name} prints"))?.trim().to_owned())
}

/// Returns the version of a package that the benches are built with.
fn locked(name: &str) -> anyhow::Result<Version> {
    let lock = include_str!("../../Cargo.lock");
    let version = lock
        .split_once(&format!("name = \"{name}\"\nversion = \""))
        .and_then(|(_, rest)| rest.split('"').next())
        .with_context(|| format!("Cargo.lock has no {name}"))?;
    Ok(Version { name: name.to_owned(), version: version.to_owned() })
}

/// Writes the run as JSON with a line for each row, so that two runs can be compared line by line.
fn lines(run: &Run) -> serde_json::Result<String> {
    let text = serde_json::to_string(run)?;
    Ok(text.replace("{\"store\"", "\n{\"store\"") + "\n")
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    fs::write(path, text).with_context(|| path.display().to_string())?;
    println!("{} is written", path.display());
    Ok(())
}
