use idem_runtime::prelude::*;

#[idempotent(key = id)]
async fn all(_: &mut Tx<'_, Memory>, id: i64, amount: u32, note: String) -> Result<(i64, u32, String), String> {
    Ok((id, amount, note))
}

#[idempotent(key = id, fingerprint = ignore(note))]
async fn some(_: &mut Tx<'_, Memory>, id: i64, amount: u32, note: String) -> Result<(i64, u32, String), String> {
    Ok((id, amount, note))
}

#[idempotent(key = id, fingerprint = none)]
async fn none(_: &mut Tx<'_, Memory>, id: i64, amount: u32, note: String) -> Result<(i64, u32, String), String> {
    Ok((id, amount, note))
}

// What an unfinished run of it has taken steps for is compared, even if nothing is kept of one that has ended.
#[idempotent(key = id, in_doubt = rerun, retain = none, fingerprint = ignore(note))]
async fn in_steps(run: &mut Run<'_, Memory>, id: i64, amount: u32, note: String) -> Result<(), String> {
    run.tx_step("pay", async |tx| Ok::<_, String>(tx.set("paid", amount.to_string()))).await?;
    if note == "a" { Err(note) } else { Ok(()) }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let idem = Idem::memory().build().unwrap();
    let text = String::from;

    assert!(all(&idem, 1, 2, text("a")).await.unwrap().is_executed());
    assert!(all(&idem, 1, 2, text("a")).await.unwrap().is_replayed());
    assert!(matches!(all(&idem, 1, 2, text("b")).await, Err(Error::KeyReused(_))));
    assert!(matches!(all(&idem, 1, 3, text("a")).await, Err(Error::KeyReused(_))));

    assert!(some(&idem, 1, 2, text("a")).await.unwrap().is_executed());
    assert!(some(&idem, 1, 2, text("b")).await.unwrap().is_replayed());
    assert!(matches!(some(&idem, 1, 3, text("a")).await, Err(Error::KeyReused(_))));

    assert!(none(&idem, 1, 2, text("a")).await.unwrap().is_executed());
    assert!(none(&idem, 1, 3, text("b")).await.unwrap().is_replayed());

    assert!(matches!(in_steps(&idem, 1, 2, text("a")).await, Err(Error::Job(_))));
    assert!(matches!(in_steps(&idem, 1, 3, text("b")).await, Err(Error::KeyReused(_))));
    assert!(in_steps(&idem, 1, 2, text("b")).await.unwrap().is_executed());
}
