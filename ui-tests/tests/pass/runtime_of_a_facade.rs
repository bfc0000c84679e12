//! A macro of a crate that hands the runtime on: who calls it names neither.

pub use idem_runtime as idem;

#[macro_export]
macro_rules! job {
    ($name:ident as $job:ident, $($option:tt)*) => {
        #[$crate::idem::idempotent(key = (id, note), job = $job, crate = $crate::idem, replay(_), $($option)*)]
        pub async fn $name(id: i64, note: Option<String>) -> Result<i64, String> {
            note.map_or(Ok(id), Err)
        }
    };
}

mod elsewhere {
    job!(charge as Charge, in_doubt = rerun);
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let idem = idem::Idem::memory().build().unwrap();
    for _ in 0..2 {
        assert_eq!(*elsewhere::charge(&idem, 7, None).await.unwrap(), 7);
        assert!(elsewhere::charge(&idem, 7, Some(String::from("no"))).await.is_err());
    }
    assert!(idem.run(elsewhere::Charge { id: 7, note: None }).await.unwrap().is_replayed());
}
