//! What tests that look for bugs leave behind.

use std::fs;
use std::path::Path;

use idem_testkit::report::Failure;

/// Removes the database that a failure keeps to be looked at.
pub(crate) fn clean_up(failure: &Failure) {
    let file = failure.kept.as_ref().and_then(|kept| kept.strip_prefix("sqlite:"));
    let file = file.map(|file| file.trim_start_matches("//").split('?').next().unwrap_or(file));
    if let Some(folder) = file.and_then(|file| Path::new(file).parent())
        && folder.file_name().is_some_and(|name| name.to_string_lossy().starts_with("idem_"))
    {
        // What stays behind is in the folder for temporary files.
        let _ = fs::remove_dir_all(folder);
    }
}
