//! The jobs under test. Each works at the [`Desk`], by `id`; `note` tells one task of an id from another.

use std::collections::HashSet;

use idem_runtime::prelude::*;

use crate::desk::{Desk, Refusal};

/// Defines a leased job that leaves no record, so that it may be done again.
macro_rules! jobs {
    ($($name:ident($($option:tt)*);)*) => {$(
        #[idempotent(in_doubt = rerun, $($option)*)]
        pub(crate) async fn $name(id: i64, note: i64, #[state] desk: &Desk) -> Result<i64, Refusal> {
            desk.work(id, note).await
        }
    )*};
}

jobs! {
    any_number(key = (id, note), retain = none);
    until_start(key = (id, note), retain = none, unique = until_executing, unique_by = id);
    until_start_of_a_key(key = id, retain = none, unique = until_executing);
    until_end(key = id, retain = none, unique = until_executed);
    until_end_or_error(key = id, retain = none, unique = until_executed, on_duplicate = error);
    until_end_or_replace(key = id, retain = none, unique = until_executed, on_duplicate = replace);
    until_end_or_later(key = (id, note), retain = none, unique = until_executed, unique_by = id, on_duplicate = reschedule("1s"));
    in_an_hour(key = (id, note), retain = none, unique = until_expired("1h"), unique_by = id);
    in_a_second(key = (id, note), retain = none, unique = until_expired("1s"), unique_by = id);
    one_at_a_time(key = (id, note), retain = none, unique = while_executing, unique_by = id, on_busy = reschedule("1s"));
    one_at_a_time_or_wait(key = (id, note), retain = none, unique = while_executing, unique_by = id, on_busy = wait("30s"));
    one_each(key = (id, note), retain = none, unique = until_and_while_executing, unique_by = id, on_busy = reschedule("1s"));
    each_by_its_own(key = (id, note), retain = none, unique = until_and_while_executing,
        unique_by(queue = (id, note), run = id), on_busy = reschedule("1s"));
    latest(key = (id, note), retain = none, unique = keep_latest, unique_by = id, on_busy = reschedule("1s"));
    recorded(key = id, fingerprint = none, unique = until_executed);
    skipping(key = id, fingerprint = none, unique = until_executed, on_busy = skip);
    final_error(key = id, fingerprint = none, unique = until_executed, replay(Refusal::Final));
}

/// Its arguments are compared.
#[idempotent(key = id, unique = until_executed, in_doubt = rerun)]
pub(crate) async fn compared(id: i64, note: i64, #[state] desk: &Desk) -> Result<i64, Refusal> {
    desk.work(id, note).await
}

/// Its arguments are compared at first.
#[idempotent(key = id, name = "priced", in_doubt = rerun)]
pub(crate) async fn priced(id: i64, note: i64, #[state] desk: &Desk) -> Result<i64, Refusal> {
    desk.work(id, note).await
}

/// And no more in the next version of the program.
#[idempotent(key = id, name = "priced", fingerprint = none, in_doubt = rerun)]
pub(crate) async fn priced_anyhow(id: i64, note: i64, #[state] desk: &Desk) -> Result<i64, Refusal> {
    desk.work(id, note).await
}

/// Its arguments are compared, and of types of which JSON does not carry every value.
#[idempotent(key = id, in_doubt = rerun)]
pub(crate) async fn weighed(
    id: i64,
    weight: f64,
    limit: Option<Option<i64>>,
    #[state] desk: &Desk,
) -> Result<i64, Refusal> {
    let _ = (weight, limit);
    desk.work(id, 0).await
}

/// It shows its argument in another order each time.
#[idempotent(key = id, fingerprint = none, in_doubt = rerun)]
pub(crate) async fn tagged(id: i64, tags: HashSet<String>, #[state] desk: &Desk) -> Result<i64, Refusal> {
    desk.work(id, i64::try_from(tags.len()).unwrap()).await
}

/// Its key may be empty.
#[idempotent(key = name, in_doubt = rerun)]
pub(crate) async fn named(name: String, #[state] desk: &Desk) -> Result<i64, Refusal> {
    desk.work(i64::try_from(name.len()).unwrap(), 0).await
}

/// The same, and its claim has the key.
#[idempotent(key = name, unique = until_executed, in_doubt = rerun)]
pub(crate) async fn named_once(name: String, #[state] desk: &Desk) -> Result<i64, Refusal> {
    desk.work(i64::try_from(name.len()).unwrap(), 0).await
}
