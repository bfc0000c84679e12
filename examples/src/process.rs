//! A program that starts itself again as workers, kills some of them, and talks with them in lines of JSON.

use std::io::{BufRead as _, Write as _};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::mpsc;

/// A worker process. Dropping it kills it, and waits until it is gone.
#[derive(Debug)]
pub struct Worker {
    number: u32,
    process: Process,
    stdin: ChildStdin,
    stdout: Lines<BufReader<ChildStdout>>,
}

/// The process itself. Once this is dropped, it writes no more.
#[derive(Debug)]
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        if self.0.start_kill().is_ok() {
            while let Ok(None) = self.0.try_wait() {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
}

impl Worker {
    /// Starts this program once more, with `--worker`, and sends it the first line.
    ///
    /// # Errors
    ///
    /// The program cannot be started.
    pub async fn start(number: u32, hello: &impl Serialize) -> anyhow::Result<Worker> {
        let program = std::env::current_exe().context("finding this program")?;
        let mut command = Command::new(program);
        command.arg("--worker").stdin(Stdio::piped()).stdout(Stdio::piped());
        // Ctrl-C is for the first process alone; its workers go with it.
        #[cfg(unix)]
        command.process_group(0);
        let child = command.spawn().with_context(|| format!("starting worker {number}"))?;
        let mut process = Process(child);
        let stdin = process.0.stdin.take().expect("stdin is piped");
        let stdout = process.0.stdout.take().expect("stdout is piped");
        let stdout = BufReader::new(stdout).lines();
        let mut worker = Worker { number, process, stdin, stdout };
        worker.send(&serde_json::to_string(hello)?).await?;
        Ok(worker)
    }

    /// Sends a line. If the worker is gone, [`hear`](Self::hear) finds out and says how it ended.
    ///
    /// # Errors
    ///
    /// The line cannot be written.
    pub async fn send(&mut self, line: &str) -> anyhow::Result<()> {
        let sent = async {
            self.stdin.write_all(line.as_bytes()).await?;
            self.stdin.write_all(b"\n").await
        };
        match sent.await {
            Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Waits for the next line of the worker; may be dropped and called again.
    ///
    /// # Errors
    ///
    /// The worker has ended, or says what nobody understands.
    pub async fn hear<T: DeserializeOwned>(&mut self) -> anyhow::Result<T> {
        match self.stdout.next_line().await? {
            Some(line) => understand(self.number, &line),
            None => {
                let ended = self.process.0.wait().await?;
                bail!("worker {} died in the middle of its work: {ended}", self.number)
            }
        }
    }

    /// Kills the process, sees that this is what it died of, and returns its number and what it had said by then and
    /// nobody has heard.
    ///
    /// # Errors
    ///
    /// It has ended before, or said what nobody understands.
    pub async fn kill<T: DeserializeOwned>(mut self) -> anyhow::Result<(u32, Vec<T>)> {
        let id = self.process.0.id().context("the process is gone already")?;
        self.process.0.start_kill()?;
        let ended = self.process.0.wait().await?;
        if !was_killed(ended) {
            bail!("worker {} was to be killed, but ended by itself: {ended}", self.number);
        }
        Ok((id, unheard(self.number, self.stdout).await?))
    }

    /// Lets the process end, since there is nothing more to do, and returns what it had said by then and nobody has heard.
    ///
    /// # Errors
    ///
    /// It ends badly, or said what nobody understands.
    pub async fn dismiss<T: DeserializeOwned>(self) -> anyhow::Result<Vec<T>> {
        let Worker { number, mut process, stdin, stdout } = self;
        drop(stdin);
        // Before its end: what it still says has to go somewhere, or it would wait.
        let said = unheard(number, stdout).await?;
        let ended = process.0.wait().await?;
        if !ended.success() {
            bail!("worker {number} ended badly: {ended}");
        }
        Ok(said)
    }
}

/// Hears a worker out.
async fn unheard<T: DeserializeOwned>(
    number: u32,
    mut stdout: Lines<BufReader<ChildStdout>>,
) -> anyhow::Result<Vec<T>> {
    let mut said = Vec::new();
    while let Some(line) = stdout.next_line().await? {
        said.push(understand(number, &line)?);
    }
    Ok(said)
}

fn understand<T: DeserializeOwned>(number: u32, line: &str) -> anyhow::Result<T> {
    serde_json::from_str(line).with_context(|| format!("worker {number} said {line:?}"))
}

#[cfg(unix)]
fn was_killed(ended: ExitStatus) -> bool {
    use std::os::unix::process::ExitStatusExt as _;
    ended.signal() == Some(9)
}

#[cfg(not(unix))]
fn was_killed(ended: ExitStatus) -> bool {
    !ended.success()
}

/// In a worker: says something to the process that has started it.
pub fn say(what: &impl Serialize) {
    let line = serde_json::to_string(what).expect("what is said is plain data");
    let mut stdout = std::io::stdout().lock();
    // With nobody there the process ends anyway: see `lines`.
    let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
}

/// In a worker: the lines of the process that has started it. When that is gone, however that came, the worker ends at
/// once: nobody waits for its answers, and no worker is left behind.
pub fn lines() -> mpsc::Receiver<String> {
    let (lines, received) = mpsc::channel(1);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let Ok(line) = line else { break };
            if lines.blocking_send(line).is_err() {
                // The worker gave up; it says why itself.
                return;
            }
        }
        std::process::exit(0)
    });
    received
}

/// In a worker: the first line.
///
/// # Errors
///
/// There is none, or it is another one.
pub async fn hello<T: DeserializeOwned>(lines: &mut mpsc::Receiver<String>) -> anyhow::Result<T> {
    let hello = lines.recv().await.context("no first line; a worker is started by the program itself")?;
    serde_json::from_str(&hello).context("reading the first line")
}
