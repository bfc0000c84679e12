//! Which protocol a job runs by.

use std::future::Future;

use super::Context;
use super::atomic::run_atomic;
use super::call::Ended;
use super::leased::run_leased;
use crate::job::{Atomic, AtomicJob, Job, Leased, LeasedJob};
use crate::store::Database;

/// A job that an [`Idem<D, S>`](crate::Idem) can run: it works on this database, and the state has what it needs.
///
/// Every [`AtomicJob`] and [`LeasedJob`] does; `Kind` is [`Job::Kind`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no job [idem::not_a_job]",
    label = "this is no job",
    note = "write the struct that `#[idempotent]` has named after the function: that of `async fn charge` is `Charge`; without the attribute there is none"
)]
pub trait RunOn<D: Database, S, Kind = <Self as Job>::Kind>: Job {
    #[doc(hidden)]
    fn run_on(
        self,
        context: Context<'_, D, S>,
    ) -> impl Future<Output = Ended<Self::Output, Self::Error>> + Send;
}

impl<J, D, S> RunOn<D, S, Atomic> for J
where
    J: AtomicJob<S, Db = D>,
    D: Database,
    S: Sync + 'static,
{
    async fn run_on(self, context: Context<'_, D, S>) -> Ended<J::Output, J::Error> {
        run_atomic(context, self).await
    }
}

impl<J, D, S> RunOn<D, S, Leased> for J
where
    J: LeasedJob<D, S>,
    D: Database,
    S: Sync + 'static,
{
    async fn run_on(self, context: Context<'_, D, S>) -> Ended<J::Output, J::Error> {
        run_leased(context, self).await
    }
}
