use idem_runtime::prelude::*;

macro_rules! jobs {
    ($($(#[$attr:meta])* $vis:vis $name:ident as $job:ident($arg:ident: $ty:ty, key $key:expr, retain $retain:literal) -> $out:ty $body:block)+) => {$(
        $(#[$attr])*
        #[idempotent(key = $key, job = $job, retain = $retain)]
        $vis async fn $name(tx: &mut Tx<'_, Memory>, $arg: $ty) -> $out {
            let _ = tx.idempotency_key();
            $body
        }
    )+};
}

jobs! {
    /// The first.
    pub one as OneJob(id: i64, key id, retain "1d") -> Result<i64, String> { Ok(id) }
    two as TwoJob(pair: (u8, String), key (pair.0, pair.1), retain "2h") -> Result<u8, String> { Ok(pair.0) }
}

macro_rules! job_for {
    ($db:ty, $error:path, $pat:pat, $value:expr) => {
        #[idempotent(key = id, adopt($pat => $value), replay($error))]
        async fn three(_: &mut Tx<'_, $db>, id: i64) -> Result<i64, Failure> {
            if id == 0 { Err(Failure::Twice) } else { Err(Failure::Never) }
        }
    };
}

#[derive(Debug, serde::Serialize, serde::Deserialize)]
enum Failure {
    Twice,
    Never,
}

job_for!(Memory, Failure::Never, Failure::Twice, 5);

macro_rules! whole {
    ($item:item) => {
        #[idempotent(key = id)]
        $item
    };
}

whole! {
    async fn four(_: &mut Tx<'_, Memory>, id: i64) -> Result<i64, String> {
        Ok(id)
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let idem = Idem::memory().build().unwrap();
    assert_eq!(*one(&idem, 3).await.unwrap(), 3);
    assert!(idem.run(OneJob { id: 3 }).await.unwrap().is_replayed());
    assert_eq!(*two(&idem, (4, String::from("x"))).await.unwrap(), 4);
    assert_eq!(*idem.run(TwoJob { pair: (4, String::from("x")) }).await.unwrap(), 4);
    assert_eq!(*three(&idem, 0).await.unwrap(), 5);
    assert!(three(&idem, 1).await.is_err());
    assert_eq!(*four(&idem, 6).await.unwrap(), 6);
}
