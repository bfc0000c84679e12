//! The job, and the tables that it works on.
//!
//! | table | a row is | written |
//! |---|---|---|
//! | `webhook_events` | an event that was received: the original | by the job |
//! | `webhook_totals` | the number of events of one kind in one repository | by the job, in the same transaction |
//! | `webhook_deliveries` | a delivery that was answered, with the original that it belongs to | after the job |
//!
//! `webhook_events` has **no** unique constraint on (source, delivery): nothing but idem keeps a second
//! delivery out, so its rows are a proof.
//!
//! The log of deliveries stands outside the job. A duplicate does not run the job, so only its caller can
//! note it. If the worker dies between the two, the effect is there and the log lacks a line; the
//! delivery was not acknowledged either, so it comes again and is noted as the duplicate that it is.

use std::str::FromStr as _;
use std::time::Duration;

use async_trait::async_trait;
use idem_examples::database_url::{DatabaseUrl, Kind};
use idem_runtime::{Done, Error, StoreError};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::audit::{Counted, LogRows};
use crate::desk::Desk;
use crate::events::{Event, Webhook};

/// Who sends the events: the first half of the key.
const SOURCE: &str = "github";

/// How long a worker waits for its turn to write to SQLite.
const SQLITE_WAIT: Duration = Duration::from_secs(30);

/// What the first delivery of an event leaves behind, and every later one is answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Received {
    /// The row of `webhook_events`.
    pub(crate) original: i64,
}

/// Where webhooks are received.
#[async_trait]
pub(crate) trait Inbox: Send + Sync {
    /// Creates the tables, those of idem as well, where they are missing.
    async fn create(&self) -> anyhow::Result<()>;

    /// Makes the job known, which shows early if the tables are not there.
    async fn open(&self) -> Result<(), StoreError>;

    /// Receives an event, or answers for it from the record of an earlier delivery.
    async fn receive(&self, webhook: Webhook) -> Result<Done<Received>, Error<sqlx::Error>>;

    /// Receives an event whether or not it was received before: what idem is there to prevent.
    async fn receive_without_idem(&self, webhook: Webhook) -> Result<Received, sqlx::Error>;

    /// Notes a delivery, and its original, in the log.
    async fn note(
        &self,
        batch: &str,
        worker: u32,
        delivery: &str,
        done: &Done<Received>,
    ) -> Result<(), sqlx::Error>;

    /// Counts what is there for `events`, and in the log for `batch`, on a new connection of its own.
    async fn count(&self, events: &[Event], batch: &str) -> Result<Counted, sqlx::Error>;

    /// Returns the state of the job.
    fn desk(&self) -> &Desk;

    /// Closes the connections.
    async fn close(&self);
}

