use std::time::Duration;

use idem_runtime::job::{Drift, InDoubt, JobSpec, Lock, OnBusy, Retain};
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

#[idempotent(key = id, on_busy = reschedule("5s"))]
async fn later(_: &mut Tx<'_, Memory>, id: i64) -> Result<i64, String> {
    Ok(id)
}

mod guarded {
    use idem_runtime::prelude::*;

    #[idempotent(key = id, lock = none, retain = none, check = look)]
    pub(crate) async fn by_a_check(_: &mut Tx<'_, Memory>, id: i64) -> Result<i64, String> {
        Ok(id)
    }

    async fn look(_: &mut Tx<'_, Memory>, _: &ByACheck) -> Result<Option<i64>, String> {
        Ok(None)
    }

    #[idempotent(key = id, lock = none, retain = none, adopt(text if text == "there" => id))]
    pub(crate) async fn by_an_error(_: &mut Tx<'_, Memory>, id: i64) -> Result<i64, String> {
        Ok(id)
    }

    #[idempotent(key = id, lock = none, retain = none, unique = until_executed)]
    pub(crate) async fn by_a_claim(_: &mut Tx<'_, Memory>, id: i64) -> Result<i64, String> {
        Ok(id)
    }
}

#[idempotent(key = id, in_doubt = rerun)]
async fn leased_defaults(id: i64) -> Result<i64, String> {
    Ok(id)
}

#[idempotent(key = id, in_doubt = probe = leased::look, lock = lease("300ms"), on_busy = reschedule("1m"), timeout = "1s")]
async fn leased_written(id: i64) -> Result<i64, String> {
    Ok(id)
}

#[idempotent(key = id, in_doubt = park)]
async fn steps_defaults(_: &mut Run<'_, Memory>, id: i64) -> Result<i64, String> {
    Ok(id)
}

#[idempotent(key = id, in_doubt = rerun, drift = park, retain = forever, replay(_), adopt(text if text == "x" => id))]
async fn steps_written(_: &mut Run<'_, Memory>, id: i64) -> Result<i64, String> {
    Ok(id)
}

mod leased {
    pub(crate) async fn look(_: &crate::LeasedWritten) -> Result<Option<i64>, String> {
        Ok(None)
    }
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

    assert_eq!(Later::SPEC, JobSpec::new("later").on_busy(OnBusy::Reschedule(Duration::from_secs(5))));

    for spec in [guarded::ByACheck::SPEC, guarded::ByAnError::SPEC, guarded::ByAClaim::SPEC] {
        assert_eq!((spec.lock, spec.retain), (Lock::None, Retain::None));
    }

    assert_eq!(LeasedDefaults::SPEC, JobSpec::leased("leased_defaults"));
    let written = JobSpec::leased("leased_written")
        .lock(Lock::Lease(Duration::from_millis(300)))
        .in_doubt(InDoubt::Probe)
        .on_busy(OnBusy::Reschedule(Duration::from_secs(60)))
        .timeout(Duration::from_secs(1));
    assert_eq!(LeasedWritten::SPEC, written);

    assert_eq!(StepsDefaults::SPEC, JobSpec::leased("steps_defaults").steps().in_doubt(InDoubt::Park));
    // There is no transaction to undo when an error is adopted or replayed.
    let written = JobSpec::leased("steps_written").steps().drift(Drift::Park).retain(Retain::Forever);
    assert_eq!(StepsWritten::SPEC, written);
}
