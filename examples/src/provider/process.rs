//! The provider as a child process.

use std::io::{self, BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, Command, Stdio};

use super::{Client, Service};

/// A provider's process, ended when this is dropped.
#[derive(Debug)]
pub struct ProviderProcess {
    child: Child,
    address: SocketAddr,
    /// The provider ends when this does, should the parent be killed.
    _stdin: ChildStdin,
}

impl ProviderProcess {
    /// Starts a provider with `command`, whose first line of output must end in the address.
    ///
    /// # Errors
    ///
    /// The program cannot be started, or says something else.
    pub fn start(mut command: Command) -> io::Result<Self> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::Error::other("the provider has no stdin or no stdout"));
        };
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let address = line.split_whitespace().next_back().and_then(|word| word.parse().ok());
        let Some(address) = address else {
            let _ = child.kill();
            let _ = child.wait();
            return Err(io::Error::other(format!("the provider did not start; it said {line:?}")));
        };
        Ok(ProviderProcess { child, address, _stdin: stdin })
    }

    /// Returns the number of the process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns the address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns a client of one of its services.
    pub fn client<T: Service>(&self) -> Client<T> {
        Client::new(self.address)
    }
}

impl Drop for ProviderProcess {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
