//! What the programs do with the jobs.

pub mod inventory;
pub mod order;
pub mod payment;
pub mod subscription;

use idem_runtime::Done;

use super::{Db, jobs, open};

/// Says how an answer came.
fn how<T>(done: &Done<T>) -> &'static str {
    match done {
        Done::Executed(_) => "executed",
        Done::Replayed(_) => "replayed",
        Done::Adopted(_) => "adopted",
    }
}
