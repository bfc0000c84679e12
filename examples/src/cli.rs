//! What the programs have in common: where the data is, what is logged, and how the provider is run.

use std::io::IsTerminal as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail};
use tempfile::TempDir;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;

use crate::provider::{self, ProviderProcess};

/// The options of every example.
#[derive(Debug, clap::Args)]
pub struct CommonArgs {
    /// sqlite://FILE, which is kept, or postgres://…; a throw-away SQLite file if left out
    #[arg(long, value_name = "URL")]
    database_url: Option<String>,
    /// Show what idem logs
    #[arg(long, short)]
    verbose: bool,
}

/// The database that an example works on.
#[derive(Debug)]
pub enum Database {
    /// A SQLite file, and the folder to remove afterwards if it is a throw-away one.
    Sqlite(String, Option<TempDir>),
    /// A database on a PostgreSQL server.
    Postgres(String),
}

impl CommonArgs {
    /// Sets up logging and says where the data is.
    ///
    /// # Errors
    ///
    /// A URL of another database, or no place for a temporary file.
    pub fn set_up(&self) -> anyhow::Result<Database> {
        if self.verbose {
            tracing_subscriber::fmt()
                .with_writer(std::io::stderr)
                .with_ansi(std::io::stderr().is_terminal())
                .init();
        }
        match self.database_url.as_deref() {
            None => {
                let folder = tempfile::tempdir().context("making a folder for a temporary database")?;
                Ok(Database::Sqlite(sqlite_url(&folder.path().join("example.db")), Some(folder)))
            }
            Some(url) if url.starts_with("sqlite:") => Ok(Database::Sqlite(url.to_owned(), None)),
            Some(url) if url.starts_with("postgres:") || url.starts_with("postgresql:") => {
                Ok(Database::Postgres(url.to_owned()))
            }
            Some(url) => {
                let scheme = url.split_once(':').map_or("no scheme", |(scheme, _)| scheme);
                bail!("--database-url must be sqlite://FILE or postgres://…, and this is `{scheme}`")
            }
        }
    }
}

/// Returns the URL of a SQLite file.
pub fn sqlite_url(file: &Path) -> String {
    format!("sqlite://{}", file.display())
}

/// The options of an example that talks to a provider.
#[derive(Debug, clap::Args)]
pub struct ProviderArgs {
    /// A provider that is running, as IP:PORT (see the program `provider`)
    #[arg(long, value_name = "ADDRESS")]
    provider: Option<SocketAddr>,
    /// Be the provider
    #[arg(long, hide = true)]
    pub serve_provider: bool,
}

/// The provider that an example talks to.
#[derive(Debug)]
pub struct Provider {
    /// Where it is.
    pub address: SocketAddr,
    /// It ends with this, if the example has started it.
    _process: Option<ProviderProcess>,
}

impl ProviderArgs {
    /// Finds the provider, or starts this program once more as one: `cargo run --bin payment` builds no other.
    ///
    /// # Errors
    ///
    /// It does not start.
    pub fn find(&self) -> anyhow::Result<Provider> {
        if let Some(address) = self.provider {
            return Ok(Provider { address, _process: None });
        }
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("--serve-provider");
        let process = ProviderProcess::start(command).context("starting the provider")?;
        let address = process.address();
        println!("The provider is process {}, at {address}.", process.id());
        Ok(Provider { address, _process: Some(process) })
    }

    /// Is the provider of the program that has started this one.
    ///
    /// # Errors
    ///
    /// There is no free port.
    pub async fn serve(&self) -> anyhow::Result<()> {
        serve_provider(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), true).await
    }
}

/// Serves the provider, and says on stdout where.
///
/// # Errors
///
/// The address is taken.
pub async fn serve_provider(address: SocketAddr, until_stdin_ends: bool) -> anyhow::Result<()> {
    let listener = TcpListener::bind(address).await.with_context(|| format!("listening on {address}"))?;
    println!("listening on {}", listener.local_addr()?);
    let stdin_ends = async {
        if until_stdin_ends {
            let _ = tokio::io::stdin().read_to_end(&mut Vec::new()).await;
        } else {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        ended = provider::serve(listener) => match ended? {},
        () = stdin_ends => Ok(()),
    }
}
