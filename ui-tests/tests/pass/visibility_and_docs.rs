#![deny(missing_docs, unreachable_pub, private_interfaces)]
//! Names keep their visibility.

mod shop {
    use idem_runtime::prelude::*;

    /// Documented.
    ///
    /// In two paragraphs.
    #[idempotent(key = id)]
    pub(crate) async fn inside_the_crate(
        _: &mut Tx<'_, Memory>,
        /// The id, documented too.
        id: i64,
    ) -> Result<i64, String> {
        Ok(id)
    }

    #[idempotent(key = id)]
    pub(super) async fn outside_once(_: &mut Tx<'_, Memory>, id: i64) -> Result<i64, String> {
        Ok(id)
    }

    #[idempotent(key = secret)]
    async fn private(_: &mut Tx<'_, Memory>, secret: Secret) -> Result<(), String> {
        drop(secret);
        Ok(())
    }

    #[derive(KeyPart, serde::Serialize, serde::Deserialize)]
    struct Secret(String);

    pub(crate) async fn call(idem: &Idem<Memory>) -> bool {
        let secret = Secret(String::from("s"));
        private(idem, secret).await.is_ok() && idem.run(Private { secret: Secret(String::from("s")) }).await.is_ok()
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let idem = idem_runtime::Idem::memory().build().unwrap();
    assert!(shop::call(&idem).await);
    assert_eq!(*shop::inside_the_crate(&idem, 1).await.unwrap(), 1);
    assert_eq!(*idem.run(shop::InsideTheCrate { id: 1 }).await.unwrap(), 1);
    assert_eq!(*shop::outside_once(&idem, 2).await.unwrap(), 2);
    assert_eq!(*idem.run(shop::OutsideOnce { id: 2 }).await.unwrap(), 2);
}
