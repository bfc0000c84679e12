//! What the programs do with the jobs.

pub mod cleanup;
pub mod daily_report;
pub mod email;
pub mod fleet;
pub mod inventory;
pub mod order;
pub mod payment;
pub mod payment_steps;
pub mod subscription;
pub mod user_sync;

use idem_runtime::Done;

use super::{BEGIN, Connection, Db, JOBS, QueueConfig, Storage, WRITERS, jobs, open, pool, set_up_apalis};

/// Says how an answer came.
fn how<T>(done: &Done<T>) -> &'static str {
    match done {
        Done::Executed(_) => "executed",
        Done::Replayed(_) => "replayed",
        Done::Adopted(_) => "adopted",
    }
}
