#![doc = include_str!("guide/start.md")]
// What needs other crates is compiled by the doctests of `idem-testkit`.
#![cfg_attr(not(doctest), doc = include_str!("guide/testing.md"))]
#![doc = include_str!("guide/more.md")]
#![cfg_attr(not(doctest), doc = include_str!("guide/worker.md"))]
#![doc = include_str!("guide/running.md")]
#![warn(clippy::unwrap_used)]
#![expect(
    clippy::test_attr_in_doctest,
    reason = "the page shows how to test a job, and the testkit compiles it"
)]

mod answer;
pub mod book;
pub mod cleanup;
pub mod codec;
#[doc(hidden)]
pub mod describe;
mod done;
pub mod engine;
mod error;
pub mod fingerprint;
mod idem;
pub mod job;
pub mod key;
pub mod observe;
mod operate;
mod operator;
mod provide;
pub mod record;
mod run;
pub mod schedule;
pub mod store;
mod tx;

#[doc = include_str!("attribute.md")]
pub use idem_macros::idempotent;
pub use idem_macros::{KeyPart, Provides};

pub use self::answer::Answer;
pub use self::done::Done;
pub use self::error::{
    ArgsError, ArgsErrorReason, Busy, Code, DriftError, Error, KeyReused, LostClaim, Parked, RowNotFound,
    StoreError, StoreErrorKind, Timeout,
};
pub use self::idem::{Builder, Idem};
pub use self::job::{AtomicJob, Job, LeasedJob};
pub use self::key::KeyPart;
pub use self::operate::{Audit, Explanation, Resolution, StepState, Task};
pub use self::operator::{KeyQuery, KeyReport, KnownKey, Operator};
pub use self::provide::Provides;
pub use self::run::{NoProbe, Probe, Run, RunOn, Step, StepName, StepProbe};
pub use self::tx::Tx;

/// What a module of jobs needs: `use idem_runtime::prelude::*;`.
pub mod prelude {
    #[cfg(feature = "mysql")]
    pub use sqlx::MySql;
    #[cfg(feature = "postgres")]
    pub use sqlx::Postgres;
    #[cfg(feature = "sqlite")]
    pub use sqlx::Sqlite;

    pub use crate::store::memory::Memory;
    pub use crate::{Done, Error, Idem, Job, KeyPart, Provides, Run, Tx, idempotent};
}

/// What the expansion of `#[idempotent]` uses of other crates, and what the testkit uses of this one.
#[doc(hidden)]
pub mod __private {
    pub use serde;

    pub use crate::__codes as codes;
    pub use crate::describe;
}
