//! The command `idem`: looks at idempotent jobs in any of idem's databases, and settles what they do not know.

mod act;
mod args;
mod ask;
mod failure;
mod json;
mod look;
mod open;
mod print;
mod suggest;

use std::io::Write as _;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

use self::args::{Cli, Command};
use self::ask::Terminal;
use self::failure::Failure;
use self::print::Output;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let mut output = Output::new(&cli.options);
    match run(&cli, &mut output).await {
        Ok(()) => output.flush(),
        Err(failure) => {
            // What was found before still shows.
            let _ = output.flush();
            // Where nobody reads errors nothing can be said.
            let _ = writeln!(std::io::stderr(), "{}", output.error(&failure.redacted(&cli.options)));
            failure.exit_code()
        }
    }
}

async fn run(cli: &Cli, output: &mut Output) -> Result<(), Failure> {
    if let Command::Completions { shell } = &cli.command {
        let mut script = Vec::new();
        clap_complete::generate(*shell, &mut Cli::command(), "idem", &mut script);
        output.raw(&String::from_utf8_lossy(&script));
        return Ok(());
    }
    open::open(cli, output, &mut Terminal).await
}
