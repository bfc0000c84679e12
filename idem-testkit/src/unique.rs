//! Names that no other test uses.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Returns a name that no other test uses, in this process or another.
///
/// What failed is kept, and numbers of processes come again, so the time is part of the name.
pub(crate) fn unique(prefix: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    static BEGAN: OnceLock<u128> = OnceLock::new();
    let began =
        BEGAN.get_or_init(|| SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_millis()));
    format!("{prefix}_{began:x}_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}
