//! A mail is sent once, or a person decides.
//!
//! The provider is a process of its own; mails are counted in its books.

mod common;

use std::process::Command;
use std::sync::Arc;

use idem_examples::provider::{Fault, Mailer, PlainMailer, ProviderError, ProviderProcess};
use idem_runtime::{Provides, StoreErrorKind};
use idem_testkit::lab::{Lab, LabDatabase as _};
use tokio::sync::Barrier;

use common::provider;

const MAIL: &str = "welcome-7";

/// How many runs there are at once.
const RUNS: usize = 16;

#[derive(Provides)]
struct Mailers {
    mailer: Mailer,
    plain: PlainMailer,
}

macro_rules! mails_on {
    ($db:ident) => {
        mod $db {
            use idem_examples::$db::Db;
            use idem_examples::$db::jobs::email::{
                EmailError, SendEmail, SendPlainEmail, Sent, send_email, send_plain_email,
            };
            use idem_runtime::record::State;
            use idem_runtime::{Done, Error, Idem, KnownKey, Resolution};

            use super::*;

            struct World {
                lab: Lab<Db>,
                process: ProviderProcess,
            }

            impl World {
                async fn new() -> Option<World> {
                    let world = World { lab: Db::lab().await?, process: provider() };
                    world.worker().migrate().await.unwrap();
                    Some(world)
                }

                /// A handle with connections of its own, as in another process.
                fn worker(&self) -> Idem<Db, Mailers> {
                    let mailers = Mailers { mailer: self.mailer(), plain: self.plain() };
                    Idem::builder(self.lab.pool(2)).namespace("test").state(mailers).build().unwrap()
                }

                fn mailer(&self) -> Mailer {
                    self.process.client()
                }

                fn plain(&self) -> PlainMailer {
                    self.process.client()
                }

                async fn send(&self) -> Result<Done<Sent>, Error<EmailError>> {
                    send(&self.worker()).await
                }

                async fn send_plain(&self) -> Result<Done<Sent>, Error<EmailError>> {
                    let [mail, to, subject] = words();
                    send_plain_email(&self.worker(), mail, to, subject).await
                }

                /// Mails that are out, and requests to send one, at the provider that takes keys.
                async fn mails(&self) -> (usize, u64) {
                    let books = self.mailer().books().await.unwrap();
                    (books.of(MAIL).len(), books.requests)
                }

                /// The same at the one that takes none.
                async fn plain_mails(&self) -> (usize, u64) {
                    let books = self.plain().books().await.unwrap();
                    (books.of(MAIL).len(), books.requests)
                }

                /// The one key that is parked.
                async fn parked(&self) -> KnownKey {
                    let mut parked = self.worker().parked(10).await.unwrap();
                    assert_eq!(parked.len(), 1, "{parked:?}");
                    parked.remove(0)
                }

                /// Loses the answer of the provider without keys, and checks that nothing is sent after that.
                async fn park(&self, fault: Fault) -> KnownKey {
                    self.plain().inject(MAIL, fault).await.unwrap();
                    let lost = self.send_plain().await;
                    let Err(Error::Job(EmailError::Provider(ProviderError::NoAnswer(_)))) = lost else {
                        panic!("{lost:?}");
                    };
                    for _ in 0..3 {
                        let parked = self.send_plain().await;
                        let Err(Error::Parked(parked)) = parked else { panic!("{parked:?}") };
                        assert_eq!(parked.step.as_deref(), Some("send"));
                    }
                    assert_eq!(self.plain_mails().await.1, 1);
                    self.parked().await
                }
            }

            fn words() -> [String; 3] {
                [MAIL, "ada@example.org", "Welcome"].map(String::from)
            }

            async fn send(worker: &Idem<Db, Mailers>) -> Result<Done<Sent>, Error<EmailError>> {
                let [mail, to, subject] = words();
                send_email(worker, mail, to, subject).await
            }

            #[tokio::test]
            async fn a_mail_that_is_run_again_is_sent_once() {
                let Some(world) = World::new().await else { return };
                let first = world.send().await.unwrap();
                assert!(first.is_executed());
                for _ in 0..5 {
                    let again = world.send().await.unwrap();
                    assert!(again.is_replayed());
                    assert_eq!(*again, *first);
                }
                assert_eq!(world.mails().await, (1, 1));
            }

            #[tokio::test]
            async fn runs_at_once_send_once() {
                let Some(world) = World::new().await else { return };
                // The first run stands in the middle of its step when the others start.
                world.mailer().inject(MAIL, Fault::HoldAnswer).await.unwrap();
                let worker = world.worker();
                let first = tokio::spawn(async move { send(&worker).await });
                world.mailer().watch(MAIL).await.unwrap();

                let start = Arc::new(Barrier::new(RUNS));
                let mut runs = vec![first];
                for _ in 1..RUNS {
                    let (worker, start) = (world.worker(), Arc::clone(&start));
                    runs.push(tokio::spawn(async move {
                        start.wait().await;
                        send(&worker).await
                    }));
                }
                start.wait().await;
                world.mailer().release().await.unwrap();
                let mut executed = 0;
                for run in runs {
                    let done = run.await.unwrap().unwrap();
                    executed += usize::from(done.is_executed());
                    assert_eq!(done.provider_id, "mail_1");
                }
                assert_eq!(executed, 1);
                assert_eq!(world.mails().await, (1, 1));
            }

            #[tokio::test]
            async fn a_mail_whose_answer_is_lost_is_adopted() {
                let Some(world) = World::new().await else { return };
                world.mailer().inject(MAIL, Fault::LoseAnswer).await.unwrap();
                let lost = world.send().await;
                assert!(
                    matches!(lost, Err(Error::Job(EmailError::Provider(ProviderError::NoAnswer(_))))),
                    "{lost:?}"
                );

                let adopted = world.send().await.unwrap();
                assert!(adopted.is_adopted());
                let again = world.send().await.unwrap();
                assert!(again.is_replayed());
                assert_eq!(*again, *adopted);
                assert_eq!(world.mails().await, (1, 2));
            }

            #[tokio::test]
            async fn a_provider_that_fails_is_asked_again() {
                let Some(world) = World::new().await else { return };
                world.mailer().inject(MAIL, Fault::FailBefore).await.unwrap();
                let failed = world.send().await;
                assert!(matches!(failed, Err(Error::Job(EmailError::Provider(_)))), "{failed:?}");
                assert_eq!(world.mails().await, (0, 1));
                let [mail, to, subject] = words();
                let found = world.worker().explain(&SendEmail { mail, to, subject }).await.unwrap().unwrap();
                assert_eq!((found.state, found.attempts), (State::Failed, 1));
                assert!(found.error.unwrap().contains("out of order"));

                assert!(world.send().await.unwrap().is_executed());
                assert_eq!(world.mails().await, (1, 2));
            }

            #[tokio::test]
            async fn without_keys_a_refusal_is_no_doubt() {
                let Some(world) = World::new().await else { return };
                world.plain().inject(MAIL, Fault::FailBefore).await.unwrap();
                let failed = world.send_plain().await;
                assert!(matches!(failed, Err(Error::Job(EmailError::Provider(_)))), "{failed:?}");
                assert!(world.send_plain().await.unwrap().is_executed());
                assert_eq!(world.plain_mails().await, (1, 2));
            }

            #[tokio::test]
            async fn without_keys_a_person_says_that_the_mail_was_sent() {
                let Some(world) = World::new().await else { return };
                let parked = world.park(Fault::LoseAnswer).await;
                assert_eq!((parked.job.as_str(), parked.key.as_str()), ("send_plain_email", MAIL));
                let sent = world.plain().find(MAIL).await.unwrap().unwrap();
                let found = Resolution::done(&sent.id).unwrap();
                let worker = world.worker();
                let resolved = worker.resolve::<SendPlainEmail>(
                    parked.hash,
                    parked.epoch,
                    found,
                    "Bo saw it in the provider's books",
                );
                resolved.await.unwrap();

                let done = world.send_plain().await.unwrap();
                assert_eq!(done.provider_id, sent.id);
                assert!(world.send_plain().await.unwrap().is_replayed());
                assert_eq!(world.plain_mails().await, (1, 1));
                let [mail, to, subject] = words();
                let found = worker.explain(&SendPlainEmail { mail, to, subject }).await.unwrap().unwrap();
                let notes: Vec<_> = found.audit.iter().map(|note| (&*note.action, &*note.why)).collect();
                assert_eq!(notes, [("done", "Bo saw it in the provider's books")]);
            }

            #[tokio::test]
            async fn without_keys_a_person_says_that_the_mail_was_not_sent() {
                let Some(world) = World::new().await else { return };
                let parked = world.park(Fault::LoseRequest).await;
                assert_eq!(world.plain().find(MAIL).await.unwrap(), None);
                let worker = world.worker();
                let resolved = worker.resolve::<SendPlainEmail>(
                    parked.hash,
                    parked.epoch,
                    Resolution::rerun(),
                    "Bo did not find it in the provider's books",
                );
                resolved.await.unwrap();

                assert!(world.send_plain().await.unwrap().is_executed());
                assert_eq!(world.plain_mails().await, (1, 2));
            }

            #[tokio::test]
            async fn a_decision_about_an_earlier_claim_is_refused() {
                let Some(world) = World::new().await else { return };
                let parked = world.park(Fault::LoseAnswer).await;
                let resolve = async |epoch| {
                    let why = "Bo looked at an old list";
                    let worker = world.worker();
                    worker.resolve::<SendPlainEmail>(parked.hash, epoch, Resolution::rerun(), why).await
                };
                let refused = resolve(parked.epoch.next()).await.unwrap_err();
                assert_eq!(refused.kind(), StoreErrorKind::Stale);
                assert!(matches!(world.send_plain().await, Err(Error::Parked(_))));

                resolve(parked.epoch).await.unwrap();
                let refused = resolve(parked.epoch).await.unwrap_err();
                assert_eq!(refused.kind(), StoreErrorKind::Stale);
            }
        }
    };
}

