//! What the passes hand to each other: the raw job as parsed, the job as validated.

mod job;
mod raw;

pub(crate) use self::job::{
    Adopt, AdoptCase, Arg, Attrs, Broken, BrokenParam, Fingerprint, Function, Job, Key, Lock, OnBusy, Param,
    Retain, Returns, RowLock, Spec, State, TxParam,
};
pub(crate) use self::raw::{RawArm, RawFunction, RawOption, RawValue};