macro_rules! inbox {
    (
        $module:ident, $Db:ident, $Pool:ident, $Connection:ident,
        tables: $tables:literal,
        insert: $insert:literal,
        original: $original:literal,
        add: $add:literal,
        note: $note:literal,
        totals: $totals:literal,
        log: $log:literal $(,)?
    ) => {
        mod $module {
            use idem_runtime::prelude::*;
            use sqlx::{Connection as _, $Connection, $Pool};

            use super::*;

            /// Keeps an event and counts it, and returns the row that it is kept in.
            ///
            /// GitHub delivers again for up to three days; a record answers for thirty. The payload is part
            /// of the fingerprint, so the id of one event with the body of another is refused.
            #[idempotent(name = "webhook", key = (source, delivery), retain = "30d")]
            pub(super) async fn receive(
                tx: &mut Tx<'_, $Db>,
                source: String,
                delivery: String,
                event: String,
                payload: Value,
                #[state] desk: &Desk,
            ) -> Result<Received, sqlx::Error> {
                keep(tx, desk, &source, &delivery, &event, &payload).await
            }

            /// The effect. It knows nothing of idem, so `--without-idem` can call it as it is.
            async fn keep(
                connection: &mut $Connection,
                desk: &Desk,
                source: &str,
                delivery: &str,
                event: &str,
                payload: &Value,
            ) -> Result<Received, sqlx::Error> {
                desk.count_run();
                sqlx::query($insert)
                    .bind(source)
                    .bind(delivery)
                    .bind(event)
                    .bind(payload.to_string())
                    .execute(&mut *connection)
                    .await?;
                let original = sqlx::query_scalar($original).fetch_one(&mut *connection).await?;
                sqlx::query($add).bind(repository(payload)).bind(event).execute(&mut *connection).await?;
                desk.here_it_may_die().await;
                Ok(Received { original })
            }

            pub(super) struct Tables {
                pub(super) pool: $Pool,
                pub(super) idem: Idem<$Db, Desk>,
            }

            #[async_trait]
            impl Inbox for Tables {
                async fn create(&self) -> anyhow::Result<()> {
                    // Not through the pool, which would go on trying to reach a server that is not there.
                    let mut connection = $Connection::connect_with(&self.pool.connect_options()).await?;
                    sqlx::raw_sql($tables).execute(&mut connection).await?;
                    connection.close().await?;
                    Ok(self.idem.migrate().await?)
                }

                async fn open(&self) -> Result<(), StoreError> {
                    self.idem.enrol::<Receive>().await
                }

                async fn receive(&self, webhook: Webhook) -> Result<Done<Received>, Error<sqlx::Error>> {
                    let Webhook { delivery, event, payload } = webhook;
                    receive(&self.idem, String::from(SOURCE), delivery, event, payload).await
                }

                async fn receive_without_idem(&self, webhook: Webhook) -> Result<Received, sqlx::Error> {
                    let Webhook { delivery, event, payload } = webhook;
                    let mut tx = self.pool.begin().await?;
                    let received = keep(&mut tx, self.desk(), SOURCE, &delivery, &event, &payload).await?;
                    tx.commit().await?;
                    Ok(received)
                }

                async fn note(
                    &self,
                    batch: &str,
                    worker: u32,
                    delivery: &str,
                    done: &Done<Received>,
                ) -> Result<(), sqlx::Error> {
                    sqlx::query($note)
                        .bind(batch)
                        .bind(i64::from(worker))
                        .bind(SOURCE)
                        .bind(delivery)
                        .bind(done.original)
                        .bind(done.is_replayed())
                        .execute(&self.pool)
                        .await?;
                    Ok(())
                }

                async fn count(&self, events: &[Event], batch: &str) -> Result<Counted, sqlx::Error> {
                    let mut connection = $Connection::connect_with(&self.pool.connect_options()).await?;
                    let rows: Vec<(String, i64)> = sqlx::query_as(
                        "SELECT delivery, COUNT(*) FROM webhook_events WHERE source = 'github' GROUP BY delivery",
                    )
                    .fetch_all(&mut connection)
                    .await?;
                    let totals: (i64, i64) = sqlx::query_as($totals).fetch_one(&mut connection).await?;
                    let log: Vec<LogRows> = sqlx::query_as($log).bind(batch).fetch_all(&mut connection).await?;
                    connection.close().await?;
                    Ok(Counted::new(events, &rows, totals, &log))
                }

                fn desk(&self) -> &Desk {
                    self.idem.state()
                }

                async fn close(&self) {
                    self.pool.close().await;
                }
            }

            #[cfg(test)]
            mod tests {
                use std::sync::Arc;

                use idem_testkit::{Scenario, check_single_effect};

                use super::*;

                /// A desk that the workers of a trial share.
                #[derive(Clone, Default)]
                struct Shared(Arc<Desk>);

                impl Provides<Desk> for Shared {
                    fn provide(&self) -> &Desk {
                        &self.0
                    }
                }

                #[tokio::test]
                async fn an_event_is_received_once() {
                    check_single_effect(
                        Scenario::new(Receive {
                        source: String::from(SOURCE),
                        delivery: String::from("72d3162e"),
                        event: String::from("push"),
                        payload: serde_json::json!({ "repository": { "full_name": "a/b" } }),
                    })
                            .setup(async |lab| {
                                sqlx::raw_sql($tables).execute(&mut lab.connect().await).await?;
                                Ok(())
                            })
                            .state(Shared::default),
                    )
                    .await;
                }
            }
        }
    };
}

