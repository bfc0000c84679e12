//! What the passes hand to each other: the raw job as parsed, the job as validated.

mod job;
mod raw;

pub(crate) use self::job::{
    Adopt, AdoptCase, Arg, Attrs, Broken, BrokenParam, Drift, Fingerprint, Function, Handle, InDoubt, Job,
    Key, Kind, Lock, Missed, OnBusy, OnDuplicate, Param, Retain, Returns, RowLock, Schedule, Spec, State,
    Unique, UniqueMode,
};
pub(crate) use self::raw::{RawArm, RawFunction, RawOption, RawValue};
