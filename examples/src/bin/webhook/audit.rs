//! What the database says, counted on a connection of its own.

use std::collections::HashSet;

use crate::events::Event;

/// What is in the database.
#[derive(Debug, Default)]
pub(crate) struct Counted {
    /// Rows of `webhook_events` that belong to the events of the input.
    pub(crate) effects: u64,
    /// Events of the input with more than one row.
    pub(crate) repeated: u64,
    /// The second effect of the job adds up to as many events as there are rows.
    pub(crate) totals_agree: bool,
    /// Deliveries in the log of this run of the program.
    pub(crate) logged: u64,
    /// Those of them that were answered from a record.
    pub(crate) duplicates: u64,
    /// Deliveries in the log whose original is not a row of the same event.
    pub(crate) without_original: u64,
}

/// Whether they are duplicates, deliveries in the log, and those of them whose original is there.
pub(crate) type LogRows = (bool, i64, i64);

impl Counted {
    /// Adds up rows of events by delivery, all rows and the sum of the totals, and the log.
    pub(crate) fn new(
        events: &[Event],
        rows: &[(String, i64)],
        (all_rows, all_totals): (i64, i64),
        log: &[LogRows],
    ) -> Counted {
        let ours: HashSet<&str> = events.iter().map(|event| event.webhook.delivery.as_str()).collect();
        let rows =
            || rows.iter().filter(|(delivery, _)| ours.contains(delivery.as_str())).map(|(_, rows)| *rows);
        let logged = || log.iter().map(|(_, deliveries, _)| *deliveries);
        let duplicates =
            || log.iter().filter(|(duplicate, ..)| *duplicate).map(|(_, deliveries, _)| *deliveries);
        let originals = || log.iter().map(|(_, _, originals)| *originals);
        Counted {
            effects: count(rows().sum()),
            repeated: count(rows().filter(|rows| *rows > 1).map(|_| 1).sum()),
            totals_agree: all_rows == all_totals,
            logged: count(logged().sum()),
            duplicates: count(duplicates().sum()),
            without_original: count(logged().sum::<i64>() - originals().sum::<i64>()),
        }
    }
}

fn count(number: i64) -> u64 {
    u64::try_from(number).expect("a database counts from zero")
}
