//! The protocol of a run: admit, run the body, settle.

mod atomic;
mod call;
mod flight;
mod heart;
mod interrupt;
mod kind;
mod leased;
mod silence;
mod steps;
mod unique;
mod wait;

pub use self::kind::RunOn;
pub use self::steps::{NoProbe, Probe, Run, Step, StepName, StepProbe};

pub(crate) use self::call::{Ended, Failed, NotBegun, task};
pub(crate) use self::flight::Flights;
pub(crate) use self::heart::Heart;
pub(crate) use self::unique::run_unique;

use std::sync::Arc;

use tracing::Span;

use crate::cleanup::KeepFailed;
use crate::idem::Enrolled;
use crate::store::{Database, Store};

/// What a run needs of its `Idem`.
pub struct Context<'a, D: Database, S> {
    pub(crate) store: &'a Arc<dyn Store<D>>,
    pub(crate) flights: &'a Flights,
    pub(crate) heart: &'a Heart,
    pub(crate) namespace: &'a str,
    pub(crate) state: &'a S,
    pub(crate) keep_failed: &'a Arc<KeepFailed>,
    pub(crate) enrolled: &'a Enrolled,
    pub(crate) span: &'a Span,
}
