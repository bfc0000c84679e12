//! Makes and removes throw-away databases, on connections that outlast every test: to open one costs a server more than
//! to make a few tables.

use std::panic::resume_unwind;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError, mpsc};
use std::time::Duration;

use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _};
use tokio::runtime::{Builder, Runtime};

use super::OptionsOf;

#[cfg(feature = "postgres")]
pub(super) static POSTGRES: Keeper<sqlx::Postgres> = Keeper { idle: Mutex::new(Vec::new()) };

#[cfg(feature = "mysql")]
pub(super) static MYSQL: Keeper<sqlx::MySql> = Keeper { idle: Mutex::new(Vec::new()) };

/// How long removing a lab may take: a connection that the test has lost can hold what has to go.
const REMOVE_LIMIT: Duration = Duration::from_secs(20);

/// The connections to the server of this process.
pub(super) struct Keeper<D: sqlx::Database> {
    /// As many as labs were made or removed at once.
    idle: Mutex<Vec<D::Connection>>,
}

impl<D: sqlx::Database> Keeper<D>
where
    for<'c> &'c mut D::Connection: sqlx::Executor<'c, Database = D>,
    OptionsOf<D>: Send + 'static,
{
    /// Runs statements. They leave the settings of their session as they were, or fail.
    pub(super) async fn run(&'static self, options: OptionsOf<D>, sql: String) -> Result<(), sqlx::Error> {
        // The runtime of a test takes its connections with it.
        let ran = runtime().spawn(async move { self.execute(&options, sql).await }).await;
        ran.unwrap_or_else(|ended| resume_unwind(ended.into_panic()))
    }

    /// The same from where one cannot wait as async code does, for a limited time.
    pub(super) fn run_in_time(&'static self, options: OptionsOf<D>, sql: String) -> Result<(), String> {
        let (tell, told) = mpsc::channel();
        runtime().spawn(async move {
            let ran = match tokio::time::timeout(REMOVE_LIMIT, self.execute(&options, sql)).await {
                Ok(ran) => ran.map_err(|error| error.to_string()),
                Err(_) => Err(format!("not within {REMOVE_LIMIT:?}")),
            };
            // Whoever asked waits below.
            let _ = tell.send(ran);
        });
        told.recv().unwrap_or_else(|_| Err(String::from("the task panicked")))
    }

    async fn execute(&self, options: &OptionsOf<D>, sql: String) -> Result<(), sqlx::Error> {
        let mut connection = self.connection(options).await?;
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await?;
        self.idle().push(connection);
        Ok(())
    }

    /// Takes an idle connection that answers, or opens one.
    async fn connection(&self, options: &OptionsOf<D>) -> Result<D::Connection, sqlx::Error> {
        loop {
            let idle = self.idle().pop();
            match idle {
                None => return options.connect().await,
                Some(mut idle) => {
                    if idle.ping().await.is_ok() {
                        return Ok(idle);
                    }
                }
            }
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<D::Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The runtime that the connections live on.
fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(1).thread_name("idem-testkit-labs").enable_all();
        builder.build().expect("a thread can be started")
    })
}
