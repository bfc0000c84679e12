use idem_runtime::prelude::*;
use serde::{Deserialize, Serialize};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    #[derive(Clone, KeyPart, Serialize, Deserialize)]
    struct Local(i64);

    #[derive(Debug)]
    enum LocalError {}

    #[idempotent(key = id, job = Local2)]
    async fn local(tx: &mut Tx<'_, Memory>, id: Local) -> Result<i64, LocalError> {
        use std::fmt::Write as _;
        let mut text = String::new();
        write!(text, "{}", tx.idempotency_key()).unwrap();
        Ok(id.0)
    }

    let idem = Idem::memory().build().unwrap();
    assert_eq!(*local(&idem, Local(1)).await.unwrap(), 1);
    assert!(idem.run(Local2 { id: Local(1) }).await.unwrap().is_replayed());
}
