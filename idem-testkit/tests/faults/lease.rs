//! What the broken stores do wrong with leased jobs, one mistake each.

use async_trait::async_trait;
use idem_runtime::job::Retain;
use idem_runtime::key::KeyHash;
use idem_runtime::record::{Entry, Epoch, Hold, JobId, Record, State, StepRecord, Token, holds};
use idem_runtime::store::{
    AuditRow, Begun, Change, Claim, Claimed, Database, Forget, Held, Lease, LeaseClaim, Resolve, StoreTx,
    TxStep, Watch,
};
use idem_runtime::{StoreError, StoreErrorKind};

use super::{Fault, Good};

faults! {
    /// Takes every claim for a first attempt.
    ForgetsTheAttempt;
    /// Takes a lapsed key over where it should only look.
    ClaimsLapsedKeys;
    /// Looks first and claims afterwards, whatever has happened in between.
    LooksThenClaims;
    /// Takes a key over from a run that is alive.
    TakesOverTheLiving;
    /// Takes a key over as it finds it, whatever the caller has seen.
    TakesOverWhatItFinds;
    /// Takes a key over without its steps.
    TakesOverWithoutSteps;
    /// Tells everybody who takes a key over that they have it.
    TakesOverForEverybody;
    /// Renews nothing.
    RenewsNothing;
    /// Renews, and keeps to itself what is lost.
    LosesNothing;
    /// Compares tokens alone.
    ChecksNoEpoch;
    /// Compares epochs alone.
    ChecksNoToken;
    /// Takes a write of a run that has ended for made.
    SaysYesToTheEnded;
    /// Refuses a run whose lease is over though nobody has taken its key.
    RefusesTheLate;
    /// Returns the steps from the last to the first.
    ReversesSteps;
    /// Refuses a step that is written again.
    WritesStepsOnce;
    /// Forgets no step.
    ForgetsNoStep;
    /// Loses what a run has enqueued.
    SettleLosesTasks;
    /// Keeps an outcome that is not to be kept.
    KeepsWhatIsNotKept;
    /// Starts the epochs anew when a record has expired.
    StartsEpochsAgain;
    /// Loses the steps of a failed run.
    FailureLosesSteps;
    /// Commits the effect of a step, and forgets the step.
    ForgetsTheStep;
    /// Commits the effect of a step, and then looks whether the run had the key.
    StepsAfterwards;
    /// Does not find what an atomic job has recorded.
    HidesAtomicRecords;
    /// Lets an atomic job begin beside a leased run.
    HidesRunsFromAtomicJobs;
    /// Claims in the name of nobody, and puts the name in afterwards.
    ClaimsThenNames;
    /// Begins a watch that never wakes.
    NeverWakes;
    /// Resolves a key whatever its job.
    ResolvesForAnybody;
    /// Forgets a key whatever its epoch.
    ForgetsAnyEpoch;
    /// Forgets a key whatever it is doing.
    ForgetsAnyState;
    /// Says that a key is forgotten, and keeps it.
    ForgetsNothing;
    /// Resolves a key whatever its epoch.
    ResolvesAnyEpoch;
    /// Resolves every key as failed.
    ResolvesAsFailed;
    /// Leaves the step that was in doubt as it was.
    ResolvesNoStep;
    /// Gives no result to a step that has no row.
    ResolvesRecordedStepsOnly;
    /// Keeps no audit.
    KeepsNoAudit;
}

/// Returns the hold of whoever has a key.
async fn holder<D: Database>(good: &Good<D>, key: KeyHash) -> Result<Option<(Hold, Entry)>, StoreError> {
    let entry = good.entry(key).await?;
    Ok(entry.map(|entry| (Hold { key, epoch: entry.epoch, token: entry.token }, entry)))
}

#[async_trait]
impl<D: Database> Fault<D> for ForgetsTheAttempt {
    async fn claim(&self, good: &Good<D>, claim: &LeaseClaim<'_>) -> Result<Claimed, StoreError> {
        good.claim(&LeaseClaim { attempts: 1, ..*claim }).await
    }
}

#[async_trait]
impl<D: Database> Fault<D> for ClaimsLapsedKeys {
    async fn claim(&self, good: &Good<D>, claim: &LeaseClaim<'_>) -> Result<Claimed, StoreError> {
        match good.claim(claim).await? {
            Claimed::Found(found) if found.state == State::Lapsed => {
                let taken = good.take_over(claim, &found).await?;
                Ok(if taken.is_some() { Claimed::New } else { Claimed::Found(found) })
            }
            claimed => Ok(claimed),
        }
    }
}