inbox! {
    sqlite, Sqlite, SqlitePool, SqliteConnection,
    tables: "PRAGMA journal_mode = WAL;
        CREATE TABLE IF NOT EXISTS webhook_events (
            id INTEGER PRIMARY KEY, source TEXT NOT NULL, delivery TEXT NOT NULL, event TEXT NOT NULL,
            payload TEXT NOT NULL);
        CREATE TABLE IF NOT EXISTS webhook_totals (
            repository TEXT NOT NULL, event TEXT NOT NULL, events INTEGER NOT NULL,
            PRIMARY KEY (repository, event));
        CREATE TABLE IF NOT EXISTS webhook_deliveries (
            id INTEGER PRIMARY KEY, batch TEXT NOT NULL, worker INTEGER NOT NULL, source TEXT NOT NULL,
            delivery TEXT NOT NULL, original INTEGER NOT NULL, duplicate BOOLEAN NOT NULL);",
    insert: "INSERT INTO webhook_events (source, delivery, event, payload) VALUES (?, ?, ?, ?)",
    original: "SELECT last_insert_rowid()",
    add: "INSERT INTO webhook_totals (repository, event, events) VALUES (?, ?, 1)
        ON CONFLICT (repository, event) DO UPDATE SET events = events + 1",
    note: "INSERT INTO webhook_deliveries (batch, worker, source, delivery, original, duplicate)
        VALUES (?, ?, ?, ?, ?, ?)",
    totals: "SELECT (SELECT COUNT(*) FROM webhook_events), (SELECT COALESCE(SUM(events), 0) FROM webhook_totals)",
    log: "SELECT d.duplicate, COUNT(*) AS deliveries, COUNT(e.id) AS originals FROM webhook_deliveries d
        LEFT JOIN webhook_events e ON e.id = d.original AND e.source = d.source AND e.delivery = d.delivery
        WHERE d.batch = ? GROUP BY d.duplicate",
}

inbox! {
    postgres, Postgres, PgPool, PgConnection,
    tables: "CREATE TABLE IF NOT EXISTS webhook_events (
            id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, source TEXT NOT NULL, delivery TEXT NOT NULL,
            event TEXT NOT NULL, payload TEXT NOT NULL);
        CREATE TABLE IF NOT EXISTS webhook_totals (
            repository TEXT NOT NULL, event TEXT NOT NULL, events BIGINT NOT NULL,
            PRIMARY KEY (repository, event));
        CREATE TABLE IF NOT EXISTS webhook_deliveries (
            id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, batch TEXT NOT NULL, worker BIGINT NOT NULL,
            source TEXT NOT NULL, delivery TEXT NOT NULL, original BIGINT NOT NULL, duplicate BOOLEAN NOT NULL);",
    insert: "INSERT INTO webhook_events (source, delivery, event, payload) VALUES ($1, $2, $3, $4)",
    original: "SELECT lastval()",
    add: "INSERT INTO webhook_totals (repository, event, events) VALUES ($1, $2, 1)
        ON CONFLICT (repository, event) DO UPDATE SET events = webhook_totals.events + 1",
    note: "INSERT INTO webhook_deliveries (batch, worker, source, delivery, original, duplicate)
        VALUES ($1, $2, $3, $4, $5, $6)",
    totals: "SELECT (SELECT COUNT(*) FROM webhook_events),
        (SELECT CAST(COALESCE(SUM(events), 0) AS BIGINT) FROM webhook_totals)",
    log: "SELECT d.duplicate, COUNT(*) AS deliveries, COUNT(e.id) AS originals FROM webhook_deliveries d
        LEFT JOIN webhook_events e ON e.id = d.original AND e.source = d.source AND e.delivery = d.delivery
        WHERE d.batch = $1 GROUP BY d.duplicate",
}

