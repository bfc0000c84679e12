//! One job a pattern.

pub mod inventory;
pub mod order;
pub mod payment;
pub mod subscription;

pub use super::Db;
use super::{Connection, SERIAL};
