//! What has the name of the transaction and is something else may be given to a query as it is.

use std::convert::Infallible;

use idem_runtime::prelude::*;

/// What of sqlx a body sees, without a database.
mod sqlx {
    pub struct Query;

    pub fn query(_sql: &str) -> Query {
        Query
    }

    impl Query {
        pub async fn execute<T>(self, _executor: T) -> Result<(), std::convert::Infallible> {
            Ok(())
        }
    }
}

#[idempotent(key = id)]
async fn shadowed(tx: &mut Tx<'_, Memory>, id: i64) -> Result<(), Infallible> {
    sqlx::query("before").execute(&mut **tx).await?;
    {
        let mut tx = Box::new(id);
        sqlx::query("a savepoint").execute(&mut *tx).await?;
    }
    let insert = async |tx: i64| sqlx::query("by a closure").execute(tx).await;
    insert(id).await?;
    async fn helper(tx: i64) -> Result<(), Infallible> {
        sqlx::query("by a function").execute(tx).await
    }
    helper(id).await?;
    if let Some(tx) = Some(id) {
        sqlx::query("by a pattern").execute(tx).await?;
    }
    match Some(id) {
        Some(tx) => sqlx::query("by an arm").execute(tx).await?,
        None => {}
    }
    for tx in [id] {
        sqlx::query("by a loop").execute(tx).await?;
    }
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let idem = Idem::memory().build().unwrap();
    assert!(shadowed(&idem, 42).await.unwrap().is_executed());
}