#[async_trait]
impl<D: Database> Fault<D> for LooksThenClaims {
    async fn claim(&self, good: &Good<D>, claim: &LeaseClaim<'_>) -> Result<Claimed, StoreError> {
        if let Some(found) = good.entry(claim.key.hash()).await? {
            return Ok(Claimed::Found(found));
        }
        tokio::task::yield_now().await;
        good.claim(claim).await.map(|_| Claimed::New)
    }
}

#[async_trait]
impl<D: Database> Fault<D> for TakesOverTheLiving {
    async fn take_over(
        &self,
        good: &Good<D>,
        claim: &LeaseClaim<'_>,
        found: &Entry,
    ) -> Result<Option<Vec<StepRecord>>, StoreError> {
        let Some((hold, _)) = holder(good, claim.key.hash()).await? else { return Ok(None) };
        good.change(&hold, &Change::Fail { trouble: b"" }).await?;
        good.take_over(claim, &Entry { state: State::Failed, ..found.clone() }).await
    }
}

#[async_trait]
impl<D: Database> Fault<D> for TakesOverWhatItFinds {
    async fn take_over(
        &self,
        good: &Good<D>,
        claim: &LeaseClaim<'_>,
        _: &Entry,
    ) -> Result<Option<Vec<StepRecord>>, StoreError> {
        match good.entry(claim.key.hash()).await? {
            Some(entry) => good.take_over(claim, &entry).await,
            None => Ok(None),
        }
    }
}

#[async_trait]
impl<D: Database> Fault<D> for TakesOverWithoutSteps {
    async fn take_over(
        &self,
        good: &Good<D>,
        claim: &LeaseClaim<'_>,
        found: &Entry,
    ) -> Result<Option<Vec<StepRecord>>, StoreError> {
        Ok(good.take_over(claim, found).await?.map(|_| Vec::new()))
    }
}

#[async_trait]
impl<D: Database> Fault<D> for TakesOverForEverybody {
    async fn take_over(
        &self,
        good: &Good<D>,
        claim: &LeaseClaim<'_>,
        found: &Entry,
    ) -> Result<Option<Vec<StepRecord>>, StoreError> {
        good.take_over(claim, found).await.map(|taken| taken.or_else(|| Some(Vec::new())))
    }
}

#[async_trait]
impl<D: Database> Fault<D> for RenewsNothing {
    async fn renew(&self, _: &Good<D>, _: &[Lease]) -> Result<Vec<Hold>, StoreError> {
        Ok(Vec::new())
    }
}

#[async_trait]
impl<D: Database> Fault<D> for LosesNothing {
    async fn renew(&self, good: &Good<D>, leases: &[Lease]) -> Result<Vec<Hold>, StoreError> {
        good.renew(leases).await.map(|_| Vec::new())
    }
}

#[async_trait]
impl<D: Database> Fault<D> for ChecksNoEpoch {
    async fn change(&self, good: &Good<D>, hold: &Hold, change: &Change<'_>) -> Result<Held, StoreError> {
        let epoch = good.entry(hold.key).await?.map_or(hold.epoch, |entry| entry.epoch);
        good.change(&Hold { epoch, ..*hold }, change).await
    }
}

#[async_trait]
impl<D: Database> Fault<D> for ChecksNoToken {
    async fn change(&self, good: &Good<D>, hold: &Hold, change: &Change<'_>) -> Result<Held, StoreError> {
        let token = good.entry(hold.key).await?.map_or(hold.token, |entry| entry.token);
        good.change(&Hold { token, ..*hold }, change).await
    }
}

#[async_trait]
impl<D: Database> Fault<D> for SaysYesToTheEnded {
    async fn change(&self, good: &Good<D>, hold: &Hold, change: &Change<'_>) -> Result<Held, StoreError> {
        let held = good.change(hold, change).await?;
        let is_its_own = holder(good, hold.key).await?.is_some_and(|(holder, _)| holder == *hold);
        Ok(if is_its_own { Held::Yes } else { held })
    }
}

#[async_trait]
impl<D: Database> Fault<D> for RefusesTheLate {
    async fn change(&self, good: &Good<D>, hold: &Hold, change: &Change<'_>) -> Result<Held, StoreError> {
        match good.entry(hold.key).await? {
            Some(entry) if entry.state == State::Lapsed => Ok(Held::Lost),
            _ => good.change(hold, change).await,
        }
    }
}

#[async_trait]
impl<D: Database> Fault<D> for ReversesSteps {
    async fn entry(&self, good: &Good<D>, key: KeyHash) -> Result<Option<Entry>, StoreError> {
        let mut entry = good.entry(key).await?;
        if let Some(entry) = &mut entry {
            entry.steps.reverse();
        }
        Ok(entry)
    }
}

