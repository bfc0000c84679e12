//! A scenario whose job and state are forgotten: what the plans see of it. So they are compiled once for a database,
//! and not for every job that is checked.

use std::any::Any;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use idem_runtime::fingerprint::Fingerprint;
use idem_runtime::job::{JobOutput, JobSpec, Lock};
use idem_runtime::key::KeyParts;
use idem_runtime::store::Store;
use idem_runtime::{Done, Error, Idem, Job, RunOn, codec};

use crate::check::Trouble;
use crate::lab::LabDatabase;
use crate::scenario::{Scenario, Settings};
use crate::trial::Trial;
use crate::world::{Answer, Ended, REJECTED};

/// The state of a trial.
pub(crate) type State = Box<dyn Any + Send + Sync>;

/// A run of the job that has not begun.
pub(crate) type Run = Pin<Box<dyn Future<Output = Ended> + Send>>;

/// What is checked.
#[async_trait(?Send)]
pub(crate) trait Subject<D: LabDatabase> {
    fn settings(&self) -> &Settings<D>;

    fn spec(&self) -> JobSpec;

    /// Tells whether runs of the job hold their key by a lease.
    fn is_leased(&self) -> bool {
        matches!(self.spec().lock, Lock::Lease(_))
    }

    fn key(&self) -> Result<KeyParts, Trouble>;

    fn fingerprint(&self) -> Result<Fingerprint, Trouble>;

    /// Makes the state of a trial.
    fn state(&self, trial: &Trial<D>) -> State;

    /// Returns the names of the observers.
    fn observers(&self) -> Vec<String>;

    /// Counts the effects outside the database, by observer.
    async fn effects(&self, state: &State) -> Vec<u64>;

    /// Returns the names of the services that can fail.
    fn outages(&self) -> Vec<String>;

    /// Lets the next call to a service fail, by number.
    async fn fail_once(&self, state: &State, outage: usize);

    /// Makes somebody who runs the job on a store.
    fn runner(&self, state: &State, store: Arc<dyn Store<D>>) -> Result<Box<dyn Runner>, Trouble>;
}

/// Somebody who runs the job of a scenario.
pub(crate) trait Runner: Send + Sync {
    fn start(&self) -> Run;
}

#[async_trait(?Send)]
impl<J, D, S> Subject<D> for Scenario<J, D, S>
where
    J: RunOn<D, S>,
    D: LabDatabase,
    S: Send + Sync + 'static,
{
    fn settings(&self) -> &Settings<D> {
        &self.settings
    }

    fn spec(&self) -> JobSpec {
        J::SPEC
    }

    fn key(&self) -> Result<KeyParts, Trouble> {
        (self.make)().key().map_err(|error| Trouble::CleanRun(error.to_string()))
    }

    fn fingerprint(&self) -> Result<Fingerprint, Trouble> {
        (self.make)().fingerprint().map_err(|error| Trouble::Store(error.to_string()))
    }

    fn state(&self, trial: &Trial<D>) -> State {
        Box::new((self.state)(trial))
    }

    fn observers(&self) -> Vec<String> {
        self.observers.iter().map(|observer| observer.name.clone()).collect()
    }

    async fn effects(&self, state: &State) -> Vec<u64> {
        let mut effects = Vec::new();
        for observer in &self.observers {
            effects.push((observer.run)(own(state)).await);
        }
        effects
    }

    fn outages(&self) -> Vec<String> {
        self.outages.iter().map(|outage| outage.name.clone()).collect()
    }

    async fn fail_once(&self, state: &State, outage: usize) {
        (self.outages[outage].run)(own(state)).await;
    }

    fn runner(&self, state: &State, store: Arc<dyn Store<D>>) -> Result<Box<dyn Runner>, Trouble> {
        let state: &S = own(state);
        let idem =
            Idem::with_store(store).state((self.worker_state)(state)).build().map_err(Trouble::store)?;
        Ok(Box::new(Runs { make: Arc::clone(&self.make), idem: Arc::new(idem) }))
    }
}

/// Finds the state of a scenario again.
fn own<S: 'static>(state: &State) -> &S {
    state.downcast_ref().expect("a trial's state is of its scenario")
}

struct Runs<J, D: LabDatabase, S> {
    make: Arc<dyn Fn() -> J + Send + Sync>,
    idem: Arc<Idem<D, S>>,
}

impl<J, D, S> Runner for Runs<J, D, S>
where
    J: RunOn<D, S>,
    D: LabDatabase,
    S: Send + Sync + 'static,
{
    fn start(&self) -> Run {
        let (job, idem) = ((self.make)(), Arc::clone(&self.idem));
        Box::pin(async move { ended::<J>(idem.run(job).await) })
    }
}

fn ended<J: Job>(returned: Result<Done<J::Output>, Error<J::Error>>) -> Ended {
    match &returned {
        Ok(done) => Ended::Answered(answer(done)),
        Err(Error::Busy(busy)) => Ended::Again(busy.to_string()),
        Err(Error::Drift(drift)) => Ended::Drifted(drift.to_string()),
        Err(Error::Parked(parked)) => Ended::Parked(parked.to_string()),
        Err(Error::Job(error)) => match J::final_error(error) {
            Some(Ok(bytes)) => {
                Ended::Answered(Answer { how: REJECTED, bytes, text: J::describe_error(error) })
            }
            Some(Err(why)) => Ended::Failed(why.to_string()),
            None => Ended::Failed(J::describe_error(error)),
        },
        Err(error) if error.is_retryable() => Ended::Again(error.text(J::describe_error)),
        Err(error) => Ended::Failed(error.text(J::describe_error)),
    }
}

fn answer<T: JobOutput>(done: &Done<T>) -> Answer {
    let value = (**done).itself();
    let how = match done {
        Done::Executed(_) => "executed",
        Done::Replayed(_) => "replayed",
        Done::Adopted(_) => "adopted",
    };
    Answer {
        how,
        // Equal values have equal bytes, maps included.
        bytes: codec::encode_canonical(value).unwrap_or_else(|error| error.to_string().into_bytes()),
        text: serde_json::to_string(value).unwrap_or_else(|_| String::from("a value that JSON cannot write")),
    }
}
