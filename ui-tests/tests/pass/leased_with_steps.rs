use std::sync::Mutex;

use idem_runtime::prelude::*;

#[derive(Debug)]
pub enum Failure {
    Gateway,
    Mail,
}

#[derive(Debug, Clone, Copy)]
pub struct GatewayError;

impl From<GatewayError> for Failure {
    fn from(_: GatewayError) -> Self {
        Failure::Gateway
    }
}

#[derive(Default)]
pub struct Gateway {
    calls: Mutex<Vec<String>>,
}

impl Gateway {
    async fn call(&self, what: &str, key: String) -> Result<String, GatewayError> {
        assert!(!key.is_empty());
        tokio::task::yield_now().await;
        self.calls.lock().unwrap().push(what.to_owned());
        Ok(what.to_owned())
    }

    async fn find(&self, key: String) -> Result<Option<String>, GatewayError> {
        assert!(!key.is_empty());
        tokio::task::yield_now().await;
        Ok(None)
    }
}

#[idempotent(key = order_id, lock = lease("10s"), in_doubt = rerun, drift = resume, on_busy = error)]
async fn fulfil(
    run: &mut Run<'_, Memory>,
    order_id: i64,
    lines: Vec<String>,
    #[state] gateway: &Gateway,
) -> Result<usize, Failure> {
    let charge = run.step("charge", async |key| gateway.call("charge", key).await).await?;
    let order = run
        .tx_step("order", async |tx| {
            tx.set(format!("order {order_id}"), charge.clone());
            tokio::task::yield_now().await;
            Ok::<_, Failure>(order_id)
        })
        .await?;
    let sent = run
        .step("mail", async |key| gateway.call("mail", key).await)
        .probe(async |key| gateway.find(key).await)
        .await
        .map_err(|_| Failure::Mail)?;
    run.step("parcel", async |key| gateway.call("parcel", key).await).park().not_done_if(|_| true).await?;
    let mut total = sent.len();
    for (i, line) in lines.iter().enumerate() {
        total += run.step(("line", i), async |key| gateway.call(line, key).await).await?.len();
        tokio::task::yield_now().await;
    }
    run.step::<_, _, _, GatewayError>("again", async |key| Ok(key.len())).rerun().await?;
    assert_eq!((order, run.attempt()), (order_id, 1));
    run.enqueue(Notify { order_id }).await;
    Ok(total)
}

#[idempotent(key = order_id)]
async fn notify(_: &mut Tx<'_, Memory>, order_id: i64) -> Result<i64, Failure> {
    Ok(order_id)
}

#[idempotent(key = global, in_doubt = park)]
async fn no_step_is_taken(_: &mut Run<'_, Memory>) -> Result<(), Failure> {
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let idem = Idem::memory().state(Gateway::default()).build().unwrap();
    let task = {
        let idem = idem.clone();
        tokio::spawn(async move { fulfil(&idem, 1, vec![String::from("a"), String::from("bc")]).await })
    };
    assert_eq!(task.await.unwrap().unwrap(), Done::Executed(7));
    let job = Fulfil { order_id: 1, lines: vec![String::from("a"), String::from("bc")] };
    let again = tokio::spawn({
        let idem = idem.clone();
        async move { idem.run(job).await }
    });
    assert_eq!(again.await.unwrap().unwrap(), Done::Replayed(7));
    assert_eq!(*idem.state().calls.lock().unwrap(), ["charge", "mail", "parcel", "a", "bc"]);
    assert!(no_step_is_taken(&idem).await.unwrap().is_executed());
}
