//! Traits of the user's, for every type, whose methods are called as those in generated code.

use idem_runtime::prelude::*;

trait Everything {
    fn run(&self) {}
    fn text(&self) {}
    fn undo(&self) {}
    fn step(&self) {}
    fn provide(&self) {}
    fn into_result(&self) {}
    fn map_err(&self) {}
    fn arg(&self) {}
    fn finish(&self) {}
    fn write(&self) {}
}

impl<T> Everything for T {}

enum Failure {
    Duplicate,
}

/// What is adopted may be asked of the transaction, and of what the transaction says of itself.
#[idempotent(
    key = (id, note.len()),
    adopt(Failure::Duplicate if id == 1 => format!("{note} {}", tx.idempotency_key().is_empty())),
    adopt(Failure::Duplicate => found(tx, id).await?),
)]
async fn charge(tx: &mut Tx<'_, Memory>, id: i64, note: String, #[state] _limit: &u8) -> Result<String, Failure> {
    let _ = (tx, id, note);
    Err(Failure::Duplicate)
}

async fn found(_: &mut Tx<'_, Memory>, id: i64) -> Result<String, Failure> {
    Ok(format!("found {id}"))
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let idem = Idem::memory().state(7_u8).build().unwrap();
    assert_eq!(*charge(&idem, 1, "a".into()).await.ok().unwrap(), "a false");
    assert_eq!(*charge(&idem, 2, "b".into()).await.ok().unwrap(), "found 2");
    assert!(idem.run(Charge { id: 2, note: "b".into() }).await.ok().unwrap().is_replayed());
}
