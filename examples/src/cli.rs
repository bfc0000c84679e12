//! What the programs have in common: where the data is, what is logged, and how the provider is run.

use std::io::IsTerminal as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Command, ExitCode};

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

/// Joins an error and its causes; those of sqlx are part of its own text already.
pub fn causes(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |text, cause| match text.as_str() {
        "" => cause,
        text if text.contains(&cause) => text.to_owned(),
        text => format!("{text}: {cause}"),
    })
}

/// Waits for Ctrl-C or a request to end. What is dropped then takes the workers and the temporary
/// database along.
///
/// # Errors
///
/// The system knows no such signals.
pub async fn interrupted(program: &str) -> anyhow::Result<ExitCode> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            done = tokio::signal::ctrl_c() => done?,
            _ = terminate.recv() => {}
        }
    }
    #[cfg(not(unix))]
    tokio::signal::ctrl_c().await?;
    eprintln!("\n{program}: interrupted; the workers are stopped");
    Ok(ExitCode::from(130))
}

/// Writes a number with its thousands apart.
pub fn number(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Writes how many there are of something.
pub fn plural(count: u64, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        _ => format!("{} {what}s", number(count)),
    }
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn thousands_stand_apart() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(number), ["0", "999", "1,000", "1,234,567"]);
    }
}