#[async_trait]
impl<D: Database> Fault<D> for WritesStepsOnce {
    async fn change(&self, good: &Good<D>, hold: &Hold, change: &Change<'_>) -> Result<Held, StoreError> {
        if let Change::BeginStep { seq, .. } = change
            && let Some(entry) = good.entry(hold.key).await?
            && holds(&entry, hold)
            && entry.steps.iter().any(|step| step.seq == *seq)
        {
            return Err(StoreError::new(StoreErrorKind::Refused, "duplicate key"));
        }
        good.change(hold, change).await
    }
}

#[async_trait]
impl<D: Database> Fault<D> for ForgetsNoStep {
    async fn change(&self, good: &Good<D>, hold: &Hold, change: &Change<'_>) -> Result<Held, StoreError> {
        match change {
            Change::ForgetStep { .. } => Ok(Held::Yes),
            change => good.change(hold, change).await,
        }
    }
}

#[async_trait]
impl<D: Database> Fault<D> for SettleLosesTasks {
    async fn change(&self, good: &Good<D>, hold: &Hold, change: &Change<'_>) -> Result<Held, StoreError> {
        match *change {
            Change::Settle { outcome, result, retain, .. } => {
                good.change(hold, &Change::Settle { outcome, result, retain, tasks: &[] }).await
            }
            change => good.change(hold, &change).await,
        }
    }
}

#[async_trait]
impl<D: Database> Fault<D> for KeepsWhatIsNotKept {
    async fn change(&self, good: &Good<D>, hold: &Hold, change: &Change<'_>) -> Result<Held, StoreError> {
        match *change {
            Change::Settle { outcome, result, retain: Retain::None, tasks } => {
                good.change(hold, &Change::Settle { outcome, result, retain: Retain::Forever, tasks }).await
            }
            change => good.change(hold, &change).await,
        }
    }
}

#[async_trait]
impl<D: Database> Fault<D> for StartsEpochsAgain {
    async fn entry(&self, good: &Good<D>, key: KeyHash) -> Result<Option<Entry>, StoreError> {
        let mut entry = good.entry(key).await?;
        if let Some(entry) = &mut entry
            && entry.state == State::Absent
        {
            entry.epoch = Epoch::NONE;
        }
        Ok(entry)
    }
}

#[async_trait]
impl<D: Database> Fault<D> for FailureLosesSteps {
    async fn entry(&self, good: &Good<D>, key: KeyHash) -> Result<Option<Entry>, StoreError> {
        let mut entry = good.entry(key).await?;
        if let Some(entry) = &mut entry
            && entry.state == State::Failed
        {
            entry.steps.clear();
        }
        Ok(entry)
    }

    async fn take_over(
        &self,
        good: &Good<D>,
        claim: &LeaseClaim<'_>,
        found: &Entry,
    ) -> Result<Option<Vec<StepRecord>>, StoreError> {
        let taken = good.take_over(claim, found).await?;
        Ok(taken.map(|steps| if found.state == State::Failed { Vec::new() } else { steps }))
    }
}

#[async_trait]
impl<D: Database> Fault<D> for ForgetsTheStep {
    async fn commit_step(
        &self,
        _: &Good<D>,
        tx: Box<dyn StoreTx<D>>,
        _: &Hold,
        _: &TxStep<'_>,
    ) -> Result<Held, StoreError> {
        tx.commit(None).await.map(|_| Held::Yes)
    }
}

#[async_trait]
impl<D: Database> Fault<D> for StepsAfterwards {
    async fn commit_step(
        &self,
        good: &Good<D>,
        tx: Box<dyn StoreTx<D>>,
        hold: &Hold,
        step: &TxStep<'_>,
    ) -> Result<Held, StoreError> {
        tx.commit(None).await?;
        super::linger().await;
        good.change(hold, &Change::EndStep { seq: step.seq, name: step.name, result: step.result }).await
    }
}

#[async_trait]
impl<D: Database> Fault<D> for HidesAtomicRecords {
    async fn claim(&self, good: &Good<D>, claim: &LeaseClaim<'_>) -> Result<Claimed, StoreError> {
        Ok(match good.claim(claim).await? {
            Claimed::Found(found) if found.epoch == Epoch::NONE => Claimed::New,
            claimed => claimed,
        })
    }
}

#[async_trait]
impl<D: Database> Fault<D> for HidesRunsFromAtomicJobs {
    async fn read(&self, good: &Good<D>, key: KeyHash) -> Result<Option<Record>, StoreError> {
        Ok(good.read(key).await.unwrap_or(None))
    }

