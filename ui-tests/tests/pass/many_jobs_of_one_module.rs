use idem_runtime::prelude::*;

/// Names that an expansion could use itself.
pub struct Body;
pub struct State;
pub struct Fields;
pub type Arg = u8;

#[idempotent(key = (idem, state))]
async fn first(tx: &mut Tx<'_, Memory>, idem: i64, state: i64, error: i64, value: i64) -> Result<i64, String> {
    let _ = tx.idempotency_key();
    Ok(idem + state + error + value)
}

#[idempotent(key = tx, adopt(error if error == "twice" => tx + key))]
async fn second(transaction: &mut Tx<'_, Memory>, tx: i64, key: i64, serializer: i64) -> Result<i64, String> {
    let _ = (transaction.idempotency_key(), key, serializer);
    if tx == 0 { Err(String::from("twice")) } else { Ok(tx) }
}

#[idempotent(key = body, name = "third.v2", job = Third2)]
async fn third(_: &mut Tx<'_, Memory>, body: Arg, result: u8, adopted: u8, bytes: u8) -> Result<u8, String> {
    Ok(body + result + adopted + bytes)
}

#[idempotent(key = global, lock = none, retain = forever)]
async fn fourth(_: &mut Tx<'_, Memory>) -> Result<(), String> {
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let idem = Idem::memory().build().unwrap();
    assert_eq!(*first(&idem, 1, 2, 3, 4).await.unwrap(), 10);
    let adopted = second(&idem, 0, 7, 1).await.unwrap();
    assert!(adopted.is_adopted());
    assert_eq!(*adopted, 7);
    assert_eq!(*idem.run(Third2 { body: 1, result: 2, adopted: 3, bytes: 4 }).await.unwrap(), 10);
    assert_eq!(Third2::SPEC.name, "third.v2");
    assert!(fourth(&idem).await.unwrap().is_executed());
    assert!(idem.run(Fourth {}).await.unwrap().is_replayed());
}
