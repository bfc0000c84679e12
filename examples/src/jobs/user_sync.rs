//! A sync: one at a time for each user, again and again.
//!
//! Two syncs of one user at the same time may end with the older data on top. So a run holds the user's key
//! while it works, and whoever comes meanwhile is told to come again (`on_busy = reschedule`): over a queue, the
//! task goes back to it. Nothing is kept once it is done (`retain = none`): the next sync is work of its own.
//!
//! One sync that waits is enough, however many ask for it (`unique = until_executing`). One that runs is not: it
//! may have read already. So the claim ends as it starts, and who asks then gets a task behind it. With
//! `until_executed` that change would be told that it is a duplicate, and be lost.
//!
//! The job takes no `Run`, since it has one effect, which may be had again: it says what the contact *is*. It
//! has nothing in the database either, so it works on every one, and is generic over it.
//!
//! A worker that stands still for longer than the lease, after it has read, may still write what it read when
//! it wakes up. The next sync puts that right.

use idem_runtime::prelude::*;
use serde::{Deserialize, Serialize};

use crate::provider::{Contact, Contacts, Directory, ProviderError};

/// Brings what the newsletter knows of a user up to date with the directory.
#[idempotent(
    key = user_id,
    lock = lease("10s"),
    on_busy = reschedule("1s"),
    unique = until_executing,
    retain = none,
    in_doubt = rerun,
)]
pub async fn sync_user(
    user_id: i64,
    #[state] directory: &Directory,
    #[state] contacts: &Contacts,
) -> Result<Synced, SyncError> {
    let user = reference(user_id);
    let profile = directory.find(&user).await?.ok_or(SyncError::NoSuchUser { user_id })?.what;
    let contact = Contact { address: format!("{} <{}>", profile.name, profile.email) };
    let entry = contacts.put(&user, &contact).await?;
    Ok(Synced { address: entry.what.address })
}

/// Puts down what the newsletter and the directory know of a user, for the user.
///
/// One that waits or runs is enough, and whoever asks meanwhile is told which one it is (`unique = until_executed`):
/// nothing is lost by that, since an export is about no change that somebody has just made. The claim outlasts retries.
#[idempotent(key = user_id, unique = until_executed, retain = none, in_doubt = rerun)]
pub async fn export_user(
    user_id: i64,
    #[state] directory: &Directory,
    #[state] contacts: &Contacts,
) -> Result<Export, SyncError> {
    let user = reference(user_id);
    let profile = directory.find(&user).await?.ok_or(SyncError::NoSuchUser { user_id })?.what;
    let books = contacts.books().await?;
    let addresses: Vec<String> =
        books.of(&user).into_iter().map(|contact| contact.what.address.clone()).collect();
    let sheet = Contact { address: format!("{}: {}", profile.name, addresses.join(", ")) };
    contacts.put(&format!("export-of-{user}"), &sheet).await?;
    Ok(Export { name: profile.name, addresses })
}

/// Brings a list of the newsletter up to date with the directory, because something about a user has changed.
///
/// Each change is a key of its own, and is seen to once. But one task that waits for a user and a list does for every
/// change, since it reads as it starts: so the tasks are unique by these two arguments (`unique_by`), whichever change
/// asks. Two runs of them exclude each other too, though their keys differ (`until_and_while_executing`), or the older data might
/// end on top.
#[idempotent(
    key = (change, list),
    lock = lease("10s"),
    on_busy = reschedule("1s"),
    unique = until_and_while_executing,
    unique_by = (user_id, list),
    in_doubt = rerun,
)]
pub async fn sync_list(
    change: u64,
    user_id: i64,
    list: String,
    #[state] directory: &Directory,
    #[state] contacts: &Contacts,
) -> Result<Listed, SyncError> {
    let user = reference(user_id);
    let profile = directory.find(&user).await?.ok_or(SyncError::NoSuchUser { user_id })?.what;
    let contact = Contact { address: format!("{} <{}>", profile.name, profile.email) };
    let entry = contacts.put(&on_list(user_id, &list), &contact).await?;
    Ok(Listed { change, address: entry.what.address })
}

/// What a list knows now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// The change that was seen to.
    pub change: u64,
    /// Name and address.
    pub address: String,
}

/// Returns what a list knows a user by.
pub fn on_list(user_id: i64, list: &str) -> String {
    format!("{list}-{}", reference(user_id))
}

/// What is known of a user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Export {
    /// The name in the directory.
    pub name: String,
    /// The addresses in the newsletter.
    pub addresses: Vec<String>,
}

/// What the newsletter knows now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Synced {
    /// Name and address.
    pub address: String,
}

/// Why a user is not up to date.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// The directory knows no such user.
    #[error("the directory has no user {user_id}")]
    NoSuchUser {
        /// The user.
        user_id: i64,
    },
    /// One of the two could not be reached, or refused.
    #[error(transparent)]
    Provider(#[from] ProviderError),
}

/// Returns what both know a user by.
pub fn reference(user_id: i64) -> String {
    format!("user-{user_id}")
}
