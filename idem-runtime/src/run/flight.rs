//! Single flight: of the runs of one key inside this process, one goes to the store.
//!
//! The others wait for its record here, without a connection and without polling.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::key::KeyHash;
use crate::record::Record;

/// The runs that are under way in this process.
#[derive(Debug, Default)]
pub(crate) struct Flights {
    /// By key, and where somebody waits for the record, how it is told.
    under_way: Mutex<HashMap<KeyHash, Option<Landing>>>,
}

type Landing = watch::Sender<Option<Arc<Record>>>;

/// A run's place.
pub(crate) enum Seat<'a> {
    /// This run goes to the store.
    Pilot(Pilot<'a>),
    /// Another run of the key is under way.
    Passenger(Passenger),
}

impl Flights {
    pub(crate) fn board(&self, key: KeyHash) -> Seat<'_> {
        match self.lock().entry(key) {
            Entry::Occupied(mut flight) => {
                let landing = flight.get_mut().get_or_insert_with(|| watch::Sender::new(None));
                Seat::Passenger(Passenger(landing.subscribe()))
            }
            Entry::Vacant(place) => {
                place.insert(None);
                Seat::Pilot(Pilot { flights: self, key: Some(key) })
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<KeyHash, Option<Landing>>> {
        // The map is whole between any two statements, so a panic elsewhere does not matter.
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The run that goes to the store. Dropping it, however that happens, lets another one go.
pub(crate) struct Pilot<'a> {
    flights: &'a Flights,
    /// The key, until the flight has ended.
    key: Option<KeyHash>,
}

impl Pilot<'_> {
    /// Ends the flight with the record that it led to, for everybody who waits.
    pub(crate) fn land(mut self, record: Record) {
        if let Some(landing) = self.end() {
            // Nobody may be left to receive it by now, which is as good.
            let _ = landing.send(Some(Arc::new(record)));
        }
    }

    fn end(&mut self) -> Option<Landing> {
        self.key.take().and_then(|key| self.flights.lock().remove(&key)).flatten()
    }
}

impl Drop for Pilot<'_> {
    fn drop(&mut self) {
        self.end();
    }
}

/// A run that waits for the record of another.
pub(crate) struct Passenger(watch::Receiver<Option<Arc<Record>>>);

impl Passenger {
    /// Waits for the end of the flight; `None` if it led to no record.
    pub(crate) async fn landing(mut self) -> Option<Arc<Record>> {
        // An error says that the pilot is gone without a record.
        self.0.wait_for(Option::is_some).await.ok().and_then(|record| record.clone())
    }
}
