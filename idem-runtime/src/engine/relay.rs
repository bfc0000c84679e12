//! Takes tasks out of the outbox into the tables of an engine in the same database.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tracing::{debug, warn};

use super::{ATTEMPTS, Enqueued, Prepared, PushError, Queue, TaskId, claim_key, payload, queue_name};
use crate::codec;
use crate::error::{ArgsError, StoreError, StoreErrorKind};
use crate::idem::Enrolled;
use crate::job::{Job, Unique};
use crate::key::Key;
use crate::store::{Database, Engine, OFFERS, TaskRow};

/// How many tasks are looked at together.
const BATCH: u32 = 100;

/// How long a relay waits where there is nothing to take.
const PAUSE: Duration = Duration::from_millis(200);

/// Takes the tasks that jobs have enqueued, with [`Tx::enqueue`](crate::Tx::enqueue) or [`Run::enqueue`](crate::Run::enqueue), out of
/// the outbox into the engine of a [`Queue`].
///
/// Each is taken out and put there in one transaction, oldest first, so any number of relays may run, and die, at any
/// time. Made by [`Queue::relay`].
#[must_use = "a relay does nothing until it runs"]
pub struct Relay<D: Database, S = ()> {
    queue: Queue<D, S>,
    routes: HashMap<&'static str, Route>,
    /// The rows of which it was told that they are left.
    told: Mutex<HashSet<i64>>,
}

struct Route {
    enrolled: Arc<Enrolled>,
    prepare: fn(&str, Engine, Arc<Enrolled>, &TaskRow) -> Result<Prepared, PushError>,
}

/// What a relay has done.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Relayed {
    /// How many tasks it has taken to the engine.
    pub moved: u64,
    /// How many it has taken out of the outbox since another task has their unique claim, or their work is done.
    pub duplicates: u64,
    /// How many it has left, by the name of their job: no [`route`](Relay::route) is known for it, or they cannot be read.
    pub left: BTreeMap<String, u64>,
}

impl<D: Database, S> Queue<D, S> {
    /// Makes a relay from the outbox to this queue's engine.
    pub fn relay(&self) -> Relay<D, S> {
        Relay { queue: self.clone(), routes: HashMap::new(), told: Mutex::default() }
    }
}

impl<D: Database, S> fmt::Debug for Relay<D, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut jobs: Vec<_> = self.routes.keys().collect();
        jobs.sort();
        f.debug_struct("Relay").field("queue", &self.queue).field("jobs", &jobs).finish()
    }
}

impl<D: Database, S> Relay<D, S> {
    /// Lets the relay take tasks of this job.
    ///
    /// # Errors
    ///
    /// The job cannot be [enrolled](crate::Idem::enrol), the engine is the outbox itself, or it is not
    /// [set up](Queue::set_up) for a unique job.
    pub async fn route<J: Job>(mut self) -> Result<Self, StoreError> {
        if self.queue.engine == Engine::Outbox {
            let text = "a relay takes tasks out of the outbox, and this queue is the outbox itself: make it of `idem.queue(Engine::Apalis)`, \
                        or use `Idem::relay` for an engine that is not in this database";
            return Err(StoreError::new(StoreErrorKind::Misconfigured, text));
        }
        let enrolled = self.queue.idem.enrolled::<J>().await?;
        if J::SPEC.unique.is_some_and(Unique::in_queue) {
            self.queue.idem.check_prepared(self.queue.engine).await?;
        }
        self.routes.insert(J::SPEC.name, Route { enrolled, prepare: prepare::<J> });
        Ok(self)
    }

