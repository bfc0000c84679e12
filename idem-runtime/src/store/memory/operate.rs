//! What people look at in memory.

use async_trait::async_trait;

use super::lease::Audited;
use super::{Data, MemoryStore};
use crate::engine::TaskId;
use crate::error::StoreError;
use crate::key::KeyHash;
use crate::record::{Epoch, JobId, State};
use crate::store::{ClaimRow, JobRow, KeyFilter, KeyOrder, KeyRow, OperateStore, StateCounts, Volume};

impl Data {
    /// Returns the namespace and the name of a job.
    fn job(&self, job: JobId) -> Option<&(String, String)> {
        usize::try_from(job.0).ok().and_then(|at| self.jobs.get(at))
    }

    /// Returns the job of a key that the filter lets through, whatever its state.
    fn admits(
        &self,
        filter: &KeyFilter<'_>,
        hash: KeyHash,
        job: JobId,
        key: &str,
    ) -> Option<(String, String)> {
        let (namespace, name) = self.job(job)?;
        let is_wanted = filter.namespace.is_none_or(|wanted| wanted == namespace)
            && filter.job.is_none_or(|wanted| wanted == name)
            && filter.containing.is_none_or(|text| key.contains(text))
            && filter.key.is_none_or(|wanted| wanted == hash)
            && filter.after.is_none_or(|after| after < hash);
        is_wanted.then(|| (namespace.clone(), name.clone()))
    }
}

#[async_trait]
impl OperateStore for MemoryStore {
    async fn keys(&self, filter: &KeyFilter<'_>) -> Result<Vec<KeyRow>, StoreError> {
        let data = self.data();
        let now = data.now();
        let row = |(hash, stored): (&KeyHash, &super::Stored)| {
            let (namespace, job) = data.admits(filter, *hash, stored.job, &stored.readable)?;
            let mut entry = data.entry(*hash)?;
            if !filter.states.contains(&entry.state) {
                return None;
            }
            let has_outcome = matches!(stored.state, State::Completed | State::Rejected);
            let result_bytes = if has_outcome { entry.payload.len() as u64 } else { 0 };
            entry.steps.clear();
            if has_outcome {
                entry.payload.clear();
            }
            Some(KeyRow {
                namespace,
                job,
                hash: *hash,
                key: stored.readable.clone(),
                since: now.saturating_duration_since(stored.changed_at),
                expires_in: stored
                    .expires_at
                    .filter(|_| has_outcome)
                    .map(|at| at.saturating_duration_since(now)),
                result_bytes,
                entry,
            })
        };
        let mut rows: Vec<KeyRow> = data.records.iter().filter_map(row).collect();
        if filter.order == KeyOrder::LongestUnchanged {
            rows.sort_by_key(|row| std::cmp::Reverse(row.since));
        }
        rows.truncate(usize::try_from(filter.limit).unwrap_or(usize::MAX));
        Ok(rows)
    }

    async fn jobs(&self) -> Result<Vec<JobRow>, StoreError> {
        let data = self.data();
        let mut rows: Vec<JobRow> = Vec::new();
        for (at, (namespace, name)) in data.jobs.iter().enumerate() {
            let id = JobId(i32::try_from(at).expect("nobody declares two billion jobs"));
            let mut counts = StateCounts::default();
            for (hash, _) in data.records.iter().filter(|(_, stored)| stored.job == id) {
                counts.add(data.entry(*hash).map_or(State::Absent, |entry| entry.state), 1);
            }
            let last_tick = data.ticks.get(&id).copied();
            rows.push(JobRow { namespace: namespace.clone(), name: name.clone(), last_tick, counts });
        }
        rows.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
        Ok(rows)
    }

    async fn claims(&self, filter: &KeyFilter<'_>) -> Result<Vec<ClaimRow>, StoreError> {
        let data = self.data();
        let rows = data.claims.iter().filter_map(|(hash, claimed)| {
            let (namespace, job) = data.admits(filter, *hash, claimed.job, &claimed.readable)?;
            let holder = data.holder(*hash)?;
            Some(ClaimRow { namespace, job, hash: *hash, key: claimed.readable.clone(), holder })
        });
        Ok(rows.take(usize::try_from(filter.limit).unwrap_or(usize::MAX)).collect())
    }

    async fn release_claims(&self, task: TaskId, action: &str, why: &str) -> Result<u64, StoreError> {
        let mut data = self.data();
        let at = data.now();
        let is_its = |claimed: &super::queue::Claimed| claimed.task == task && claimed.expires_at.is_none();
        let keys: Vec<KeyHash> =
            data.claims.iter().filter(|(_, claimed)| is_its(claimed)).map(|(key, _)| *key).collect();
        for key in &keys {
            data.claims.remove(key);
            let (action, why) = (action.to_owned(), why.to_owned());
            data.audit.push(Audited { key: *key, epoch: Epoch::NONE, action, why, at });
        }
        Ok(keys.len() as u64)
    }

    async fn volume(&self) -> Result<Volume, StoreError> {
        let data = self.data();
        let now = data.now();
        let oldest = data.outbox.values().map(|waiting| now.saturating_duration_since(waiting.at)).max();
        Ok(Volume {
            claims: data.claims.len() as u64,
            expired_claims: data.expired_claims().count() as u64,
            outbox: data.outbox.len() as u64,
            outbox_oldest: oldest,
            tables: Vec::new(),
        })
    }
}
