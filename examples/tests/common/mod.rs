//! What tests of several programs need.

use std::process::Command;

use idem_examples::provider::ProviderProcess;

/// Starts a provider, which ends with its handle or with this process.
pub(crate) fn provider() -> ProviderProcess {
    let mut command = Command::new(env!("CARGO_BIN_EXE_provider"));
    command.arg("--until-stdin-ends");
    ProviderProcess::start(command).expect("the provider starts")
}