inbox! {
    mysql, MySql, MySqlPool, MySqlConnection,
    tables: "CREATE TABLE IF NOT EXISTS webhook_events (
            id BIGINT AUTO_INCREMENT PRIMARY KEY, source VARCHAR(255) NOT NULL, delivery TEXT NOT NULL,
            event VARCHAR(255) NOT NULL, payload LONGTEXT NOT NULL)
            ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
        CREATE TABLE IF NOT EXISTS webhook_totals (
            repository VARCHAR(255) NOT NULL, event VARCHAR(255) NOT NULL, events BIGINT NOT NULL,
            PRIMARY KEY (repository, event))
            ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
        CREATE TABLE IF NOT EXISTS webhook_deliveries (
            id BIGINT AUTO_INCREMENT PRIMARY KEY, batch VARCHAR(255) NOT NULL, worker BIGINT NOT NULL,
            source VARCHAR(255) NOT NULL, delivery TEXT NOT NULL, original BIGINT NOT NULL,
            duplicate BOOLEAN NOT NULL)
            ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;",
    insert: "INSERT INTO webhook_events (source, delivery, event, payload) VALUES (?, ?, ?, ?)",
    original: "SELECT CAST(LAST_INSERT_ID() AS SIGNED)",
    add: "INSERT INTO webhook_totals (repository, event, events) VALUES (?, ?, 1)
        ON DUPLICATE KEY UPDATE events = events + 1",
    note: "INSERT INTO webhook_deliveries (batch, worker, source, delivery, original, duplicate)
        VALUES (?, ?, ?, ?, ?, ?)",
    totals: "SELECT (SELECT COUNT(*) FROM webhook_events),
        (SELECT CAST(COALESCE(SUM(events), 0) AS SIGNED) FROM webhook_totals)",
    log: "SELECT d.duplicate, COUNT(*) AS deliveries, COUNT(e.id) AS originals FROM webhook_deliveries d
        LEFT JOIN webhook_events e ON e.id = d.original AND e.source = d.source AND e.delivery = d.delivery
        WHERE d.batch = ? GROUP BY d.duplicate",
}

/// Opens an inbox; nothing is sent to the database yet.
pub(crate) fn open(url: &DatabaseUrl, desk: Desk) -> anyhow::Result<Box<dyn Inbox>> {
    use idem_runtime::Idem;
    use sqlx::mysql::MySqlPoolOptions;
    use sqlx::postgres::PgPoolOptions;
    use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};

    Ok(match url.kind() {
        Kind::Sqlite => {
            let options = SqliteConnectOptions::from_str(url.as_str())?
                .create_if_missing(true)
                .busy_timeout(SQLITE_WAIT);
            let pool = SqlitePoolOptions::new().connect_lazy_with(options);
            let idem = Idem::builder(pool.clone()).state(desk).build()?;
            Box::new(sqlite::Tables { pool, idem })
        }
        Kind::Postgres => {
            let pool = PgPoolOptions::new().max_connections(2).connect_lazy(url.as_str())?;
            let idem = Idem::builder(pool.clone()).state(desk).build()?;
            Box::new(postgres::Tables { pool, idem })
        }
        Kind::MySql => {
            let pool = MySqlPoolOptions::new().max_connections(2).connect_lazy(url.as_str())?;
            let idem = Idem::builder(pool.clone()).state(desk).build()?;
            Box::new(mysql::Tables { pool, idem })
        }
    })
}

/// Returns whom an event is about: a repository, or else an organization.
fn repository(payload: &Value) -> &str {
    ["/repository/full_name", "/organization/login"]
        .iter()
        .find_map(|path| payload.pointer(path)?.as_str())
        .unwrap_or("-")
}
