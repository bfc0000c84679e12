//! Runs the laws against a store.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use idem_runtime::store::Database;

use super::fixture::{Ability, BoxError, Fixture, Harness};
use super::laws;
use super::report::{Report, ReportedCase, Verdict};
use super::trial::Trial;

/// Runs all laws against the store of `harness`, one after the other.
pub async fn run<H: Harness>(harness: H) -> Report {
    Suite::default().run(harness).await
}

/// The suite, with its settings.
#[derive(Debug, Clone)]
#[must_use]
pub struct Suite {
    time_limit: Duration,
}

impl Default for Suite {
    fn default() -> Self {
        Suite { time_limit: Duration::from_secs(60) }
    }
}

impl Suite {
    /// Limits the time of each case, 60 seconds if it is not set; a case that takes longer fails.
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.time_limit = limit;
        self
    }

    /// Runs all laws against the store of `harness`, one after the other.
    ///
    /// It needs tokio's runtime, of either flavour, and spawns tasks on it.
    pub async fn run<H: Harness>(&self, harness: H) -> Report {
        let mut cases = Vec::new();
        for law in laws::all::<H::Db>() {
            let started = Instant::now();
            let verdict = match law.needs.iter().find_map(|ability| harness.lacks(*ability)) {
                Some(reason) => Verdict::Skipped(reason.to_owned()),
                None => match self.check(&harness, &law).await {
                    Ok(()) => Verdict::Passed,
                    Err(why) => Verdict::Failed(why.to_string()),
                },
            };
            cases.push(ReportedCase { name: law.name, law: law.says, verdict, took: started.elapsed() });
        }
        Report { store: harness.name(), cases }
    }

    async fn check<H: Harness>(&self, harness: &H, law: &Law<H::Db>) -> Result<(), BoxError> {
        let hung = |doing: &str| format!("hung: {doing} did not end within {:?}", self.time_limit);
        let fixture: Arc<dyn Fixture<H::Db>> = tokio::time::timeout(self.time_limit, harness.open())
            .await
            .map_err(|_| hung("opening the database"))?
            .map_err(|error| format!("the database could not be opened: {error}"))?;
        // In a task of its own, so that a panic is this case's failure and no more.
        let mut task = tokio::spawn((law.check)(Trial::new(
            Arc::clone(&fixture),
            harness.lacks(Ability::BusyToldApart),
        )));
        let outcome = match tokio::time::timeout(self.time_limit, &mut task).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(panic)) => Err(panicked(panic)),
            Err(_) => {
                task.abort();
                Err(hung("the case").into())
            }
        };
        let closed = tokio::time::timeout(self.time_limit, fixture.close()).await;
        outcome?;
        closed
            .map_err(|_| hung("closing the database"))?
            .map_err(|error| format!("closing failed: {error}").into())
    }
}

fn panicked(error: tokio::task::JoinError) -> BoxError {
    let payload = match error.try_into_panic() {
        Ok(payload) => payload,
        Err(error) => return error.into(),
    };
    let text = payload.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("with no text");
    format!("panicked: {text}").into()
}

/// One law and how it is checked.
pub(super) struct Law<D: Database> {
    pub(super) name: &'static str,
    pub(super) says: &'static str,
    pub(super) needs: &'static [Ability],
    pub(super) check: fn(Trial<D>) -> Checking,
}

/// A check under way.
pub(super) type Checking = Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send>>;