    /// Takes all tasks whose time has come.
    ///
    /// A task of a job without a route stays, and holds nobody up; so does one that cannot be read. Each is logged once.
    ///
    /// # Errors
    ///
    /// The store could not do its part; what was taken before stays taken.
    pub async fn run_once(&self) -> Result<Relayed, StoreError> {
        let mut relayed = Relayed::default();
        let mut after = i64::MIN;
        let namespace = self.queue.idem.namespace();
        loop {
            let rows = self.queue.idem.store().tasks(namespace, after, BATCH).await?;
            let Some(last) = rows.last() else { break };
            after = last.number;
            for mut row in rows {
                for _ in 0..OFFERS {
                    if self.take(&row, &mut relayed).await? {
                        break;
                    }
                    // Another relay was faster, or it has got other arguments meanwhile.
                    let rows = self.queue.idem.store().tasks(namespace, row.number - 1, 1).await?;
                    match rows.into_iter().next() {
                        Some(changed) if changed.number == row.number => row = changed,
                        _ => break,
                    }
                }
            }
        }
        Ok(relayed)
    }

    /// Takes tasks until it is dropped, and goes on after errors, which are logged.
    pub async fn run(self) {
        loop {
            match self.run_once().await {
                Ok(relayed) if relayed.moved + relayed.duplicates > 0 => {
                    debug!(moved = relayed.moved, duplicates = relayed.duplicates, "relayed");
                }
                Ok(_) => {}
                Err(error) => warn!(%error, "relaying failed; trying again"),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Takes a task, or leaves it; tells whether it was there as it was read.
    async fn take(&self, row: &TaskRow, relayed: &mut Relayed) -> Result<bool, StoreError> {
        let job = &row.task.job;
        let mut leave = |why: &dyn fmt::Display| {
            *relayed.left.entry(job.clone()).or_default() += 1;
            if self.told.lock().unwrap_or_else(PoisonError::into_inner).insert(row.number) {
                warn!(job, number = row.number, key = row.task.key, hash = %row.task.id, %why, "a task of the outbox is left");
            }
        };
        let Some(route) = self.routes.get(job.as_str()) else {
            leave(&"the relay has no route for its job");
            return Ok(true);
        };
        let idem = &self.queue.idem;
        let prepared = (route.prepare)(idem.namespace(), self.queue.engine, Arc::clone(&route.enrolled), row);
        let task = match prepared {
            Ok(task) => task,
            Err(error) => {
                leave(&error);
                return Ok(true);
            }
        };
        let push = task.push(idem.namespace());
        let Some(pushed) = idem.store().push(None, self.queue.engine, &[push]).await?.pop() else {
            return Ok(true);
        };
        match self.queue.answer(None, &task, pushed).await {
            Ok(Some(Enqueued::Duplicate { .. } | Enqueued::AlreadyDone)) => relayed.duplicates += 1,
            Ok(Some(_)) => relayed.moved += 1,
            Ok(None) => return Ok(false),
            Err(PushError::Store(error)) => return Err(error),
            // Its row has ended; nobody is there to be told.
            Err(error) => {
                warn!(job, key = row.task.key, hash = %row.task.id, %error, "a task of the outbox was not enqueued");
                relayed.duplicates += 1;
            }
        }
        Ok(true)
    }
}

/// Makes a task of the outbox ready for an engine.
fn prepare<J: Job>(
    namespace: &str,
    engine: Engine,
    enrolled: Arc<Enrolled>,
    row: &TaskRow,
) -> Result<Prepared, PushError> {
    let refuse = |reason| ArgsError { job: J::SPEC.name, reason };
    let job: J = codec::decode(&row.task.payload).map_err(|error| refuse(error.into()))?;
    let parts = job.key().map_err(|error| refuse(error.into()))?;
    // One that is to take its claim as it starts must not take it now.
    let claim = match row.unclaimed {
        Some(_) => None,
        None => claim_key(namespace, &job)?,
    };
    Ok(Prepared {
        id: row.id.unwrap_or_else(|| TaskId::of_outbox(row.task.id, row.number)),
        spec: const { &J::SPEC },
        queue: queue_name(namespace, J::SPEC.name),
        enrolled,
        key: Key::new(namespace, J::SPEC.name, &parts),
        fingerprint: job.fingerprint().map_err(|error| refuse(error.into()))?,
        payload: payload(engine, &job)?,
        claim,
        after: Duration::ZERO,
        priority: row.priority,
        attempts: row.attempts.unwrap_or(ATTEMPTS),
        unclaimed: row.unclaimed,
        outbox: Some((row.number, row.task.payload.clone())),
    })
}
