//! The state of the jobs in a check: a provider that the processes of a trial share.

use std::sync::Arc;

use idem_examples::provider::{
    Client, Contacts, Directory, Gateway, Mailer, PlainMailer, Printer, Profile, ProviderProcess, Service,
};
use idem_examples::user_sync;
use idem_runtime::Provides;
use idem_testkit::Trial;
use idem_testkit::lab::LabDatabase;

use super::common;

/// What the jobs depend on: a provider in a process of its own, with empty books.
#[derive(Clone, Provides)]
pub(crate) struct World {
    pub(crate) gateway: Gateway,
    pub(crate) mailer: Mailer,
    pub(crate) plain: PlainMailer,
    pub(crate) printer: Printer,
    pub(crate) directory: Directory,
    pub(crate) contacts: Contacts,
    /// Where the test started it; a process that is killed only knows its address.
    _process: Option<Arc<ProviderProcess>>,
}

impl World {
    pub(crate) fn of<D: LabDatabase>(trial: &Trial<D>) -> Self {
        let mut process = None;
        let address = trial.share("provider", || {
            let started = common::provider();
            let address = started.address();
            introduce(Client::new(address));
            process = Some(Arc::new(started));
            address.to_string()
        });
        let address = address.parse().expect("the provider shares its address");
        World {
            gateway: Client::new(address),
            mailer: Client::new(address),
            plain: Client::new(address),
            printer: Client::new(address),
            directory: Client::new(address),
            contacts: Client::new(address),
            _process: process,
        }
    }
}

/// Tells the directory who the user is that is to be synced.
fn introduce(directory: Directory) {
    let ada = Profile { name: String::from("Ada"), email: String::from("ada@example.org") };
    let put = async move { directory.put(&user_sync::reference(42), &ada).await };
    // A state is made outside of what is async, so on a thread of its own.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let told = std::thread::spawn(move || runtime.expect("a thread has a runtime").block_on(put));
    told.join().expect("the thread ends").expect("the directory is there");
}

/// Counts what the provider has done for a client.
pub(crate) async fn done<T: Service>(client: &Client<T>) -> u64 {
    client.books().await.expect("the provider answers").entries.len() as u64
}
