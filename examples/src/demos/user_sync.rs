//! Syncs of one user, one after the other.

use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use idem_runtime::{Done, Error, Idem, Provides};

use super::{how, open};
use crate::provider::{Contacts, Directory, Fault, Profile};
use crate::user_sync::{SyncError, Synced, reference, sync_user};

#[derive(Provides)]
struct Users {
    directory: Directory,
    contacts: Contacts,
}

/// Shows a user who is synced again, and while another sync is at work.
///
/// # Errors
///
/// The database's, and a provider that fails where it was not told to.
pub async fn show(url: &str, provider: SocketAddr) -> anyhow::Result<()> {
    let (directory, contacts) = (Directory::new(provider), Contacts::new(provider));
    let users = Users { directory: directory.clone(), contacts: contacts.clone() };
    let idem = Idem::builder(open(url)?).namespace("examples").state(users).build()?;
    idem.migrate().await?;
    // A user of its own, also in a database that was here before.
    let user_id = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?;
    let user = reference(user_id);
    let profile = |email: &str| Profile { name: String::from("Ada"), email: email.to_owned() };
    directory.put(&user, &profile("ada@old.example")).await?;

    println!("A user is synced, and again:");
    print(&sync_user(&idem, user_id).await);
    print(&sync_user(&idem, user_id).await);

    println!("A sync takes its time. Meanwhile the address changes, and another sync is asked for:");
    contacts.inject(&user, Fault::HoldAnswer).await?;
    let slow = sync_user(&idem, user_id);
    let meanwhile = async {
        // The third request is the slow one's.
        while contacts.books().await?.requests < 3 {
            tokio::task::yield_now().await;
        }
        directory.put(&user, &profile("ada@new.example")).await?;
        print(&sync_user(&idem, user_id).await);
        contacts.release().await?;
        anyhow::Ok(())
    };
    let (slow, meanwhile) = tokio::join!(slow, meanwhile);
    meanwhile?;
    println!("The slow one ends, and the other is delivered again:");
    print(&slow);
    print(&sync_user(&idem, user_id).await);

    let books = contacts.books().await?;
    for contact in books.of(&user) {
        println!("The newsletter has: {}", contact.what.address);
    }
    Ok(())
}

fn print(ran: &Result<Done<Synced>, Error<SyncError>>) {
    match ran {
        Ok(done) => println!("  {}: {}", how(done), done.address),
        Err(Error::Busy(busy)) => println!("  busy: {busy}"),
        Err(error) => println!("  failed: {error}"),
    }
}
