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
}