mails_on!(sqlite);
mails_on!(postgres);

#[tokio::test]
async fn the_providers_treat_keys_as_they_say() {
    use idem_examples::provider::{Mail, PlainMail};

    let process = provider();
    let (mailer, plain): (Mailer, PlainMailer) = (process.client(), process.client());
    let mail = Mail { to: String::from("ada@example.org"), subject: String::from("Hello") };
    let first = mailer.send("k1", "m1", &mail).await.unwrap();
    let again = mailer.send("k1", "m1", &mail).await.unwrap_err();
    assert!(matches!(&again, ProviderError::Already { id } if *id == first.id), "{again:?}");
    let other = mailer.send("k1", "m2", &mail).await.unwrap_err();
    assert!(matches!(&other, ProviderError::Refused { status: 422, .. }), "{other:?}");
    mailer.send("k2", "m1", &mail).await.unwrap();
    assert_eq!(mailer.books().await.unwrap().of("m1").len(), 2);

    let mail = PlainMail { to: mail.to, subject: mail.subject };
    plain.send("m1", &mail).await.unwrap();
    plain.send("m1", &mail).await.unwrap();
    plain.inject("m1", Fault::LoseRequest).await.unwrap();
    let lost = plain.send("m1", &mail).await.unwrap_err();
    assert!(matches!(lost, ProviderError::NoAnswer(_)), "{lost:?}");
    assert_eq!(plain.books().await.unwrap().of("m1").len(), 2);
}

#[test]
fn the_program_shows_one_mail_each() {
    let output = Command::new(env!("CARGO_BIN_EXE_email")).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(said.matches(": 1 mail(s)\n").count(), 4, "{said}");
    assert!(said.contains("adopted: mail_2") && said.matches("  parked: ").count() == 2, "{said}");
}
