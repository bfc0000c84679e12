//! Mails whose answers are lost, at a provider that takes keys and at one that does not.

use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use idem_runtime::{Done, Error, Idem, Job as _, Provides, Resolution};

use super::jobs::email::{EmailError, SendPlainEmail, Sent, send_email, send_plain_email};
use super::{how, open};
use crate::provider::{Fault, Mailer, PlainMailer};

#[derive(Provides)]
struct Mailers {
    mailer: Mailer,
    plain: PlainMailer,
}

/// Shows mails that are sent again, adopted, and decided by a person.
///
/// # Errors
///
/// The database's, and a provider that fails where it was not told to.
pub async fn show(url: &str, provider: SocketAddr) -> anyhow::Result<()> {
    let (mailer, plain) = (Mailer::new(provider), PlainMailer::new(provider));
    let mailers = Mailers { mailer: mailer.clone(), plain: plain.clone() };
    let idem = Idem::builder(open(url)?).namespace("examples").state(mailers).build()?;
    idem.migrate().await?;
    // Mails of their own, also in a database that was here before.
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
    let [twice, lost, sent, unsent] = ["twice", "lost", "sent", "unsent"].map(|what| format!("{what}-{now}"));
    let to = || String::from("ada@example.org");
    let send = |mail: &str| send_email(&idem, mail.to_owned(), to(), String::from("Hello"));
    let send_plain = |mail: &str| send_plain_email(&idem, mail.to_owned(), to(), String::from("Hello"));

    println!("A mail, run twice:");
    print(&send(&twice).await);
    print(&send(&twice).await);

    println!("A mail that is sent, but the answer is lost; run again, with the same key:");
    mailer.inject(&lost, Fault::LoseAnswer).await?;
    print(&send(&lost).await);
    print(&send(&lost).await);

    println!("The same at a provider that takes no keys:");
    plain.inject(&sent, Fault::LoseAnswer).await?;
    print(&send_plain(&sent).await);
    print(&send_plain(&sent).await);
    println!("There again, but this time the request is lost, which looks no different:");
    plain.inject(&unsent, Fault::LoseRequest).await?;
    print(&send_plain(&unsent).await);
    print(&send_plain(&unsent).await);

    println!("A person looks through what is parked, and asks the provider:");
    let parked = idem.parked(100).await?;
    for parked in parked.into_iter().filter(|parked| parked.job == SendPlainEmail::SPEC.name) {
        let step = parked.parked.and_then(|parked| parked.step).unwrap_or_default();
        let (resolution, found) = match plain.find(&parked.key).await? {
            Some(entry) => (Resolution::done(&entry.id)?, format!("it was sent, as {}", entry.id)),
            None => (Resolution::rerun(), String::from("it was not sent")),
        };
        println!("  `{}` of {}, parked at step `{step}`: {found}", parked.job, parked.key);
        let why = format!("looked at the provider's books: {found}");
        idem.resolve::<SendPlainEmail>(parked.hash, parked.epoch, resolution, &why).await?;
    }
    println!("Both run again:");
    print(&send_plain(&sent).await);
    print(&send_plain(&unsent).await);

    println!("The providers' books:");
    let (with_keys, without) = (mailer.books().await?, plain.books().await?);
    for mail in [&twice, &lost] {
        println!("  {mail}: {} mail(s)", with_keys.of(mail).len());
    }
    for mail in [&sent, &unsent] {
        println!("  {mail}: {} mail(s)", without.of(mail).len());
    }
    Ok(())
}

fn print(ran: &Result<Done<Sent>, Error<EmailError>>) {
    match ran {
        Ok(done) => println!("  {}: {}", how(done), done.provider_id),
        Err(Error::Parked(parked)) => println!("  parked: {}", parked.reason),
        Err(error) => println!("  failed: {error}"),
    }
}
