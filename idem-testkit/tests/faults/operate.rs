//! What the broken stores do wrong where people look into them.

use async_trait::async_trait;
use idem_runtime::StoreError;
use idem_runtime::engine::TaskId;
use idem_runtime::record::State;
use idem_runtime::store::{
    ClaimRow, Database, JobRow, KeyFilter, KeyOrder, KeyRow, Resolve, StateCounts, Volume,
};

use super::broken::{Fault, Good};

faults! {
    /// Lists keys in the order of their hashes, whatever it is asked for.
    ListsKeysByHash;
    /// Lists keys in all states, whatever it is asked for.
    ListsKeysInEveryState;
    /// Lists keys of all jobs.
    ListsEveryJob;
    /// Begins every page at the first key.
    PagesFromTheStart;
    /// Counts nothing.
    CountsNoKeys;
    /// Ends a claim whether it is a running key's or not.
    ReleasesAnyState;
    /// Says that it has ended a claim, and has not.
    ReleasesNoRun;
    /// Lists no claims.
    ListsNoClaims;
    /// Ends claims and leaves no note.
    ReleasesWithoutANote;
    /// Takes the outbox for empty.
    SeesAnEmptyOutbox;
    /// Takes every claim for one that is held.
    SeesNoExpiredClaim;
}

#[async_trait]
impl<D: Database> Fault<D> for ListsKeysByHash {
    async fn keys(&self, good: &Good<D>, filter: &KeyFilter<'_>) -> Result<Vec<KeyRow>, StoreError> {
        good.keys(&KeyFilter { order: KeyOrder::Hash, ..*filter }).await
    }
}

#[async_trait]
impl<D: Database> Fault<D> for ListsKeysInEveryState {
    async fn keys(&self, good: &Good<D>, filter: &KeyFilter<'_>) -> Result<Vec<KeyRow>, StoreError> {
        good.keys(&KeyFilter { states: &State::ALL, ..*filter }).await
    }
}

#[async_trait]
impl<D: Database> Fault<D> for ListsEveryJob {
    async fn keys(&self, good: &Good<D>, filter: &KeyFilter<'_>) -> Result<Vec<KeyRow>, StoreError> {
        good.keys(&KeyFilter { job: None, containing: None, ..*filter }).await
    }
}

#[async_trait]
impl<D: Database> Fault<D> for PagesFromTheStart {
    async fn keys(&self, good: &Good<D>, filter: &KeyFilter<'_>) -> Result<Vec<KeyRow>, StoreError> {
        good.keys(&KeyFilter { after: None, ..*filter }).await
    }
}

#[async_trait]
impl<D: Database> Fault<D> for CountsNoKeys {
    async fn jobs(&self, good: &Good<D>) -> Result<Vec<JobRow>, StoreError> {
        let jobs = good.jobs().await?;
        Ok(jobs.into_iter().map(|job| JobRow { counts: StateCounts::default(), ..job }).collect())
    }
}

#[async_trait]
impl<D: Database> Fault<D> for ReleasesAnyState {
    async fn resolve(&self, good: &Good<D>, resolve: &Resolve<'_>) -> Result<bool, StoreError> {
        let from = match good.entry(resolve.key).await?.map(|entry| entry.state) {
            Some(State::Parked) => State::Parked,
            _ => resolve.from,
        };
        good.resolve(&Resolve { from, ..*resolve }).await
    }
}

#[async_trait]
impl<D: Database> Fault<D> for ReleasesNoRun {
    async fn resolve(&self, good: &Good<D>, resolve: &Resolve<'_>) -> Result<bool, StoreError> {
        match resolve.from {
            State::Running => Ok(true),
            _ => good.resolve(resolve).await,
        }
    }
}

#[async_trait]
impl<D: Database> Fault<D> for ListsNoClaims {
    async fn claims(&self, _: &Good<D>, _: &KeyFilter<'_>) -> Result<Vec<ClaimRow>, StoreError> {
        Ok(Vec::new())
    }
}

#[async_trait]
impl<D: Database> Fault<D> for ReleasesWithoutANote {
    async fn release_claims(
        &self,
        good: &Good<D>,
        task: TaskId,
        _: &str,
        _: &str,
    ) -> Result<u64, StoreError> {
        Ok(u64::from(good.release(task, None).await?))
    }
}

#[async_trait]
impl<D: Database> Fault<D> for SeesAnEmptyOutbox {
    async fn volume(&self, good: &Good<D>) -> Result<Volume, StoreError> {
        Ok(Volume { outbox: 0, outbox_oldest: None, ..good.volume().await? })
    }
}

#[async_trait]
impl<D: Database> Fault<D> for SeesNoExpiredClaim {
    async fn volume(&self, good: &Good<D>) -> Result<Volume, StoreError> {
        Ok(Volume { expired_claims: 0, ..good.volume().await? })
    }
}