    async fn begin(&self, good: &Good<D>, claim: &Claim<'_>) -> Result<Begun<D>, StoreError> {
        match good.begin(claim).await {
            Err(error) if error.kind() == StoreErrorKind::Refused => {
                good.begin(&Claim { records: false, ..*claim }).await
            }
            begun => begun,
        }
    }
}

#[async_trait]
impl<D: Database> Fault<D> for ClaimsThenNames {
    async fn claim(&self, good: &Good<D>, claim: &LeaseClaim<'_>) -> Result<Claimed, StoreError> {
        let nobody = LeaseClaim { token: Token(0), ..*claim };
        match good.claim(&nobody).await? {
            Claimed::New => {}
            found => return Ok(found),
        }
        super::linger().await;
        good.change(&nobody.hold(), &Change::Fail { trouble: b"" }).await?;
        match good.entry(claim.key.hash()).await? {
            Some(found) => good.take_over(claim, &found).await.map(|_| Claimed::New),
            None => Ok(Claimed::New),
        }
    }
}

#[async_trait]
impl<D: Database> Fault<D> for NeverWakes {
    async fn watch(&self, _: &Good<D>, _: KeyHash) -> Result<Option<Box<dyn Watch>>, StoreError> {
        Ok(Some(Box::new(NeverWakes)))
    }
}

#[async_trait]
impl Watch for NeverWakes {
    async fn changed(&mut self) {
        std::future::pending().await
    }
}

#[async_trait]
impl<D: Database> Fault<D> for ResolvesAnyEpoch {
    async fn resolve(&self, good: &Good<D>, resolve: &Resolve<'_>) -> Result<bool, StoreError> {
        let epoch = good.entry(resolve.key).await?.map_or(resolve.epoch, |entry| entry.epoch);
        good.resolve(&Resolve { epoch, ..*resolve }).await
    }
}

#[async_trait]
impl<D: Database> Fault<D> for ResolvesAsFailed {
    async fn resolve(&self, good: &Good<D>, resolve: &Resolve<'_>) -> Result<bool, StoreError> {
        good.resolve(&Resolve { state: State::Failed, ..*resolve }).await
    }
}

#[async_trait]
impl<D: Database> Fault<D> for ResolvesNoStep {
    async fn resolve(&self, good: &Good<D>, resolve: &Resolve<'_>) -> Result<bool, StoreError> {
        good.resolve(&Resolve { step: None, ..*resolve }).await
    }
}

#[async_trait]
impl<D: Database> Fault<D> for ResolvesRecordedStepsOnly {
    async fn resolve(&self, good: &Good<D>, resolve: &Resolve<'_>) -> Result<bool, StoreError> {
        let steps = good.entry(resolve.key).await?.map(|entry| entry.steps).unwrap_or_default();
        let step = resolve.step.filter(|wanted| steps.iter().any(|step| step.seq == wanted.seq));
        good.resolve(&Resolve { step, ..*resolve }).await
    }
}

#[async_trait]
impl<D: Database> Fault<D> for KeepsNoAudit {
    async fn audit(&self, _: &Good<D>, _: KeyHash) -> Result<Vec<AuditRow>, StoreError> {
        Ok(Vec::new())
    }
}

#[async_trait]
impl<D: Database> Fault<D> for ResolvesForAnybody {
    async fn resolve(&self, good: &Good<D>, resolve: &Resolve<'_>) -> Result<bool, StoreError> {
        // Every key of the suite's is the first job's.
        good.resolve(&Resolve { job: JobId(1), ..*resolve }).await
    }
}

#[async_trait]
impl<D: Database> Fault<D> for ForgetsAnyEpoch {
    async fn forget(&self, good: &Good<D>, forget: &Forget<'_>) -> Result<bool, StoreError> {
        let epoch = good.entry(forget.key).await?.map_or(forget.epoch, |entry| entry.epoch);
        good.forget(&Forget { epoch, ..*forget }).await
    }
}

#[async_trait]
impl<D: Database> Fault<D> for ForgetsAnyState {
    async fn forget(&self, good: &Good<D>, forget: &Forget<'_>) -> Result<bool, StoreError> {
        let state = good.entry(forget.key).await?.map_or(forget.state, |entry| entry.state);
        good.forget(&Forget { state, ..*forget }).await
    }
}

#[async_trait]
impl<D: Database> Fault<D> for ForgetsNothing {
    async fn forget(&self, _: &Good<D>, _: &Forget<'_>) -> Result<bool, StoreError> {
        Ok(true)
    }
}
