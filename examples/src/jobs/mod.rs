//! One job a pattern.

pub mod cleanup;
pub mod daily_report;
pub mod email;
pub mod inventory;
pub mod order;
pub mod payment;
pub mod payment_steps;
pub mod subscription;
pub mod sync_profile;

pub use super::Db;
use super::{BEGIN, Connection, SERIAL};
