//! What the programs have in common: where the data is, what is logged, and how the gateway is run.

use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context as _, bail};
use tempfile::TempDir;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;

use crate::gateway;

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

/// Serves the payment gateway, and says on stdout where.
///
/// # Errors
///
/// The address is taken.
pub async fn run_gateway(address: SocketAddr, until_stdin_ends: bool) -> anyhow::Result<()> {
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
        ended = gateway::serve(listener) => match ended? {},
        () = stdin_ends => Ok(()),
    }
}
