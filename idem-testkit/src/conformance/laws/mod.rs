//! The laws. The name of each states it in short, the sentence beside it in full.

mod body;
mod commit;
mod contents;
mod expiry;
mod lease;
mod lock;
mod look;
mod operate;
mod queue;
mod recovery;
mod rows;
mod schedule;
mod tables;

use idem_runtime::store::Database;

use super::fixture::BoxError;
use super::suite::Law;

/// How a law was found to hold.
type Outcome = Result<(), BoxError>;

/// Returns all laws.
pub(super) fn all<D: Database>() -> Vec<Law<D>> {
    let groups = [
        commit::laws(),
        lock::laws(),
        contents::laws(),
        expiry::laws(),
        body::laws(),
        rows::laws(),
        tables::laws(),
        recovery::laws(),
        lease::laws(),
        operate::laws(),
        look::laws(),
        schedule::laws(),
        queue::laws(),
    ];
    groups.into_iter().flatten().collect()
}

/// Makes a law of the function that checks it.
macro_rules! law {
    ($check:ident, $says:literal $(, needs $($ability:ident)+)?) => {
        $crate::conformance::suite::Law {
            name: stringify!($check),
            says: $says,
            needs: &[$($($crate::conformance::fixture::Ability::$ability),+)?],
            check: |trial| Box::pin($check(trial)),
        }
    };
}
use law;
