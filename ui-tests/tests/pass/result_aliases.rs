use idem_runtime::prelude::*;

#[derive(Debug)]
pub enum Failure {
    Down,
    Twice,
}

type R<T> = Result<T, Failure>;
type Done2 = Result<u8, Failure>;

pub mod io {
    pub type Result<T> = std::result::Result<T, String>;
}

/// Errors with what led to them, as the crate `error-stack` makes them.
pub mod stack {
    #[derive(Debug)]
    pub struct Report<C>(pub C);
    pub type Result<T, C> = std::result::Result<T, Report<C>>;
}

#[idempotent(key = id, adopt(Failure::Twice => id))]
async fn one(_: &mut Tx<'_, Memory>, id: i64) -> R<i64> {
    match id {
        0 => Err(Failure::Down),
        1 => Err(Failure::Twice),
        id => Ok(id),
    }
}

#[idempotent(key = id)]
async fn two(_: &mut Tx<'_, Memory>, id: u8) -> Done2 {
    Ok(id)
}

#[idempotent(key = id, replay(_))]
async fn three(_: &mut Tx<'_, Memory>, id: u8) -> io::Result<u8> {
    Err(id.to_string())
}

#[idempotent(key = id)]
async fn four(_: &mut Tx<'_, Memory>, id: u8) -> ::core::result::Result<u8, Failure> {
    Ok(id)
}

#[idempotent(key = id, in_doubt = probe(look), check = look_first, adopt(Failure::Twice => id))]
async fn five(id: i64) -> R<i64> {
    Err(if id == 0 { Failure::Down } else { Failure::Twice })
}

async fn look(_: &Five) -> R<Option<i64>> {
    Ok(None)
}

async fn look_first(_: &Five) -> R<Option<i64>> {
    Ok(None)
}

#[idempotent(key = id, in_doubt = rerun, replay(_))]
async fn six(run: &mut Run<'_, Memory>, id: u8) -> io::Result<u8> {
    run.step("only", async |_| io::Result::<u8>::Err(id.to_string())).await
}

#[idempotent(key = id, adopt(stack::Report(Failure::Twice) => id))]
async fn seven(_: &mut Tx<'_, Memory>, id: u8) -> stack::Result<u8, Failure> {
    Err(stack::Report(if id == 0 { Failure::Down } else { Failure::Twice }))
}

#[idempotent(key = id)]
async fn eight(_: &mut Tx<'_, Memory>, id: u8) -> std::result::Result<u8, Failure> {
    Ok(id)
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let idem = Idem::memory().build().unwrap();
    assert!(matches!(one(&idem, 0).await, Err(Error::Job(Failure::Down))));
    assert!(one(&idem, 1).await.unwrap().is_adopted());
    assert_eq!(*one(&idem, 2).await.unwrap(), 2);
    assert_eq!(*two(&idem, 2).await.unwrap(), 2);
    for _ in 0..2 {
        assert!(matches!(three(&idem, 3).await, Err(Error::Job(text)) if text == "3"));
    }
    assert_eq!(*four(&idem, 2).await.unwrap(), 2);
    assert!(matches!(five(&idem, 0).await, Err(Error::Job(Failure::Down))));
    assert!(five(&idem, 1).await.unwrap().is_adopted());
    for _ in 0..2 {
        assert!(matches!(six(&idem, 3).await, Err(Error::Job(text)) if text == "3"));
    }
    assert!(matches!(seven(&idem, 0).await, Err(Error::Job(stack::Report(Failure::Down)))));
    assert!(seven(&idem, 1).await.unwrap().is_adopted());
    assert_eq!(*eight(&idem, 2).await.unwrap(), 2);
}
