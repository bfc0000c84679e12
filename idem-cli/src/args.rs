//! What the command takes.

use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use idem_runtime::engine::TaskId;
use idem_runtime::key::KeyHash;
use idem_runtime::record::State;

/// Looks at idempotent jobs, and settles what they do not know.
#[derive(Debug, Parser)]
#[command(
    name = "idem",
    version,
    propagate_version = true,
    after_help = "Exit codes: 0 done; 1 failed; 2 wrong usage, or nobody there to ask; 3 the key has changed meanwhile, or is in no \
                  state for this, and nothing was changed.\n\nChanges are made under the epoch that was shown, and leave a note in the \
                  audit of the key with your name and the text of --why."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) options: Options,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The database: sqlite://FILE, postgres://… or mysql://… [env: IDEM_DATABASE_URL, then DATABASE_URL]
    #[arg(long, global = true, value_name = "URL", hide_env = true)]
    pub(crate) database_url: Option<String>,
    /// The namespace of the jobs
    #[arg(long, global = true, value_name = "NAME", default_value = "default")]
    pub(crate) namespace: String,
    /// What the names of idem's tables begin with
    #[arg(long, global = true, value_name = "PREFIX", default_value = "idem_")]
    pub(crate) table_prefix: String,
    /// The schema (PostgreSQL) or database (MySQL) of idem's tables
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) schema: Option<String>,
    /// Print JSON, for programs
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// When to use colours; NO_COLOR is respected
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub(crate) color: Color,
    /// Do not ask before something is changed
    #[arg(long, short, global = true)]
    pub(crate) yes: bool,
}

/// When to use colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    /// On a terminal.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create or upgrade idem's tables
    Migrate {
        /// Print the SQL for an empty database instead of running it
        #[arg(long)]
        print: bool,
    },
    /// List the jobs, with the number of their keys in each state
    #[command(after_help = "It looks at every record.")]
    Jobs(Reach),
    /// List keys, in the order of their hashes
    #[command(
        after_help = "Examples:\n  idem list --state parked --state failed\n  idem list --job charge --key 42\n  idem list --claims      the tasks \
                      that have unique claims\n\nAn expired key answers no more, and a sweep deletes it: its time is over, or somebody has \
                      forgotten it, which the audit that `explain` shows tells."
    )]
    List {
        #[command(flatten)]
        reach: Reach,
        /// Only keys of this job
        #[arg(long, value_name = "NAME")]
        job: Option<String>,
        /// Only keys in this state, or in one of several: failed,parked
        #[arg(long, value_name = "STATE", value_delimiter = ',')]
        state: Vec<StateName>,
        /// Only keys whose readable form contains this text
        #[arg(long, value_name = "TEXT")]
        key: Option<String>,
        /// At most so many
        #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        limit: u32,
        /// Go on behind this key: the cursor that the last page ended with
        #[arg(long, value_name = "CURSOR")]
        after: Option<KeyHashArg>,
        /// List unique claims, and the tasks that have them, instead of keys
        #[arg(long, conflicts_with = "state")]
        claims: bool,
    },
    /// Show all that is known of a key
    Explain {
        #[command(flatten)]
        key: KeyArg,
        /// Show the recorded result or final error, and the results of steps, as JSON; they may be secret
        #[arg(long)]
        show_result: bool,
    },
    /// End the claim of a run that is known to be dead, before its lease passes
    #[command(
        group(ArgGroup::new("what").required(true).args(["key", "task"])),
        after_help = "The key counts as failed, and the next run takes it over under the next epoch. If the run lives after all, it writes \
                      nothing more.\n\nWith --task, the unique claims of a task end that no queue will ever end."
    )]
    Release {
        /// The key: its hash, or its readable form
        key: Option<String>,
        /// The job, where the readable form alone is not enough
        #[arg(long, value_name = "NAME")]
        job: Option<String>,
        /// End the unique claims of this task instead
        #[arg(long, value_name = "ID", conflicts_with_all = ["job", "epoch"])]
        task: Option<TaskId>,
        #[command(flatten)]
        change: Change,
    },
    /// Let a key count as if nothing had ever run for it
    #[command(after_help = "Whoever does so says that the effects may be had again.")]
    Forget {
        #[command(flatten)]
        key: KeyArg,
        #[command(flatten)]
        change: Change,
    },
    /// Settle a parked key: the effect has happened, or it may be had
    #[command(
        group(ArgGroup::new("found").required(true).args(["done", "rerun"])),
        after_help = "JSON is the result of the parked step, or of the job if the job as a whole is parked: `null` for a unit or none, a name for a \
                      variant, {\"Variant\": …} for one with content. Its type is not checked here: with a wrong one the next \
                      run parks the step again, and it can be resolved once more; of a job, every replay fails until the key is forgotten."
    )]
    Resolve {
        #[command(flatten)]
        key: KeyArg,
        /// It has happened, with this result
        #[arg(long, value_name = "JSON")]
        done: Option<String>,
        /// It has not happened: the next run has it
        #[arg(long)]
        rerun: bool,
        /// Of a job that is parked as a whole: how long its result answers, as its `retain` says: days (7d), hours, minutes, seconds, `forever` or
        /// `none`
        #[arg(long, value_name = "TIME", requires = "done")]
        retain: Option<String>,
        /// It takes the place of what was said of the key before, by mistake, if no run has begun since
        #[arg(long)]
        correct: bool,
        #[command(flatten)]
        change: Change,
    },
    /// Delete records and unique claims whose time is over, of every namespace
    #[command(after_help = "--namespace has no effect here.")]
    Sweep {
        /// Count them only; nothing is asked either if there are none
        #[arg(long)]
        dry_run: bool,
    },
    /// Count records, claims and tasks, and measure the tables
    #[command(after_help = "It looks at every record.")]
    Stats(Reach),
    /// Print the completions for a shell
    #[command(
        after_help = "For instance:\n  idem completions bash > ~/.local/share/bash-completion/completions/idem\n  idem completions fish > \
                      ~/.config/fish/completions/idem.fish"
    )]
    Completions {
        /// The shell
        shell: Shell,
    },
}

