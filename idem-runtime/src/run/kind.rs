//! Which protocol a job runs by.

use std::future::Future;

use super::Context;
use super::atomic::run_atomic;
use super::call::Ended;
use super::leased::run_leased;
use crate::job::{Atomic, AtomicJob, Job, Leased, LeasedJob, of_jobs_alone};
use crate::store::Database;

of_jobs_alone! {
    /// A job that an [`Idem<D, S>`](crate::Idem) can run: it works on this database, and the state has what it needs.
    ///
    /// Every [`AtomicJob`] and [`LeasedJob`] does; `Kind` is [`Job::Kind`].
    pub trait RunOn<D: Database, S, Kind = <Self as Job>::Kind>: Job {
        #[doc(hidden)]
        fn run_on(
            self,
            context: Context<'_, D, S>,
        ) -> impl Future<Output = Ended<Self::Output, Self::Error>> + Send;
    }
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
