//! A worker: a process that receives webhooks on stdin and answers each on stdout.

use anyhow::Context as _;
use idem_examples::process::{self, hello, lines};
use idem_runtime::{Done, Error};

use crate::desk::Desk;
use crate::inbox::{self, Inbox, Received};
use crate::protocol::{Delivery, Hello, How, Reply, Said, Stage};

/// Receives until the sender is gone.
pub(crate) async fn work() -> anyhow::Result<()> {
    let mut lines = lines();
    let hello: Hello = hello(&mut lines).await?;
    let url = hello.database_url.parse().map_err(anyhow::Error::msg)?;
    let inbox = inbox::open(&url, Desk::default())?;
    inbox.open().await.context("opening the database")?;
    say(inbox.desk(), Reply::Ready);
    while let Some(line) = lines.recv().await {
        let delivery: Delivery = serde_json::from_str(&line).context("reading a delivery")?;
        let reply = receive(&*inbox, &hello, delivery).await;
        say(inbox.desk(), reply);
    }
    Ok(())
}

/// Runs the job for a delivery, then notes the delivery. Only after that the sender hears of it.
async fn receive(inbox: &dyn Inbox, hello: &Hello, Delivery { hold, webhook }: Delivery) -> Reply {
    inbox.desk().hold(hold == Some(Stage::InTheJob));
    let id = webhook.delivery.clone();
    let done = match hello.without_idem {
        false => inbox.receive(webhook).await,
        true => inbox.receive_without_idem(webhook).await.map(Done::Executed).map_err(Error::Job),
    };
    let done = match done {
        Ok(done) => done,
        Err(error) => return refused(&error),
    };
    if hold.is_some() {
        // Also where the sender meant to kill inside the job: an event that is known does not run it.
        say(inbox.desk(), Reply::HeldBeforeTheAnswer(how(&done)));
        std::future::pending().await
    }
    match inbox.note(&hello.batch, hello.worker, &id, &done).await {
        Ok(()) => Reply::Answered(how(&done)),
        Err(error) => {
            Reply::Failed { why: format!("noting the delivery: {error}"), retry: false, fatal: true }
        }
    }
}

fn how(done: &Done<Received>) -> How {
    match done {
        Done::Replayed(_) => How::Replayed,
        Done::Executed(_) | Done::Adopted(_) => How::Ran,
    }
}

fn refused(error: &Error<sqlx::Error>) -> Reply {
    let why = error.to_string();
    match error {
        Error::KeyReused(_) => Reply::Refused { why },
        Error::Job(error) => Reply::Failed { why, retry: gave_way(error), fatal: false },
        error => Reply::Failed { why, retry: error.is_retryable(), fatal: true },
    }
}

/// Tells whether the database gave the job up for the sake of another transaction.
fn gave_way(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    matches!(code.as_deref(), Some("40001" | "40P01"))
}

/// Says something to the sender, and how often the job has run since the last time.
pub(crate) fn say(desk: &Desk, reply: Reply) {
    process::say(&Said { runs: desk.take_runs(), reply });
}