/// How far a command looks.
#[derive(Debug, Args)]
pub(crate) struct Reach {
    /// Look at all namespaces
    #[arg(long, conflicts_with = "namespace")]
    pub(crate) all_namespaces: bool,
}

/// A key.
#[derive(Debug, Args)]
pub(crate) struct KeyArg {
    /// The key: its hash, or its readable form
    pub(crate) key: String,
    /// The job, where the readable form alone is not enough
    #[arg(long, value_name = "NAME")]
    pub(crate) job: Option<String>,
}

/// How a change is made.
#[derive(Debug, Args)]
pub(crate) struct Change {
    /// Why, for the audit: who has looked, and where
    #[arg(long, value_name = "TEXT")]
    pub(crate) why: String,
    /// The epoch that you have seen; the one that is shown, if you do not say
    #[arg(long, value_name = "N")]
    pub(crate) epoch: Option<i64>,
}

/// A state, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum StateName {
    Running,
    Lapsed,
    Failed,
    Parked,
    Completed,
    Rejected,
    Expired,
}

impl StateName {
    pub(crate) fn state(self) -> State {
        match self {
            StateName::Running => State::Running,
            StateName::Lapsed => State::Lapsed,
            StateName::Failed => State::Failed,
            StateName::Parked => State::Parked,
            StateName::Completed => State::Completed,
            StateName::Rejected => State::Rejected,
            StateName::Expired => State::Absent,
        }
    }
}

/// Returns the name of a state.
pub(crate) fn state_name(state: State) -> &'static str {
    match state {
        State::Running => "running",
        State::Lapsed => "lapsed",
        State::Failed => "failed",
        State::Parked => "parked",
        State::Completed => "completed",
        State::Rejected => "rejected",
        State::Absent => "expired",
    }
}

/// A key's hash.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KeyHashArg(pub KeyHash);

impl std::str::FromStr for KeyHashArg {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        KeyHash::from_hex(text).map(KeyHashArg).ok_or("a hash has 32 hex digits")
    }
}
