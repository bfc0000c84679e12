//! The report as files.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Report;

/// How much of a job's or key's name a file name shows.
const PART: usize = 40;

impl Report {
    /// Writes the report as HTML and as JSON into `dir`, which is made if it is missing, and returns the path of the
    /// HTML.
    ///
    /// The files are named after job, database, key and test, and from the second check of all these on after its number.
    /// The same names mean the same files, and the last report stays; other ones never do, for a hash follows where a
    /// name has to be shortened or changed.
    ///
    /// # Errors
    ///
    /// If the directory or a file cannot be written; the message names it.
    pub fn write(&self, dir: impl AsRef<Path>) -> io::Result<PathBuf> {
        let dir = dir.as_ref();
        fs::create_dir_all(dir).map_err(|error| naming(dir, &error))?;
        let name = self.file_name();
        replace(&dir.join(format!("{name}.json")), &self.json())?;
        let html = dir.join(format!("{name}.html"));
        replace(&html, &self.html())?;
        Ok(html)
    }

    /// Returns the name of the files, without the ending.
    pub(super) fn file_name(&self) -> String {
        let mut parts = vec![&*self.job, &*self.database, &*self.key];
        let mut shown: Vec<String> = parts.iter().map(|part| slug(part)).collect();
        if let Some(test) = self.test.as_deref() {
            parts.push(test);
            // The modules before it are long, and the hash knows them.
            shown.push(slug(test.rsplit("::").next().unwrap_or(test)));
        }
        let check = self.check.to_string();
        if self.check > 1 {
            // Two parts: with one, a test that is named by a number would have the same.
            parts.extend(["check", &check]);
            shown.push(check.clone());
        }
        let name = shown.join("-");
        // Where all parts are as they were, the two dashes tell them apart. A name with a hash has three or more.
        if parts.len() == 3
            && parts.iter().zip(&shown).all(|(part, shown)| part == shown && !part.contains('-'))
        {
            name
        } else {
            format!("{name}-{:016x}", hash(&parts))
        }
    }
}

/// Returns what of `part` every file system takes, in lower case because some do not tell the cases apart.
fn slug(part: &str) -> String {
    let mut slug = String::new();
    for char in part.chars().map(|char| char.to_ascii_lowercase()) {
        if slug.len() == PART {
            break;
        }
        if char.is_ascii_alphanumeric() || char == '_' {
            slug.push(char);
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    let slug = slug.trim_end_matches('-');
    if slug.is_empty() { "-".to_owned() } else { slug.to_owned() }
}

/// FNV-1a over the parts and their lengths. The one of the standard library may change with the compiler, and then
/// every run would leave files of another name.
fn hash(parts: &[&str]) -> u64 {
    let bytes =
        parts.iter().flat_map(|part| (part.len() as u64).to_le_bytes().into_iter().chain(part.bytes()));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Writes a file at once, so that two tests of the same key leave one report or the other, and no mix.
fn replace(path: &Path, content: &str) -> io::Result<()> {
    static WRITTEN: AtomicU64 = AtomicU64::new(0);
    let unique = WRITTEN.fetch_add(1, Ordering::Relaxed);
    let draft = path.with_added_extension(format!("{}-{unique}.tmp", process::id()));
    fs::write(&draft, content).and_then(|()| fs::rename(&draft, path)).map_err(|error| {
        // The draft may not exist; the error says what went wrong.
        let _ = fs::remove_file(&draft);
        naming(path, &error)
    })
}

fn naming(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("the report cannot be written to {}: {error}", path.display()))
}
