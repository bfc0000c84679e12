#![deny(warnings)]

use idem_runtime::prelude::*;

#[cfg(any())]
#[idempotent(key = id)]
async fn never_there(_: &mut Tx<'_, Memory>, id: Missing) -> Result<i64, String> {
    Ok(id)
}

#[idempotent(key = id)]
#[cfg(any())]
async fn not_there_either(_: &mut Tx<'_, Memory>, id: Missing) -> Result<i64, String> {
    Ok(id)
}

#[idempotent(key = id)]
#[allow(unused_variables, clippy::needless_pass_by_value)]
#[cfg_attr(all(), allow(unused_mut))]
#[cfg_attr(all(), must_use = "ask it")]
#[inline]
async fn lenient(tx: &mut Tx<'_, Memory>, mut id: i64, #[allow(unused)] note: String) -> Result<i64, String> {
    let unused = 1;
    Ok(id)
}

#[idempotent(key = id)]
#[deprecated = "use another"]
async fn old(_: &mut Tx<'_, Memory>, id: i64) -> Result<i64, String> {
    Ok(id)
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let idem = Idem::memory().build().unwrap();
    assert_eq!(*lenient(&idem, 1, String::new()).await.unwrap(), 1);
    #[allow(deprecated)]
    let old = old(&idem, 2).await.unwrap();
    assert_eq!(*old, 2);
}
