//! An effect at a provider, as a recorded step. What makes it single depends on the provider.
//!
//! [`send_email`] goes to a provider that takes keys. The step hands it one that is the same in every run, so
//! whoever does not know whether the mail is out sends it again: the provider says that it is, and that answer
//! is adopted.
//!
//! [`send_plain_email`] goes to one that takes none, which cannot tell a second mail from the first. So the step
//! is begun on record before the mail goes out, and a run that finds it begun waits for a person
//! ([`Idem::parked`], [`Idem::resolve`]). Asking the provider instead (`probe`) would do after a crash. But a
//! worker that stood still may send its mail after the question, and a person is seldom that quick.
//!
//! Neither has a table: the records of idem are all that is in the database.

use idem_runtime::prelude::*;
use serde::{Deserialize, Serialize};

use super::Db;
use crate::provider::{Mail, Mailer, PlainMail, PlainMailer, ProviderError};

/// Sends a mail through a provider that takes keys, once for each `mail`.
#[idempotent(
    key = mail,
    in_doubt = rerun,
    adopt(EmailError::AlreadySent { provider_id } => Sent { provider_id }),
)]
pub async fn send_email(
    run: &mut Run<'_, Db>,
    mail: String,
    to: String,
    subject: String,
    #[state] mailer: &Mailer,
) -> Result<Sent, EmailError> {
    let letter = Mail { to, subject };
    let provider_id =
        run.step("send", async |key| mailer.send(&key, &mail, &letter).await.map(|sent| sent.id)).await?;
    Ok(Sent { provider_id })
}

/// Sends a mail through a provider that takes no keys: never twice, and if in doubt not without a person.
#[idempotent(key = mail, in_doubt = park)]
pub async fn send_plain_email(
    run: &mut Run<'_, Db>,
    mail: String,
    to: String,
    subject: String,
    #[state] mailer: &PlainMailer,
) -> Result<Sent, EmailError> {
    let letter = PlainMail { to, subject };
    let provider_id = run
        .step("send", async |_| mailer.send(&mail, &letter).await.map(|sent| sent.id))
        // A refusal leaves no doubt: the next run sends.
        .not_done_if(|error| matches!(error, ProviderError::Refused { .. }))
        .await?;
    Ok(Sent { provider_id })
}

/// A mail that is out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// What the provider calls it.
    pub provider_id: String,
}

/// Why a mail is not known to be out.
#[derive(Debug, thiserror::Error)]
pub enum EmailError {
    /// An earlier run has sent it.
    #[error("the mail was sent before, as {provider_id}")]
    AlreadySent {
        /// What the provider called it then.
        provider_id: String,
    },
    /// The provider did not send it, or nobody knows whether it did.
    #[error(transparent)]
    Provider(ProviderError),
}

impl From<ProviderError> for EmailError {
    fn from(error: ProviderError) -> Self {
        match error {
            ProviderError::Already { id } => EmailError::AlreadySent { provider_id: id },
            other => EmailError::Provider(other),
        }
    }
}
