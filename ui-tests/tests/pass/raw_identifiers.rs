use idem_runtime::prelude::*;
use idem_runtime::schedule::{Scheduled as _, Tick};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
pub struct r#Struct {
    r#fn: u8,
}

#[idempotent(key = (r#type, r#loop.r#fn), lock = row(r#match.r#type = r#type), fingerprint = ignore(r#loop))]
pub async fn r#match(r#try: &mut Tx<'_, Memory>, r#type: i64, r#loop: r#Struct) -> Result<i64, String> {
    let _ = r#try.idempotency_key();
    Ok(r#type + i64::from(r#loop.r#fn))
}

#[idempotent(key = r#type, in_doubt = rerun, adopt(error if error.is_empty() => r#type + i64::from(r#try.attempt())))]
pub async fn r#while(r#try: &mut Run<'_, Memory>, r#type: i64) -> Result<i64, String> {
    let r#loop = 2;
    r#try.step("loop", async |_| Ok(r#type + r#loop)).await
}

#[idempotent(key = (r#type, r#loop.r#fn), unique = keep_latest, unique_by(queue = (r#type, r#loop.r#fn), run = r#type))]
pub async fn r#yield(_: &mut Tx<'_, Memory>, r#type: i64, r#loop: r#Struct) -> Result<i64, String> {
    Ok(r#type + i64::from(r#loop.r#fn))
}

#[idempotent(key = r#in, schedule = "0 3 * * *")]
pub async fn r#for(_: &mut Tx<'_, Memory>, r#in: Tick) -> Result<i64, String> {
    Ok(r#in.unix())
}

fn main() {
    use idem_runtime::Job as _;
    let job = Match { r#type: 1, r#loop: Struct { r#fn: 2 } };
    assert_eq!(job.key().unwrap().readable(), "1, 2");
    assert_eq!(Match::SPEC.name, "match");
    assert_eq!(
        Match::SPEC.lock,
        idem_runtime::job::Lock::BusinessRow { table: "match", column: "type" }
    );
    let job = Yield { r#type: 1, r#loop: Struct { r#fn: 2 } };
    assert_eq!(job.queue_key().unwrap().readable(), "1, 2");
    assert_eq!(job.run_key().unwrap().unwrap().readable(), "1");
    assert_eq!(For::at(Tick::from_unix(7)).r#in.unix(), 7);
    let _ = |idem: &Idem<Memory>, r#loop| drop(r#match(idem, 1, r#loop));
    let _ = |idem: &Idem<Memory>| drop(r#while(idem, 1));
}
