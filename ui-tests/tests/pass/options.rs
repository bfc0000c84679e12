use std::time::Duration;

use idem_runtime::job::{JobSpec, Lock, OnBusy, Retain};
use idem_runtime::prelude::*;
use idem_runtime::store::RowValue;

#[idempotent(key = id)]
async fn defaults(_: &mut Tx<'_, Memory>, id: i64) -> Result<i64, String> {
    Ok(id)
}

#[idempotent(
    key = id,
    name = "billing.charge:v2-a_b",
    lock = row(billing.payments.id = id),
    on_busy = wait("1m30s"),
    retain = "2w1d",
    timeout = "250ms",
    replay(_),
)]
async fn written(_: &mut Tx<'_, Memory>, id: i64) -> Result<i64, String> {
    Ok(id)
}

#[idempotent(key = id, lock = advisory, on_busy = skip, retain = forever, adopt(text if text == "x" => id))]
async fn words(_: &mut Tx<'_, Memory>, id: i64) -> Result<i64, String> {
    Ok(id)
}

#[idempotent(key = id, job = SyncJob, lock = row(users.name = name), on_busy = error, retain = none)]
async fn sync(_: &mut Tx<'_, Memory>, id: i64, name: String) -> Result<i64, String> {
    drop(name);
    Ok(id)
}

fn main() {
    assert_eq!(Defaults::SPEC, JobSpec::new("defaults"));
    assert_eq!(Defaults { id: 1 }.row(), None);

    let JobSpec { name, lock, on_busy, retain, timeout, undo, .. } = Written::SPEC;
    assert_eq!(name, "billing.charge:v2-a_b");
    assert_eq!(lock, Lock::BusinessRow { table: "billing.payments", column: "id" });
    assert_eq!(on_busy, OnBusy::Wait(Duration::from_secs(90)));
    assert_eq!(retain, Retain::For(Duration::from_secs(15 * 86_400)));
    assert_eq!(timeout, Some(Duration::from_millis(250)));
    assert!(undo);
    assert_eq!(Written { id: 7 }.row(), Some(RowValue::Int(7)));

    let words = JobSpec::new("words").lock(Lock::Advisory).on_busy(OnBusy::Skip).retain(Retain::Forever).undo();
    assert_eq!(Words::SPEC, words);

    let lock = Lock::BusinessRow { table: "users", column: "name" };
    assert_eq!(SyncJob::SPEC, JobSpec::new("sync").lock(lock).on_busy(OnBusy::Error).retain(Retain::None));
    assert_eq!(SyncJob { id: 1, name: String::from("n") }.row(), Some(RowValue::Text(String::from("n"))));
}
