//! From a URL to the database, and on to the command.

use std::str::FromStr as _;
use std::time::Duration;

use idem_runtime::Idem;
use idem_runtime::store::SqlDatabase;
use sqlx::mysql::{MySqlConnectOptions, MySqlPoolOptions};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};

use crate::act::Said;
use crate::args::{Cli, Command, Options};
use crate::ask::{Ask, Asking};
use crate::failure::Failure;
use crate::print::Output;
use crate::{act, look};

/// How long a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Returns the URL of the database: that of the option, or of the environment.
pub(crate) fn url(options: &Options) -> Option<String> {
    let set = |name| std::env::var(name).ok().filter(|url| !url.is_empty());
    options.database_url.clone().or_else(|| set("IDEM_DATABASE_URL")).or_else(|| set("DATABASE_URL"))
}

/// Connects and does what the command says.
pub(crate) async fn open(cli: &Cli, output: &mut Output, ask: &mut dyn Ask) -> Result<(), Failure> {
    let Some(url) = url(&cli.options) else {
        return Err(Failure::usage(
            "which database? give --database-url, or set IDEM_DATABASE_URL or DATABASE_URL, to sqlite://FILE, postgres://… or mysql://…",
        ));
    };
    let unread =
        |error: sqlx::Error| Failure::usage(format!("the URL of the database cannot be read: {error}"));
    let unreached = |error: sqlx::Error| {
        Failure::failed(format!("the database cannot be reached: {error}; check --database-url"))
    };
    match url.split_once(':').map_or("", |(scheme, _)| scheme) {
        "sqlite" => {
            let options = SqliteConnectOptions::from_str(&url).map_err(unread)?;
            let is_migration = matches!(cli.command, Command::Migrate { print: false });
            let file = options.get_filename().to_owned();
            if file.as_os_str() == ":memory:" || url.contains(":memory:") || url.contains("mode=memory") {
                return Err(in_memory());
            }
            if !matches!(cli.command, Command::Migrate { .. }) && !file.exists() {
                return Err(Failure::failed(format!(
                    "there is no file {}; check --database-url, or run `idem migrate`, which makes it",
                    file.display()
                )));
            }
            let options = options.create_if_missing(is_migration).busy_timeout(PATIENCE);
            let pool = SqlitePoolOptions::new().acquire_timeout(PATIENCE);
            let pool = match cli.command {
                Command::Migrate { print: true } => pool.connect_lazy_with(options),
                _ => pool.connect_with(options).await.map_err(unreached)?,
            };
            act_on(cli, pool, output, ask).await
        }
        "postgres" | "postgresql" => {
            let options = PgConnectOptions::from_str(&url).map_err(unread)?.application_name("idem");
            let pool = PgPoolOptions::new().max_connections(2).acquire_timeout(PATIENCE);
            let pool = match cli.command {
                Command::Migrate { print: true } => pool.connect_lazy_with(options),
                _ => pool.connect_with(options).await.map_err(unreached)?,
            };
            act_on(cli, pool, output, ask).await
        }
        "mysql" | "mariadb" => {
            let url = url.replacen("mariadb:", "mysql:", 1);
            let options = MySqlConnectOptions::from_str(&url).map_err(unread)?;
            let pool = MySqlPoolOptions::new().max_connections(2).acquire_timeout(PATIENCE);
            let pool = match cli.command {
                Command::Migrate { print: true } => pool.connect_lazy_with(options),
                _ => pool.connect_with(options).await.map_err(unreached)?,
            };
            act_on(cli, pool, output, ask).await
        }
        "memory" => Err(in_memory()),
        "" => {
            Err(Failure::usage(format!("`{url}` is no URL; write sqlite://{url} if it is a file of SQLite")))
        }
        scheme => Err(Failure::usage(format!(
            "there is no store for `{scheme}:`; give a URL that begins with sqlite://, postgres:// or mysql://"
        ))),
    }
}

fn in_memory() -> Failure {
    Failure::usage(
        "a database in memory lives in the process that made it, and no command can look into it; give the URL of a file or a server",
    )
}

async fn act_on<D: SqlDatabase>(
    cli: &Cli,
    pool: sqlx::Pool<D>,
    output: &mut Output,
    ask: &mut dyn Ask,
) -> Result<(), Failure> {
    let options = &cli.options;
    let mut builder = Idem::builder(pool)
        .namespace(&*options.namespace)
        .table_prefix(&*options.table_prefix)
        .connections(2);
    if let Some(schema) = &options.schema {
        builder = builder.schema(&**schema);
    }
    let idem = builder.build()?;
    let asking = if options.yes { Asking::Never } else { Asking::First };
    let mut act = act::Desk { idem: &idem, asking, ask, output };
    match &cli.command {
        Command::Migrate { print } => act.migrate(*print).await,
        Command::Jobs(reach) => look::jobs(&idem, reach, output).await,
        Command::List { reach, job, state, key, limit, after, claims } => {
            let query =
                look::query(&idem, reach, job.as_deref(), key.as_deref(), *limit, after.map(|after| after.0));
            let any = match claims {
                true => look::claims(&idem, &query, *limit, output).await?,
                false => look::keys(&idem, query, state, *limit, output).await?,
            };
            if let Some(job) = job
                && !any
                && let Some(said) = look::no_job(&idem, reach, job).await?
            {
                output.remark(&said);
            }
            Ok(())
        }
        Command::Explain { key, show_result } => look::explain(&idem, key, *show_result, output).await,
        Command::Release { key: Some(key), job, change, .. } => {
            act.release(key, job.as_deref(), change).await
        }
        Command::Release { task: Some(task), change, .. } => act.release_task(*task, change).await,
        Command::Release { .. } => Err(Failure::usage("which key? give a key, or --task")),
        Command::Forget { key, change } => act.forget(key, change).await,
        Command::Resolve { key, done, retain, correct, change, .. } => {
            let done = done.as_deref();
            act.resolve(key, &Said { done, retain: retain.as_deref(), correct: *correct }, change).await
        }
        Command::Sweep { dry_run } => act.sweep(*dry_run).await,
        Command::Stats(reach) => look::stats(&idem, reach, output).await,
        Command::Completions { .. } => unreachable!("they need no database"),
    }
}
